"""From what the judges said of held-out pairs to a cascade: calibrations, then thresholds.

In: answers of every judge about pairs that taught none of them. Out: a calibration for each judge,
from the part `calibration`, and the thresholds, from the part `tuning`. One judge without a target
needs no thresholds: both parts then calibrate it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.domain.calibration import Calibrated, Calibration
from trivium.domain.cascade import Cascade, Settling
from trivium.domain.confusion import codes
from trivium.domain.leaving_out import MadeOf, asked_first, costs_with, worth_asking
from trivium.domain.teaching import HUMAN, check_enough
from trivium.domain.tuning import Graded, Tuned, tune
from trivium.foundation.annotate_config import AnnotateConfig
from trivium.foundation.workspace import read_json, write_json

_FILE = "cascade.json"
_LEFT_OUT = " Without a say, since a cheaper judge agrees better: {}."


@dataclass(frozen=True)
class FittedCascade:
    """Judges that are calibrated, and when each is sure enough.

    Attributes:
        cascade: The judges in order and their thresholds.
        calibrations: A calibration for each judge.
        promise: What is promised of the accepted labels, in words.
        first: For each judge of the cascade those without a say that are asked just before it,
            since it is made of them.
    """

    cascade: Cascade
    calibrations: Mapping[str, Calibration]
    promise: str
    first: Mapping[str, tuple[str, ...]]

    def calibrated(self, answers: pl.DataFrame) -> dict[str, Calibrated]:
        """Calibrate columns p_<judge>, null where a judge gave no answer."""
        return _calibrated(self.calibrations, answers)

    def replay(self, answers: pl.DataFrame) -> pl.DataFrame:
        """Settle pairs of which every judge's answer is known; see `Settling.table`."""
        return self._settled(answers)[0].table()

    def asked(self, answers: pl.DataFrame) -> dict[str, float]:
        """Share of some pairs that each judge is asked about, 0 of those left out."""
        return dict.fromkeys(self.calibrations, 0.0) | self._settled(answers)[1]

    def _settled(self, answers: pl.DataFrame) -> tuple[Settling, dict[str, float]]:
        """The pairs as they are settled, and the share that each judge was asked about."""
        settling, said = Settling(self.cascade, len(answers)), self.calibrated(answers)
        shares = {}
        for name in self.cascade.judges:
            rows = settling.open(name)
            for judge in (*self.first[name], name):
                shares[judge] = len(rows) / max(len(answers), 1)
            settling.hear(name, rows, rows_of(said[name], rows))
        return settling, shares

    def costs(self, costs: Mapping[str, float]) -> dict[str, float]:
        """What each judge of the cascade costs for a pair, those asked for its sake included."""
        return costs_with(costs, self.first)

    def save(self, folder: Path) -> None:
        """Write everything into a folder."""
        fitted = {name: curve.as_dict() for name, curve in self.calibrations.items()}
        content = {"cascade": self.cascade.as_dict(), "calibrations": fitted}
        first = {name: list(judges) for name, judges in self.first.items()}
        write_json(folder / _FILE, {**content, "promise": self.promise, "first": first})

    @classmethod
    def load(cls, folder: Path) -> FittedCascade | None:
        """Read back what `save` wrote; nothing if it is not there."""
        content = read_json(folder / _FILE)
        if content is None:
            return None
        fitted, cascade = content["calibrations"], Cascade.from_dict(content["cascade"])
        first = content.get("first", {})  # runs begun before judges could be left out have none
        return cls(
            cascade,
            {name: Calibration.from_dict(plain) for name, plain in fitted.items()},
            content["promise"],
            {name: tuple(first.get(name, ())) for name in cascade.judges},
        )


def fit_cascade(
    answers: pl.DataFrame, config: AnnotateConfig, costs: Mapping[str, float], seed: int
) -> tuple[FittedCascade, Tuned]:
    """Calibrate the judges and find their thresholds.

    Args:
        answers: What the judges said of held-out pairs (`stages.judges.HeldOut`).
        config: Method of calibration, target and guarantee.
        costs: What each judge costs for a pair, in any one unit.
        seed: Seed of what is drawn by lot.

    Returns:
        The cascade, and how it was tuned.

    Raises:
        InputError: If a class has too few labels and `few_labels` is "refuse", or thresholds are
            to be found on too few judged queries.
    """
    alone, calibrating = is_alone(config), calibrating_pairs(answers, config)
    tuning = of_humans(answers, "calibration" if alone else "tuning")
    if not alone and not config.thresholds:
        check_enough(tuning, ("tuning",))
    calibrations = {
        judge.name: _calibration(calibrating, judge.name, config) for judge in config.judges
    }
    said = _calibrated(calibrations, tuning)
    kept, first = _with_a_say(calibrations, answers, config)
    tuned = tune(
        {name: said[name] for name in kept},
        grades_of(tuning),
        codes(tuning["query_id"]),
        costs_with(costs, first),
        thresholds=given_thresholds(config, alone=alone),
        target=config.target_agreement,
        mode="per_class" if config.guarantee == "per_class" else "overall",
        over="labelled" if config.guarantee == "labelled" else "accepted",
        bound=config.bound,
        delta=config.risk,
        ties=config.ties,
        max_cost=config.max_cost,
        dearest=max(costs.values()),
        path_data=_graded(calibrations, of_humans(answers, "calibration")),
        seed=seed,
    )
    promise = "" if alone else tuned.promise
    left_out = [name for name in said if name not in kept]
    if left_out and not config.thresholds:
        promise += _LEFT_OUT.format(", ".join(left_out))
    return FittedCascade(tuned.cascade, calibrations, promise, first), tuned


def _with_a_say(
    calibrations: Mapping[str, Calibration], answers: pl.DataFrame, config: AnnotateConfig
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The judges that settle and vote, and for each those that are asked for its sake alone."""
    parts = made_of(config)
    kept = list(parts)
    if config.thresholds:
        kept = [name for name in parts if config.thresholds[name]]
    elif config.target_agreement is None and not is_alone(config):
        both = pl.concat([of_humans(answers, part) for part in ("calibration", "tuning")])
        kept = worth_asking(*_graded(calibrations, both))
    return kept, asked_first(list(parts), kept, parts)


def made_of(config: AnnotateConfig) -> MadeOf:
    """The earlier judges that each judge is made of, by name, in the order of asking."""
    return {judge.name: getattr(judge, "of", ()) for judge in config.judges}


def is_alone(config: AnnotateConfig) -> bool:
    """Whether one judge settles everything, so that no thresholds are needed."""
    return len(config.judges) == 1 and config.target_agreement is None and not config.thresholds


def calibrating_pairs(answers: pl.DataFrame, config: AnnotateConfig) -> pl.DataFrame:
    """The held-out pairs that calibrate; without thresholds to find, those of tuning too."""
    parts = ["calibration", "tuning"] if is_alone(config) else ["calibration"]
    return answers.filter(pl.col("part").is_in(parts))


def of_humans(answers: pl.DataFrame, part: str) -> pl.DataFrame:
    """The pairs of a part that humans graded."""
    return answers.filter((pl.col("part") == part) & (pl.col("source") == HUMAN))


def raw_of(answers: pl.DataFrame, judge: str) -> NDArray[np.float64]:
    """A judge's probabilities, (pairs, 5), NaN where it gave no answer."""
    column = answers[f"p_{judge}"]
    nothing = pl.lit([float("nan")] * 5, dtype=column.dtype)
    filled = answers.select(pl.col(f"p_{judge}").fill_null(nothing)).to_series()
    return filled.to_numpy().astype(np.float64).reshape(len(answers), 5)


def rows_of(said: Calibrated, rows: NDArray[np.int64]) -> Calibrated:
    """Some rows of what a judge says."""
    return Calibrated(said.probabilities[rows], said.grades[rows], said.confidence[rows])


def grades_of(pairs: pl.DataFrame) -> NDArray[np.int64]:
    """Human grades, (pairs,)."""
    return pairs["grade"].cast(pl.Int64).to_numpy()


def given_thresholds(config: AnnotateConfig, *, alone: bool) -> dict[str, tuple[float, ...]] | None:
    """The thresholds that the configuration gives; None where they are to be found."""
    if alone:
        return {config.judges[0].name: (0.0,) * 5}
    if not config.thresholds:
        return None
    return {name: tuple(values) for name, values in config.thresholds.items() if values}


def _calibration(pairs: pl.DataFrame, judge: str, config: AnnotateConfig) -> Calibration:
    return Calibration.fit(
        config.calibration,
        raw_of(pairs, judge),
        grades_of(pairs),
        min_count=config.min_calibration,
        few=config.few_labels,
        query_ids=pairs["query_id"],
    )


def _calibrated(
    calibrations: Mapping[str, Calibration], answers: pl.DataFrame
) -> dict[str, Calibrated]:
    return {name: curve.apply(raw_of(answers, name)) for name, curve in calibrations.items()}


def _graded(calibrations: Mapping[str, Calibration], pairs: pl.DataFrame) -> Graded:
    return _calibrated(calibrations, pairs), grades_of(pairs), codes(pairs["query_id"])
