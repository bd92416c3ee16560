"""Everything that can be found wrong before anything costly runs."""

from __future__ import annotations

from collections.abc import Callable

from trivium.foundation.config import Config
from trivium.foundation.errors import Fault, InputError, TriviumError


def check_everything(config: Config) -> list[str]:
    """Check the tables, the synonyms, the channels and the models of a configuration.

    Returns:
        Lines that say what was found in order.

    Raises:
        TriviumError: With every fault found.
    """
    faults: list[Fault] = []
    lines: list[str] = []
    for step in (_tables, _channels, _synonyms, _models, _roles):
        _gather(step, config, lines, faults)
    if faults:
        raise InputError(*faults)
    return lines


def _gather(
    step: Callable[[Config], list[str]], config: Config, lines: list[str], faults: list[Fault]
) -> None:
    try:
        lines += step(config)
    except TriviumError as error:
        faults += error.faults


def _tables(config: Config) -> list[str]:
    from trivium.stages.inputs import read_inputs

    made = read_inputs(config)
    parts = made.queries.group_by("part").len().sort("part")
    dealt = ", ".join(f"{count:,} {part}" for part, count in parts.iter_rows())
    return [
        f"items: {made.items.height:,}",
        f"queries: {made.queries.height:,} ({dealt})",
        f"judgments: {made.judgments.height:,} pairs",
        *(f"queries set aside, {why}: {count:,}" for why, count in made.set_aside.items()),
    ]


def _channels(config: Config) -> list[str]:
    from trivium.adapters.channels import load_channel

    for name in config.mine.channels:
        load_channel(name)
    return [f"channels: {', '.join(config.mine.channels)}"]


def _roles(config: Config) -> list[str]:
    known = {*config.mine.lexical, *config.mine.dense}
    roleless = [name for name in config.mine.channels if name not in known]
    if roleless:
        raise InputError.of(
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
