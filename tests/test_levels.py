from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.domain import levels
from trivium.domain.sampling import draw_positions, hash_strings
from trivium.foundation.examples_config import ExamplesConfig
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.tables import (
    EXAMPLES,
    LEVELS,
    NEGATIVE_LEVELS,
    POSITIVE_LEVELS,
    candidates_schema,
    empty,
    validate,
)

# Channels, and which of them are lexical and dense.
SETUPS = {
    "one": (("dense",), (), ("dense",)),
    "one lexical": (("bm25",), ("bm25",), ("dense",)),
    "two": (("bm25", "dense"), ("bm25",), ("dense",)),
    "two lexical": (("dictionary", "bm25"), ("dictionary", "bm25"), ()),
    "three": (("dictionary", "bm25", "dense"), ("dictionary", "bm25"), ("dense",)),
    "seven": (tuple("abcdefg"), ("a", "b", "c"), ("d", "e")),
}
CONFIG = ExamplesConfig(min_p_relevant=0.6, min_p_irrelevant=0.3, retrieved_depth=99)
HARD = CONFIG.model_copy(update={"by": "grade"})
RANKS = st.one_of(st.none(), st.none(), st.sampled_from([1, 49, 50, 51, 99, 100, 101, 500]))
COSINES = st.sampled_from([None, 0.0, 0.19, 0.2, 0.21, 0.4, 0.6, 0.61, 1.0])
SHARES = st.sampled_from([0.0, 0.3, 0.59, 0.6, 0.7, 0.71, 1.0])


def mine_config(setup: str) -> MineConfig:
    channels, lexical, dense = SETUPS[setup]
    return MineConfig(channels=list(channels), lexical=list(lexical), dense=list(dense))


@st.composite
def labelled(draw, setup: str):
    """Candidates of some channels, and labels of most of them."""
    channels = SETUPS[setup][0]
    candidates, labels = [], []
    for query in range(draw(st.integers(1, 3))):
        for item in range(draw(st.integers(0, 12))):
            row = {"query_id": f"q{query}", "item_id": f"i{item:02}"}
            ranks = {f"rank_{channel}": draw(RANKS) for channel in channels}
            found = sum(rank is not None for rank in ranks.values())
            candidates.append(row | ranks | {"channels": found, "tfidf": draw(COSINES)})
            grade = draw(st.one_of(st.none(), st.integers(0, 4)))
            shares = {"p_relevant": draw(SHARES), "p_irrelevant": draw(SHARES)}
            shares |= {"expected_grade": 2.0, "confidence": 0.5}
            if grade is not None:
                labels.append(row | {"grade": grade} | shares)
    return candidates_of(channels, candidates), labels_of(labels)


def candidates_of(channels, rows) -> pl.DataFrame:
    schema = candidates_schema(channels)
    return pl.DataFrame(rows, schema=dict(schema.columns))


def labels_of(rows) -> pl.DataFrame:
    schema = {c: EXAMPLES.columns[c] for c in ("query_id", "item_id", "grade", "p_relevant")}
    schema |= dict.fromkeys(("p_irrelevant", "expected_grade", "confidence"), pl.Float32)
    return pl.DataFrame(rows, schema=schema)


def plain_rules(row: dict, setup: str) -> list[str]:
    """The strata whose rule a candidate fits, in order."""
    channels, lexical, dense = SETUPS[setup]
    ranks = {c: row[f"rank_{c}"] for c in channels if row[f"rank_{c}"] is not None}
    fits = []
    if len(ranks) == len(channels):
        fits.append("easy_positive")
    high = any(c in lexical and rank <= CONFIG.hard_positive_depth for c, rank in ranks.items())
    has_dense = any(c in dense for c in channels)
    if high and has_dense and not any(c in dense for c in ranks):
        fits.append("hard_positive")
    if len(ranks) == 1 and min(ranks.values()) <= CONFIG.hard_negative_depth:
        fits.append("hard_negative")
    low, upper = np.float32(CONFIG.tfidf_low), np.float32(CONFIG.tfidf_high)
    far = all(rank > CONFIG.retrieved_depth for rank in ranks.values())
    if far and row["tfidf"] is not None and low <= row["tfidf"] <= upper:
        fits.append("token_similar")
    return fits


def plain_side(row: dict, by: str) -> str:
    """Whether a label is taken as relevant, as irrelevant, or why as neither."""
    if by == "grade":
        return {2: "grade 2"}.get(row["grade"]) or ("+" if row["grade"] > 2 else "-")
    p, q = row["p_relevant"], row["p_irrelevant"]
    if p > q and p >= np.float32(CONFIG.min_p_relevant):
        return "+"
    if q > p and q >= np.float32(CONFIG.min_p_irrelevant):
        return "-"
    return "neither sure to be relevant nor irrelevant"


def plain_fate(row: dict, setup: str, by: str, without: tuple[str, ...]) -> tuple[str, bool]:
    """The level of a labelled candidate, or why it has none."""
    side = plain_side(row, by)
    if len(side) > 1:
        return side, False
    fits = plain_rules(row, setup)
    possible = [rule for rule in fits if rule.endswith("positive") == (side == "+")]
    if not possible:
        return "no level's rule holds", False
    level = "token_similar_negative" if possible[0] == "token_similar" else possible[0]
    return (f"{level} is worse than chance", False) if level in without else (level, True)


@pytest.mark.parametrize("by", ["probability", "grade"])
@pytest.mark.parametrize("setup", SETUPS)
@given(data=st.data(), without=st.sets(st.sampled_from(LEVELS), max_size=2))
@settings(max_examples=25, deadline=None)
def test_levels_equal_a_plain_reference(setup, by, data, without):
    candidates, labels = data.draw(labelled(setup))
    config, without = (HARD if by == "grade" else CONFIG), tuple(without)
    made, left_out = levels.machine_levels(candidates, labels, config, mine_config(setup), without)
    pairs = candidates.join(labels, on=["query_id", "item_id"]).to_dicts()
    fates = [(row, *plain_fate(row, setup, by, without)) for row in pairs]
    expected = sorted((row["query_id"], fate, row["item_id"]) for row, fate, made in fates if made)
    assert made.select("query_id", "level", "item_id").rows() == expected
    reasons = Counter(fate for _, fate, made in fates if not made)
    assert left_out == dict(reasons)
    assert made.height + sum(left_out.values()) == labels.height
    assert set(made["source"]) <= {"judge"}
    assert validate(made, EXAMPLES).equals(made)


@pytest.mark.parametrize("setup", SETUPS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_strata_name_the_first_rule_that_holds(setup, data):
    candidates, _ = data.draw(labelled(setup))
    channels = SETUPS[setup][0]
    got = candidates.select(levels.strata(channels, CONFIG, mine_config(setup)).alias("stratum"))
    expected = [next(iter(plain_rules(row, setup)), None) for row in candidates.to_dicts()]
    assert got["stratum"].to_list() == expected
    assert set(expected) - {None} <= set(levels.STRATA)


@pytest.mark.parametrize("setup", SETUPS)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_neither_order_nor_sharding_matters(setup, data):
    candidates, labels = data.draw(labelled(setup))
    config = mine_config(setup)
    whole, left_out = levels.machine_levels(candidates, labels, CONFIG, config)
    shuffled = candidates.sample(fraction=1.0, shuffle=True, seed=3), labels.reverse()
    assert levels.machine_levels(*shuffled, CONFIG, config)[0].equals(whole)
    parts, counts = [], Counter()
    for query in ("q0", "q1", "q2"):
        mine = pl.col("query_id") == query
        shard = levels.machine_levels(candidates.filter(mine), labels.filter(mine), CONFIG, config)
        parts.append(shard[0])
        counts += Counter(shard[1])
    assert pl.concat(parts).equals(whole)
    assert dict(counts) == left_out


def one_pair(grade: int, **ranks: int | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    channels = tuple(ranks)
    row = {"query_id": "q", "item_id": "i"}
    found = sum(rank is not None for rank in ranks.values())
    placed = {f"rank_{c}": rank for c, rank in ranks.items()}
    candidates = candidates_of(channels, [row | placed | {"channels": found, "tfidf": 0.25}])
    sure = {"p_relevant": float(grade >= 3), "p_irrelevant": float(grade <= 1)}
    sure |= {"expected_grade": float(grade), "confidence": 1.0}
    return candidates, labels_of([row | {"grade": grade} | sure])


@pytest.mark.parametrize(
    ("grade", "level"),
    [(4, "hard_positive"), (3, "hard_positive"), (1, "hard_negative"), (0, "hard_negative")],
)
def test_the_grade_decides_between_two_rules_that_both_hold(grade, level):
    pair = one_pair(grade, dictionary=None, bm25=5, dense=None)
    made, _ = levels.machine_levels(*pair, CONFIG, MineConfig())
    assert made["level"].to_list() == [level]


@pytest.mark.parametrize(("grade", "level"), [(4, "easy_positive"), (0, "hard_negative")])
def test_a_shop_with_one_channel_has_easy_positives_and_hard_negatives(grade, level):
    made, _ = levels.machine_levels(*one_pair(grade, dense=7), CONFIG, mine_config("one"))
    assert made["level"].to_list() == [level]


def test_the_reason_holds_the_grade_its_certainty_and_every_rank():
    candidates, labels = one_pair(2, dictionary=None, bm25=5, dense=None)
    shares = {"p_relevant": 0.64, "p_irrelevant": 0.1}
    labels = labels.with_columns(pl.lit(p, pl.Float32).alias(name) for name, p in shares.items())
    made, _ = levels.machine_levels(candidates, labels, CONFIG, MineConfig())
    assert made["grade"].to_list() == [2]
    assert made["reason"].to_list() == [
        "grade 2, relevant 0.64; ranks: dictionary -, bm25 5, dense -; tf-idf 0.25"
    ]


def test_a_pair_that_is_as_likely_relevant_as_not_is_no_example():
    candidates, labels = one_pair(4, dictionary=None, bm25=5, dense=None)
    even = labels.with_columns(
        pl.lit(0.5, pl.Float32).alias(name) for name in ("p_relevant", "p_irrelevant")
    )
    made, left_out = levels.machine_levels(candidates, even, ExamplesConfig(), MineConfig())
    assert made.is_empty()
    assert left_out == {"neither sure to be relevant nor irrelevant": 1}
    hard = ExamplesConfig(by="grade")
    assert levels.machine_levels(candidates, even, hard, MineConfig())[0].height == 1


@pytest.mark.parametrize(("items", "depth"), [(3, 50), (54_667, 54), (400_000, 400), (10**7, 500)])
def test_what_counts_as_retrieved_grows_with_the_catalog(items, depth):
    assert ExamplesConfig().for_catalog(items).retrieved_depth == depth
    assert ExamplesConfig(retrieved_depth=7).for_catalog(items).retrieved_depth == 7
    for rank, level in ((depth, []), (depth + 1, ["token_similar_negative"])):
        deep = one_pair(0, dictionary=rank, bm25=None, dense=rank)
        config = ExamplesConfig().for_catalog(items)
        assert levels.machine_levels(*deep, config, MineConfig())[0]["level"].to_list() == level


def test_human_grades_make_seed_levels():
    judgments = pl.DataFrame(
        {"query_id": ["b"] * 3 + ["a"] * 2, "item_id": list("zyxwv"), "grade": [4, 2, 0, 1, 3]},
        schema_overrides={"grade": pl.Int8},
    )
    made, left_out = levels.seed_levels(judgments)
    assert made.select("query_id", "level", "item_id", "grade", "p_relevant", "source").rows() == [
        ("a", "seed_negative", "w", 1, 0.0, "human"),
        ("a", "seed_positive", "v", 3, 1.0, "human"),
        ("b", "seed_negative", "x", 0, 0.0, "human"),
        ("b", "seed_positive", "z", 4, 1.0, "human"),
    ]
    assert (made["p_irrelevant"] == 1 - made["p_relevant"]).all()
    assert left_out == {"human grade 2": 1}
    assert validate(made, EXAMPLES).equals(made)


def test_random_negatives_equal_a_plain_reference():
    queries, items = [f"q{k}" for k in range(30)], [f"i{k:02}" for k in range(25)]
    rng = np.random.default_rng(0)
    excluded = pl.DataFrame(
        {
            "query_id": rng.choice(queries, 300),
            "item_id": rng.choice(items, 300),
        }
    )
    made = levels.random_negatives(queries, items, excluded, 10, seed=5)
    known = set(excluded.rows())
    drawn = draw_positions(hash_strings(queries, 5), 10, len(items))
    expected = {
        (query, items[place])
        for query, places in zip(queries, drawn.tolist(), strict=True)
        for place in places
    } - known
    assert made.select("query_id", "item_id").rows() == sorted(expected)
    assert not set(made.select("query_id", "item_id").rows()) & known
    assert made.group_by("query_id").len()["len"].max() <= 10
    assert made["grade"].null_count() == made.height
    assert validate(made, EXAMPLES).equals(made)
    halves = [
        levels.random_negatives(part, items, excluded, 10, seed=5)
        for part in (queries[:7], queries[7:])
    ]
    assert pl.concat(halves).sort("query_id", "item_id").equals(made)
    assert not levels.random_negatives(queries, items, excluded, 10, seed=6).equals(made)
    assert levels.random_negatives(queries, items, excluded, 0, seed=5).equals(empty(EXAMPLES))


def plain_cap(rows: list[dict], config: ExamplesConfig) -> set[tuple[str, str]]:
    """Levels take turns, each with its surest first; ties go to the smaller id."""
    kept = set()
    for query in {row["query_id"] for row in rows}:
        sides = ((POSITIVE_LEVELS, config.max_positives, "p_relevant"),)
        sides += ((NEGATIVE_LEVELS, config.max_negatives, "p_irrelevant"),)
        for names, cap, sure in sides:
            queues = []
            for level in sorted(names):
                queue = [r for r in rows if r["query_id"] == query and r["level"] == level]
                queue.sort(key=lambda r: (-(r[sure] or 0.0), r["item_id"]))
                queues.append(queue)
            turns = [queue[k] for k in range(len(rows)) for queue in queues if k < len(queue)]
            kept |= {(query, row["item_id"]) for row in turns[:cap]}
    return kept


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(LEVELS), SHARES), max_size=40),
    st.integers(1, 9),
    st.integers(1, 9),
)
@settings(deadline=None)
def test_caps_equal_a_plain_reference(rows, positives, negatives):
    table = pl.DataFrame(
        [
            {
                "query_id": query,
                "item_id": f"i{number:02}",
                "level": level,
                "p_relevant": None if level == "random_negative" else share,
                "p_irrelevant": None if level == "random_negative" else 1 - share,
                "source": "judge",
                "reason": "",
            }
            for number, (query, level, share) in enumerate(rows)
        ],
        schema=dict(EXAMPLES.columns),
    )
    config = ExamplesConfig(max_positives=positives, max_negatives=negatives)
    kept, left_out = levels.capped(table, config)
    expected = plain_cap(table.to_dicts(), config)
    assert set(kept.select("query_id", "item_id").rows()) == expected
    assert kept.height == len(expected)
    assert left_out == {"over the cap of a query": table.height - kept.height}
    assert kept.equals(kept.sort("query_id", "level", "item_id"))
    again, _ = levels.capped(table.sample(fraction=1.0, shuffle=True, seed=1), config)
    assert again.equals(kept)
