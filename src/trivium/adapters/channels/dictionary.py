"""The dictionary channel: query words and phrases looked up in a lexicon and expanded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from trivium.adapters.channels.lexicon import build_lexicon
from trivium.adapters.channels.lookup import Lookup
from trivium.adapters.channels.synonyms import Synonyms, read_synonyms
from trivium.domain.postings import runs_table
from trivium.foundation.channel_config import DictionaryConfig
from trivium.foundation.config import DataConfig, MineConfig


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
        self._lexicon = build_lexicon(items, units=settings.units)
        synonyms = read_synonyms(data.synonyms) if data.synonyms else Synonyms()
        self._lookup = Lookup(
            self._lexicon, synonyms, units=settings.units, spelling=settings.spelling
        )

    def search(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Retrieve the best items of each query; see `Channel.search`."""
        found = [self._lookup.entries(steps) for steps in self._lookup.steps(queries["text"])]
        pairs = [pair for entries in found for pair in sorted(entries.items())]
        offsets = np.cumsum([0] + [len(entries) for entries in found])
        hits = self._lexicon.postings.search(
            offsets.astype(np.int64),
            np.array([entry for entry, _ in pairs], dtype=np.int32),
            np.array([weight for _, weight in pairs], dtype=np.float32),
            k,
        )
        return runs_table(self.name, queries["query_id"], hits, self._item_ids)
