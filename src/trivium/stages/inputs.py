"""Read and check the user's tables, write their texts, and deal the queries into parts.

In: the files that `[data]` names. Out: items (with text and judge_text), queries (with text,
judge_text, segment and part), judgments and qrels (one grade a pair).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import polars as pl

from trivium.adapters.files import names_of, read_files
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
    if errors := [*unread, *unsound, *unfit]:
        raise combined(errors)
    return _made(RawTables(**sound), config)


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
    return Inputs(
        items=with_texts(raw.items, config.data, "item").sort("item_id"),
        queries=queries.select(names),
        judgments=judgments,
        qrels=qrels,
        set_aside={"same words as a query held out": leaks} if leaks else {},
    )


def _read(
    name: str, data: DataConfig, schema: tables.Schema, mapping: Mapping[str, str]
) -> pl.DataFrame:
    paths = getattr(data, name)
    if paths:
        return read_files(paths, mapping)
    if name == "qrels":
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
            steps[name] = partial(_check_texts, sound[name], name, column)
            steps[f"{side} text"] = partial(with_texts, sound[name], data, side)
    return _each(steps)[1]


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


def check_ids(name: str, read: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return a table of pairs, all of whose ids must be those of the tables of queries and items.

    Args:
        name: Which of `read` it is.
        read: Tables by name, `queries` and `items` among them; a column that either side lacks is
            for other checks to report.

    Raises:
        InputError: If some ids are unknown.
    """
    judgments, faults = read[name], []
    for column, other in (("query_id", "queries"), ("item_id", "items")):
        if other not in read or any(column not in read[table].columns for table in (name, other)):
            continue
        orphans = _orphans(judgments[column], read[other][column])
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


def _orphans(ids: pl.Series, known: pl.Series) -> pl.Series:
    ids = tables.converted(ids, pl.String)
    known = tables.converted(known, pl.String).drop_nulls()
    return ids.filter(~ids.is_in(known.implode())) if len(known) else ids.clear()


def with_texts(table: pl.DataFrame, data: DataConfig, side: str) -> pl.DataFrame:
    """Write the texts that towers (text) and judges (judge_text) read.

    Args:
        table: Items or queries, their id in the first column.
        data: The templates.
        side: `item` or `query`.

    Raises:
        InputError: If a template names a field that is absent, or leaves a row without text.
    """
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
