"""Graded pairs of other catalogs: read, checked, and kept from leaking what is held out."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from trivium.foundation.errors import ConfigError, InputError
from trivium.foundation.sections import CatalogConfig
from trivium.foundation.tables import TEACHING
from trivium.stages.inputs.further import read_further, without_held_out

ITEMS = {"item_id": ["1", "2"], "title": ["Red mug", "Hose"], "brand": ["Acme", ""]}
QUERIES = {"query_id": ["a", "b"], "query": ["mug, red", "garden hose"]}
JUDGMENTS = {"query_id": ["a", "a", "b"], "item_id": ["1", "2", "2"], "grade": [4, 0, 3]}


@pytest.fixture
def other(tmp_path: Path):
    def write(judgments=JUDGMENTS, **settings):
        tables = {"items": ITEMS, "queries": QUERIES, "judgments": judgments}
        for name, table in tables.items():
            pl.DataFrame(table).write_csv(tmp_path / f"{name}.csv")
        files = {name: [tmp_path / f"{name}.csv"] for name in tables}
        return CatalogConfig(**files, **settings)

    return write


def test_pairs_are_read_with_the_texts_of_their_catalog(other):
    read = read_further([other(), other(judge_item_text=["{title}", "brand: {brand}"])])
    assert dict(read.schema) == dict(TEACHING.columns)
    assert read.height == 6
    second = read.filter(pl.col("catalog") == 1)
    assert set(second["item_text"]) == {"Red mug brand: Acme", "Hose"}
    assert read_further([]).is_empty()


def test_a_query_that_is_held_out_teaches_from_nowhere_whatever_its_template(other):
    read = read_further([other(judge_query_text=["the query is {query}"])])
    parts = ["agreement", "seed"]
    held_out = pl.DataFrame({"query": ["RED mug", "garden hose"], "part": parts})
    kept = without_held_out(read, held_out.with_columns(judge_text="query"))
    assert kept["query"].unique().to_list() == ["garden hose"]


def test_unknown_ids_empty_texts_and_absent_fields_are_told(other):
    with pytest.raises(InputError, match=r"data\.further\[0\]"):
        read_further([other(judgments={"query_id": ["z"], "item_id": ["1"], "grade": [1]})])
    with pytest.raises(InputError, match="an empty text for 2 graded"):
        read_further([other(judge_item_text=["{brand}"])])
    with pytest.raises(ConfigError, match="colour"):
        read_further([other(judge_item_text=["{colour}"])])
