"""Vectors of texts, kept on disk: a model encodes each text once, whatever else it stands among.

A folder for each way of encoding holds the vectors, one after the other, and the hashes of their
texts. A block's vectors are written before its hashes, so what is there when a process is killed is
whole blocks and a rest that the next one cuts off.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.locks import alone
from trivium.adapters.models import model_fingerprint
from trivium.adapters.tower_texts import Side
from trivium.adapters.towers import Tower, Vectors
from trivium.foundation.console import counter

BLOCK = 1 << 13
"""Texts that are encoded before they are kept: half a minute of a small model on one core."""
_KEY = ("high", "low")


@dataclass(frozen=True)
class TextVectors:
    """Vectors of distinct texts, and which of them each text asked for has.

    Attributes:
        vectors: float32 (rows, dimension), unit length, mapped from its file if it has one.
        rows: int64 (texts,).
        key: Names how they were encoded, and the texts in their order.
    """

    vectors: Vectors
    rows: NDArray[np.int64]
    key: str


def text_vectors(tower: Tower, model: str, texts: Sequence[str], cache: Path | None) -> TextVectors:
    """Encode the items' texts, or read what earlier runs left for this model.

    Args:
        tower: The loaded model.
        model: Its name, whose content the fingerprint covers.
        texts: The items' texts.
        cache: The folder to keep them in; without one nothing is kept.
    """
    hashes = _hashes(texts)
    encoding = _encoding(tower, model)
    key = hashlib.sha256(encoding.encode() + hashes.tobytes()).hexdigest()[:32]
    asked = pl.DataFrame(hashes, schema=_KEY).with_row_index("text")
    if cache is None:
        first = asked.unique(_KEY, keep="first", maintain_order=True)
        vectors = tower.encode([texts[row] for row in first["text"]])
        return TextVectors(vectors, _rows(asked, first.drop("text")), key)
    store = _Store(cache / f"vectors-{encoding}", tower.dimension)
    # Several workers need the same vectors at once: the first encodes, the others wait for it.
    with alone(store.folder / "lock"):
        missing = asked.join(store.known(), on=_KEY, how="anti")
        missing = missing.unique(_KEY, keep="first", maintain_order=True)
        if missing.height:
            _encode(tower, texts, missing, store)
        return TextVectors(store.vectors(), _rows(asked, store.known()), key)


@dataclass(frozen=True)
class KeptTower:
    """A tower that keeps the vectors of items for whoever searches with the same model.

    Attributes:
        tower: The loaded model.
        model: Its name, whose content the fingerprint covers.
        cache: The folder to keep them in; without one nothing is kept.
    """

    tower: Tower
    model: str
    cache: Path | None

    @classmethod
    def load(cls, model: str, max_length: int | None, cache: Path | None) -> KeptTower:
        """Load a model; see `Tower.load`."""
        return cls(Tower.load(model, max_length), model, cache)

    def encode(self, texts: Sequence[str], side: Side = "items") -> Vectors:
        """Unit vectors, as `Tower.encode` makes them; those of queries are not kept."""
        if side == "queries" or self.cache is None:
            return self.tower.encode(texts, side)
        made = text_vectors(self.tower, self.model, texts, self.cache)
        return np.asarray(made.vectors[made.rows])


class _Store:
    """The two files of a folder."""

    def __init__(self, folder: Path, dimension: int) -> None:
        self.folder, self._dimension = folder, dimension
        self._vectors, self._hashes = folder / "vectors.f32", folder / "texts.sha256"

    def _complete(self) -> int:
        """Rows of which both the vector and the hash are there."""
        row = 4 * self._dimension
        return min(_size(self._vectors) // row, _size(self._hashes) // 16)

    def known(self) -> pl.DataFrame:
        """Hashes of the texts that are there, by row."""
        n = self._complete()
        hashes = np.fromfile(self._hashes, dtype=np.uint64, count=2 * n) if n else np.empty(0, "u8")
        return pl.DataFrame(hashes.reshape(n, 2), schema=_KEY)

    def vectors(self) -> Vectors:
        shape = self._complete(), self._dimension
        if not shape[0]:
            return np.empty(shape, dtype=np.float32)
        return np.memmap(self._vectors, dtype=np.float32, mode="r", shape=shape)

    def append(self, vectors: Vectors, hashes: NDArray[np.uint64]) -> None:
        """Add rows, after the last complete one."""
        n = self._complete()
        _write(self._vectors, 4 * self._dimension * n, vectors.tobytes())
        _write(self._hashes, 16 * n, hashes.tobytes())


def _encode(tower: Tower, texts: Sequence[str], missing: pl.DataFrame, store: _Store) -> None:
    with counter("blocks of texts encoded", -(-missing.height // BLOCK)) as advance:
        for block in _blocks(texts, missing):
            vectors = tower.encode([texts[row] for row in block["text"]])
            store.append(vectors, block.select(_KEY).to_numpy())
            advance(1)


def _blocks(texts: Sequence[str], missing: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Blocks of texts, longest first, so that those of a block fill batches of one length."""
    lengths = pl.Series([-len(texts[row]) for row in missing["text"]], dtype=pl.Int64)
    return missing[lengths.arg_sort()].iter_slices(BLOCK)


def _encoding(tower: Tower, model: str) -> str:
    """All that decides what a text's vector is, as a name."""
    from sentence_transformers.util import get_device_name

    device = get_device_name().split(":")[0]
    settings = (model_fingerprint(model), tower.max_length, tower.bf16, tower.dimension, device)
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:32]


def _hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    """The first half of each text's SHA-256, (texts, 2)."""
    digests = b"".join(hashlib.sha256(text.encode()).digest()[:16] for text in texts)
    return np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)


def _rows(asked: pl.DataFrame, known: pl.DataFrame) -> NDArray[np.int64]:
    found = asked.join(known.with_row_index("row"), on=_KEY, how="left", maintain_order="left")
    return found["row"].to_numpy().astype(np.int64)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _write(path: Path, at: int, content: bytes) -> None:
    """Write at a place in a file, cut off what was behind it, and wait for the disk."""
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(at)
        file.seek(at)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
