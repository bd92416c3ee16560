"""Export what a run made: its tower, and the examples that it was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from trivium.adapters.exports.example_files import NEGATIVES, ExampleFormat
from trivium.adapters.exports.folders import refuse_existing
from trivium.adapters.tower_texts import Side
from trivium.foundation.config import Config, parse_config
from trivium.foundation.console import say
from trivium.foundation.errors import WorkspaceError
from trivium.foundation.workspace import StageFolder, Workspace
from trivium.pipeline.card_facts import card_facts
from trivium.stages.export import (
    FOLDERS,
    ExportedModel,
    JudgedQueries,
    ModelFormat,
    export_examples,
    export_model,
)

EXAMPLES = "examples"
_SAMPLES = 64


@dataclass(frozen=True)
class ExportedRun:
    """What an export of a run gave.

    Attributes:
        model: Of the tower; None if it was not asked for.
        examples: Counts by format: `rows`, and what was left out by reason.
    """

    model: ExportedModel | None = None
    examples: Mapping[str, Counter[str]] = field(default_factory=dict)


def export_run(
    root: Path,
    folder: Path,
    formats: Sequence[ModelFormat] = (),
    examples: Sequence[ExampleFormat] = (),
    *,
    negatives: int = NEGATIVES,
    overwrite: bool = False,
) -> ExportedRun:
    """Export the tower and the examples of a run.

    Args:
        root: Folder of a run whose training is done (of which examples are, for those alone).
        folder: Gets `model`, `onnx` and `examples/FORMAT`, as far as they are asked for.
        formats: Of the tower.
        examples: Of the examples.
        negatives: Of each row in the format of sentence-transformers.
        overwrite: Whether folders that exist are replaced.

    Raises:
        WorkspaceError: If a stage is not done, or a folder exists.
        DependencyError: As `stages.export.export_model`.
        InputError: If no row of examples comes out.
    """
    workspace = Workspace(root)
    places = [folder / FOLDERS[name] for name in formats]
    places += [folder / EXAMPLES / name for name in examples]
    if formats:
        _config_of(workspace.stage("train"))
    if examples:
        _config_of(workspace.stage("examples"))
    refuse_existing(sorted(set(places)), overwrite=overwrite)
    model = _model(workspace, folder, formats, overwrite=overwrite) if formats else None
    counts: dict[str, Counter[str]] = {}
    for name in examples:
        say(f"  writing examples for {name}")
        counts[name] = export_examples(
            _shards(workspace.stage("examples")),
            workspace.stage("inputs").read("queries"),
            workspace.stage("inputs").read("items"),
            folder / EXAMPLES / name,
            name,
            negatives=negatives,
            overwrite=overwrite,
        )
    return ExportedRun(model, counts)


def _model(
    workspace: Workspace, folder: Path, formats: Sequence[ModelFormat], *, overwrite: bool
) -> ExportedModel:
    train = workspace.stage("train")
    config, model = _config_of(train), train.path / "model"
    items, queries = (workspace.stage("inputs").read(name) for name in ("items", "queries"))
    samples: dict[Side, list[str]] = {"queries": _spread(queries), "items": _spread(items)}
    return export_model(
        str(model),
        folder,
        formats,
        samples=samples,
        judged=_judged(workspace, config, queries, items) if "int8" in formats else None,
        max_length=config.train.max_length,
        card=card_facts(workspace, config, model) if "sentence-transformers" in formats else None,
        overwrite=overwrite,
    )


def _config_of(stage: StageFolder) -> Config:
    """The configuration that a stage was finished with."""
    manifest = stage.manifest()
    if manifest is None:
        raise WorkspaceError.of(
            str(stage.path),
            got="a stage that is not finished" if stage.path.exists() else "no such stage",
            expected=f"a run whose stage '{stage.path.name}' is done",
            fix=f"trivium run {stage.path.parent} --until {stage.path.name}",
        )
    return parse_config(manifest["configuration"])


def _shards(stage: StageFolder) -> Iterator[pl.DataFrame]:
    for part in stage.parts("examples"):
        yield pl.read_parquet(part, memory_map=False)


def _spread(table: pl.DataFrame) -> list[str]:
    """Some texts, from the shortest to the longest."""
    texts = table.sort(pl.col("text").str.len_chars(), "text")["text"]
    every = max(1, -(-len(texts) // _SAMPLES))
    return [*texts.gather_every(every), *texts.tail(1)]


def _judged(
    workspace: Workspace, config: Config, queries: pl.DataFrame, items: pl.DataFrame
) -> JudgedQueries:
    """The validation queries, over their judged items and random ones besides."""
    asked = queries.filter(part="validation").select("query_id", "text").sort("query_id")
    qrels = workspace.stage("inputs").read("qrels").join(asked, on="query_id", how="semi")
    asked = asked.join(qrels, on="query_id", how="semi")
    graded = items.join(qrels, on="item_id", how="semi")
    others = items.join(qrels, on="item_id", how="anti").sort("item_id")
    room = (config.train.validation_items or items.height) - graded.height
    kept = others.sample(min(max(room, 0), others.height), seed=config.run.seed, shuffle=True)
    return JudgedQueries(
        asked,
        pl.concat([graded, kept]).select("item_id", "text").sort("item_id"),
        qrels,
        config.evaluate.cutoff,
        config.evaluate.gain,
        config.data.complete,
    )
