"""The dictionary channel: query words and phrases looked up in a lexicon and expanded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from trivium.adapters.channels.lexicon import Lexicon, build_lexicon
from trivium.adapters.channels.synonyms import Synonyms, read_synonyms
from trivium.adapters.channels.words import parts, tokens
from trivium.domain.postings import runs_table
from trivium.foundation.channel_config import DictionaryConfig
from trivium.foundation.config import DataConfig, MineConfig

SYNONYM_WEIGHT = 0.6
BACK_OFF_WEIGHT = 0.5


class DictionaryChannel:
    """Looks queries up in the catalog's own lexicon, longest phrases first.

    A phrase that is found counts whole; its single words count half, so that items without the
    phrase come after those with it. Synonyms and compounds of what was looked up count 0.6. There
    is no term frequency and no length: an item scores by which fields match (`Lexicon`).
    """

    def __init__(
        self,
        *,
        items: pl.DataFrame,
        settings: DictionaryConfig,
        config: MineConfig,
        data: DataConfig,
        cache: Path | None,
    ) -> None:
        self.name = settings.name
        items = items.sort("item_id")
        self._item_ids = items["item_id"]
        self._lexicon = build_lexicon(items)
        synonyms = read_synonyms(data.synonyms) if data.synonyms else Synonyms()
        self._lookup = Lookup(self._lexicon, synonyms)

    def search(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Retrieve the best items of each query; see `Channel.search`."""
        found = [self._lookup.entries_of(text) for text in queries["text"].to_list()]
        pairs = [pair for entries in found for pair in sorted(entries.items())]
        offsets = np.cumsum([0] + [len(entries) for entries in found])
        hits = self._lexicon.postings.search(
            offsets.astype(np.int64),
            np.array([entry for entry, _ in pairs], dtype=np.int32),
            np.array([weight for _, weight in pairs], dtype=np.float32),
            k,
        )
        return runs_table(self.name, queries["query_id"], hits, self._item_ids)


class Lookup:
    """Turns a query into weighted entries of a lexicon.

    Args:
        lexicon: The catalog's entries; its compounds become synonyms.
        synonyms: The user's.
    """

    def __init__(self, lexicon: Lexicon, synonyms: Synonyms) -> None:
        self._entries = lexicon.entries
        self._synonyms = synonyms
        for two_words, joined in lexicon.compounds:
            synonyms.add_equivalents([two_words, joined])
        tables = (self._entries, synonyms.equivalents, synonyms.replacements)
        self._known = {phrase for table in tables for phrase in table}
        self._longest = 1 + max((known.count(" ") for known in self._known), default=0)

    def entries_of(self, text: str) -> dict[int, float]:
        """Weigh the entries that a query asks for; empty where the lexicon knows none of it."""
        weights: dict[int, float] = {}
        words = parts(text)
        for phrase in self.segments(words):
            for meant, weight in self._meanings(phrase):
                self._weigh(meant, weight, weights)
        for whole in tokens(text)[len(words) :]:
            self._weigh(whole, 1.0, weights)
        return weights

    def segments(self, words: list[str]) -> list[str]:
        """Cut words into known phrases, the longest first from the left, and single words."""
        segments, begin = [], 0
        while begin < len(words):
            length = self._longest_known(words[begin : begin + self._longest])
            segments.append(" ".join(words[begin : begin + length]))
            begin += length
        return segments

    def _longest_known(self, words: list[str]) -> int:
        lengths = range(len(words), 1, -1)
        return next((n for n in lengths if " ".join(words[:n]) in self._known), 1)

    def _meanings(self, phrase: str) -> list[tuple[str, float]]:
        instead = self._synonyms.replacements.get(phrase)
        others = self._synonyms.equivalents.get(phrase, [])
        if instead is None:
            stands = [(phrase, 1.0)]
        elif phrase in instead:
            stands = [(other, 1.0 if other == phrase else SYNONYM_WEIGHT) for other in instead]
        else:
            stands = [(other, 1.0) for other in instead]
        return stands + [(other, SYNONYM_WEIGHT) for other in others]

    def _weigh(self, phrase: str, weight: float, weights: dict[int, float]) -> None:
        words = phrase.split(" ")
        if len(words) > 1:
            for word in words:
                self._weigh(word, weight * BACK_OFF_WEIGHT, weights)
        entry = self._entries.get(phrase)
        if entry is not None:
            weights[entry] = max(weight, weights.get(entry, 0.0))
