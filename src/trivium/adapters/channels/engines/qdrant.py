"""Qdrant: a server, or its local mode in this process."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from trivium.adapters.channels.engines.asking import Answer, Question, Trouble
from trivium.adapters.channels.engines.channel import EngineChannel
from trivium.adapters.channels.engines.web import not_installed, refused, status_failure
from trivium.adapters.credentials import Secrets, required_credential
from trivium.adapters.pacing import retry_after_s
from trivium.foundation.config import DataConfig
from trivium.foundation.engine_config import QdrantConfig
from trivium.foundation.mine_config import MineConfig

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient, models

_FARTHER_IS_LARGER = {"Euclid", "Manhattan"}


class QdrantEngine:
    """A collection; see `asking.Engine`."""

    def __init__(self, settings: QdrantConfig) -> None:
        place = settings.url or settings.path
        self.where = f"channel '{settings.name}' at {place}, collection '{settings.collection}'"
        self.batch = settings.batch
        self._settings = settings
        variable = settings.api_key_variable
        self._key = required_credential(variable, "an API key") if variable else None
        self._secrets = Secrets([self._key or ""])
        self._opening = asyncio.Lock()
        self._client: AsyncQdrantClient | None = None
        self._vectors: models.VectorParams

    async def ask(self, questions: Sequence[Question], k: int) -> Sequence[Answer | Trouble]:
        """Ask once; see `Engine.ask`."""
        from qdrant_client.common.client_exceptions import QdrantException
        from qdrant_client.http.exceptions import ApiException

        try:
            return await self._ask(questions, k)
        # Half an answer fails an assertion of the client, or its reading of JSON.
        except (ApiException, QdrantException, AssertionError, ValueError) as error:
            raise self._failure(error) from None

    def request(self, text: str, k: int) -> str:
        """What is sent for a query."""
        of = f" of '{self._settings.vector_name}'" if self._settings.vector_name else ""
        return f"the {k} points nearest to the vector{of} of {text!r}"

    async def close(self) -> None:
        """Close the connections, or the folder."""
        client, self._client = self._client, None
        self._opening = asyncio.Lock()
        if client:
            await client.close()

    async def _ask(self, questions: Sequence[Question], k: int) -> list[Answer | Trouble]:
        from qdrant_client import models

        async with self._opening:
            client = self._client or await self._open()
        self._refuse_other_vectors(questions)
        named = self._settings.id_field
        exact = self._settings.exact and self._settings.path is None  # where it always is
        requests = [
            models.QueryRequest(
                query=_vector(question),
                using=self._settings.vector_name or None,
                limit=k,
                with_payload=[named] if named else False,
                params=models.SearchParams(exact=True) if exact else None,
            )
            for question in questions
        ]
        found = await client.query_batch_points(self._settings.collection, requests=requests)
        if len(found) != len(questions):
            raise Trouble(f"{len(found)} results of {len(questions)} queries")
        return [self._answer(one.points) for one in found]

    def _answer(self, points: Sequence[models.ScoredPoint]) -> Answer:
        sign = -1.0 if self._vectors.distance.value in _FARTHER_IS_LARGER else 1.0
        named = self._settings.id_field
        ids = [(point.payload or {}).get(named) if named else point.id for point in points]
        return Answer(ids, [sign * point.score for point in points])

    async def _open(self) -> AsyncQdrantClient:
        """Connect, and see that the collection has such vectors."""
        client = self._connected()
        try:
            if not await client.collection_exists(self._settings.collection):
                raise refused(
                    self.where, got="no such collection", fix="correct the setting `collection`"
                )
            info = await client.get_collection(self._settings.collection)
            self._vectors = self._of_name(info.config.params.vectors)
        except BaseException:
            await client.close()
            raise
        self._client = client
        return client

    def _connected(self) -> AsyncQdrantClient:
        from qdrant_client import AsyncQdrantClient

        settings = self._settings
        if settings.path is not None:
            return _local(settings.path, self.where)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a key sent to plain http
            return AsyncQdrantClient(
                url=settings.url,
                api_key=self._key,
                timeout=max(1, round(settings.timeout_s)),
                check_compatibility=False,
            )

    def _of_name(self, vectors: Any) -> models.VectorParams:
        named = vectors if isinstance(vectors, dict) else {"": vectors} if vectors else {}
        name = self._settings.vector_name
        if name not in named:
            known = ", ".join(repr(known) for known in sorted(named)) or "none"
            raise refused(
                self.where,
                got=f"no vector {name!r} among {known}",
                fix="correct the setting `vector_name`",
            )
        params: models.VectorParams = named[name]
        return params

    def _refuse_other_vectors(self, questions: Sequence[Question]) -> None:
        length, size = len(_vector(questions[0])), self._vectors.size
        if length != size:
            raise refused(
                self.where,
                got=f"vectors of {size} numbers, queries of {length}",
                fix="name the tower that made the vectors in the setting `model`",
            )

    def _failure(self, error: Exception) -> Exception:
        """What an error means: a `Trouble`, or an error to raise."""
        from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
        from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

        match error:
            case ResourceExhaustedResponse():
                said = self._secrets.hide(str(error))
                return status_failure(self.where, 429, said, float(error.retry_after_s))
            case UnexpectedResponse(status_code=int(status)):
                said = self._secrets.hide(error.content.decode(errors="replace"))
                wait = retry_after_s(error.headers.get("retry-after", ""))
                return status_failure(self.where, status, said, wait)
            case ResponseHandlingException():
                cause = error.source
                said = self._secrets.hide(f"{type(cause).__name__}: {cause}", 120)
                return Trouble("no connection, or half an answer", said)
        return Trouble("an answer that cannot be read", self._secrets.hide(str(error)))


class QdrantChannel(EngineChannel):
    """The nearest vectors in a collection."""

    def __init__(
        self,
        *,
        items: pl.DataFrame,
        settings: QdrantConfig,
        config: MineConfig,
        data: DataConfig,
        cache: Path | None,
    ) -> None:
        try:
            import qdrant_client  # noqa: F401
        except ImportError:
            raise not_installed(f"channel '{settings.name}'", "qdrant-client") from None
        engine = QdrantEngine(settings)
        super().__init__(items, settings, config, engine, settings.model or config.model)


def _vector(question: Question) -> list[float]:
    assert question.vector is not None
    return [float(value) for value in question.vector]


def _local(path: Path, where: str) -> AsyncQdrantClient:
    """Open a folder of the local mode, which would be made if it were not there."""
    from qdrant_client import AsyncQdrantClient

    if not (path / "meta.json").is_file():
        raise refused(where, got="no folder of Qdrant's local mode", fix="correct the path")
    try:
        return AsyncQdrantClient(path=str(path))
    except RuntimeError:
        raise refused(
            where,
            got="a folder that another process has open",
            fix="close the other, or use a server; the local mode serves one worker",
        ) from None
