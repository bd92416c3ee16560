"""Lower layers of a tower that training leaves as they are."""

from __future__ import annotations

from typing import Any

from torch import nn

from trivium.foundation.errors import ConfigError


def freeze_layers(model: Any, count: int) -> None:
    """Keep the token embeddings and the lowest layers of each encoder as they are.

    No gradient is computed below the lowest layer that learns, which spares half of the work there
    and more: with 3 of MiniLM's 6 layers a step takes two thirds of its time.

    Args:
        model: A sentence-transformers model, of one encoder or two.
        count: Layers to keep; 0 = none, and the embeddings learn too.

    Raises:
        ConfigError: If an encoder has no layers to keep, or has no more than `count`.
    """
    if not count:
        return
    for encoder in _encoders(model):
        layers = _layers(encoder)
        if len(layers) <= count:
            raise ConfigError.of(
                "train.tower.freeze",
                got=str(count),
                expected=f"less than {len(layers)}, the layers of the tower"
                if len(layers)
                else "0, as the tower has no layers",
                fix="lower it, or name another model",
            )
        for part in (encoder.get_input_embeddings(), *_beside(encoder), *layers[:count]):
            part.requires_grad_(False)


def _encoders(model: Any) -> list[Any]:
    """The transformers of a tower; if it has none, nothing in it has layers."""
    found = [part for part in model.modules() if hasattr(part, "get_input_embeddings")]
    inner = {id(below) for part in found for below in part.modules() if below is not part}
    return [part for part in found if id(part) not in inner] or [nn.Identity()]


def _layers(encoder: Any) -> list[nn.Module]:
    lists = [part for part in encoder.modules() if isinstance(part, nn.ModuleList)]
    longest: nn.ModuleList = max(lists, key=lambda part: len(part), default=nn.ModuleList())
    return list(longest)


def _beside(encoder: Any) -> list[nn.Module]:
    """What stands beside the token embeddings: positions, their norm."""
    embeddings = getattr(encoder, "embeddings", None)
    return [embeddings] if isinstance(embeddings, nn.Module) else []
