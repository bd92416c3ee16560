"""Items whose score lies in a band, sampled evenly over it: an exact search that skips the top."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trivium.domain.postings import Postings, accumulate, compiled

BINS = 8


def sample_band(
    postings: Postings,
    queries: tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]],
    known: tuple[NDArray[np.int64], NDArray[np.int64]],
    keys: tuple[NDArray[np.uint64], NDArray[np.uint64]],
    band: tuple[float, float],
    n: int,
) -> tuple[NDArray[np.float32], tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Score each query's known items, and sample others whose score lies in a band.

    Every item that shares a term is scored, one query at a time in one row of scores, so that the
    memory is that of the catalog's length whatever the number of queries. The band is cut into
    eight equal widths, which give items in turn until they are empty.

    Args:
        postings: The items of each term.
        queries: Where each query's terms begin, int64 (queries + 1,), the terms and their weights.
        known: Where each query's known items begin, int64 (queries + 1,), and the items.
        keys: Random numbers, (queries,) and (items,): their exclusive or orders a bin.
        band: Lowest and highest score, both inclusive, as float32; 0 is never inside.
        n: Most items for a query.

    Returns:
        The scores of the known items, at most 1; and number of the query, item and score of each
        pair that was sampled, queries in order, items by key.
    """
    low, high = np.float32(band[0]), np.float32(band[1])
    width = np.float32(max(band[1] - band[0], 1e-9))
    index = (postings.offsets, postings.items, postings.weights, postings.n_items)
    chosen = _sample(*index, *queries, *known, *keys, low, high, width, n)
    known_scores, counts, items, scores = chosen
    kept = np.arange(n)[None, :] < counts[:, None]  # (queries, n)
    sampled = np.repeat(np.arange(len(counts)), counts), items[kept], scores[kept]
    return np.minimum(known_scores, np.float32(1.0)), sampled


def _in_turn_of(bins: Any, order: Any, n: int) -> Any:
    """Places of the first n, in ascending order, the bins giving theirs in turn."""
    ascending = np.argsort(order)
    given = np.zeros(BINS, dtype=np.int64)
    turns = np.empty(len(order), dtype=np.int64)
    for place in ascending:
        turns[place] = given[bins[place]]
        given[bins[place]] += 1
    whole = 0
    left = n
    while left > 0 and whole < given.max():
        in_turn = int(np.sum(given > whole))
        if in_turn > left:
            break
        left -= in_turn
        whole += 1
    chosen = np.empty(min(n, len(order)), dtype=np.int64)
    count = 0
    for place in ascending:
        last = turns[place] == whole and left > 0
        if turns[place] < whole or last:
            chosen[count] = place
            count += 1
            left -= last
    return chosen[:count]


def _sample_all(
    offsets: Any,
    items: Any,
    weights: Any,
    n_items: int,
    query_offsets: Any,
    terms: Any,
    term_weights: Any,
    known_offsets: Any,
    known: Any,
    query_keys: Any,
    item_keys: Any,
    low: Any,
    high: Any,
    width: Any,
    n: int,
) -> Any:
    n_queries = len(query_offsets) - 1
    known_scores = np.empty(len(known), dtype=np.float32)
    counts = np.zeros(n_queries, dtype=np.int64)
    chosen = np.zeros((n_queries, n), dtype=np.int64)
    chosen_scores = np.zeros((n_queries, n), dtype=np.float32)
    scores = np.zeros(n_items, dtype=np.float32)
    touched = np.empty(n_items, dtype=np.int64)
    inside = np.empty(n_items, dtype=np.int64)
    for q in range(n_queries):
        begin, end = query_offsets[q], query_offsets[q + 1]
        found = accumulate(
            offsets, items, weights, terms[begin:end], term_weights[begin:end], scores, touched
        )
        here = slice(known_offsets[q], known_offsets[q + 1])
        known_scores[here] = scores[known[here]]
        scores[known[here]] = 0.0
        held = 0
        for t in range(found):
            score = scores[touched[t]]
            if score > 0.0 and low <= score <= high:
                inside[held] = touched[t]
                held += 1
        members = inside[:held]
        bins = np.minimum(((scores[members] - low) / width * BINS).astype(np.int64), BINS - 1)
        picked = members[_in_turn(bins, item_keys[members] ^ query_keys[q], n)]
        counts[q] = len(picked)
        chosen[q, : len(picked)] = picked
        chosen_scores[q, : len(picked)] = scores[picked]
        scores[touched[:found]] = 0.0
    return known_scores, counts, chosen, chosen_scores


_in_turn = compiled(_in_turn_of)
_sample = compiled(_sample_all)
