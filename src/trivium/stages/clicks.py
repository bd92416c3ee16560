"""Simulate a click log on the ranking that shoppers would have seen, or read a real one.

In: queries with their frequencies, a ranking, and where the true grades come from. Out: clicks
(query_id, item_id, clicks, impressions, rank), traffic (query_id, searches, segment), and sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trivium.adapters.files import names_of, read_files
from trivium.domain.clicks import (
    ClickModel,
    click_sizes,
    draw_clicks,
    draw_grades,
    simulate_traffic,
)
from trivium.domain.judgments import consensus
from trivium.foundation import tables
from trivium.foundation.errors import Fault, InputError

_PAIR = ["query_id", "item_id"]
_SUM_TOLERANCE = 0.01


@dataclass(frozen=True)
class GradeSources:
    """Where the grades that simulated shoppers act upon come from, the first that has a pair.

    Attributes:
        truth: Complete grades: of a query in it, pairs that are not in it have grade 0.
        judgments: Human grades, one a pair: query_id, item_id, grade.
        distributions: `tables.DISTRIBUTIONS`: a judge's probabilities, of which a grade is drawn
            once for each pair; of a judge that labels nothing else, or the clicks know what the
            labels know.
        unknown: Grade of all other pairs; None refuses to simulate clicks on them.
    """

    truth: pl.DataFrame | None = None
    judgments: pl.DataFrame | None = None
    distributions: pl.DataFrame | None = None
    unknown: int | None = None


@dataclass(frozen=True)
class SimulatedClicks:
    """A simulated log.

    Attributes:
        clicks: `tables.CLICKS`, a row for each pair that was shown.
        traffic: Columns query_id, searches, segment, of every query.
        sizes: `clicks.click_sizes`, by segment.
        grades: Columns query_id, item_id, grade, source, of every pair in the ranking.
    """

    clicks: pl.DataFrame
    traffic: pl.DataFrame
    sizes: pl.DataFrame
    grades: pl.DataFrame

    @property
    def sources(self) -> dict[str, int]:
        """Source of the grades to the number of pairs, the most first."""
        counted = self.grades.group_by("source").len().sort(["len", "source"], descending=True)
        return dict(counted.iter_rows())


def simulate_clicks(
    queries: pl.DataFrame,
    ranking: pl.DataFrame,
    sources: GradeSources,
    model: ClickModel,
    seed: int,
    shares: tuple[float, float] = (0.5, 0.9),
) -> SimulatedClicks:
    """Simulate a click log.

    Args:
        queries: Columns query_id, and frequency and segment where they are known.
        ranking: Columns query_id, item_id, rank: what was shown; ranks below `model.shown` are not.
        sources: Where the true grades come from.
        model: The click model and the traffic.
        seed: Of every draw.
        shares: Of the searches that head queries make, and head and torso queries together.

    Raises:
        InputError: If nothing was shown, or pairs were whose grade is unknown.
    """
    shown = ranking.filter(pl.col("rank") <= model.shown).join(
        queries.select("query_id"), on="query_id", how="semi"
    )
    if shown.is_empty():
        raise InputError.of(
            "the ranking",
            got="no item for any of the queries",
            expected="what shoppers were shown",
            fix="name another channel",
        )
    traffic = simulate_traffic(queries, model, seed, *shares)
    grades = true_grades(shown, sources, seed)
    clicks = draw_clicks(shown.join(grades, on=_PAIR), traffic, model, seed)
    return SimulatedClicks(clicks, traffic, click_sizes(clicks, traffic, grades), grades)


def true_grades(pairs: pl.DataFrame, sources: GradeSources, seed: int) -> pl.DataFrame:
    """Give each pair its true grade.

    Args:
        pairs: Columns query_id, item_id.
        sources: Where the grades come from.
        seed: Of the grades that are drawn.

    Returns:
        Columns query_id, item_id, grade, source.

    Raises:
        InputError: If a pair has none, and `sources.unknown` does not say what it is then.
    """
    found = pairs.select(_PAIR)
    known = {
        "truth": _completed(pairs, sources.truth),
        "judgments": sources.judgments,
        "drawn": _drawn(found, sources.distributions, seed),
    }
    given = {name: table for name, table in known.items() if table is not None}
    for name, table in given.items():
        grade = table.select(*_PAIR, pl.col("grade").cast(pl.Int8).alias(name))
        found = found.join(grade, on=_PAIR, how="left", maintain_order="left")
    has = [pl.when(pl.col(name).is_not_null()).then(pl.lit(name)) for name in given]
    none = pl.lit(None, pl.Int8)
    graded = found.with_columns(
        pl.coalesce(*given, none).alias("grade"), pl.coalesce(*has, none).alias("source")
    ).select(*_PAIR, "grade", "source")
    if sources.unknown is None and graded["grade"].null_count():
        raise _ungraded(graded)
    return graded.with_columns(
        pl.coalesce("grade", pl.lit(sources.unknown, pl.Int8)),
        pl.col("source").fill_null("unknown"),
    )


def read_clicks(paths: Sequence[Path]) -> pl.DataFrame:
    """Read a table of clicks, the user's own or a simulated one.

    Rows of one pair, such as those of several days, are added up; its rank is the mean of the ranks
    where it was shown, rounded.

    Returns:
        `tables.CLICKS`, one row a pair, sorted by query and item.

    Raises:
        InputError: If a file or the table is faulty, a number is negative, or nothing was clicked.
    """
    where = names_of(paths)
    clicks = tables.validate(read_files(paths), tables.CLICKS, where)
    numbers = [name for name in ("clicks", "impressions", "rank") if name in clicks.columns]
    negative = [name for name in numbers if (clicks[name].drop_nulls() < 0).any()]
    if negative or not clicks["clicks"].sum():
        column = negative[0] if negative else "clicks"
        raise InputError.of(
            f"{where}: column '{column}'",
            got="numbers below 0" if negative else "not one click",
            expected="how often each item was clicked",
            fix="check the export",
        )
    sums = [pl.col(n).sum() for n in ("clicks", "impressions") if n in numbers]
    ranks = [pl.col(n).mean().round().cast(pl.Int32) for n in ("rank",) if n in numbers]
    return clicks.group_by(_PAIR).agg(*sums, *ranks).sort(_PAIR)


def read_sources(
    truth: Path | None, judgments: Path | None, probabilities: Path | None, unknown: int | None
) -> GradeSources:
    """Read where the grades of simulated shoppers come from.

    Raises:
        InputError: If there is no source at all, or a file or table is faulty.
    """
    if truth is None and judgments is None and probabilities is None and unknown is None:
        raise InputError.of(
            "grades of the pairs that are shown",
            got="none",
            expected="what makes shoppers click",
            fix="give --truth, --judgments or --probabilities",
        )
    graded = [
        consensus(tables.validate(read_files([path]), tables.JUDGMENTS, str(path)))
        if path
        else None
        for path in (truth, judgments)
    ]
    return GradeSources(
        graded[0], graded[1], _read_distributions(probabilities) if probabilities else None, unknown
    )


def _read_distributions(path: Path) -> pl.DataFrame:
    table = tables.validate(read_files([path]), tables.DISTRIBUTIONS, str(path))
    p = table["p"].to_numpy().reshape(-1, len(tables.GRADES))
    wrong = (p < 0).any(axis=1) | (abs(p.sum(axis=1) - 1) > _SUM_TOLERANCE) | (p != p).any(axis=1)
    if wrong.any():
        first = table.row(int(wrong.argmax()), named=True)
        raise InputError(
            Fault(
                f"{path}: column 'p'",
                got=f"{int(wrong.sum())} row(s) such as {first['p']}",
                expected="five probabilities, of the grades 0 to 4, that make 1",
                fix="normalise these rows at the source",
            )
        )
    return table


def _completed(pairs: pl.DataFrame, truth: pl.DataFrame | None) -> pl.DataFrame | None:
    if truth is None:
        return None
    of_it = pairs.select(_PAIR).join(truth.select("query_id"), on="query_id", how="semi")
    named = of_it.join(truth, on=_PAIR, how="left", maintain_order="left")
    return named.with_columns(pl.col("grade").fill_null(0))


def _drawn(
    pairs: pl.DataFrame, distributions: pl.DataFrame | None, seed: int
) -> pl.DataFrame | None:
    if distributions is None:
        return None
    return draw_grades(distributions.join(pairs, on=_PAIR, how="semi"), seed)


def _ungraded(graded: pl.DataFrame) -> InputError:
    unknown = graded.filter(pl.col("grade").is_null())
    query, item = unknown.select(_PAIR).row(0)
    return InputError(
        Fault(
            "grades of the pairs that are shown",
            got=f"none for {unknown.height:,} of {graded.height:,} pairs, such as {query!r}, "
            f"{item!r}",
            expected="a grade of every pair",
            fix="give --probabilities of a judge for these pairs, show fewer with --shown, or say "
            "with --unknown which grade they have",
        )
    )
