"""The dictionary channel: query words and phrases looked up in a lexicon and expanded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from trivium.adapters.channels import Explanation
from trivium.adapters.channels.explaining import STEPS, matches
from trivium.adapters.channels.lexicon import build_lexicon, shown_as
from trivium.adapters.channels.lookup import Lookup
from trivium.adapters.channels.synonyms import Synonyms, read_synonyms
from trivium.domain.postings import runs_table
from trivium.foundation.channel_config import DictionaryConfig
from trivium.foundation.config import DataConfig
from trivium.foundation.mine_config import MineConfig


class DictionaryChannel:
    """Looks queries up in the catalog's own lexicon, longest phrases first.

    A phrase that is found counts whole; its single words count half, so that items without the
    phrase come after those with it. Synonyms and other spellings of what was looked up count 0.6,
    a corrected word the share of its letters that stay. There is no term frequency and no length:
    an item scores by how many parts of the query match, and in which fields (`Lexicon`).
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

    def explain(self, text: str, item_ids: Sequence[str]) -> Explanation:
        """Say what became of each part of a query, and what each entry gave; see `Explains`."""
        (steps,) = self._lookup.steps(pl.Series([text]))
        shown = [
            step._replace(became=None if step.became is None else shown_as(step.became))
            for step in steps
        ]
        numbers = self._lexicon.entries
        weights = self._lookup.entries(steps)
        named = dict.fromkeys(step.became for step in steps if step.became is not None)
        terms = [(shown_as(name), numbers[name], weights[numbers[name]]) for name in named]
        found = matches(self._lexicon.postings, terms, self._item_ids, item_ids)
        return Explanation(pl.DataFrame(shown, schema=dict(STEPS), orient="row"), found)
