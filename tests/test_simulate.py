from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from trivium.foundation import tables
from trivium.simulation import confusion, simulate
from trivium.simulation.codes import Codes
from trivium.simulation.grading import grade_pairs
from trivium.simulation.pools import index_words
from trivium.simulation.queries import PATTERNS
from trivium.simulation.schemas import COLOUR_FAMILIES
from trivium.simulation.spelling import can_be_misspelled, misspell
from trivium.simulation.traffic import choose_judged, segments, zipf_frequencies
from trivium.simulation.vocabulary import PRODUCT_TYPES, Vocabulary, invented_brand

FRAMES = ("items", "queries", "judgments", "truth", "intents")


@pytest.fixture(scope="module")
def market():
    return simulate(items=2000, queries=600, seed=3, raters=3)


def reference_grade(intent: dict, item: dict) -> int:
    """The rule in the docstring of `grading`, pair by pair on the tables' own strings."""
    kinds = {kind.name: kind for kind in PRODUCT_TYPES}
    asked, offered = kinds[intent["product_type"]], kinds[item["product_type"]]
    if asked is not offered:
        return int(asked.name in offered.related or offered.name in asked.related)
    devices = {intent["compatible_with"], item["compatible_with"]} - {None}
    if intent["compatible_with"] and len(devices) == 2:
        return 1
    verdicts = [_verdict(name, intent[name], item[name], asked) for name in intent if name in item]
    if "missed" in verdicts or verdicts.count("near") > 1:
        return 2
    return 3 if "near" in verdicts else 4


def _verdict(name: str, wanted: str | None, given: str | None, kind) -> str:
    if name == "product_type" or wanted is None or wanted == given:
        return "met"
    if name in {"compatible_with", "model_number"}:
        variant = name == "model_number" and given is not None and wanted[:-1] == given[:-1]
        return "near" if variant else "missed"
    if given is None or name == "pack":
        return "near"
    if name == "colour":
        return "near" if any({wanted, given} <= set(f) for f in COLOUR_FAMILIES) else "missed"
    if name == "size" and kind.sizes.ordered:
        return "near" if _adjacent(kind, wanted, given) else "missed"
    return "missed"


def _adjacent(kind, wanted: str, given: str) -> bool:
    vocabulary = Vocabulary(rare_brands=0)
    codes = vocabulary.types[PRODUCT_TYPES.index(kind)].size
    sizes = [vocabulary.sizes[code] for code in codes]
    return abs(sizes.index(wanted) - sizes.index(given)) == 1


def test_the_same_seed_gives_the_same_tables_and_another_seed_others(market):
    again = simulate(items=2000, queries=600, seed=3, raters=3)
    other = simulate(items=2000, queries=600, seed=4, raters=3)
    for name in FRAMES:
        assert_frame_equal(getattr(market, name), getattr(again, name))
        assert not getattr(market, name).equals(getattr(other, name))
    assert market.synonyms == again.synonyms != other.synonyms


def test_more_raters_or_another_confusion_change_the_ratings_alone(market):
    changed = simulate(items=2000, queries=600, seed=3, raters=1, confusion=confusion(1.0))
    for name in ("items", "queries", "truth", "intents"):
        assert_frame_equal(getattr(market, name), getattr(changed, name))
    pairs = market.judgments.select("query_id", "item_id").unique(maintain_order=True)
    assert_frame_equal(pairs, changed.judgments.select("query_id", "item_id"))


def test_tables_do_not_depend_on_hash_randomisation():
    code = (
        "from trivium.simulation import simulate; m = simulate(items=300, queries=60, raters=2);"
        "print([m.items.hash_rows().sum(), m.queries.hash_rows().sum(),"
        " m.truth.hash_rows().sum(), m.judgments.hash_rows().sum(), m.synonyms])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_tables_keep_their_schemas(market):
    assert_frame_equal(tables.validate(market.items, tables.ITEMS), market.items)
    assert_frame_equal(tables.validate(market.queries, tables.QUERIES), market.queries)
    assert_frame_equal(tables.validate(market.judgments, tables.JUDGMENTS), market.judgments)
    tables.validate(market.truth, tables.JUDGMENTS)
    assert set(market.items.schema.values()) == {pl.String()}
    assert market.items["title"].str.len_chars().min() > 0
    assert market.items["item_id"][0] == "sim-i000001"
    assert market.queries["query_id"][0] == "sim-q0001"


def test_tables_are_sorted_by_their_keys(market):
    for name, key in (("truth", tables.JUDGMENTS.key[:2]), ("judgments", tables.JUDGMENTS.key)):
        frame = getattr(market, name)
        assert_frame_equal(frame, frame.sort(key))


def test_there_are_at_least_fifteen_types_with_attributes_and_synonyms():
    assert len(PRODUCT_TYPES) >= 15
    for kind in PRODUCT_TYPES:
        attributes = [kind.colours, kind.materials, kind.sizes, kind.packs, kind.device]
        assert kind.brands
        assert sum(map(bool, attributes)) + kind.coded >= 2, kind.name
        assert len(kind.synonyms) >= 2, kind.name
        titles = " ".join(kind.nouns).casefold()
        assert not any(synonym in titles for synonym in kind.synonyms), kind.name


def test_no_noun_or_synonym_names_two_types():
    names = [name.lower() for kind in PRODUCT_TYPES for name in (*kind.nouns, *kind.synonyms)]
    assert len(names) == len(set(names))


def test_related_types_exist_and_are_symmetric():
    related = Vocabulary(rare_brands=0).related
    assert (related == related.T).all()
    assert not related.diagonal().any()


def test_invented_brands_are_distinct():
    names = [invented_brand(number) for number in range(5000)]
    assert len(set(names)) == len(names)


def test_truth_equals_the_slow_rule_on_every_pair():
    small = simulate(items=250, queries=160, seed=1)
    found = {(r["query_id"], r["item_id"]): r["grade"] for r in small.truth.to_dicts()}
    assert len(found) == len(small.truth)
    for intent in small.intents.to_dicts():
        for item in small.items.to_dicts():
            key = (intent["query_id"], item["item_id"])
            assert found.get(key, 0) == reference_grade(intent, item), (intent, item)
    assert set(found.values()) == {1, 2, 3, 4}


def test_grade_of_pairs_written_out_by_hand():
    vocabulary = Vocabulary(rare_brands=0)
    place = {kind.name: i for i, kind in enumerate(PRODUCT_TYPES)}

    def row(kind: str, **fields: int) -> Codes:
        given = dict.fromkeys(Codes.__annotations__, -1) | {"kind": place[kind]} | fields
        return Codes(**{name: np.array([code], dtype=np.int32) for name, code in given.items()})

    def grade(asked: Codes, offered: Codes) -> int:
        return int(grade_pairs(asked, offered, vocabulary)[0])

    colour = vocabulary.colours.index
    size = vocabulary.types[place["television"]].size
    kind_of_cell = vocabulary.types[place["batteries"]].size
    blue = row("sofa", colour=colour("blue"))
    assert grade(blue, row("sofa", colour=colour("blue"))) == 4
    assert grade(blue, row("sofa", colour=colour("navy"))) == 3
    assert grade(blue, row("sofa")) == 3
    assert grade(blue, row("sofa", colour=colour("red"))) == 2
    assert grade(blue, row("armchair", colour=colour("blue"))) == 1
    assert grade(blue, row("batteries")) == 0
    tv = row("television", size=size[2], brand=1)
    assert grade(tv, row("television", size=size[3], brand=1)) == 3
    assert grade(tv, row("television", size=size[3])) == 2
    assert grade(tv, row("television", size=size[4], brand=1)) == 2
    cells = row("batteries", size=kind_of_cell[0])
    assert grade(cells, row("batteries", size=kind_of_cell[1])) == 2
    socks = row("athletic socks", pack=0)
    assert grade(socks, row("athletic socks", pack=0)) == 4
    assert grade(socks, row("athletic socks", pack=1)) == 3
    assert grade(socks, row("athletic socks")) == 3
    case = row("phone case", device=0)
    assert grade(case, row("phone case", device=0)) == 4
    assert grade(case, row("phone case", device=1)) == 1
    assert grade(case, row("phone case")) == 2
    drill = row("cordless drill", series=5, variant=1)
    assert grade(drill, row("cordless drill", series=5, variant=2)) == 3
    assert grade(drill, row("cordless drill", series=6, variant=1)) == 2
    assert grade(drill, row("cordless drill")) == 2
    assert grade(drill, row("drill bits", series=6, variant=1)) == 1


def test_every_judged_query_has_something_excellent(market):
    best = market.truth.group_by("query_id").agg(pl.col("grade").max())
    assert best["query_id"].n_unique() == len(market.queries)
    assert (best["grade"] == 4).all()


def test_queries_are_distinct_and_of_every_kind(market):
    folded = market.queries["query"].str.to_lowercase()
    assert folded.n_unique() == len(market.queries) == 600
    kinds = {pattern.kind for pattern in PATTERNS} | {"misspelled"}
    assert set(market.intents["kind"]) == kinds


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3])
def test_the_stated_share_of_queries_is_misspelled(rate):
    market = simulate(items=600, queries=300, seed=5, misspelling_rate=rate, judged=1)
    plain = simulate(items=600, queries=300, seed=5, misspelling_rate=0.0, judged=1)
    changed = (market.queries["query"] != plain.queries["query"]).sum()
    assert changed == (market.intents["kind"] == "misspelled").sum() == round(rate * 300)


def test_a_misspelling_is_one_small_edit():
    rng = np.random.default_rng(0)
    for _ in range(300):
        typed = misspell("red velvet sofa dx-4821b", rng)
        words = typed.split(" ")
        assert typed != "red velvet sofa dx-4821b"
        assert (words[0], words[3]) == ("red", "dx-4821b")
        assert [w[0] for w in words[1:3]] == ["v", "s"]
        assert abs(len(typed) - 24) <= 1
    assert not can_be_misspelled("dx-4821b tv")


def test_titles_rarely_hold_the_synonyms_that_shoppers_type(market):
    joined = market.items.select(
        pl.col("title").str.to_lowercase(), pl.col("product_type").alias("kind")
    )
    held = sum(
        joined.filter(pl.col("kind") == kind.name)["title"]
        .str.contains_any([f"{synonym}" for synonym in kind.synonyms])
        .sum()
        for kind in PRODUCT_TYPES
    )
    assert 0.02 < held / len(joined) < 0.06


def test_the_synonyms_file_knows_half_of_the_synonyms(market):
    known = [word for line in market.synonyms for word in line.split(", ")[1:]]
    every = [synonym for kind in PRODUCT_TYPES for synonym in kind.synonyms]
    assert len(known) == round(len(every) / 2)
    assert set(known) <= set(every)


def test_model_numbers_tell_items_apart(market):
    numbers = market.items["model_number"].drop_nulls()
    assert len(numbers) > 0
    assert numbers.str.contains(r"^[A-Z]{2}-\d{4}[A-Z]$").all()
    assert numbers.n_unique() == len(numbers)


def test_frequencies_follow_zipf_and_head_queries_are_broader():
    kinds = ["broad", "model"] * 500
    slots = np.array([0, 2] * 500)
    frequency = zipf_frequencies(kinds, slots, 1.0, np.random.default_rng(0))
    assert sorted(frequency)[::-1] == [round(10 * 1000 / rank) for rank in range(1, 1001)]
    most = np.argsort(-frequency)[:100]
    assert np.mean([kinds[i] == "broad" for i in most]) > 0.95
    flat = zipf_frequencies(kinds, slots, 0.0, np.random.default_rng(0))
    assert set(flat) == {10}


def test_segments_cover_their_shares_of_traffic(market):
    queries = market.queries.sort("frequency", descending=True)
    total = queries["frequency"].sum()
    share = {
        name: queries.filter(pl.col("segment") == name)["frequency"].sum() / total
        for name in tables.SEGMENTS
    }
    rarest_head = queries.filter(pl.col("segment") == "head")["frequency"].min()
    assert share["head"] >= 0.5 > share["head"] - rarest_head / total
    assert share["head"] + share["torso"] == pytest.approx(0.9, abs=0.001)
    assert queries["segment"].to_list() == sorted(queries["segment"], key=tables.SEGMENTS.index)


def test_segments_of_a_count_that_can_be_done_by_hand():
    assert segments(np.array([10, 50, 30, 10]), 0.5, 0.9) == ["torso", "head", "torso", "tail"]


def test_judged_queries_are_spread_over_the_segments():
    segment = ["head"] * 5 + ["torso"] * 40 + ["tail"] * 400
    chosen = choose_judged(segment, 45, np.random.default_rng(0))
    counts = [sum(segment[i] == name for i in chosen) for name in tables.SEGMENTS]
    assert counts == [5, 20, 20]


def test_only_judged_queries_have_truth_and_ratings():
    market = simulate(items=500, queries=200, judged=40, seed=2)
    judged = set(market.judgments["query_id"])
    assert len(judged) == 40
    assert set(market.truth["query_id"]) == judged


def test_pools_hold_twenty_or_so_items_mostly_relevant(market):
    pool = market.judgments.filter(pl.col("rater") == "sim-rater-1")
    sizes = pool.group_by("query_id").len()["len"]
    assert 18 <= sizes.mean() <= 26
    assert sizes.max() <= 26
    truth = pool.join(market.truth, on=["query_id", "item_id"], how="left")["grade_right"]
    shares = truth.fill_null(0).value_counts(normalize=True)
    share = dict(shares.iter_rows())
    assert share[2] + share[3] + share[4] > 0.6
    assert share[0] > 0.02
    assert share[1] > 0.02


def test_the_word_index_ranks_as_a_plain_loop_does(market):
    titles = market.items["title"].slice(0, 300)
    query = "black leather sofa with usb"
    words = titles.str.to_lowercase().str.extract_all(r"[a-z0-9]+").to_list()
    held = {word: sum(word in title for title in words) for word in query.split(" ")}
    scores = [
        sum(np.log1p(300 / max(held[w], 1)) for w in held if w in title) / np.sqrt(len(set(title)))
        for title in words
    ]
    expected = sorted(range(300), key=lambda i: (-scores[i], i))[:10]
    assert sorted(index_words(titles, [query]).search(query, 10)) == sorted(expected)
    assert len(index_words(titles, ["zzzz"]).search("zzzz", 10)) == 0
