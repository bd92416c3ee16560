"""The label store's SQLite file: made, opened once a thread, and its faults explained."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trivium.foundation.errors import WorkspaceError

_APPLICATION, _VERSION = 0x54524956, 1
_PATIENCE_S = 60.0
_DAMAGED = ("SQLITE_NOTADB", "SQLITE_CORRUPT")
_SCHEMA = """
CREATE TABLE judges (
    id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE, name TEXT NOT NULL, kind TEXT NOT NULL,
    first_seen TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')));
CREATE TABLE answers (
    key BLOB PRIMARY KEY, judge INTEGER NOT NULL, probabilities BLOB NOT NULL,
    read INTEGER NOT NULL, written INTEGER NOT NULL, seconds REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE owners (owner TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE claims (key BLOB PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE spent (
    run TEXT NOT NULL, judge TEXT NOT NULL, asked INTEGER NOT NULL, unanswered INTEGER NOT NULL,
    reused INTEGER NOT NULL, read INTEGER NOT NULL, written INTEGER NOT NULL, seconds REAL NOT NULL,
    usd REAL NOT NULL, UNIQUE (run, judge));
CREATE TABLE troubles (
    run TEXT NOT NULL, judge TEXT NOT NULL, what TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (run, judge, what)) WITHOUT ROWID;
"""


class StoreFile:
    """A file in write-ahead mode, whose every commit is on the disk when it returns.

    Attributes:
        path: The file; it and its folders are made when they are not there.

    Raises:
        WorkspaceError: On opening or later, if the file is damaged, foreign, of another version, or
            cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        with self.connection():
            pass

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection."""
        # A connection must be neither used nor closed on the other side of a fork.
        connections = self._local.__dict__.setdefault("of_process", {})
        with _explained(self.path):
            if os.getpid() not in connections:
                connections[os.getpid()] = _open(self.path)
            yield connections[os.getpid()]

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection, with the right to write until the block ends."""
        with self.connection() as connection, _transaction(connection):
            yield connection


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        with _transaction(connection):
            _make_or_check(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_or_check(connection: sqlite3.Connection, path: Path) -> None:
    questions = (
        "PRAGMA application_id",
        "PRAGMA user_version",
        "SELECT count(*) FROM sqlite_master",
    )
    application, version, tables = (connection.execute(q).fetchone()[0] for q in questions)
    if (application, version, tables) == (0, 0, 0):
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
    elif application != _APPLICATION:
        raise WorkspaceError.of(
            f"label store {path}",
            got="a database of another program",
            expected="a label store, or no file",
            fix="name another file in annotate.store",
        )
    elif version != _VERSION:
        raise WorkspaceError.of(
            f"label store {path}",
            got=f"a label store of version {version}",
            expected=f"version {_VERSION}",
            fix="use the version of trivium that wrote it, or name another file in annotate.store",
        )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Make a user's error of a file that cannot be used."""
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
        raise
    except (sqlite3.DatabaseError, OSError) as error:
        damaged = getattr(error, "sqlite_errorname", "").startswith(_DAMAGED)
        raise WorkspaceError.of(
            f"label store {path}",
            got=str(error),
            expected="a whole label store" if damaged else "a file that can be written",
            fix=f"name another file in annotate.store, or mend this one: sqlite3 {path} .recover"
            if damaged
            else "free its disk, mend its permissions, or end what keeps it locked",
        ) from None
