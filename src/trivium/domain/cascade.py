"""Which judge settles a pair, and with what grade.

The judges are asked in order, the cheapest first. The first whose calibrated confidence reaches the
threshold of the grade that it predicts settles the pair. If none is sure, the judges that answered
vote (arXiv 2606.23911).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.calibration import Calibrated
from trivium.foundation.errors import ConfigError
from trivium.foundation.tables import GRADES, PROBABILITIES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
Ties: TypeAlias = Literal["confidence", "higher_grade"]

NEVER = 2.0
"""A threshold that no confidence reaches."""
VOTE = "vote"
SETTLED = ("accepted", VOTE, "unsure", "unanswered")


@dataclass(frozen=True)
class Cascade:
    """Judges in the order in which they are asked, and how sure each must be.

    Attributes:
        judges: Their names.
        thresholds: For each judge the confidence that it needs in each of the five grades; above 1
            (`NEVER`) it is never believed alone.
        ties: What settles a vote that is even: the highest calibrated confidence among the judges
            (2606.23911), the lower grade if that is even too; or the higher grade (2606.25871).

    Raises:
        ConfigError: If no judge is named, one is named twice, or one lacks five thresholds.
    """

    judges: tuple[str, ...]
    thresholds: Mapping[str, tuple[float, ...]]
    ties: Ties = "confidence"

    def __post_init__(self) -> None:
        if not self.judges or len(set(self.judges)) < len(self.judges):
            raise ConfigError.of(
                "cascade: judges",
                got=", ".join(self.judges) or "none",
                expected="one judge or more, with different names",
                fix="name each judge once",
            )
        for judge in self.judges:
            self._check(judge)
        if self.ties not in get_args(Ties):
            raise ConfigError.of(
                "cascade: ties",
                got=repr(self.ties),
                expected=" or ".join(get_args(Ties)),
                fix="correct the name",
            )

    def _check(self, judge: str) -> None:
        own = self.thresholds.get(judge, ())
        if len(own) != len(GRADES) or not all(0.0 <= value < np.inf for value in own):
            raise ConfigError.of(
                f"cascade: thresholds of '{judge}'",
                got=", ".join(map(str, own)) or "none",
                expected=f"{len(GRADES)} finite numbers from 0, one a grade",
                fix=f"give all of them ({NEVER} = never believed alone), or let them be found",
            )

    @property
    def levels(self) -> Floats:
        """The thresholds as an array, (judges, 5)."""
        return np.array([self.thresholds[judge] for judge in self.judges], dtype=np.float64)

    @classmethod
    def of(cls, judges: Sequence[str], levels: Floats, ties: Ties = "confidence") -> Cascade:
        """A cascade from thresholds as an array, (judges, 5)."""
        rows = zip(judges, levels.tolist(), strict=True)
        return cls(tuple(judges), {judge: tuple(row) for judge, row in rows}, ties)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; floats come back exactly."""
        thresholds = {judge: list(self.thresholds[judge]) for judge in self.judges}
        return {"judges": list(self.judges), "thresholds": thresholds, "ties": self.ties}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Cascade:
        """Read back what `as_dict` wrote."""
        thresholds = {judge: tuple(row) for judge, row in raw["thresholds"].items()}
        return cls(tuple(raw["judges"]), thresholds, raw["ties"])


def first_sure(grades: Ints, confidence: Floats, levels: Floats) -> Ints:
    """Find the first judge that is sure of each pair.

    Args:
        grades: What each judge predicts, (judges, pairs); -1 where it gave no answer.
        confidence: How sure it is, (judges, pairs); NaN where it gave no answer.
        levels: Thresholds, (judges, 5).

    Returns:
        The judge's number, (pairs,); the number of judges where none is sure.
    """
    needed = np.take_along_axis(levels, np.maximum(grades, 0), axis=1)  # (judges, pairs)
    sure = confidence >= needed  # a NaN is never sure
    return np.where(sure.any(axis=0), sure.argmax(axis=0), len(levels))


def vote(grades: Ints, confidence: Floats, ties: Ties) -> Ints:
    """Take the grade that most of the judges that answered predict.

    Args:
        grades: What each judge predicts, (judges, pairs); -1 where it gave no answer.
        confidence: How sure it is, (judges, pairs); NaN where it gave no answer.
        ties: What settles a vote that is even.

    Returns:
        Grades, (pairs,); -1 where no judge answered.
    """
    chosen = grades[:, :, None] == np.array(GRADES)  # (judges, pairs, 5)
    votes = chosen.sum(axis=0)  # (pairs, 5)
    leading = (votes == votes.max(axis=1, keepdims=True)) & (votes > 0)
    if ties == "higher_grade":
        winner = len(GRADES) - 1 - leading[:, ::-1].argmax(axis=1)
    else:
        highest = np.where(chosen, confidence[:, :, None], -1.0).max(axis=0)  # (pairs, 5)
        winner = np.where(leading, highest, -1.0).argmax(axis=1)
    return np.where(leading.any(axis=1), winner, -1)


class Settling:
    """Settles pairs as the judges' answers come in.

    What a table says of a pair never depends on the answers of judges that a real cascade would
    not have asked about it, so a cascade is replayed by hearing every judge on every pair.
    """

    def __init__(self, cascade: Cascade, pairs: int) -> None:
        shape = (len(cascade.judges), pairs)
        self._cascade = cascade
        self._asked = np.zeros(shape, np.bool_)
        self._grades = np.full(shape, -1, np.int64)
        self._confidence = np.full(shape, np.nan)
        self._probabilities = np.full((*shape, len(GRADES)), np.nan, np.float32)

    def open(self, name: str) -> Ints:
        """Pairs that this judge was not asked about yet and that no judge is sure of, in order."""
        judge = self._cascade.judges.index(name)
        return np.flatnonzero((self._first() == len(self._asked)) & ~self._asked[judge])

    def hear(self, name: str, rows: Ints, calibrated: Calibrated) -> None:
        """Take a judge's answers.

        Args:
            name: The judge.
            rows: Which pairs it was asked about, (n,).
            calibrated: What it said of them; NaN where it gave no answer.
        """
        judge = self._cascade.judges.index(name)
        self._asked[judge, rows] = True
        self._grades[judge, rows] = calibrated.grades
        self._confidence[judge, rows] = calibrated.confidence
        self._probabilities[judge, rows] = calibrated.probabilities

    def table(self) -> pl.DataFrame:
        """Settle every pair by what was heard.

        Returns:
            A row for each pair, in order. All but `settled` are null where no judge answered.

            - grade (Int8).
            - confidence (Float32): of the judge that was sure; else the mean, over the judges that
              answered, of the probability that they give the grade.
            - judge: who settled it; "vote" if more than one judge had to.
            - settled: "accepted" (a judge was sure), "vote" (none was, and two or more answered),
              "unsure" (the only judge that answered was not sure), "unanswered".
            - probabilities (Array of five Float32): of the judge that was sure; else the mean over
              the judges that answered.
        """
        first, pairs = self._first(), np.arange(self._asked.shape[1])
        accepted = first < len(self._asked)
        answered = ~np.isnan(self._confidence)  # (judges, pairs)
        voters = answered.sum(axis=0)
        by_vote = ~accepted & (voters > 1)
        judge = np.where(accepted, first, answered.argmax(axis=0))  # who, unless by vote
        voted = vote(self._grades, self._confidence, self._cascade.ties)
        grade = np.where(accepted, self._grades[judge, pairs], voted)
        whole = self._mean()
        whole[accepted] = self._probabilities[first[accepted], pairs[accepted]]
        stated = np.take_along_axis(whole, np.maximum(grade, 0)[:, None], axis=1)[:, 0]
        confidence = np.where(accepted, self._confidence[judge, pairs], stated)
        names = np.array([*self._cascade.judges, VOTE])
        settled = np.select([accepted, by_vote, voters == 1], SETTLED[:3], SETTLED[3])
        table = pl.DataFrame(
            {
                "grade": grade.astype(np.int8),
                "confidence": confidence.astype(np.float32),
                "judge": names[np.where(by_vote, len(names) - 1, judge)].tolist(),
                "settled": settled.tolist(),
                "probabilities": pl.Series(whole.astype(np.float32), dtype=PROBABILITIES),
            },
            schema_overrides={"judge": pl.String, "settled": pl.String},
        )
        return table.with_columns(pl.when(pl.Series(voters > 0)).then(pl.all().exclude("settled")))

    def _first(self) -> Ints:
        return first_sure(self._grades, self._confidence, self._cascade.levels)

    def _mean(self) -> Floats:
        """The mean distribution of the judges that answered, (pairs, 5); NaN where none did."""
        answered = ~np.isnan(self._probabilities).any(axis=2, keepdims=True)
        total = np.where(answered, self._probabilities, 0.0).sum(axis=0, dtype=np.float64)
        count = answered.sum(axis=0)
        nothing = np.full(total.shape, np.nan)
        return np.asarray(np.divide(total, count, out=nothing, where=count > 0))
