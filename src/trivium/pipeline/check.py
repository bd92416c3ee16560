"""Everything that can be found wrong before anything costly runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium.foundation.config import Config
from trivium.foundation.errors import (
    ConfigError,
    DependencyError,
    InputError,
    TriviumError,
    collect,
)
from trivium.foundation.judge_config import BUILT_IN
from trivium.foundation.tables import RELEVANT
from trivium.pipeline.plans import STAGES, channel_models, judge_models
from trivium.pipeline.probes import ask_chat_judges, ask_engines

if TYPE_CHECKING:
    from trivium.stages.inputs import Inputs

_PARTS = {"mine": "train", "train": "validation", "evaluate": "test"}
_MEASURED = ("validation", "test")
_MODEL_FILES = ("config.json", "modules.json")


def check_everything(config: Config) -> list[str]:
    """Check tables, synonyms, channels and models; ask engines and chat judges once.

    Returns:
        Lines that say what was found in order.

    Raises:
        TriviumError: With every fault found.
    """
    (made, asked), *lines = collect(_first_checks(config, STAGES))
    parts = made.queries.group_by("part").len().sort("part")
    dealt = ", ".join(f"{count:,} {part}" for part, count in parts.iter_rows())
    return [
        f"items: {made.items.height:,}",
        f"queries: {made.queries.height:,} ({dealt})",
        f"judgments: {made.judgments.height:,} pairs",
        *(f"queries set aside, {why}: {count:,}" for why, count in made.set_aside.items()),
        *(line for some in (*lines, asked) for line in some),
    ]


def check_inputs(config: Config, stages: Sequence[str]) -> Inputs:
    """Read the tables, and check all else with them.

    Args:
        config: The configuration.
        stages: The stages that will run: the tables must hold enough for each.

    Raises:
        TriviumError: With every fault found.
    """
    (made, _), *_ = collect(_first_checks(config, stages))
    checked: Inputs = made
    return checked


def check_stored(config: Config, made: Inputs, stages: Sequence[str]) -> None:
    """Check the tables that an earlier run wrote, and all else with them.

    Args:
        config: The configuration.
        made: The tables.
        stages: The stages that will run: the tables must hold enough for each.

    Raises:
        TriviumError: With every fault found.
    """
    tables = partial(_check_parts, config, made, stages)
    collect([tables, *_settings(config), partial(ask_engines, config, stages, made)])


def _first_checks(config: Config, stages: Sequence[str]) -> list[Callable[[], Any]]:
    """What a run starts with; one that carries on may do without a judge that has answered all."""
    tables, chats = partial(_inputs, config, stages), partial(ask_chat_judges, config, stages)
    return [tables, *_settings(config), chats]


def _settings(config: Config) -> list[Callable[[], Any]]:
    return [partial(step, config) for step in (_channels, _roles, _synonyms, _judges, _models)]


def _inputs(config: Config, stages: Sequence[str]) -> tuple[Inputs, list[str]]:
    """The tables, and what the engines said to one of their queries, or to any without them."""
    from trivium.stages.inputs import read_inputs

    read: list[Inputs] = []

    def tables() -> Inputs:
        read.append(read_inputs(config))
        _check_parts(config, read[0], stages)
        return read[0]

    made, asked = collect([tables, lambda: ask_engines(config, stages, *read)])
    return made, asked


def _check_parts(config: Config, made: Inputs, stages: Sequence[str]) -> None:
    steps = [
        partial(_check_part, made, stage, part)
        for stage, part in _PARTS.items()
        if stage in stages and not (part == "train" and config.mine.seed)
    ]
    if "mine" in stages:
        steps.append(partial(_run_files, config, made))
    judged = {"judges", "annotate"} & set(stages)
    collect([*steps, partial(_check_judges, config, made)] if judged else steps)


def _run_files(config: Config, made: Inputs) -> None:
    from trivium.adapters.channels.run_files import check_run_files
    from trivium.foundation.channel_config import RunFilesConfig

    queries = made.queries.filter(made.queries["part"].is_in(config.mine.parts))
    channels = [c for c in config.mine.channels if isinstance(c, RunFilesConfig)]
    collect([partial(check_run_files, c, made.items, queries) for c in channels])


def _check_part(made: Inputs, stage: str, part: str) -> None:
    queries = made.queries.filter(made.queries["part"] == part)
    grades = made.qrels.join(queries, on="query_id", how="semi")["grade"]
    expected, fix = f"for the stage '{stage}'", f"raise split.{part}"
    if queries.is_empty():
        raise InputError.of(
            f"queries of the part '{part}'",
            got="none",
            expected=f"at least one, {expected}",
            fix=f"give more queries, or {fix}",
        )
    if part in _MEASURED and not (grades >= RELEVANT).any():
        raise InputError.of(
            f"grades of the part '{part}'",
            got=f"{len(grades)} of {queries.height} queries, none of them 3 or 4",
            expected=f"an item of grade 3 or 4, {expected}",
            fix=f"judge more of these queries, or {fix}",
        )


def _check_judges(config: Config, made: Inputs) -> None:
    from trivium.domain.teaching import check_enough, human_grades

    parts: tuple[str, ...] = ("seed", "calibration", "agreement")
    tuned = len(config.annotate.judges) > 1 or config.annotate.target_agreement is not None
    if tuned and not config.annotate.thresholds:
        parts = (*parts, "tuning")
    check_enough(human_grades(made.judgments, made.items, made.queries)[0], parts)


def _channels(config: Config) -> list[str]:
    from trivium.adapters.channels import load_channel

    for channel in config.mine.channels:
        load_channel(channel.kind)
    return [f"channels: {', '.join(config.mine.names)}"]


def _judges(config: Config) -> list[str]:
    """Every kind of judge is there, and every prompt is one."""
    from trivium.adapters.judges import load_judge
    from trivium.adapters.judges.prompts import load_prompt

    for judge in config.annotate.judges:
        load_judge(judge.kind)
        if judge.kind in BUILT_IN and (prompt := getattr(judge, "prompt", None)):
            load_prompt(prompt, judge.kind)
    return [f"judges: {', '.join(judge.name for judge in config.annotate.judges)}"]


def _roles(config: Config) -> list[str]:
    known = {*config.mine.lexical, *config.mine.dense}
    roleless = [name for name in config.mine.names if name not in known]
    if roleless:
        raise ConfigError.of(
            "mine.channels",
            got=f"channels that are neither lexical nor dense: {', '.join(roleless)}",
            expected="every channel in mine.lexical or in mine.dense",
            fix="add them to one of the two lists",
        )
    return []


def _synonyms(config: Config) -> list[str]:
    from trivium.adapters.channels.synonyms import read_synonyms

    if config.data.synonyms is None:
        return []
    read_synonyms(config.data.synonyms)
    return [f"synonyms: {config.data.synonyms}"]


def _models(config: Config) -> list[str]:
    names = {config.mine.model, config.train.model or config.mine.model}
    names |= {*judge_models(config).values(), *channel_models(config).values()}
    return collect([partial(_model, name) for name in sorted(names)])


def _model(name: str) -> str:
    from trivium.adapters.models import resolve_model

    place = resolve_model(name)
    folder = Path(place)
    if folder.is_file():
        pass  # a GGUF file
    elif not folder.is_dir():
        _load_from_hub(name)
    elif not any((folder / file).is_file() for file in _MODEL_FILES):
        raise _no_model(name, f"a folder without {' or '.join(_MODEL_FILES)}")
    return f"model: {name} -> {place}"


def _load_from_hub(name: str) -> None:
    """Load what is small of a model on a hub, from the cache or the network."""
    from transformers import AutoConfig, AutoTokenizer

    try:
        AutoConfig.from_pretrained(name, trust_remote_code=False)
        AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise _no_model(name, (str(error).splitlines() or [type(error).__name__])[0]) from None


def _no_model(name: str, got: str) -> TriviumError:
    return DependencyError.of(
        f"model '{name}'",
        got=got,
        expected="a model that can be loaded",
        fix="correct the name, download it first, or name a folder",
    )
