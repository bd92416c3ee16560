"""Export a trained tower and its examples for other software.

In: a model's folder and some texts; or examples with the texts of queries and items. Out: folders:
the model for sentence-transformers, its graphs for onnxruntime, the examples for other trainers.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import polars as pl

from trivium.adapters.exports import example_files
from trivium.adapters.exports.folders import new_folder, refuse_existing
from trivium.adapters.model_card import CardFacts, write_card
from trivium.adapters.tower_texts import Side, limit_texts, text_limit
from trivium.adapters.towers import Encodes, load_model, retrieve
from trivium.domain.measures import measure
from trivium.foundation.console import say
from trivium.foundation.errors import InputError

if TYPE_CHECKING:
    from trivium.adapters.exports.onnx_folder import OnnxFigures

ModelFormat = Literal["sentence-transformers", "onnx", "int8"]
MODEL_FORMATS: tuple[str, ...] = get_args(ModelFormat)
FOLDERS: Mapping[str, str] = {"sentence-transformers": "model", "onnx": "onnx", "int8": "onnx"}
"""Folder of each format of a model; int8 lies beside the fp32 that it is compared with."""


@dataclass(frozen=True)
class JudgedQueries:
    """Queries with human grades, to say what int8 loses.

    Attributes:
        queries: Columns query_id, text.
        items: Columns item_id, text: what is ranked.
        qrels: Columns query_id, item_id, grade.
        cutoff: Ranks that NDCG reads.
        gain: Of a grade.
        complete: Whether the qrels name every relevant item.
    """

    queries: pl.DataFrame
    items: pl.DataFrame
    qrels: pl.DataFrame
    cutoff: int = 10
    gain: Literal["exponential", "linear"] = "exponential"
    complete: bool = False


@dataclass(frozen=True)
class Validated:
    """NDCG of both graphs: `fp32` and `int8`, over `queries`, at `cutoff`."""

    fp32: float
    int8: float
    queries: int
    cutoff: int


@dataclass(frozen=True)
class ExportedModel:
    """What an export of a model gave.

    Attributes:
        folders: By format.
        figures: Of the comparison with the model; None without ONNX.
        validated: NDCG of fp32 and int8; None without int8 or without judged queries.
    """

    folders: Mapping[str, Path]
    figures: OnnxFigures | None = None
    validated: Validated | None = None

    def lines(self) -> list[str]:
        """The figures in words."""
        if self.figures is None:
            return []
        figures, text = self.figures, []
        text.append(
            f"onnx: differs from the model by {figures.max_difference:.1g} at most "
            f"on {figures.texts:,} texts"
        )
        if figures.int8_mean_cosine is not None:
            text.append(
                f"int8: mean cosine to fp32 {figures.int8_mean_cosine:.4f}, "
                f"least {figures.int8_min_cosine:.4f}"
            )
        if self.validated is not None:
            text.append(
                f"NDCG@{self.validated.cutoff} on {self.validated.queries:,} validation queries: "
                f"fp32 {self.validated.fp32:.4f}, int8 {self.validated.int8:.4f}"
            )
        return text


def export_model(
    model: str,
    folder: Path,
    formats: Sequence[ModelFormat],
    *,
    samples: Mapping[Side, Sequence[str]] | None = None,
    judged: JudgedQueries | None = None,
    max_length: int | None = None,
    card: CardFacts | None = None,
    overwrite: bool = False,
) -> ExportedModel:
    """Export a tower.

    Args:
        model: Folder or hub name of a sentence-transformers model.
        folder: Gets a subfolder for each format, as `FOLDERS`.
        formats: sentence-transformers (a copy), onnx (fp32, proven equal), int8 (fp32 and int8).
        samples: Texts by side to compare graphs and model on.
        judged: To state the NDCG of int8 beside that of fp32.
        max_length: Tokens of a text that the ONNX tokenizers keep; the model's limit when absent.
        card: Facts for the README of the copy; it keeps its own when absent.
        overwrite: Whether folders that exist are replaced.

    Raises:
        WorkspaceError: If a folder exists.
        DependencyError: If the model cannot be loaded, a package is missing, or a graph differs
            from the model.
    """
    places: dict[str, Path] = {name: folder / FOLDERS[name] for name in formats}
    refuse_existing(sorted(set(places.values())), overwrite=overwrite)
    graphs = [name for name in formats if name != "sentence-transformers"]
    if graphs:
        from trivium.adapters.exports.onnx_folder import require_onnx

        require_onnx()
    if "sentence-transformers" in formats:
        _copy(model, places["sentence-transformers"], card)
    if not graphs:
        return ExportedModel(places)
    figures, validated = _graphs(
        model, places[graphs[0]], samples or {}, judged, max_length, int8="int8" in formats
    )
    return ExportedModel(places, figures, validated)


def export_examples(
    shards: Iterable[pl.DataFrame],
    queries: pl.DataFrame,
    items: pl.DataFrame,
    folder: Path,
    format_: example_files.ExampleFormat,
    *,
    negatives: int = example_files.NEGATIVES,
    overwrite: bool = False,
) -> Counter[str]:
    """Export examples for another trainer; see `adapters.exports.example_files`.

    Args:
        shards: Parts of a table of examples, all rows of a query in one part.
        queries: Columns query_id, text.
        items: Columns item_id, title, text.
        folder: The folder to make, with one file in it.
        format_: sentence-transformers, tevatron or flagembedding.
        negatives: Of each row in the format of sentence-transformers.
        overwrite: Whether the folder is replaced if it exists.

    Returns:
        Counts: `rows`, and what was left out by reason.

    Raises:
        WorkspaceError: If the folder exists.
        InputError: If no row comes out.
    """
    refuse_existing([folder], overwrite=overwrite)
    with new_folder(folder) as beside:
        counts = example_files.write_examples(shards, queries, items, beside, format_, negatives)
        if not counts["rows"]:
            raise InputError.of(
                "examples",
                got="; ".join(f"{n:,} {why}" for why, n in counts.items() if why != "rows" and n)
                or "no example",
                expected="positives that have negatives of their own query",
                fix="mine more queries, give more judgments, or ask for fewer negatives",
            )
    return counts


def _copy(model: str, place: Path, card: CardFacts | None) -> None:
    with new_folder(place) as beside:
        if Path(model).is_dir():
            shutil.copytree(model, beside, dirs_exist_ok=True)
        else:
            load_model(model).save_pretrained(str(beside))
        if card is not None:
            write_card(beside, card)


def _graphs(
    model: str,
    place: Path,
    samples: Mapping[Side, Sequence[str]],
    judged: JudgedQueries | None,
    max_length: int | None,
    *,
    int8: bool,
) -> tuple[OnnxFigures, Validated | None]:
    from trivium.adapters import templates
    from trivium.adapters.exports.onnx_encoder import OnnxEncoder
    from trivium.adapters.exports.onnx_folder import GRAPH, INT8_GRAPH, write_onnx

    say("  writing ONNX and comparing it with the model")
    loaded = load_model(model)
    limit_texts(loaded, max_length or text_limit(loaded))
    validated = None
    with new_folder(place) as beside:
        figures = write_onnx(loaded, beside, samples, int8=int8)
        if int8 and judged is not None and judged.queries.height:
            fp32, coarse = (
                _ndcg(OnnxEncoder(beside, graph), judged) for graph in (GRAPH, INT8_GRAPH)
            )
            validated = Validated(fp32, coarse, judged.queries.height, judged.cutoff)
        two = (beside / "queries").is_dir()
        view = {"figures": figures, "validated": validated, "two": two}
        page = templates.render("onnx_readme.md", view)
        (beside / "README.md").write_text(page, encoding="utf-8")
    return figures, validated


def _ndcg(encoder: Encodes, judged: JudgedQueries) -> float:
    """Mean graded NDCG of a full ranking of the items."""
    cutoff = judged.cutoff
    values = measure(
        retrieve(encoder, judged.queries, judged.items, cutoff),
        judged.qrels,
        cutoff=cutoff,
        depth=cutoff,
        gain=judged.gain,
        complete=judged.complete,
    )
    mean = values.filter(measure=f"nDCG@{cutoff}")["value"].mean()
    return float(mean or 0.0)  # type: ignore[arg-type]
