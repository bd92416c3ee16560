"""Requests to an OpenAI-compatible endpoint: many at a time, paced, and tried again.

In: prompts. Out: replies read by `chat_answers`, with what went wrong on the way counted.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from trivium.adapters.credentials import Secrets, credential
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
from trivium.adapters.pacing import RETRY_AFTER_MOST_S, Loop, Pace, backoff_s, retry_after_s
from trivium.foundation.errors import DependencyError, TriviumError
from trivium.foundation.judge_config import ChatConfig
from trivium.foundation.tables import GRADES

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI

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


class Endpoint:
    """Requests to an endpoint; leaving the block cuts off what is under way."""

    def __init__(self, config: ChatConfig, mode: Mode) -> None:
        # Servers of one's own need no key, but the client wants a word.
        self._key = credential(config.api_key_variable) or "no-key"
        self._secrets = Secrets([self._key])
        self._config = config
        self._mode = mode
        self._pace = Pace(60.0 / config.requests_per_minute if config.requests_per_minute else 0.0)
        self._tasks: set[asyncio.Task[Answers]] = set()
        self._lost = 0
        self._loop: Loop
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
        self._loop = Loop()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.close(self._client.close())

    def answers(self, texts: Iterable[tuple[int, str]]) -> Iterator[Answers]:
        """Ask about rows and their prompts; answers as they come."""
        waiting = (_Question(row, text) for row, text in texts)
        while done := self._loop.run(self._next(waiting)):
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
        reply = self._loop.run(self._reply(question))
        if reply is None:
            raise self._silent(question)
        return reply

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
            await asyncio.sleep(backoff_s(question.tried, question.text))
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
        wait = retry_after_s(error.response.headers.get("retry-after", ""))
        mends = status in {408, 409, 429} or status >= 500
        if not mends or error.code == "insufficient_quota" or wait > RETRY_AFTER_MOST_S:
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
        return self._secrets.hide(error.message)

    def _count_lost(self, question: _Question) -> None:
        """Give up when pair after pair gets no reply at all."""
        if question.malformed:
            return
        self._lost += 1
        if self._lost >= _LOST_IN_A_ROW:
            raise self._silent(question)
