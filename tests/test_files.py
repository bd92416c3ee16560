"""The user's files: the same table whatever the format, ids as text, columns by any name."""

from __future__ import annotations

import gzip

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from trivium.adapters.files import names_of, read_file, read_files
from trivium.foundation.errors import InputError
from trivium.foundation.tables import ITEMS, JUDGMENTS, QUERIES, validate

CATALOG = pl.DataFrame(
    {
        "item_id": ["007", "7", "B-12", "é1"],
        "title": ["1984", 'Lamp, 12" "Nord"', "Tasse à café", "007"],
        "brand": ["Acme", None, "Bolt, Co", "None"],
    }
)


def checked(paths, schema, mapping=None):
    """The files as one table that passed the check."""
    return validate(read_files(paths, mapping), schema, names_of(paths))


def gzipped(write):
    return lambda frame, path: path.write_bytes(gzip.compress(write(frame).encode()))


WRITERS = {
    "items.parquet": lambda frame, path: frame.write_parquet(path),
    "items.csv": lambda frame, path: frame.write_csv(path),
    "ITEMS.CSV": lambda frame, path: frame.write_csv(path),
    "items.tsv": lambda frame, path: frame.write_csv(path, separator="\t"),
    "items.jsonl": lambda frame, path: frame.write_ndjson(path),
    "items.ndjson": lambda frame, path: frame.write_ndjson(path),
    "items.csv.gz": gzipped(lambda frame: frame.write_csv()),
    "items.tsv.gz": gzipped(lambda frame: frame.write_csv(separator="\t")),
    "items.jsonl.gz": gzipped(lambda frame: frame.write_ndjson()),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_table(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](CATALOG, path)
    assert_frame_equal(checked([path], ITEMS), CATALOG)


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_the_names(tmp_path):
    path = tmp_path / "items.csv"
    path.write_bytes(b"\xef\xbb\xbf" + CATALOG.write_csv(line_terminator="\r\n").encode())
    assert_frame_equal(checked([path], ITEMS), CATALOG)


def test_dictionary_encoded_and_numeric_ids_become_text(tmp_path):
    frame = pl.DataFrame({"item_id": [7, 12], "title": ["a", "b"]})
    encoded = frame.with_columns(pl.col("title").cast(pl.Categorical))
    encoded.write_parquet(tmp_path / "items.parquet")
    read = checked([tmp_path / "items.parquet"], ITEMS)
    assert read.to_dict(as_series=False) == {"item_id": ["7", "12"], "title": ["a", "b"]}
    assert read.schema["item_id"] == read.schema["title"] == pl.String


def test_several_files_of_several_kinds_are_one_table(tmp_path):
    CATALOG[:2].write_parquet(tmp_path / "a.parquet")
    CATALOG[2:].drop("brand").write_csv(tmp_path / "b.csv")
    read = checked([tmp_path / "b.csv", tmp_path / "a.parquet"], ITEMS)
    assert read["item_id"].to_list() == ["B-12", "é1", "007", "7"]
    assert read["brand"].to_list() == [None, None, "Acme", None]


def test_several_files_of_several_types_are_one_table(tmp_path):
    pairs = pl.DataFrame({"query_id": ["q1"], "item_id": ["007"], "grade": [4]})
    pairs.write_parquet(tmp_path / "a.parquet")
    pairs.with_columns(item_id=pl.lit("08"), grade=pl.lit(3.0)).write_csv(tmp_path / "b.csv")
    read = checked([tmp_path / "a.parquet", tmp_path / "b.csv"], JUDGMENTS)
    assert read.rows() == [("q1", "007", 4), ("q1", "08", 3)]
    assert read.schema["grade"] == pl.Int8


def test_a_duplicate_across_files_is_a_duplicate(tmp_path):
    CATALOG.write_csv(tmp_path / "a.csv")
    CATALOG[:1].write_csv(tmp_path / "b.csv")
    with pytest.raises(InputError, match=r"(?s)a\.csv, b\.csv.*item_id='007'"):
        checked([tmp_path / "a.csv", tmp_path / "b.csv"], ITEMS)


def test_faults_of_every_file_are_named(tmp_path):
    (tmp_path / "b.csv").write_bytes(b"")
    paths = [tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "c.xlsx"]
    paths[2].write_bytes(b"PK")
    with pytest.raises(InputError) as error:
        read_files(paths)
    assert [fault.got for fault in error.value.faults] == [
        "no such file",
        "an empty file",
        "an ending '.xlsx'",
    ]


@pytest.mark.parametrize(
    ("mapping", "columns"),
    [
        ({"item_id": "sku", "title": "name"}, ["sku", "name", "colour"]),
        ({"title": "name"}, ["item_id", "name", "title"]),
        ({"item_id": "title", "title": "item_id"}, ["title", "item_id", "colour"]),
        ({"item_id": "sku", "title": "item_id"}, ["sku", "item_id", "colour"]),
        ({"item_id": "item_id"}, ["item_id", "title", "colour"]),
    ],
)
def test_columns_by_other_names(tmp_path, mapping, columns):
    frame = pl.DataFrame({name: [f"{name} 1", f"{name} 2"] for name in columns})
    frame.write_csv(tmp_path / "items.csv")
    read = checked([tmp_path / "items.csv"], ITEMS, mapping)
    for name in ("item_id", "title"):
        theirs = mapping.get(name, name)
        assert read[name].to_list() == [f"{theirs} 1", f"{theirs} 2"]
    assert ("colour" in read.columns) == ("colour" in columns)


def test_one_column_may_serve_twice(tmp_path):
    pl.DataFrame({"query": ["lamp", "mug"]}).write_csv(tmp_path / "q.csv")
    read = checked([tmp_path / "q.csv"], QUERIES, {"query_id": "query", "query": "query"})
    assert read.rows() == [("lamp", "lamp"), ("mug", "mug")]


def test_whole_numbers_are_whole_however_they_are_written(tmp_path):
    written = ["4", "3.0", "2.00", "0"]
    rows = [f"q{n},i1,{grade}\n" for n, grade in enumerate(written)]
    (tmp_path / "r.csv").write_text("".join(["query_id,item_id,grade\n", *rows]))
    assert checked([tmp_path / "r.csv"], JUDGMENTS)["grade"].to_list() == [4, 3, 2, 0]


def test_reading_one_file_changes_nothing_in_it(tmp_path):
    CATALOG.write_csv(tmp_path / "items.csv")
    assert_frame_equal(read_file(tmp_path / "items.csv"), CATALOG)


@pytest.mark.parametrize(
    ("column", "values"),
    [("query_id", [["q1"], ["q2"]]), ("item_id", [b"a", b"\xff"]), ("grade", [{"n": 1}, {"n": 2}])],
)
def test_values_that_are_no_text_or_number_are_named(column, values):
    pairs = pl.DataFrame({"query_id": ["q1", "q2"], "item_id": ["a", "b"], "grade": [4, 3]})
    with pytest.raises(InputError) as error:
        validate(pairs.with_columns(pl.Series(column, values)), JUDGMENTS)
    (fault,) = error.value.faults
    assert fault.where == f"judgments: column '{column}'"
    assert f"2 value(s) such as {values[0]!r}" in fault.got


def test_faults_of_a_table_do_not_hide_one_another():
    pairs = {"query_id": ["q1", None, "q1"], "item": ["a", "b", "a"], "grade": ["4", "x", "9"]}
    rated = pl.DataFrame(pairs).with_columns(rater=pl.lit("r1"))
    with pytest.raises(InputError) as error:
        validate(rated, JUDGMENTS)
    assert [(fault.where, fault.got) for fault in error.value.faults] == [
        ("judgments: column 'item_id'", "no such column among query_id, item, grade, rater"),
        ("judgments: column 'grade'", "1 value(s) such as 'x'"),
        ("judgments: column 'query_id'", "1 empty value(s), the first in row 2"),
        ("judgments: column 'grade'", "1 value(s) such as 9"),
    ]
    twice = pl.concat([rated.rename({"item": "item_id"}).drop_nulls()[:1]] * 2)
    with pytest.raises(InputError, match=r"(?s)such as 'x'.*2 rows that share a key"):
        validate(twice.with_columns(grade=pl.Series(["x", "3"])), JUDGMENTS)


def test_a_further_field_of_the_catalog_may_have_any_name():
    own = CATALOG.with_columns(grade=pl.lit("A"), part=pl.lit("brakes"), segment=pl.lit("new"))
    assert_frame_equal(validate(own, ITEMS), own)
