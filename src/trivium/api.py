"""The stages as functions on polars or pandas DataFrames, each usable alone.

A table that comes in as pandas goes out as pandas. Settings are those of the stage's section in
`trivium.toml`, as keywords; what is not named keeps its default.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl

from trivium.adapters.models import model_fingerprint
from trivium.domain.judgments import consensus
from trivium.domain.splits import with_parts, with_segments
from trivium.foundation import tables
from trivium.foundation.config import Config, parse_config
from trivium.foundation.errors import InputError, WorkspaceError
from trivium.foundation.text import render
from trivium.foundation.workspace import Plan, StageFolder, fingerprint_table

if TYPE_CHECKING:
    import pandas as pd

    from trivium.simulation.marketplace import Marketplace

    Frame: TypeAlias = pl.DataFrame | pd.DataFrame
else:
    Frame = Any


def split(
    queries: Frame, judgments: Frame, *, seed: int = 0, **shares: float
) -> Frame:  # one row a query
    """Give each query its part: seed, calibration, agreement, train, validation or test.

    Args:
        queries: query_id, query; frequency, segment and part if there are any.
        judgments: query_id, item_id, grade.
        seed: Seed of the deal.
        **shares: Settings of the section `[split]`.

    Returns:
        The queries with the columns segment and part. Training queries that have the words of a
        query held out are left out.

    Raises:
        InputError: If a table is faulty.
        ConfigError: If the shares are.
    """
    config = _config(seed, split=shares)
    asked = tables.validate(_polars(queries), tables.QUERIES)
    judged = tables.validate(_polars(judgments), tables.JUDGMENTS)["query_id"].unique()
    asked = with_segments(asked, config.data.head_share, config.data.torso_share)
    dealt = with_parts(asked, judged, config.split, seed)
    return _like(queries, dealt.filter(pl.col("part").is_not_null()))


def mine(items: Frame, queries: Frame, *, seed: int = 0, **settings: Any) -> Frame:
    """Search every channel for every query; with a column `part`, for those of `train` alone.

    Args:
        items: item_id, title and any further fields.
        queries: query_id, query.
        seed: Seed of the token-similar sample.
        **settings: Settings of `[mine]`, such as model and depth, and of `[data]`, such as
            item_text.

    Returns:
        Candidates: query_id, item_id, rank_<channel>, score_<channel>, channels, tfidf.

    Raises:
        InputError: If a table is faulty.
        ConfigError: If a setting is.
        DependencyError: If the model is not there.
    """
    from trivium.stages import mine as stage

    config = _config(seed, **_sections(settings, "mine"))
    catalog, asked = _texts(items, queries, config)
    if "part" in asked.columns:
        asked = asked.filter(pl.col("part") == "train")
    mined = stage.mine(
        catalog.drop("judge_text"),
        asked,
        config.mine,
        config.data,
        token_similar=4 * config.examples.max_negatives,
        band=(config.examples.tfidf_low, config.examples.tfidf_high),
        seed=seed,
        shard=config.run.shard,
    )
    return _like(queries, mined)


def annotate(
    candidates: Frame,
    items: Frame,
    queries: Frame,
    judgments: Frame,
    *,
    seed: int = 0,
    folder: Path | str | None = None,
    **settings: Any,
) -> Frame:
    """Fit a judge on human grades and grade the candidates that some level could use.

    Args:
        candidates: From `mine`.
        items: item_id, title and any further fields.
        queries: query_id, query, and part; without parts every judged query belongs to the seed.
        judgments: query_id, item_id, grade, and rater where a pair has several.
        seed: Seed of the judge's training.
        folder: Keeps the fitted judge and its agreement with humans; forgotten when absent.
        **settings: Settings of `[annotate]`, such as model and epochs, and of `[data]`.

    Returns:
        Labels: query_id, item_id, grade, confidence, judge, tokens, p_cross_encoder.

    Raises:
        InputError: If a table is faulty, or there are too few judged queries.
    """
    from trivium.stages import annotate as stage

    config = _config(seed, **_sections(settings, "annotate"))
    catalog, asked = _texts(items, queries, config)
    graded = tables.validate(_polars(judgments), tables.JUDGMENTS)
    if "part" not in asked.columns:
        everything = config.split.model_copy(
            update={"seed": 1.0, "train": 0.0, "validation": 0.0, "test": 0.0}
        )
        with_segment = with_segments(asked, config.data.head_share, config.data.torso_share)
        asked = with_parts(with_segment, graded["query_id"].unique(), everything, seed)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(folder) if folder else Path(scratch)
        labels = stage.annotate(_candidates(candidates), catalog, asked, graded, config, place)
    return _like(candidates, labels)


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
        items: item_id.
        queries: query_id, query, and part; without parts no human grade becomes an example.
        judgments: query_id, item_id, grade.
        seed: Seed of the random negatives.
        **settings: Settings of `[examples]`.

    Returns:
        Examples: query_id, item_id, level, grade, p_relevant, p_irrelevant, source, reason.
    """
    from trivium.stages import examples as stage

    config = _config(seed, **_sections(settings, "examples"))
    asked, pairs = _polars(queries), _candidates(candidates)
    seeds = asked.filter(pl.col("part") == "seed") if "part" in asked.columns else asked.clear()
    grades = consensus(tables.validate(_polars(judgments), tables.JUDGMENTS))
    query_ids = pl.concat([pairs["query_id"], seeds["query_id"]]).unique().to_list()
    made, _left_out = stage.build_examples(
        query_ids,
        _polars(items)["item_id"].sort().to_list(),
        pairs,
        _labels(labels),
        grades.join(seeds.select("query_id"), on="query_id", how="semi"),
        config.examples,
        config.mine,
        seed,
    )
    return _like(candidates, made)


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
        **settings: Settings of `[train]`, such as recipe and scale, and of `[data]`.

    Returns:
        The folder of the trained model, which sentence-transformers loads.

    Raises:
        InputError: If there is no validation query, or nothing to train on.
        WorkspaceError: If the folder holds a training on other examples or with other settings.
    """
    from trivium.adapters.models import resolve_model
    from trivium.stages import train as stage

    config = _config(seed, **_sections({**settings, "model": model}, "train"))
    catalog, asked = _texts(items, queries, config)
    if "part" not in asked.columns:
        raise InputError.of(
            "queries: column 'part'",
            got="no such column",
            expected="parts, so that validation queries are known",
            fix="queries = trivium.split(queries, judgments)",
        )
    made = tables.validate(_polars(examples), tables.EXAMPLES)
    grades = consensus(tables.validate(_polars(judgments), tables.JUDGMENTS))
    validation = stage.validation_set(
        asked,
        catalog,
        grades,
        config.train,
        config.evaluate,
        complete=config.data.complete,
        seed=seed,
    )
    start = resolve_model(config.train.model or config.mine.model)
    _claim(Path(output), start, config, {"examples": made, "items": catalog, "judgments": grades})
    trained = stage.train(
        made,
        catalog,
        asked.join(made.select("query_id").unique(), on="query_id", how="semi"),
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
    seed: int = 0,
    **settings: Any,
) -> Frame:
    """Measure systems over the full catalog, each against the first one.

    Args:
        systems: Name to a tower (folder or hub name), a channel (`channel:bm25`) or a run.
        items: item_id, title and any further fields.
        queries: query_id, query; with a column `part`, those of `test` alone are measured.
        judgments: query_id, item_id, grade.
        seed: Seed of the resamples.
        **settings: Settings of `[evaluate]`, and of `[data]`, such as complete.

    Returns:
        Metrics: system, segment, measure, value, ci_low, ci_high, p_value, queries.
    """
    from trivium.stages import evaluate as stage

    config = _config(seed, **_sections(settings, "evaluate"))
    asked = _polars(queries)
    if "part" in asked.columns:
        asked = asked.filter(pl.col("part") == "test")
    grades = consensus(tables.validate(_polars(judgments), tables.JUDGMENTS))
    grades = grades.join(asked.select("query_id"), on="query_id", how="semi")
    metrics, _per_query = stage.evaluate(
        {name: s if isinstance(s, str) else _polars(s) for name, s in systems.items()},
        _polars(items),
        asked,
        grades,
        config.evaluate,
        data=config.data,
        mine=config.mine,
        max_length=config.train.max_length,
        seed=seed,
    )
    return _like(queries, metrics)


def simulate(
    items: int = 2000, queries: int = 600, *, seed: int = 0, **options: Any
) -> Marketplace:
    """Make a simulated marketplace; see `trivium.simulation.marketplace.simulate`."""
    from trivium.simulation.marketplace import simulate as make

    return make(items=items, queries=queries, seed=seed, **options)


def _claim(output: Path, start: str, config: Config, read: Mapping[str, pl.DataFrame]) -> None:
    """Take a folder for a training, or go on with the same one."""
    plan = Plan(
        "train",
        settings={**config.train.model_dump(mode="json"), "seed": config.run.seed},
        inputs={
            "model": model_fingerprint(start),
            **{name: fingerprint_table(table) for name, table in read.items()},
        },
    )
    folder = StageFolder(output)
    state, why = folder.state(plan)
    if state == "stale":
        raise WorkspaceError.of(
            str(output),
            got=f"another training ({'; '.join(why)})",
            expected="a new folder, or the one of the same training",
            fix="name another output",
        )
    folder.begin(plan, overwrite=False)


def _sections(settings: Mapping[str, Any], section: str) -> dict[str, dict[str, Any]]:
    """Sort keywords into the stage's own section and `[data]`."""
    from trivium.foundation.config import DataConfig

    given = {name: value for name, value in settings.items() if value is not None}
    data = {name: given.pop(name) for name in list(given) if name in DataConfig.model_fields}
    return {section: given, "data": data}


def _config(seed: int, **sections: Mapping[str, Any]) -> Config:
    raw: dict[str, Any] = {name: dict(values) for name, values in sections.items()}
    return parse_config({**raw, "run": {"seed": seed}}, where="arguments")


def _texts(items: Frame, queries: Frame, config: Config) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Check items and queries and add the texts that models read."""
    made = []
    for frame, schema, side in (
        (items, tables.ITEMS, "item"),
        (queries, tables.QUERIES, "query"),
    ):
        table = tables.validate(_polars(frame), schema)
        table = table.drop("text", "judge_text", strict=False)
        texts = [
            render(getattr(config.data, setting), table.schema, f"data.{setting}").alias(name)
            for name, setting in (
                ("text", f"{side}_text"),
                ("judge_text", f"judge_{side}_text"),
            )
        ]
        made.append(table.with_columns(texts).sort(table.columns[0]))
    return made[0], made[1]


def _candidates(frame: Frame) -> pl.DataFrame:
    table = _polars(frame)
    return tables.validate(table, tables.candidates_schema(tables.channels_of(table)))


def _labels(frame: Frame) -> pl.DataFrame:
    table = _polars(frame)
    judges = tuple(c.removeprefix("p_") for c in table.columns if c.startswith("p_"))
    return tables.validate(table, tables.labels_schema(judges))


def _polars(frame: Frame) -> pl.DataFrame:
    if isinstance(frame, pl.DataFrame):
        return frame
    return pl.from_pandas(frame)


def _like(original: Frame, result: pl.DataFrame) -> Frame:
    return result if isinstance(original, pl.DataFrame) else result.to_pandas()
