"""How texts become words, the same for every lexical channel and for queries and items."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_RUN = re.compile(r"[^\W_]+(?:[-./][^\W_]+)*")
_JOINER = re.compile(r"[-./]")
_ACCENT = re.compile("[\u0300-\u036f]")
_DROPPED = str.maketrans("", "", "'\u2019`™®©")
_ES = ("sses", "shes", "ches", "xes", "zes")
_NOT_PLURAL = ("ss", "us", "is")

Split = Callable[[str], list[str]]


def parts(text: str) -> list[str]:
    """Words of a text in order: lower case, unaccented, plurals folded, joined words split.

    Examples:
        >>> parts("2 DX-4821b Men's boxes")
        ['2', 'dx', '4821b', 'men', 'box']
    """
    return [part for run in _runs(text) for part in _split(run)[0]]


def tokens(text: str) -> list[str]:
    """The parts of a text, then the joined words as wholes: what an index holds.

    A whole that has a letter loses its joiners, so that "dx-4821b" and "dx4821b" meet; a number
    keeps them, so that "1/2" is not 12.

    Examples:
        >>> tokens("DX-4821b 1/2")
        ['dx', '4821b', '1', '2', 'dx4821b', '1/2']
    """
    split = [_split(run) for run in _runs(text)]
    return [part for ps, _ in split for part in ps] + [whole for _, whole in split if whole]


def fold(word: str) -> str:
    """Fold an English plural; other words, and those with digits, stay as they are.

    Examples:
        >>> [fold(w) for w in ("batteries", "boxes", "saws", "tvs", "glass", "gas")]
        ['battery', 'box', 'saw', 'tv', 'glass', 'gas']
    """
    if len(word) < 3 or not word.endswith("s") or not word.isalpha():
        return word
    if len(word) == 3 and word[1] in "aeiou":
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(_ES):
        return word[:-2]
    return word if word.endswith(_NOT_PLURAL) else word[:-1]


def _runs(text: str) -> list[str]:
    return _RUN.findall(_plain(text))


def _plain(text: str) -> str:
    text = html.unescape(text).translate(_DROPPED)
    if not text.isascii():
        unaccented = _ACCENT.sub("", unicodedata.normalize("NFKD", text))
        text = unicodedata.normalize("NFKC", unaccented)
    return text.lower()


@lru_cache(maxsize=1 << 18)
def _split(run: str) -> tuple[tuple[str, ...], str | None]:
    pieces = _JOINER.split(run)
    folded = tuple(fold(piece) for piece in pieces)
    if len(pieces) == 1:
        return folded, None
    has_letter = any(character.isalpha() for character in run)
    return folded, fold("".join(pieces)) if has_letter else run


@dataclass(frozen=True)
class WordTable:
    """Numbered words of some texts, one after the other.

    Attributes:
        offsets: int64 (texts + 1,), where each text's words begin in `ids`.
        ids: int32 (words,).
    """

    offsets: NDArray[np.int64]
    ids: NDArray[np.int32]

    @property
    def rows(self) -> NDArray[np.int64]:
        """The number of the text that each word belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def number_words(texts: Iterable[str], split: Split, vocabulary: dict[str, int]) -> WordTable:
    """Number the words of texts; a word not seen before is added to the vocabulary."""
    return _table([vocabulary.setdefault(w, len(vocabulary)) for w in split(t)] for t in texts)


def known_words(texts: Iterable[str], split: Split, vocabulary: Mapping[str, int]) -> WordTable:
    """Number the words of texts that the vocabulary knows and leave the others out."""
    return _table([vocabulary[w] for w in split(t) if w in vocabulary] for t in texts)


def _table(rows: Iterable[list[int]]) -> WordTable:
    ids: list[int] = []
    offsets = [0]
    for row in rows:
        ids += row
        offsets.append(len(ids))
    return WordTable(np.array(offsets, dtype=np.int64), np.array(ids, dtype=np.int32))
