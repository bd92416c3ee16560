"""The README of a trained model: what it was made from, how, and what it is worth.

It holds figures, settings and names of fields, and no text of the user's catalog or queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from trivium.adapters import templates
from trivium.foundation.tables import LEVELS
from trivium.foundation.train_config import StageConfig
from trivium.foundation.workspace import write_atomically

FILE = "README.md"
_TEMPLATE = "model_card.md"


@dataclass(frozen=True)
class JudgeFact:
    """A judge that graded the training pairs.

    Attributes:
        name: As in the configuration.
        kind: Of the judge.
        model: Its model, None where it has none.
        accuracy: Agreement with human grades on queries that it never saw: value, ci_low, ci_high;
            None where it was not measured.
        pairs: That it was measured on.
    """

    name: str
    kind: str
    model: str | None = None
    accuracy: Mapping[str, float | None] | None = None
    pairs: int = 0


@dataclass(frozen=True)
class CardFacts:
    """What a card tells.

    Attributes:
        start: The model that training started from, as it was named.
        recipe: Name of the recipe, or "own stages".
        stages: The stages, with the steps that they were given.
        chosen: Columns stage, step, ndcg: the checkpoint that each stage chose; 0 is its start.
        curves: Columns stage, step, loss, ndcg.
        levels: Columns level, rows, queries: the examples.
        dimensions: Of the vectors.
        max_length: Tokens of a text that are read.
        query_text: Template of what is read of a query.
        item_text: Template of what is read of an item.
        version: Of Trivium.
        seed: Of the run.
        cutoff: Ranks that the validation NDCG reads.
        validation_queries: That chose the checkpoints.
        skipped: Stages without examples, with the reason.
        judges: That graded the machine's examples.
        metrics: `tables.METRICS` on the test queries, once they are there.
        gains: Gains over the start, `stages.evaluate.GAINS`, once they are there.
        simulated: Whether the data are simulated.
    """

    start: str
    recipe: str
    stages: Sequence[StageConfig]
    chosen: pl.DataFrame
    curves: pl.DataFrame
    levels: pl.DataFrame
    dimensions: int
    max_length: int
    query_text: Sequence[str]
    item_text: Sequence[str]
    version: str
    seed: int = 0
    cutoff: int = 10
    validation_queries: int = 0
    skipped: Mapping[str, str] = field(default_factory=dict)
    judges: Sequence[JudgeFact] = ()
    metrics: pl.DataFrame | None = None
    gains: pl.DataFrame | None = None
    simulated: bool = False


def write_card(folder: Path, facts: CardFacts) -> Path:
    """Write the card of a model, over the one that its start brought along.

    Args:
        folder: The model's folder.
        facts: What to tell; it may be called again once there are more.

    Returns:
        The card's file.
    """
    text = templates.render(_TEMPLATE, _view(facts))
    path = folder / FILE
    write_atomically(path, lambda place: place.write_text(text, encoding="utf-8"))
    return path


def _view(facts: CardFacts) -> dict[str, Any]:
    name, hub = _named(facts.start)
    chosen = {row["stage"]: row for row in facts.chosen.to_dicts()}
    return {
        "facts": facts,
        "start": name,
        "hub": name if hub else None,
        "moved": any(row["step"] > 0 for row in chosen.values()),
        "stages": [_stage(stage, chosen.get(stage.name), facts) for stage in facts.stages],
        "levels": _levels(facts.levels),
        "curve": facts.curves.filter(pl.col("ndcg").is_not_null()).to_dicts(),
        "results": _results(facts),
    }


def _stage(
    stage: StageConfig, chosen: Mapping[str, Any] | None, facts: CardFacts
) -> dict[str, Any]:
    """A stage, and the step that it chose or why it has none."""
    if chosen is None:
        why = facts.skipped.get(stage.name, "no examples")
        return {"stage": stage, "chosen": f"skipped: {why}", "ndcg": None}
    return {"stage": stage, "chosen": chosen["step"] or "its start", "ndcg": chosen["ndcg"]}


def _named(model: str) -> tuple[str, bool]:
    """A model's name without the folders that it lies in, and whether it is one of the hub."""
    if model.startswith("package:"):
        return model, False
    if Path(model).expanduser().exists() or model.count("/") > 1:
        return Path(model).name, False
    return model, True


def _levels(levels: pl.DataFrame) -> list[dict[str, Any]]:
    places = {level: place for place, level in enumerate(LEVELS)}
    return sorted(levels.to_dicts(), key=lambda row: places.get(row["level"], len(places)))


def _results(facts: CardFacts) -> list[dict[str, Any]]:
    """A row a measure over all test queries: each system's value, and the gain of the trained."""
    if facts.metrics is None:
        return []
    over_all = facts.metrics.filter(segment="all")
    gains = {} if facts.gains is None else _gains(facts.gains)
    return [
        {
            "measure": measure,
            "systems": of_measure.to_dicts(),
            "gain": gains.get(measure),
            "queries": of_measure["queries"][0],
        }
        for (measure,), of_measure in over_all.group_by("measure", maintain_order=True)
    ]


def _gains(gains: pl.DataFrame) -> dict[str, dict[str, Any]]:
    of_trained = gains.filter(segment="all", system="trained")
    return {row["measure"]: row for row in of_trained.to_dicts()}
