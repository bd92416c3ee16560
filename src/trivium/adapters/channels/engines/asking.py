"""Asking an engine: batches of queries, some at a time, paced, and asked again where it failed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trivium.adapters.pacing import Loop, Pace, backoff_s
from trivium.foundation.engine_config import EngineSection
from trivium.foundation.errors import DependencyError, TriviumError


@dataclass(frozen=True)
class Question:
    """A query, with its vector where the engine wants one.

    Attributes:
        text: The query.
        vector: float32 (dimension,).
    """

    text: str
    vector: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Answer:
    """What an engine found, as it came: not yet checked, of any order and length.

    Attributes:
        item_ids: An id for each hit.
        scores: A score for each, larger is better; None where the order alone is known.
    """

    item_ids: Sequence[Any]
    scores: Sequence[Any] | None


@dataclass(eq=False)
class Trouble(Exception):
    """A failure that asking again may mend.

    Attributes:
        kind: What it is counted as.
        said: What the engine said, without secrets.
        wait_s: Seconds that the engine wants to be left alone.
    """

    kind: str
    said: str = ""
    wait_s: float = 0.0


class Engine(Protocol):
    """A search engine.

    Attributes:
        where: The channel and the engine's address, without credentials, for errors.
        batch: Queries that it takes at a time.
    """

    where: str
    batch: int

    async def ask(self, questions: Sequence[Question], k: int) -> Sequence[Answer | Trouble]:
        """Ask once.

        Args:
            questions: At most `batch` queries.
            k: Hits wanted for each.

        Returns:
            For each query what was found, or why nothing was.

        Raises:
            Trouble: If the request failed as a whole in a way that may pass.
            TriviumError: If it would fail again however often it is made.
        """
        ...

    def request(self, text: str, k: int) -> str:
        """What is sent for a query, to be shown."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class Asker:
    """Asks an engine many queries; connections are made at the first and kept until `close`."""

    def __init__(self, engine: Engine, settings: EngineSection) -> None:
        self._engine = engine
        self._settings = settings
        rate = settings.requests_per_second
        self._pace = Pace(1.0 / rate if rate else 0.0)
        self._loop: Loop | None = None

    def ask(self, questions: Sequence[Question], k: int) -> list[Answer]:
        """The answers to some queries, in their order.

        Raises:
            DependencyError: If a query has no answer after all attempts, or is refused.
        """
        self._loop = self._loop or Loop()
        return self._loop.run(self._ask(questions, k))

    def close(self) -> None:
        """Close the connections, if there are any; they are made again when needed."""
        if self._loop:
            self._loop.close(self._engine.close())
            self._loop = None

    async def _ask(self, questions: Sequence[Question], k: int) -> list[Answer]:
        size, places = self._engine.batch, asyncio.Semaphore(self._settings.concurrency)
        starts = range(0, len(questions), size)
        tasks = [
            asyncio.create_task(self._batch(questions[start : start + size], k, places))
            for start in starts
        ]
        try:
            return [answer for batch in await asyncio.gather(*tasks) for answer in batch]
        finally:
            for task in tasks:
                task.cancel()

    async def _batch(
        self, questions: Sequence[Question], k: int, places: asyncio.Semaphore
    ) -> list[Answer]:
        """Ask until every query has its answer; only those without one are asked again."""
        answers: dict[int, Answer] = {}
        troubles: Counter[str] = Counter()
        for tried in range(self._settings.attempts):
            await asyncio.sleep(backoff_s(tried, questions[0].text))
            left = [n for n in range(len(questions)) if n not in answers]
            async with places:
                await self._pace.turn()
                outcomes = await self._attempt([questions[n] for n in left], k)
            answers |= {
                n: outcome
                for n, outcome in zip(left, outcomes, strict=True)
                if isinstance(outcome, Answer)
            }
            if len(answers) == len(questions):
                return [answers[n] for n in range(len(questions))]
            troubles.update(self._heed(outcomes))
        raise self._silent(troubles)

    async def _attempt(self, questions: Sequence[Question], k: int) -> Sequence[Answer | Trouble]:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                return await self._engine.ask(questions, k)
        except TimeoutError:
            trouble = Trouble("timeout")
        except Trouble as raised:
            trouble = raised
        return [trouble] * len(questions)

    def _heed(self, outcomes: Sequence[Answer | Trouble]) -> set[str]:
        """Hold requests back as long as the engine wants; what went wrong."""
        troubles = [outcome for outcome in outcomes if isinstance(outcome, Trouble)]
        self._pace.hold(max(trouble.wait_s for trouble in troubles))
        return {": ".join(filter(None, (t.kind, t.said))) for t in troubles}

    def _silent(self, troubles: Counter[str]) -> TriviumError:
        counted = (f"{count} x {trouble}" for trouble, count in troubles.most_common(3))
        return DependencyError.of(
            self._engine.where,
            got=f"no answer in {self._settings.attempts} attempts: {'; '.join(counted)}",
            expected="an answer to every query",
            fix="start the server or correct its address; raise timeout_s or attempts, or lower "
            "concurrency, batch or requests_per_second; then run again: what is done stays done",
        )
