"""Which queries a catalog can answer at all: one of its items has enough of their words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.channels.spelling import Speller
from trivium.adapters.channels.synonyms import Synonyms
from trivium.adapters.channels.words import Split, number_tokens, number_words, parts
from trivium.domain.held_words import any_item_has
from trivium.foundation.console import counter

_BLOCK = 1 << 16
"""Queries looked at together, which bounds the memory that a log needs."""
_NOT_WORDS = frozenset({"item_id", "judge_text"})
_FREE = "*"
"""Stands for a word of the synonyms, which is no word that `parts` could give."""


class CatalogWords:
    """The words of each item, in whatever field.

    Args:
        items: Columns item_id and text, and further ones.
        synonyms: The user's, for words that no item has.
    """

    def __init__(self, items: pl.DataFrame, synonyms: Synonyms | None = None) -> None:
        fields = [
            name
            for name, dtype in items.schema.items()
            if dtype == pl.String and name not in _NOT_WORDS
        ]
        texts = items.select(pl.concat_str(fields, separator=" ", ignore_nulls=True)).to_series()
        vocabulary: dict[str, int] = {}
        table = number_tokens(texts, vocabulary)
        held = np.sort(table.ids.astype(np.int64) * max(1, items.height) + table.rows)
        words, rows = np.divmod(held[np.diff(held, prepend=-1) > 0], max(1, items.height))
        sizes = np.bincount(words, minlength=len(vocabulary))
        self._vocabulary = vocabulary
        self._postings = (np.concatenate([[0], np.cumsum(sizes)]), rows.astype(np.int32))
        self._speller = Speller(dict(zip(vocabulary, sizes.tolist(), strict=True)))
        meant = {*synonyms.equivalents, *synonyms.replacements} if synonyms else set()
        self._meant = {word for phrase in meant for word in phrase.split(" ")}

    def answerable(self, queries: pl.DataFrame, least: float) -> pl.Series:
        """Tell the queries for which one single item has at least a share of their distinct words.

        A word that no item has is corrected, as the dictionary channel does; one that the synonyms
        name counts as had.

        Args:
            queries: Column text.
            least: The share, above 0.

        Returns:
            Boolean, in the order of the queries; false for a query without words.

        Example:
            >>> words = CatalogWords(pl.DataFrame({"text": ["red mug", "blue plate", "plate"]}))
            >>> queries = pl.DataFrame({"text": ["red mugs", "red paltes", "car"]})
            >>> [words.answerable(queries, least).to_list() for least in (0.5, 1.0)]
            [[True, True, False], [True, False, False]]
        """
        found = pl.Series("answerable", [], dtype=pl.Boolean)
        with counter("queries, their words looked up", queries.height) as advance:
            for block in queries["text"].to_frame().iter_slices(_BLOCK):
                found.append(self._answerable(block["text"], least))
                advance(block.height)
        return found

    def _answerable(self, texts: pl.Series, least: float) -> pl.Series:
        found = self._enough(texts, _distinct, least)
        missed = np.flatnonzero(~found)
        found[missed] = self._enough(texts.gather(missed), self._mended, least)
        return pl.Series(found)

    def _enough(self, texts: pl.Series, split: Split, least: float) -> NDArray[np.bool_]:
        known, vocabulary = len(self._vocabulary), {**self._vocabulary}
        free = vocabulary.setdefault(_FREE, known)
        asked = number_words(texts, split, vocabulary)
        words = np.diff(asked.offsets)
        needed = np.maximum(1, np.ceil(words * least - 1e-9)).astype(np.int64)
        needed -= np.bincount(asked.rows[asked.ids == free], minlength=len(texts))
        kept = asked.ids < known
        offsets = np.concatenate([[0], np.cumsum(kept)])[asked.offsets]
        found = any_item_has(self._postings, (offsets, asked.ids[kept]), np.maximum(1, needed))
        return found | ((needed <= 0) & (words > 0))

    def _mended(self, text: str) -> list[str]:
        return list(
            dict.fromkeys(word for part in _distinct(text) for word in self._meanings(part))
        )

    def _meanings(self, word: str) -> Iterator[str]:
        if word in self._vocabulary:
            yield word
        elif word in self._meant:
            yield _FREE
        else:
            corrected = self._speller.correct(word)
            yield from corrected[0].split(" ") if corrected else [word]


def _distinct(text: str) -> list[str]:
    return list(dict.fromkeys(parts(text)))
