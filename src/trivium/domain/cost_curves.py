"""Agreement of cascades with humans against what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from trivium.domain.cascade import NEVER, Ties
from trivium.domain.confusion import cells, measures
from trivium.domain.guarantee import Floats, Ints, Replies
from trivium.domain.one_confidence import spent_on
from trivium.domain.thresholds import cheapest_levels
from trivium.foundation.tables import GRADES

CHANCE = 0.05
"""A difference in `agreement_of` that says nothing: a tenth of a judge's lead over a guess. With
.02 for who has a say the labels of chorus agreed worse (24 deals of the queries, four judges that
all know something: kappa .682 for .689), with .1 they agreed no better."""

_FOLDS = 5
_ERROR_PRICES = (*np.geomspace(0.2, 200.0, 25).tolist(), float("inf"))


@dataclass(frozen=True)
class Prices:
    """The judges, what each costs for a pair, and what the dearest of all judges costs."""

    names: tuple[str, ...]
    costs: Floats
    dearest: float

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
            accuracy (of all pairs); kappa (quadratic) and spearman (of the expected grade), both of
            those labelled and null where undefined; cost_per_pair; cost (relative to asking the
            dearest judge alone about every pair; null if it costs nothing); share_<judge> settled
            by each judge and share_vote by none.
        """
        spent = spent_on(first, self.costs)
        per_pair = float(spent.mean()) if len(spent) else 0.0
        labelled = grades >= 0
        shares = np.bincount(first, minlength=len(self.names) + 1) / max(len(first), 1)
        return {
            "accuracy": float((grades == replies.human).mean()) if len(grades) else None,
            "kappa": _kappa(replies.human[labelled], grades[labelled]),
            "spearman": _spearman(replies.of(labelled), first[labelled]),
            "cost_per_pair": per_pair,
            "cost": per_pair / float(self.dearest) if self.dearest else None,
        } | {
            f"share_{name}": float(s) for name, s in zip((*self.names, "vote"), shares, strict=True)
        }


def cost_curve(
    replies: Replies, prices: Prices, ties: Ties, seed: int
) -> tuple[pl.DataFrame, list[Floats]]:
    """The curve, the cheapest point first, and the thresholds of each point.

    A point is measured on queries that its thresholds were not found on (five folds); the
    thresholds kept are found on all.
    """
    rows, levels = [], []
    for judge, alone in enumerate(_alone(len(prices.names))):
        point = prices.point(replies, *replies.settle(alone, ties))
        rows.append(
            {"error_price": None, "alone": prices.names[judge]} | point | _thresholds(prices, alone)
        )
        levels.append(alone)
    points = held_out_points(replies, prices, _ERROR_PRICES, ties, seed)
    for error_price, point in zip(_ERROR_PRICES, points, strict=True):
        found = cheapest_levels(replies, prices.relative, error_price, ties)
        rows.append(
            {"error_price": error_price, "alone": None} | point | _thresholds(prices, found)
        )
        levels.append(found)
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["cost_per_pair"], -i))
    return as_table([rows[i] for i in order]), [levels[i] for i in order]


def _alone(judges: int) -> list[Floats]:
    """For each judge the thresholds that leave everything to it, each (judges, 5)."""
    levels = np.full((judges, judges, len(GRADES)), NEVER)
    levels[np.arange(judges), np.arange(judges)] = 0.0
    return list(levels)


def _thresholds(prices: Prices, levels: Floats) -> dict[str, list[float]]:
    return {
        f"thresholds_{name}": row for name, row in zip(prices.names, levels.tolist(), strict=True)
    }


def as_table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Points as a table; what is unknown in all of them keeps its type."""
    numbers = ("error_price", "accuracy", "kappa", "spearman", "cost_per_pair", "cost")
    types = dict.fromkeys(numbers, pl.Float64) | {"alone": pl.String}
    known = {name: dtype for name, dtype in types.items() if rows and name in rows[0]}
    return pl.DataFrame(rows, schema_overrides=known, infer_schema_length=None)


def held_out_points(
    replies: Replies, prices: Prices, error_prices: Sequence[float], ties: Ties, seed: int
) -> list[dict[str, Any]]:
    """What the cheapest cascades achieve on queries that their thresholds were not found on.

    Args:
        replies: What the judges say of graded pairs.
        prices: What the judges cost.
        error_prices: As in `cheapest_levels`, one for each point.
        ties: What settles a vote that is even.
        seed: Decides the five folds.

    Returns:
        `Prices.point` for each price.
    """
    folds = np.random.default_rng(seed).permutation(replies.queries)[replies.query] % _FOLDS
    return [_held_out(replies, prices, price, ties, folds) for price in error_prices]


def _held_out(
    replies: Replies, prices: Prices, error_price: float, ties: Ties, folds: Ints
) -> dict[str, Any]:
    grades, first = np.full((2, len(folds)), -1)
    for fold in np.unique(folds):
        out = folds == fold
        levels = cheapest_levels(replies.of(~out), prices.relative, error_price, ties)
        grades[out], first[out] = replies.of(out).settle(levels, ties)
    return prices.point(replies, grades, first)


def agreement_of(point: Mapping[str, Any]) -> float:
    """How well a point agrees with humans: accuracy, quadratic kappa and Spearman, added up."""
    return sum(point[measure] or 0.0 for measure in ("accuracy", "kappa", "spearman"))


def _spearman(replies: Replies, first: Ints) -> float | None:
    """Spearman's correlation of the settled expected grade with the humans', (pairs,) each."""
    if replies.expected is None or len(first) < 2:
        return None
    judges = len(replies.expected)
    answered = ~np.isnan(replies.expected)
    mean = np.where(answered, replies.expected, 0.0).sum(axis=0) / answered.sum(axis=0)
    own = replies.expected[np.minimum(first, judges - 1), np.arange(len(first))]
    stated = pl.DataFrame({"a": np.where(first < judges, own, mean), "b": replies.human})
    found = stated.select(pl.corr("a", "b", method="spearman")).item()
    return None if found is None or np.isnan(found) else float(found)


def _kappa(human: Ints, judged: Ints) -> float | None:
    """Cohen's kappa with quadratic weights; nothing where all grades are the same."""
    one = np.zeros_like(human)
    counts = cells(one, one, human, judged, queries=1, groups=1)
    found = float(measures(counts)["kappa"][0])
    return None if np.isnan(found) else found
