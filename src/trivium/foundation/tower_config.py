"""Settings of the tower that training starts from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from trivium.foundation.sections import Count, Positive, Section


class TowerConfig(Section):
    """What the starting tower is made into; whatever it is, its folder keeps it."""

    kind: Literal["shared", "two"] = Field(
        "shared", description="shared: the model as it is; two: an encoder for each side"
    )
    query_prompt: str | None = Field(
        None, description="put before a query; null = the model's own", examples=["query: "]
    )
    item_prompt: str | None = Field(
        None, description="put before an item; null = the model's own", examples=["passage: "]
    )
    projection: Positive | None = Field(
        None, description="length that vectors are projected to; null = the model's", examples=[256]
    )
    matryoshka: list[Positive] = Field(
        [], description="lengths to which trained vectors may be cut, beside the full one"
    )
    freeze: Count = Field(
        0, description="lowest layers that training leaves as they are, the embeddings with them"
    )

    @model_validator(mode="after")
    def _distinct(self) -> TowerConfig:
        sizes = self.matryoshka
        if len(set(sizes)) < len(sizes):
            raise ValueError(f"different lengths in matryoshka, not {sizes}")
        return self
