"""Towers and examples for other software, on frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trivium.api.arguments import Frame, as_polars, check_known, configure, with_model_texts
from trivium.domain.judgments import consensus
from trivium.foundation import tables
from trivium.foundation.errors import ConfigError, InputError

if TYPE_CHECKING:
    from trivium.adapters.exports.example_files import ExampleFormat
    from trivium.adapters.tower_texts import Side
    from trivium.stages.export import ExportedModel, JudgedQueries, ModelFormat


def export_model(
    model: str,
    output: Path | str,
    *,
    formats: Sequence[ModelFormat] = ("sentence-transformers", "onnx"),
    samples: Mapping[Side, Sequence[str]] | None = None,
    items: Frame | None = None,
    queries: Frame | None = None,
    judgments: Frame | None = None,
    max_length: int | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> ExportedModel:
    """Export a tower.

    Args:
        model: A hub name, a folder, or `package:NAME/FOLDER`.
        output: Gets the subfolders `model` and `onnx`.
        formats: sentence-transformers (a copy), onnx (fp32, refused if it differs from the model
            by more than 1e-5), int8 (fp32 and int8, with what int8 loses).
        samples: Texts of your own, by side (`queries`, `items`), to compare the graphs on.
        items: With queries and judgments, the catalog over which the NDCG of fp32 and int8 is
            measured; all three or none.
        queries: query_id, query; with a column `part`, those of `validation` alone.
        judgments: query_id, item_id, grade.
        max_length: Tokens that the ONNX tokenizers keep; the model's own limit when absent.
        overwrite: Whether subfolders that exist are replaced.
        **settings: query_text, item_text and complete of `[data]`; cutoff and gain of `[evaluate]`.

    Returns:
        The folders and the figures; `lines()` says them in words.

    Raises:
        WorkspaceError: If a subfolder exists.
        DependencyError: If the model or a package is missing, or a graph differs from the model.
        InputError: If a table is faulty or missing.
        ConfigError: If a format or a setting is not known.
    """
    from trivium.adapters.models import resolve_model
    from trivium.stages import export as stage

    _check_formats(formats, stage.MODEL_FORMATS)
    return stage.export_model(
        resolve_model(model),
        Path(output),
        formats,
        samples=samples,
        judged=_judged(items, queries, judgments, settings),
        max_length=max_length,
        overwrite=overwrite,
    )


def export_examples(
    examples: Frame,
    items: Frame,
    queries: Frame,
    output: Path | str,
    *,
    format: ExampleFormat = "sentence-transformers",
    negatives: int = 4,
    overwrite: bool = False,
    **settings: Any,
) -> dict[str, int]:
    """Export examples in the format of another trainer.

    Args:
        examples: From `build_examples`.
        items: item_id, title and any further fields.
        queries: query_id, query.
        output: The folder to make; it gets one file, train.parquet or train.jsonl.
        format: sentence-transformers, tevatron or flagembedding.
        negatives: Of each row in the format of sentence-transformers.
        overwrite: Whether the folder is replaced if it exists.
        **settings: query_text and item_text of `[data]`.

    Returns:
        `rows`, and what was left out by reason.

    Raises:
        WorkspaceError: If the folder exists.
        InputError: If a table is faulty, or no row comes out.
        ConfigError: If the format or a setting is not known.
    """
    from trivium.adapters.exports.example_files import EXAMPLE_FORMATS
    from trivium.stages import export as stage

    _check_formats([format], EXAMPLE_FORMATS)
    config = configure("export_examples", 0, settings)
    catalog, asked = with_model_texts(items, queries, config)
    made = tables.validate(as_polars(examples), tables.EXAMPLES)
    made = check_known(made, "examples", catalog, asked)
    counts = stage.export_examples(
        [made], asked, catalog, Path(output), format, negatives=negatives, overwrite=overwrite
    )
    return dict(counts)


def _judged(
    items: Frame | None, queries: Frame | None, judgments: Frame | None, settings: dict[str, Any]
) -> JudgedQueries | None:
    from trivium.stages.export import JudgedQueries

    config = configure("export_model", 0, settings)
    if items is None and queries is None and judgments is None:
        return None
    if items is None or queries is None or judgments is None:
        raise InputError.of(
            "trivium.export_model",
            got="some of items, queries and judgments",
            expected="all three, or none of them",
            fix="give the others too",
        )
    catalog, asked = with_model_texts(items, queries, config)
    if "part" in asked.columns:
        asked = asked.filter(part="validation")
    grades = consensus(tables.validate(as_polars(judgments), tables.JUDGMENTS))
    asked = asked.join(grades, on="query_id", how="semi")
    return JudgedQueries(
        asked.select("query_id", "text"),
        catalog.select("item_id", "text"),
        grades.join(asked, on="query_id", how="semi"),
        config.evaluate.cutoff,
        config.evaluate.gain,
        config.data.complete,
    )


def _check_formats(given: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in given if name not in known]
    if unknown or not given:
        raise ConfigError.of(
            "format",
            got=", ".join(map(repr, unknown)) or "none",
            expected=f"one of {', '.join(known)}",
            fix="correct the name",
        )
