"""A judge made of earlier ones: it weighs what they say.

In: what earlier judges answer on pairs that they did not learn from, and grades. Out: probabilities
of the five grades, (pairs, 5).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.judges import Answers, Judge, collect
from trivium.foundation.errors import InputError
from trivium.foundation.judge_config import StackedConfig
from trivium.foundation.tables import GRADES

Floats = NDArray[np.float64]

_CHUNK = 1024
_FLOOR = 1e-4
_STRENGTHS = (0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Weights of the log loss against the penalty to choose from, the most regular first."""
_POOL = 0.75
"""Share of the mean of the judges' log-probabilities at which the regression starts, and from which
it is penalised for moving. Not all of it, since judges are surer than they should be of pairs that
they did not learn from. bench/stacking.py compares: with 8 to 40 queries to learn from, 3/4 agrees
better on others than nothing does, by every measure; with 8, all of it has a higher kappa still."""
_FOLDS = 5
_WEIGHTS = "weights.json"


class StackedJudge:
    """Multinomial logistic regression on earlier judges' log-probabilities and expected grades.

    With few pairs to learn from it stays near the judges' mean log-probabilities, and leaves them
    as far as more pairs give reason to.

    Attributes:
        judges: The earlier judges, in the order of the weights.
        weights: Of each grade and number, (5, 6 x judges).
        biases: Of each grade, (5,); minus infinity for a grade that was never seen.
    """

    def __init__(self, judges: Sequence[Judge], weights: Floats, biases: Floats) -> None:
        self.judges = tuple(judges)
        self.weights = weights
        self.biases = biases

    @classmethod
    def fit(
        cls,
        pairs: pl.DataFrame,
        grades: NDArray[np.int64],
        config: StackedConfig,
        *,
        seed: int,
        folder: Path,
        earlier: Mapping[str, Judge],
    ) -> Self:
        """Learn how to weigh the judges, as freely as does best on queries left out.

        Args:
            pairs: Columns query_text and item_text; none that the earlier judges learned from, on
                which they are surer than they should be.
            grades: Their grades, (pairs,).
            config: Names of the judges.
            seed: Not used: there is one solution.
            folder: Not used.
            earlier: The judges before it in the list, by name.

        Raises:
            InputError: If there is no pair that all of them answered.
        """
        judges = [earlier[name] for name in config.of]
        numbers = _numbers(judges, pairs)
        answered = ~np.isnan(numbers).any(axis=1)
        if not answered.any():
            raise InputError.of(
                f"judge '{config.name}'",
                got=f"no answer of {', '.join(config.of)} to any of {len(pairs)} pairs in common",
                expected="pairs that all of them answered",
                fix="mend the judge that does not answer, or leave it out of `of`",
            )
        queries = pairs["query_text"].rank("dense").to_numpy()[answered]
        numbers, grades = numbers[answered], grades[answered]
        strength = _strength(numbers, grades, queries)
        return cls(judges, *_regression(numbers, grades, strength))

    def answers(self, pairs: pl.DataFrame) -> Iterator[Answers]:
        """Grade pairs; one that a judge did not answer gets NaN.

        What the earlier judges read is theirs to count: it is 0 here.
        """
        for begin in range(0, len(pairs), _CHUNK):
            some = pairs.slice(begin, _CHUNK)
            nothing = np.zeros(len(some), np.int32)
            exact = _weigh(_numbers(self.judges, some), self.weights, self.biases)
            rows = begin + np.arange(len(some))
            yield Answers(rows, exact.astype(np.float32), nothing, nothing)

    @property
    def parameters(self) -> int:
        """None of its own: the judges that it weighs are counted themselves."""
        return 0

    def tokens(self, pairs: pl.DataFrame) -> NDArray[np.int32]:
        """Tokens that the judges would read for each pair, together; int32, (pairs,)."""
        each = [judge.tokens(pairs) for judge in self.judges]
        total: NDArray[np.int32] = np.sum(each, axis=0, dtype=np.int32)
        return total

    def save(self, folder: Path) -> None:
        """Write the weights as JSON."""
        seen = np.isfinite(self.biases)
        raw = {
            "grades": np.flatnonzero(seen).tolist(),
            "weights": self.weights[seen].tolist(),
            "biases": self.biases[seen].tolist(),
        }
        (folder / _WEIGHTS).write_text(json.dumps(raw), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, config: StackedConfig, earlier: Mapping[str, Judge]) -> Self:
        """Read back a judge that `save` wrote."""
        raw = json.loads((folder / _WEIGHTS).read_text(encoding="utf-8"))
        judges = [earlier[name] for name in config.of]
        return cls(
            judges, *_whole(raw["grades"], np.array(raw["weights"]), np.array(raw["biases"]))
        )


def _weigh(numbers: Floats, weights: Floats, biases: Floats) -> Floats:
    """Probabilities of the grades, each at least `_FLOOR`, (pairs, 5)."""
    from scipy.special import softmax

    # A sum over each row, not a matrix product, whose rounding depends on the number of rows.
    products = (numbers[:, None, :] * weights).sum(axis=2)  # (pairs, 5)
    exact: Floats = softmax(products + biases, axis=1)
    return exact * (1 - len(GRADES) * _FLOOR) + _FLOOR


def _numbers(judges: Sequence[Judge], pairs: pl.DataFrame) -> Floats:
    """What judges say of pairs, as numbers of the regression, NaN if not there."""
    return numbers_of([collect(judge, pairs).probabilities for judge in judges])


def numbers_of(said: Sequence[NDArray[np.float32]]) -> Floats:
    """Log-probabilities and expected grade of each judge's (pairs, 5): (pairs, 6 x judges)."""
    columns = []
    for each in said:
        probabilities = each.astype(np.float64)
        expected = (probabilities * GRADES).sum(axis=1, keepdims=True)
        columns += [np.log(np.maximum(probabilities, _FLOOR)), expected]
    return np.hstack(columns)


def _strength(numbers: Floats, grades: NDArray[np.int64], queries: NDArray[Any]) -> float:
    """The C of least log loss on queries left out in turn; the most regular of equals."""
    from sklearn.model_selection import GroupKFold

    folds = min(_FOLDS, len(np.unique(queries)))
    if folds == 1:
        return _STRENGTHS[0]
    losses = np.zeros(len(_STRENGTHS))
    for taught, asked in GroupKFold(folds).split(numbers, groups=queries):
        for at, strength in enumerate(_STRENGTHS):
            fitted = _regression(numbers[taught], grades[taught], strength)
            probabilities = _weigh(numbers[asked], *fitted)
            losses[at] -= np.log(probabilities[np.arange(len(asked)), grades[asked]]).sum()
    return _STRENGTHS[int(losses.argmin())]


def _regression(
    numbers: Floats, grades: NDArray[np.int64], strength: float
) -> tuple[Floats, Floats]:
    """Fit on numbers of mean 0 and spread 1, and write the weights for the numbers as they are.

    Least is strength * log loss + half the squared distance of the weights from the pool's.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    seen = np.unique(grades)
    count, hit = len(seen), grades[:, None] == seen
    mean, spread = numbers.mean(axis=0), numbers.std(axis=0)
    spread[spread == 0] = 1.0
    scaled = (numbers - mean) / spread
    pool = _pool(numbers.shape[1])[seen]  # (seen, numbers)
    pooled = numbers @ pool.T  # (pairs, seen)

    def loss(flat: Floats) -> tuple[float, Floats]:
        moved, biases = flat[:-count].reshape(count, -1), flat[-count:]
        logs = log_softmax(pooled + scaled @ moved.T + biases, axis=1)
        wrong = strength * (np.exp(logs) - hit)
        slope = np.append(wrong.T @ scaled + moved, wrong.sum(axis=0))
        return float((moved**2).sum() / 2 - strength * logs[hit].sum()), slope

    nothing = np.zeros(count * (numbers.shape[1] + 1))
    found = minimize(loss, nothing, jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
    moved = found[:-count].reshape(count, -1) / spread
    return _whole(seen, pool + moved, found[-count:] - (moved * mean).sum(axis=1))


def _pool(numbers: int) -> Floats:
    """Weights that give `_POOL` of the mean log-probability of each grade: (5, numbers)."""
    own = np.eye(len(GRADES), len(GRADES) + 1)  # the last number is the expected grade
    judges = numbers // own.shape[1]
    return np.tile(own, judges) * _POOL / judges


def _whole(
    seen: Sequence[int] | NDArray[np.int64], weights: Floats, biases: Floats
) -> tuple[Floats, Floats]:
    """Weights and biases of all five grades from those of the grades that were seen."""
    every, offsets = np.zeros((len(GRADES), weights.shape[1])), np.full(len(GRADES), -np.inf)
    every[seen], offsets[seen] = weights, biases
    return every, offsets
