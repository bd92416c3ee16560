"""The pairs that make the judges, and what they may never be."""

from __future__ import annotations

import polars as pl
import pytest

from small_shop import items, judgments, queries
from trivium.domain.teaching import background_pairs, deep_pairs, human_grades, teaching
from trivium.foundation.errors import InputError
from trivium.foundation.tables import TEACHING, empty

NOTHING = pl.DataFrame(schema={"query_id": pl.String, "item_id": pl.String})


def gathered(graded=None, further=None, pool=NOTHING, background=0.5, deep=0.0):
    return teaching(
        judgments() if graded is None else graded,
        items(),
        queries(),
        empty(TEACHING) if further is None else further,
        pool,
        background=background,
        deep=deep,
        seed=1,
    )


def test_several_raters_count_as_their_median_in_doubt_the_lower():
    rows = [("q00", "i00", g, r) for g, r in ((1, "x"), (4, "y"), (4, "z"))]
    rows += [("q00", "i01", g, r) for g, r in ((2, "x"), (3, "y"))]
    rows += [("q00", "nowhere", 4, "x"), ("q20", "i00", 4, "x")]
    judged = pl.DataFrame(rows, schema=["query_id", "item_id", "grade", "rater"], orient="row")
    grades, left_out = human_grades(judged, items(), queries())
    assert grades.select("query_id", "item_id", "grade", "part").rows() == [
        ("q00", "i00", 4, "seed"),
        ("q00", "i01", 2, "seed"),
    ]
    assert left_out.select("item_id", "source").rows() == [("nowhere", "human, item unknown")]


def test_background_is_drawn_for_teaching_and_calibration_at_the_same_share():
    human, _ = human_grades(judgments(), items(), queries())
    drawn = background_pairs(human, items(), 0.5, seed=1)
    assert drawn["grade"].unique().to_list() == [0]
    assert drawn.join(human, on=["query_id", "item_id"]).is_empty()
    assert not drawn.select("query_id", "item_id").is_duplicated().any()
    for part in ("seed", "calibration"):
        graded = human.filter(pl.col("part") == part)
        weak = drawn.filter(pl.col("part") == part)
        assert len(weak) == round(0.5 * len(graded))
        assert weak["query_id"].is_in(graded["query_id"].to_list()).all()
        assert weak["query_id"].value_counts()["count"].max() <= 2 * len(weak) / 4
    assert set(drawn["part"]) == {"seed", "calibration"}
    assert background_pairs(human, items(), 0.5, seed=1).equals(drawn)
    assert not background_pairs(human, items(), 0.5, seed=2).equals(drawn)
    assert background_pairs(human, items(), 0.0, seed=1).is_empty()


def test_deep_pairs_are_grade_1_and_never_those_that_humans_graded():
    human, _ = human_grades(judgments(), items(), queries())
    pool = pl.concat(
        [
            human.select("query_id", "item_id"),
            pl.DataFrame(
                {"query_id": ["q00", "q01", "q08", "q16"], "item_id": ["i39", "i38", "i37", "i36"]}
            ),
        ]
    ).unique()
    wanted = pool.join(human, on=["query_id", "item_id"], how="anti")
    chosen = deep_pairs(human, pool, queries(), 9.0, seed=1)
    taught = wanted.filter(pl.col("query_id") != "q16")
    assert chosen.select("query_id", "item_id").sort(pl.all()).equals(taught.sort(pl.all()))
    assert chosen["grade"].unique().to_list() == [1]
    assert set(chosen["part"]) <= {"seed", "calibration"}
    assert deep_pairs(human, pool, queries(), 0.0, seed=1).is_empty()


def test_weak_pairs_and_other_catalogs_are_counted_apart_and_measure_nothing():
    further = pl.DataFrame(
        {
            "query_text": ["a", "a"],
            "item_text": ["b", "c"],
            "grade": [4, 0],
            "catalog": [0, 0],
            "query": ["a", "a"],
        },
        schema=dict(TEACHING.columns),
    )
    made = gathered(further=further)
    counts = {(part, source): (pairs, asked) for part, source, pairs, asked in made.counts.rows()}
    assert counts["seed", "another catalog"] == (2, 1)
    assert counts["seed", "background"][0] == round(0.5 * counts["seed", "human"][0])
    assert set(made.of("tuning")["source"]) == {"human"}
    assert set(made.of("agreement")["source"]) == {"human"}
    assert made.pairs["query_text"].null_count() == 0
    assert made.pairs["item_text"].null_count() == 0
    parts = made.pairs.drop_nulls("query_id").group_by("query_id").agg(pl.col("part").n_unique())
    assert parts["part"].max() == 1


def test_too_few_queries_and_a_single_grade_are_told_with_counts():
    few = judgments().filter(~pl.col("query_id").is_in(["q16", "q17"]))
    calibrating = pl.col("query_id").is_in(["q08", "q09", "q10", "q11"])
    few = few.with_columns(grade=pl.when(calibrating).then(pl.lit(3, pl.Int8)).otherwise("grade"))
    with pytest.raises(InputError) as caught:
        gathered(few)
    calibration, agreement = caught.value.faults
    assert "'calibration'" in calibration.where
    assert "different ones: [3]" in calibration.got
    assert "'agreement'" in agreement.where
    assert agreement.got.startswith("2 judged queries")
