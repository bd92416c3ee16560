"""Numbers for the ids of a table, so that pairs of ids can be sorted and compared as integers."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.postings import compiled

_NONE = -1


class Ids:
    """The ids of a table, numbered in their order.

    A join builds its hash table of all ids at each call, which for a million items takes longer
    than a search; this one is built once. Ids are looked up by 64 bits of their hash and then
    compared, so the numbers are exact.

    Args:
        ids: Distinct strings, sorted.
    """

    def __init__(self, ids: pl.Series) -> None:
        self.ids = ids
        distinct = ids.n_unique()
        self._seed = next(seed for seed in count() if ids.hash(seed).n_unique() == distinct)
        slots = 1 << max(1, (2 * len(ids)).bit_length())
        self._hashes = np.zeros(slots, dtype=np.uint64)
        self._numbers = np.full(slots, _NONE, dtype=np.int32)
        _fill(self._hashes, self._numbers, self._hashed(ids))

    def __len__(self) -> int:
        return len(self.ids)

    def numbers(self, ids: pl.Series) -> NDArray[np.int64]:
        """The number of each id, -1 for one that the table does not have.

        Example:
            >>> Ids(pl.Series(["a", "b", "d"])).numbers(pl.Series(["d", "c", "a"])).tolist()
            [2, -1, 0]
        """
        found = np.asarray(_find(self._hashes, self._numbers, self._hashed(ids)))
        if not len(self.ids):
            return found
        same = (self.ids.gather(np.maximum(found, 0)) == ids).to_numpy()
        return np.where(same, found, _NONE)

    def _hashed(self, ids: pl.Series) -> NDArray[np.uint64]:
        return ids.hash(self._seed).to_numpy()


def _fill_all(hashes: Any, numbers: Any, given: Any) -> None:
    mask = len(numbers) - 1
    for number in range(len(given)):
        slot = np.int64(given[number] & np.uint64(mask))
        while numbers[slot] >= 0:
            slot = (slot + 1) & mask
        hashes[slot], numbers[slot] = given[number], number


def _find_all(hashes: Any, numbers: Any, asked: Any) -> Any:
    mask = len(numbers) - 1
    found = np.empty(len(asked), dtype=np.int64)
    for row in range(len(asked)):
        slot = np.int64(asked[row] & np.uint64(mask))
        while numbers[slot] >= 0 and hashes[slot] != asked[row]:
            slot = (slot + 1) & mask
        found[row] = numbers[slot]
    return found


_fill = compiled(_fill_all)
_find = compiled(_find_all)
