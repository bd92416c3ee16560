"""The plain HTTP server under the servers of the tests that do as they are told."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class LocalServer:
    """A server on localhost, from entering to leaving it.

    Attributes:
        url: Its address, with `base` behind.
        ending: Set when it ends, for handlers that hang.
    """

    protocol = "HTTP/1.0"
    base = ""

    def __init__(self) -> None:
        self.ending, self._lock = threading.Event(), threading.Lock()

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = server.protocol

            def do_POST(self) -> None:
                server.handle(self)

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._http.daemon_threads = True
        self._http.block_on_close = False
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}{self.base}"
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._http.shutdown()
        self._http.server_close()

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer a request."""
        raise NotImplementedError
