from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.adapters.example_store import build_store
from trivium.domain.turns import MAX_HUMAN_REPEATS, Rows
from trivium.foundation.tables import EXAMPLES, LEVELS, POSITIVE_LEVELS, empty
from trivium.foundation.train_config import StageConfig

QUERIES = [f"q{k:02}" for k in range(12)]
ITEMS = [f"i{k:02}" for k in range(40)]
JUDGED = ["hard_negative", "seed_negative"]


def make_examples(seed: int, queries: int = 12, per_query: int = 14) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for query in QUERIES[:queries]:
        for item in rng.choice(ITEMS, rng.integers(2, per_query), replace=False):
            level = LEVELS[rng.integers(len(LEVELS))]
            positive = level in POSITIVE_LEVELS
            grade = int(rng.integers(3, 5) if positive else rng.integers(0, 2))
            sure = float(rng.random())
            source = "human" if level.startswith("seed") else "judge"
            row = {"query_id": query, "item_id": str(item), "level": level, "reason": ""}
            if level == "random_negative":
                rows.append(row | {"source": "sampled"})
            else:
                p = {"p_relevant": sure if positive else 1 - sure, "p_irrelevant": 1 - sure}
                rows.append(row | p | {"grade": grade, "source": source})
    return pl.DataFrame(rows, schema=dict(EXAMPLES.columns))


def stage_of(**settings) -> StageConfig:
    given = {"name": "s", "loss": "mnr", "positives": list(POSITIVE_LEVELS), "negatives": JUDGED}
    return StageConfig(**(given | {"steps": 5, "batch": 8} | settings))


@pytest.fixture(scope="module", autouse=True)
def folders(tmp_path_factory):
    training_rows.place = tmp_path_factory.mktemp("stores")


def training_rows(
    examples: pl.DataFrame, stage: StageConfig, seed: int, parts: int = 1
) -> Rows | None:
    """All rows of a stage, by way of files, as training draws them."""
    folder = Path(tempfile.mkdtemp(dir=training_rows.place))
    queries = pl.DataFrame({"query_id": QUERIES, "text": QUERIES})
    items = pl.DataFrame({"item_id": ITEMS, "text": ITEMS})
    cut = -(-len(QUERIES) // parts)
    some = [QUERIES[at : at + cut] for at in range(0, len(QUERIES), cut)]
    shards = [examples.filter(pl.col("query_id").is_in(ids)) for ids in some]
    store = build_store(folder / "store", shards, queries, items)
    rows = store.rows(stage, seed, folder / "rows")
    if rows is None:
        return None
    drawn = rows.draw(np.arange(rows.total))
    numbers = [QUERIES.index(text) for text in store.queries.at(drawn.queries)]
    return Rows(np.array(numbers), drawn.items, drawn.targets)


def pairs_of(rows, column: int = 0) -> list[tuple[str, str]]:
    places = zip(rows.queries.tolist(), rows.items[:, column].tolist(), strict=True)
    return [(QUERIES[query], ITEMS[item]) for query, item in places]


def plain_positives(examples: pl.DataFrame, stage: StageConfig) -> set[tuple[str, str]]:
    return {
        (row["query_id"], row["item_id"])
        for row in examples.to_dicts()
        if row["level"] in stage.positives
        and row["grade"] >= stage.min_grade
        and (
            row["source"] == "human"
            or np.float32(row["p_relevant"]) >= np.float32(stage.min_p_relevant)
        )
    }


def assert_in_turn(pairs: list[tuple[str, str]], pool: set[tuple[str, str]]) -> None:
    """The pool was used up again and again, in each round query by query in turn."""
    used = Counter(pairs)
    rounds, rest = divmod(len(pairs), len(pool))
    assert set(used) <= pool
    assert set(used.values()) <= {rounds, rounds + 1}
    assert len(used) == min(len(pairs), len(pool))
    owned = Counter(query for query, _ in pool)
    last = Counter(query for query, item in pool if used[query, item] == rounds + 1)
    assert last.total() == rest
    for query, count in owned.items():
        for other in owned:
            assert last[other] <= last[query] + 1 or last[query] == count


def test_a_query_gives_its_best_positives_first():
    examples = make_examples(3).with_columns(expected_grade=pl.col("grade").cast(pl.Float32))
    grades = {(row["query_id"], row["item_id"]): row["grade"] for row in examples.to_dicts()}
    stage = stage_of(negatives=[], steps=9)
    pool = plain_positives(examples, stage)
    given_ = pairs_of(training_rows(examples, stage, 3))
    assert len(given_) > len(pool)
    for query in {query for query, _ in pool}:
        own = [pair for pair in pool if pair[0] == query]
        first = [grades[pair] for pair in given_ if pair[0] == query][: len(own)]
        assert first == sorted((grades[pair] for pair in own), reverse=True)


@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(1, 12),
    batch=st.integers(1, 16),
    floor=st.sampled_from([0.0, 0.5, 0.8]),
    grade=st.sampled_from([3, 4]),
)
@settings(max_examples=60, deadline=None)
def test_positives_come_in_turn(seed, steps, batch, floor, grade):
    examples = make_examples(seed)
    stage = stage_of(steps=steps, batch=batch, min_p_relevant=floor, min_grade=grade)
    pool = plain_positives(examples, stage)
    rows = training_rows(examples, stage, seed)
    if rows is None:
        assert not pool or not examples["level"].is_in(JUDGED).any()
        return
    assert rows.queries.shape == (steps * batch,)
    assert rows.items.shape == (steps * batch, 2)
    assert rows.targets.shape == (steps * batch, 0)
    assert_in_turn(pairs_of(rows), pool)


def test_every_query_comes_once_before_any_comes_twice():
    examples = make_examples(5)
    stage = stage_of(negatives=[], steps=1)
    owners = {query for query, _ in plain_positives(examples, stage)}
    for batch in range(1, len(owners) + 1):
        sized = stage.model_copy(update={"batch": batch})
        rows = training_rows(examples, sized, 0)
        assert rows is not None
        assert len(set(rows.queries.tolist())) == batch
        assert rows.items.shape == (batch, 1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_human_share_is_exact(share):
    examples = make_examples(2)
    stage = stage_of(human_share=share, steps=9, batch=7)
    rows = training_rows(examples, stage, 4)
    assert rows is not None
    pool = plain_positives(examples, stage)
    human = set(examples.filter(pl.col("source") == "human").select("query_id", "item_id").rows())
    pairs = pairs_of(rows)
    assert len(pairs) == 63
    assert sum(pair in human for pair in pairs) == round(63 * share)
    for part in (pool & human, pool - human):
        taken = [pair for pair in pairs if pair in part]
        if taken:
            assert_in_turn(taken, part)


def test_few_human_positives_are_not_repeated_without_end():
    examples = make_examples(2)
    human = examples.filter((pl.col("source") == "human") & (pl.col("grade") >= 3)).head(2)
    few = pl.concat([human, examples.filter(pl.col("source") != "human")])
    stage = stage_of(human_share=0.5, steps=10, batch=10, negatives=[])
    rows = training_rows(few, stage, 4)
    assert rows is not None
    taken = Counter(pairs_of(rows))
    assert len(pairs_of(rows)) == 100
    for pair in human.select("query_id", "item_id").rows():
        assert taken[pair] == MAX_HUMAN_REPEATS


def test_few_human_queries_do_not_wear_out():
    examples = make_examples(2, per_query=30).with_columns(
        source=pl.when(pl.col("query_id") == "q05").then(pl.lit("human")).otherwise(pl.lit("judge"))
    )
    rows = training_rows(examples, stage_of(human_share=0.9, steps=6, negatives=[]), 4)
    of_query = Counter(query for query, _ in pairs_of(rows))
    others = len(of_query) - 1
    assert of_query["q05"] == round(48 * MAX_HUMAN_REPEATS / (MAX_HUMAN_REPEATS + others))


@pytest.mark.parametrize("source", ["human", "judge"])
def test_a_share_of_nothing_is_filled_by_the_other_side(source):
    examples = make_examples(2).filter((pl.col("source") == source) | pl.col("level").is_in(JUDGED))
    rows = training_rows(examples, stage_of(human_share=0.5), 4)
    assert rows is not None
    assert len(rows.queries) == 40
    assert_in_turn(pairs_of(rows), plain_positives(examples, stage_of()))


@pytest.mark.parametrize("loss", ["mnr", "triplet"])
def test_negatives_are_the_querys_own_or_random_items_not_known_as_relevant(loss):
    examples = make_examples(8, per_query=30)
    lonely = pl.col("query_id").is_in(["q00", "q03", "q07"]) & pl.col("level").is_in(JUDGED)
    examples = examples.filter(~lonely)
    rows = training_rows(examples, stage_of(loss=loss, steps=200), 1)
    assert rows is not None
    own = examples.filter(pl.col("level").is_in(JUDGED)).select("query_id", "item_id").rows()
    owners = {query for query, _ in own}
    relevant = set(examples.filter(pl.col("grade") >= 3).select("query_id", "item_id").rows())
    drawn = set(pairs_of(rows, column=1))
    asked = {query for query, _ in drawn}
    assert {pair for pair in drawn if pair[0] in owners} == {p for p in own if p[0] in asked}
    random = {pair for pair in drawn if pair[0] not in owners}
    assert {"q00", "q07"} <= {query for query, _ in random}
    assert len({item for _, item in random}) > len(ITEMS) // 2
    assert not random & relevant


def test_bce_has_as_many_positives_as_negatives():
    examples = make_examples(3)
    stage = stage_of(loss="bce", negatives=["random_negative"], steps=7, batch=9)
    rows = training_rows(examples, stage, 0)
    assert rows is not None
    assert rows.items.shape == (63, 1)
    pairs, labels = pairs_of(rows), rows.targets[:, 0]
    ones = [pair for pair, label in zip(pairs, labels, strict=True) if label == 1]
    zeros = [pair for pair, label in zip(pairs, labels, strict=True) if label == 0]
    assert (len(ones), len(zeros)) == (32, 31)
    assert_in_turn(ones, plain_positives(examples, stage))
    levels = examples.filter(pl.col("level") == "random_negative")
    assert_in_turn(zeros, set(levels.select("query_id", "item_id").rows()))
    assert set(labels[:9]) == {0, 1}


@pytest.mark.parametrize(
    "settings",
    [
        {"min_p_relevant": 1.0, "positives": ["easy_positive", "hard_positive"]},
    ],
)
def test_a_stage_without_positives_or_negatives_has_no_rows(settings):
    assert training_rows(make_examples(0), stage_of(**settings), 0) is None


@pytest.mark.parametrize("loss", ["mnr", "triplet", "bce"])
def test_a_stage_whose_levels_are_empty_has_no_rows(loss):
    examples = make_examples(0)
    without = {
        "hard_positive": {"positives": ["hard_positive"]},
        "hard_negative": {"negatives": ["hard_negative"]},
    }
    for level, changed in without.items():
        rest = examples.filter(pl.col("level") != level)
        assert training_rows(rest, stage_of(loss=loss, **changed), 0) is None


def test_no_examples_give_no_rows():
    assert training_rows(empty(EXAMPLES), stage_of(), 0) is None


@pytest.mark.parametrize("loss", ["mnr", "triplet", "bce"])
def test_the_same_seed_gives_the_same_rows_and_another_seed_others(loss):
    examples = make_examples(1)
    stage = stage_of(loss=loss, human_share=0.5)

    def laid_out(table, seed, name="s"):
        named = stage.model_copy(update={"name": name})
        rows = training_rows(table, named, seed)
        assert rows is not None
        return [rows.queries.tolist(), rows.items.tolist(), rows.targets.tolist()]

    first = laid_out(examples, 0)
    assert laid_out(examples.sample(fraction=1.0, shuffle=True, seed=9), 0) == first
    assert laid_out(examples, 1) != first
    assert laid_out(examples, 0, "t") != first


def test_shards_give_the_rows_of_the_whole():
    examples = make_examples(4)
    for loss in ("mnr", "bce", "kl"):
        stage = stage_of(loss=loss, human_share=0.4, columns=2)
        whole, cut = (training_rows(examples, stage, 0, parts) for parts in (1, 5))
        assert all(np.array_equal(getattr(whole, f), getattr(cut, f)) for f in vars(whole))


def test_any_rows_can_be_drawn_alone(tmp_path):
    queries = pl.DataFrame({"query_id": QUERIES, "text": QUERIES})
    items = pl.DataFrame({"item_id": ITEMS, "text": ITEMS})
    store = build_store(tmp_path / "store", [make_examples(4)], queries, items)
    rows = store.rows(stage_of(human_share=0.4), 0, tmp_path / "rows")
    whole = rows.draw(np.arange(rows.total))
    for numbers in ([7], [39, 0], list(range(8, 16))):
        some = rows.draw(np.array(numbers))
        assert np.array_equal(some.queries, whole.queries[numbers])
        assert np.array_equal(some.items, whole.items[numbers])


def test_columns_are_different_negatives_of_the_query_with_the_grades_expected():
    examples = make_examples(8, per_query=30).with_columns(
        expected_grade=pl.int_range(pl.len()).cast(pl.Float32) / 100
    )
    rows = training_rows(examples, stage_of(loss="kl", columns=3, steps=30), 1)
    assert rows.items.shape == rows.targets.shape == (240, 4)
    expected = {
        (row["query_id"], row["item_id"]): row["expected_grade"] for row in examples.to_dicts()
    }
    negatives = examples.filter(pl.col("level").is_in(JUDGED))
    own = set(negatives.select("query_id", "item_id").rows())
    owned = Counter(query for query, _ in own)
    for column in range(4):
        for pair, target in zip(pairs_of(rows, column), rows.targets[:, column], strict=True):
            random = column > owned[pair[0]]
            assert target == pytest.approx(0.0 if random else expected[pair])
    for row, query in zip(rows.items, rows.queries, strict=True):
        pairs = {(QUERIES[query], ITEMS[item]) for item in row[1:]}
        assert len(pairs & own) == min(3, owned[QUERIES[query]])


def test_epochs_are_passes_over_the_positives():
    examples = make_examples(4)
    stage = stage_of(epochs=2.0, batch=4, steps=1)
    rows = training_rows(examples, stage, 0)
    pool = plain_positives(examples, stage)
    assert len(rows.queries) == 4 * round(2 * len(pool) / 4)


@pytest.mark.parametrize("floor", [0.0, 0.4, 0.9])
def test_machine_negatives_must_be_sure_and_human_and_random_ones_need_not(floor):
    examples = make_examples(8, per_query=30)
    names = ["hard_negative", "seed_negative", "random_negative"]
    stage = stage_of(negatives=names, min_p_irrelevant=floor, steps=300)
    rows = training_rows(examples, stage, 1)
    named = examples.filter(pl.col("level").is_in(names))
    sure = (pl.col("source") != "judge") | (pl.col("p_irrelevant") >= floor)
    allowed = set(named.filter(sure).select("query_id", "item_id").rows())
    refused = set(named.filter(~sure).select("query_id", "item_id").rows())
    drawn = set(pairs_of(rows, 1))
    asked = {query for query, _ in drawn}
    with_some = {query for query, _ in allowed}
    assert {p for p in allowed if p[0] in asked} <= drawn
    assert not {p for p in drawn & refused if p[0] in with_some}


def test_what_is_likely_relevant_is_known_and_codes_are_sorted(tmp_path):
    queries = pl.DataFrame({"query_id": QUERIES, "text": QUERIES})
    items = pl.DataFrame({"item_id": ITEMS, "text": ITEMS})
    examples = make_examples(6)
    shards = [
        examples.filter(pl.col("query_id") >= "q06"),
        examples.filter(pl.col("query_id") < "q06"),
    ]
    store = build_store(tmp_path / "store", shards, queries, items)
    texts = store.queries.at(np.arange(len(store.queries)))
    expected = {
        texts.index(row["query_id"]) * len(ITEMS) + ITEMS.index(row["item_id"])
        for row in examples.to_dicts()
        if (row["grade"] or 0) >= 3 or (row["p_relevant"] or 0) >= 0.5
    }
    assert store.known.tolist() == sorted(expected)
