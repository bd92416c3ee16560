"""Which judges have a say: those that agree with humans no worse than a cheaper one.

One that a judge with a say is made of is asked for that one's sake, without a say of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from trivium.domain.calibration import Calibrated
from trivium.domain.cost_curves import CHANCE, Prices, agreement_of
from trivium.domain.guarantee import Ints
from trivium.domain.tuning import replies_of

MadeOf = Mapping[str, Sequence[str]]
"""The earlier judges that a judge is made of, by name."""


def worth_asking(answers: Mapping[str, Calibrated], grades: Ints, queries: Ints) -> list[str]:
    """Leave out every judge that agrees worse, alone, than one before it that is kept.

    Differences up to `CHANCE` count for nothing.

    Args:
        answers: What each judge says of the pairs, calibrated, the cheapest first.
        grades: Human grades of the pairs, (pairs,).
        queries: The query of each pair, numbered from 0, (pairs,).

    Returns:
        The judges that have a say, in order, one at least.
    """
    kept: list[str] = []
    best = -np.inf
    for name, said in answers.items():
        found = _agreement_alone(name, said, grades, queries)
        if found >= best - CHANCE:
            kept.append(name)
            best = max(best, found)
    return kept


def _agreement_alone(name: str, said: Calibrated, grades: Ints, queries: Ints) -> float:
    replies = replies_of({name: said}, grades, queries)
    alone = Prices((name,), np.zeros(1), 0.0)
    return agreement_of(alone.point(replies, replies.grades[0], np.zeros(len(grades), np.int64)))


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
