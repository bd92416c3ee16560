from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest

from trivium.domain import levels
from trivium.foundation.examples_config import ExamplesConfig
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import (
    BASELINE_LEVELS,
    EXAMPLES,
    LEVELS,
    POSITIVE_LEVELS,
    PROBABILITIES,
    candidates_schema,
    labels_schema,
    validate,
)
from trivium.stages.examples import build_examples

CHANNELS = ("dictionary", "bm25", "dense")
ITEMS = [f"i{k:03}" for k in range(150)]
TRAINING, SEED = [f"t{k}" for k in range(6)], [f"s{k}" for k in range(5)]
PAIR = ["query_id", "item_id"]
CONFIG = ExamplesConfig(min_p_relevant=0.4, min_p_irrelevant=0.4, max_positives=9, max_negatives=12)


@pytest.fixture(scope="module")
def candidates() -> pl.DataFrame:
    rng = np.random.default_rng(1)
    rows = []
    for query in TRAINING:
        for item in rng.choice(ITEMS, 90, replace=False):
            ranks = {
                f"rank_{c}": int(rng.integers(1, 130)) if rng.random() < 0.4 else None
                for c in CHANNELS
            }
            found = sum(rank is not None for rank in ranks.values())
            row = {"query_id": query, "item_id": str(item), **ranks}
            rows.append(row | {"channels": found, "tfidf": float(rng.uniform(0, 0.8))})
    schema = candidates_schema(CHANNELS)
    return validate(pl.DataFrame(rows, schema=dict(schema.columns)), schema)


@pytest.fixture(scope="module")
def labels(candidates) -> pl.DataFrame:
    rng = np.random.default_rng(2)
    asked = candidates.filter(pl.Series(rng.random(candidates.height) < 0.8)).select(PAIR)
    p = rng.dirichlet(np.full(5, 0.4), asked.height).astype(np.float32)
    table = asked.with_columns(
        pl.Series("grade", p.argmax(axis=1)),
        pl.Series("confidence", p.max(axis=1)),
        pl.lit("cross_encoder").alias("judge"),
        pl.lit(20).alias("tokens"),
        pl.Series("p_cross_encoder", p, dtype=PROBABILITIES),
    )
    return validate(table, labels_schema(("cross_encoder",)))


@pytest.fixture(scope="module")
def judgments(candidates) -> pl.DataFrame:
    rng = np.random.default_rng(3)
    pairs = [(query, str(i)) for query in SEED for i in rng.choice(ITEMS, 30, replace=False)]
    both = candidates.sample(8, seed=4).select(PAIR).rows()  # mined, and graded by a human
    table = pl.DataFrame(sorted({*pairs, *both}), schema=PAIR, orient="row")
    grades = pl.Series("grade", rng.integers(0, 5, table.height), dtype=pl.Int8)
    return table.with_columns(grades)


def build(queries, candidates, labels, judgments, config=CONFIG, seed=11, without=()):
    mine = pl.col("query_id").is_in(queries)
    tables = [table.filter(mine) for table in (candidates, labels, judgments)]
    return build_examples(queries, ITEMS, *tables, config, MineConfig(), seed, without)


def test_every_candidate_is_an_example_or_counted_once(candidates, labels, judgments):
    made, left_out = build(TRAINING + SEED, candidates, labels, judgments)
    known = pl.concat([candidates.select(PAIR), judgments.select(PAIR)])
    drawn = levels.random_negatives(sorted(TRAINING + SEED), ITEMS, known, 10, 11)
    assert made.height + sum(left_out.values()) == (
        candidates.height + judgments.height + drawn.height
    )
    assert all(count > 0 for count in left_out.values())
    assert set(left_out) == {
        "neither sure to be relevant nor irrelevant",
        "no level's rule holds",
        "human grade 2",
        "graded by a human",
        "not annotated",
        "over the cap of a query",
    }
    assert validate(made, EXAMPLES).equals(made.sort("query_id", "level", "item_id"))


def test_the_counts_are_right_one_by_one(candidates, labels, judgments):
    free = CONFIG.model_copy(update={"max_positives": 10_000, "max_negatives": 10_000})
    made, left_out = build(TRAINING + SEED, candidates, labels, judgments, free)
    human = set(judgments.select(PAIR).rows())
    mined, asked = set(candidates.select(PAIR).rows()), set(labels.select(PAIR).rows())
    assert left_out["graded by a human"] == len(mined & human) == 8
    assert left_out["not annotated"] == len(mined - asked - human)
    assert left_out["human grade 2"] == judgments.filter(pl.col("grade") == 2).height
    stated = labels.join(judgments, on=PAIR, how="anti")["p_cross_encoder"].to_list()
    sides = [(p[3] + p[4], p[0] + p[1]) for p in np.float32(stated)]
    unsure = sum(max(side) < np.float32(0.4) or side[0] == side[1] for side in sides)
    assert left_out["neither sure to be relevant nor irrelevant"] == unsure > 0
    assert "over the cap of a query" not in left_out
    assert set(made["level"]) == set(LEVELS) - set(BASELINE_LEVELS)


def test_hard_labels_are_graded_as_published(candidates, labels, judgments):
    hard = CONFIG.model_copy(update={"by": "grade", "max_positives": 999, "max_negatives": 999})
    made, left_out = build(TRAINING + SEED, candidates, labels, judgments, hard)
    grades = labels.join(judgments, on=PAIR, how="anti")["grade"]
    assert left_out["grade 2"] == (grades == 2).sum()
    for row in made.filter(source="judge").to_dicts():
        assert row["grade"] >= 3 if row["level"] in POSITIVE_LEVELS else row["grade"] <= 1


def test_a_level_that_is_left_out_is_counted(candidates, labels, judgments):
    free = CONFIG.model_copy(update={"max_positives": 999, "max_negatives": 999})
    tables = candidates, labels, judgments
    whole, _ = build(TRAINING, *tables, free)
    kept, left_out = build(TRAINING, *tables, free, without=["hard_negative"])
    assert kept.equals(whole.filter(pl.col("level") != "hard_negative"))
    assert left_out["hard_negative is worse than chance"] == whole.height - kept.height > 0


def test_a_human_grade_outweighs_the_judge(candidates, labels, judgments):
    free = CONFIG.model_copy(update={"max_positives": 10_000, "max_negatives": 10_000})
    made, _ = build(TRAINING + SEED, candidates, labels, judgments, free)
    graded = made.join(judgments, on=PAIR, how="inner", suffix="_human")
    assert graded.height == judgments.filter(pl.col("grade") != 2).height
    assert (graded["grade"] == graded["grade_human"]).all()
    assert set(graded["source"]) == {"human"}


def test_random_negatives_are_neither_retrieved_nor_judged(candidates, labels, judgments):
    made, _ = build(TRAINING + SEED, candidates, labels, judgments)
    drawn = set(made.filter(pl.col("level") == "random_negative").select(PAIR).rows())
    assert drawn
    assert not drawn & set(candidates.select(PAIR).rows())
    assert not drawn & set(judgments.select(PAIR).rows())


def test_caps_hold_for_every_query(candidates, labels, judgments):
    made, _ = build(TRAINING + SEED, candidates, labels, judgments)
    positive = pl.col("level").is_in(POSITIVE_LEVELS).alias("positive")
    for query, is_positive, count in made.group_by("query_id", positive).len().iter_rows():
        assert count <= (9 if is_positive else 12), query


def test_sharding_and_order_do_not_matter(candidates, labels, judgments):
    whole, left_out = build(TRAINING + SEED, candidates, labels, judgments)
    shards = [["t3", "s1"], ["t0", "t1", "s0", "s2"], ["t2", "t5", "t4", "s4", "s3"]]
    parts, counts = [], Counter()
    for shard in shards:
        made, why = build(shard, candidates, labels.reverse(), judgments.reverse())
        parts.append(made)
        counts += Counter(why)
    assert pl.concat(parts).sort("query_id", "level", "item_id").equals(whole)
    assert counts == Counter(left_out)
    assert build(TRAINING + SEED, candidates, labels, judgments, seed=12)[0].height
    assert not build(TRAINING + SEED, candidates, labels, judgments, seed=12)[0].equals(whole)


def test_rules_of_ones_own_move_candidates_and_lose_none(candidates, labels, judgments):
    rules = {"hard_positive": "lexical = 2 AND dense = 0", "hard_negative": "false"}
    own = ExamplesConfig(max_positives=999, max_negatives=999, rules=rules)
    usual = ExamplesConfig(max_positives=999, max_negatives=999)
    made, left_out = build(TRAINING + SEED, candidates, labels, judgments, own)
    before, left_out_before = build(TRAINING + SEED, candidates, labels, judgments, usual)
    ranks = [pl.col(f"rank_{channel}").is_not_null() for channel in CHANNELS]
    found = made.join(candidates.with_columns(found=pl.concat_list(ranks)), on=PAIR)
    hard = found.filter(level="hard_positive")
    assert {tuple(row) for row in hard["found"].to_list()} == {(True, True, False)}
    assert "hard_negative" not in set(made["level"]) < set(before["level"])
    rest = ("easy_positive", "token_similar_negative", "random_negative")
    for level in (*rest, "seed_positive", "seed_negative"):
        assert made.filter(level=level).equals(before.filter(level=level))
    no_rule = "no level's rule holds"
    assert made.height + left_out[no_rule] == before.height + left_out_before[no_rule]
