"""A judge that pays for no pair twice: it looks in the label store before it asks.

In: pairs of texts. Out: answers, those that are known first, and a booked cost for the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.judges import Answers, Judge
from trivium.adapters.ledger import Budget, Prices, Spent
from trivium.adapters.store import Asker, NoStore, Store, pair_keys
from trivium.foundation.console import counter, say

CHUNK = 256
"""Pairs claimed and asked at once: what a budget may be overrun by, and what a kill may lose."""
_POLL_S = 0.5


class StoredJudge:
    """A judge whose answers are kept, and whose costs are booked.

    Attributes:
        judge: The judge that is asked.
        name: Its name in the run.
        identity: Fingerprint of all that decides its answers.
    """

    def __init__(
        self,
        judge: Judge,
        *,
        name: str,
        identity: str,
        store: Store | None,
        run: str,
        prices: Prices | None = None,
        budget: Budget | None = None,
        kind: str = "",
        chunk: int = CHUNK,
    ) -> None:
        """Wrap a judge.

        Args:
            judge: The judge that is asked.
            name: Its name in the run.
            identity: Fingerprint of all that decides its answers.
            store: Where answers are kept; None = nowhere. Judges that share a budget share a store.
            run: The run that pays.
            prices: What the judge costs; None = nothing.
            budget: What the run may spend; None = any sum.
            kind: The judge's kind, for the reader of the store.
            chunk: Pairs claimed and asked at once.
        """
        self.judge = judge
        self.name = name
        self.identity = identity
        self._run, self._kind = run, kind
        self._store = store if store is not None else NoStore()
        self._prices, self._budget, self._chunk = prices or Prices(), budget or Budget(), chunk
        self._waited = False

    @property
    def parameters(self) -> int:
        """Those of the judge itself."""
        return self.judge.parameters

    @classmethod
    def fit(cls, *_args: Any, **_settings: Any) -> NoReturn:
        """Fit the judge itself, then wrap it."""
        raise TypeError("fit the judge itself, then wrap it")

    @classmethod
    def load(cls, *_args: Any) -> NoReturn:
        """Load the judge itself, then wrap it."""
        raise TypeError("load the judge itself, then wrap it")

    def save(self, folder: Path) -> None:
        """Save the judge itself."""
        self.judge.save(folder)

    def tokens(self, pairs: pl.DataFrame) -> NDArray[np.int32]:
        """Tokens that would be read for each pair, (pairs,)."""
        return self.judge.tokens(pairs)

    def answers(self, pairs: pl.DataFrame) -> Iterator[Answers]:
        """Give what the store has, then ask for the rest; each distinct pair is asked once.

        Args:
            pairs: Columns query_text and item_text.

        Yields:
            Answers as they come, each pair once; they are kept before they are given.

        Raises:
            BudgetReached: Before asking, if the run has spent its budget.
        """
        wanted = _Wanted.of(pairs, self.identity)
        asker = Asker(self._run, self.name, self.identity, self._kind)
        with counter(f"pairs graded by {self.name}", len(pairs)) as advance:
            try:
                for some in self._all(asker, wanted):
                    spread = wanted.spread(some)
                    yield spread
                    advance(len(spread.rows))
            finally:
                self._store.release(asker)

    def _all(self, asker: Asker, wanted: _Wanted) -> Iterator[Answers]:
        """Answers to the distinct pairs; what others are asking about comes last."""
        found = self._store.get(wanted.keys)
        yield from self._reused(asker, wanted, found)
        missing = np.setdiff1d(np.arange(len(wanted.keys)), found.rows)
        while len(missing):
            left = []
            for start in range(0, len(missing), self._chunk):
                rows = missing[start : start + self._chunk]
                found, ours = self._store.claim(asker, wanted.keys_of(rows))
                yield from self._reused(asker, wanted, replace(found, rows=rows[found.rows]))
                yield from self._asked(asker, wanted, rows[ours])
                left.append(np.delete(rows, np.concatenate([found.rows, ours])))
            missing = self._await_others(np.concatenate(left))

    def _await_others(self, claimed: NDArray[np.int64]) -> NDArray[np.int64]:
        if len(claimed):
            if not self._waited:
                say(f"{self.name}: waiting for pairs that another process is asking about")
            self._waited = True
            time.sleep(_POLL_S)
        return claimed

    def _reused(self, asker: Asker, wanted: _Wanted, found: Answers) -> Iterator[Answers]:
        if len(found.rows):
            self._store.charge(asker, Spent(reused=int(wanted.doubles[found.rows].sum())))
            yield found

    def _asked(self, asker: Asker, wanted: _Wanted, rows: NDArray[np.int64]) -> Iterator[Answers]:
        if not len(rows):
            return
        self._budget.check(self._store.ledger(self._run).usd)
        keys, start = wanted.keys_of(rows), time.perf_counter()
        for some in self.judge.answers(wanted.pairs[rows]):
            seconds = time.perf_counter() - start
            asked = replace(some, rows=rows[some.rows])
            self._store.put(asker, keys, some, self._spent(wanted, asked, seconds))
            yield asked
            start = time.perf_counter()

    def _spent(self, wanted: _Wanted, asked: Answers, seconds: float) -> Spent:
        read, written = int(asked.read.sum()), int(asked.written.sum())
        return Spent(
            asked=len(asked.rows),
            unanswered=int(np.isnan(asked.probabilities).any(axis=1).sum()),
            reused=int((wanted.doubles[asked.rows] - 1).sum()),
            read=read,
            written=written,
            seconds=seconds,
            usd=self._prices.usd(read, written, seconds),
            troubles=asked.troubles,
        )


@dataclass(frozen=True)
class _Wanted:
    """Distinct pairs, neighbours of like length, so that a chunk makes even batches.

    Attributes:
        pairs: Columns query_text and item_text, and `row`, a list of the rows where the pair is.
        keys: Of the pairs in the store.
        doubles: In how many rows each pair is, (distinct pairs,).
    """

    pairs: pl.DataFrame
    keys: list[bytes]
    doubles: NDArray[np.int64]

    @classmethod
    def of(cls, pairs: pl.DataFrame, identity: str) -> _Wanted:
        texts = ["query_text", "item_text"]
        length = pl.sum_horizontal(pl.col(texts).str.len_bytes())
        distinct = (
            pairs.select(texts)
            .with_row_index("row")
            .group_by(texts, maintain_order=True)
            .agg("row")
            .sort(length, maintain_order=True)
        )
        doubles = distinct["row"].list.len().to_numpy().astype(np.int64)
        return cls(distinct, pair_keys(identity, distinct), doubles)

    def keys_of(self, rows: NDArray[np.int64]) -> list[bytes]:
        return [self.keys[row] for row in rows]

    def spread(self, answers: Answers) -> Answers:
        """Answers to distinct pairs, as answers to the rows that they are in."""
        times = self.doubles[answers.rows]
        return Answers(
            self.pairs["row"][answers.rows].explode().to_numpy().astype(np.int64),
            np.repeat(answers.probabilities, times, axis=0),
            np.repeat(answers.read, times),
            np.repeat(answers.written, times),
            answers.troubles,
        )
