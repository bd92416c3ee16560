"""Read and check the user's tables, write their texts, and deal the queries into parts.

In: the files that `[data]` names. Out: items (with text and judge_text), queries (with text,
judge_text, segment and part), judgments and qrels (one grade a pair), ratings (the judgments rater
by rater), further (the graded pairs of other catalogs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import polars as pl

from trivium.adapters.files import names_of, read_files
from trivium.domain.judgments import consensus
from trivium.domain.splits import with_parts, with_segments
from trivium.foundation import tables
from trivium.foundation.config import Config, DataConfig
from trivium.foundation.errors import InputError, TriviumError, combined
from trivium.stages.inputs.checks import check_ids, check_texts, with_texts
from trivium.stages.inputs.further import read_further, without_held_out

TABLES = ("items", "queries", "judgments", "qrels", "ratings", "further")


@dataclass(frozen=True)
class Inputs:
    """The checked tables.

    Attributes:
        items: item_id, title, text (towers and channels), judge_text, and the user's fields.
        queries: query_id, query, text, judge_text, frequency, segment, part.
        judgments: query_id, item_id, grade, one row a pair: the human grades that may teach.
        qrels: query_id, item_id, grade, one row a pair: the grades of validation and test.
        ratings: query_id, item_id, grade, rater: the judgments that name their raters.
        further: query_text, item_text, grade, catalog: graded pairs of other catalogs.
        set_aside: Reason to number of queries (of other catalogs: pairs) that take no part.
    """

    items: pl.DataFrame
    queries: pl.DataFrame
    judgments: pl.DataFrame
    qrels: pl.DataFrame
    ratings: pl.DataFrame
    further: pl.DataFrame
    set_aside: dict[str, int]

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """The tables by name."""
        return {name: getattr(self, name) for name in TABLES}


@dataclass(frozen=True)
class RawTables:
    """The user's tables as they came, each valid by itself."""

    items: pl.DataFrame
    queries: pl.DataFrame
    judgments: pl.DataFrame
    qrels: pl.DataFrame
    further: pl.DataFrame = field(default_factory=partial(tables.empty, tables.TEACHING))


def read_inputs(config: Config) -> Inputs:
    """Read the files of a configuration; see `prepare`.

    Raises:
        TriviumError: With every fault found in any table, not only the first.
    """
    sources = {
        "items": (tables.ITEMS, config.data.columns.items),
        "queries": (tables.QUERIES, config.data.columns.queries),
        "judgments": (tables.JUDGMENTS, config.data.columns.judgments),
        "qrels": (tables.JUDGMENTS, config.data.columns.judgments),
    }
    read, unread = _each(
        {name: partial(_read, name, config.data, *source) for name, source in sources.items()}
    )
    sound, unsound = _each(
        {
            name: partial(tables.validate, table, sources[name][0], _where(name, config.data))
            for name, table in read.items()
        }
    )
    unfit = _unfit(read | sound, sound, config.data)
    further, unusable = _each({"further": partial(read_further, config.data.further)})
    if errors := [*unread, *unsound, *unfit, *unusable]:
        raise combined(errors)
    return _made(RawTables(**sound, **further), config)


def prepare(raw: RawTables, config: Config) -> Inputs:
    """Check tables against one another and make of them what the stages read.

    Raises:
        TriviumError: With every fault found.
    """
    if errors := _unfit(vars(raw), vars(raw), config.data):
        raise combined(errors)
    return _made(raw, config)


def _made(raw: RawTables, config: Config) -> Inputs:
    judgments = consensus(raw.judgments)
    qrels = consensus(raw.qrels) if raw.qrels.height else judgments
    queries = with_segments(raw.queries, config.data.head_share, config.data.torso_share)
    queries = with_parts(
        queries,
        judgments["query_id"].unique(),
        config.split,
        config.run.seed,
        qrels["query_id"].unique(),
    )
    leaks = queries["part"].null_count()
    queries = with_texts(queries.filter(pl.col("part").is_not_null()), config.data, "query")
    names = ["query_id", "query", "text", "judge_text", "frequency", "segment", "part"]
    further = without_held_out(raw.further, queries)
    set_aside = {
        "same words as a query held out": leaks,
        "pairs of other catalogs with the words of a query held out": raw.further.height
        - further.height,
    }
    return Inputs(
        items=with_texts(raw.items, config.data, "item").sort("item_id"),
        queries=queries.select(names),
        judgments=judgments,
        qrels=qrels,
        ratings=_ratings(raw.judgments),
        further=further,
        set_aside={why: count for why, count in set_aside.items() if count},
    )


def _ratings(judgments: pl.DataFrame) -> pl.DataFrame:
    if "rater" not in judgments.columns:
        return tables.empty(tables.JUDGMENTS)
    return judgments.filter(pl.col("rater").is_not_null()).sort("query_id", "item_id", "rater")


def _read(
    name: str, data: DataConfig, schema: tables.Schema, mapping: Mapping[str, str]
) -> pl.DataFrame:
    paths = getattr(data, name)
    if paths:
        return read_files(paths, mapping)
    if name in {"judgments", "qrels"}:
        return tables.empty(schema)
    raise InputError.of(
        f"data.{name}", got="no file", expected="at least one", fix=f"set data.{name}"
    )


def _where(name: str, data: DataConfig) -> str:
    return names_of(getattr(data, name)) or name


def _each(
    steps: Mapping[str, Callable[[], pl.DataFrame]],
) -> tuple[dict[str, pl.DataFrame], list[TriviumError]]:
    """Take every step, whatever the others raise."""
    made: dict[str, pl.DataFrame] = {}
    errors: list[TriviumError] = []
    for name, step in steps.items():
        try:
            made[name] = step()
        except TriviumError as error:
            errors.append(error)
    return made, errors


def _unfit(
    read: Mapping[str, pl.DataFrame], sound: Mapping[str, pl.DataFrame], data: DataConfig
) -> list[TriviumError]:
    """What is wrong between the tables that could be read, and with the texts of sound ones."""
    steps: dict[str, Callable[[], pl.DataFrame]] = {
        name: partial(check_ids, name, read) for name in ("judgments", "qrels") if name in read
    }
    for name, column, side in (("items", "title", "item"), ("queries", "query", "query")):
        if name in sound:
            steps[name] = partial(check_texts, sound[name], name, column)
            steps[f"{side} text"] = partial(with_texts, sound[name], data, side)
    return _each(steps)[1]
