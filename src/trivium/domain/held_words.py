"""Whether any one item has enough of a query's words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.domain.postings import compiled


def any_item_has(
    postings: tuple[NDArray[np.int64], NDArray[np.int32]],
    queries: tuple[NDArray[np.int64], NDArray[np.int32]],
    needed: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Tell for each query whether some item has as many of its words as needed.

    Of k words an item that has m of them has one of the k - m + 1 rarest, so only the items of
    those are looked at (prefix filtering: Chaudhuri et al., A Primitive Operator for Similarity
    Joins, ICDE 2006), and a query is left at the first item that will do.

    Args:
        postings: Where each word's items begin, int64 (words + 1,), and the items, int32,
            ascending within a word.
        queries: Where each query's words begin, int64 (queries + 1,), and the words, int32,
            distinct within a query.
        needed: int64 (queries,), at least 1 each.

    Returns:
        bool (queries,).
    """
    offsets, words = queries
    rows = np.repeat(np.arange(len(needed)), np.diff(offsets))
    rarest_first = words[np.lexsort((words, np.diff(postings[0])[words], rows))]
    return np.asarray(_any_item_has(*postings, offsets, rarest_first, needed))


def _any_item_has_all(starts: Any, items: Any, offsets: Any, words: Any, needed: Any) -> Any:
    found = np.zeros(len(needed), dtype=np.bool_)
    for q in range(len(needed)):
        found[q] = _enough(starts, items, words[offsets[q] : offsets[q + 1]], needed[q])
    return found


def _enough_of(starts: Any, items: Any, words: Any, needed: int) -> bool:
    for first in range(len(words) - needed + 1):
        for p in range(starts[words[first]], starts[words[first] + 1]):
            had = 1
            for at in range(first + 1, len(words)):
                if had + len(words) - at < needed or had >= needed:
                    break
                listed = items[starts[words[at]] : starts[words[at] + 1]]
                place = np.searchsorted(listed, items[p])
                if place < len(listed) and listed[place] == items[p]:
                    had += 1
            if had >= needed:
                return True
    return False


_enough = compiled(_enough_of)
_any_item_has = compiled(_any_item_has_all)
