"""Misspelt words: the nearest words of a catalog, frequent ones first."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from trivium.adapters.channels.words import fold

MIN_LETTERS, MAX_LETTERS = 4, 24
TWO_EDITS_FROM = 7
"""Letters from which a word may be two edits away."""
MIN_HELD = 2
"""Items that hold a word which others are corrected to."""
MIN_PART = 3
"""Letters of each of two words written as one."""


class Speller:
    """Finds the words that an unknown word may have been meant for.

    No index is built: the sets of letters are compared first, as bits, which leaves some dozens of
    a catalog's words to be compared in full.

    Args:
        words: Words and the number of items that hold each; those of letters alone, held by two
            items or more, can be meant.
    """

    def __init__(self, words: Mapping[str, int]) -> None:
        kept = sorted(
            (word for word, held in words.items() if held >= MIN_HELD and _fits(word)),
            key=lambda word: (len(word), word),
        )
        self._held = words
        self._words = np.array(kept, dtype=object)
        self._starts = np.searchsorted([len(word) for word in kept], np.arange(MAX_LETTERS + 4))
        self._letters = np.array([_letters(word) for word in kept], dtype=np.uint32)
        self._first = np.array([ord(word[0]) for word in kept], dtype=np.uint8)
        self.correct = lru_cache(maxsize=1 << 16)(self._correct)

    def _correct(self, word: str) -> tuple[str, int] | None:
        """The likeliest word, or two of them joined by a space, and the edits to it.

        Fewer edits win, then the word that more items hold. A missing space is an edit, and another
        first letter is one more, for first letters are seldom wrong. From seven letters on there
        may be two. None where nothing is near.
        """
        if not _fits(word):
            return None
        near = self._near(word, 2 if len(word) >= TWO_EDITS_FROM else 1)
        if near is not None and near[1] == 1:
            return near
        parts = self._parts(word)
        return (parts, 1) if parts else near

    def _near(self, word: str, most: int) -> tuple[str, int] | None:
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        span = slice(self._starts[len(word) - most], self._starts[len(word) + most + 1])
        unlike = np.bitwise_count(self._letters[span] ^ np.uint32(_letters(word)))
        begins_alike = self._first[span] == ord(word[0])
        alike = unlike <= np.where(begins_alike, 2 * most, 2 * most - 2)
        choices = self._words[span][alike].tolist()
        found = process.extract(word, choices, scorer=OSA.distance, score_cutoff=most, limit=None)
        ranked = (
            (int(edits) + (other[0] != word[0]), -self._held[other], other)
            for other, edits, _ in found
        )
        edits, _, best = min(ranked, default=(most + 1, 0, ""))
        return (best, edits) if edits <= most else None

    def _parts(self, word: str) -> str | None:
        """Two known words written as one: the cut whose rarer word is the most frequent.

        A first word in the plural is read only where no cut leaves it as it is.
        """
        best: tuple[bool, int, str] = (False, 0, "")
        for at in range(MIN_PART, len(word) - MIN_PART + 1):
            first, last = fold(word[:at]), fold(word[at:])
            held = min(self._held.get(first, 0), self._held.get(last, 0))
            if held >= MIN_HELD:
                best = max(best, (first == word[:at], held, f"{first} {last}"))
        return best[2] or None


def _fits(word: str) -> bool:
    return MIN_LETTERS <= len(word) <= MAX_LETTERS and word.isascii() and word.isalpha()


def _letters(word: str) -> int:
    bits = 0
    for letter in word:
        bits |= 1 << (ord(letter) - ord("a"))
    return bits
