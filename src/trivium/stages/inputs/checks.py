"""What must hold of the user's tables, and the texts that are made of them."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from trivium.foundation import tables
from trivium.foundation.config import DataConfig
from trivium.foundation.errors import Fault, InputError
from trivium.foundation.text import render


def check_texts(table: pl.DataFrame, name: str, column: str) -> pl.DataFrame:
    """Return a table none of whose texts is blank.

    Raises:
        InputError: If some are.
    """
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
