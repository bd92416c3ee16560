"""Random draws that depend on a query and a seed alone, never on the shard it is worked on in."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hash_strings(strings: Sequence[str], seed: int) -> NDArray[np.uint64]:
    """Give each string a number that looks random and is the same on every machine.

    CRC-32 of the bytes, spread by the finaliser of SplitMix64 (Steele et al., OOPSLA 2014).
    """
    base = np.fromiter((zlib.crc32(s.encode()) for s in strings), np.uint64, len(strings))
    start = int(mix(np.array([seed + 1], dtype=np.uint64))[0])
    return mix(base ^ np.uint64(start))


def draw_positions(
    keys: NDArray[np.uint64], per_key: int, high: int
) -> NDArray[np.int64]:  # (keys, per_key)
    """Draw positions below `high` for each key, with replacement."""
    steps = np.arange(1, per_key + 1, dtype=np.uint64) * _GOLDEN
    return (mix(keys[:, None] + steps[None, :]) % np.uint64(high)).astype(np.int64)


def mix(x: Any) -> NDArray[np.uint64]:
    """Spread the bits of whole numbers: the finaliser of SplitMix64."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    spread: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return spread
