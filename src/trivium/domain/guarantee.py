"""How far judges may be believed, proven on human labels that made neither them nor their curves.

A threshold is *certified* when a test rejects "of the pairs that it accepts, less than the target
agree with humans". Thresholds are tested from the strictest on until one fails, each at the whole
error budget: fixed-sequence testing, which needs no correction for their number. The order may
depend on confidences, never on who was right (Angelopoulos et al., Learn then Test, 2021; Jung et
al., Trust or Escalate, ICLR 2025). Two bounds:

- `binomial`: the exact Clopper-Pearson bound. Assumes that the pairs are independent, which pairs
  of one query are not: with them the promise is broken more often than stated.
- `betting`: assumes only that the queries are independent draws. What a query adds is the sum over
  its accepted pairs of (right - target), of mean 0 or less if the hypothesis is true, so that no
  bet on it, chosen by the queries before, makes money: wealth reaches 1 / delta with probability
  delta at most (Ville). The bets are aGRAPA's (Waudby-Smith and Ramdas, JRSS B 2024, section B.3;
  used for cascades by BARGAIN, SIGMOD 2025).

Measured by `domain.promises` (three judges right on 69, 72 and 77%; 85% promised for what they
accept, to be broken in 10% of draws at most; 8 pairs a query, whose log-odds of being right vary by
a standard deviation of 0, 1 or 2 between queries; 150 draws), share of draws in which the promise
was broken, and share of pairs that could be accepted:

    queries    bound       0            1            2
    100        binomial    .047, .62    .087, .49    .113, .20
    100        betting     .007, .50    .000, .30    .007, .04
    300        binomial    .033, .66    .060, .55    .153, .29
    300        betting     .020, .64    .007, .50    .040, .21
    1000       binomial    .027, .68    .067, .57    .153, .33
    1000       betting     .007, .67    .013, .55    .047, .29

Real judges are alike in this: whether they are right correlates within a query by .05 on homedepot
(a standard deviation of 0.7) and .17 on crowdflower (1.4), where a query has 39 pairs: simulated
so, with 150 queries, `binomial` breaks its promise in 21% of draws and `betting` in 1%.

A promise for each grade of each judge, fifteen at once, takes far more labels: with betting,
nothing at 300 queries and .44, .36 and .21 of the pairs at 1000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trivium.domain.cascade import NEVER, Ties, first_sure, vote
from trivium.foundation.tables import GRADES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Bound: TypeAlias = Literal["binomial", "betting"]
Over: TypeAlias = Literal["accepted", "labelled"]

STEPS = 20
_LARGEST_BET = 0.9
# Squared gain, in units of the largest loss, that is taken for seen before the first query.
_PRIOR_SPREAD = 0.0125


@dataclass(frozen=True)
class Replies:
    """What every judge says of pairs that humans graded.

    Attributes:
        grades: Predicted, (judges, pairs); -1 where a judge gave no answer.
        confidence: Calibrated, (judges, pairs); NaN where it gave no answer.
        human: Human grades, (pairs,).
        query: The query of each pair, numbered from 0, (pairs,).
        expected: Expected grades, (judges, pairs), NaN where a judge gave no answer; None where
            only predictions are known.
    """

    grades: Ints
    confidence: Floats
    human: Ints
    query: Ints
    expected: Floats | None = None

    @property
    def queries(self) -> int:
        """How many queries there are."""
        return int(self.query.max(initial=-1)) + 1

    def of(self, rows: Flags | Ints) -> Replies:
        """Some of the pairs; queries keep their numbers."""
        return Replies(
            self.grades[:, rows],
            self.confidence[:, rows],
            self.human[rows],
            self.query[rows],
            None if self.expected is None else self.expected[:, rows],
        )

    def settle(self, levels: Floats, ties: Ties) -> tuple[Ints, Ints]:
        """Replay a cascade.

        Args:
            levels: Its thresholds, (judges, 5).
            ties: What settles a vote that is even.

        Returns:
            The grade of each pair, -1 where no judge answers, and the number of the judge that
            was sure, the number of judges where none was; both (pairs,).
        """
        judges = len(self.grades)
        first = first_sure(self.grades, self.confidence, levels)
        open_ = first == judges
        grades = self.grades[np.minimum(first, judges - 1), np.arange(len(first))]
        grades[open_] = vote(self.grades[:, open_], self.confidence[:, open_], ties)
        return grades, first


def split_budget(delta: float, promises: int) -> float:
    """The error budget of each of several promises that are to hold at once (Bonferroni)."""
    return delta / promises


def decreasing(confidence: Floats, steps: int = STEPS) -> Floats:
    """Thresholds that accept ever more of these pairs, in about equal steps; the last, all."""
    known = confidence[~np.isnan(confidence)]
    if not len(known):
        return np.empty(0)
    shares = 1.0 - np.arange(1, steps + 1) / steps
    return np.unique(np.quantile(known, shares, method="lower"))[::-1]


def proven(
    right: Floats,
    accepted: Floats,
    *,
    target: float,
    delta: float,
    bound: Bound,
    most: int | None = None,
) -> Flags:
    """Test, for each of several sets of pairs, that too few of them agree with humans.

    Args:
        right: Pairs of each query that agree, (sets, queries), the queries in any order that has
            nothing to do with who is right.
        accepted: Pairs of each query, (sets, queries).
        target: Share that is to agree.
        delta: Probability with which a false set may be called proven.
        bound: What is independent; see above.
        most: For `betting`, pairs that a query counts for; one that has more is scaled down to
            that. The largest query's when None.

    Returns:
        Whether "less than `target` agree" is rejected, (sets,).
    """
    if bound == "binomial":
        from scipy.stats import binom

        return np.asarray(binom.sf(right.sum(axis=1) - 1, accepted.sum(axis=1), target) <= delta)
    size = np.maximum(accepted, most or accepted.max(axis=1, keepdims=True, initial=1))
    largest_loss = max(target, 1e-9)
    gains = (right - target * accepted) / (size * largest_loss)  # (sets, queries), from -1
    return np.asarray(_wealth(gains).max(axis=1, initial=0.0) >= -np.log(delta))


def _wealth(gains: Floats) -> Floats:
    """Logarithm of the wealth after each query, (sets, queries)."""
    before = np.cumsum(gains, axis=1) - gains
    squares = np.cumsum(gains**2, axis=1) - gains**2
    bets = np.clip(before / (squares + _PRIOR_SPREAD), 0.0, _LARGEST_BET)
    return np.cumsum(np.log1p(bets * gains), axis=1)


def enough(target: float, delta: float, bound: Bound) -> float:
    """Pairs with which a test is likely to succeed if half of the errors allowed are made.

    From the growth of the best bet, the relative entropy of the two shares; half as many again for
    the betting bound, which has to learn how much to bet.
    """
    better = (1.0 + target) / 2.0
    if not 0.0 < target < 1.0:
        return 1.0
    growth = better * np.log(better / target) + (1.0 - better) * np.log(0.5)
    return float(-np.log(delta) / growth) * (1.0 if bound == "binomial" else 1.5)


def _sequence(proven_: Flags, large_enough: Flags) -> int | None:
    """The last of the steps proven without a gap, from the first that is large enough on."""
    if not len(proven_):
        return None
    start = int(large_enough.argmax()) if large_enough.any() else len(proven_) - 1
    failed = np.flatnonzero(~proven_[start:])
    last = start + (int(failed[0]) if len(failed) else len(proven_) - start) - 1
    return last if last >= start else None


def lowest_certified(
    confidence: Floats,
    correct: Flags,
    query: Ints,
    *,
    target: float,
    delta: float,
    bound: Bound,
    grid: Floats | None = None,
    most: int | None = None,
) -> float | None:
    """The lowest threshold from which on the pairs are known to agree with humans often enough.

    With probability 1 - delta, P(right | confidence >= threshold) is at least the target.

    Args:
        confidence: Of each pair, (pairs,); NaN is never accepted.
        correct: Whether it agrees with humans, (pairs,).
        query: Its query, numbered from 0 in an order that has nothing to do with who is right.
        target: Share that is to agree.
        delta: Probability with which the promise may be broken.
        bound: `binomial`, if the pairs are independent, or `betting`, if only the queries are.
        grid: Thresholds to test, falling; `decreasing(confidence)` when None.
        most: See `proven`.

    Returns:
        The threshold; None where none is certified.
    """
    grid = decreasing(confidence) if grid is None else grid
    right, accepted = _by_query(confidence, correct, query, grid)
    ok = proven(right, accepted, target=target, delta=delta, bound=bound, most=most)
    last = _sequence(ok, accepted.sum(axis=1) >= enough(target, delta, bound))
    return None if last is None else float(grid[last])


def _by_query(
    confidence: Floats, correct: Flags, query: Ints, grid: Floats
) -> tuple[Floats, Floats]:
    """Pairs right and pairs accepted at each threshold, (thresholds, queries)."""
    steps, queries = len(grid), int(query.max(initial=-1)) + 1
    first = np.searchsorted(-grid, -confidence)  # a NaN comes after all of them
    cell = first * queries + query

    def count(weights: Flags | None) -> Floats:
        cells = np.bincount(cell, weights, minlength=(steps + 1) * queries)
        return np.cumsum(cells.reshape(steps + 1, queries)[:steps], axis=0, dtype=np.float64)

    return count(correct), count(None)


def certify_each(
    replies: Replies, *, target: float, delta: float, bound: Bound, seed: int
) -> Floats:
    """Find the lowest certified threshold of each grade of each judge.

    Promise: with probability 1 - delta, for every judge and grade at once, the pairs that the
    cascade settles so agree with humans at least at the target. The budget is split evenly over
    judges and grades. What reaches a judge hangs on the thresholds before it, which were chosen by
    who was right: so each judge is tested on queries of its own, drawn by lot, an equal number.

    Args:
        replies: Of pairs that fitted neither judges nor calibrations.
        target: Share that is to agree.
        delta: Probability with which any of the promises may be broken.
        bound: What is independent.
        seed: Decides which judge is tested on which queries, and their order.

    Returns:
        Thresholds, (judges, 5); `NEVER` where none is certified.
    """
    judges = len(replies.grades)
    levels = np.full((judges, len(GRADES)), NEVER)
    own = split_budget(delta, levels.size)
    order = _shuffled(replies, seed)
    correct = replies.grades == replies.human
    for judge in range(judges):
        open_ = first_sure(replies.grades, replies.confidence, levels) == judges
        reached = np.flatnonzero(open_ & (order % judges == judge))
        for grade in GRADES:
            rows = reached[replies.grades[judge, reached] == grade]
            found = lowest_certified(
                replies.confidence[judge, rows],
                correct[judge, rows],
                order[rows],
                target=target,
                delta=own,
                bound=bound,
            )
            levels[judge, grade] = NEVER if found is None else found
    return levels


def certify_path(
    replies: Replies,
    path: Floats,
    *,
    over: Over,
    ties: Ties,
    target: float,
    delta: float,
    bound: Bound,
    seed: int,
) -> Floats | None:
    """Find the laxest of a sequence of cascades that is certified as a whole.

    Promise: with probability 1 - delta, everything that the cascade accepts (or everything that it
    labels, votes too) agrees with humans at least at the target, taken together.

    Args:
        replies: Of pairs that fitted neither judges nor calibrations.
        path: Thresholds from strict to lax, (steps, judges, 5), chosen without looking at which of
            these replies are right.
        over: What the target is for: the pairs `accepted`, or all that are `labelled`.
        ties: What settles a vote that is even.
        target: Share that is to agree.
        delta: Probability with which the promise may be broken.
        bound: What is independent.
        seed: Decides the order of the queries.

    Returns:
        Thresholds, (judges, 5); None where no step is certified.
    """
    order, queries = _shuffled(replies, seed), replies.queries
    right, counted = np.zeros((2, len(path), queries))
    for step, levels in enumerate(path):
        grades, first = replies.settle(levels, ties)
        inside = grades >= 0 if over == "labelled" else first < len(levels)
        counted[step] = np.bincount(order[inside], minlength=queries)
        agree = inside & (grades == replies.human)
        right[step] = np.bincount(order[agree], minlength=queries)
    ok = proven(right, counted, target=target, delta=delta, bound=bound)
    last = _sequence(ok, counted.sum(axis=1) >= enough(target, delta, bound))
    return None if last is None else np.asarray(path[last])


def common_path(confidence: Floats, steps: int = 2 * STEPS) -> Floats:
    """Cascades in which every judge needs the same confidence in every grade, strict to lax.

    Among sets of pairs that are equally right on the whole, the one made of all pairs above one
    calibrated confidence is the largest.

    Args:
        confidence: Of each judge, (judges, pairs).
        steps: How many cascades, at most.

    Returns:
        Thresholds, (steps, judges, 5).
    """
    levels = decreasing(confidence.ravel(), steps)
    return np.broadcast_to(levels[:, None, None], (len(levels), len(confidence), len(GRADES)))


def _shuffled(replies: Replies, seed: int) -> Ints:
    """The query of each pair, numbered in an order drawn by lot."""
    return np.random.default_rng(seed).permutation(replies.queries)[replies.query]
