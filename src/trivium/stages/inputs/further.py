"""Graded pairs of other catalogs: judges learn from them, on the same scale of grades.

In: the files that `[[data.further]]` names. Out: query_text, item_text, grade, catalog.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from trivium.adapters.files import names_of, read_files
from trivium.domain.judgments import consensus
from trivium.foundation import tables
from trivium.foundation.errors import InputError
from trivium.foundation.sections import CatalogConfig
from trivium.foundation.text import render, word_set
from trivium.stages.inputs.checks import check_ids

_HELD_OUT = ("calibration", "tuning", "agreement", "validation", "test")


def read_further(catalogs: Sequence[CatalogConfig]) -> pl.DataFrame:
    """Read the graded pairs of other catalogs.

    Returns:
        `tables.TEACHING`, catalogs numbered from 0 as configured; sorted by all columns.

    Raises:
        InputError: If a file is faulty, or a judgment names an unknown item or query.
        ConfigError: If a template names a field that is absent.
    """
    read = [_read(catalog, at) for at, catalog in enumerate(catalogs)]
    return pl.concat([tables.empty(tables.TEACHING), *read]).sort(pl.all())


def without_held_out(further: pl.DataFrame, queries: pl.DataFrame) -> pl.DataFrame:
    """Leave out pairs whose query has the words of one that is held out from teaching.

    Args:
        further: What `read_further` gave.
        queries: Columns query, judge_text and part.
    """
    if further.is_empty():
        return further
    held_out = queries.filter(pl.col("part").is_in(_HELD_OUT))
    words = pl.concat(
        [
            held_out.select(word_set("query").alias("words")),
            held_out.select(word_set("judge_text").alias("words")),
        ]
    ).to_series()
    same = [word_set(column).is_in(words.implode()) for column in ("query", "query_text")]
    return further.filter(~pl.any_horizontal(same))


def _read(catalog: CatalogConfig, number: int) -> pl.DataFrame:
    schemas = {
        "items": (tables.ITEMS, catalog.columns.items),
        "queries": (tables.QUERIES, catalog.columns.queries),
        "judgments": (tables.JUDGMENTS, catalog.columns.judgments),
    }
    read = {}
    for name, (schema, mapping) in schemas.items():
        paths = getattr(catalog, name)
        read[name] = tables.validate(read_files(paths, mapping), schema, names_of(paths))
    where = f"data.further[{number}]"
    graded = consensus(check_ids(where, {**read, where: read["judgments"]}))
    query = render(catalog.judge_query_text, read["queries"].schema, f"{where}.judge_query_text")
    item = render(catalog.judge_item_text, read["items"].schema, f"{where}.judge_item_text")
    asked = read["queries"].select("query_id", "query", query.alias("query_text"))
    offered = read["items"].select("item_id", item.alias("item_text"))
    pairs = graded.join(asked, on="query_id").join(offered, on="item_id")
    blank = pairs.filter((pl.col("query_text") == "") | (pl.col("item_text") == ""))
    if blank.height:
        raise InputError.of(
            where,
            got=f"an empty text for {blank.height} graded pair(s), such as {blank.row(0)[:2]}",
            expected="a text for every query and item",
            fix="name a field that every row has in judge_query_text and judge_item_text",
        )
    return pairs.with_columns(pl.lit(number, dtype=pl.Int32).alias("catalog")).select(
        list(tables.TEACHING.columns)
    )
