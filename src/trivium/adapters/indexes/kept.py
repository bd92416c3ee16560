"""Indexes that are kept on disk, and what an approximate one misses, measured when it is built."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from trivium.adapters.indexes.approximate import (
    SMALLEST,
    ApproximateIndex,
    build_index,
)
from trivium.adapters.locks import alone
from trivium.domain.nearest import Vectors, VectorTable
from trivium.domain.postings import Hits
from trivium.foundation.channel_config import DenseConfig
from trivium.foundation.console import say
from trivium.foundation.workspace import read_json, write_atomically, write_json

SAMPLE = 100
"""Items that are searched for to measure the recall."""
_BUILDING = ("index", "m", "ef_construction", "lists", "codes")
_SEARCHING = ("ef_search", "probes")


class Index(Protocol):
    """Finds the items whose vectors are nearest."""

    def nearest(self, queries: Vectors, k: int) -> Hits:
        """As `VectorTable.nearest`."""


@dataclass(frozen=True)
class OpenIndex:
    """An index that can be searched.

    Attributes:
        index: It.
        about: What it is, for people.
    """

    index: Index
    about: str


def open_index(
    table: VectorTable, key: str, settings: DenseConfig, depth: int, cache: Path | None
) -> OpenIndex:
    """Read the index that an earlier run left for these vectors and settings, or build it.

    Args:
        table: The vectors and their items.
        key: Names the vectors and their order.
        settings: The channel's.
        depth: The depth of mining, at which the recall is measured.
        cache: The folder of the indexes; without one nothing is kept.

    Raises:
        ConfigError: As `build_index`.
    """
    n = len(table.used)
    least = SMALLEST.get(settings.index, n + 1)
    if n < least:
        if settings.index != "flat":
            say(f"channel '{settings.name}': {n:,} vectors are too few for {settings.index}; flat")
        return OpenIndex(table, f"flat index of {n:,} vectors")
    if cache is None:
        index = ApproximateIndex(table, _built(table, settings), settings)
        return _measured(table, index, settings, depth, None)
    place = cache / f"index-{_name(settings, key, _BUILDING)}"
    with alone(place.with_suffix(".lock")):
        file = place.with_suffix(".faiss")
        if not file.is_file():
            built = _built(table, settings)
            write_atomically(file, lambda path: _write(built, path))
        index = ApproximateIndex(table, _read(file), settings)
        searched = _name(settings, f"{key} {depth}", (*_BUILDING, *_SEARCHING))
        return _measured(table, index, settings, depth, cache / f"recall-{searched}.json")


def recall(table: VectorTable, index: Index, depth: int) -> float:
    """Share of the items of exact search that an index finds.

    The queries are vectors of `SAMPLE` items, evenly spread over the catalog: items are nearer to
    each other than queries are to them, so queries may find a little less.
    """
    rows = table.used
    queries = np.asarray(table.vectors[rows[:: max(1, len(rows) // SAMPLE)][:SAMPLE]])
    exact, found = table.nearest(queries, depth), index.nearest(queries, depth)
    wanted = np.repeat(np.arange(len(queries)), exact.counts), exact.positions
    got = np.repeat(np.arange(len(queries)), found.counts), found.positions
    n = len(table.items)
    shared = np.intersect1d(wanted[0] * n + wanted[1], got[0] * n + got[1])
    return len(shared) / max(1, len(exact.positions))


def _measured(
    table: VectorTable,
    index: ApproximateIndex,
    settings: DenseConfig,
    depth: int,
    path: Path | None,
) -> OpenIndex:
    known = read_json(path) if path else None
    share = known["recall"] if known else recall(table, index, depth)
    sampled = min(SAMPLE, len(table.used))
    about = (
        f"{settings.index} index of {len(table.used):,} vectors, "
        f"recall@{depth} {share:.3f} against flat (of {sampled} items)"
    )
    if not known:
        say(f"channel '{settings.name}': {about}")
        if path:
            write_json(path, {"recall": share, "depth": depth, "queries": sampled})
    return OpenIndex(index, about)


def _built(table: VectorTable, settings: DenseConfig) -> Any:
    begin = time.monotonic()
    index = build_index(table, settings)
    say(f"channel '{settings.name}': index built in {time.monotonic() - begin:.0f} s")
    return index


def _name(settings: DenseConfig, key: str, deciding: tuple[str, ...]) -> str:
    import faiss

    values = [getattr(settings, name) for name in deciding]
    return hashlib.sha256(repr((faiss.__version__, key, values)).encode()).hexdigest()[:32]


def _write(index: Any, path: Path) -> None:
    import faiss

    faiss.write_index(index, str(path))


def _read(path: Path) -> Any:
    import faiss

    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
