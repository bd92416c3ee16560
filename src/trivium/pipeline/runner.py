"""Run the stages in order: skip what is done, say why what is stale runs again, resume the rest."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium.adapters.executors import Executor
from trivium.adapters.executors.local import LocalExecutor
from trivium.foundation.config import Config, load_config, parse_config
from trivium.foundation.console import say
from trivium.foundation.errors import ConfigError, WorkspaceError
from trivium.foundation.workspace import (
    Plan,
    StageFolder,
    State,
    Workspace,
    read_json,
    write_json,
)
from trivium.pipeline.check import check_inputs, check_stored
from trivium.pipeline.job import Job
from trivium.pipeline.plans import STAGES, Planner
from trivium.pipeline.steps import STEPS

if TYPE_CHECKING:
    from trivium.stages.inputs import Inputs

_LOCK, _CONFIG, _SOURCE = ".lock", "config.json", "source.json"
_LIBRARIES = ("polars", "torch", "transformers", "sentence-transformers", "bm25s", "faiss-cpu")


@dataclass(frozen=True)
class Source:
    """Where a configuration comes from.

    Attributes:
        file: The file.
        overrides: Settings that replace the file's, as `load_config` takes them.
    """

    file: Path
    overrides: Sequence[str] = ()

    def __str__(self) -> str:
        """Name it as it is named on the command line."""
        return " --set ".join([str(self.file), *self.overrides])

    def load(self) -> Config:
        """Read the configuration."""
        return load_config(self.file, self.overrides)


@dataclass(frozen=True)
class StageStatus:
    """How a stage stands.

    Attributes:
        stage: Its name.
        state: `done`, `stale`, `unfinished` or `missing`.
        why: What changed since it was made, if it is stale.
        manifest: Its manifest, if it finished.
    """

    stage: str
    state: State
    why: list[str]
    manifest: Mapping[str, Any] | None


def config_to_compare(
    workspace: Workspace, file: Path | None = None, overrides: Sequence[str] = ()
) -> tuple[Config, str]:
    """The configuration that a run's state is told against, and what it is called.

    Args:
        workspace: The run's folder.
        file: The configuration's file. If none is given it is the last run's, read anew with that
            run's overrides; if that file is gone, the configuration as the last run recorded it.
        overrides: Settings that replace the others.

    Raises:
        WorkspaceError: If the folder holds no run.
        ConfigError: If the file is faulty.
    """
    recorded = read_json(_record_folder(workspace) / _CONFIG)
    if recorded is None:
        root = workspace.root
        raise WorkspaceError.of(
            str(root), got="no run", expected="a run's folder", fix=f"trivium run {root}"
        )
    source = Source(file, overrides) if file else _last_source(workspace, overrides)
    if source is None:
        return parse_config(recorded, overrides), "the last run's own configuration"
    if file is None and not source.file.is_file():
        name = f"the last run's own configuration, since {source.file} is gone"
        return parse_config(recorded, overrides), name
    return source.load(), str(source)


def status(workspace: Workspace, config: Config) -> list[StageStatus]:
    """Say of each stage whether it is done, stale, unfinished or missing."""
    plans = Planner(config).plans
    rows = []
    for stage in STAGES:
        folder = workspace.stage(stage)
        state, why = folder.state(plans[stage])
        rows.append(StageStatus(stage, state, why, folder.manifest()))
    return rows


def run(
    workspace: Workspace,
    config: Config,
    source: Source | None = None,
    *,
    first: str | None = None,
    last: str | None = None,
    overwrite: bool = False,
) -> None:
    """Run the stages from `first` to `last`.

    A finished stage is skipped; one that is stale moves its results to `superseded/` and runs
    again; a killed one carries on at its first unfinished shard. Settings and tables are checked
    before anything is written or moved.

    Args:
        workspace: The run's folder.
        config: The configuration.
        source: Where it comes from, recorded for `config_to_compare`.
        first: Stage to begin with; those before it must be done. None begins at the first.
        last: Stage to end with; None ends at the report.
        overwrite: Delete stale results rather than keep them, and run the stages anew.

    Raises:
        TriviumError: Whatever is wrong with the configuration, the inputs or the folder.
    """
    chosen = _between(first, last)
    _refuse_foreign_files(workspace)
    with workspace.locked():
        plans = Planner(config).plans
        _refuse_gaps(workspace, plans, STAGES[: STAGES.index(chosen[0])])
        if chosen[0] != "inputs" or _is_done(workspace, plans["inputs"], overwrite=overwrite):
            undone = [s for s in chosen if not _is_done(workspace, plans[s], overwrite=overwrite)]
            check_stored(config, _stored_inputs(workspace), undone)
        job = Job(workspace, config, _executor(config), chosen)
        for stage in chosen:
            _run_stage(job, plans[stage], source, overwrite=overwrite)


def _refuse_foreign_files(workspace: Workspace) -> None:
    """Refuse a folder in which a file of the user's has the name of one of ours."""
    lock, record = workspace.root / _LOCK, _record_folder(workspace)
    lock_is_ours = not lock.exists() or (lock.is_file() and lock.stat().st_size == 0)
    record_is_ours = not record.exists() or record.is_dir()
    for path, ours in ((lock, lock_is_ours), (record, record_is_ours)):
        if not ours:
            raise WorkspaceError.of(
                str(path),
                got="a file that trivium did not write",
                expected="a name that is free",
                fix="name another run folder, or move it away",
            )


def _between(first: str | None, last: str | None) -> Sequence[str]:
    for name in (first, last):
        if name is not None and name not in STAGES:
            raise ConfigError.of(
                "--from / --until",
                got=repr(name),
                expected=f"one of {', '.join(STAGES)}",
                fix="name one of these stages",
            )
    start = STAGES.index(first) if first else 0
    end = STAGES.index(last) + 1 if last else len(STAGES)
    if start >= end:
        raise ConfigError.of(
            "--from / --until",
            got=f"from {first} until {last}",
            expected=f"the order {', '.join(STAGES)}",
            fix="swap them",
        )
    return STAGES[start:end]


def _refuse_gaps(workspace: Workspace, plans: Mapping[str, Plan], before: Sequence[str]) -> None:
    for stage in before:
        state, why = workspace.stage(stage).state(plans[stage])
        if state != "done":
            raise WorkspaceError.of(
                f"{workspace.root}: stage '{stage}'",
                got=state + (f" ({'; '.join(why)})" if why else ""),
                expected="done, since a later stage reads it",
                fix=f"begin with it: --from {stage}",
            )


def _is_done(workspace: Workspace, plan: Plan, *, overwrite: bool) -> bool:
    return not overwrite and workspace.stage(plan.stage).state(plan)[0] == "done"


def _stored_inputs(workspace: Workspace) -> Inputs:
    from trivium.stages.inputs import TABLES, Inputs

    folder = workspace.stage("inputs")
    return Inputs(**{name: folder.read(name) for name in TABLES}, set_aside={})


def _executor(config: Config) -> Executor:
    return LocalExecutor(config.run.workers)


def _run_stage(job: Job, plan: Plan, source: Source | None, *, overwrite: bool) -> None:
    folder = job.workspace.stage(plan.stage)
    state, why = folder.state(plan)
    if state == "done" and not overwrite:
        _record(job, source)
        say(f"{plan.stage}: done already -> {folder.path}")
        return
    say(f"{plan.stage}: {_because(state, why, overwrite=overwrite)}")
    started = time.monotonic()
    if plan.stage == "inputs":
        job = replace(job, inputs=check_inputs(job.config, job.stages))
    folder.begin(plan, overwrite=overwrite)
    _record(job, source)
    rows, summary = STEPS[plan.stage](job, folder)
    seconds = round(time.monotonic() - started, 1)
    details = {
        "rows": rows,
        "seconds": seconds,
        "seed": job.config.run.seed,
        "summary": summary,
        "versions": _versions(),
        "configuration": job.config.model_dump(mode="json"),
    }
    folder.finish(plan, details)
    _say_summary(folder, rows, seconds, summary)


def _record(job: Job, source: Source | None) -> None:
    folder = _record_folder(job.workspace)
    came = {"file": str(source.file.absolute()), "overrides": source.overrides} if source else {}
    write_json(folder / _SOURCE, came)
    write_json(folder / _CONFIG, job.config.model_dump(mode="json"))


def _record_folder(workspace: Workspace) -> Path:
    return workspace.root / ".trivium"


def _last_source(workspace: Workspace, overrides: Sequence[str]) -> Source | None:
    """Where the last run's configuration came from, with further overrides."""
    came = read_json(_record_folder(workspace) / _SOURCE)
    if not came:
        return None
    return Source(Path(came["file"]), (*came["overrides"], *overrides))


def _because(state: State, why: Sequence[str], *, overwrite: bool) -> str:
    if overwrite and state in {"done", "unfinished"}:
        return "runs anew, as asked"
    reasons = {
        "missing": "runs",
        "unfinished": "carries on",
        "stale": f"runs again, since {'; '.join(why)}",
        "done": "runs",
    }
    return reasons[state]


def _say_summary(
    folder: StageFolder, rows: Mapping[str, int], seconds: float, summary: Sequence[str]
) -> None:
    counts = ", ".join(f"{count:,} {name}" for name, count in rows.items())
    say(f"  {counts} in {seconds:g} s")
    for line in summary:
        say(f"  {line}")
    say(f"  -> {folder.path}")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "trivium": metadata.version("trivium")}
    return versions | {name: metadata.version(name) for name in _LIBRARIES}
