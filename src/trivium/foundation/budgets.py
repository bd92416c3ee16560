"""Budgets of strata: how many pairs of a query may be annotated of what was found in some way."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from trivium.foundation.errors import ConfigError, Fault
from trivium.foundation.examples_config import RulesConfig

NO_CHANNEL = "none"
"""What the set of channels that found a pair is called when it is empty."""


def parse_budget(pattern: str) -> tuple[str | None, frozenset[str] | None]:
    """Read a pattern: the level stratum and the channels that it names, None for any.

    Example:
        >>> parse_budget("hard_negative/bm25")
        ('hard_negative', frozenset({'bm25'}))
        >>> parse_budget("token_similar")
        ('token_similar', None)
    """
    first, slash, rest = pattern.partition("/")
    if slash:
        return first, _channels(rest)
    return (first, None) if first in RulesConfig.model_fields else (None, _channels(first))


def check_budgets(budgets: Mapping[str, int], channels: Sequence[str], where: str) -> None:
    """Check that budgets name level strata and channels that there are.

    Args:
        budgets: Most pairs of a query, by pattern.
        channels: Names of the configured channels.
        where: The configuration's file, for the error.

    Raises:
        ConfigError: With a fault for each pattern that is wrong.
    """
    strata = list(RulesConfig.model_fields)
    faults = []
    for pattern in budgets:
        stratum, found_by = parse_budget(pattern)
        unknown = [] if stratum is None or stratum in strata else [stratum]
        unknown += sorted((found_by or frozenset()) - {*channels})
        known = [*strata, *channels] if "/" not in pattern else [*channels]
        if unknown and unknown[0] == stratum:
            known = strata
        faults += [_fault(f"{where}: annotate.budgets.{pattern}", name, known) for name in unknown]
    if faults:
        raise ConfigError(*faults)


def _channels(names: str) -> frozenset[str]:
    return frozenset() if names == NO_CHANNEL else frozenset(names.split("+"))


def _fault(where: str, name: str, known: Sequence[str]) -> Fault:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return Fault(
        where,
        got=f"unknown name '{name}'",
        expected="LEVEL, CHANNELS or LEVEL/CHANNELS, channels joined by '+' or 'none', of "
        + ", ".join(known),
        fix=f"did you mean '{near[0]}'?" if near else "correct the name, or remove it",
    )
