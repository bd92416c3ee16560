"""Levels against human grades: precision, what chance would give, and which levels are left out."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from small_shop import items, random_candidates
from trivium.domain.level_precision import (
    BETTER,
    FEWEST,
    LEVEL_PRECISION,
    UNSHOWN,
    WORSE,
    bad_levels,
    level_precision,
    precision_lines,
)
from trivium.domain.levels import machine_levels
from trivium.domain.yields import BOUGHT
from trivium.foundation.examples_config import ExamplesConfig
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import POSITIVE_LEVELS

QUERIES = [f"q{k:02}" for k in range(30)]
CONFIG = ExamplesConfig(retrieved_depth=60)
LABELS = ["query_id", "item_id", "grade", "p_relevant", "p_irrelevant", "expected_grade"]


def graded(skill: float, seed: int = 0, part: str = "agreement") -> pl.DataFrame:
    """Candidates with human grades and a judge of some skill: 0 guesses, 1 knows, -1 inverts."""
    rng = np.random.default_rng(seed)
    mined = random_candidates(items(), QUERIES, seed=seed)
    human = rng.integers(0, 5, len(mined))
    knows = rng.random(len(mined)) < abs(skill)
    told = human if skill >= 0 else 4 - human
    grade = np.where(knows, told, rng.integers(0, 5, len(mined)))
    p = rng.dirichlet(np.full(5, 0.3), len(mined)) * 0.5 + 0.5 * np.eye(5)[grade]
    said = {"p_relevant": p[:, 3:].sum(axis=1), "p_irrelevant": p[:, :2].sum(axis=1)}
    return mined.with_columns(
        pl.Series("grade", grade, dtype=pl.Int8),
        *(pl.Series(name, values, dtype=pl.Float32) for name, values in said.items()),
        pl.Series("expected_grade", p @ np.arange(5), dtype=pl.Float32),
        pl.Series("confidence", p.max(axis=1), dtype=pl.Float32),
        pl.Series("human", human, dtype=pl.Int8),
        part=pl.lit(part),
    )


def right(level: str, human: int) -> bool:
    return human >= 3 if level in POSITIVE_LEVELS else human <= 1


def rows_of(table: pl.DataFrame, part: str = "agreement") -> dict[str, dict]:
    return {row["level"]: row for row in table.filter(part=part).to_dicts()}


@pytest.mark.parametrize("by", ["probability", "grade"])
@pytest.mark.parametrize("skill", [0.0, 0.6])
def test_precision_is_that_of_the_examples_made(by, skill):
    pairs, config = graded(skill), CONFIG.model_copy(update={"by": by})
    table = level_precision(pairs, config, MineConfig(), resamples=50)
    assert table.schema == pl.Schema(LEVEL_PRECISION)
    labels = pairs.select(*LABELS, "confidence")
    mined = pairs.drop(LABELS[2:], "confidence", "human", "part")
    made, _ = machine_levels(mined, labels, config, MineConfig())
    made = made.join(pairs.select("query_id", "item_id", "human"), on=["query_id", "item_id"])
    for level, row in rows_of(table).items():
        own = made.filter(level=level)
        hits = [right(level, human) for human in own["human"]]
        assert row["pairs"] == len(hits) > 0
        assert row["queries"] == own["query_id"].n_unique()
        assert row["precision"] == pytest.approx(np.mean(hits))
        positive = level in POSITIVE_LEVELS
        sure = own.filter((pl.col("p_relevant") if positive else pl.col("p_irrelevant")) >= 0.8)
        assert row["sure_pairs"] == len(sure)
        assert row["sure_precision"] == pytest.approx(
            np.mean([right(level, human) for human in sure["human"]])
        )
        assert row["ci_low"] <= row["precision"] <= row["ci_high"]


def test_chance_is_the_share_under_the_same_rule_whatever_the_judge():
    pairs = graded(0.5)
    table = level_precision(pairs, CONFIG, MineConfig(), resamples=20)
    for level, grade in ((level, 4 if level in POSITIVE_LEVELS else 0) for level in BOUGHT):
        sure = {"p_relevant": float(grade == 4), "p_irrelevant": float(grade == 0)}
        forced = pairs.with_columns(
            pl.lit(grade, pl.Int8).alias("grade"),
            *(pl.lit(p, pl.Float32).alias(name) for name, p in sure.items()),
        )
        everything = rows_of(level_precision(forced, CONFIG, MineConfig(), resamples=20))[level]
        row = rows_of(table)[level]
        assert row["chance"] == pytest.approx(everything["precision"])
        assert row["chance_pairs"] == everything["pairs"]
        assert row["lead"] == pytest.approx(row["precision"] - row["chance"])
        assert everything["lead"] == 0
        assert everything["verdict"] == UNSHOWN


@pytest.mark.parametrize(("skill", "verdict"), [(0.8, BETTER), (-0.8, WORSE)])
def test_a_judge_that_knows_is_better_and_one_that_inverts_is_worse(skill, verdict):
    table = level_precision(graded(skill), CONFIG, MineConfig(), resamples=300)
    assert set(table["verdict"]) == {verdict}
    assert bad_levels(table) == (BOUGHT if verdict == WORSE else ())
    for line in precision_lines(table):
        assert verdict in line


def test_a_judge_that_guesses_is_not_shown_to_be_either():
    verdicts = [
        verdict
        for seed in range(8)
        for verdict in level_precision(
            graded(0.0, seed), CONFIG, MineConfig(), resamples=300, seed=seed
        )["verdict"]
    ]
    assert verdicts.count(UNSHOWN) >= 0.8 * len(verdicts)
    assert set(verdicts) - {UNSHOWN} <= {BETTER, WORSE}


def test_few_queries_give_no_verdict():
    pairs = graded(-1.0)
    few = pairs.filter(pl.col("query_id").is_in(QUERIES[: FEWEST - 1]))
    assert set(level_precision(few, CONFIG, MineConfig(), resamples=50)["verdict"]) == {UNSHOWN}
    enough = pairs.filter(pl.col("query_id").is_in(QUERIES[:FEWEST]))
    assert WORSE in set(level_precision(enough, CONFIG, MineConfig(), resamples=50)["verdict"])


def test_training_queries_are_told_and_decide_nothing():
    bad = graded(-0.9, part="train").with_columns(query_id="t" + pl.col("query_id"))
    both = pl.concat([graded(0.8), bad])
    table = level_precision(both, CONFIG, MineConfig(), resamples=100)
    alone = level_precision(graded(0.8), CONFIG, MineConfig(), resamples=100)
    assert table.filter(part="agreement").equals(alone)
    assert set(table.filter(part="train")["verdict"]) == {WORSE}
    assert bad_levels(table) == ()
    assert sum("training queries" in line for line in precision_lines(table)) == len(BOUGHT)


def test_without_grades_nothing_is_claimed():
    table = level_precision(graded(1.0).clear(), CONFIG, MineConfig())
    assert table["level"].to_list() == list(BOUGHT)
    assert table["pairs"].sum() == table["chance_pairs"].sum() == 0
    assert table.select("precision", "chance", "lead", "ci_low").null_count().row(0) == (4,) * 4
    assert bad_levels(table) == ()
    assert all("no human grade" in line for line in precision_lines(table))


def test_the_order_of_the_pairs_does_not_matter():
    pairs = graded(0.4)
    table = level_precision(pairs, CONFIG, MineConfig(), resamples=100, seed=3)
    shuffled = pairs.sample(fraction=1.0, shuffle=True, seed=1)
    assert level_precision(shuffled, CONFIG, MineConfig(), resamples=100, seed=3).equals(table)
    assert not level_precision(pairs, CONFIG, MineConfig(), resamples=100, seed=4).equals(table)
