"""Settings of mining: the channels, how deep they are searched, which queries they are asked."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from trivium.foundation.channel_config import (
    Bm25Config,
    ChannelConfig,
    DenseConfig,
    DictionaryConfig,
    channel_section,
    name_of,
    role_of,
)
from trivium.foundation.channel_section import ChannelSection
from trivium.foundation.sections import Count, NonNegative, Positive, Section, Share


class MineConfig(Section):
    """The channels, how deep they are searched, and which queries they are asked."""

    channels: list[ChannelConfig] = Field(
        [DictionaryConfig(), Bm25Config(), DenseConfig()],
        min_length=1,
        description="kinds by name, or [[mine.channels]] with settings",
        examples=[["dictionary", "bm25", "dense"]],
    )
    lexical: list[str] = Field(
        ["dictionary", "bm25"], description="channels called lexical; else by their kind"
    )
    dense: list[str] = Field(["dense"], description="channels called dense; else by their kind")
    depth: Positive = Field(500, description="items kept from each channel")
    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="tower in production: a hub name, a folder, or package:NAME/FOLDER",
    )
    queries: Count = Field(0, description="queries to mine, sampled; 0 means all of them")
    segments: dict[Literal["head", "torso", "tail"], NonNegative] = Field(
        {},
        description="weights in the sample, such as {head = 1, tail = 3}; empty = as they come",
    )
    seed: bool = Field(
        False,
        description="mine the seed queries too: judges label what humans did not grade of theirs",
    )
    fold: bool = Field(
        True, description="mine queries that differ in case, plural or order of words once"
    )
    min_coverage: Share = Field(
        0.01,
        description="set a query aside if no item has this share of its words; the default asks "
        "for one word, 0 sets none aside",
    )

    @model_validator(mode="before")
    @classmethod
    def _roles(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not isinstance(raw.get("channels"), list):
            return raw
        by_kind = {
            role: [name_of(channel) for channel in raw["channels"] if role_of(channel) == role]
            for role in ("lexical", "dense")
        }
        return by_kind | raw

    @model_validator(mode="after")
    def _usable(self) -> MineConfig:
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"channels with different names, not {', '.join(self.names)}")
        if self.segments and not (self.queries and any(self.segments.values())):
            raise ValueError("mine.queries, and a weight above 0, where mine.segments is given")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The channels' names, in order."""
        return tuple(channel.name for channel in self.channels)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts whose queries are mined."""
        return ("train", "seed") if self.seed else ("train",)

    def channel(self, name: str) -> ChannelSection:
        """The channel of a name; one that is not among them is a kind with its defaults."""
        named = (channel for channel in self.channels if channel.name == name)
        return next(named, None) or channel_section(name)(kind=name)
