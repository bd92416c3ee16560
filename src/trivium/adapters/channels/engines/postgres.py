"""PostgreSQL: full text search, and the nearest vectors of the extension pgvector."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from trivium.adapters.channels.engines.asking import Answer, Question, Trouble
from trivium.adapters.channels.engines.channel import EngineChannel
from trivium.adapters.channels.engines.postgres_errors import NO_CONNECTION_STRING, failure
from trivium.adapters.channels.engines.statements import full_text, nearest, read_sql
from trivium.adapters.channels.engines.web import not_installed, refused
from trivium.adapters.credentials import Secrets
from trivium.foundation.config import DataConfig
from trivium.foundation.engine_config import PgvectorConfig, PostgresConfig, SqlSection
from trivium.foundation.mine_config import MineConfig

if TYPE_CHECKING:
    from psycopg import AsyncConnection, AsyncCursor

_SECRET = {"user", "password", "passfile", "sslpassword"}


class SqlEngine:
    """A database that is asked a statement for each query, a batch in one exchange.

    Args:
        settings: The channel's.
        statement: With `%(query)s` or `%(vector)s`, and `%(k)s`; gives item_id and score.
        parameters: Further ones that it names.
    """

    def __init__(
        self, settings: SqlSection, statement: str, parameters: dict[str, str] | None = None
    ) -> None:
        self.batch = settings.batch
        self._statement = statement
        self._parameters = parameters or {}
        self._settings = settings
        self._address, place, secrets = _connection_string(settings)
        self._secrets = Secrets(secrets)
        self.where = f"channel '{settings.name}' at {place}"
        self._free: list[AsyncConnection] = []

    async def ask(self, questions: Sequence[Question], k: int) -> Sequence[Answer | Trouble]:
        """Ask once; see `Engine.ask`."""
        import psycopg

        try:
            return await self._ask(questions, k)
        except psycopg.Error as error:
            raise failure(self.where, error, self._secrets) from None

    def request(self, text: str, k: int) -> str:
        """What is sent for a query."""
        named = {"query": text, "k": k} | self._parameters
        return f"{' '.join(self._statement.split())} with {named}"

    async def close(self) -> None:
        """Close the connections."""
        while self._free:
            await self._free.pop().close()

    async def _ask(self, questions: Sequence[Question], k: int) -> list[Answer | Trouble]:
        connection = self._free.pop() if self._free else await self._connect()
        try:
            async with connection.pipeline():
                cursors = [
                    await connection.execute(self._statement.encode(), self._named(question, k))
                    for question in questions
                ]
            answers: list[Answer | Trouble] = [await self._read(cursor) for cursor in cursors]
        except BaseException:
            await connection.close()
            raise
        self._free.append(connection)
        return answers

    async def _connect(self) -> AsyncConnection:
        from psycopg import AsyncConnection

        connection = await AsyncConnection.connect(self._address, autocommit=True)
        limit_ms = round(1000 * self._settings.timeout_s)
        session = {"default_transaction_read_only": "on", "statement_timeout": limit_ms}
        try:
            for name, value in (session | self._settings.session).items():
                await connection.execute("SELECT set_config(%s, %s, false)", (name, str(value)))
        except BaseException:
            await connection.close()
            raise
        return connection

    def _named(self, question: Question, k: int) -> dict[str, Any]:
        vector = question.vector
        return self._parameters | {
            "query": question.text.replace("\0", " "),  # which no text of PostgreSQL may hold
            "vector": None if vector is None else str(vector.tolist()),
            "k": k,
        }

    async def _read(self, cursor: AsyncCursor) -> Answer:
        names = [column.name for column in cursor.description or ()]
        if not {"item_id", "score"} <= {*names}:
            raise refused(
                self.where,
                got=f"columns {', '.join(names) or 'none'}",
                fix="give the statement's columns the names item_id and score",
            )
        rows, item_id, score = await cursor.fetchall(), names.index("item_id"), names.index("score")
        return Answer([row[item_id] for row in rows], [row[score] for row in rows])


class PostgresChannel(EngineChannel):
    """Full text search in a table."""

    def __init__(
        self,
        *,
        items: pl.DataFrame,
        settings: PostgresConfig,
        config: MineConfig,
        data: DataConfig,
        cache: Path | None,
    ) -> None:
        channel = f"channel '{settings.name}'"
        if settings.sql:
            engine = SqlEngine(settings, read_sql(settings.sql, {"query", "k"}, channel))
        else:
            engine = SqlEngine(settings, full_text(settings), {"language": settings.language})
        super().__init__(items, settings, config, engine)


class PgvectorChannel(EngineChannel):
    """The nearest vectors in a table."""

    def __init__(
        self,
        *,
        items: pl.DataFrame,
        settings: PgvectorConfig,
        config: MineConfig,
        data: DataConfig,
        cache: Path | None,
    ) -> None:
        channel = f"channel '{settings.name}'"
        if settings.sql:
            statement = read_sql(settings.sql, {"vector", "k"}, channel)
        else:
            statement = nearest(settings)
        model = settings.model or config.model
        super().__init__(items, settings, config, SqlEngine(settings, statement), model)


def _connection_string(settings: SqlSection) -> tuple[str, str, list[str]]:
    """The connection string, what of it may be shown, and what may not."""
    where, variable = f"channel '{settings.name}'", settings.connection_variable
    try:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise not_installed(where, "psycopg") from None
    address = os.environ.get(variable, "").strip() if variable else ""
    try:
        parts = {name: str(value) for name, value in conninfo_to_dict(address).items() if value}
    except psycopg.Error:
        parts = {}
    if variable and not parts:
        raise refused(
            f"{where}: environment variable {variable}",
            got="what cannot be read" if address else "nothing",
            fix=NO_CONNECTION_STRING,
        )
    host = parts.get("host") or parts.get("hostaddr") or os.environ.get("PGHOST", "its host")
    place = f"{host}, database '{parts.get('dbname') or os.environ.get('PGDATABASE', '')}'"
    return address, place, [address, *(parts[name] for name in _SECRET & parts.keys())]
