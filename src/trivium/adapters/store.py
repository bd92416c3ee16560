"""The label store: every answer that a judge was ever paid for, kept for good in one SQLite file.

An answer is found again by the judge that gave it and by the two texts, whatever their ids. Several
runs, processes and threads may use one file at once: a pair that one of them is asking about is
claimed, so that no other pays for it too. An answer and its cost are written in one transaction.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.judges import Answers
from trivium.adapters.ledger import NUMBERS, Ledger, Spent
from trivium.adapters.store_file import StoreFile
from trivium.foundation.tables import GRADES

_LEASE_S = 600.0
_CHUNK = 10_000
"""Keys in one question to SQLite, which takes 32,766."""


@dataclass(frozen=True)
class Asker:
    """Who asks: one pass of one process of a run over some pairs, with one judge.

    Attributes:
        run: The run that pays.
        judge: The judge's name in that run.
        identity: Fingerprint of the judge: its weights, prompt and settings.
        kind: Its kind, for the reader of the store.
        owner: Names the pass; a claim ends with the process in it.
    """

    run: str
    judge: str
    identity: str
    kind: str = ""
    owner: str = field(
        default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
    )


class Store(Protocol):
    """Where answers are looked up and kept, and what they cost is booked."""

    def get(self, keys: Sequence[bytes]) -> Answers:
        """Look up answers.

        Args:
            keys: Distinct keys of pairs, as `pair_keys` makes them.

        Returns:
            Those that are known; `rows` counts in `keys`, ascending.
        """
        ...

    def claim(self, asker: Asker, keys: Sequence[bytes]) -> tuple[Answers, NDArray[np.int64]]:
        """Reserve pairs for asking.

        Returns:
            The answers that have come meanwhile, and which of the keys now belong to the asker,
            ascending; the rest belongs to others.
        """
        ...

    def put(self, asker: Asker, keys: Sequence[bytes], answers: Answers, spent: Spent) -> None:
        """Keep answers for good, end their claims and book their cost, all or nothing.

        Args:
            asker: Who asked.
            keys: What was asked about, which `answers.rows` counts in.
            answers: Rows of NaN are not kept.
            spent: What they cost together.
        """
        ...

    def charge(self, asker: Asker, spent: Spent) -> None:
        """Book a cost."""
        ...

    def release(self, asker: Asker) -> None:
        """End all claims of an asker."""
        ...

    def ledger(self, run: str) -> Ledger:
        """What a run has cost so far, over all its processes."""
        ...


def pair_keys(identity: str, pairs: pl.DataFrame) -> list[bytes]:
    """SHA-256 over judge, query text and item text, each with its length before it.

    Args:
        identity: Fingerprint of the judge.
        pairs: Columns query_text and item_text.
    """
    prefix = hashlib.sha256(_framed(identity))
    keys = []
    for query, item in pairs.select("query_text", "item_text").iter_rows():
        digest = prefix.copy()
        digest.update(_framed(query) + _framed(item))
        keys.append(digest.digest())
    return keys


class LabelStore:
    """Answers kept in an SQLite file; safe for threads, processes and kill -9.

    It may be handed to another process: what travels is the path.

    Args:
        path: The file; it and its folders are made when they are not there.

    Raises:
        WorkspaceError: On opening or later, if the file is damaged, foreign, of another version, or
            cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._file = StoreFile(path)

    def __reduce__(self) -> tuple[type[LabelStore], tuple[Path]]:
        return LabelStore, (self._file.path,)

    def get(self, keys: Sequence[bytes]) -> Answers:
        """See `Store.get`."""
        with self._file.connection() as connection:
            return _found(connection, keys)

    def claim(self, asker: Asker, keys: Sequence[bytes]) -> tuple[Answers, NDArray[np.int64]]:
        """See `Store.claim`; claims of a process that is gone, or silent for long, are void."""
        with self._file.transaction() as connection:
            found = _found(connection, keys)
            _void_dead_claims(connection)
            _renew(connection, asker)
            missing = np.setdiff1d(np.arange(len(keys)), found.rows)
            connection.executemany(
                "INSERT OR IGNORE INTO claims VALUES (?, ?)",
                [(keys[row], asker.owner) for row in missing],
            )
            owners = dict(_matching(connection, "SELECT key, owner FROM claims", keys))
        ours = [row for row in missing if owners[keys[row]] == asker.owner]
        return found, np.array(ours, np.int64)

    def put(self, asker: Asker, keys: Sequence[bytes], answers: Answers, spent: Spent) -> None:
        """See `Store.put`; of two answers to one pair the first is kept."""
        seconds = spent.seconds / max(len(answers.rows), 1)
        with self._file.transaction() as connection:
            judge = _judge_id(connection, asker)
            connection.executemany(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (
                        keys[row],
                        judge,
                        probabilities.astype("<f4").tobytes(),
                        read,
                        written,
                        seconds,
                    )
                    for row, probabilities, read, written in _rows(answers)
                    if not np.isnan(probabilities).any()
                ],
            )
            connection.executemany(
                "DELETE FROM claims WHERE key = ?", [(keys[row],) for row in answers.rows]
            )
            _renew(connection, asker)
            _charge(connection, asker, spent)

    def charge(self, asker: Asker, spent: Spent) -> None:
        """See `Store.charge`."""
        with self._file.transaction() as connection:
            _charge(connection, asker, spent)

    def release(self, asker: Asker) -> None:
        """See `Store.release`."""
        with self._file.transaction() as connection:
            _release(connection, [asker.owner])

    def ledger(self, run: str) -> Ledger:
        """See `Store.ledger`."""
        columns = ", ".join(NUMBERS)
        with self._file.connection() as connection:
            spent = connection.execute(
                f"SELECT judge, {columns} FROM spent WHERE run = ? ORDER BY rowid", (run,)
            ).fetchall()
            troubles = connection.execute(
                "SELECT judge, what, count FROM troubles WHERE run = ?", (run,)
            ).fetchall()
        ledger = Ledger({judge: Spent(*numbers) for judge, *numbers in spent})
        for judge, what, count in troubles:
            ledger.add(judge, Spent(troubles={what: count}))
        return ledger

    def count(self) -> int:
        """Number of answers in the store."""
        with self._file.connection() as connection:
            return int(connection.execute("SELECT count(*) FROM answers").fetchone()[0])

    def judges(self) -> pl.DataFrame:
        """What is in the store: one row a judge, in the order in which they came.

        Returns:
            Columns identity, name, kind, first_seen (UTC), answers, read and written (tokens), and
            seconds; read, written and seconds are sums.
        """
        with self._file.connection() as connection:
            rows = connection.execute(
                "SELECT identity, name, kind, first_seen, count(*), sum(read), sum(written),"
                " sum(seconds) FROM answers JOIN judges ON judges.id = judge"
                " GROUP BY judges.id ORDER BY judges.id"
            ).fetchall()
        schema = {
            **dict.fromkeys(("identity", "name", "kind", "first_seen"), pl.String),
            **dict.fromkeys(("answers", "read", "written"), pl.Int64),
            "seconds": pl.Float64,
        }
        return pl.DataFrame(rows, schema=schema, orient="row")


class NoStore:
    """Keeps no answers; books what they cost, for the runs of one process."""

    def __init__(self) -> None:
        self._ledgers: dict[str, Ledger] = {}
        self._lock = threading.Lock()

    def get(self, keys: Sequence[bytes]) -> Answers:
        """Nothing."""
        return _answers([], [])

    def claim(self, asker: Asker, keys: Sequence[bytes]) -> tuple[Answers, NDArray[np.int64]]:
        """Everything is to be asked."""
        return self.get(keys), np.arange(len(keys))

    def put(self, asker: Asker, keys: Sequence[bytes], answers: Answers, spent: Spent) -> None:
        """Book the cost."""
        self.charge(asker, spent)

    def charge(self, asker: Asker, spent: Spent) -> None:
        """See `Store.charge`."""
        with self._lock:
            self._ledgers.setdefault(asker.run, Ledger()).add(asker.judge, spent)

    def release(self, asker: Asker) -> None:
        """There are no claims."""

    def ledger(self, run: str) -> Ledger:
        """See `Store.ledger`."""
        with self._lock:
            return self._ledgers.get(run, Ledger()).merge(Ledger())


def _framed(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(8, "big") + raw


def _rows(answers: Answers) -> Iterator[tuple[int, NDArray[np.float32], int, int]]:
    read, written = answers.read.tolist(), answers.written.tolist()
    return zip(answers.rows.tolist(), answers.probabilities, read, written, strict=True)


def _answers(rows: Sequence[int], values: Sequence[tuple[Any, ...]]) -> Answers:
    """Answers from rows of the table: probabilities, read, written."""
    raw = b"".join(value[0] for value in values)
    return Answers(
        np.array(rows, np.int64),
        np.frombuffer(raw, "<f4").reshape(-1, len(GRADES)).astype(np.float32),
        np.array([value[1] for value in values], np.int32),
        np.array([value[2] for value in values], np.int32),
    )


def _matching(
    connection: sqlite3.Connection, select: str, keys: Sequence[bytes]
) -> Iterator[tuple[Any, ...]]:
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        marks = ",".join("?" * len(chunk))
        yield from connection.execute(f"{select} WHERE key IN ({marks})", chunk)


def _found(connection: sqlite3.Connection, keys: Sequence[bytes]) -> Answers:
    select = "SELECT key, probabilities, read, written FROM answers"
    known = {found[0]: found[1:] for found in _matching(connection, select, keys)}
    rows = [row for row, key in enumerate(keys) if key in known]
    return _answers(rows, [known[keys[row]] for row in rows])


def _judge_id(connection: sqlite3.Connection, asker: Asker) -> int:
    connection.execute(
        "INSERT OR IGNORE INTO judges (identity, name, kind) VALUES (?, ?, ?)",
        (asker.identity, asker.judge, asker.kind),
    )
    found = connection.execute("SELECT id FROM judges WHERE identity = ?", (asker.identity,))
    return int(found.fetchone()[0])


def _charge(connection: sqlite3.Connection, asker: Asker, spent: Spent) -> None:
    marks = ", ".join("?" * len(NUMBERS))
    sums = ", ".join(f"{name} = {name} + excluded.{name}" for name in NUMBERS)
    connection.execute(
        f"INSERT INTO spent (run, judge, {', '.join(NUMBERS)}) VALUES (?, ?, {marks})"
        f" ON CONFLICT DO UPDATE SET {sums}",
        (asker.run, asker.judge, *(getattr(spent, name) for name in NUMBERS)),
    )
    connection.executemany(
        "INSERT INTO troubles VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET count = count + excluded.count",
        [(asker.run, asker.judge, what, count) for what, count in spent.troubles.items()],
    )


def _renew(connection: sqlite3.Connection, asker: Asker) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO owners VALUES (?, ?)", (asker.owner, time.time() + _LEASE_S)
    )


def _void_dead_claims(connection: sqlite3.Connection) -> None:
    now, owners = time.time(), connection.execute("SELECT owner, until FROM owners").fetchall()
    _release(connection, [owner for owner, until in owners if until < now or _is_gone(owner)])


def _release(connection: sqlite3.Connection, owners: Sequence[str]) -> None:
    for owner in owners:
        connection.execute("DELETE FROM claims WHERE owner = ?", (owner,))
        connection.execute("DELETE FROM owners WHERE owner = ?", (owner,))


def _is_gone(owner: str) -> bool:
    """Whether it was a process of this machine that has ended."""
    host, pid, _pass = owner.rsplit(":", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
