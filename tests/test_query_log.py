"""Folding and sampling: what asks the same, who stands, and exact shares of the segments."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from trivium.adapters.channels.coverage import CatalogWords
from trivium.adapters.channels.synonyms import Synonyms
from trivium.adapters.channels.words import fold
from trivium.domain.held_words import any_item_has
from trivium.domain.query_log import (
    fold_questions,
    hashed,
    sample_queries,
    segment_sizes,
    short_of,
)
from trivium.domain.sampling import hash_strings
from trivium.domain.splits import with_parts
from trivium.foundation.config import SplitConfig, parse_config
from trivium.foundation.errors import ConfigError, InputError
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.text import question, word_set
from trivium.pipeline.queries_to_mine import queries_to_mine


def key_of(text, key=question):
    return pl.DataFrame({"query": [text]}).select(key("query"))["query"][0]


SAME = [
    ("Red Mugs!", "mug, red"),
    ("women's running shoes", "womens running shoe"),
    ("Café crème", "cafe creme"),
    ("size 10 shoes", "shoes size 10"),
    ("tv stand 55 inch", "55 inch tv stand"),
    ("2 x 4 lumber", "lumber 2 x 4"),
    ("case for iphone", "for iphone cases"),
    ("tea without sugar", "without sugar teas"),
    ("gluten-free bread", "bread gluten free"),
    ("Lego™ boxes", "box lego"),
    ("ケージ 犬", "犬 ケージ"),
]
OTHER = [
    ("shoes size 10", "shoes size 1"),
    ("2x4", "4x2"),
    ("2 x 4 board", "4 x 2 board"),
    ("2 inch 4 foot board", "2 foot 4 inch board"),
    ("pipe 1.5", "pipe 15"),
    ("1/2 in pipe", "1 2 in pipe"),
    ('6" pot', "6' pot"),
    ("galaxy s10 case", "galaxy s10+ case"),
    ("usb to hdmi adapter", "hdmi to usb adapter"),
    ("dress with belt without pockets", "dress without belt with pockets"),
    ("gluten free dairy bread", "dairy free gluten bread"),
    ("tea with sugar", "tea without sugar"),
    ("toys for dogs", "dogs toys"),
    ("glass", "glas"),
    ("🎁", "⌚"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_one_question_in_two_spellings(one, other):
    assert key_of(one) == key_of(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_two_questions_stay_two(one, other):
    assert key_of(one) != key_of(other)


LETTERS = st.text("aeisuxzhcyé", min_size=1, max_size=7)


@settings(max_examples=300, deadline=None)
@given(st.lists(LETTERS | st.sampled_from(["mp3s", "1950s"]), min_size=1, max_size=5))
def test_plurals_are_those_of_the_channels(words):
    folded = sorted(fold(word.replace("é", "e")) for word in words)
    assert key_of(" ".join(words), word_set) == " ".join(folded)


WORDS = ["red", "Mugs", "mug", "2", "4x", "to", "without", "free", "usb", "s10+", "1/2", "🎁"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=5), st.randoms())
def test_the_same_question_has_the_same_words(words, random):
    other = random.sample(words, len(words))
    one, two = " ".join(words), " ".join(other)
    assert key_of(one, word_set) == key_of(two, word_set)
    numbers = [re.sub(r"\D", "", word) for word in words if re.search(r"\d", word)]
    shuffled = [re.sub(r"\D", "", word) for word in other if re.search(r"\d", word)]
    if key_of(one) == key_of(two):
        assert numbers == shuffled


def table(rows, **schema):
    columns = {"query_id": pl.String, "query": pl.String, "frequency": pl.Int64, **schema}
    return pl.DataFrame(rows, schema=columns, orient="row")


def test_the_most_frequent_spelling_stands_and_takes_the_frequencies():
    made = fold_questions(
        table(
            [
                ("a", "mugs red", 5),
                ("b", "red mug", 9),
                ("c", "Red mug", 9),
                ("d", "red mug!", None),
                ("e", "lamp", None),
                ("f", "lamps", None),
                ("g", "hose", 1),
            ]
        )
    )
    assert made.queries.select("query_id", "query", "frequency").rows() == [
        ("b", "red mug", 23),
        ("e", "lamp", None),
        ("g", "hose", 1),
    ]
    assert made.folded.rows() == [("a", "b"), ("c", "b"), ("d", "b"), ("f", "e")]


def plain_fold(rows):
    groups = defaultdict(list)
    for row in rows:
        groups[key_of(row[1])].append(row)
    kept, folded = [], []
    for group in groups.values():
        known = [row[2] for row in group if row[2] is not None]
        best = min(group, key=lambda r: (r[2] is None, -(r[2] or 0), r[0]))
        kept.append((best[0], best[1], sum(known) if known else None))
        folded += [(row[0], best[0]) for row in group if row is not best]
    return sorted(kept), sorted(folded)


TEXTS = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
LOG = st.lists(st.tuples(TEXTS, st.none() | st.integers(0, 4)), max_size=25)


@settings(max_examples=60, deadline=None)
@given(LOG, st.randoms())
def test_folding_equals_the_plain_way_in_any_order(log, random):
    rows = [(f"q{n:02}", text, frequency) for n, (text, frequency) in enumerate(log)]
    kept, folded = plain_fold(rows)
    random.shuffle(rows)
    made = fold_questions(table(rows))
    assert made.queries.select("query_id", "query", "frequency").rows() == kept
    assert made.folded.rows() == folded


# Sampling


def segmented(sizes):
    rows = [(f"{name}{n}", name, 1, name) for name, size in sizes.items() for n in range(size)]
    return table(rows, segment=pl.String)


def sizes_of(drawn):
    return Counter(drawn["segment"].to_list())


def plain_seats(sizes, count, weights):
    """Sainte-Laguë, one seat after another, to the segments that still have queries."""
    seats = Counter()
    for _ in range(count):
        open_ = [n for n in ("head", "torso", "tail") if weights[n] and seats[n] < sizes[n]]
        if not open_:
            break
        best = max(open_, key=lambda n: weights[n] / (2 * seats[n] + 1))
        seats[best] += 1
    return seats


SIZES = st.fixed_dictionaries({name: st.integers(0, 12) for name in ("head", "torso", "tail")})
WEIGHTS = st.fixed_dictionaries(
    {name: st.sampled_from([0, 1, 2, 5]) for name in ("head", "torso", "tail")}
)


@settings(max_examples=80, deadline=None)
@given(SIZES, WEIGHTS, st.integers(1, 30), st.randoms())
def test_seats_are_those_of_the_plain_way_and_samples_nest(sizes, weights, count, random):
    if not any(weights[name] and sizes[name] for name in sizes):
        return
    queries = segmented(sizes)
    order = random.sample(range(queries.height), queries.height)
    drawn = sample_queries(queries[order], count, weights, seed=3)
    assert sizes_of(drawn) == plain_seats(sizes, count, weights)
    assert drawn.equals(drawn.sort("query_id"))
    larger = sample_queries(queries, 2 * count, weights, seed=3)
    assert set(drawn["query_id"]) <= set(larger["query_id"])


def test_within_a_segment_the_hash_decides():
    queries = segmented({"head": 50, "tail": 400})
    drawn = sample_queries(queries, 60, {"head": 1, "tail": 3}, seed=7)
    for name, seats in (("head", 15), ("tail", 45)):
        ids = queries.filter(segment=name)["query_id"].to_list()
        ranked = sorted(zip(hash_strings(ids, 7).tolist(), ids, strict=True))
        assert set(drawn.filter(segment=name)["query_id"]) == {q for _, q in ranked[:seats]}
    assert not sample_queries(queries, 60, {"head": 1, "tail": 3}, seed=8).equals(drawn)
    plain = sample_queries(queries, 60, {}, seed=7)
    assert plain.height == 60
    assert set(plain["query_id"]) <= set(sample_queries(queries, 90, {}, seed=7)["query_id"])


def test_what_a_segment_lacks_goes_to_the_others_and_is_said():
    queries = segmented({"head": 3, "torso": 100, "tail": 100})
    weights = {"head": 2, "torso": 1, "tail": 1}
    drawn = sample_queries(queries, 43, weights, seed=0)
    assert sizes_of(drawn) == {"head": 3, "torso": 20, "tail": 20}
    (line,) = short_of(queries, drawn, 43, weights)
    assert line == "head has 3 queries of the 22 of its weight"
    assert short_of(queries, queries, 40, {}) == []


def test_weights_without_segments_are_explained():
    queries = segmented({"tail": 3})
    with pytest.raises(InputError, match="queries of tail alone"):
        sample_queries(queries, 2, {"head": 1}, seed=0)
    nothing = queries.with_columns(segment=pl.lit(None, dtype=pl.String))
    with pytest.raises(InputError, match="without a segment"):
        sample_queries(nothing, 2, {"head": 1}, seed=0)
    with pytest.raises(ConfigError, match="above 0"):
        sample_queries(queries, 2, {"head": 0}, seed=0)


def test_hashes_in_blocks_are_the_hashes(monkeypatch):
    ids = pl.Series([f"q{n}" for n in range(100)])
    monkeypatch.setattr("trivium.domain.query_log._BLOCK", 7)
    assert hashed(ids, 5).to_list() == hash_strings(ids.to_list(), 5).tolist()
    assert hashed(ids[:0], 5).len() == 0


def test_shares_of_the_traffic():
    rows = [("a", "a", 6, "head"), ("b", "b", 3, "tail"), ("c", "c", 1, "tail")]
    sizes = segment_sizes(table(rows, segment=pl.String))
    assert sizes.drop("traffic").rows() == [("head", 1, 6), ("torso", 0, 0), ("tail", 2, 4)]
    assert sizes["traffic"].to_list() == pytest.approx([0.6, 0.0, 0.4])


# What the catalog can answer


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 7)), min_size=1, max_size=8),
    st.lists(st.sets(st.integers(0, 7), max_size=6), min_size=1, max_size=6),
    st.integers(1, 4),
)
def test_items_with_enough_words_are_those_of_the_plain_way(items, queries, needed):
    listed = [[n for n, item in enumerate(items) if word in item] for word in range(8)]
    starts = np.cumsum([0] + [len(found) for found in listed])
    held = np.array(list(itertools.chain(*listed)), dtype=np.int32)
    offsets = np.cumsum([0] + [len(query) for query in queries])
    words = np.array([word for query in queries for word in query], dtype=np.int32)
    need = np.full(len(queries), needed)
    found = any_item_has((starts, held), (offsets, words), need)
    assert found.tolist() == [
        any(len(query & item) >= needed for item in items) for query in queries
    ]


CATALOG = pl.DataFrame(
    {
        "item_id": ["i1", "i2", "i3", "i4"],
        "title": ["red kettle", "steel kettle KW-18d", "steel chair", "chair"],
        "text": ["red kettle", "steel kettle", "steel chair", "chair"],
        "colour": [None, "green", None, None],
    }
)


def answerable(texts, least, synonyms=None):
    queries = pl.DataFrame({"text": texts})
    return CatalogWords(CATALOG, synonyms).answerable(queries, least).to_list()


def test_words_of_every_field_corrections_and_synonyms_count():
    texts = ["kw18d", "kettel", "green kettle", "brewer", "xqzw", "", "!!"]
    assert answerable(texts, 0.01) == [True, True, True, False, False, False, False]
    synonyms = Synonyms()
    synonyms.add_equivalents(["java brewer", "kettle"])
    assert answerable(["brewer", "java brewer", "xqzw"], 1.0, synonyms) == [True, True, False]


def test_all_words_must_be_of_one_item():
    texts = ["red kettle", "red chair", "green steel kettle", "red lamp xq"]
    assert answerable(texts, 1.0) == [True, False, True, False]
    assert answerable(texts, 0.5) == [True, True, True, False]
    assert answerable(texts, 0.3) == [True, True, True, True]


def test_blocks_of_queries_change_nothing(monkeypatch):
    texts = ["red kettle", "red chair", "xqzw", "kettel", "", "chair"] * 5
    whole = answerable(texts, 1.0)
    monkeypatch.setattr("trivium.adapters.channels.coverage._BLOCK", 4)
    assert answerable(texts, 1.0) == whole
    assert answerable([], 1.0) == []


# Together


def training(*texts):
    rows = [(f"q{n:02}", text, 10 - n % 5, "tail") for n, text in enumerate(texts)]
    return table(rows, segment=pl.String).with_columns(text=pl.col("query"))


def test_what_is_mined_is_folded_answerable_and_sampled():
    queries = training("red kettle", "kettles red", "chair", "Chairs", "xqzw wv", "steel chair")
    chosen = queries_to_mine(queries, CATALOG, MineConfig(queries=2), 0)
    assert chosen.queries.columns == ["query_id", "query", "text", "frequency", "segment"]
    assert chosen.queries.height == 2
    assert chosen.folded.rows() == [("q01", "q00"), ("q03", "q02")]
    assert chosen.summary == [
        "queries folded into another spelling: 2, such as 'kettles red' into 'red kettle', "
        "'Chairs' into 'chair'",
        "queries set aside, no item has any of their words: 1, such as 'xqzw wv'",
        "queries set aside, outside the sample: 1",
    ]
    both = queries_to_mine(queries, CATALOG, MineConfig(queries=9), 0).queries
    assert dict(both.select("query_id", "frequency").iter_rows())["q00"] == 19


def test_every_step_can_be_turned_off():
    queries = training("red kettle", "kettles red", "xqzw wv")
    chosen = queries_to_mine(queries, CATALOG, MineConfig(fold=False, min_coverage=0), 0)
    assert_frame_equal(chosen.queries, queries.select(chosen.queries.columns))
    assert chosen.folded.is_empty()
    assert chosen.summary == []


def test_nothing_left_is_explained():
    chosen = queries_to_mine(training("xqzw", "wvzz"), CATALOG, MineConfig(), 0)
    assert chosen.queries.is_empty()
    with pytest.raises(InputError, match=r"lower mine\.min_coverage"):
        chosen.at_least_one()


def test_texts_that_the_template_tells_apart_are_not_folded():
    queries = training("red kettle", "red kettle").with_columns(
        text=pl.Series(["red kettle home", "red kettle garden"])
    )
    assert queries_to_mine(queries, CATALOG, MineConfig(), 0).queries.height == 2


@pytest.mark.parametrize(
    "mine",
    [
        {"segments": {"head": 1}},
        {"queries": 5, "segments": {"head": 0}},
        {"queries": 5, "segments": {"head": -1}},
        {"queries": 5, "segments": {"middle": 1}},
    ],
)
def test_faulty_weights_are_found_at_load_time(mine):
    with pytest.raises(ConfigError, match="mine"):
        parse_config({"mine": mine})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.booleans()), min_size=2, max_size=30), st.integers(0, 3))
def test_no_query_is_folded_across_the_line_to_what_is_held_out(log, seed):
    texts, judged = zip(*log, strict=True)
    queries = training(*texts).with_columns(segment=pl.lit(None, dtype=pl.String))
    graded = queries["query_id"].filter(pl.Series(judged))
    dealt = with_parts(queries, graded, SplitConfig(), seed)
    mined = dealt.filter(part="train")
    held = dealt.filter(~pl.col("part").is_in(["train", "seed"]))
    chosen = queries_to_mine(mined, CATALOG, MineConfig(min_coverage=0), seed)
    for key in (question, word_set):
        asked = set(chosen.queries.select(key("query"))["query"])
        assert not asked & set(held.select(key("query"))["query"])
    gone = set(chosen.folded["query_id"])
    assert gone | set(chosen.queries["query_id"]) == set(mined["query_id"])
    assert not gone & set(chosen.queries["query_id"])
