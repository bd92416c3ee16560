"""When is a judge sure enough? Thresholds from human labels, and what they cost and achieve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.calibration import Calibrated
from trivium.domain.cascade import NEVER, Cascade, Ties, vote
from trivium.domain.guarantee import (
    Bound,
    Over,
    Replies,
    certify_each,
    certify_path,
    common_path,
)
from trivium.foundation.tables import GRADES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Mode: TypeAlias = Literal["per_class", "overall"]
Graded: TypeAlias = tuple[Mapping[str, Calibrated], Ints, Ints]

FEWEST = 60
"""Predictions that a grade of a judge needs for a threshold that is not the judge's common one."""
_BLOCKS = 20  # cuts that are tried for a threshold, each at least `_BLOCK` pairs from the next
_BLOCK = 15
_FOLDS = 5
_PASSES = 2
_ERROR_PRICES = (*np.geomspace(0.2, 200.0, 25).tolist(), float("inf"))


@dataclass(frozen=True)
class Tuned:
    """A cascade and what is known about it.

    Attributes:
        cascade: The judges and their thresholds.
        promise: What is promised of its labels, in words.
        curve: Accuracy against cost, the cheapest first (see `Prices.point` for the columns), with
            `alone`: the judge, where a point leaves everything to one; and `error_price`: what the
            thresholds were the cheapest for if a wrong label costs so many times what asking all
            judges does.
        point: The cascade's own row, measured on the labels that it was tuned on.
    """

    cascade: Cascade
    promise: str
    curve: pl.DataFrame
    point: pl.DataFrame


def tune(
    answers: Mapping[str, Calibrated],
    grades: Ints,
    queries: Ints,
    costs: Mapping[str, float],
    *,
    thresholds: Mapping[str, tuple[float, ...]] | None = None,
    target: float | None = None,
    mode: Mode = "overall",
    bound: Bound = "betting",
    delta: float = 0.1,
    ties: Ties = "confidence",
    over: Over = "accepted",
    path_data: Graded | None = None,
    max_cost: float = 0.5,
    seed: int = 0,
) -> Tuned:
    """Find how sure each judge must be in each grade.

    - With `thresholds` nothing is searched.
    - Without a target: of the points of the curve that cost no more than `max_cost`, the one that
      agrees best with humans (accuracy plus kappa); the cheapest one where all cost more. No
      guarantee. On three catalogs with human grades (12 splits of the queries each, seven judges)
      unseen labels had a kappa of 0.405, 0.466 and 0.691, against 0.394, 0.434 and 0.680 for the
      cheapest point no worse than the best judge alone.
    - With a target: the laxest thresholds that are certified (`domain.guarantee`); where none are,
      the cheapest point of the curve that reaches the target as measured, or else the most
      accurate one, and the promise says that there is none.

    Args:
        answers: What each judge says of the pairs, calibrated, in the order of the cascade.
        grades: Human grades of the pairs, (pairs,), which fitted neither judges nor calibrations.
        queries: The query of each pair, numbered from 0, (pairs,).
        costs: What each judge costs for a pair, in any one unit.
        thresholds: Five a judge.
        target: Agreement with humans, a share.
        mode: What holds it: each grade of each judge, or everything together.
        bound: What is independent: the pairs (`binomial`), or the queries (`betting`).
        delta: Probability with which the promise may be broken.
        ties: What settles a vote that is even.
        over: Of mode `overall`: everything accepted, or everything labelled, votes too.
        path_data: Answers, grades and queries of other pairs, which decide the sequence of
            thresholds that is tested; these pairs' own confidences do when None.
        max_cost: Without a target the most that labels may cost, as a share of asking the dearest
            judge about everything; published: 0.499.
        seed: Decides folds and the order of the tests.
    """
    names = tuple(answers)
    replies = replies_of(answers, grades, queries)
    prices = Prices(names, np.array([costs[name] for name in names], dtype=np.float64))
    curve, levels = _curve(replies, prices, ties, seed)

    def tuned(cascade: Cascade, promise: str) -> Tuned:
        settled = replies.settle(cascade.levels, ties)
        return Tuned(cascade, promise, curve, _table([prices.point(replies, *settled)]))

    if thresholds is not None:
        return tuned(
            Cascade(names, dict(thresholds), ties), "No guarantee: the thresholds were given."
        )
    if target is None:
        row = _most_agreeing(curve, max_cost)
        return tuned(Cascade.of(names, levels[row], ties), _UNPROMISED.format(max_cost))
    rule = _Rule(target, mode, bound, delta, over, ties, seed)
    found = rule.certify(replies, replies if path_data is None else replies_of(*path_data))
    if found is None:
        row = _cheapest(curve, target)
        return tuned(Cascade.of(names, levels[row], ties), rule.failure(curve.row(row, named=True)))
    return tuned(Cascade.of(names, found, ties), rule.promise(names, found))


def replies_of(answers: Mapping[str, Calibrated], grades: Ints, queries: Ints) -> Replies:
    """What the judges say of graded pairs, stacked."""
    said = answers.values()
    return Replies(
        np.stack([one.grades for one in said]).astype(np.int64),
        np.stack([one.confidence for one in said]).astype(np.float64),
        np.asarray(grades, dtype=np.int64),
        np.asarray(queries, dtype=np.int64),
    )


@dataclass(frozen=True)
class Prices:
    """The judges and what each costs for a pair."""

    names: tuple[str, ...]
    costs: Floats

    @property
    def relative(self) -> Floats:
        """The same, as shares of what asking all of them costs."""
        return np.asarray(self.costs / (self.costs.sum() or 1.0))

    def point(self, replies: Replies, grades: Ints, first: Ints) -> dict[str, Any]:
        """Measure a cascade on graded pairs.

        Args:
            replies: What the judges say.
            grades: What the cascade says, -1 where nothing, (pairs,).
            first: The judge that was sure, the number of judges where none was, (pairs,).

        Returns:
            accuracy (of all pairs), kappa (quadratic, of those labelled; null where undefined),
            cost_per_pair, cost (relative to asking the dearest judge alone about every pair; null
            if it costs nothing), share_<judge> settled by each judge and share_vote by none.
        """
        spent = np.cumsum(self.costs)[np.minimum(first, len(self.costs) - 1)]
        per_pair = float(spent.mean()) if len(spent) else 0.0
        labelled = grades >= 0
        shares = np.bincount(first, minlength=len(self.names) + 1) / max(len(first), 1)
        return {
            "accuracy": float((grades == replies.human).mean()) if len(grades) else None,
            "kappa": _kappa(replies.human[labelled], grades[labelled]),
            "cost_per_pair": per_pair,
            "cost": per_pair / float(self.costs.max()) if self.costs.any() else None,
        } | {
            f"share_{name}": float(s) for name, s in zip((*self.names, "vote"), shares, strict=True)
        }


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


def _curve(
    replies: Replies, prices: Prices, ties: Ties, seed: int
) -> tuple[pl.DataFrame, list[Floats]]:
    """The curve, the cheapest point first, and the thresholds of each point.

    A point is measured on queries that its thresholds were not found on (five folds); the
    thresholds kept are found on all.
    """
    folds = np.random.default_rng(seed).permutation(replies.queries)[replies.query] % _FOLDS
    rows, levels = [], []
    for judge, alone in enumerate(_alone(len(prices.names))):
        point = prices.point(replies, *replies.settle(alone, ties))
        rows.append(
            {"error_price": None, "alone": prices.names[judge]} | point | _thresholds(prices, alone)
        )
        levels.append(alone)
    for error_price in _ERROR_PRICES:
        point = _held_out(replies, prices, error_price, ties, folds)
        found = cheapest_levels(replies, prices.relative, error_price, ties)
        rows.append(
            {"error_price": error_price, "alone": None} | point | _thresholds(prices, found)
        )
        levels.append(found)
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["cost_per_pair"], -i))
    return _table([rows[i] for i in order]), [levels[i] for i in order]


def _alone(judges: int) -> list[Floats]:
    """For each judge the thresholds that leave everything to it, each (judges, 5)."""
    levels = np.full((judges, judges, len(GRADES)), NEVER)
    levels[np.arange(judges), np.arange(judges)] = 0.0
    return list(levels)


def _thresholds(prices: Prices, levels: Floats) -> dict[str, list[float]]:
    return {
        f"thresholds_{name}": row for name, row in zip(prices.names, levels.tolist(), strict=True)
    }


def _table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    numbers = ("error_price", "accuracy", "kappa", "cost_per_pair", "cost")
    types = dict.fromkeys(numbers, pl.Float64) | {"alone": pl.String}
    known = {name: dtype for name, dtype in types.items() if rows and name in rows[0]}
    return pl.DataFrame(rows, schema_overrides=known, infer_schema_length=None)


def _held_out(
    replies: Replies, prices: Prices, error_price: float, ties: Ties, folds: Ints
) -> dict[str, Any]:
    grades, first = np.full((2, len(folds)), -1)
    for fold in np.unique(folds):
        out = folds == fold
        levels = cheapest_levels(replies.of(~out), prices.relative, error_price, ties)
        grades[out], first[out] = replies.of(out).settle(levels, ties)
    return prices.point(replies, grades, first)


def _most_agreeing(curve: pl.DataFrame, max_cost: float) -> int:
    """The affordable point of the highest accuracy plus kappa, else the cheapest one."""
    agreement = (curve["accuracy"] + curve["kappa"].fill_null(0.0)).to_numpy()
    affordable = curve["cost"].fill_null(0.0).to_numpy() <= max_cost
    return int(np.where(affordable, agreement, -np.inf).argmax())


def _cheapest(curve: pl.DataFrame, accuracy: float) -> int:
    """The first point that is accurate enough, or else the most accurate one."""
    reached = curve["accuracy"].to_numpy() >= min(accuracy, curve["accuracy"].to_numpy().max())
    return int(reached.argmax())


def _kappa(human: Ints, judged: Ints) -> float | None:
    """Cohen's kappa with quadratic weights; nothing where all grades are the same."""
    n = len(GRADES)
    confusion = np.bincount(human * n + judged, minlength=n * n).reshape(n, n)
    squared = np.subtract.outer(np.arange(n), np.arange(n)) ** 2
    by_chance = np.outer(confusion.sum(axis=1), confusion.sum(axis=0))
    expected = (squared * by_chance).sum() / max(len(human), 1)
    return float(1.0 - (squared * confusion).sum() / expected) if expected else None


_UNPROMISED = (
    "No guarantee: of the thresholds that cost at most {:.0%} of asking the dearest judge about "
    "everything, these agreed best with humans, exactly and by kappa, as measured."
)
_BY_VOTE = " Labels by vote carry no promise."
_INDEPENDENT = {
    "binomial": "if pairs are independent of each other, also within a query",
    "betting": "if queries are independent of each other",
}


@dataclass(frozen=True)
class _Rule:
    """What is to be guaranteed."""

    target: float
    mode: Mode
    bound: Bound
    delta: float
    over: Over
    ties: Ties
    seed: int

    def certify(self, replies: Replies, path: Replies) -> Floats | None:
        """Certified thresholds, (judges, 5), or nothing."""
        same: dict[str, Any] = {"target": self.target, "delta": self.delta, "bound": self.bound}
        if self.mode == "per_class":
            levels = certify_each(replies, seed=self.seed, **same)
            return levels if (levels < NEVER).any() else None
        steps = common_path(path.confidence)
        return certify_path(replies, steps, over=self.over, ties=self.ties, seed=self.seed, **same)

    def promise(self, names: tuple[str, ...], levels: Floats) -> str:
        """What holds, in words."""
        sure = f"With probability {1 - self.delta:.0%} ({_INDEPENDENT[self.bound]})"
        if self.mode == "per_class":
            certified = "; ".join(
                f"{name} {', '.join(map(str, np.flatnonzero(row < NEVER)))}"
                for name, row in zip(names, levels, strict=True)
                if (row < NEVER).any()
            )
            what = "the labels that a judge accepted, for each judge and grade at once,"
            rest = f" Judges and grades certified: {certified}.{_BY_VOTE}"
        elif self.over == "accepted":
            what, rest = "the labels that judges accepted, taken together,", _BY_VOTE
        else:
            what, rest = "the labels, votes included, taken together,", ""
        return f"{sure}, {what} agree with humans at least {self.target:.1%} of the time.{rest}"

    def failure(self, measured: Mapping[str, Any]) -> str:
        """What could not be shown, in words."""
        return (
            f"No guarantee: no thresholds could be certified for {self.target:.1%} agreement with "
            f"probability {1 - self.delta:.0%}. These agreed {measured['accuracy']:.1%} of the "
            "time as measured. More judged queries, a better judge or a lower target would help."
        )
