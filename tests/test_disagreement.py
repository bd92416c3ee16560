"""Merging runs and measuring overlap, on examples worked out by hand."""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from merged_runs import merge_runs
from trivium.domain.disagreement import (
    FOUND_BY,
    OVERLAP,
    depths_down_to,
    found_by,
    overlap,
    overlap_sums,
    pool_found_by,
    pool_overlaps,
)
from trivium.domain.ids import Ids
from trivium.domain.tfidf import CatalogTfidf
from trivium.foundation.tables import RUNS, candidates_schema, empty, validate


def runs(*lists):
    rows = [
        {"query_id": q, "item_id": item, "channel": channel, "rank": rank, "score": 1.0 / rank}
        for q, channel, items in lists
        for rank, item in enumerate(items, start=1)
    ]
    return pl.DataFrame(rows, schema=dict(RUNS.columns))


EXAMPLE = runs(
    ("q1", "a", "vwxyz"), ("q1", "b", "xvu"), ("q2", "a", "mn"), ("q2", "b", "op"), ("q3", "a", "k")
)


def test_a_pair_has_one_row_with_the_rank_of_every_channel():
    merged = merge_runs(EXAMPLE, ["a", "b"])
    assert validate(merged, candidates_schema(("a", "b"))).equals(merged)
    assert merged.select("query_id", "item_id").equals(
        merged.select("query_id", "item_id").sort("query_id", "item_id")
    )
    row = merged.row(by_predicate=(pl.col("item_id") == "x"), named=True)
    assert (row["rank_a"], row["rank_b"], row["channels"], row["tfidf"]) == (3, 1, 2, None)
    assert row["score_a"] == pytest.approx(1 / 3)
    row = merged.row(by_predicate=(pl.col("item_id") == "u"), named=True)
    assert (row["rank_a"], row["score_a"], row["rank_b"], row["channels"]) == (None, None, 3, 1)
    assert merged.height == 11


def test_a_channel_that_found_nothing_keeps_its_columns():
    merged = merge_runs(EXAMPLE, ["a", "b", "c"])
    assert merged["rank_c"].null_count() == merged.height
    nothing = merge_runs(empty(RUNS), ["a"])
    assert nothing.schema == pl.Schema(candidates_schema(("a",)).columns)


def test_overlap_of_the_example():
    table = overlap(merge_runs(EXAMPLE, ["a", "b"]), ["a", "b"], depths=(2, 10))
    # q1 at 2: {v, w} and {x, v} share v; at 10: {v..z} and {x, v, u} share v and x.
    # q2: nothing shared. q3: b found nothing, so there is no ratio.
    assert table["depth"].to_list() == [2, 10]
    assert table["overlap"].to_list() == pytest.approx([(1 / 2 + 0) / 2, (2 / 3 + 0) / 2])
    assert table["jaccard"].to_list() == pytest.approx([(1 / 3 + 0) / 2, (2 / 6 + 0) / 2])
    assert table["queries"].to_list() == [2, 2]


def test_overlap_has_a_row_for_every_pair_even_without_queries():
    table = overlap(merge_runs(EXAMPLE, ["a", "b", "c"]), ["a", "b", "c"], depths=(5,))
    assert table.select("a", "b").rows() == [("a", "b"), ("a", "c"), ("b", "c")]
    without = table.filter(pl.col("b") == "c")
    assert without["queries"].to_list() == [0, 0]
    assert without["overlap"].null_count() == 2


def test_overlap_equals_sets_on_random_runs():
    rng = np.random.default_rng(0)
    lists = [
        (f"q{q}", c, [f"i{i}" for i in rng.permutation(30)[: rng.integers(1, 20)]])
        for q in range(20)
        for c in ("a", "b")
    ]
    table = overlap(merge_runs(runs(*lists), ["a", "b"]), ["a", "b"], depths=(7,))
    ratios = []
    for (_, _, a), (_, _, b) in zip(lists[::2], lists[1::2], strict=True):
        first, second = set(a[:7]), set(b[:7])
        ratios.append(len(first & second) / min(len(first), len(second)))
    assert table["overlap"][0] == pytest.approx(np.mean(ratios))


SEGMENTS = pl.DataFrame({"query_id": ["q1", "q2", "q9"], "segment": ["tail", "head", "torso"]})


def test_depths_go_as_far_as_the_lists():
    assert depths_down_to(500) == [10, 100, 500]
    assert depths_down_to(30) == [10, 30]
    assert depths_down_to(10) == [10]
    assert depths_down_to(1000) == [10, 100, 500, 1000]


def test_overlap_by_segment_is_that_of_its_queries():
    candidates = merge_runs(EXAMPLE, ["a", "b"])
    table = overlap(candidates, ["a", "b"], (2, 10), SEGMENTS)
    assert dict(table.schema) == OVERLAP
    assert table["segment"].to_list() == ["all", "all", "head", "head", "tail", "tail"]
    for segment, query_id in (("tail", "q1"), ("head", "q2")):
        alone = overlap(candidates.filter(query_id=query_id), ["a", "b"], (2, 10))
        own = table.filter(segment=segment)
        assert_frame_equal(own.drop("segment"), alone.drop("segment"))
    assert table["queries"].to_list() == [2, 2, 1, 1, 1, 1]


def test_pairs_that_no_channel_found_do_not_count():
    candidates = merge_runs(EXAMPLE, ["a", "b"])
    similar = candidates.with_columns(
        item_id=pl.lit("t-") + pl.col("item_id"),
        channels=pl.lit(0, pl.Int8),
        **{f"rank_{c}": pl.lit(None, pl.Int32) for c in "ab"},
    )
    both = pl.concat([candidates, similar])
    assert overlap(both, ["a", "b"]).equals(overlap(candidates, ["a", "b"]))
    assert found_by(both, ["a", "b"]).equals(found_by(candidates, ["a", "b"]))


def test_no_candidates_and_a_single_channel():
    nothing = merge_runs(empty(RUNS), ["a", "b"])
    table = overlap(nothing, ["a", "b"], (10,), SEGMENTS)
    assert table.select("queries", "rbo").rows() == [(0, None)]
    assert found_by(nothing, ["a", "b"]).is_empty()
    assert overlap(merge_runs(EXAMPLE, ["a", "b"]), ["a"]).is_empty()


def test_pairs_are_counted_by_the_channels_that_found_them():
    counts = found_by(merge_runs(EXAMPLE, ["a", "b"]), ["a", "b"], SEGMENTS)
    assert dict(counts.schema) == FOUND_BY
    assert counts.rows() == [
        ("all", "a", 6),
        ("all", "b", 3),
        ("all", "a+b", 2),
        ("head", "a", 2),
        ("head", "b", 2),
        ("tail", "a", 3),
        ("tail", "a+b", 2),
        ("tail", "b", 1),
    ]


def test_pooled_shards_are_the_whole():
    candidates, channels = merge_runs(EXAMPLE, ["a", "b", "c"]), ["a", "b", "c"]
    shards = [piece for _key, piece in candidates.group_by("query_id", maintain_order=True)]
    for order in (shards, shards[::-1]):
        sums = [overlap_sums(shard, channels, (2, 5), SEGMENTS) for shard in order]
        assert pool_overlaps(sums).equals(overlap(candidates, channels, (2, 5), SEGMENTS))
        sets = [found_by(shard, channels, SEGMENTS) for shard in order]
        assert pool_found_by(sets).equals(found_by(candidates, channels, SEGMENTS))


# --- TF-IDF ----------------------------------------------------------------------------------


WORDS = [f"w{n}" for n in range(40)]


def random_texts(seed, n, prefix):
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(1, 8))) for _ in range(n)]
    return pl.DataFrame({f"{prefix}_id": [f"{prefix[0]}{i:03d}" for i in range(n)], "text": texts})


ITEMS = random_texts(0, 400, "item")
QUERIES = random_texts(1, 30, "query")


def plain_cosines(items, queries):
    """{(query_id, item_id): cosine} from the definition of TF-IDF with smooth idf."""
    documents = [text.split() for text in items["text"]]
    held = {w: sum(w in d for d in documents) for w in WORDS}
    idf = np.array([np.log((1 + len(documents)) / (1 + held[w])) + 1 for w in WORDS])

    def vector(text):
        raw = np.array([text.split().count(w) for w in WORDS]) * idf
        return raw / max(np.linalg.norm(raw), 1e-12)

    left = {q: vector(t) for q, t in queries.select("query_id", "text").iter_rows()}
    right = {i: vector(t) for i, t in items.select("item_id", "text").iter_rows()}
    return {(q, i): float(a @ b) for q, a in left.items() for i, b in right.items()}


@pytest.fixture(scope="module")
def tfidf():
    return CatalogTfidf(ITEMS.sample(fraction=1.0, shuffle=True, seed=5), str.split)


@pytest.fixture(scope="module")
def cosines():
    return plain_cosines(ITEMS, QUERIES)


def some_pairs(n, seed):
    rng = np.random.default_rng(seed)
    chosen = rng.choice(QUERIES.height * ITEMS.height, size=n, replace=False)
    return pl.DataFrame(
        {
            "query_id": QUERIES["query_id"].gather(chosen // ITEMS.height),
            "item_id": ITEMS["item_id"].gather(chosen % ITEMS.height),
        }
    )


def beside(tfidf, queries, retrieved, **changes):
    """Cosines of the retrieved pairs, which must be of these queries, and a table of the others."""
    settings = {"n": 20, "low": 0.2, "high": 0.6, "seed": 0} | changes
    retrieved = retrieved.sort("query_id", "item_id")
    query = Ids(queries["query_id"]).numbers(retrieved["query_id"])
    made = tfidf.beside(queries, (query, tfidf.items.numbers(retrieved["item_id"])), **settings)
    query, item, cosines = made.similar
    ids = {
        "query_id": queries["query_id"].gather(query),
        "item_id": tfidf.items.ids.gather(item),
        "tfidf": cosines,
    }
    schema = {"query_id": pl.String, "item_id": pl.String, "tfidf": pl.Float32}
    return made.cosines.tolist(), pl.DataFrame(ids, schema=schema).sort("query_id", "item_id")


def test_cosines_of_pairs_equal_the_definition(tfidf, cosines):
    pairs = some_pairs(500, 0).sort("query_id", "item_id")
    found, _ = beside(tfidf, QUERIES, pairs)
    assert found == pytest.approx([cosines[pair] for pair in pairs.rows()], abs=1e-5)


def sample(tfidf, queries=QUERIES, retrieved=None, **changes):
    retrieved = some_pairs(3000, 1) if retrieved is None else retrieved
    own = retrieved.filter(pl.col("query_id").is_in(queries["query_id"].implode()))
    return beside(tfidf, queries, own, **changes)[1]


def test_token_similar_items_lie_in_the_band_and_were_not_retrieved(tfidf, cosines):
    retrieved = some_pairs(3000, 1)
    found = sample(tfidf, retrieved=retrieved)
    known = set(retrieved.rows())
    for query_id, item_id, cosine in found.rows():
        assert cosine == pytest.approx(cosines[query_id, item_id], abs=1e-5)
        assert 0.2 <= cosine <= 0.6
        assert (query_id, item_id) not in known
    eligible = {
        q: sum(0.2 <= c <= 0.6 for (q_, i), c in cosines.items() if q_ == q and (q, i) not in known)
        for q in QUERIES["query_id"]
    }
    counts = dict(found.group_by("query_id").len().rows())
    assert counts == {q: min(20, n) for q, n in eligible.items() if n}


def test_token_similar_is_everything_in_the_band_when_there_is_room(tfidf, cosines):
    found = sample(tfidf, retrieved=some_pairs(0, 1), n=1000)
    expected = {pair for pair, c in cosines.items() if 0.2 <= c <= 0.6}
    assert set(found.select("query_id", "item_id").rows()) == expected


def test_token_similar_covers_the_band(tfidf, cosines):
    found = sample(tfidf, retrieved=some_pairs(0, 1), n=8)
    everything = [c for c in cosines.values() if 0.2 <= c <= 0.6]
    assert found["tfidf"].mean() > np.mean(everything) + 0.02


def test_token_similar_does_not_depend_on_shards(tfidf):
    whole = sample(tfidf)
    pieces = pl.concat(sample(tfidf, queries=QUERIES[i : i + 7]) for i in range(0, 30, 7))
    assert pieces.sort("query_id", "item_id").equals(whole)
    assert not sample(tfidf, seed=1).equals(whole)


def test_words_that_no_item_has(tfidf):
    unknown = pl.DataFrame({"query_id": ["q"], "text": ["zzqx"]})
    pair = pl.DataFrame({"query_id": ["q"], "item_id": ["i000"]})
    assert beside(tfidf, unknown, pair)[0] == [0.0]
    assert beside(tfidf, unknown, pair)[1].is_empty()
    silent = CatalogTfidf(pl.DataFrame({"item_id": ["a"], "text": [""]}), str.split)
    pair = pl.DataFrame({"query_id": ["q"], "item_id": ["a"]})
    assert beside(silent, unknown, pair)[0] == [0.0]
    assert beside(silent, unknown, pair)[1].is_empty()


def test_a_cosine_is_the_same_number_retrieved_or_sampled(tfidf):
    sampled = sample(tfidf, retrieved=some_pairs(0, 1), n=1000)
    cosines, others = beside(tfidf, QUERIES, sampled, n=1000)
    assert cosines == sampled["tfidf"].to_list()
    assert others.is_empty()
