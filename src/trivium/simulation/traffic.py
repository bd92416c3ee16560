"""How often each query is asked, which segment that makes it, and which queries get judged."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trivium.foundation.tables import SEGMENTS
from trivium.simulation.vocabulary import Ints, Places

Frequencies = NDArray[np.int64]

RAREST = 10  # times the rarest query is asked
# Where each kind stands on the way from head to tail, before chance is added.
SPECIFICITY = {
    "broad": 0.0,
    "synonym": 0.8,
    "attribute": 1.2,
    "brand": 1.3,
    "compatibility": 1.5,
    "size": 1.8,
    "misspelled": 2.0,
    "model": 2.8,
}
_A_SLOT = 0.4
_CHANCE = 0.8


def zipf_frequencies(
    kinds: list[str], slots: Places, zipf: float, rng: np.random.Generator
) -> Frequencies:
    """Give every query a rank, broad ones mostly first, and the frequency that Zipf's law gives it.

    Args:
        kinds: Kind of each query, a key of `SPECIFICITY`.
        slots: How many things each query asks for beside the type, (queries,).
        zipf: Exponent: frequency = 10 * (queries / rank) ** zipf, rounded.
        rng: Source of the chance in the ranks.

    Returns:
        Frequencies, (queries,).
    """
    count = len(kinds)
    place = np.array([SPECIFICITY[kind] for kind in kinds]) + _A_SLOT * slots
    rank = np.empty(count, dtype=np.int64)
    rank[np.argsort(place + rng.normal(0, _CHANCE, count), kind="stable")] = np.arange(1, count + 1)
    return np.rint(RAREST * (count / rank) ** zipf).astype(np.int64)


def segments(frequency: Frequencies, head_share: float, torso_share: float) -> list[str]:
    """Segment of each query: a query is head while the more frequent ones have not made the share.

    Args:
        frequency: Frequencies, (queries,); ties in the order given.
        head_share: Share of traffic that head queries make.
        torso_share: Share of traffic that head and torso queries make together.

    Returns:
        A member of `SEGMENTS` for each query.
    """
    order = np.argsort(-frequency, kind="stable")
    before = (np.cumsum(frequency[order]) - frequency[order]) / frequency.sum()
    place = np.empty(len(frequency), dtype=np.int64)
    place[order] = np.searchsorted([head_share, torso_share], before, side="right")
    return [SEGMENTS[p] for p in place]


def choose_judged(segment: list[str], count: int, rng: np.random.Generator) -> Ints:
    """Choose the queries to judge: an equal number of each segment as far as there are that many.

    Args:
        segment: Segment of each query.
        count: Number of queries to choose.
        rng: Source of randomness.

    Returns:
        Places of the queries, ascending.
    """
    shuffled = rng.permutation(len(segment))
    within = np.empty(len(segment), dtype=np.int64)
    for name in SEGMENTS:
        members = [i for i in shuffled if segment[i] == name]
        within[members] = np.arange(len(members))
    order = shuffled[np.argsort(within[shuffled], kind="stable")]
    return np.sort(order[:count]).astype(np.int32)
