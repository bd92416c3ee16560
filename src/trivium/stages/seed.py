"""Human ratings for a shop that has none: which pairs to rate, and what was made of them.

In: the tables of a run in which `mine` is done. Out: a sheet of pairs to rate. In: sheets that
were filled in. Out: judgments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from trivium.adapters.rating_files import ROW
from trivium.domain import worth
from trivium.domain.splits import with_parts
from trivium.domain.teaching import FEWEST_QUERIES
from trivium.foundation import tables
from trivium.foundation.config import SplitConfig
from trivium.foundation.errors import ConfigError, Fault, InputError, WorkspaceError
from trivium.foundation.workspace import StageFolder, Workspace

RANDOM_SHARE = 0.1
"""Share of the pairs that are random ones, so that weak labels of such pairs can be checked."""

USD_A_RATING, RATINGS_A_DAY = 0.5, 3000
"""What a human label cost, and how many were made in a day (arXiv 2606.23911)."""

_KEY = ["query_id", "item_id"]


@dataclass(frozen=True)
class Ratings:
    """What was read from sheets.

    Attributes:
        judgments: query_id, item_id, grade, rater.
        queries: query_id, query of the judged queries; the id where no sheet has the text.
        unfilled: Rows without a grade.
    """

    judgments: pl.DataFrame
    queries: pl.DataFrame
    unfilled: int


def pick(
    candidates: pl.DataFrame,
    queries: pl.DataFrame,
    items: pl.DataFrame,
    judgments: pl.DataFrame,
    labels: pl.DataFrame | None = None,
    *,
    pairs: int = 500,
    queries_wanted: int = 50,
    seed: int = 0,
    random_share: float = RANDOM_SHARE,
) -> pl.DataFrame:
    """Pick the pairs most worth rating; see `worth.worthy_pairs`.

    Args:
        candidates: A candidates table.
        queries: query_id, query, segment; those without candidates are not picked.
        items: item_id, title: the catalog.
        judgments: query_id, item_id of pairs that have a grade already.
        labels: Labels of (some of) the candidates, if judges were asked.
        pairs: Pairs to pick; fewer where there are no more.
        queries_wanted: Queries that they belong to.
        seed: Seed of the choice.
        random_share: Share of the pairs that are drawn from the whole catalog.

    Returns:
        Columns query_id, item_id, query, segment, title, stratum, why; the pairs of a query
        together, in an order that says nothing about them.

    Raises:
        ConfigError: If there are fewer than two pairs a query.
        InputError: If nothing is left to pick.
    """
    if pairs < 2 * queries_wanted:
        raise ConfigError.of(
            "--pairs",
            got=f"{pairs} pairs of {queries_wanted} queries",
            expected="two pairs a query or more, ten being good: a ranking is judged by them",
            fix="raise --pairs, or lower --queries",
        )
    mined = queries.join(candidates.select("query_id").unique(), on="query_id", how="semi")
    chosen = worth.worthy_queries(mined, queries_wanted, seed)
    asked = chosen["query_id"].to_list()
    pool = candidates.join(chosen, on="query_id", how="semi")
    taken = pl.concat([pool.select(_KEY), judgments.select(_KEY)])
    item_ids = items["item_id"].sort().to_list()
    drawn = worth.random_pairs(asked, item_ids, taken, round(random_share * pairs), seed)
    described = worth.describe(pool, labels).join(judgments, on=_KEY, how="anti")
    # The last queries take their turns first, as the first ones were given more random pairs.
    spread = worth.worthy_pairs(described, asked[::-1], pairs - drawn.height, seed)
    both = pl.concat([spread.select(drawn.columns), drawn])
    if both.is_empty():
        raise InputError.of(
            "pairs to rate", got="none", expected="candidates without a grade", fix="mine more"
        )
    full = both.join(chosen, on="query_id").join(items.select("item_id", "title"), on="item_id")
    names = [*_KEY, "query", "segment", "title", "stratum", "why"]
    return worth.in_hashed_order(full, seed).select(names)


def pick_from_run(
    workspace: Workspace, *, pairs: int = 500, queries_wanted: int = 50, seed: int = 0
) -> pl.DataFrame:
    """Pick the pairs of a run that are most worth rating, with its labels if it has them.

    Only the candidates of the queries that are chosen are read.

    Args:
        workspace: The run's folder.
        pairs: See `pick`.
        queries_wanted: See `pick`.
        seed: See `pick`.

    Raises:
        WorkspaceError: If the run's `mine` is not done.
        TriviumError: As `pick`.
    """
    mined, annotated = workspace.stage("mine"), workspace.stage("annotate")
    _finished(mined)
    inputs = workspace.stage("inputs")
    found = _scan(mined, "candidates").select("query_id").unique().collect()
    queries = inputs.read("queries").join(found, on="query_id", how="semi")
    chosen = worth.worthy_queries(queries, queries_wanted, seed)
    labels = _of(annotated, "labels", chosen) if annotated.manifest() is not None else None
    return pick(
        _of(mined, "candidates", chosen),
        queries.join(chosen, on="query_id", how="semi"),
        inputs.read("items").select("item_id", "title"),
        inputs.read("judgments"),
        labels,
        pairs=pairs,
        queries_wanted=queries_wanted,
        seed=seed,
    )


def summary(picked: pl.DataFrame, pairs: int) -> list[str]:
    """Say of picked pairs what they are and what rating them will cost.

    Args:
        picked: From `pick`.
        pairs: How many were asked for.
    """
    strata = picked.group_by("stratum").len().sort(["len", "stratum"], descending=[True, False])
    queries = picked.select("query_id", pl.col("segment").fill_null("no segment")).unique()
    segments = queries.group_by("segment").len().sort("segment")
    n = picked.height
    lines = [
        f"{n:,} pairs of {queries.height:,} queries",
        "queries: " + ", ".join(f"{count} {name}" for name, count in segments.iter_rows()),
        "pairs: " + ", ".join(f"{count} {name}" for name, count in strata.iter_rows()),
        f"one rater: ${n * USD_A_RATING:,.2f} at ${USD_A_RATING:.2f} a label, "
        f"{n / RATINGS_A_DAY:.1g} days at {RATINGS_A_DAY:,} a day",
    ]
    return lines + ([f"no more than {n:,} of the {pairs:,} were found"] if n < pairs else [])


def read_ratings(sheets: Mapping[str, pl.DataFrame], run: Workspace | None = None) -> Ratings:
    """Make judgments of sheets that were filled in.

    Args:
        sheets: From `rating_files.read_sheet`, by the names of their files.
        run: A run of whose queries and items the ids must be.

    Raises:
        InputError: With every fault found: missing columns, empty ids, grades that are none, ids
            that the run does not have, a pair that a rater has rated twice; or no grade at all.
    """
    missing = [fault for name, sheet in sheets.items() for fault in _missing(name, sheet)]
    if missing:
        raise InputError(*missing)
    rows = pl.concat([_graded(name, sheet) for name, sheet in sheets.items()])
    filled = rows.filter(pl.col("given").is_not_null())
    faults = [*_blank_ids(filled), *_no_grades(filled), *_rated_twice(filled)]
    if run is not None:
        faults += _unknown(filled, run)
    if filled.is_empty():
        where = ", ".join(sheets)
        faults.append(Fault(where, "no grade", "0-4 in the column 'grade'", "rate some pairs"))
    if faults:
        raise InputError(*faults)
    return Ratings(
        tables.validate(filled.sort(*_KEY, "rater"), tables.JUDGMENTS),
        filled.select("query_id", "query").unique("query_id", keep="first").sort("query_id"),
        rows.height - filled.height,
    )


def outlook(judgments: pl.DataFrame, texts: pl.DataFrame, run: Workspace | None) -> list[str]:
    """Say how a split will deal the judged queries, and how many more it takes if they are few.

    Args:
        judgments: All judgments.
        texts: query_id, query of some of them, for want of a run.
        run: The run whose queries and shares are to be used; the default shares without one.
    """
    if run is None:
        split, seed = SplitConfig(), 0
        ids = judgments.select("query_id").unique()
        queries = ids.join(texts, on="query_id", how="left").with_columns(
            pl.coalesce("query", "query_id"), pl.lit(None, dtype=pl.String).alias("segment")
        )
    else:
        inputs = run.stage("inputs")
        settings = _finished(inputs)["configuration"]
        split, seed = SplitConfig.model_validate(settings["split"]), settings["run"]["seed"]
        queries = inputs.read("queries").select("query_id", "query", "segment")
    dealt = with_parts(queries, judgments["query_id"].unique(), split, seed)
    return _outlook(judgments.join(dealt.select("query_id", "part"), on="query_id"), split)


def _outlook(judged: pl.DataFrame, split: SplitConfig) -> list[str]:
    counts = {part: _counts(judged.filter(pl.col("part") == part)) for part in tables.TAUGHT}
    shown = ", ".join(f"{queries} {part}" for part, (queries, _grades) in counts.items())
    lines = [f"the split will deal the judged queries so: {shown}"]
    short = [part for part, count in counts.items() if not _is_enough(*count)]
    return lines + ([_too_little(short, judged["query_id"].n_unique(), split)] if short else [])


def _counts(judged: pl.DataFrame) -> tuple[int, int]:
    return judged["query_id"].n_unique(), judged["grade"].n_unique()


def _is_enough(queries: int, grades: int) -> bool:
    return queries >= FEWEST_QUERIES and grades > 1


def _too_little(short: Sequence[str], judged: int, split: SplitConfig) -> str:
    held_out = (split.calibration, split.tuning, split.agreement)
    least = split.seed * min(*held_out, 1.0 - sum(held_out))
    if least <= 0:
        return f"too little: {', '.join(short)}; give each a share under [split]"
    more = max(math.ceil(FEWEST_QUERIES / least) - judged, 1)
    return (
        f"too little: {', '.join(short)}; each needs {FEWEST_QUERIES} queries and two different "
        f"grades (tuning, if there are several judges): rate about {more} more queries, or raise "
        "the shares under [split]"
    )


def _finished(folder: StageFolder) -> dict[str, Any]:
    manifest = folder.manifest()
    if manifest is None:
        raise WorkspaceError.of(
            str(folder.path),
            got="not finished",
            expected=f"a run whose stage '{folder.path.name}' is done",
            fix=f"trivium run {folder.path.parent} --until {folder.path.name}",
        )
    return manifest


def _scan(folder: StageFolder, table: str) -> pl.LazyFrame:
    return pl.scan_parquet(folder.path / table / "part-*.parquet")


def _of(folder: StageFolder, table: str, queries: pl.DataFrame) -> pl.DataFrame:
    rows = _scan(folder, table).join(queries.lazy(), on="query_id", how="semi")
    return rows.sort(_KEY).collect()


def _missing(name: str, sheet: pl.DataFrame) -> list[Fault]:
    return [
        Fault(
            f"{name}: column '{column}'",
            got=f"columns {', '.join(sheet.drop(ROW).columns)}",
            expected="the columns that `trivium seed pick` wrote",
            fix="put the column back",
        )
        for column in (*_KEY, "grade")
        if column not in sheet.columns
    ]


def _graded(name: str, sheet: pl.DataFrame) -> pl.DataFrame:
    """The sheet's rows with their grades as they were given and as numbers, null = none."""
    numbers = {word: str(grade) for grade, word in enumerate(tables.GRADE_NAMES)}
    given = sheet["grade"].str.to_lowercase().replace(numbers)
    grade = tables.converted(given, pl.Int8)
    query = pl.col("query") if "query" in sheet.columns else pl.lit(None, dtype=pl.String)
    return sheet.select(
        pl.format(f"{name.replace('{', '{{').replace('}', '}}')}, row {{}}", ROW).alias("place"),
        *_KEY,
        pl.coalesce(query, "query_id").alias("query"),
        pl.col("grade").alias("given"),
        grade.set(~grade.is_in(list(tables.GRADES)), None).alias("grade"),
        "rater",
    )


def _blank_ids(filled: pl.DataFrame) -> list[Fault]:
    blank = filled.filter(pl.any_horizontal(pl.col(_KEY).is_null()))
    return _fault(blank, "without an id", "a query_id and an item_id", "put the ids back")


def _no_grades(filled: pl.DataFrame) -> list[Fault]:
    wrong = filled.filter(pl.col("grade").is_null())
    expected = f"0-4, or {', '.join(tables.GRADE_NAMES)}; nothing where a pair was not rated"
    such = f"such as {wrong['given'][0]!r}" if wrong.height else ""
    return _fault(wrong, f"with a grade {such}", expected, "correct these grades")


def _rated_twice(filled: pl.DataFrame) -> list[Fault]:
    key = [*_KEY, "rater"]
    again = filled.filter(filled.select(key).is_duplicated()).sort(key, maintain_order=True)
    if again.is_empty():
        return []
    query, item, rater = again.select(key).row(0)
    same = again.filter(query_id=query, item_id=item, rater=rater)
    grades = ", ".join(f"{place}: {given}" for place, given in same.select("place", "given").rows())
    return _fault(
        again,
        f"in which a rater rates a pair again, as {rater!r} does {query!r}, {item!r} ({grades})",
        "one grade of a pair and a rater",
        "keep one of them, or name the raters in the column 'rater'",
    )


def _unknown(filled: pl.DataFrame, run: Workspace) -> list[Fault]:
    faults = []
    for column, table in (("query_id", "queries"), ("item_id", "items")):
        known = run.stage("inputs").read(table)[column]
        strange = filled.filter(~pl.col(column).is_in(known.implode()))
        such = (
            f"whose {column} is unknown, such as {strange[column][0]!r}" if strange.height else ""
        )
        fix = "a spreadsheet may have changed the ids: put back those of the sheet that was picked"
        faults += _fault(strange, such, f"ids of the {table} of {run.root}", fix)
    return faults


def _fault(rows: pl.DataFrame, what: str, expected: str, fix: str) -> list[Fault]:
    if rows.is_empty():
        return []
    return [Fault(rows["place"][0], f"{rows.height} row(s) {what}", expected, fix)]
