"""How texts become words, the same for every lexical channel and for queries and items."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.ids import Ids

_RUN = re.compile(r"[^\W_]+(?:[-./][^\W_]+)*")
_ASCII_RUN = r"[a-z0-9]+(?:[-./][a-z0-9]+)*"
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


def number_tokens(texts: pl.Series, vocabulary: dict[str, int]) -> WordTable:
    """As `number_words` with `tokens`, for a whole catalog: each distinct run is split once."""
    lists = _run_lists(texts)
    runs = lists.explode(empty_as_null=False, keep_nulls=False)
    distinct = runs.unique(maintain_order=True)
    codes = Ids(distinct).numbers(runs)
    names: dict[str, int] = {}
    split = [_split(run) for run in distinct.to_list()]
    pieces = _table([names.setdefault(word, len(names)) for word in words] for words, _ in split)
    wholes = np.array(
        [-1 if whole is None else names.setdefault(whole, len(names)) for _, whole in split],
        dtype=np.int32,
    )[codes]
    rows = np.repeat(np.arange(len(lists)), lists.list.len().to_numpy())
    lengths = np.diff(pieces.offsets)[codes]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    ids = np.concatenate(
        [pieces.ids[np.repeat(pieces.offsets[codes], lengths) + within], wholes[wholes >= 0]]
    )
    rows = np.concatenate([np.repeat(rows, lengths), rows[wholes >= 0]])
    order = np.argsort(rows, kind="stable")  # the parts of a text, then its wholes
    offsets = np.searchsorted(rows[order], np.arange(len(lists) + 1))
    return WordTable(offsets.astype(np.int64), _in_order_of(ids[order], list(names), vocabulary))


def _run_lists(texts: pl.Series) -> pl.Series:
    """What `_runs` finds in each text; only those with other than plain letters go through it."""
    special = texts.str.contains(r"[^\x00-\x7F]|&")
    found = texts.str.replace_all("['`]", "").str.to_lowercase().str.extract_all(_ASCII_RUN)
    rest = special.arg_true()
    joined = [" ".join(_runs(text)) for text in texts.gather(rest).to_list()]
    slow = pl.Series(joined, dtype=pl.String).str.extract_all("[^ ]+")
    order = np.arange(len(texts))
    order[rest.to_numpy()] = len(texts) + np.arange(len(slow))
    return pl.concat([found, slow]).gather(order)


def _in_order_of(
    ids: NDArray[np.int32], names: list[str], vocabulary: dict[str, int]
) -> NDArray[np.int32]:
    """Number words in a vocabulary, new ones in the order in which they are first met."""
    first = np.zeros(len(names), dtype=np.int64)
    first[ids[::-1]] = np.arange(len(ids))[::-1]
    numbers = np.zeros(len(names), dtype=np.int32)
    for word in np.argsort(first).tolist():
        numbers[word] = vocabulary.setdefault(names[word], len(vocabulary))
    return numbers[ids]


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
