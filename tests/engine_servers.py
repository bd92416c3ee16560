"""Servers for the tests of engines: one of ours that fails as it is told to, and real ones."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import polars as pl
import psycopg

from local_server import LocalServer

SECRET = "s3ntinel/+secret"

ITEMS = pl.DataFrame(
    {
        "item_id": [f"i{n}" for n in range(8)],
        "title": [
            "red mug",
            "blue mug",
            "red red lamp",
            "garden hose",
            "red mug with a lamp",
            "mug",
            "lamp",
            'say "mug"',
        ],
    }
)
QUERIES = pl.DataFrame(
    {
        "query_id": ["q1", "q2", "q3", "q4"],
        "text": ["red mug", "lamp", "nothing of the kind", "hose mug red"],
    }
)


def word_scores(query: str) -> list[tuple[str, float]]:
    """Items that share words with a query, and how many."""
    shared = [
        (item_id, float(len({*query.split()} & {*title.replace('"', "").split()})))
        for item_id, title in ITEMS.iter_rows()
    ]
    return [(item_id, score) for item_id, score in shared if score]


def plain_runs(
    channel: str, k: int, found: Callable[[str], list[tuple[str, float]]] = word_scores
) -> list[tuple[Any, ...]]:
    """The runs table of QUERIES, made slowly."""
    rows: list[tuple[Any, ...]] = []
    for query_id, text in QUERIES.iter_rows():
        best = sorted(found(text), key=lambda hit: (-hit[1], hit[0]))[:k]
        rows += [
            (query_id, item_id, channel, rank, score)
            for rank, (item_id, score) in enumerate(best, start=1)
        ]
    return rows


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: str
    came: float = field(default_factory=time.monotonic)

    @property
    def parameters(self) -> dict[str, str]:
        return {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def hits_of(request: Request) -> Any:
    """The answer of a plain search: ?q=...&n=..., or a body of the same."""
    asked = request.json if request.body else request.parameters
    found = sorted(word_scores(asked["q"]), key=lambda hit: hit[1])  # of any order
    return {"hits": [{"id": item_id, "score": score} for item_id, score in found]}


class SearchServer(LocalServer):
    """A server that answers in JSON, but first does what its script says, a step a request.

    Steps: "" answers; "429:2", "503" that status, with a Retry-After; "hang" no answer; "reset"
    a connection cut hard; "half" half of a body; "torn" half of a JSON text; "html" a page;
    "echo:500" that status and the request's headers; "leads:URL" a redirect; anything else that
    is not a text is sent as JSON.

    Attributes:
        requests: As they came.
        most: Most of them at one time.
        delay_s: Seconds that each takes.
    """

    protocol = "HTTP/1.1"

    def __init__(self, answer: Callable[[Request], Any] = hits_of, *steps: Any) -> None:
        super().__init__()
        self.answer, self.steps = answer, list(steps)
        self.requests: list[Request] = []
        self.most = self._now = 0
        self.delay_s = 0.0

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        body = handler.rfile.read(length).decode()
        request = Request(handler.command, handler.path, dict(handler.headers), body)
        with self._lock:
            self.requests.append(request)
            self._now += 1
            self.most = max(self.most, self._now)
            step = self.steps.pop(0) if self.steps else ""
        time.sleep(self.delay_s)
        with self._lock:
            self._now -= 1
        with contextlib.suppress(OSError):
            self._do(handler, request, step)

    def _do(self, handler: BaseHTTPRequestHandler, request: Request, step: Any) -> None:
        what, _, how = step.partition(":") if isinstance(step, str) else ("json", "", "")
        if what in {"hang", "reset"}:
            self._cut(handler, what)
        elif what == "half":
            text = json.dumps(self.answer(request))
            self._send(handler, 200, text[: len(text) // 2], **{"Content-Length": str(len(text))})
            handler.close_connection = True
        elif what == "leads":
            self._send(handler, 307, "", Location=how)
        elif what.isdigit():
            wait = {"Retry-After": how} if how else {}
            self._send(handler, int(what), '{"error": "no"}', **wait)
        else:
            status = int(how) if what == "echo" else 200
            self._send(handler, status, self._text(what, request, step))

    def _cut(self, handler: BaseHTTPRequestHandler, what: str) -> None:
        handler.close_connection = True
        if what == "hang":
            self.ending.wait()
        else:
            hard = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hard)
            socket.socket(fileno=handler.connection.detach()).close()

    def _text(self, what: str, request: Request, step: Any) -> str:
        if what == "html":
            return "<html>a page</html>"
        if what in {"echo", "json"}:
            return json.dumps({"error": request.headers} if what == "echo" else step)
        answer = json.dumps(self.answer(request))
        return answer[:-2] if what == "torn" else answer

    def _send(
        self, handler: BaseHTTPRequestHandler, status: int, text: str, **headers: str
    ) -> None:
        body = text.encode()
        handler.send_response(status)
        headers = {"Content-Length": str(len(body)), "Content-Type": "application/json"} | headers
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


def fill_postgres(connection: psycopg.Connection, vectors: Any, password: str) -> None:
    """Write the items with their vectors, 400 more vectors with an index, and a user `shop`."""
    connection.execute("CREATE EXTENSION vector")
    connection.execute("CREATE SCHEMA store")
    connection.execute(
        """CREATE TABLE store."Items" ("SKU %" text, title text, note text, numbered int,
        stored tsvector, vector vector(384), half halfvec(384), small vector(3))"""
    )
    for number, (row, vector) in enumerate(zip(ITEMS.rows(), vectors, strict=True)):
        connection.execute(
            """INSERT INTO store."Items" VALUES
            (%(id)s, %(title)s, NULL, %(n)s, to_tsvector('english', %(title)s), %(v)s)""",
            {"id": row[0], "title": row[1], "n": number, "v": str(vector.tolist())},
        )
    connection.execute("""UPDATE store."Items" SET half = vector::halfvec""")
    connection.execute("CREATE TABLE many (item_id text, embedding vector(384))")
    rng = np.random.default_rng(0)
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO many VALUES (%s, %s)",
            [(f"m{n:03}", str(rng.normal(size=384).tolist())) for n in range(400)],
        )
    connection.execute("CREATE INDEX ON many USING hnsw (embedding vector_cosine_ops)")
    connection.execute(psycopg.sql.SQL("CREATE ROLE shop LOGIN PASSWORD {}").format(password))
    connection.execute("GRANT USAGE ON SCHEMA store TO shop")
