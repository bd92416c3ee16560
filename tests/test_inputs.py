"""The inputs stage: the user's files become the tables that every other stage reads."""

from __future__ import annotations

import gzip

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from trivium.foundation.config import parse_config
from trivium.foundation.errors import ConfigError, InputError
from trivium.foundation.text import word_set
from trivium.stages.inputs import RawTables, prepare, read_inputs

ITEMS = pl.DataFrame(
    {
        "item_id": ["7", "007", "i1"],
        "title": ["Red  mug", "Blue mug", "Lamp"],
        "brand": ["Acme", None, " "],
        "size": ["12 oz", None, "small"],
        "price": [9.5, 8.0, None],
    }
)
QUERIES = pl.DataFrame(
    {
        "query_id": ["1", "01", "q3", "q4"],
        "query": ["red mug", "lamp", "blue mug", "Lamp!"],
        "frequency": [60, 35, 3, 2],
    }
)
JUDGMENTS = pl.DataFrame(
    {
        "query_id": ["1", "1", "01", "1", "q3"],
        "item_id": ["7", "007", "i1", "7", "007"],
        "grade": [4, 1, 4, 3, 2],
        "rater": ["a", "a", "a", "b", "a"],
    }
)
NOTHING_HELD = {"calibration": 0, "tuning": 0, "agreement": 0}
ALL_TEST = {"seed": 0, "train": 0, "validation": 0, "test": 1, **NOTHING_HELD}


def config(**sections):
    return parse_config({"split": ALL_TEST, **sections})


def prepared(items=ITEMS, queries=QUERIES, judgments=JUDGMENTS, qrels=None, **sections):
    raw = RawTables(items, queries, judgments, JUDGMENTS.clear() if qrels is None else qrels)
    return prepare(raw, config(**sections))


def column(table, name):
    return dict(table.select(table.columns[0], name).iter_rows())


def test_a_template_leaves_out_what_a_row_lacks():
    template = ["{title}", "brand: {brand}", "{size}, {price}"]
    made = prepared(data={"item_text": template})
    assert column(made.items, "text") == {
        "7": "Red mug brand: Acme 12 oz, 9.5",
        "007": "Blue mug",
        "i1": "Lamp",
    }


def test_a_template_that_leaves_nothing_of_a_row_is_refused():
    data = {"judge_item_text": "brand: {brand}", "query_text": "{segment}"}
    unsegmented = QUERIES.with_columns(segment=pl.lit(None, dtype=pl.String))
    with pytest.raises(InputError) as error:
        prepared(queries=unsegmented, data=data)
    assert [(fault.where, fault.got) for fault in error.value.faults] == [
        ("data.judge_item_text", "an empty text for 2 row(s), the first of id '007'"),
        ("data.query_text", "an empty text for 4 row(s), the first of id '1'"),
    ]


def test_towers_and_judge_read_texts_of_their_own():
    made = prepared(data={"judge_item_text": ["{title}", "size: {size}"]})
    assert column(made.items, "text")["7"] == "Red mug"
    assert column(made.items, "judge_text") == {
        "7": "Red mug size: 12 oz",
        "007": "Blue mug",
        "i1": "Lamp size: small",
    }
    assert column(made.queries, "text") == column(made.queries, "judge_text")


def test_a_column_of_the_users_named_text_can_be_named_in_a_template():
    items = ITEMS.with_columns(text=pl.lit("long words"))
    made = prepared(items=items, data={"item_text": ["{title}", "{text}"]})
    assert column(made.items, "text")["7"] == "Red mug long words"
    assert column(made.items, "judge_text")["7"] == "Red mug"


def test_an_unknown_field_is_a_fault_of_the_configuration():
    with pytest.raises(ConfigError, match=r"\{title\}.*item_id, title, brand, size, price"):
        prepared(data={"item_text": "{titel}"})


def test_tables_are_sorted_and_keep_the_users_fields():
    made = prepared(items=ITEMS[::-1], queries=QUERIES[::-1])
    assert made.items["item_id"].to_list() == ["007", "7", "i1"]
    assert {"brand", "size", "price"} <= set(made.items.columns)
    assert made.queries["query_id"].to_list() == ["01", "1", "q3"]
    assert_frame_equal(made.items, prepared().items)
    assert_frame_equal(made.queries, prepared().queries)


def test_raters_agree_on_their_median_rounded_down():
    made = prepared().judgments
    assert made.rows() == [("01", "i1", 4), ("1", "007", 1), ("1", "7", 3), ("q3", "007", 2)]


def test_without_qrels_the_judgments_measure_too():
    made = prepared()
    assert_frame_equal(made.qrels, made.judgments)
    truth = pl.DataFrame({"query_id": ["q3"], "item_id": ["7"], "grade": [4], "rater": [None]})
    apart = prepared(qrels=truth.cast({"rater": pl.String}))
    assert apart.qrels.rows() == [("q3", "7", 4)]
    assert_frame_equal(apart.judgments, made.judgments)


def test_a_query_with_grades_in_the_qrels_alone_counts_as_judged():
    truth = JUDGMENTS.with_columns(query_id=pl.lit("q3"))[:1]
    made = prepared(judgments=JUDGMENTS.filter(pl.col("query_id") != "q3"), qrels=truth)
    assert column(made.queries, "part")["q3"] == "test"


def test_segments_follow_from_the_traffic_unless_given():
    assert column(prepared().queries, "segment") == {"1": "head", "01": "torso", "q3": "tail"}
    wide = prepared(data={"head_share": 0.7, "torso_share": 0.97})
    assert column(wide.queries, "segment") == {"1": "head", "01": "head", "q3": "torso"}
    own = QUERIES.with_columns(segment=pl.Series(["tail", None, None, None], dtype=pl.String))
    assert column(prepared(queries=own).queries, "segment")["1"] == "tail"


def test_training_queries_with_the_words_of_one_held_out_are_counted():
    made = prepared()  # "Lamp!" has no grades of its own, "lamp" is a test query
    assert "q4" not in made.queries["query_id"].to_list()
    assert made.set_aside == {"same words as a query held out": 1}
    assert prepared(queries=QUERIES[:3]).set_aside == {}


def test_a_given_part_is_honoured():
    parts = ["validation", "agreement", "train", "train"]
    made = prepared(queries=QUERIES.with_columns(part=pl.Series(parts)))
    assert column(made.queries, "part") == {"1": "validation", "01": "agreement", "q3": "train"}


WRITERS = {
    "parquet": lambda frame, path: frame.write_parquet(path),
    "csv": lambda frame, path: frame.write_csv(path),
    "csv.gz": lambda frame, path: path.write_bytes(gzip.compress(frame.write_csv().encode())),
    "tsv": lambda frame, path: frame.write_csv(path, separator="\t"),
    "jsonl": lambda frame, path: frame.write_ndjson(path),
    "jsonl.gz": lambda frame, path: path.write_bytes(gzip.compress(frame.write_ndjson().encode())),
}


@pytest.mark.parametrize("ending", WRITERS)
def test_files_of_every_kind_under_other_names_give_the_same_inputs(tmp_path, ending):
    names = {"item_id": "sku", "title": "name"}
    files = {"items": ITEMS.rename(names), "queries": QUERIES, "judgments": JUDGMENTS}
    for name, frame in files.items():
        WRITERS[ending](frame, tmp_path / f"{name}.{ending}")
    data = {name: f"{name}.{ending}" for name in files} | {"columns": {"items": names}}
    made = read_inputs(parse_config({"data": data, "split": ALL_TEST}, base=tmp_path))
    plain = prepared()
    assert_frame_equal(made.queries, plain.queries)
    assert_frame_equal(made.judgments, plain.judgments)
    same = made.items.select(plain.items.columns).with_columns(pl.col("price").cast(pl.Float64))
    assert_frame_equal(same, plain.items)
    assert {"7", "007"} <= set(made.items["item_id"])
    assert {"1", "01"} <= set(made.queries["query_id"])


def test_the_stage_writes_what_the_function_gives(market, tmp_path, cli):
    from trivium.foundation.config import load_config

    run = cli("run", tmp_path / "run", "-c", market / "trivium.toml", "--until", "inputs")
    assert run.code == 0, run.err
    made = read_inputs(load_config(market / "trivium.toml"))
    for name in ("items", "queries", "judgments", "qrels"):
        written = pl.read_parquet(tmp_path / "run" / "inputs" / f"{name}.parquet")
        assert_frame_equal(written, getattr(made, name))
    parts = made.queries.with_columns(word_set("query").alias("words"))
    held_out = parts.filter(~pl.col("part").is_in(["seed", "train"]))
    training = parts.filter(pl.col("part").is_in(["seed", "train"]))
    assert training.join(held_out, on="words", how="semi").is_empty()
    assert training.height > 50
    assert held_out.height > 40


def test_qrels_of_their_own_are_for_validation_and_test_alone():
    ids = [f"q{n:02}" for n in range(60)]
    queries = pl.DataFrame({"query_id": ids, "query": [f"thing {n}" for n in range(60)]})
    grades = pl.DataFrame({"query_id": ids}).with_columns(item_id=pl.lit("7"), grade=pl.lit(4))
    shares = {"seed": 0.5, "train": 0.2, "validation": 0.1, "test": 0.2}
    made = prepared(queries=queries, judgments=grades[:40], qrels=grades[40:], split=shares)
    parts = {part: set(rows["query_id"]) for (part,), rows in made.queries.group_by("part")}
    assert parts["validation"] | parts["test"] == set(ids[40:])
    teaching = ("seed", "calibration", "tuning", "agreement", "train")
    assert set().union(*(parts[part] for part in teaching)) == set(ids[:40])
