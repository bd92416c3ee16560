"""Boosted trees for the odds that a grade is above each boundary.

In: rows of numbers, and grades to learn from. Out: log-odds of the four boundaries. scikit-learn
grows the trees; they are kept as plain arrays, so that a file of them is data, not code, the same
bytes for the same fit, and can be read whatever the version of scikit-learn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from trivium.foundation.tables import GRADES

BOUNDARIES = len(GRADES) - 1

# On unseen queries of shops for hardware and for general goods these did better than
# scikit-learn's own settings at each of six splits, by up to 0.03 of rank correlation.
_COLUMNS_A_SPLIT = 0.5
_L2 = 5.0


@dataclass(frozen=True)
class Forest:
    """Trees of all boundaries, one after the other.

    Attributes:
        baselines: Log-odds of each boundary before any tree, float64, (4,).
        firsts: Where each boundary's trees begin in `roots`, int64, (5,).
        roots: The first node of each tree, int64, (trees,).
        columns: The column that a node looks at, -1 for a leaf, int64, (nodes,).
        thresholds: The largest value that goes left, float64, (nodes,).
        lefts: The node on the left, int64, (nodes,).
        rights: The node on the right, int64, (nodes,).
        values: What a leaf adds to the log-odds, float64, (nodes,).
    """

    baselines: NDArray[np.float64]
    firsts: NDArray[np.int64]
    roots: NDArray[np.int64]
    columns: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    lefts: NDArray[np.int64]
    rights: NDArray[np.int64]
    values: NDArray[np.float64]

    @classmethod
    def fit(
        cls,
        features: NDArray[np.float32],
        grades: NDArray[np.int64],
        *,
        rounds: int,
        leaves: int,
        learning_rate: float,
        seed: int,
    ) -> Forest:
        """Learn each boundary by a binary classifier of the grades above it.

        A boundary that all grades lie on one side of has no trees, only the odds of that, half a
        grade being added to either side.

        Args:
            features: Finite numbers, (pairs, columns).
            grades: The grades, (pairs,).
            rounds: Trees of a boundary.
            leaves: Leaves of a tree.
            learning_rate: Shrinkage of each tree.
            seed: Of the columns that each split may look at.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier

        classifier = HistGradientBoostingClassifier(
            max_iter=rounds,
            max_leaf_nodes=leaves,
            learning_rate=learning_rate,
            max_features=_COLUMNS_A_SPLIT,
            l2_regularization=_L2,
            early_stopping=False,
            random_state=seed,
        )
        learned = [_boundary(classifier, features, grades > k) for k in range(BOUNDARIES)]
        trees = [nodes for _, some in learned for nodes in some]
        starts = np.cumsum([0, *map(len, trees)], dtype=np.int64)
        whole = np.concatenate([np.zeros(0, _NODE), *trees])
        shift = np.repeat(starts[:-1], np.diff(starts))
        return cls(
            baselines=np.array([baseline for baseline, _ in learned]),
            firsts=np.cumsum([0, *(len(some) for _, some in learned)], dtype=np.int64),
            roots=starts[:-1],
            columns=np.where(whole["leaf"], -1, whole["column"]),
            thresholds=whole["threshold"],
            lefts=whole["left"] + shift,
            rights=whole["right"] + shift,
            values=whole["value"],
        )

    def log_odds(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-odds that the grade is above 0, 1, 2 and 3, (pairs, 4)."""
        result: NDArray[np.float64] = _walk(features.astype(np.float64), *vars(self).values())
        return result

    def save(self, path: Path) -> None:
        """Write the arrays, the same bytes for the same trees."""
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Forest:
        """Read back what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**arrays)


_NODE = np.dtype(
    [
        ("leaf", np.bool_),
        ("column", np.int64),
        ("threshold", np.float64),
        ("left", np.int64),
        ("right", np.int64),
        ("value", np.float64),
    ]
)


def _boundary(
    classifier: Any, features: NDArray[np.float32], above: NDArray[np.bool_]
) -> tuple[float, list[NDArray[Any]]]:
    """Log-odds of a boundary before any tree, and the nodes of its trees."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    count = int(above.sum())
    if count in (0, len(above)):
        return float(np.log((count + 0.5) / (len(above) - count + 0.5))), []
    with threadpool_limits(1, user_api="openmp"):  # sums over threads would differ in the last bit
        classifier.fit(features, above)
    trees = [predictor.nodes for (predictor,) in classifier._predictors]
    return float(classifier._baseline_prediction.item()), [_nodes(nodes) for nodes in trees]


def _nodes(raw: NDArray[Any]) -> NDArray[Any]:
    theirs = ("is_leaf", "feature_idx", "num_threshold", "left", "right", "value")
    nodes = np.zeros(len(raw), _NODE)
    for name, their_name in zip(_NODE.names or (), theirs, strict=True):
        nodes[name] = raw[their_name]
    return nodes


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder that the cache could be written to
        return numba.njit(nogil=True)(function)


@_compile
def _walk(
    rows: Any,
    baselines: Any,
    firsts: Any,
    roots: Any,
    columns: Any,
    thresholds: Any,
    lefts: Any,
    rights: Any,
    values: Any,
) -> Any:
    result = np.empty((len(rows), len(baselines)))
    for i in range(len(rows)):
        for k in range(len(baselines)):
            total = baselines[k]
            for tree in range(firsts[k], firsts[k + 1]):
                node = roots[tree]
                while columns[node] >= 0:
                    left = rows[i, columns[node]] <= thresholds[node]
                    node = lefts[node] if left else rights[node]
                total += values[node]
            result[i, k] = total
    return result
