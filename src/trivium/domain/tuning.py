"""When is a judge sure enough? Thresholds from human labels, and what they cost and achieve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import polars as pl

from trivium.domain.calibration import Calibrated
from trivium.domain.cascade import NEVER, Cascade, Ties
from trivium.domain.cost_curves import CHANCE, Prices, agreement_of, as_table, cost_curve
from trivium.domain.curves import expected_grades
from trivium.domain.guarantee import (
    Bound,
    Floats,
    Ints,
    Over,
    Replies,
    certify_each,
    certify_path,
    common_path,
)
from trivium.domain.one_confidence import strictest

Mode: TypeAlias = Literal["per_class", "overall"]
Graded: TypeAlias = tuple[Mapping[str, Calibrated], Ints, Ints]


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
    dearest: float | None = None,
    seed: int = 0,
) -> Tuned:
    """Find how sure each judge must be in each grade.

    - With `thresholds` nothing is searched.
    - Without a target: one confidence for all judges but the last, which settles the rest, the
      strictest that `max_cost` affords (`one_confidence.strictest`); but of the points of the curve
      that are affordable the one that agrees best with humans, where it does so by more than chance
      (`cost_curves.CHANCE`). No guarantee.
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
        dearest: What that judge costs for a pair; the dearest of `costs` when None.
        seed: Decides folds and the order of the tests.
    """
    names = tuple(answers)
    replies = replies_of(answers, grades, queries)
    paid = np.array([costs[name] for name in names], dtype=np.float64)
    prices = Prices(names, paid, paid.max() if dearest is None else dearest)
    curve, levels = cost_curve(replies, prices, ties, seed)

    def tuned(cascade: Cascade, promise: str) -> Tuned:
        settled = replies.settle(cascade.levels, ties)
        return Tuned(cascade, promise, curve, as_table([prices.point(replies, *settled)]))

    if thresholds is not None:
        return tuned(
            Cascade(names, dict(thresholds), ties), "No guarantee: the thresholds were given."
        )
    if target is None:
        strict = strictest(replies, paid, max_cost * prices.dearest)
        plain = tuned(Cascade.of(names, strict, ties), _PLAIN.format(max_cost))
        row = _leading(curve, plain.point, max_cost)
        if row is None:
            return plain
        return tuned(Cascade.of(names, levels[row], ties), _BEST.format(max_cost))
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
        np.stack([expected_grades(one.probabilities) for one in said]),
    )


def _leading(curve: pl.DataFrame, plain: pl.DataFrame, max_cost: float) -> int | None:
    """The affordable point that agrees best, if it does so better than another beyond chance."""
    agreement = np.array([agreement_of(point) for point in curve.iter_rows(named=True)])
    agreement[curve["cost"].fill_null(0.0).to_numpy() > max_cost] = -np.inf
    lead = agreement.max() - agreement_of(plain.row(0, named=True))
    return int(agreement.argmax()) if lead > CHANCE else None


def _cheapest(curve: pl.DataFrame, accuracy: float) -> int:
    """The first point that is accurate enough, or else the most accurate one."""
    reached = curve["accuracy"].to_numpy() >= min(accuracy, curve["accuracy"].to_numpy().max())
    return int(reached.argmax())


_UNPROMISED = (
    "No guarantee: at most {:.0%} of the cost of asking the dearest judge about everything was "
    "to be spent, and "
)
_PLAIN = f"{_UNPROMISED}judges are as sure as that affords; the last settles the rest."
_BEST = f"{_UNPROMISED}of the thresholds that it affords, these agreed best with humans."
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
