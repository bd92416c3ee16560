"""Everything that can be found wrong before anything costly runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from trivium.foundation.config import Config
from trivium.foundation.errors import ConfigError, Fault, InputError, TriviumError, combined
from trivium.pipeline.plans import STAGES

if TYPE_CHECKING:
    from trivium.stages.inputs import Inputs

_PARTS = {"mine": "train", "train": "validation", "evaluate": "test"}


def check_everything(config: Config) -> list[str]:
    """Check the tables, the synonyms, the channels and the models of a configuration.

    Returns:
        Lines that say what was found in order.

    Raises:
        TriviumError: With every fault found.
    """
    made, *lines = _collect((_inputs(STAGES), *_SETTINGS), config)
    parts = made.queries.group_by("part").len().sort("part")
    dealt = ", ".join(f"{count:,} {part}" for part, count in parts.iter_rows())
    return [
        f"items: {made.items.height:,}",
        f"queries: {made.queries.height:,} ({dealt})",
        f"judgments: {made.judgments.height:,} pairs",
        *(f"queries set aside, {why}: {count:,}" for why, count in made.set_aside.items()),
        *(line for some in lines for line in some),
    ]


def check_inputs(config: Config, stages: Sequence[str]) -> Inputs:
    """Read the tables, and check all else with them.

    Args:
        config: The configuration.
        stages: The stages that will run: the tables must hold enough for each.

    Raises:
        TriviumError: With every fault found.
    """
    made: Inputs = _collect((_inputs(stages), *_SETTINGS), config)[0]
    return made


def check_settings(config: Config) -> None:
    """Check all but the tables.

    Raises:
        TriviumError: With every fault found.
    """
    _collect(_SETTINGS, config)


def _collect(steps: Sequence[Callable[[Config], Any]], config: Config) -> list[Any]:
    """Take every step, whatever the others raise; then raise all of it at once."""
    made, errors = [], []
    for step in steps:
        try:
            made.append(step(config))
        except TriviumError as error:
            errors.append(error)
    if errors:
        raise combined(errors)
    return made


def _inputs(stages: Sequence[str]) -> Callable[[Config], Inputs]:
    def read(config: Config) -> Inputs:
        from trivium.stages.inputs import read_inputs

        made = read_inputs(config)
        _check_parts(made, stages)
        return made

    return read


def _check_parts(made: Inputs, stages: Sequence[str]) -> None:
    present = set(made.queries["part"])
    faults = [
        Fault(
            f"queries of the part '{part}'",
            got="none",
            expected=f"at least one, for the stage '{stage}'",
            fix=f"give more queries, or raise split.{part}",
        )
        for stage, part in _PARTS.items()
        if stage in stages and part not in present
    ]
    errors: list[TriviumError] = [InputError(*faults)] if faults else []
    if "annotate" in stages:
        from trivium.stages.annotate import check_enough, human_grades

        try:
            check_enough(human_grades(made.judgments, made.items, made.queries)[0])
        except InputError as error:
            errors.append(error)
    if errors:
        raise combined(errors)


def _channels(config: Config) -> list[str]:
    from trivium.adapters.channels import load_channel

    for name in config.mine.channels:
        load_channel(name)
    return [f"channels: {', '.join(config.mine.channels)}"]


def _roles(config: Config) -> list[str]:
    known = {*config.mine.lexical, *config.mine.dense}
    roleless = [name for name in config.mine.channels if name not in known]
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
    from trivium.adapters.models import resolve_model

    names = {config.mine.model, config.train.model or config.mine.model, config.annotate.model}
    return [f"model: {name} -> {resolve_model(name)}" for name in sorted(names)]


_SETTINGS = (_channels, _roles, _synonyms, _models)
