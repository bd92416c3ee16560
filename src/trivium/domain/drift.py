"""How labels changed from one run to the next: their grades, and the judges that settled them.

Intervals resample whole queries, of either run; see `trivium.domain.confusion`. A query of both
runs is drawn for both, so that what the runs share cancels out.

| measure | what |
|---|---|
| total_variation | half the sum of the absolute differences of the grades' shares |
| psi | population stability index, the sum of (a - b) ln(a / b) over the grades |
| mean_grade | difference of the mean grades |
| changed | of the pairs in both runs, the share whose grade changed |

Total variation is the least share of labels that would have to change to make the shares equal. By
a convention of credit scoring (Siddiqi 2006), a psi under 0.1 is stable and one over 0.25 a shift;
a share of 0 counts as 0.0001 there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from trivium.domain import confusion
from trivium.domain.confusion import Floats, divide, interval, or_none
from trivium.foundation.errors import InputError
from trivium.foundation.tables import GRADES

MEASURES = ("total_variation", "psi", "mean_grade", "changed")
SHARES = {
    "of": pl.String,
    "name": pl.String,
    "before": pl.Float64,
    "after": pl.Float64,
    "difference": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
}
MEASURED = {
    "measure": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "p_value": pl.Float64,
    "pairs": pl.Int64,
    "queries": pl.Int64,
}

_LEAST_SHARE = 1e-4
_N = len(GRADES)
_PAIR = ["query_id", "item_id"]


@dataclass(frozen=True)
class Drift:
    """What changed between two tables of labels.

    Attributes:
        measures: `MEASURED`, a row for each of `MEASURES`. Of total_variation, the p-value is that
            of a permutation test that swaps the runs query by query, and there is no interval, as
            its resampled values lie above the true one; psi has neither. `pairs` are those of both
            runs together, or for changed the pairs in both.
        shares: `SHARES`: the share of each grade (`of` = "grade") and of each settling judge
            ("judge") in both runs, and the difference with its 95% interval.
        transitions: Columns before, after, pairs: the grades of the pairs in both runs, 25 cells.
    """

    measures: pl.DataFrame
    shares: pl.DataFrame
    transitions: pl.DataFrame


def drift(
    before: pl.DataFrame, after: pl.DataFrame, *, resamples: int = 2000, seed: int = 0
) -> Drift:
    """Compare the labels of two runs.

    Args:
        before: Labels of the earlier run: columns query_id, item_id, grade and judge.
        after: Labels of the later run, of the same queries, of others, or of both.
        resamples: Bootstrap and permutation resamples of the queries.
        seed: Seed of the resampling.

    Raises:
        InputError: If one of the runs has no labels.
    """
    for name, labels in (("before", before), ("after", after)):
        _refuse_empty(labels, name)
    both = pl.concat(
        [
            labels.select("query_id", "grade", "judge", run=pl.lit(at))
            for at, labels in enumerate((before, after))
        ]
    )
    grades = _counted(both, "grade", [str(grade) for grade in GRADES])
    judges = _counted(both, "judge", both["judge"].unique().sort().to_list())
    moved = before.select(*_PAIR, before="grade").join(
        after.select(*_PAIR, after="grade"), on=_PAIR
    )
    shares = pl.concat([counted.table(resamples, seed) for counted in (grades, judges)])
    measures = [*grades.measures(resamples, seed), _changed(moved, resamples, seed)]
    table = pl.DataFrame(measures, schema=MEASURED, orient="row")
    return Drift(table, shares, _transitions(moved))


@dataclass(frozen=True)
class _Counted:
    """Labels counted by query and name: `before` and `after` of shape (queries, names)."""

    of: str
    names: list[str]
    before: Floats
    after: Floats

    def table(self, resamples: int, seed: int) -> pl.DataFrame:
        before, after = (_share(side.sum(axis=0)) for side in (self.before, self.after))
        changes = self._changes(resamples, seed)
        rows = [
            (self.of, name, before[k], after[k], after[k] - before[k], *self._ends(changes[:, k]))
            for k, name in enumerate(self.names)
        ]
        return pl.DataFrame(rows, schema=SHARES, orient="row")

    def measures(self, resamples: int, seed: int) -> list[tuple[object, ...]]:
        before, after = (_share(side.sum(axis=0)) for side in (self.before, self.after))
        least_before, least_after = (np.maximum(s, _LEAST_SHARE) for s in (before, after))
        psi = ((least_after - least_before) * np.log(least_after / least_before)).sum()
        mean = np.array(GRADES, dtype=np.float64)
        means = self._changes(resamples, seed) @ mean
        size = (int(self.before.sum() + self.after.sum()), len(self.before))
        p_value = self._permuted(resamples, seed)
        return [
            ("total_variation", _distance(before, after), None, None, p_value, *size),
            ("psi", float(psi), None, None, None, *size),
            ("mean_grade", float((after - before) @ mean), *self._ends(means), None, *size),
        ]

    def _changes(self, resamples: int, seed: int) -> Floats:
        """Differences of the shares under resampling, (resamples, names)."""
        sums = confusion.resampled(np.hstack([self.before, self.after]), resamples, seed)
        before, after = np.split(sums, 2, axis=1)
        return _share(after) - _share(before)

    def _ends(self, samples: Floats) -> tuple[float | None, float | None]:
        return interval(samples, len(self.before))

    def _permuted(self, resamples: int, seed: int) -> float:
        """P-value of the total variation when each query's runs may be swapped.

        (b + 1) / (m + 1), with b the draws at least as far apart as the runs are (Phipson and Smyth
        2010).
        """
        total, lead = self.before + self.after, self.after - self.before
        rng = np.random.default_rng(seed)
        observed = _distance(_share(self.before.sum(axis=0)), _share(self.after.sum(axis=0)))
        beaten = 0
        for _ in range(resamples):
            sign = 2.0 * rng.integers(0, 2, len(total), dtype=np.int8) - 1.0
            swapped = sign @ lead
            after, before = (total.sum(axis=0) + swapped) / 2, (total.sum(axis=0) - swapped) / 2
            apart = _distance(_share(before), _share(after))
            beaten += not apart < observed - 1e-9
        return (beaten + 1) / (resamples + 1)


def _counted(both: pl.DataFrame, of: str, names: list[str]) -> _Counted:
    query = confusion.codes(both["query_id"])
    at = both[of].cast(pl.String).replace_strict(names, range(len(names)), return_dtype=pl.Int64)
    queries = int(query.max()) + 1
    flat = (both["run"].to_numpy() * queries + query) * len(names) + at.to_numpy()
    counts = np.bincount(flat, minlength=2 * queries * len(names)).astype(np.float64)
    before, after = counts.reshape(2, queries, len(names))
    return _Counted(of, names, before, after)


def _share(counts: Floats) -> Floats:
    """Counts, (..., names), as shares of their sum; NaN where there are none."""
    total = counts.sum(axis=-1, keepdims=True)
    nothing = np.full_like(counts, np.nan)
    return np.asarray(np.divide(counts, total, out=nothing, where=total > 0))


def _distance(before: Floats, after: Floats) -> float:
    return float(np.abs(after - before).sum() / 2)


def _changed(moved: pl.DataFrame, resamples: int, seed: int) -> tuple[object, ...]:
    if moved.is_empty():
        return ("changed", None, None, None, None, 0, 0)
    changed = (pl.col("before") != pl.col("after")).sum()
    counts = moved.group_by("query_id").agg(changed=changed, pairs=pl.len()).sort("query_id")
    by_query = counts.select("changed", "pairs").to_numpy().astype(np.float64)
    sums = confusion.resampled(by_query, resamples, seed)
    value = or_none(by_query[:, 0].sum() / by_query[:, 1].sum())
    ends = interval(divide(sums[:, 0], sums[:, 1]), len(by_query))
    return ("changed", value, *ends, None, len(moved), len(by_query))


def _transitions(moved: pl.DataFrame) -> pl.DataFrame:
    before, after = (moved[name].cast(pl.Int64).to_numpy() for name in ("before", "after"))
    counts = np.bincount(before * _N + after, minlength=_N * _N)
    every = np.divmod(np.arange(_N * _N), _N)
    return pl.DataFrame(
        {
            "before": every[0].astype(np.int8),
            "after": every[1].astype(np.int8),
            "pairs": counts.astype(np.int64),
        }
    )


def _refuse_empty(labels: pl.DataFrame, name: str) -> None:
    if labels.is_empty():
        raise InputError.of(
            f"labels {name}",
            got="no labels",
            expected="labels of at least one pair",
            fix="compare two runs in which the stage annotate is done",
        )
