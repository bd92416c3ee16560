"""The stages as functions on polars or pandas DataFrames, each usable alone.

A table that comes in as pandas goes out as pandas. Ids may be numbers; what goes out names them as
strings. Settings are those that the stage reads of `trivium.toml`, as keywords; what is not named
keeps its default.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from trivium.adapters.models import model_fingerprint
from trivium.api.annotation import annotate as annotate
from trivium.api.arguments import (
    Frame,
    as_given,
    as_polars,
    candidates_table,
    check_known,
    configure,
    labels_table,
    with_model_texts,
)
from trivium.api.explaining import explain as explain
from trivium.api.exporting import export_examples as export_examples
from trivium.api.exporting import export_model as export_model
from trivium.api.overlaps import compare_runs as compare_runs
from trivium.api.overlaps import overlap as overlap
from trivium.domain.judgments import consensus
from trivium.domain.splits import with_parts, with_segments
from trivium.foundation import tables
from trivium.foundation.console import say
from trivium.foundation.errors import InputError, WorkspaceError
from trivium.foundation.workspace import Plan, StageFolder, fingerprint_table

if TYPE_CHECKING:
    from trivium.simulation.marketplace import Marketplace


def split(queries: Frame, judgments: Frame, *, random_state: int = 0, **settings: Any) -> Frame:
    """Give each query its part: seed, calibration, agreement, train, validation or test.

    Args:
        queries: query_id, query; frequency, segment and part if there are any.
        judgments: query_id, item_id, grade.
        random_state: Seed of the deal; the keyword `seed` is a share, as in `[split]`.
        **settings: Settings of `[split]`, and head_share and torso_share of `[data]`.

    Returns:
        The queries with the columns segment and part. Training queries that have the words of a
        query held out are left out.

    Raises:
        InputError: If a table is faulty.
        ConfigError: If the shares are.
    """
    config = configure("split", random_state, settings)
    asked = tables.validate(as_polars(queries), tables.QUERIES)
    judged = tables.validate(as_polars(judgments), tables.JUDGMENTS)["query_id"].unique()
    asked = with_segments(asked, config.data.head_share, config.data.torso_share)
    dealt = with_parts(asked, judged, config.split, random_state)
    return as_given(queries, dealt.filter(pl.col("part").is_not_null()))


def mine(items: Frame, queries: Frame, *, seed: int = 0, **settings: Any) -> Frame:
    """Search every channel for every query; with a column `part`, for those of `train` alone.

    Args:
        items: item_id, title and any further fields.
        queries: query_id, query; frequency and segment if there are any.
        seed: Seed of the samples.
        **settings: Settings of `[mine]`, such as model and depth, its `queries` called `sample`;
            query_text, item_text, synonyms and the shares of the segments of `[data]`; the band
            and max_negatives of `[examples]`.

    Returns:
        Candidates: query_id, item_id, rank_<channel>, score_<channel>, channels, tfidf.

    Raises:
        InputError: If a table is faulty, or no query is left to mine.
        ConfigError: If a setting is.
        DependencyError: If the model is not there.
    """
    from trivium.pipeline.queries_to_mine import queries_to_mine
    from trivium.stages import mine as stage

    config = configure("mine", seed, settings)
    catalog, asked = with_model_texts(items, queries, config)
    asked = with_segments(_of_part(asked, "train"), config.data.head_share, config.data.torso_share)
    chosen = queries_to_mine(asked, catalog, config.mine, seed, config.data.synonyms)
    for line in chosen.summary:
        say(line)
    mined = stage.mine(
        catalog.drop("judge_text"),
        chosen.queries,
        config.mine,
        config.data,
        token_similar=4 * config.examples.max_negatives,
        band=(config.examples.tfidf_low, config.examples.tfidf_high),
        seed=seed,
        shard=config.run.shard,
    )
    return as_given(queries, mined)


def build_examples(
    candidates: Frame,
    labels: Frame,
    items: Frame,
    queries: Frame,
    judgments: Frame,
    *,
    seed: int = 0,
    **settings: Any,
) -> Frame:
    """Make examples of the five levels, and of the human grades of the seed queries.

    Args:
        candidates: From `mine`.
        labels: From `annotate`.
        items: item_id, title.
        queries: query_id, query, and part; without parts no human grade becomes an example.
        judgments: query_id, item_id, grade.
        seed: Seed of the random negatives.
        **settings: Settings of `[examples]`, and lexical and dense of `[mine]`.

    Returns:
        Examples: query_id, item_id, level, grade, p_relevant, p_irrelevant, expected_grade,
        confidence, source, reason.

    Raises:
        InputError: If a table is faulty, or a candidate names an unknown item or query.
        ConfigError: If a setting is faulty.
    """
    from trivium.stages import examples as stage

    config = configure("build_examples", seed, settings, candidates)
    catalog = tables.validate(as_polars(items), tables.ITEMS)
    asked = tables.validate(as_polars(queries), tables.QUERIES)
    pairs = check_known(candidates_table(candidates), "candidates", catalog, asked)
    seeds = asked.filter(pl.col("part") == "seed") if "part" in asked.columns else asked.clear()
    grades = consensus(tables.validate(as_polars(judgments), tables.JUDGMENTS))
    query_ids = pl.concat([pairs["query_id"], seeds["query_id"]]).unique().to_list()
    made, _left_out = stage.build_examples(
        query_ids,
        catalog["item_id"].sort().to_list(),
        pairs,
        labels_table(labels),
        grades.join(seeds.select("query_id"), on="query_id", how="semi"),
        config.examples.for_catalog(len(catalog)),
        config.mine,
        seed,
    )
    return as_given(candidates, made)


def train(
    examples: Frame,
    items: Frame,
    queries: Frame,
    judgments: Frame,
    *,
    output: Path | str,
    model: str | None = None,
    seed: int = 0,
    **settings: Any,
) -> str:
    """Train a tower through the curriculum.

    Args:
        examples: From `build_examples`.
        items: item_id, title and any further fields.
        queries: query_id, query, part: those of `validation` choose the checkpoints.
        judgments: query_id, item_id, grade of the validation queries among others.
        output: Folder for the checkpoints; the model lies in its subfolder `model`. A rerun
            carries on where a killed one stopped.
        model: Tower to start from; the default of `[mine]` when absent.
        seed: Seed of the order of the rows and of dropout.
        **settings: Settings of `[train]`, such as recipe and scale; query_text, item_text and
            complete of `[data]`; cutoff and gain of `[evaluate]`.

    Returns:
        The folder of the trained model, which sentence-transformers loads.

    Raises:
        InputError: If a table is faulty, an example names an unknown item or query, there is no
            validation query, or nothing to train on.
        ConfigError: If a setting is faulty.
        WorkspaceError: If the folder holds a training on other examples or with other settings.
    """
    from trivium.adapters.models import resolve_model
    from trivium.stages import train as stage

    config = configure("train", seed, {**settings, "model": model})
    catalog, asked = with_model_texts(items, queries, config)
    if "part" not in asked.columns:
        raise InputError.of(
            "queries: column 'part'",
            got="no such column",
            expected="parts, so that validation queries are known",
            fix="queries = trivium.split(queries, judgments)",
        )
    made = tables.validate(as_polars(examples), tables.EXAMPLES)
    made = check_known(made, "examples", catalog, asked)
    grades = consensus(tables.validate(as_polars(judgments), tables.JUDGMENTS))
    start = resolve_model(config.train.model or config.mine.model)
    read = {"examples": made, "items": catalog, "queries": asked, "judgments": grades}
    used = {
        **config.train.model_dump(mode="json"),
        "cutoff": config.evaluate.cutoff,
        "gain": config.evaluate.gain,
        "complete": config.data.complete,
    }
    _claim(Path(output), "train", start, used, seed, read)
    validation = partial(
        stage.validation_set,
        asked,
        catalog,
        grades,
        config.train,
        config.evaluate,
        complete=config.data.complete,
        seed=seed,
        start=start,
    )
    trained = stage.train(
        [made],
        catalog,
        asked,
        validation,
        config.train,
        start,
        Path(output),
        seed,
    )
    return str(trained.model)


def evaluate(
    systems: Mapping[str, str | Frame],
    items: Frame,
    queries: Frame,
    judgments: Frame,
    *,
    max_length: int | None = None,
    seed: int = 0,
    **settings: Any,
) -> Frame:
    """Measure systems over the full catalog, each against the first one.

    Args:
        systems: Name to a tower (folder or hub name), a channel (`channel:bm25`) or a run.
        items: item_id, title and any further fields.
        queries: query_id, query; with a column `part`, those of `test` alone are measured.
        judgments: query_id, item_id, grade.
        max_length: Tokens that towers read of a text; each model's own limit when absent.
        seed: Seed of the resamples.
        **settings: Settings of `[evaluate]`; query_text, item_text, complete and synonyms of
            `[data]`; model of `[mine]`, for `channel:dense`.

    Returns:
        Metrics: system, segment, measure, value, ci_low, ci_high, p_value, queries.

    Raises:
        InputError: If a table is faulty, or there is nothing to measure.
        ConfigError: If a setting is faulty.
        DependencyError: If a model is not there.
    """
    from trivium.stages import evaluate as stage

    config = configure("evaluate", seed, {**settings, "max_length": max_length})
    asked = _of_part(tables.validate(as_polars(queries), tables.QUERIES), "test")
    grades = consensus(tables.validate(as_polars(judgments), tables.JUDGMENTS))
    grades = grades.join(asked.select("query_id"), on="query_id", how="semi")
    metrics, _per_query = stage.evaluate(
        {name: s if isinstance(s, str) else as_polars(s) for name, s in systems.items()},
        as_polars(items),
        asked,
        grades,
        config.evaluate,
        data=config.data,
        mine=config.mine,
        max_length=max_length,
        seed=seed,
    )
    return as_given(queries, metrics)


def simulate(
    items: int = 2000, queries: int = 600, *, seed: int = 0, **options: Any
) -> Marketplace:
    """Make a simulated marketplace; see `trivium.simulation.marketplace.simulate`."""
    from trivium.simulation.marketplace import simulate as make

    return make(items=items, queries=queries, seed=seed, **options)


def _claim(
    place: Path,
    stage: str,
    model: str,
    settings: Mapping[str, Any],
    seed: int,
    read: Mapping[str, pl.DataFrame],
) -> None:
    """Take a folder for a fit, or go on with the same one."""
    tables_read = {name: fingerprint_table(table) for name, table in read.items()}
    plan = Plan(
        stage,
        settings={**settings, "seed": seed},
        inputs={"model": model_fingerprint(model), **tables_read},
    )
    folder = StageFolder(place)
    state, why = folder.state(plan)
    if state == "stale":
        raise WorkspaceError.of(
            str(place),
            got=f"another fit ({'; '.join(why)})",
            expected="a new folder, or the one of the same fit",
            fix="name another folder",
        )
    folder.begin(plan, overwrite=False)


def _of_part(queries: pl.DataFrame, part: str) -> pl.DataFrame:
    return queries.filter(pl.col("part") == part) if "part" in queries.columns else queries
