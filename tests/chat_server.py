"""A local OpenAI-compatible server that does to each pair what the pair's query says.

A query is a script: steps divided by ";", one for each attempt, the last one again and again.

    says:3            the text "3"                  json:{...}      the same; reads better
    logprobs:3=.6,4=.3 the text "3" with these tokens listed
    429, 429:2, 500   that status, with a Retry-After of so many seconds, if any
    429:no_money      that status, with a code
    hang              no answer until the server ends
    cut, half, html   a connection cut, half of a body, a page
    empty, null, error  no choices, no content, an error with status 200
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler
from typing import Any

from local_server import LocalServer


class ChatServer(LocalServer):
    """The server.

    Attributes:
        requests: Bodies of all requests, in the order of their coming.
        arrivals: When they came, in seconds of the monotonic clock.
        replies: When they were answered.
        keys: The Authorization headers seen.
        most: Most requests at one time.
        delay_s: Seconds that every request takes.
        usage: Whether tokens are reported.
        first: Script of a pair whose query is no script.
    """

    base = "/v1"

    def __init__(self, first: str = "says:3") -> None:
        super().__init__()
        self.requests: list[dict[str, Any]] = []
        self.arrivals: list[float] = []
        self.replies: list[float] = []
        self.keys: set[str] = set()
        self.most = self._now = 0
        self.delay_s = 0.0
        self.usage = True
        self.first = first
        self.came = threading.Event()
        self._seen: Counter[str] = Counter()

    def asked(self, query: str) -> int:
        """How often a pair with that query was asked about."""
        return sum(_query(request) == query for request in self.requests)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers["Content-Length"])
        request = json.loads(handler.rfile.read(length))
        with self._lock:
            self.requests.append(request)
            self.arrivals.append(time.monotonic())
            self.keys.add(handler.headers.get("Authorization", ""))
            self._now += 1
            self.most = max(self.most, self._now)
            step = self._step(request)
        self.came.set()
        time.sleep(self.delay_s)
        with self._lock:
            self._now -= 1
            self.replies.append(time.monotonic())
        self._do(handler, *step.partition(":")[::2])

    def _step(self, request: dict[str, Any]) -> str:
        text = request["messages"][0]["content"]
        query = _query(request)
        steps = (self.first if query == "red running shoes" else query).split(";")
        self._seen[text] += 1
        return steps[min(self._seen[text], len(steps)) - 1]

    def _do(self, handler: BaseHTTPRequestHandler, what: str, how: str) -> None:
        if what in {"says", "json", "logprobs"}:
            _send(handler, 200, _completion(what, how, usage=self.usage))
        elif what.isdigit():
            code = how if "_" in how else None
            error = {"message": f"no, {handler.headers['Authorization']}", "code": code}
            wait = {"Retry-After": how} if how and not code else {}
            _send(handler, int(what), json.dumps({"error": error}), **wait)
        elif what == "hang":
            self.ending.wait()
            handler.close_connection = True
        elif what == "cut":
            handler.connection.close()
        elif what == "half":
            body = _completion("says", "3", usage=True)
            _send(handler, 200, body[: len(body) // 2], **{"Content-Length": str(len(body))})
        else:
            _send(handler, 200, _BODIES[what])


_BODIES = {
    "html": "<html>a page</html>",
    "empty": json.dumps({"choices": []}),
    "null": json.dumps({"choices": [{"message": {"content": None}}]}),
    "error": json.dumps({"error": {"message": "overloaded"}}),
    "list": "[1, 2]",
}


def _query(request: dict[str, Any]) -> str:
    return str(request["messages"][0]["content"].partition("|")[0])


def _completion(what: str, how: str, *, usage: bool) -> str:
    text, logprobs = how, None
    if what == "logprobs":
        listed = dict(pair.split("=") for pair in how.split(","))
        tokens = [{"token": t, "logprob": math.log(float(p))} for t, p in listed.items()]
        text = str(tokens[0]["token"])
        logprobs = {"content": [tokens[0] | {"top_logprobs": tokens}]}
    message = {"role": "assistant", "content": text}
    body: dict[str, Any] = {"choices": [{"index": 0, "message": message, "logprobs": logprobs}]}
    if usage:
        body["usage"] = {"prompt_tokens": 100, "completion_tokens": 2, "total_tokens": 102}
    return json.dumps(body)


def _send(handler: BaseHTTPRequestHandler, status: int, text: str, **headers: str) -> None:
    body = text.encode()
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | headers).items():
        handler.send_header(name, value)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = True
