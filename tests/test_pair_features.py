from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from trivium.domain.pair_features import FEATURES, Vocabulary, pair_features
from trivium.domain.pair_texts import read_texts

QUERIES = (
    "red mugs",
    "refridgerator 20 cu ft",
    "1/2 in pvc pipe",
    "12 pk batteries",
    "garden hose garden",
    "hose red garden",
    "shower curtain 72 in",
    "6' ladder",
    "men's boxes",
    "",
    "!!!",
    "4 gal. pail",
    "4 gal pail 5",
)
ITEMS = (
    "Red Mug with a Lid, 12 oz.",
    "Refrigerator 20 cu. ft. in White",
    "0.5 inch PVC Pipe (10-Pack)",
    "Batteries, pack of 12",
    "Garden Hose 50 ft.",
    "Red garden hose in green brand: Acme",
    "Box for Men",
    "",
    "--",
    "5 gal. Pail",
    "72 in. x 70 in. Curtain for Shower red red",
    "6 ft. Ladder",
)


def every_pair() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "query_text": [q for q in QUERIES for _ in ITEMS],
            "item_text": [i for _ in QUERIES for i in ITEMS],
        }
    )


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.fit(pl.Series(ITEMS))


def features(query: str, item: str, vocabulary: Vocabulary) -> dict[str, float]:
    pair = pl.DataFrame({"query_text": [query], "item_text": [item]})
    return dict(zip(FEATURES, pair_features(pair, vocabulary)[0].tolist(), strict=True))


def words_and_stems(texts: tuple[str, ...]) -> dict[str, tuple[list[int], list[str]]]:
    """What `read_texts` reads of each text, as plain lists."""
    table = read_texts(pl.Series(texts))
    starts, values = table.words.starts, table.words.values
    read = {}
    for row, text in enumerate(texts):
        words = values[starts[row] : starts[row + 1]].tolist()
        read[text] = words, [table.stem_names[table.stems[word]] for word in words]
    return read


def plain(query: list[str], item: list[str], documents: list[list[str]]) -> dict[str, float]:
    """Some of the features of two lists of stems, as they are defined."""

    def idf(stem: str) -> float:
        held = max(1, sum(stem in document for document in documents))
        return math.log(1 + (len(documents) - held + 0.5) / (held + 0.5))

    def vector(stems: list[str]) -> dict[str, float]:
        return {stem: count * idf(stem) for stem, count in Counter(stems).items()}

    mean = sum(map(len, documents)) / len(documents)
    found = [stem for stem in query if stem in item]
    norm = 1.2 * (0.25 + 0.75 * len(item) / mean)
    q, i = vector(query), vector(item)
    dot = sum(q[stem] * i.get(stem, 0.0) for stem in q)
    lengths = math.hypot(*q.values()) * math.hypot(*i.values())
    neighbours = list(pairwise(query))
    item_neighbours = list(pairwise(item))
    places = [at for at, stem in enumerate(item) if stem in query]
    return {
        "query_words": len(query),
        "item_words": len(item),
        "share_stem": len(found) / max(len(query), 1),
        "share_idf": sum(map(idf, found)) / (sum(map(idf, query)) or 1),
        "item_share_idf": sum(idf(s) for s in i if s in q) / (sum(idf(s) for s in i) or 1),
        "jaccard": len({*query} & {*item}) / max(len({*query} | {*item}), 1),
        "word_cosine": dot / (lengths or 1),
        "bm25": sum(idf(s) * item.count(s) * 2.2 / (item.count(s) + norm) for s in found),
        "adjacent_share": sum(n in item_neighbours for n in neighbours) / max(len(neighbours), 1),
        "first_place": min(places, default=-1),
        "last_place": max(places, default=-1),
        "from_end": len(item) - 1 - places[-1] if places else -1,
        "last_word": float(bool(query) and query[-1] in item),
        "first_item_word": float(bool(item) and item[0] in query),
        "missing_idf": max((idf(s) for s in query if s not in item), default=0),
        "found_idf": max(map(idf, found), default=0),
    }


def test_the_features_equal_their_definitions(vocabulary):
    pairs = every_pair()
    computed = pair_features(pairs, vocabulary)
    assert computed.shape == (len(pairs), len(FEATURES))
    assert computed.dtype == np.float32
    assert np.isfinite(computed).all()
    stems = {text: stems for text, (_, stems) in words_and_stems((*QUERIES, *ITEMS)).items()}
    documents = [stems[item] for item in ITEMS]
    for row, (query, item) in enumerate(pairs.iter_rows()):
        for name, value in plain(stems[query], stems[item], documents).items():
            got = computed[row, FEATURES.index(name)]
            assert got == pytest.approx(value, abs=1e-5), (query, item, name)


def test_trigrams_are_those_of_the_words(vocabulary):
    def trigrams(text: str) -> Counter[str]:
        marked = [f"^{word}$" for word in text.split()]
        return Counter(m[at : at + 3] for m in marked for at in range(len(m) - 2))

    def weights(text: str) -> dict[str, float]:
        held = {t: sum(t in trigrams(item) for item in items) for t in trigrams(text)}
        idf = {t: math.log((1 + len(items)) / (1 + n)) + 1 for t, n in held.items()}
        return {t: count * idf[t] for t, count in trigrams(text).items()}

    items = ("blue kettle", "kettles")
    counts = Vocabulary.fit(pl.Series(items))
    q, i = weights("kettle blu"), weights("blue kettle")
    cosine = sum(q[t] * i.get(t, 0) for t in q) / math.hypot(*q.values()) / math.hypot(*i.values())
    got = features("kettle blu", "Blue Kettle", counts)
    assert got["trigram_cosine"] == pytest.approx(cosine, abs=1e-5)
    shared = len({*trigrams("kettle blu")} & {*trigrams("blue kettle")})
    assert got["trigram_share"] == pytest.approx(shared / len(trigrams("kettle blu")))


@pytest.mark.parametrize(
    ("query", "item", "same", "other", "absent"),
    [
        ("1/2 in pipe", "Pipe 0.5 inch", 1, 0, 0),
        ('1/2" pipe', "3/4 in. Pipe", 0, 1, 0),
        ("1-1/2 in pipe", "1.5-inch pipe", 1, 0, 0),
        ("1\u00bd in pipe", "1 1/2 in. pipe", 1, 0, 0),
        ("12 pk cola", "Cola, set of 12", 1, 0, 0),
        ("12 pack cola", "Cola 6-Count", 0, 1, 0),
        ("6\u2032 ladder", "6 ft. ladder", 1, 0, 0),
        ("6'' tile", "6 in. x 6 in. Tile", 1, 0, 0),
        ("60 watt bulb", "Bulb", 0, 0, 1),
        ("20 sq. ft. rug", "rug 20 square feet", 1, 0, 0),
        ("2 in x 4 in", "4 in. plank", 1, 1, 0),
        ("1,000 watt heater", "1000W heater", 1, 0, 0),
        ("1/0 in cable", "cable 1 in", 1, 0, 0),
        ("mug", "Mug 12 oz", 0, 0, 0),
    ],
)
def test_quantities_compare_units_and_amounts(query, item, same, other, absent, vocabulary):
    got = features(query, item, vocabulary)
    found = [got[f"quantities_{kind}"] for kind in ("same", "other", "absent")]
    assert found == [same, other, absent]


def test_numbers_compare_by_value(vocabulary):
    got = features("2x4 .50 board 9", "Board 2 in. x 4 in. 1/2", vocabulary)
    names = ("numbers", "numbers_found", "numbers_missing", "item_numbers")
    assert [got[name] for name in names] == [4, 3, 1, 3]


def test_spelling_is_compared_where_a_word_is_missing(vocabulary):
    near = features("refridgerator", "Refrigerator White", vocabulary)
    far = features("refridgerator", "Red Mug", vocabulary)
    assert near["share_stem"] == far["share_stem"] == 0
    assert near["share_prefix"] == 1
    assert near["fuzzy_worst"] > 0.7 > 0.3 > far["fuzzy_worst"]
    mixed = features("white refridgerator", "Refrigerator White", vocabulary)
    assert mixed["fuzzy_mean"] == pytest.approx((1 + near["fuzzy_worst"]) / 2)


def test_a_title_names_the_thing_before_its_first_preposition(vocabulary):
    kit = features("shower curtain", "Curtain for Shower", vocabulary)
    curtain = features("shower curtain", "Red Shower Curtain, brand: Acme", vocabulary)
    assert (kit["share_stem"], curtain["share_stem"]) == (1, 1)
    assert (kit["head_share"], curtain["head_share"]) == (0.5, 1)
    assert (kit["head_word"], curtain["head_word"]) == (1, 1)
    assert features("shower", "Curtain for Shower", vocabulary)["head_word"] == 0
    rod = features("shower curtain", "Shower Curtain Rod", vocabulary)
    assert (rod["last_word_from_head"], curtain["last_word_from_head"]) == (1, 0)


@pytest.mark.parametrize(
    ("word", "stem"),
    [("batteries", "battery"), ("boxes", "box"), ("saws", "saw"), ("glass", "glass")],
)
def test_plurals_are_folded(word, stem):
    assert read_texts(pl.Series([word])).stem_names == (stem,)


def test_other_scripts_and_long_texts_are_read(vocabulary):
    same = features("caf\u00e9 \u6c34\u676f", "Cafe \u6c34\u676f", vocabulary)
    assert same["share_exact"] == 1
    long = features("word99 word", "word " * 100_000, vocabulary)
    assert long["item_words"] == 128


def test_a_pair_is_compared_alike_wherever_it_stands(vocabulary):
    pairs = pl.concat([every_pair()] * 8)
    whole = pair_features(pairs, vocabulary)
    order = np.random.default_rng(0).permutation(len(pairs))
    np.testing.assert_array_equal(pair_features(pairs[order], vocabulary), whole[order])
    for row in range(0, 156, 5):
        alone = pair_features(pairs[row : row + 1], vocabulary)
        np.testing.assert_array_equal(alone[0], whole[row])


def test_nothing_to_compare():
    nothing = Vocabulary.fit(pl.Series([], dtype=pl.String))
    columns = {"query_text": pl.String, "item_text": pl.String}
    assert pair_features(pl.DataFrame(schema=columns), nothing).shape == (0, len(FEATURES))
    assert np.isfinite(pair_features(every_pair(), nothing)).all()


def test_a_vocabulary_survives_json(vocabulary):
    again = Vocabulary.from_dict(json.loads(json.dumps(vocabulary.as_dict())))
    expected = pair_features(every_pair(), vocabulary)
    np.testing.assert_array_equal(pair_features(every_pair(), again), expected)
    other = pair_features(every_pair(), Vocabulary.fit(pl.Series(ITEMS[:3])))
    assert not np.array_equal(other, expected)
