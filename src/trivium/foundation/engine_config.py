"""Settings of the channels that ask a search engine over the network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from trivium.foundation.channel_section import ChannelSection, Role
from trivium.foundation.sections import Positive

CREDENTIALS = "credentials"
"""Type of the errors whose input may be a secret, and is never shown."""

_SECRET_PARAMETER = re.compile(
    r"[?&](api_?key|access_?token|token|password|secret)=", re.IGNORECASE
)


def _url(url: str) -> str:
    if "@" in re.split(r"[?#]", url)[0] or _SECRET_PARAMETER.search(url):
        raise PydanticCustomError(
            CREDENTIALS, "an address without credentials, which come from environment variables"
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("an address such as http://localhost:9200")
    return url


def _variable(name: str) -> str:
    if name and not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise PydanticCustomError(CREDENTIALS, "the name of an environment variable, not its value")
    return name


Url = Annotated[str, AfterValidator(_url)]
Variable = Annotated[str, AfterValidator(_variable)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]


class EngineSection(ChannelSection):
    """What every engine has: how many requests at a time, how fast, how often again."""

    concurrency: Positive = Field(4, description="requests in flight, of each of run.workers")
    requests_per_second: float | None = Field(
        None, gt=0, description="limit on the rate, of each of run.workers; null = none"
    )
    timeout_s: float = Field(30.0, gt=0, description="seconds to wait for an answer")
    attempts: Positive = Field(5, description="times that a request is made before it is given up")
    unknown_items: Literal["refuse", "drop"] = Field(
        "refuse", description="what to do with hits of items that the catalog does not have"
    )


class BatchedSection(EngineSection):
    """An engine that takes several queries in a request."""

    batch: Positive = Field(32, description="queries in a request")


ENGINE_UNDECIDING = {
    *("batch", "concurrency", "requests_per_second", "timeout_s", "attempts"),
    *("user_variable", "password_variable", "api_key_variable"),
}
"""Settings that decide how an engine is asked, not what it answers."""


class OpenSearchConfig(BatchedSection):
    """An index of OpenSearch or Elasticsearch, asked through `_msearch`."""

    role: ClassVar[Role | None] = "lexical"

    kind: Literal["opensearch", "elasticsearch"] = Field("opensearch", description="of channel")
    url: Url = Field("http://localhost:9200", description="of the cluster, without credentials")
    index: str = Field(min_length=1, description="name of the index or alias")
    template: Path | None = Field(
        None, description='JSON body of a search with "{query}" and "{k}"; null = match in `fields`'
    )
    fields: list[str] = Field(
        ["title"], min_length=1, description="fields that the default search matches"
    )
    id_field: str = Field("_id", description="where a hit has the item's id: _id or a source field")
    user_variable: Variable = Field("", description="environment variable of the user's name")
    password_variable: Variable = Field("", description="environment variable of the password")
    api_key_variable: Variable = Field("", description="environment variable of an API key")

    @model_validator(mode="after")
    def _one_way_in(self) -> OpenSearchConfig:
        if bool(self.user_variable) != bool(self.password_variable):
            raise ValueError("user_variable and password_variable together")
        if self.user_variable and self.api_key_variable:
            raise ValueError("user_variable or api_key_variable, not both")
        return self


class SqlSection(BatchedSection):
    """What both searches of a PostgreSQL database have."""

    connection_variable: Variable = Field(
        "DATABASE_URL",
        description="environment variable of the connection string; empty = libpq's own variables",
    )
    table: str = Field("", description="table or view, SCHEMA.TABLE if need be")
    id_column: str = Field("item_id", description="column of the items' ids")
    session: dict[str, str | int | float] = Field(
        {}, description="settings of the session, such as {work_mem = '64MB'}"
    )
    sql: Path | None = Field(
        None, description="a query of one's own that gives item_id and score; null = `table`"
    )

    @model_validator(mode="after")
    def _table_or_sql(self) -> SqlSection:
        if bool(self.table) == (self.sql is not None):
            raise ValueError("either table or sql")
        return self


class PostgresConfig(SqlSection):
    """Full text search in PostgreSQL, ranked by ts_rank."""

    role: ClassVar[Role | None] = "lexical"

    kind: Literal["postgres"] = Field("postgres", description="of channel")
    text_columns: list[str] = Field(
        ["title"], min_length=1, description="columns searched, where none is stored for it"
    )
    stored_column: str = Field(
        "", description="tsvector column, which large tables need; empty = text_columns"
    )
    language: str = Field("english", description="text search configuration")
    match: Literal["any", "all"] = Field("any", description="words of the query that items hold")


class PgvectorConfig(SqlSection):
    """Nearest vectors in PostgreSQL, by the extension pgvector (0.8 or later)."""

    role: ClassVar[Role | None] = "dense"

    kind: Literal["pgvector"] = Field("pgvector", description="of channel")
    model: str | None = Field(None, description="tower of the queries, as mine.model, if null")
    vector_column: str = Field("embedding", description="column of the items' vectors")
    distance: Literal["cosine", "inner_product", "l2"] = Field(
        "cosine", description="distance that the column's index serves"
    )
    # Without these an HNSW index gives 40 items, however many are asked for.
    session: dict[str, str | int | float] = Field(
        {"hnsw.ef_search": 500, "hnsw.iterative_scan": "strict_order"},
        description="settings of the session",
    )


class QdrantConfig(BatchedSection):
    """Nearest vectors in a collection of Qdrant."""

    role: ClassVar[Role | None] = "dense"

    kind: Literal["qdrant"] = Field("qdrant", description="of channel")
    url: Url | None = Field(None, description="of the server; null = `path`")
    path: Path | None = Field(None, description="folder of Qdrant's local mode, for one worker")
    collection: str = Field(min_length=1, description="name of the collection or alias")
    model: str | None = Field(None, description="tower of the queries, as mine.model, if null")
    vector_name: str = Field("", description="of a named vector; empty = the unnamed one")
    id_field: str = Field("", description="payload field of the item's id; empty = the point's id")
    exact: bool = Field(False, description="search without the index")
    api_key_variable: Variable = Field("", description="environment variable of the API key")

    @model_validator(mode="after")
    def _one_place(self) -> QdrantConfig:
        if (self.url is None) == (self.path is None):
            raise ValueError("either url or path")
        return self


class HttpConfig(EngineSection):
    """Any endpoint that answers a search in JSON."""

    kind: Literal["http"] = Field("http", description="of channel")
    url: Url = Field(
        description="with {query} and {k}, without credentials",
        examples=["https://search.example.com/v1?q={query}&n={k}"],
    )
    method: Literal["GET", "POST"] = Field("GET", description="of the request")
    body: Path | None = Field(None, description='JSON to post, with "{query}" and "{k}"')
    hits: str = Field("hits", description="JMESPath of the list of hits in the answer")
    item_id: str = Field("id", description="JMESPath of the item's id in a hit")
    score: str | None = Field(
        None, description="JMESPath of the score in a hit; null = in the order given"
    )
    header_variables: dict[HeaderName, Variable] = Field(
        {}, description="headers from environment variables: {Authorization = 'SEARCH_AUTH'}"
    )

    @model_validator(mode="after")
    def _posted(self) -> HttpConfig:
        if self.body is not None and self.method != "POST":
            raise ValueError("method = 'POST' for a body")
        return self
