"""What the judges of a run have cost: pairs, tokens, seconds and US dollars, judge by judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import polars as pl

from trivium.foundation.errors import TriviumError
from trivium.foundation.judge_config import JudgeSection

_MILLION, _HOUR_S = 1e6, 3600.0


class BudgetReached(TriviumError):
    """A run has spent what it may spend on judges; all it paid for is kept. Exit status 7."""

    exit_code = 7


@dataclass(frozen=True)
class Prices:
    """What a judge costs.

    Attributes:
        usd_per_million_tokens: US dollars for a million tokens read.
        usd_per_million_written: US dollars for a million tokens written.
        usd_per_hour: US dollars for an hour of the machine that it runs on.
    """

    usd_per_million_tokens: float = 0.0
    usd_per_million_written: float = 0.0
    usd_per_hour: float = 0.0

    @classmethod
    def of(cls, config: JudgeSection) -> Self:
        """The prices in a judge's settings."""
        return cls(*(getattr(config, part.name) for part in fields(cls)))

    def usd(self, read: int, written: int, seconds: float) -> float:
        """US dollars for tokens read, tokens written and seconds of the machine.

        Example:
            >>> Prices(2.0, 6.0, 3.6).usd(500_000, 100_000, 400.0)
            2.0
        """
        tokens = read * self.usd_per_million_tokens + written * self.usd_per_million_written
        return tokens / _MILLION + seconds * self.usd_per_hour / _HOUR_S


@dataclass(frozen=True)
class Spent:
    """What one judge has done and cost.

    Attributes:
        asked: Pairs that it was asked about, and that were paid for.
        unanswered: Those of them that it gave no usable answer to.
        reused: Pairs answered without asking: from the store, or as the double of a pair asked.
            Work that is done again after an interruption counts its pairs again.
        read: Tokens read.
        written: Tokens written.
        seconds: Spent in asking, summed over processes.
        usd: US dollars.
        troubles: What went wrong on the way, counted.
    """

    asked: int = 0
    unanswered: int = 0
    reused: int = 0
    read: int = 0
    written: int = 0
    seconds: float = 0.0
    usd: float = 0.0
    troubles: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Spent) -> Spent:
        """Both together."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in NUMBERS}
        return Spent(**sums, troubles=Counter(self.troubles) + Counter(other.troubles))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        numbers = {name: getattr(self, name) for name in NUMBERS}
        return numbers | {"troubles": dict(sorted(self.troubles.items()))}


NUMBERS = tuple(part.name for part in fields(Spent) if part.name != "troubles")


@dataclass
class Ledger:
    """What each judge of a run has done and cost.

    Attributes:
        judges: By name, in the order in which they were first asked.
    """

    judges: dict[str, Spent] = field(default_factory=dict)

    @property
    def usd(self) -> float:
        """US dollars spent on all judges."""
        return sum(spent.usd for spent in self.judges.values())

    def add(self, judge: str, spent: Spent) -> None:
        """Book what a judge has just cost."""
        self.judges[judge] = self.judges.get(judge, Spent()) + spent

    def merge(self, other: Ledger) -> Ledger:
        """Both ledgers together, as a new one."""
        merged = Ledger(dict(self.judges))
        for judge, spent in other.judges.items():
            merged.add(judge, spent)
        return merged

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, by judge."""
        return {judge: spent.as_dict() for judge, spent in self.judges.items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Mapping[str, Any]]) -> Self:
        """Read back what `as_dict` gave."""
        return cls({judge: Spent(**spent) for judge, spent in plain.items()})

    def table(self) -> pl.DataFrame:
        """One row a judge: its name, the numbers of `Spent`, and its troubles in words."""
        schema = {
            "judge": pl.String,
            **{name: pl.Float64 if name in {"seconds", "usd"} else pl.Int64 for name in NUMBERS},
            "troubles": pl.String,
        }
        rows = [
            {"judge": judge, **spent.as_dict(), "troubles": _in_words(spent.troubles)}
            for judge, spent in self.judges.items()
        ]
        return pl.DataFrame(rows, schema=schema)


@dataclass(frozen=True)
class Budget:
    """What a run may spend on its judges.

    Attributes:
        max_usd: US dollars; None = any sum.
    """

    max_usd: float | None = None

    def check(self, usd: float) -> None:
        """Stop a run that has spent its budget.

        Args:
            usd: US dollars that the run has spent so far.

        Raises:
            BudgetReached: If that is the budget or more.
        """
        if self.max_usd is None or usd < self.max_usd:
            return
        raise BudgetReached.of(
            "annotate.max_budget",
            got=f"${usd:.4f} spent, with answers still missing",
            expected=f"less than ${self.max_usd:.4f}",
            fix="raise annotate.max_budget and run the same again: no answer is paid for twice",
        )


def _in_words(troubles: Mapping[str, int]) -> str:
    return ", ".join(f"{what} {count}" for what, count in sorted(troubles.items()))
