"""Approximate search: faiss proposes, and the proposals are scored exactly.

HNSW (Malkov & Yashunin 2018, arXiv:1603.09320) keeps a byte for each dimension, IVF-PQ (Jegou et
al. 2011) a byte for some of them; the vectors themselves stay where they are. Both are built by one
thread from the vectors in the order of the items' ids, so that they are the same every time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.domain.nearest import Vectors, VectorTable
from trivium.domain.postings import Hits
from trivium.foundation.channel_config import DenseConfig
from trivium.foundation.console import counter
from trivium.foundation.errors import ConfigError

_LEAST = 39
SMALLEST = {"hnsw": 1, "ivf_pq": _LEAST * 256}
"""Vectors that an index takes at least: faiss wants 39 for each of the 256 values of a byte."""
_BLOCK = 1 << 14
_TRAINING = 1 << 18
_PER_LIST = 50  # vectors that the centre of a list is trained on
_PROPOSED = {"hnsw": 2, "ivf_pq": 4}
"""Proposals for an item that is asked for: what is coarser must propose more."""


class ApproximateIndex:
    """An index of faiss over the used vectors of a table, and the table itself.

    Args:
        table: The vectors and their items.
        index: What `build_index` made of them, or its file holds.
        settings: How it is searched.
    """

    def __init__(self, table: VectorTable, index: Any, settings: DenseConfig) -> None:
        self._table, self._index, self._settings = table, index, settings
        self._rows = table.used
        if settings.index == "ivf_pq":
            n = index.nlist
            self._cells = VectorTable.of(index.quantizer.reconstruct_n(0, n), np.arange(n))
            index.nprobe = min(settings.probes or max(1, n // 8), n)

    def nearest(self, queries: Vectors, k: int) -> Hits:
        """Find items with a large inner product with each query: `VectorTable.nearest`, nearly."""
        wanted = min(_PROPOSED[self._settings.index] * k, len(self._rows))
        if not (wanted and len(queries)):
            return self._table.nearest(queries, 0)
        plain = np.ascontiguousarray(queries, dtype=np.float32)
        search = self._hnsw if self._settings.index == "hnsw" else self._ivf_pq
        found = search(plain, wanted)  # (queries, wanted), padded with -1
        return self._table.rescored(plain, np.where(found < 0, -1, self._rows[found]), k)

    def _hnsw(self, queries: Vectors, wanted: int) -> NDArray[np.int64]:
        self._index.hnsw.efSearch = max(self._settings.ef_search, wanted)
        return np.asarray(self._index.search(queries, wanted)[1])

    def _ivf_pq(self, queries: Vectors, wanted: int) -> NDArray[np.int64]:
        # faiss would choose cells by products that change with the number of queries.
        cells = self._cells.nearest(queries, self._index.nprobe)
        shape = len(queries), self._index.nprobe
        given = cells.positions.reshape(shape), cells.scores.reshape(shape)
        return np.asarray(self._index.search_preassigned(queries, wanted, *given)[1])


def build_index(table: VectorTable, settings: DenseConfig) -> Any:
    """Build faiss's index over the used vectors of a table.

    Args:
        table: The vectors, in any order: they are added in that of their first item's id.
        settings: The kind of index and how it is built.

    Raises:
        ConfigError: If codes of that many bytes cannot be made of vectors of this dimension.
    """
    rows = table.used
    with _steady():
        index = _empty(settings, table.vectors.shape[1], len(rows))
        step = max(1, -(-len(rows) // _sample_size(index)))
        index.train(table.vectors[rows[::step]])
        with counter(f"building the index ({settings.index})", len(rows)) as advance:
            for begin in range(0, len(rows), _BLOCK):
                block = rows[begin : begin + _BLOCK]
                index.add(table.vectors[block])
                advance(len(block))
    return index


@contextmanager
def _steady() -> Iterator[None]:
    """Let faiss build by one thread, for with several what it builds depends on their timing.

    Matrix products are chosen from 20 vectors on, as faiss once did: by its present choice k-means
    in few dimensions takes ten times as long.
    """
    import faiss

    threads, least = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold
    faiss.omp_set_num_threads(1)
    faiss.cvar.distance_compute_blas_threshold = 20
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
        faiss.cvar.distance_compute_blas_threshold = least


def _empty(settings: DenseConfig, dimension: int, n: int) -> Any:
    import faiss

    if settings.index == "hnsw":
        graph: Any = faiss.index_factory(
            dimension, f"HNSW{settings.m}_SQ8", faiss.METRIC_INNER_PRODUCT
        )
        graph.hnsw.efConstruction = settings.ef_construction
        return graph
    codes = settings.codes or _quarter(dimension)
    if dimension % codes:
        raise ConfigError.of(
            "mine.channels: codes",
            got=f"{codes} bytes for vectors of {dimension} dimensions",
            expected=f"a divisor of {dimension}",
            fix=f"set it to {_quarter(dimension)}, or leave it out",
        )
    lists = min(settings.lists or round(4 * n**0.5), n // _LEAST)
    cells: Any = faiss.index_factory(dimension, f"IVF{lists},PQ{codes}", faiss.METRIC_INNER_PRODUCT)
    cells.cp.max_points_per_centroid = _PER_LIST
    cells.do_polysemous_training = False  # minutes, for a search that is not used
    return cells


def _quarter(dimension: int) -> int:
    """The largest number of codes up to a quarter of the dimensions that divides them."""
    return next(n for n in range(max(1, dimension // 4), 0, -1) if dimension % n == 0)


def _sample_size(index: Any) -> int:
    lists = getattr(index, "nlist", 0)
    return max(_PER_LIST * lists, 1 << 16) if lists else _TRAINING
