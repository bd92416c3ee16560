"""Which judges are worth asking: those without whom labels would agree less with humans.

A judge that learned little still votes and still costs. Judges are left out one by one, as long as
labels agree no worse without; one that a later judge is made of is then asked for that one's sake,
without a say of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from trivium.domain.calibration import Calibrated
from trivium.domain.cascade import Ties
from trivium.domain.cost_curves import Prices, agreement_of, held_out_points
from trivium.domain.guarantee import Ints
from trivium.domain.tuning import replies_of

MadeOf = Mapping[str, Sequence[str]]
"""The earlier judges that a judge is made of, by name."""

_ERROR_PRICES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, float("inf"))


def worth_asking(
    answers: Mapping[str, Calibrated],
    grades: Ints,
    queries: Ints,
    costs: Mapping[str, float],
    made_of: MadeOf,
    *,
    max_cost: float = 0.5,
    ties: Ties = "confidence",
    seed: int = 0,
) -> list[str]:
    """Leave out judges, the one that is missed least first, while labels agree no worse.

    Agreement is `cost_curves.agreement_of` the best cascade that is affordable, on queries that its
    thresholds were not found on. Of judges that are missed alike the dearest goes first.

    Args:
        answers: What each judge says of the pairs, calibrated, in the order of asking.
        grades: Human grades of the pairs, (pairs,).
        queries: The query of each pair, numbered from 0, (pairs,).
        costs: What each judge costs for a pair, in any one unit.
        made_of: The earlier judges that each judge is made of.
        max_cost: As in `tuning.tune`.
        ties: What settles a vote that is even.
        seed: Decides folds.

    Returns:
        The judges that keep their say, in order, one at least.
    """

    def agreed(kept: list[str]) -> float:
        replies = replies_of({name: answers[name] for name in kept}, grades, queries)
        asked = costs_with(costs, asked_first(list(answers), kept, made_of))
        prices = Prices(tuple(kept), np.array(list(asked.values())), max(costs.values()))
        return _best(held_out_points(replies, prices, _ERROR_PRICES, ties, seed), max_cost)

    kept = list(answers)
    best = agreed(kept)
    while len(kept) > 1:
        fewer = {name: [other for other in kept if other != name] for name in kept}
        found = {name: agreed(rest) for name, rest in fewer.items()}
        name = max(kept, key=lambda judge: (found[judge], costs[judge]))
        if found[name] < best:
            break
        kept, best = fewer[name], found[name]
    return kept


def asked_first(
    judges: Sequence[str], kept: Sequence[str], made_of: MadeOf
) -> dict[str, tuple[str, ...]]:
    """For each judge with a say those that are asked just before it, for its sake alone.

    Args:
        judges: All judges, in the order of asking.
        kept: Those with a say, in the same order.
        made_of: The earlier judges that each judge is made of.

    Example:
        >>> asked_first("abcd", "ad", {"d": ["b", "c"], "c": ["a"]})
        {'a': (), 'd': ('b', 'c')}
    """
    asked: set[str] = set()
    found = {}
    for name in kept:
        needed = _needed(name, made_of) - asked - {name}
        found[name] = tuple(judge for judge in judges if judge in needed)
        asked |= needed | {name}
    return found


def costs_with(costs: Mapping[str, float], first: Mapping[str, Iterable[str]]) -> dict[str, float]:
    """What each judge with a say costs for a pair, those asked for its sake included."""
    return {name: costs[name] + sum(costs[part] for part in first[name]) for name in first}


def _needed(name: str, made_of: MadeOf) -> set[str]:
    parts = made_of.get(name, ())
    return {name}.union(*(_needed(part, made_of) for part in parts))


def _best(points: Iterable[Mapping[str, Any]], max_cost: float) -> float:
    """The highest agreement of the affordable points; minus infinity where there is none."""
    affordable = (point for point in points if (point["cost"] or 0.0) <= max_cost)
    return max((agreement_of(point) for point in affordable), default=-np.inf)
