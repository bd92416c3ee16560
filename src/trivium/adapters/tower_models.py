"""The model that training starts from: any tower, with prompts, a projection, two encoders."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trivium.adapters.frozen_layers import freeze_layers
from trivium.adapters.tower_texts import PROMPTS, Side, is_routed, prompt_of
from trivium.adapters.towers import Tower, load_model
from trivium.foundation.errors import ConfigError
from trivium.foundation.tower_config import TowerConfig

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_SAMPLE = 2000
_SEED = 0


def build_tower(
    model: str, settings: TowerConfig, texts: Sequence[str] = ()
) -> SentenceTransformer:
    """Make the model that training starts from.

    What is built is kept in the model's folder when it is saved: sentence-transformers, the dense
    channel and evaluation then use its prompts and encoders without being told. Built again with
    the same settings, such a folder stays as it is.

    Args:
        model: A hub name, a folder, or `package:NAME/FOLDER`.
        settings: The section `[train.tower]`.
        texts: Texts of items. Of vectors, a new projection keeps the directions in which those of
            2,000 such texts are largest (their principal directions, not centred); without texts,
            random orthogonal ones.

    Raises:
        ConfigError: If a length is not below that of the model's vectors, or it lacks the layers
            that shall not learn.
        DependencyError: If there is no such model.
    """
    built: SentenceTransformer = load_model(model)
    _set_prompts(built, settings)
    if settings.projection and settings.projection != built.get_embedding_dimension():
        built = _projected(built, settings.projection, texts)
    if settings.kind == "two" and not is_routed(built):
        built = _in_two(built)
    _check_lengths("train.tower.matryoshka", settings.matryoshka, built)
    freeze_layers(built, settings.freeze)  # files keep no such state; what cannot be is refused
    return built


def _set_prompts(model: Any, settings: TowerConfig) -> None:
    """Give every name of a side's prompt that the model has one text."""
    given: dict[Side, str | None] = {
        "queries": settings.query_prompt,
        "items": settings.item_prompt,
    }
    for side, prompt in given.items():
        text = prompt_of(model, side) if prompt is None else prompt
        first, *others = PROMPTS[side]
        model.prompts |= dict.fromkeys([first, *(n for n in others if n in model.prompts)], text)


def _projected(model: Any, size: int, texts: Sequence[str]) -> Any:
    """Put a linear layer behind a model, and unit length behind that."""
    import torch
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    _check_lengths("train.tower.projection", [size], model)
    modules = list(model.children())
    if isinstance(modules[-1], Normalize):
        modules.pop()
    with model.truncate_embeddings(None):
        directions = _directions(model, size, texts)
    dense = Dense(
        directions.shape[1],
        size,
        bias=False,
        activation_function=None,
        init_weight=torch.from_numpy(directions),
    )
    return _made_of([*modules, dense, Normalize()], model, truncate=False)


def _directions(model: Any, size: int, texts: Sequence[str]) -> NDArray[np.float32]:
    """Orthonormal directions to project on, those that keep most first: (size, dimension)."""
    if len(texts):
        sample = texts[:: -(-len(texts) // _SAMPLE)]
        vectors = Tower(model, bf16=False).encode(sample).astype(np.float64)
    else:
        dimension = model.get_embedding_dimension()
        vectors = np.random.default_rng(_SEED).standard_normal((dimension, dimension))
    _, directions = np.linalg.eigh(vectors.T @ vectors)  # (dimension, dimension), the largest last
    return np.ascontiguousarray(directions.T[::-1][:size], dtype=np.float32)


def _in_two(model: Any) -> Any:
    """Give each side a copy of the model's modules."""
    from sentence_transformers.base.modules import Router

    modules = list(model.children())
    router = Router.for_query_document(deepcopy(modules), modules)
    return _made_of([router], model)


def _made_of(modules: list[Any], model: Any, *, truncate: bool = True) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(
        modules=modules,
        device=str(model.device),
        prompts=model.prompts,
        default_prompt_name=model.default_prompt_name,
        similarity_fn_name=model.similarity_fn_name,
        truncate_dim=model.truncate_dim if truncate else None,
    )


def _check_lengths(setting: str, sizes: Sequence[int], model: Any) -> None:
    whole = model.get_embedding_dimension()
    if any(size >= whole for size in sizes):
        raise ConfigError.of(
            setting,
            got=", ".join(map(str, sizes)),
            expected=f"less than {whole}, the length of the model's vectors",
            fix="lower it, or name another model",
        )
