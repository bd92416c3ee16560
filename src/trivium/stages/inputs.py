"""Read and check the user's tables, write their texts, and deal the queries into parts.

In: the files that `[data]` names. Out: items (with text and judge_text), queries (with text,
judge_text, segment and part), judgments and qrels (one grade a pair).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from trivium.adapters.files import read_files
from trivium.domain.judgments import consensus
from trivium.domain.splits import with_parts, with_segments
from trivium.foundation import tables
from trivium.foundation.config import Config, DataConfig
from trivium.foundation.errors import Fault, InputError, TriviumError, combined
from trivium.foundation.text import render


@dataclass(frozen=True)
class Inputs:
    """The checked tables.

    Attributes:
        items: item_id, title, text (towers and channels), judge_text, and the user's fields.
        queries: query_id, query, text, judge_text, frequency, segment, part.
        judgments: query_id, item_id, grade, one row a pair: the human grades that may teach.
        qrels: query_id, item_id, grade, one row a pair: the grades of validation and test.
        set_aside: Reason to number of queries that take no part.
    """

    items: pl.DataFrame
    queries: pl.DataFrame
    judgments: pl.DataFrame
    qrels: pl.DataFrame
    set_aside: dict[str, int]


@dataclass(frozen=True)
class RawTables:
    """The user's tables as they came, each valid by itself."""

    items: pl.DataFrame
    queries: pl.DataFrame
    judgments: pl.DataFrame
    qrels: pl.DataFrame


def read_inputs(config: Config) -> Inputs:
    """Read the files of a configuration; see `prepare`.

    Raises:
        TriviumError: With every fault found in any table, not only the first.
    """
    data, columns = config.data, config.data.columns
    judged = columns.judgments
    raw = _collect(
        {
            "items": lambda: _read("items", data.items, tables.ITEMS, columns.items),
            "queries": lambda: _read("queries", data.queries, tables.QUERIES, columns.queries),
            "judgments": lambda: _read("judgments", data.judgments, tables.JUDGMENTS, judged),
            "qrels": lambda: (
                read_files(data.qrels, tables.JUDGMENTS, judged)
                if data.qrels
                else tables.empty(tables.JUDGMENTS)
            ),
        }
    )
    return prepare(RawTables(**raw), config)


def prepare(raw: RawTables, config: Config) -> Inputs:
    """Check tables against one another and make of them what the stages read.

    Raises:
        TriviumError: With every fault found.
    """
    _collect(
        {
            "items": lambda: _check_texts(raw.items, "items", "title"),
            "queries": lambda: _check_texts(raw.queries, "queries", "query"),
            "judgments": lambda: _check_ids(raw.judgments, "judgments", raw.items, raw.queries),
            "qrels": lambda: _check_ids(raw.qrels, "qrels", raw.items, raw.queries),
            "item text": lambda: _with_texts(raw.items, config.data, "item"),
            "query text": lambda: _with_texts(raw.queries, config.data, "query"),
        }
    )
    judgments = consensus(raw.judgments)
    qrels = consensus(raw.qrels) if raw.qrels.height else judgments
    judged = pl.concat([judgments["query_id"], qrels["query_id"]]).unique()
    queries = with_segments(raw.queries, config.data.head_share, config.data.torso_share)
    queries = with_parts(queries, judged, config.split, config.run.seed)
    leaks = queries["part"].null_count()
    queries = _with_texts(queries.filter(pl.col("part").is_not_null()), config.data, "query")
    names = ["query_id", "query", "text", "judge_text", "frequency", "segment", "part"]
    return Inputs(
        items=_with_texts(raw.items, config.data, "item").sort("item_id"),
        queries=queries.select(names),
        judgments=judgments,
        qrels=qrels,
        set_aside={"same words as a query held out": leaks} if leaks else {},
    )


def _read(name: str, paths: Sequence[Path], schema: tables.Schema, mapping: Any) -> pl.DataFrame:
    if not paths:
        raise InputError.of(
            f"data.{name}", got="no file", expected="at least one", fix=f"set data.{name}"
        )
    return read_files(paths, schema, mapping)


def _collect(steps: dict[str, Callable[[], pl.DataFrame]]) -> dict[str, pl.DataFrame]:
    """Take every step, whatever the others raise; then raise all of it at once."""
    made: dict[str, pl.DataFrame] = {}
    errors: list[TriviumError] = []
    for name, step in steps.items():
        try:
            made[name] = step()
        except TriviumError as error:
            errors.append(error)
    if errors:
        raise combined(errors)
    return made


def _check_texts(table: pl.DataFrame, name: str, column: str) -> pl.DataFrame:
    blank = table.filter(pl.col(column).str.strip_chars() == "")
    if blank.height:
        raise InputError.of(
            f"{name}: column '{column}'",
            got=f"{blank.height} blank text(s), the first of id {blank[table.columns[0]][0]!r}",
            expected="a text in every row",
            fix="fill or drop these rows at the source",
        )
    return table


def _check_ids(
    judgments: pl.DataFrame, name: str, items: pl.DataFrame, queries: pl.DataFrame
) -> pl.DataFrame:
    faults = []
    for column, known in (("query_id", queries), ("item_id", items)):
        orphans = judgments.filter(~pl.col(column).is_in(known[column].implode()))[column]
        if len(orphans):
            faults.append(
                Fault(
                    f"{name}: column '{column}'",
                    got=f"{len(orphans)} row(s) with unknown ids such as {orphans[0]!r}",
                    expected=f"ids of the {column.removesuffix('_id')} table",
                    fix="drop these rows, or add what they name",
                )
            )
    if faults:
        raise InputError(*faults)
    return judgments


def _with_texts(table: pl.DataFrame, data: DataConfig, side: str) -> pl.DataFrame:
    base = {"item": "title", "query": "query"}[side]
    templates = {"text": f"{side}_text", "judge_text": f"judge_{side}_text"}
    texts = [
        render(getattr(data, setting), table.schema, f"data.{setting}").alias(name)
        for name, setting in templates.items()
    ]
    made = table.with_columns(texts)
    full = made.filter(pl.col(base).str.strip_chars() != "")
    faults = []
    for name, setting in templates.items():
        blank = full.filter(pl.col(name) == "")[table.columns[0]]
        if len(blank):
            faults.append(
                Fault(
                    f"data.{setting}",
                    got=f"an empty text for {len(blank)} row(s), the first of id {blank[0]!r}",
                    expected="a text for every row",
                    fix=f"name a field that every row has, such as {{{base}}}",
                )
            )
    if faults:
        raise InputError(*faults)
    return made
