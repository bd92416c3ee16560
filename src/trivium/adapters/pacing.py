"""What asking servers takes: a loop of one's own, an even pace, and waits between attempts."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Coroutine
from concurrent import futures
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

T = TypeVar("T")

RETRY_AFTER_MOST_S = 600.0
"""Longer waits than this are asked for when a day's quota is used up."""

# Seconds before the second attempt, doubled for each further one, and the most of them.
_BACKOFF_S, _BACKOFF_MOST_S = 1.0, 60.0
_LISTEN_S = 0.2


class Loop:
    """A loop in a thread of its own, so that a caller may be inside a loop itself."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for some work; an interrupt of the caller cuts it off."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not future.done():
                # A wait without an end is deaf to Ctrl-C where another thread gets the signal.
                futures.wait([future], _LISTEN_S)
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Cut off what is under way, do one last thing, and end the thread."""
        if threading.current_thread() is self._thread:  # where a collector of garbage may run
            last.close()
            self._loop.stop()
            return
        self.run(_end(last))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _end(last: Coroutine[Any, Any, None]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await last


class Pace:
    """Spaces requests evenly, and holds all of them back while the server wants no more.

    Args:
        gap_s: Seconds between two requests.
    """

    def __init__(self, gap_s: float) -> None:
        self._gap_s = gap_s
        self._free = 0.0

    def hold(self, seconds: float) -> None:
        """Let no request go for some seconds."""
        self._free = max(self._free, time.monotonic() + seconds)

    async def turn(self) -> None:
        """Wait until a request may go."""
        while (wait := self._free - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        self._free = time.monotonic() + self._gap_s


def backoff_s(tried: int, text: str) -> float:
    """Seconds to wait after some attempts: 0 after none, then 1, 2, 4, at most 60.

    They are shortened by up to half, by an amount that differs by text but not by run.
    """
    if not tried:
        return 0.0
    jitter = random.Random(f"{tried} {text}").uniform(0.5, 1.0)
    return jitter * min(_BACKOFF_S * 2.0 ** (tried - 1), _BACKOFF_MOST_S)


def retry_after_s(header: str) -> float:
    """Seconds that a Retry-After asks for, a number or a date; 0 if there is no such wish."""
    with suppress(ValueError):
        return max(0.0, float(header))
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    return 0.0
