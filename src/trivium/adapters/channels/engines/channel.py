"""What every channel of an engine is: queries out, a runs table back."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import polars as pl

from trivium.adapters.channels import Explanation
from trivium.adapters.channels.engines.answers import Hits, left_out, read_hits, unknown_items
from trivium.adapters.channels.engines.asking import Asker, Engine, Question
from trivium.adapters.towers import Tower
from trivium.foundation.console import say
from trivium.foundation.engine_config import EngineSection
from trivium.foundation.mine_config import MineConfig


class EngineChannel:
    """A channel over the network; nothing is connected before the first search.

    Args:
        items: Column item_id.
        settings: The channel's own.
        config: The settings of mining.
        engine: Whom to ask.
        model: The tower that makes the vectors of queries, where the engine wants them.
    """

    def __init__(
        self,
        items: pl.DataFrame,
        settings: EngineSection,
        config: MineConfig,
        engine: Engine,
        model: str | None = None,
    ) -> None:
        self.name = settings.name
        self._catalog = items.select("item_id")
        self._settings = settings
        self._depth = config.depth
        self._engine = engine
        self._model = model
        self._tower: Tower | None = None
        self._asker = Asker(engine, settings)
        weakref.finalize(self, self._asker.close)

    def search(self, queries: pl.DataFrame, k: int) -> pl.DataFrame:
        """Retrieve the best items of each query; see `Channel.search`.

        Which of several equal scores at the cut-off are found is the engine's choice.

        Raises:
            DependencyError: If the engine does not answer, or not as it should.
            InputError: If it finds items that the catalog does not have, unless they are dropped.
        """
        hits = self.hits(queries["text"].to_list(), k)
        strangers = hits.unknown(self._catalog)
        if strangers.height and self._settings.unknown_items == "refuse":
            raise unknown_items(self._engine.where, strangers)
        if strangers.height:
            say(left_out(f"channel '{self.name}'", strangers))
        return hits.runs(self.name, queries["query_id"], self._catalog, k)

    def hits(self, texts: Sequence[str], k: int) -> Hits:
        """What the engine finds for some queries, whether the catalog has it or not.

        Raises:
            DependencyError: As `search`.
        """
        answers = self._asker.ask(self._questions(texts), k)
        return read_hits(answers, self._engine.where)

    def explain(self, text: str, item_ids: Sequence[str]) -> Explanation:
        """Show the request of a query; why it finds what it finds the engine alone knows."""
        step = {"part": text, "became": self._engine.request(text, self._depth)}
        columns = {"part": pl.String, "became": pl.String, "weight": pl.Float32, "why": pl.String}
        steps = pl.DataFrame(
            [step | {"weight": None, "why": f"asked of {self._engine.where}"}], schema=columns
        )
        matches = {"item_id": pl.String, "part": pl.String, "score": pl.Float32}
        return Explanation(steps, pl.DataFrame(schema=matches))

    def close(self) -> None:
        """Close the connections."""
        self._asker.close()

    def _questions(self, texts: Sequence[str]) -> list[Question]:
        if self._model is None:
            return [Question(text) for text in texts]
        self._tower = self._tower or Tower.load(self._model)
        vectors = self._tower.encode(texts, "queries")
        return [Question(text, vector) for text, vector in zip(texts, vectors, strict=True)]
