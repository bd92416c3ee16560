"""Settings of the channels: `mine.channels`, by name of their kind or as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from trivium.foundation.channel_section import ChannelSection, Role
from trivium.foundation.engine_config import (
    ENGINE_UNDECIDING,
    HttpConfig,
    OpenSearchConfig,
    PgvectorConfig,
    PostgresConfig,
    QdrantConfig,
)
from trivium.foundation.sections import Paths, Positive, Share, tag_by_kind


class DictionaryConfig(ChannelSection):
    """Query words and phrases looked up in the catalog's own lexicon, and expanded."""

    role: ClassVar[Role | None] = "lexical"

    kind: Literal["dictionary"] = Field("dictionary", description="of channel")
    spelling: bool = Field(True, description="correct words that the catalog does not have")
    units: bool = Field(True, description="meet numbers and units however they are written")


class Bm25Config(ChannelSection):
    """Lucene's BM25 over the text of the items."""

    role: ClassVar[Role | None] = "lexical"

    kind: Literal["bm25"] = Field("bm25", description="of channel")
    k1: float = Field(1.5, ge=0, description="how slowly repeated words stop to count; bm25s'")
    b: Share = Field(0.75, description="how much long texts are held back; bm25s'")


class DenseConfig(ChannelSection):
    """Cosine between the vectors of a tower."""

    role: ClassVar[Role | None] = "dense"
    settings_of: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "hnsw": ("m", "ef_construction", "ef_search"),
        "ivf_pq": ("lists", "codes", "probes"),
    }

    kind: Literal["dense"] = Field("dense", description="of channel")
    model: str | None = Field(None, description="named as mine.model is, which null means")
    index: Literal["flat", "hnsw", "ivf_pq"] = Field(
        "flat", description="flat is exact; the others are faster, and miss some: docs/dense.md"
    )
    m: int = Field(32, ge=2, le=256, description="hnsw: links of a vector; faiss's")
    ef_construction: Positive = Field(
        40, description="hnsw: candidates while a vector is linked; faiss's"
    )
    ef_search: Positive = Field(
        1000, description="hnsw: candidates while a query is searched; at least twice mine.depth"
    )
    lists: Positive | None = Field(
        None, description="ivf_pq: cells of the vectors; null = 4 sqrt(vectors), faiss's guideline"
    )
    codes: Positive | None = Field(
        None, description="ivf_pq: bytes of a vector; null = a quarter of its dimensions"
    )
    probes: Positive | None = Field(
        None, description="ivf_pq: cells searched for a query; null = an eighth of them"
    )

    @model_validator(mode="after")
    def _of_its_index(self) -> Self:
        fields = type(self).model_fields
        for index, names in self.settings_of.items():
            others = [n for n in names if getattr(self, n) != fields[n].default]
            if index != self.index and others:
                raise ValueError(f"index = '{index}' where {', '.join(others)} is given")
        return self


class RunFilesConfig(ChannelSection):
    """Results that another system has given already: TREC run files, Parquet, CSV or JSON lines."""

    kind: Literal["run"] = Field("run", description="of channel")
    files: Paths = Field(
        min_length=1, description="paths and patterns: query_id, item_id, score or rank"
    )
    columns: dict[Annotated[str, Field(pattern="^(query_id|item_id|score|rank)$")], str] = Field(
        {}, description="names in the files, such as {item_id = 'sku'}; TREC files have none"
    )
    unknown_items: Literal["refuse", "drop"] = Field(
        "refuse", description="what to do with rows of items that the catalog does not have"
    )


class PluginChannelConfig(ChannelSection):
    """A channel of another package, with whatever settings it takes."""

    model_config = ConfigDict(extra="allow", frozen=True)


BUILT_IN_CHANNELS: Mapping[str, type[ChannelSection]] = {
    "dictionary": DictionaryConfig,
    "bm25": Bm25Config,
    "dense": DenseConfig,
    "run": RunFilesConfig,
    "opensearch": OpenSearchConfig,
    "elasticsearch": OpenSearchConfig,
    "postgres": PostgresConfig,
    "pgvector": PgvectorConfig,
    "qdrant": QdrantConfig,
    "http": HttpConfig,
}

CHANNEL_UNDECIDING = ENGINE_UNDECIDING
"""Settings of a channel that do not decide what it finds."""


def channel_section(kind: str) -> type[ChannelSection]:
    """The settings of a kind of channel."""
    return BUILT_IN_CHANNELS.get(kind, PluginChannelConfig)


def role_of(raw: Any) -> Role | None:
    """What a channel is by its kind, given as a name, a table or a section."""
    kind = raw.get("kind") if isinstance(raw, dict) else getattr(raw, "kind", raw)
    return channel_section(str(kind)).role


def name_of(raw: Any) -> str:
    """What a channel given as a name, a table or a section is called."""
    if isinstance(raw, dict):
        return str(raw.get("name") or raw.get("kind") or "")
    return str(getattr(raw, "name", raw))


def _as_section(raw: Any) -> Any:
    return {"kind": raw} if isinstance(raw, str) else raw


ChannelConfig: TypeAlias = Annotated[
    Annotated[DictionaryConfig, Tag("dictionary")]
    | Annotated[Bm25Config, Tag("bm25")]
    | Annotated[DenseConfig, Tag("dense")]
    | Annotated[RunFilesConfig, Tag("run")]
    | Annotated[OpenSearchConfig, Tag("opensearch")]
    | Annotated[OpenSearchConfig, Tag("elasticsearch")]
    | Annotated[PostgresConfig, Tag("postgres")]
    | Annotated[PgvectorConfig, Tag("pgvector")]
    | Annotated[QdrantConfig, Tag("qdrant")]
    | Annotated[HttpConfig, Tag("http")]
    | Annotated[PluginChannelConfig, Tag("plugin")],
    Discriminator(tag_by_kind(BUILT_IN_CHANNELS)),
    BeforeValidator(_as_section),
]
