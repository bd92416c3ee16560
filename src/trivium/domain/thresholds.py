"""The thresholds with the least cost of asking judges and of wrong labels together."""

from __future__ import annotations

import numpy as np

from trivium.domain.cascade import NEVER, Ties, vote
from trivium.domain.guarantee import Flags, Floats, Ints, Replies
from trivium.foundation.tables import GRADES

FEWEST = 60
"""Predictions that a grade of a judge needs for a threshold that is not the judge's common one."""
_BLOCKS = 20  # cuts that are tried for a threshold, each at least `_BLOCK` pairs from the next
_BLOCK = 15
_PASSES = 2


def cheapest_levels(replies: Replies, costs: Floats, error_price: float, ties: Ties) -> Floats:
    """The thresholds with the least cost of asking and of wrong labels together.

    Judge by judge from the last back, each threshold is the cut that costs least given all others,
    since what a pair costs when it goes on depends on the later judges alone, and which pairs come
    on the earlier ones; then once more. Against chance, cuts are coarse, and a grade keeps the
    judge's common threshold unless one of its own saves more than a standard error: with 60 queries
    of simulated judges that spared a tenth of the errors of the most accurate cascade, and nothing
    was lost on the real catalogs.

    Args:
        replies: What the judges say of graded pairs.
        costs: What each judge costs for a pair, (judges,).
        error_price: Of a wrong label, in the same unit; infinite = cost is no object.
        ties: What settles a vote that is even.

    Returns:
        Thresholds, (judges, 5).
    """
    judges = len(replies.grades)
    price, costs = (1.0, np.zeros(judges)) if np.isinf(error_price) else (error_price, costs)
    wrong = price * (replies.grades != replies.human)  # (judges, pairs)
    lost = price * (vote(replies.grades, replies.confidence, ties) != replies.human)
    levels = np.full((judges, len(GRADES)), NEVER)
    for turn in range(_PASSES):
        onwards = lost
        for judge in reversed(range(judges)):
            grades, confidence = replies.grades[judge], replies.confidence[judge]
            earlier = replies.confidence[:judge] >= _needed(replies.grades[:judge], levels[:judge])
            here = (grades >= 0) & ~(earlier.any(axis=0) & (turn > 0))
            levels[judge] = _cuts(grades, confidence, wrong[judge] - onwards, here)
            sure = confidence >= levels[judge][np.maximum(grades, 0)]
            onwards = costs[judge] + np.where(sure, wrong[judge], onwards)
    return levels


def _needed(grades: Ints, levels: Floats) -> Floats:
    return np.take_along_axis(levels, np.maximum(grades, 0), axis=1)


def _cuts(grades: Ints, confidence: Floats, gain: Floats, here: Flags) -> Floats:
    """The best threshold of each grade, (5,); `gain` is what accepting a pair costs more."""
    common = _cut(confidence[here], gain[here])
    cuts = np.full(len(GRADES), common)
    for grade in GRADES:
        rows = here & (grades == grade)
        if rows.sum() < FEWEST:
            continue
        own = _cut(confidence[rows], gain[rows])
        low, high = min(own, common), max(own, common)
        moved = gain[rows & (confidence >= low) & (confidence < high)]
        saved = moved.sum() if own == high else -moved.sum()
        if saved > np.sqrt((moved**2).sum()):
            cuts[grade] = own
    return cuts


def _cut(confidence: Floats, gain: Floats) -> float:
    """The threshold above which the gains add up to the least; the laxest of equals."""
    n = len(confidence)
    if n < _BLOCK:
        return NEVER
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    block = max(_BLOCK, n // _BLOCKS)
    ends = np.append(np.flatnonzero(np.diff(ranked) < 0), n - 1)  # where a new confidence begins
    ends = ends[np.unique(np.searchsorted(ends, np.append(np.arange(block, n, block) - 1, n - 1)))]
    totals = np.append(0.0, np.cumsum(gain[order])[ends])
    best = len(ends) - int(np.argmin(np.round(totals[::-1], 9)))
    if best == 0:
        return NEVER
    return 0.0 if best == len(ends) else float(ranked[ends[best - 1]])
