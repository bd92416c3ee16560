"""Measures of one run, query by query, from the qrels' grades.

Names are the field's own and the same in tables, in reports and in print. With the default cut-off
of 10 and depth of 100:

| name | what | query left out when |
|---|---|---|
| `nDCG@10` | graded, discounted by log2(rank + 1), over the ideal of all judged items | no gain |
| `condensed nDCG@10` | the same once unjudged items are removed from the ranking | no gain |
| `R@100` | share of the items of grade 3 or 4 that were retrieved | no such item |
| `P@1` | whether the first item has grade 3 or 4 | |
| `embarrassing@10` | share of the items in the top 10 with grade 0 | |
| `bad@10` | share of the items in the top 10 with grade 0 or 1 | |
| `unjudged@10` | share of the items in the top 10 without a grade | |

Every query of the qrels is measured: one without results scores 0. A query is left out of a
measure only where its ideal is 0, so that no ranking could do better; `left_out` counts these. The
shares are of the items that are there, as in ir-measures' `Judged`: a top 10 of two items counts
two.

The graded measures are trec_eval's, through ir-measures. trec_eval breaks ties by descending
document id, so it is handed ranks, never scores. Sources: exponential gains, Burges et al., ICML
2005; condensed lists, Sakai, SIGIR 2007.
"""

from __future__ import annotations

from typing import Any, Literal

import polars as pl

from trivium.foundation.tables import GRADES, IRRELEVANT, RELEVANT

Gain = Literal["exponential", "linear"]


def measure_names(cutoff: int = 10, depth: int = 100) -> tuple[str, ...]:
    """The names of the measures, in the order of the tables.

    Example:
        >>> measure_names()[:3]
        ('nDCG@10', 'condensed nDCG@10', 'R@100')
    """
    return (
        f"nDCG@{cutoff}",
        f"condensed nDCG@{cutoff}",
        f"R@{depth}",
        "P@1",
        f"embarrassing@{cutoff}",
        f"bad@{cutoff}",
        f"unjudged@{cutoff}",
    )


def measure(
    run: pl.DataFrame,
    qrels: pl.DataFrame,
    *,
    cutoff: int = 10,
    depth: int = 100,
    gain: Gain = "exponential",
    complete: bool = False,
) -> pl.DataFrame:
    """Measure a run on every query of the qrels.

    Args:
        run: Columns query_id, item_id, rank and, where ranks tie, score; a pair once. Ties are
            broken by (-score, item_id). Queries without judgments are not measured.
        qrels: Columns query_id, item_id, grade; a pair once.
        cutoff: Ranks that all measures but recall and precision read.
        depth: Ranks of the run that are kept, and the cut-off of recall.
        gain: `exponential`, 2^grade - 1, or `linear`, the grade.
        complete: Whether the qrels name every relevant item, so that an absent pair has grade 0.

    Returns:
        Columns query_id, measure, value, sorted by query_id and then as `measure_names`.
    """
    qrels = qrels.select("query_id", "item_id", pl.col("grade").cast(pl.Int8))
    ranked = _ranked(run, qrels, depth)
    if complete:
        absent = ranked.filter(pl.col("grade").is_null()).with_columns(grade=pl.lit(0, pl.Int8))
        qrels = pl.concat([qrels, absent.drop("rank")])
        ranked = ranked.with_columns(pl.col("grade").fill_null(0))
    graded = _defined(_graded(ranked, qrels, cutoff, depth, gain), qrels, cutoff, depth)
    shares = _shares(ranked, qrels, cutoff)
    order = pl.Enum(measure_names(cutoff, depth))
    table = pl.concat([graded, shares]).sort("query_id", pl.col("measure").cast(order))
    return table.select("query_id", "measure", "value")


def left_out(qrels: pl.DataFrame, queries: pl.DataFrame) -> dict[str, int]:
    """Count the queries that some measures cannot speak about, by reason.

    Args:
        qrels: Columns query_id, item_id, grade.
        queries: Column query_id, a query once.

    Returns:
        `unjudged` (no pair in the qrels: not measured at all), `no gain` (every grade is 0: left
        out of nDCG) and `no relevant item` (no grade of 3 or 4: left out of recall).
    """
    best = queries.select("query_id").join(_best(qrels), on="query_id", how="left")["best"]
    return {
        "unjudged": best.null_count(),
        "no gain": int((best < 1).sum()),
        "no relevant item": int((best < RELEVANT).sum()),
    }


def _ranked(run: pl.DataFrame, qrels: pl.DataFrame, depth: int) -> pl.DataFrame:
    """The first `depth` items of each judged query: query_id, item_id, rank (no gaps), grade."""
    run = run.join(qrels.select("query_id").unique(), on="query_id", how="semi")
    score = [-pl.col("score")] if "score" in run.columns else []
    rank = pl.int_range(1, pl.len() + 1).over("query_id").cast(pl.Int32)
    run = run.sort("query_id", "rank", *score, "item_id").select(
        "query_id", "item_id", rank.alias("rank")
    )
    return run.filter(pl.col("rank") <= depth).join(
        qrels, on=["query_id", "item_id"], how="left", maintain_order="left"
    )


def _graded(
    ranked: pl.DataFrame, qrels: pl.DataFrame, cutoff: int, depth: int, gain: Gain
) -> pl.DataFrame:
    import ir_measures
    from ir_measures import P, R, nDCG

    # One gains mapping in every nDCG: ir-measures 0.4.3 gives an nDCG without `gains` the mapping
    # of whichever measure stands first in the call.
    gains = {grade: 2**grade - 1 if gain == "exponential" else grade for grade in GRADES}
    ndcg, condensed, recall, precision, *_ = measure_names(cutoff, depth)
    names = {
        nDCG(gains=gains) @ cutoff: ndcg,
        nDCG(gains=gains, judged_only=True) @ cutoff: condensed,
        R(rel=RELEVANT) @ depth: recall,
        P(rel=RELEVANT) @ 1: precision,
    }
    heard = ranked.filter((pl.col("rank") <= cutoff) | pl.col("grade").is_not_null())
    run = _nested(heard.with_columns(score=-pl.col("rank")), "score")
    evaluator = ir_measures.providers.registry["pytrec_eval"].evaluator(
        list(names), _nested(qrels, "grade")
    )
    rows = [(m.query_id, names[m.measure], m.value) for m in evaluator.iter_calc(run)]
    return _long(rows)


def _nested(table: pl.DataFrame, value: str) -> dict[str, dict[str, Any]]:
    groups = table.group_by("query_id").agg("item_id", value)
    return {query: dict(zip(items, values, strict=True)) for query, items, values in groups.rows()}


def _long(rows: list[tuple[str, str, float]]) -> pl.DataFrame:
    schema = {"query_id": pl.String, "measure": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _defined(table: pl.DataFrame, qrels: pl.DataFrame, cutoff: int, depth: int) -> pl.DataFrame:
    """Leave out the values whose ideal is 0."""
    ndcg, condensed, recall, *_ = measure_names(cutoff, depth)
    needed = {ndcg: 1, condensed: 1, recall: RELEVANT}
    floor = pl.col("measure").replace_strict(needed, default=0, return_dtype=pl.Int8)
    return (
        table.join(_best(qrels), on="query_id", how="left")
        .filter(pl.col("best") >= floor)
        .drop("best")
    )


def _best(qrels: pl.DataFrame) -> pl.DataFrame:
    return qrels.group_by("query_id").agg(best=pl.col("grade").max())


def _shares(ranked: pl.DataFrame, qrels: pl.DataFrame, cutoff: int) -> pl.DataFrame:
    grade = pl.col("grade")
    shares = {
        f"embarrassing@{cutoff}": (grade == 0).fill_null(value=False),
        f"bad@{cutoff}": (grade <= IRRELEVANT).fill_null(value=False),
        f"unjudged@{cutoff}": grade.is_null(),
    }
    top = ranked.filter(pl.col("rank") <= cutoff).group_by("query_id")
    return (
        qrels.select("query_id")
        .unique()
        .join(top.agg(**{name: flag.mean() for name, flag in shares.items()}), "query_id", "left")
        .unpivot(index="query_id", variable_name="measure", value_name="value")
        .with_columns(pl.col("value").cast(pl.Float64).fill_null(0.0))
    )
