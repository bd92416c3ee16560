"""Write a sentence-transformers model as ONNX graphs, each with the tokenizer that feeds it."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from torch import Tensor, nn

from trivium.adapters.exports.onnx_folder import GRAPH
from trivium.adapters.tower_texts import TASKS, Side
from trivium.adapters.towers import Tower
from trivium.foundation.errors import DependencyError

TOKENIZER, OUTPUT = "tokenizer.json", "sentence_embedding"
_EXAMPLE_SHAPE = (2, 7)


@dataclass(frozen=True)
class Encoder:
    """One encoder of a tower: that of both sides, or of queries or items alone.

    Attributes:
        folder: Where its graph lies in the export: its side, or "" for that of both.
        modules: What its texts pass through, after the tokenizer.
        tokenizer: Cuts and pads texts as the model's own.
        inputs: Names of the graph's inputs, each int64 (batch, length).
        dimensions: Numbers of a vector that are kept.
    """

    folder: str
    modules: Sequence[nn.Module]
    tokenizer: Tokenizer
    inputs: tuple[str, ...]
    dimensions: int


def encoders_of(model: SentenceTransformer) -> dict[Side, Encoder]:
    """The encoders by side: one and the same unless the model has two.

    Raises:
        DependencyError: If the model reads texts in a way that is not known here.
    """
    first, *rest = model.children()
    size = Tower(model).dimension
    if not isinstance(first, Router):
        both = _encoder("", [first, *rest], size)
        return {"queries": both, "items": both}
    routes: Any = first.sub_modules
    return {side: _encoder(side, [*routes[task], *rest], size) for side, task in TASKS.items()}


def write_graph(encoder: Encoder, folder: Path) -> None:
    """Write an encoder's graph, pooled and normalised, and its tokenizer.

    The graph's inputs are `encoder.inputs`, int64 of any (batch, length); its output is
    `sentence_embedding`, unit vectors, float32 (batch, dimensions).
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder.tokenizer.save(str(folder / TOKENIZER))
    shapes = [{0: "batch", 1: "length"} for _ in encoder.inputs]
    with silenced():
        torch.onnx.export(
            _Graph(encoder.modules, encoder.dimensions).eval(),
            tuple(_example(name) for name in encoder.inputs),
            str(folder / GRAPH),
            dynamo=True,
            input_names=list(encoder.inputs),
            output_names=[OUTPUT],
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )


@contextmanager
def silenced() -> Iterator[None]:
    """Keep the notes of exporters to themselves; their errors come through."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _example(name: str) -> Tensor:
    """An input of its own: of a tensor that is given twice, one input is made."""
    value = 0 if name == "token_type_ids" else 1
    return torch.full(_EXAMPLE_SHAPE, value, dtype=torch.int64)


class _Graph(nn.Module):
    """From token ids to unit vectors."""

    def __init__(self, modules: Sequence[nn.Module], dimensions: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(modules)
        self.dimensions = dimensions

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        features: dict[str, Tensor] = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            features["token_type_ids"] = token_type_ids
        for step in self.steps:
            features = step(features)
        return nn.functional.normalize(features[OUTPUT][:, : self.dimensions], dim=1)


class _StaticMean(nn.Module):
    """What StaticEmbedding computes, from padded ids and their mask in place of a bag's offsets."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights.detach().float(), requires_grad=False)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = features["attention_mask"].unsqueeze(2).float()  # (batch, length, 1)
        summed = (self.weights[features["input_ids"]] * mask).sum(1)  # (batch, dimensions)
        return {**features, OUTPUT: summed / mask.sum(1).clamp(min=1.0)}


def _encoder(folder: str, modules: Sequence[nn.Module], dimensions: int) -> Encoder:
    first, *rest = modules
    if isinstance(first, StaticEmbedding):
        mean = _StaticMean(first.embedding.weight)
        inputs = ("input_ids", "attention_mask")
        tokenizer = _static_tokenizer(first.tokenizer)
        return Encoder(folder, [mean, *rest], tokenizer, inputs, dimensions)
    own: Any = getattr(first, "tokenizer", None)
    if not isinstance(first, Transformer) or not hasattr(own, "backend_tokenizer"):
        raise DependencyError.of(
            "export to ONNX",
            got=f"a model that begins with {type(first).__name__} "
            f"and the tokenizer {type(own).__name__}",
            expected="a Transformer with a fast tokenizer, or a StaticEmbedding",
            fix="export it in the format sentence-transformers",
        )
    typed = ("token_type_ids",) if "token_type_ids" in own.model_input_names else ()
    inputs = ("input_ids", "attention_mask", *typed)
    tokenizer = _tokenizer(own, first.max_seq_length)
    return Encoder(folder, modules, tokenizer, inputs, dimensions)


def _tokenizer(own: Any, max_length: int | None) -> Tokenizer:
    tokenizer = Tokenizer.from_str(own.backend_tokenizer.to_str())
    tokenizer.enable_truncation(max_length or own.model_max_length)
    tokenizer.enable_padding(
        direction=own.padding_side,
        pad_id=own.pad_token_id,
        pad_type_id=own.pad_token_type_id,
        pad_token=own.pad_token,
    )
    return tokenizer


def _static_tokenizer(own: Tokenizer) -> Tokenizer:
    """The same without special tokens, which a static embedding does not read."""
    parts = json.loads(own.to_str())
    tokenizer = Tokenizer.from_str(json.dumps({**parts, "post_processor": None}))
    tokenizer.enable_padding()
    return tokenizer
