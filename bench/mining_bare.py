"""The libraries of mining called bare, each on the words or vectors that Trivium gives its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.channels.words import tokens
from trivium.domain.sampling import hash_strings

Vectors = NDArray[np.float32]
Known = tuple[NDArray[np.int64], NDArray[np.int64]]
BINS = 8


class Bm25s:
    """bm25s with its numba backend, on one thread."""

    def __init__(self, items: pl.DataFrame, queries: pl.DataFrame, k: int) -> None:
        import bm25s

        self._index = bm25s.BM25(method="lucene", backend="numba")
        self._index.index([tokens(text) for text in items["text"]], show_progress=False)
        self._texts, self._n_items, self._k = queries["text"].to_list(), items.height, k

    def search(self) -> Any:
        """Search all queries, their words cut anew."""
        asked = [tokens(text) for text in self._texts]
        return self._index.retrieve(asked, k=self._k, n_threads=1, show_progress=False)

    def scores(self, row: int) -> Vectors:
        """Scores of all items for one query: the plain reference."""
        known = [word for word in tokens(self._texts[row]) if word in self._index.vocab_dict]
        return np.asarray(self._index.get_scores(known)) if known else np.zeros(self._n_items)


def tantivy_search(items: pl.DataFrame, queries: pl.DataFrame, k: int) -> Callable[[], Any]:
    """A search of all queries in an index of tantivy, on one thread."""
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
        return searcher.search(tantivy.Query.boolean_query(words), k).hits if words else []

    return lambda: [one(text) for text in texts]


def dense_searches(vectors: Vectors, asked: Vectors, k: int) -> dict[str, Callable[[], Any]]:
    """Exact search by faiss and by sentence-transformers, over vectors held in memory."""
    import faiss
    import torch
    from sentence_transformers.util import semantic_search

    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    corpus, questions = torch.from_numpy(vectors), torch.from_numpy(asked)
    return {
        "faiss": lambda: index.search(asked, k),
        "semantic_search": lambda: semantic_search(questions, corpus, top_k=min(k, len(vectors))),
    }


def hard_negative_miner(
    model: Path, items: pl.DataFrame, queries: pl.DataFrame, best: list[int], k: int, folder: Path
) -> Callable[[], Any]:
    """`mine_hard_negatives` with faiss, k for every query; its first call caches the vectors.

    Args:
        model: The tower.
        items: The catalog.
        queries: The anchors.
        best: Row of the item that stands for each query's positive; the miner must have one.
        k: Negatives for a query.
        folder: Its cache.
    """
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    pairs = Dataset.from_dict(
        {"anchor": queries["text"].to_list(), "positive": items["text"].gather(best).to_list()}
    )
    tower, corpus = SentenceTransformer(str(model)), items["text"].to_list()

    def mine() -> Any:
        return mine_hard_negatives(
            pairs,
            tower,
            corpus=corpus,
            range_max=k,
            num_negatives=k,
            output_format="labeled-list",
            output_scores=True,
            use_faiss=True,
            verbose=False,
            cache_folder=str(folder),
        )

    return mine


class Tfidf:
    """scikit-learn's TF-IDF, and the sampling of a band of cosines in numpy."""

    def __init__(self, items: pl.DataFrame, queries: pl.DataFrame) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._vectorizer = TfidfVectorizer(analyzer=tokens, dtype=np.float32)
        self._by_word = self._vectorizer.fit_transform(items["text"].to_list()).T.tocsr()
        self._texts = queries["text"].to_list()
        self._query_keys = hash_strings(queries["query_id"].to_list(), 0)
        self._item_keys = hash_strings(items["item_id"].to_list(), 0)

    def sample(
        self, product: Callable[[Any, Any], Any], known: Known, n: int, band: tuple[float, float]
    ) -> tuple[list[Vectors], list[NDArray[np.int32]]]:
        """Cosines of each query's known items, and n others of the band: products in chunks.

        Args:
            product: Multiplies sparse matrices.
            known: Where each query's known items begin, and the items.
            n: Most others for a query.
            band: Lowest and highest cosine.
        """
        asked, (starts, held) = self._vectorizer.transform(self._texts), known
        row = np.zeros(self._by_word.shape[1], dtype=np.float32)
        cosines, others = [], []
        for begin in range(0, len(self._texts), 64):
            chunk = product(asked[begin : begin + 64], self._by_word)
            for q in range(chunk.shape[0]):
                at = slice(chunk.indptr[q], chunk.indptr[q + 1])
                items = chunk.indices[at]
                row[items] = chunk.data[at]
                own = held[starts[begin + q] : starts[begin + q + 1]]
                cosines.append(row[own])
                row[own] = 0.0
                others.append(self._in_turn(items, row[items], begin + q, n, band))
                row[items] = 0.0
        return cosines, others

    def _in_turn(
        self,
        items: NDArray[np.int32],
        cosines: Vectors,
        query: int,
        n: int,
        band: tuple[float, float],
    ) -> NDArray[np.int32]:
        """Items of the band, its eight parts giving theirs in turn, in the order of their keys."""
        low, high = np.float32(band[0]), np.float32(band[1])
        inside = (cosines >= low) & (cosines <= high)
        items, cosines = items[inside], cosines[inside]
        bins = np.minimum(((cosines - low) / (high - low) * BINS).astype(np.int64), BINS - 1)
        keys = self._item_keys[items] ^ self._query_keys[query]
        order = np.lexsort((keys, bins))
        sizes = np.bincount(bins, minlength=BINS)
        turns = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return items[order][np.lexsort((keys[order], turns))[:n]]


def products() -> dict[str, Callable[[Any, Any], Any]]:
    """Ways to multiply sparse matrices: scipy's, and sparse_dot_topn's where it is installed."""
    ways: dict[str, Callable[[Any, Any], Any]] = {"sklearn": lambda a, b: (a @ b).tocsr()}
    try:
        from sparse_dot_topn import sp_matmul
    except ImportError:
        return ways
    return ways | {"sparse_dot_topn": lambda a, b: sp_matmul(a, b, n_threads=1)}
