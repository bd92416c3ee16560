"""Misspellings as fingers make them: neighbouring keys, letters swapped, dropped or doubled."""

from __future__ import annotations

import numpy as np

_KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_MIN_LETTERS = 4


def _neighbours() -> dict[str, str]:
    near: dict[str, str] = {}
    for row, keys in enumerate(_KEYS):
        for place, key in enumerate(keys):
            beside = keys[max(place - 1, 0) : place] + keys[place + 1 : place + 2]
            below = _KEYS[row + 1][max(place - 1, 0) : place + 1] if row + 1 < len(_KEYS) else ""
            above = _KEYS[row - 1][place : place + 2] if row else ""
            near[key] = beside + below + above
    return near


_NEIGHBOURS = _neighbours()


def can_be_misspelled(text: str) -> bool:
    """Whether some word is plain letters and long enough."""
    return any(_fit(word) for word in text.split(" "))


def misspell(text: str, rng: np.random.Generator) -> str:
    """Make one edit in one word of at least four letters, never in its first letter.

    Args:
        text: A lower-case query for which `can_be_misspelled` holds.
        rng: Source of randomness.

    Returns:
        The query with one word changed.
    """
    words = text.split(" ")
    place = int(rng.choice([i for i, word in enumerate(words) if _fit(word)]))
    words[place] = _edit(words[place], rng)
    return " ".join(words)


def _fit(word: str) -> bool:
    return len(word) >= _MIN_LETTERS and all(letter in _NEIGHBOURS for letter in word)


def _edit(word: str, rng: np.random.Generator) -> str:
    at = int(rng.integers(1, len(word)))
    start, letter, rest = word[:at], word[at], word[at + 1 :]
    edit = int(rng.integers(4))
    if edit == 0 and rest and rest[0] != letter:
        return start + rest[0] + letter + rest[1:]
    if edit == 1:
        return start + rest
    if edit == 2:
        return start + letter + letter + rest
    return start + str(rng.choice(list(_NEIGHBOURS[letter]))) + rest
