"""Settings of the channels that ask a search engine over the network."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from trivium.foundation.channel_section import ChannelSection, Role
from trivium.foundation.sections import Positive


class EngineSection(ChannelSection):
    """What every engine has: how many requests at a time, how fast, how often again."""

    batch: Positive = Field(32, description="queries in a request, where the engine takes several")
    concurrency: Positive = Field(4, description="requests in flight")
    requests_per_second: float | None = Field(
        None, gt=0, description="limit on the rate; null = none"
    )
    timeout_s: float = Field(30.0, gt=0, description="seconds to wait for an answer")
    attempts: Positive = Field(5, description="times that a request is made before it is given up")


ENGINE_UNDECIDING = {"batch", "concurrency", "requests_per_second", "timeout_s", "attempts"}
"""Settings that decide how an engine is asked, not what it answers."""


class OpenSearchConfig(EngineSection):
    """An index of OpenSearch or Elasticsearch, asked through `_msearch`."""

    role: ClassVar[Role | None] = "lexical"

    kind: Literal["opensearch", "elasticsearch"] = Field("opensearch", description="of channel")
    url: str = Field("http://localhost:9200", description="of the cluster, without credentials")
    index: str = Field(description="name of the index or alias")
    template: Path | None = Field(
        None, description="JSON body of a search with {query} and {k}; null = match in `fields`"
    )
    fields: list[str] = Field(["title"], description="fields that the default search matches")
    id_field: str = Field("_id", description="where a hit has the item's id: _id or a source field")
    user_variable: str = Field("", description="environment variable of the user's name")
    password_variable: str = Field("", description="environment variable of the password")
    api_key_variable: str = Field("", description="environment variable of an API key")
