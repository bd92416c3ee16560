"""A folder with a tower as ONNX: fp32, proven equal to the model; int8, its loss stated."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trivium.adapters.tower_texts import TASKS, Side, prompt_of
from trivium.adapters.towers import Tower
from trivium.foundation.errors import DependencyError
from trivium.foundation.workspace import write_json

GRAPH, INT8_GRAPH = "model.onnx", "model_int8.onnx"
TOLERANCE = 1e-5
"""Largest difference of a coordinate from the model's own at which the export is refused."""
SAMPLES = (
    "shower head",
    "usb c 3 ft",
    "Ø 12 mm brass fitting, 1/2 in. x 3/4 in.",
    "LED-Lampe E27 für Küche & Bad",
    "cordless drill with two batteries, charger and case " * 12,
)
"""Texts that every export is checked on: short and over-long, numbers, signs, two languages."""

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_UNLIMITED = 1 << 20

Texts: TypeAlias = Mapping[Side, Sequence[str]]
Vectors: TypeAlias = Mapping[Side, NDArray[np.float32]]


@dataclass(frozen=True)
class OnnxFigures:
    """What the comparison of the graphs with the model gave.

    Attributes:
        dimensions: Of the vectors.
        max_length: Tokens of a text that are read; None where there is no limit.
        texts: Texts that were compared, of both sides.
        max_difference: Largest absolute difference of a coordinate, fp32 graph and model.
        int8_mean_cosine: Mean cosine of int8 and fp32 vectors; None without an int8 graph.
        int8_min_cosine: The smallest of them.
    """

    dimensions: int
    max_length: int | None
    texts: int
    max_difference: float
    int8_mean_cosine: float | None = None
    int8_min_cosine: float | None = None


def require_onnx() -> None:
    """Check that the packages are there.

    Raises:
        DependencyError: If one is not.
    """
    absent = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise DependencyError.of(
            "export to ONNX",
            got=f"no installed package '{absent[0]}'",
            expected="that package",
            fix="pip install 'trivium[export]'",
        )


def write_onnx(
    model: Any, folder: Path, samples: Mapping[Side, Sequence[str]], *, int8: bool
) -> OnnxFigures:
    """Write a tower's graphs and compare them with it.

    Args:
        model: A SentenceTransformer; texts are cut where it cuts them.
        folder: An empty folder: it gets `model.onnx`, `tokenizer.json` and `export.json`; a model
            of two towers has the first two in its subfolders `queries` and `items`.
        samples: Texts by side to compare on, beside `SAMPLES`.
        int8: Whether to write `model_int8.onnx` too.

    Raises:
        DependencyError: If a package is missing, the model is of a kind that cannot be written, or
            the fp32 graph differs from it by more than `TOLERANCE`.
    """
    require_onnx()
    from trivium.adapters.exports import onnx_encoder, onnx_graphs

    tower = Tower(model.cpu().float().eval(), bf16=False)
    encoders = onnx_graphs.encoders_of(model)
    folders = {side: encoder.folder for side, encoder in encoders.items()}
    for encoder in {encoder.folder: encoder for encoder in encoders.values()}.values():
        onnx_graphs.write_graph(encoder, folder / encoder.folder)
    limit = tower.max_length if tower.max_length < _UNLIMITED else None
    described = {
        "folders": folders,
        "prompts": {side: prompt_of(model, side) for side in TASKS},
        "dimensions": tower.dimension,
        "max_length": limit,
    }
    write_json(folder / onnx_encoder.DESCRIPTION, described)
    texts: Texts = {side: [*SAMPLES, *samples.get(side, ())] for side in TASKS}
    exact = onnx_encoder.OnnxEncoder(folder, GRAPH)
    vectors: Vectors = {side: exact.encode(texts[side], side) for side in TASKS}
    figures = OnnxFigures(
        tower.dimension,
        limit,
        sum(len(of_side) for of_side in texts.values()),
        _checked_difference(tower, texts, vectors),
        *_quantised(folder, folders, texts, vectors) if int8 else (),
    )
    write_json(folder / onnx_encoder.DESCRIPTION, described | asdict(figures))
    return figures


def _checked_difference(tower: Tower, texts: Texts, vectors: Vectors) -> float:
    gaps = [np.abs(tower.encode(texts[side], side) - vectors[side]).max() for side in TASKS]
    largest = float(max(gaps))
    if not largest <= TOLERANCE:
        raise DependencyError.of(
            "export to ONNX",
            got=f"vectors that differ from the model's by {largest:.2g}",
            expected=f"a difference of {TOLERANCE:g} at most",
            fix="export it in the format sentence-transformers",
        )
    return largest


def _quantised(
    folder: Path,
    folders: Mapping[Side, str],
    texts: Texts,
    vectors: Vectors,
) -> tuple[float, float]:
    """Write the int8 graphs; mean and least cosine with the fp32 vectors."""
    from trivium.adapters.exports.onnx_encoder import OnnxEncoder

    for place in set(folders.values()):
        _quantise(folder / place / GRAPH, folder / place / INT8_GRAPH)
    coarse = OnnxEncoder(folder, INT8_GRAPH)
    cosines = np.concatenate(
        [(coarse.encode(texts[side], side) * vectors[side]).sum(axis=1) for side in TASKS]
    )
    return float(cosines.mean()), float(cosines.min())


def _quantise(source: Path, target: Path) -> None:
    """Weights to uint8, a scale for each column, activations as they come.

    Both are unsigned, since the signed product saturates on CPUs without VNNI (onnxruntime's page
    on quantisation, "When and why do I need to try U8U8?").
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from trivium.adapters.exports.onnx_graphs import silenced

    with silenced():
        quantize_dynamic(source, target, weight_type=QuantType.QUInt8, per_channel=True)
