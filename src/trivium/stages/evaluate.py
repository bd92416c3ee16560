"""Evaluation: systems against human grades, over the full catalog.

In: the systems (towers, channels or ready runs), items, queries, qrels. Out: the metrics with
intervals and p-values, and every query's values. `trivium evaluate` runs it on a workspace.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from trivium.domain import significance
from trivium.domain.measures import left_out, measure, measure_names
from trivium.foundation import tables
from trivium.foundation.config import DataConfig, EvaluateConfig
from trivium.foundation.console import say
from trivium.foundation.errors import ConfigError, InputError
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.text import render

CHANNEL_PREFIX = "channel:"
QRELS = tables.Schema(
    "qrels",
    {"query_id": pl.String, "item_id": pl.String, "grade": pl.Int8},
    key=("query_id", "item_id"),
)
RUN = tables.Schema(
    "run",
    {"query_id": pl.String, "item_id": pl.String, "rank": pl.Int32, "score": pl.Float32},
    key=("query_id", "item_id"),
    optional=frozenset({"score"}),
)
GAINS = tables.Schema(
    "gains",
    {
        "system": pl.String,
        "segment": pl.String,
        "measure": pl.String,
        "difference": pl.Float64,
        "ci_low": pl.Float64,
        "ci_high": pl.Float64,
        "relative": pl.Float64,
        "relative_low": pl.Float64,
        "relative_high": pl.Float64,
        "p_value": pl.Float64,
        "p_holm": pl.Float64,
        "queries": pl.Int64,
    },
    key=("system", "segment", "measure"),
    nullable=frozenset({"ci_low", "ci_high", "relative", "relative_low", "relative_high"}),
)


def evaluate(
    systems: Mapping[str, str | pl.DataFrame],
    items: pl.DataFrame,
    queries: pl.DataFrame,
    qrels: pl.DataFrame,
    config: EvaluateConfig | None = None,
    *,
    baseline: str | None = None,
    data: DataConfig | None = None,
    mine: MineConfig | None = None,
    max_length: int | None = None,
    seed: int = 0,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Measure systems on the queries that have grades, each against the baseline.

    Args:
        systems: Name to a tower (a hub name, a folder, or `package:NAME/FOLDER`), a channel
            (`channel:bm25`) or a ready run (query_id, item_id, rank, and score where ranks tie).
        items: The catalog, `tables.ITEMS`.
        queries: The queries to test, `tables.QUERIES`.
        qrels: Columns query_id, item_id, grade; one grade a pair.
        config: Cut-off, gain, depth and resamples.
        baseline: The system that the others are compared with; the first one when absent.
        data: The templates `item_text` and `query_text`, `complete` (the qrels name every relevant
            item, so that an absent pair has grade 0), and what channels read.
        mine: The settings of channels.
        max_length: Tokens that a tower reads; the model's own limit when absent.
        seed: Decides the resamples.

    Returns:
        The metrics (`tables.METRICS`) and the per-query values (`tables.PER_QUERY`).

    Raises:
        InputError: If a table is faulty, no query has grades, no grade is 3 or more, or a run
            names unknown items or none of the queries.
        ConfigError: If the baseline is not one of the systems.
    """
    config, data = config or EvaluateConfig(), data or DataConfig()
    baseline = _baseline(systems, baseline)
    items = tables.validate(items, tables.ITEMS)
    queries = tables.validate(queries, tables.QUERIES)
    qrels = tables.validate(qrels, QRELS)
    judged = queries.join(_usable(qrels, queries), on="query_id", how="semi")
    items = items.with_columns(render(data.item_text, items.schema, "data.item_text"))
    judged = judged.with_columns(render(data.query_text, judged.schema, "data.query_text"))
    ready = {
        name: _checked_run(system, items, judged, name)
        for name, system in systems.items()
        if isinstance(system, pl.DataFrame)
    }
    find = partial(retrieve, depth=config.depth, max_length=max_length, mine=mine, data=data)
    scored = []
    for name, system in systems.items():
        run = find(system, items, judged) if isinstance(system, str) else ready[name]
        scored.append(score_run(run, qrels, queries, config, complete=data.complete, system=name))
    per_query = pl.concat(scored)
    _say_left_out(qrels, queries, items)
    return summarise(per_query, baseline, config, seed), per_query


def score_run(
    run: pl.DataFrame,
    qrels: pl.DataFrame,
    queries: pl.DataFrame,
    config: EvaluateConfig,
    *,
    complete: bool = False,
    system: str = "run",
) -> pl.DataFrame:
    """Measure one run on every query that has grades; see `trivium.domain.measures`.

    Args:
        run: Columns query_id, item_id, rank and, where ranks tie, score; a pair once.
        qrels: Columns query_id, item_id, grade; a pair once.
        queries: Columns query_id and, where known, segment.
        config: Cut-off, gain and depth.
        complete: Whether a pair that the qrels lack has grade 0.
        system: The run's name.

    Returns:
        `tables.PER_QUERY`, sorted by query_id and then as `measure_names`.

    Raises:
        InputError: If no query has grades, or no grade is 3 or more.
    """
    table = measure(
        run,
        _usable(qrels, queries),
        cutoff=config.cutoff,
        depth=config.depth,
        gain=config.gain,
        complete=complete,
    )
    if "segment" not in queries.columns:
        queries = queries.with_columns(segment=pl.lit(None, pl.String))
    return table.join(
        queries.select("query_id", "segment"), on="query_id", how="left", maintain_order="left"
    ).select(pl.lit(system).alias("system"), "query_id", "segment", "measure", "value")


def summarise(
    per_query: pl.DataFrame, baseline: str, config: EvaluateConfig, seed: int = 0
) -> pl.DataFrame:
    """Average over queries: means with 95% bootstrap intervals, p-values against the baseline.

    The p-values are of the two-sided paired randomisation test, not corrected for the number of
    systems; `gains` has the corrected ones.

    Args:
        per_query: `tables.PER_QUERY` of all systems on the same queries.
        baseline: The system that the others are compared with; its own p-value is null.
        config: Cut-off and depth, for the order of the rows, and resamples.
        seed: Decides the resamples.

    Returns:
        `tables.METRICS`, sorted by segment (`all`, head, torso, tail), by measure as in
        `measure_names`, then the baseline before the others by name. A segment without queries has
        no rows, and the interval of a single query is null.

    Raises:
        InputError: If the baseline is not there, or the systems do not cover the same queries.
    """
    rows: list[dict[str, Any]] = []
    for cell in significance.cells(per_query, baseline, config.resamples, seed):
        interval = significance.mean_interval(cell.values, cell.means)
        for column, system in enumerate(cell.systems):
            estimates = {
                "value": interval.value[column],
                "ci_low": interval.low[column],
                "ci_high": interval.high[column],
                "p_value": cell.p_values[column] if column else None,
            }
            rows.append(cell.row(system) | estimates)
    return _table(rows, tables.METRICS, config)


def gains(
    per_query: pl.DataFrame, baseline: str, config: EvaluateConfig, seed: int = 0
) -> pl.DataFrame:
    """Paired differences of every system from the baseline.

    Args:
        per_query: `tables.PER_QUERY` of all systems on the same queries.
        baseline: The system that the others are compared with.
        config: Cut-off and depth, for the order of the rows, and resamples.
        seed: Decides the resamples; the p-values are those of `summarise` with the same seed.

    Returns:
        `GAINS`: the difference and the relative gain (a share of the baseline's mean, null where
        that is 0) with 95% bootstrap intervals, the p-value, and `p_holm`, the p-value corrected
        by Holm for all the systems compared in that segment and measure.

    Raises:
        InputError: As `summarise`.
    """
    rows: list[dict[str, Any]] = []
    for cell in significance.cells(per_query, baseline, config.resamples, seed):
        difference = significance.difference_interval(cell.values, cell.means, baseline=0)
        relative = significance.relative_interval(cell.values, cell.means, baseline=0)
        corrected = significance.holm(cell.p_values[1:])
        for column, system in enumerate(cell.systems[1:], start=1):
            estimates = {
                "difference": difference.value[column],
                "ci_low": difference.low[column],
                "ci_high": difference.high[column],
                "relative": relative.value[column],
                "relative_low": relative.low[column],
                "relative_high": relative.high[column],
                "p_value": cell.p_values[column],
                "p_holm": corrected[column - 1],
            }
            rows.append(cell.row(system) | estimates)
    return _table(rows, GAINS, config)


def retrieve(
    system: str,
    items: pl.DataFrame,
    queries: pl.DataFrame,
    *,
    depth: int = 100,
    max_length: int | None = None,
    mine: MineConfig | None = None,
    data: DataConfig | None = None,
    cache: Path | None = None,
) -> pl.DataFrame:
    """Search the full catalog with a tower or a channel.

    Args:
        system: A tower as `resolve_model` takes it, or `channel:NAME`.
        items: Columns item_id and text, one row an item, and what fields a channel reads.
        queries: Columns query_id and text, one row a query.
        depth: Items retrieved for a query.
        max_length: Tokens that a tower reads; the model's own limit when absent.
        mine: The settings of channels.
        data: What channels read, such as synonyms.
        cache: Where a tower's vectors of the items are kept; nowhere when absent.

    Returns:
        Columns query_id, item_id, rank, score, sorted by query_id and rank; ties are broken by
        (-score, item_id), and a query that finds nothing has no rows.
    """
    items, queries = items.sort("item_id"), queries.sort("query_id")
    if system.startswith(CHANNEL_PREFIX):
        from trivium.adapters.channels import build_channel

        config = mine or MineConfig()
        settings = config.channel(system.removeprefix(CHANNEL_PREFIX))
        channel = build_channel(settings, items, config, data or DataConfig())
        run = channel.search(queries, depth)
    else:
        from trivium.adapters import towers
        from trivium.adapters.text_vectors import KeptTower

        tower = KeptTower.load(system, max_length, cache)
        run = towers.retrieve(tower, queries, items, depth)
    return run.select(list(RUN.columns)).sort("query_id", "rank")


def _table(
    rows: list[dict[str, Any]], schema: tables.Schema, config: EvaluateConfig
) -> pl.DataFrame:
    measures = list(measure_names(config.cutoff, config.depth))
    frame = pl.DataFrame(rows, schema=dict(schema.columns))
    frame = frame.with_columns(pl.selectors.float().fill_nan(None))
    measures += sorted(set(frame["measure"]) - set(measures))
    return frame.sort(
        pl.col("segment").cast(pl.Enum(significance.SEGMENTS)),
        pl.col("measure").cast(pl.Enum(measures)),
        maintain_order=True,
    )


def _baseline(systems: Mapping[str, Any], baseline: str | None) -> str:
    names = list(systems)
    chosen = names[0] if names and baseline is None else baseline
    if chosen is None or chosen not in systems:
        raise ConfigError.of(
            "evaluate: baseline",
            got=f"{chosen!r} and the systems {', '.join(names) or '(none)'}",
            expected="one of the systems",
            fix="give at least one system, and name one of them as the baseline",
        )
    return chosen


def _usable(qrels: pl.DataFrame, queries: pl.DataFrame) -> pl.DataFrame:
    """The judgments of these queries, checked for something to measure."""
    shared = qrels.join(queries.select("query_id"), on="query_id", how="semi")
    if shared.is_empty():
        raise InputError.of(
            "qrels: column 'query_id'",
            got=f"{qrels['query_id'].n_unique()} queries, none of them among the "
            f"{len(queries)} to test",
            expected="grades of the test queries",
            fix="check that both tables use the same query ids",
        )
    if not (shared["grade"] >= tables.RELEVANT).any():
        raise InputError.of(
            "qrels: column 'grade'",
            got=f"{len(shared)} grades on the test queries, all below {tables.RELEVANT}",
            expected=f"some grade of {tables.RELEVANT} or {tables.GRADES[-1]}, which mean relevant",
            fix="map the relevant grades to 3 and 4 before the table is read",
        )
    return shared


def _checked_run(
    run: pl.DataFrame, items: pl.DataFrame, queries: pl.DataFrame, name: str
) -> pl.DataFrame:
    run = tables.validate(run, RUN, where=f"run '{name}'")
    unknown = run.join(items, on="item_id", how="anti")["item_id"].unique().sort()
    if len(unknown):
        raise InputError.of(
            f"run '{name}': column 'item_id'",
            got=f"{len(unknown)} items that the catalog lacks, such as {unknown[0]!r}",
            expected="items of the catalog",
            fix="add these items to the catalog, or make the run from this catalog",
        )
    if run.join(queries, on="query_id", how="semi").is_empty():
        raise InputError.of(
            f"run '{name}': column 'query_id'",
            got=f"{run['query_id'].n_unique()} queries, none of them among the {len(queries)} "
            "with grades",
            expected="results for the test queries",
            fix="check that run and queries use the same query ids",
        )
    return run


def _say_left_out(qrels: pl.DataFrame, queries: pl.DataFrame, items: pl.DataFrame) -> None:
    counts = left_out(qrels, queries)
    say(
        f"  {len(queries) - counts['unjudged']} of {len(queries)} queries have grades; nDCG leaves "
        f"out {counts['no gain']} (every grade 0), recall {counts['no relevant item']} (no grade "
        f"of {tables.RELEVANT} or more)"
    )
    absent = len(_usable(qrels, queries).join(items, on="item_id", how="anti"))
    if absent:
        say(f"  {absent} graded pairs name items that the catalog lacks; the ideal counts them")
