"""How the pairs of a query are dealt to strata: where levels are short, by what strata yield.

The next pair goes to the stratum whose label is worth most: the sum over the levels of its yield
divided by one more than the examples of the level to be expected so far, so that the logarithms of
the levels' counts grow most. Levels of a sign are worth nothing more once its cap is to be
expected. A part of the pairs is spread evenly first, so that every stratum is sampled and its yield
stays known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trivium.domain.levels import STRATA
from trivium.domain.yields import BOUGHT, SIGNS

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Strata:
    """The strata that pairs are dealt to.

    Attributes:
        rule: The level's rule, by its place in `levels.STRATA`, (strata,).
        rates: Examples of each level that a label gives, (strata, levels).
        patterns: Which strata each budget is for, (budgets, strata).
        budgets: Most pairs of a query for each, (budgets,).
    """

    rule: Ints
    rates: Floats
    patterns: Bools
    budgets: Ints


def allot(
    available: Ints, turns: Ints, strata: Strata, pairs: int, spread: int, caps: Mapping[str, int]
) -> Ints:
    """Deal the pairs of some queries, each for itself.

    Args:
        available: Pairs of each query in each stratum, (queries, strata).
        turns: Place of each stratum in the query's own order for spreading, (queries, strata).
        strata: The strata.
        pairs: Most pairs of a query.
        spread: How many of them, the first, are spread evenly: the rules take turns, and the strata
            of a rule take theirs.
        caps: Most examples of a query, by the signs "positive" and "negative".

    Returns:
        Pairs dealt, (queries, strata).
    """
    deal = _Deal(available, turns, strata, caps)
    for step in range(pairs):
        free = deal.free()
        if not free.any():
            break
        deal.take(free, deal.even(free) if step < spread else deal.best(free))
    return deal.taken


class _Deal:
    """What has been dealt so far."""

    def __init__(
        self, available: Ints, turns: Ints, strata: Strata, caps: Mapping[str, int]
    ) -> None:
        queries = len(available)
        self.taken = np.zeros_like(available)
        self._available, self._turns, self._strata = available, turns, strata
        self._signs = [(np.flatnonzero(np.array(SIGNS) == sign), cap) for sign, cap in caps.items()]
        self._expected = np.zeros((queries, len(BOUGHT)))
        self._used = np.zeros((queries, len(strata.budgets)), np.int64)
        self._of_rule = np.zeros((queries, len(STRATA)), np.int64)

    def free(self) -> Bools:
        """Strata that have a pair left and whose budgets are not spent, (queries, strata)."""
        free = self.taken < self._available
        for at, pattern in enumerate(self._strata.patterns):
            spent = self._used[:, at] >= self._strata.budgets[at]
            free &= ~(spent[:, None] & pattern)
        return free

    def even(self, free: Bools) -> Ints:
        """The stratum whose turn it is, (queries,)."""
        rule = self._strata.rule
        place = self._of_rule[:, rule] * len(STRATA) + rule
        place = place * (int(self.taken.max(initial=0)) + 1) + self.taken
        place = place * free.shape[1] + self._turns
        return np.asarray(np.where(free, place, np.iinfo(np.int64).max).argmin(axis=1))

    def best(self, free: Bools) -> Ints:
        """The stratum whose label is worth most, (queries,); where none is worth any, its turn."""
        worth = np.zeros(free.shape)
        for levels, cap in self._signs:
            wanted = self._expected[:, levels].sum(axis=1) < cap
            for level in levels:  # one by one: the sums must be the same in any shard
                short = wanted / (1.0 + self._expected[:, level])
                worth += short[:, None] * self._strata.rates[:, level]
        worth = np.where(free, worth, 0.0)
        return np.where(worth.max(axis=1) > 0.0, worth.argmax(axis=1), self.even(free))

    def take(self, free: Bools, chosen: Ints) -> None:
        """Deal the chosen strata to the queries that have a pair left."""
        queries = np.flatnonzero(free.any(axis=1))
        strata = chosen[queries]
        self.taken[queries, strata] += 1
        self._of_rule[queries, self._strata.rule[strata]] += 1
        self._expected[queries] += self._strata.rates[strata]
        self._used[queries] += self._strata.patterns.T[strata]
