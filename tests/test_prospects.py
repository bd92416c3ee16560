"""Levels of a run against human grades, from the tables that its stages left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from small_shop import CHANNELS, items, random_candidates
from trivium.domain.calibration import Calibration
from trivium.domain.cascade import Cascade
from trivium.domain.level_precision import bad_levels
from trivium.foundation.config import Config, parse_config
from trivium.foundation.tables import PROBABILITIES, candidates_schema, labels_schema, validate
from trivium.foundation.workspace import Workspace, write_table
from trivium.pipeline.prospects import level_counts, measured_levels, will_it_pay
from trivium.pipeline.work import ExampleShards
from trivium.stages.annotate.cascading import FittedCascade

HELD_OUT = [f"h{k}" for k in range(12)]
TRAINING = [f"t{k}" for k in range(8)]
PAIR = ["query_id", "item_id"]


def config_of(*overrides: str) -> Config:
    raw = {"annotate": {"judges": [{"kind": "features"}]}, "run": {"shard": 4}}
    return parse_config(raw, overrides)


def told(pairs: pl.DataFrame, skill: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Human grades of pairs, and probabilities of a judge of some skill; below 0 it inverts."""
    rng = np.random.default_rng(seed)
    human = rng.integers(0, 5, len(pairs))
    grade = np.where(rng.random(len(pairs)) < abs(skill), human if skill > 0 else 4 - human, 2)
    return human, (np.eye(5)[grade] * 0.8 + 0.04).astype(np.float32)


def mined(query_ids: list[str], seed: int) -> pl.DataFrame:
    found = random_candidates(items(), query_ids, seed)
    scores = {f"score_{name}": pl.lit(None, pl.Float32) for name in CHANNELS}
    return validate(found.with_columns(**scores), candidates_schema(CHANNELS))


def graded(pairs: pl.DataFrame, human: np.ndarray) -> pl.DataFrame:
    return pairs.select(*PAIR, pl.Series("grade", human, dtype=pl.Int8))


@pytest.fixture
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Workspace:
    """A run that is annotated: a judge's skill on held-out and on training queries."""
    held_skill, train_skill = request.param
    workspace = Workspace(tmp_path)

    def keep(stage: str, **named: pl.DataFrame) -> None:
        for name, table in named.items():
            write_table(workspace.stage(stage).table_path(name), table)

    pool, asked = mined(HELD_OUT, 1), mined(TRAINING, 2)
    human, said = told(pool, held_skill, 3)
    seen, labelled = told(asked, train_skill, 4)
    parts = ["agreement"] * len(HELD_OUT) + ["train"] * len(TRAINING)
    queries = pl.DataFrame({"query_id": HELD_OUT + TRAINING, "part": parts})
    grades = pl.concat([graded(pool, human), graded(asked, seen)])
    keep("inputs", items=items(), queries=queries, judgments=grades, qrels=grades.clear())
    answers = graded(pool, human).with_columns(
        pl.Series("p_features", said, dtype=PROBABILITIES),
        part=pl.lit("agreement"),
        source=pl.lit("human"),
    )
    keep("judges", answers=answers, pool=pool)
    cascade = Cascade(("features",), {"features": (0.0,) * 5})
    fit = Calibration.fit(
        "none", said.astype(float), human, min_count=1, query_ids=pool["query_id"]
    )
    FittedCascade(cascade, {"features": fit}, "", {"features": ()}).save(
        workspace.stage("annotate").path
    )
    row = {"gain": 0.03, "ci_low": 0.01, "ci_high": 0.05, "p_value": 0.01, "queries": 12}
    keep("annotate", rerank=pl.DataFrame([{"system": "cascade", **row}]))
    labels = asked.select(
        *PAIR,
        pl.Series("grade", labelled.argmax(axis=1)),
        pl.lit(0.84).alias("confidence"),
        pl.lit("features").alias("judge"),
        pl.Series("p_features", labelled, dtype=PROBABILITIES),
    )
    labels = validate(labels, labels_schema(("features",)))
    keep("mine", queries=queries.filter(part="train"))
    for number in range(2):
        own = pl.col("query_id").is_in(TRAINING[4 * number : 4 * number + 4])
        for stage, name, table in (("mine", "candidates", asked), ("annotate", "labels", labels)):
            write_table(workspace.stage(stage).shard_path(name, number), table.filter(own))
    return workspace


def make_examples(workspace: Workspace, config: Config) -> list[dict]:
    folder = workspace.stage("examples")
    write_table(folder.table_path("level_precision"), measured_levels(workspace, config))
    work, counts = ExampleShards(workspace, config)(), []
    for number in range(2):
        made, count = work(number)
        write_table(folder.shard_path("examples", number), made)
        counts.append(dict(count))
    return counts


@pytest.mark.parametrize("run", [(0.9, 0.9)], indirect=True)
def test_a_good_judge_keeps_its_levels(run):
    counts = make_examples(run, config_of())
    table = run.stage("examples").read("level_precision")
    assert set(table["part"]) == {"agreement", "train"}
    assert set(table["verdict"]) == {"better than chance"}
    assert not any("chance" in why for count in counts for why in count["left_out"])
    got = will_it_pay(run, config_of())
    assert got.outlook == "cannot tell"
    assert got.reasons[2] == "8 queries have a machine positive"
    assert len(got.remedies) == 1
    made = run.stage("examples").read("examples")
    for level, rows, queries in level_counts(run).iter_rows():
        own = made.filter(level=level)
        assert (rows, queries) == (len(own), own["query_id"].n_unique())


@pytest.mark.parametrize("run", [(-0.9, 0.9)], indirect=True)
def test_a_level_worse_than_chance_is_left_out_and_counted_unless_asked(run):
    counts = make_examples(run, config_of())
    bad = bad_levels(run.stage("examples").read("level_precision"))
    assert "easy_positive" in bad
    assert "hard_negative" in bad
    assert not set(bad) & set(run.stage("examples").read("examples")["level"])
    assert any(count["left_out"]["easy_positive is worse than chance"] for count in counts)
    kept = make_examples(run, config_of("examples.keep_bad_levels=true"))
    assert set(bad) <= set(run.stage("examples").read("examples")["level"])
    assert not any("chance" in why for count in kept for why in count["left_out"])
    assert will_it_pay(run, config_of()).outlook == "not expected to help"


@pytest.mark.parametrize("run", [(0.9, -0.9)], indirect=True)
def test_grades_of_training_queries_decide_nothing(run):
    counts = make_examples(run, config_of())
    table = run.stage("examples").read("level_precision")
    assert set(table.filter(part="train")["verdict"]) == {"worse than chance"}
    assert not any("chance" in why for count in counts for why in count["left_out"])


@pytest.mark.parametrize("run", [(0.9, 0.9)], indirect=True)
def test_what_complete_truth_does_not_list_was_graded_0(run):
    inputs = run.stage("inputs")
    judgments = inputs.read("judgments")
    training = judgments.filter(pl.col("query_id").is_in(TRAINING))
    relevant = training.filter(pl.col("grade") > 0)
    write_table(inputs.table_path("qrels"), relevant)
    write_table(inputs.table_path("judgments"), judgments.join(training, on=PAIR, how="anti"))
    parts = [measured_levels(run, config_of(f"data.complete={word}")) for word in ("true", "false")]
    complete, listed = (table.filter(part="train") for table in parts)
    write_table(inputs.table_path("qrels"), training)
    whole = measured_levels(run, config_of()).filter(part="train")
    assert complete.equals(whole)
    assert listed["chance_pairs"].sum() < whole["chance_pairs"].sum()


@pytest.mark.parametrize(
    ("overrides", "asked"),
    [((), True), (("train.recipe=published",), False)],
)
@pytest.mark.parametrize("run", [(0.9, 0.9)], indirect=True)
def test_the_recipe_says_which_positives_count(run, overrides, asked):
    make_examples(run, config_of())
    assert ("P(grade >= 3) >= 0.8" in will_it_pay(run, config_of(*overrides)).reasons[1]) == asked
