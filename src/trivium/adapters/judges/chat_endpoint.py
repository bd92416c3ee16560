"""Requests to an OpenAI-compatible endpoint: many at a time, paced, and tried again.

In: prompts. Out: replies read by `chat_answers`, with what went wrong on the way counted.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from trivium.adapters.judges import Answers
from trivium.adapters.judges.chat_answers import (
    SCHEMA,
    TOP,
    Malformed,
    Mode,
    Reply,
    distribution,
    estimated_tokens,
    read_reply,
)
from trivium.foundation.errors import DependencyError, TriviumError
from trivium.foundation.judge_config import ChatConfig
from trivium.foundation.tables import GRADES

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

T = TypeVar("T")

# Seconds before the second attempt, doubled for each further one, and the most of them.
_BACKOFF_S, _BACKOFF_MOST_S = 1.0, 60.0
_LISTEN_S = 0.2
# Longer waits than this are asked for when a day's quota is used up.
_RETRY_AFTER_MOST_S = 600.0
# Pairs given up in a row without any reply: the endpoint is gone.
_LOST_IN_A_ROW = 20
# Of the answer drawn after one that held no grade.
_TEMPERATURE = 0.5
_MEND = {
    401: "set the environment variable {key} to a key that the endpoint accepts",
    403: "set the environment variable {key} to a key that may use the model",
    404: "correct the url, which mostly ends in /v1, or the model's name",
    429: "run again when the quota allows it; labels that were kept are not paid for twice",
}


class Refused(DependencyError):
    """The endpoint will not take such a request, however often it is made."""


@dataclass
class _Question:
    """A pair under way."""

    row: int
    text: str
    tried: int = 0
    malformed: int = 0
    read: int = 0
    written: int = 0
    troubles: Counter[str] = field(default_factory=Counter)

    def answer(self, probabilities: NDArray[np.float32] | None) -> Answers:
        if probabilities is None:
            self.troubles["unanswered"] = 1
            probabilities = np.full(len(GRADES), np.nan, np.float32)
        return Answers(
            np.array([self.row], np.int64),
            probabilities[None, :],
            np.array([self.read], np.int32),
            np.array([self.written], np.int32),
            dict(self.troubles),
        )

    def backoff_s(self) -> float:
        """Exponential, with a jitter of up to half that differs by pair but not by run."""
        if not self.tried:
            return 0.0
        jitter = random.Random(f"{self.tried} {self.text}").uniform(0.5, 1.0)
        return jitter * min(_BACKOFF_S * 2.0 ** (self.tried - 1), _BACKOFF_MOST_S)


class Endpoint:
    """Requests to an endpoint, made by a loop in a thread of its own.

    So a caller may be inside a loop itself, and leaving the block cuts off what is under way.
    """

    def __init__(self, config: ChatConfig, mode: Mode) -> None:
        self._key = _key(config.api_key_variable)
        self._config = config
        self._mode = mode
        self._pace = _Pace(config.requests_per_minute)
        self._tasks: set[asyncio.Task[Answers]] = set()
        self._lost = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._client: AsyncOpenAI

    def __enter__(self) -> Self:
        try:
            from openai import AsyncOpenAI
        except ImportError:
            raise DependencyError.of(
                "judge of the kind 'chat'",
                got="no installed package 'openai'",
                expected="that package",
                fix="pip install 'trivium[chat]'",
            ) from None
        self._client = AsyncOpenAI(
            api_key=self._key, base_url=self._config.url, timeout=None, max_retries=0
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def answers(self, texts: Iterable[tuple[int, str]]) -> Iterator[Answers]:
        """Ask about rows and their prompts; answers as they come."""
        waiting = (_Question(row, text) for row, text in texts)
        while done := self._run(self._next(waiting)):
            failed = [task for task in done if task.exception()]
            yield from (task.result() for task in done if task not in failed)
            for task in failed:
                task.result()

    def reply(self, text: str) -> Reply:
        """The reply to one prompt.

        Raises:
            DependencyError: If none comes within the attempts, or the request is refused.
        """
        question = _Question(0, text)
        reply = self._run(self._reply(question))
        if reply is None:
            raise self._silent(question)
        return reply

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            while not future.done():
                # A wait without an end is deaf to Ctrl-C where another thread gets the signal.
                futures.wait([future], _LISTEN_S)
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _next(self, waiting: Iterator[_Question]) -> set[asyncio.Task[Answers]]:
        """Fill the free places, then wait until something is finished; empty at the end."""
        while len(self._tasks) < self._config.concurrency and (question := next(waiting, None)):
            self._tasks.add(asyncio.create_task(self._ask(question)))
        if not self._tasks:
            return set()
        done, self._tasks = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        return done

    async def _ask(self, question: _Question) -> Answers:
        while reply := await self._reply(question):
            try:
                return question.answer(distribution(reply, self._mode))
            except Malformed as trouble:
                question.troubles[trouble.kind] += 1
                question.malformed += 1
        return question.answer(None)

    async def _reply(self, question: _Question) -> Reply | None:
        """Attempts until a reply comes; None once they are used up."""
        while question.tried < self._config.attempts:
            await asyncio.sleep(question.backoff_s())
            await self._pace.turn()
            question.tried += 1
            try:
                return await self._attempt(question)
            except Exception as error:
                question.troubles[self._trouble(error)] += 1
        self._count_lost(question)
        return None

    async def _attempt(self, question: _Question) -> Reply:
        async with asyncio.timeout(self._config.timeout_s):
            response = await self._client.chat.completions.with_raw_response.create(
                **self._request(question)
            )
        reply = read_reply(response.text)
        self._lost = 0
        question.read += estimated_tokens(question.text) if reply.read is None else reply.read
        question.written += reply.written
        return reply

    def _request(self, question: _Question) -> dict[str, Any]:
        """The likeliest answer first; after one without a grade another is drawn."""
        request: dict[str, Any] = {
            "model": self._config.model,
            "messages": [{"role": "user", "content": question.text}],
            "max_tokens": self._config.max_tokens,
            "temperature": _TEMPERATURE if question.malformed else 0.0,
            "seed": question.malformed,
        }
        if self._mode == "logprobs":
            return request | {"logprobs": True, "top_logprobs": TOP}
        schema = {"name": "grade", "strict": True, "schema": SCHEMA}
        return request | {"response_format": {"type": "json_schema", "json_schema": schema}}

    def _trouble(self, error: Exception) -> str:
        """What a failed attempt is counted as; an error that no retry mends is raised."""
        from openai import APIConnectionError, APIStatusError

        match error:
            case Malformed():
                return error.kind
            case TimeoutError():
                return "timeout"
            case APIConnectionError():
                return "connection"
            case APIStatusError():
                return self._trouble_of_status(error)
            case _:
                raise error

    def _trouble_of_status(self, error: APIStatusError) -> str:
        status = error.status_code
        wait = _retry_after_s(error.response.headers.get("retry-after", ""))
        mends = status in {408, 409, 429} or status >= 500
        if not mends or error.code == "insufficient_quota" or wait > _RETRY_AFTER_MOST_S:
            raise self._refused(error, wait) from None
        self._pace.hold(wait)
        return "rate_limit" if status == 429 else "server_error"

    def _refused(self, error: APIStatusError, wait: float) -> TriviumError:
        mend = _MEND.get(error.status_code, "correct the model's name, or try another `answer`")
        later = f", to be tried again in {wait:.0f} s" if wait else ""
        return Refused.of(
            f"model '{self._config.model}' at {self._config.url}",
            got=f"status {error.status_code}{later}: {self._said(error)}",
            expected="an answer to a chat completion",
            fix=mend.format(key=self._config.api_key_variable),
        )

    def _silent(self, question: _Question) -> TriviumError:
        counts = ", ".join(f"{count} x {kind}" for kind, count in question.troubles.items())
        return DependencyError.of(
            f"model '{self._config.model}' at {self._config.url}",
            got=f"no reply: {counts}",
            expected="an answer to a chat completion",
            fix="start the server, correct the url, or raise timeout_s or attempts",
        )

    def _said(self, error: APIStatusError) -> str:
        """The endpoint's own words, in which it may repeat the key."""
        return " ".join(error.message.replace(self._key, "***").split())[:300]

    def _count_lost(self, question: _Question) -> None:
        """Give up when pair after pair gets no reply at all."""
        if question.malformed:
            return
        self._lost += 1
        if self._lost >= _LOST_IN_A_ROW:
            raise self._silent(question)

    async def _close(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.close()


class _Pace:
    """Spaces requests evenly, and holds all of them back while the endpoint wants no more."""

    def __init__(self, per_minute: int | None) -> None:
        self._gap_s = 60.0 / per_minute if per_minute else 0.0
        self._free = 0.0

    def hold(self, seconds: float) -> None:
        self._free = max(self._free, time.monotonic() + seconds)

    async def turn(self) -> None:
        while (wait := self._free - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        self._free = time.monotonic() + self._gap_s


def _retry_after_s(header: str) -> float:
    """Seconds that a Retry-After asks for, a number or a date; 0 if there is no such wish."""
    with suppress(ValueError):
        return max(0.0, float(header))
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    return 0.0


def _key(variable: str) -> str:
    """The key; servers of one's own need none, but the client wants a word."""
    key = os.environ.get(variable, "").strip() or "no-key"
    if key.isascii() and key.isprintable():
        return key
    raise DependencyError.of(
        f"environment variable {variable}",
        got="characters that no key holds",
        expected="the key of the endpoint",
        fix="set it again",
    )
