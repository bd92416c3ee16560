"""Run the stages in order: skip what is done, say why what is stale runs again, resume the rest."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from trivium.adapters.executors import Executor
from trivium.adapters.executors.local import LocalExecutor
from trivium.foundation.config import Config
from trivium.foundation.console import say
from trivium.foundation.errors import ConfigError, WorkspaceError
from trivium.foundation.workspace import Plan, StageFolder, State, Workspace, write_json
from trivium.pipeline.check import check_inputs, check_settings
from trivium.pipeline.plans import STAGES, Planner
from trivium.pipeline.steps import STEPS, Job

_LIBRARIES = ("polars", "torch", "transformers", "sentence-transformers", "bm25s", "faiss-cpu")


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
        first: Stage to begin with; those before it must be done. None begins at the first.
        last: Stage to end with; None ends at the report.
        overwrite: Delete stale results rather than keep them, and run the stages anew.

    Raises:
        TriviumError: Whatever is wrong with the configuration, the inputs or the folder.
    """
    chosen = _between(first, last)
    with workspace.locked():
        plans = Planner(config).plans
        _refuse_gaps(workspace, plans, STAGES[: STAGES.index(chosen[0])])
        if chosen[0] != "inputs" or _is_done(workspace, plans["inputs"], overwrite=overwrite):
            check_settings(config)
        job = Job(workspace, config, _executor(config), chosen)
        for stage in chosen:
            _run_stage(job, plans[stage], overwrite=overwrite)


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


def _executor(config: Config) -> Executor:
    return LocalExecutor(config.run.workers)


def _run_stage(job: Job, plan: Plan, *, overwrite: bool) -> None:
    folder = job.workspace.stage(plan.stage)
    state, why = folder.state(plan)
    if state == "done" and not overwrite:
        _record(job)
        say(f"{plan.stage}: done already")
        return
    say(f"{plan.stage}: {_because(state, why, overwrite=overwrite)}")
    started = time.monotonic()
    if plan.stage == "inputs":
        job = replace(job, inputs=check_inputs(job.config, job.stages))
    folder.begin(plan, overwrite=overwrite)
    _record(job)
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


def _record(job: Job) -> None:
    write_json(job.workspace.root / "config.json", job.config.model_dump(mode="json"))


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
