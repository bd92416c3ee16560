"""What checkpoints are chosen by: a tower's ranking of the validation queries."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from trivium.domain.measures import measure
from trivium.foundation.config import EvaluateConfig
from trivium.foundation.workspace import read_json, write_json, write_table

_TABLES = ("queries", "items", "qrels")
_SETTINGS = "settings.json"


@dataclass(frozen=True)
class Validation:
    """Full ranking of a fixed set of items for the validation queries.

    Attributes:
        queries: Columns query_id, text.
        items: Columns item_id, text, sorted by item_id.
        qrels: Columns query_id, item_id, grade.
        config: Cut-off and gain.
        complete: Whether the qrels name every relevant item.
    """

    queries: pl.DataFrame
    items: pl.DataFrame
    qrels: pl.DataFrame
    config: EvaluateConfig
    complete: bool

    def ndcg(self, model: Any, max_length: int | None = None) -> float:
        """Mean graded NDCG of a sentence-transformers model, which may be cut to some tokens."""
        from trivium.adapters.towers import Tower, retrieve

        cutoff = self.config.cutoff
        run = retrieve(Tower(model, max_length), self.queries, self.items, cutoff)
        values = measure(
            run,
            self.qrels,
            cutoff=cutoff,
            depth=cutoff,
            gain=self.config.gain,
            complete=self.complete,
        )
        mean = values.filter(pl.col("measure") == f"nDCG@{cutoff}")["value"].mean()
        return round(float(mean or 0.0), 6)  # type: ignore[arg-type]

    def save(self, folder: Path) -> None:
        """Write it where another process can read it."""
        shutil.rmtree(folder, ignore_errors=True)
        for name in _TABLES:
            write_table(folder / f"{name}.parquet", getattr(self, name))
        settings = {"config": self.config.model_dump(mode="json"), "complete": self.complete}
        write_json(folder / _SETTINGS, settings)

    @staticmethod
    def is_saved(folder: Path) -> bool:
        """Whether `save` finished there."""
        return read_json(folder / _SETTINGS) is not None

    @classmethod
    def load(cls, folder: Path) -> Validation:
        """Read what `save` wrote."""
        settings = read_json(folder / _SETTINGS)
        assert settings is not None
        tables = {name: pl.read_parquet(folder / f"{name}.parquet") for name in _TABLES}
        config = EvaluateConfig.model_validate(settings["config"])
        return cls(**tables, config=config, complete=settings["complete"])
