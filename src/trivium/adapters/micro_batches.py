"""Vectors of a training batch, made in micro-batches of texts of about the same length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

Column = dict[str, Any]
Encode = Callable[[Column], Tensor]

MICRO_BATCH = 32
"""Texts in a micro-batch. Steps of MiniLM-L6 with MNR on 96 queries and titles of homedepot, one
thread, bfloat16, took 2.29 s at 8, 1.83 at 16, 1.76 at 24, 1.85 at 32, 2.23 at 64, and 3.08 with
each column padded to its longest text; with `recompute`, 3.11 at 16 and 2.68 at 32."""


def embed(
    model: Any, features: Iterable[Column], *, size: int = MICRO_BATCH, recompute: bool = False
) -> list[Tensor]:
    """Encode the text columns of a batch.

    All columns' texts together are sorted by length and encoded `size` at a time, each
    micro-batch cut to its longest text, which spares most of the padding. Texts with the same
    tokens are encoded once and share a vector. Columns that differ in anything but their tokens
    (the task that chooses one of two towers) are kept apart, and columns without an attention
    mask (static embeddings) are encoded as they are.

    Args:
        model: A sentence-transformers model, or DistributedDataParallel around one.
        features: A dict of tensors for each column, as the trainer gives them.
        size: Texts in a micro-batch.
        recompute: Keep no activations but compute those of one micro-batch at a time again on
            the way back, with the same dropout: the memory of `size` texts for any batch, as
            with a gradient cache (arXiv 2101.06983), and the same gradients.

    Returns:
        Unit vectors of each column, float32 or wider: (batch, dimension) each.
    """
    columns = list(features)

    def encoded(tower: Any) -> list[Tensor]:
        return _encode_columns(_encoder(tower, recompute), columns, size)

    return [_unit(vectors) for vectors in _in_one_call(model, encoded)]


def _unit(vectors: Tensor) -> Tensor:
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    return functional.normalize(wide, dim=1)


def _in_one_call(model: Any, work: Callable[[Any], list[Tensor]]) -> list[Tensor]:
    """Do the work on a model, within a single forward call if processes share its gradients.

    DistributedDataParallel expects one forward call for each backward pass: of several it would
    look at the last alone to find the parameters that were used, and a call in the backward pass
    would start over. So for one call the wrapped model's forward is the work.
    """
    if not isinstance(model, DistributedDataParallel):
        return work(model)
    tower: Any = model.module
    own = vars(tower).get("forward")

    def restore() -> None:
        vars(tower).pop("forward", None)
        if own is not None:
            tower.forward = own

    def forward(_nothing: None) -> list[Tensor]:
        restore()
        return work(tower)

    tower.forward = forward
    try:
        vectors: list[Tensor] = model(None)
    finally:
        restore()
    return vectors


def _encoder(tower: Any, recompute: bool) -> Encode:
    def encode(batch: Column) -> Tensor:
        vectors: Tensor = tower(dict(batch))["sentence_embedding"]
        return vectors

    return partial(checkpoint, encode, use_reentrant=False) if recompute else encode


def _encode_columns(encode: Encode, columns: list[Column], size: int) -> list[Tensor]:
    found: dict[int, Tensor] = {}
    for members in _alike(columns):
        group = [columns[number] for number in members]
        padded = _is_padded(group[0])
        vectors = _encode_padded(encode, group, size) if padded else [encode(c) for c in group]
        found.update(zip(members, vectors, strict=True))
    return [found[number] for number in range(len(columns))]


def _alike(columns: list[Column]) -> list[list[int]]:
    """Numbers of the columns whose texts may be mixed; a column that is not padded is alone."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, column in enumerate(columns):
        if _is_padded(column):
            alike = [
                (name, "tokens" if _of_tokens(column, name) else value)
                for name, value in sorted(column.items())
            ]
            groups[repr(alike)].append(number)
        else:
            groups[f"column {number}"].append(number)
    return list(groups.values())


def _is_padded(column: Column) -> bool:
    """Whether all that a column has for each text is rows of tokens, with a mask."""
    return "attention_mask" in column and all(
        _of_tokens(column, name) or not isinstance(value, Tensor) or value.numel() == 1
        for name, value in column.items()
    )


def _of_tokens(column: Column, name: str) -> bool:
    value = column[name]
    return isinstance(value, Tensor) and value.shape == column["attention_mask"].shape


def _encode_padded(encode: Encode, group: list[Column], size: int) -> Sequence[Tensor]:
    """Encode columns together; a vector for every text, column by column."""
    texts, place = _distinct(_stacked(group))
    mask = texts["attention_mask"].bool()
    order = mask.sum(dim=1).argsort(descending=True, stable=True)  # longest first
    parts = []
    for rows in order.split(size):
        used = mask[rows].any(dim=0).nonzero()
        within = slice(int(used[0]), int(used[-1]) + 1)
        batch = {name: tokens[rows, within] for name, tokens in texts.items()}
        parts.append(encode(group[0] | batch))
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    vectors = torch.cat(parts).index_select(0, rank[place])
    return torch.split(vectors, [len(column["attention_mask"]) for column in group])


def _stacked(group: list[Column]) -> Column:
    """All columns' tokens, padded to one width with zeros: (texts, width) each."""
    masks = [column["attention_mask"] for column in group]
    width = max(mask.shape[1] for mask in masks)
    left = any(bool((mask[:, 0] == 0).any()) for mask in masks)

    def widened(tokens: Tensor) -> Tensor:
        missing = width - tokens.shape[1]
        return functional.pad(tokens, (missing, 0) if left else (0, missing))

    names = [name for name in group[0] if _of_tokens(group[0], name)]
    return {name: torch.cat([widened(column[name]) for column in group]) for name in names}


def _distinct(texts: Column) -> tuple[Column, Tensor]:
    """Each text once, and the place of each text among them: (texts,)."""
    mask = texts["attention_mask"]
    joined = torch.cat([tokens * mask for tokens in texts.values()], dim=1)
    distinct, place = torch.unique(joined, dim=0, return_inverse=True)
    parts = distinct.split(mask.shape[1], dim=1)
    return dict(zip(texts, parts, strict=True)), place
