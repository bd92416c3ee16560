"""Misspelt words: the nearest words of a vocabulary, frequent ones first."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from trivium.adapters.channels.words import fold

MIN_LETTERS, MAX_LETTERS = 4, 24
MIN_HELD = 2
TWO_EDITS_FROM = 7
"""Letters from which a word may be two edits away."""


class Speller:
    """Finds the words that an unknown word may have been meant for.

    No index is built: letters that words have are compared as sets of bits, which leaves some
    hundreds of a catalog's words to be compared in full.

    Args:
        words: Words and the number of items that hold each; those of letters alone, held by two
            items or more, can be meant.
    """

    def __init__(self, words: Mapping[str, int]) -> None:
        kept = sorted(
            (word for word, held in words.items() if held >= MIN_HELD and _fits(word)),
            key=lambda word: (len(word), word),
        )
        self._words = np.array(kept, dtype=object)
        self._held = np.array([words[word] for word in kept], dtype=np.int64)
        lengths = np.array([len(word) for word in kept], dtype=np.int64)
        self._starts = np.searchsorted(lengths, np.arange(MAX_LETTERS + 4))
        self._letters = np.array([_letters(word) for word in kept], dtype=np.uint32)
        self._known = words
        self.correct = lru_cache(maxsize=1 << 16)(self._correct)

    def _correct(self, word: str) -> tuple[str, int] | None:
        """The likeliest word, of one or two parts, and its edits; None where none is near.

        Fewer edits win, then the word that more items hold. A missing space is an edit, and another
        first letter is one more, for first letters are seldom wrong. From seven letters on there may
        be two.
        """
        if not _fits(word):
            return None
        most = 2 if len(word) >= TWO_EDITS_FROM else 1
        near = self._near(word, most)
        if near is not None and near[1] == 1:
            return near
        parts = self._parts(word)
        return (parts, 1) if parts else near

    def _near(self, word: str, most: int) -> tuple[str, int] | None:
        from rapidfuzz.distance import OSA

        low, high = self._starts[len(word) - most], self._starts[len(word) + most + 1]
        unlike = np.bitwise_count(self._letters[low:high] ^ np.uint32(_letters(word)))
        places = low + np.flatnonzero(unlike <= 2 * most)
        best: tuple[int, int, str] | None = None
        for other, held in zip(self._words[places], self._held[places], strict=True):
            edits = OSA.distance(word, other, score_cutoff=most) + (word[0] != other[0])
            found = (edits, -int(held), other)
            best = found if best is None else min(best, found)
        return None if best is None or best[0] > most else (best[2], best[0])

    def _parts(self, word: str) -> str | None:
        """Two known words written as one: the cut whose rarer word is the most frequent.

        A first word in the plural is read only where no cut leaves it as it is.
        """
        best: tuple[bool, int, str] = (False, 0, "")
        for at in range(3, len(word) - 2):
            first, last = fold(word[:at]), fold(word[at:])
            held = min(self._known.get(first, 0), self._known.get(last, 0))
            if held >= MIN_HELD:
                best = max(best, (first == word[:at], held, f"{first} {last}"))
        return best[2] or None


def _fits(word: str) -> bool:
    return MIN_LETTERS <= len(word) <= MAX_LETTERS and word.isascii() and word.isalpha()


def _letters(word: str) -> int:
    bits = 0
    for letter in word:
        bits |= 1 << (ord(letter) - 97)
    return bits
