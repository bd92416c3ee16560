"""The cheapest judge: boosted trees over what can be seen in two texts side by side.

In: pairs of texts, and grades to learn from. Out: probabilities of the five grades, (pairs, 5).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trivium.adapters.judges import Answers, Judge
from trivium.adapters.judges.trees import Forest
from trivium.adapters.models import model_fingerprint
from trivium.adapters.tower_texts import Side
from trivium.adapters.towers import Tower, Vectors
from trivium.domain.pair_features import FEATURES, Vocabulary, pair_features
from trivium.foundation.errors import WorkspaceError
from trivium.foundation.judge_config import FeaturesConfig

_CHUNK = 4096
_KEPT_VECTORS = 1 << 16
_FLOOR = 1e-4
"""Lowest probability of a grade: no judge is that sure of anything."""
_SETTINGS, _TREES = "judge.json", "trees.npz"


class FeaturesJudge:
    """Four boundaries between the grades, each the trees' odds that a grade is above it.

    Attributes:
        forest: The trees.
        vocabulary: How common words are in the items' texts that it learned from.
        cosines: The tower whose cosine is the last feature; None without one.
    """

    def __init__(self, forest: Forest, vocabulary: Vocabulary, cosines: Cosines | None) -> None:
        self.forest = forest
        self.vocabulary = vocabulary
        self.cosines = cosines

    @classmethod
    def fit(
        cls,
        pairs: pl.DataFrame,
        grades: NDArray[np.int64],
        config: FeaturesConfig,
        *,
        seed: int,
        folder: Path,
        earlier: Mapping[str, Judge],
    ) -> Self:
        """Learn from graded pairs; takes seconds, so nothing is kept in the folder on the way.

        Args:
            pairs: Columns query_text and item_text.
            grades: Their grades, (pairs,); not all of the five need occur.
            config: Tower, trees, leaves and learning rate.
            seed: Seed of the trees.
            folder: Not used.
            earlier: Not used.

        Raises:
            DependencyError: If the tower cannot be loaded.
        """
        cosines = Cosines(config.model) if config.model else None
        vocabulary = Vocabulary.fit(pairs["item_text"])
        features = _features(pairs, vocabulary, cosines)
        forest = Forest.fit(
            features,
            grades,
            rounds=config.rounds,
            leaves=config.leaves,
            learning_rate=config.learning_rate,
            seed=seed,
        )
        return cls(forest, vocabulary, cosines)

    def answers(self, pairs: pl.DataFrame) -> Iterator[Answers]:
        """Grade pairs; what a pair gets does not depend on the pairs it comes with."""
        for begin in range(0, len(pairs), _CHUNK):
            some = pairs.slice(begin, _CHUNK)
            nothing = np.zeros(len(some), np.int32)
            features = _features(some, self.vocabulary, self.cosines)
            probabilities = graded(self.forest.log_odds(features))
            yield Answers(begin + np.arange(len(some)), probabilities, nothing, nothing)

    @property
    def parameters(self) -> int:
        """None: trees read no tokens."""
        return 0

    def tokens(self, pairs: pl.DataFrame) -> NDArray[np.int32]:
        """It reads no tokens that anyone charges for: zeros, (pairs,)."""
        return np.zeros(len(pairs), np.int32)

    def save(self, folder: Path) -> None:
        """Write the trees, and as JSON the words and what the features are made of."""
        settings = _made_of(self.cosines) | {"vocabulary": self.vocabulary.as_dict()}
        text = json.dumps(settings, ensure_ascii=False)
        (folder / _SETTINGS).write_text(text, encoding="utf-8")
        self.forest.save(folder / _TREES)

    @classmethod
    def load(cls, folder: Path, config: FeaturesConfig, earlier: Mapping[str, Judge]) -> Self:
        """Read back a judge that `save` wrote.

        Raises:
            WorkspaceError: If it was made with other features or another tower.
        """
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        cosines = Cosines(config.model) if config.model else None
        for name, here in _made_of(cosines).items():
            if settings[name] != here:
                raise WorkspaceError.of(
                    str(folder),
                    got="a judge that was trained otherwise",
                    expected=f"the same {name} as in its training",
                    fix="train the judge again",
                )
        vocabulary = Vocabulary.from_dict(settings["vocabulary"])
        return cls(Forest.load(folder / _TREES), vocabulary, cosines)


class Cosines:
    """Cosines of a tower's vectors of query and item, the vectors of late texts being kept.

    Args:
        model: The tower, as `resolve_model` takes it.
        kept: Most vectors that are kept from one call to the next.
    """

    def __init__(self, model: str, kept: int = _KEPT_VECTORS) -> None:
        self._model = model
        self._kept = kept
        self._vectors: dict[tuple[Side, str], Vectors] = {}  # the one asked for last comes last

    @cached_property
    def fingerprint(self) -> str:
        """Of the tower's files."""
        return model_fingerprint(self._model)

    @cached_property
    def tower(self) -> Tower:
        """The tower, loaded when a text is first met."""
        return Tower.load(self._model)

    def of(self, pairs: pl.DataFrame) -> NDArray[np.float32]:
        """Cosine of each pair, (pairs,).

        Args:
            pairs: Columns query_text and item_text.
        """
        left = self._look_up(pairs["query_text"].to_list(), "queries")  # (pairs, dimension)
        right = self._look_up(pairs["item_text"].to_list(), "items")
        cosines: NDArray[np.float32] = np.einsum("pd,pd->p", left, right)
        return cosines

    def _look_up(self, texts: list[str], side: Side) -> Vectors:
        """Vectors of texts, (texts, dimension), of which only those not kept are encoded."""
        keys = [(side, text) for text in texts]
        new = [key for key in dict.fromkeys(keys) if key not in self._vectors]
        if new:
            encoded = self.tower.encode([text for _, text in new], side)
            self._vectors |= zip(new, encoded, strict=True)
        found = {key: self._vectors.pop(key) for key in dict.fromkeys(keys)}
        self._vectors |= found
        for key in list(self._vectors)[: max(0, len(self._vectors) - self._kept)]:
            del self._vectors[key]
        return np.array([found[key] for key in keys])


def graded(log_odds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Probabilities of the grades from the log-odds of being above each boundary.

    Boundaries are learned apart, so one may seem likelier to be passed than a lower one; it is
    then held down to that. No grade gets less than `_FLOOR`.

    Args:
        log_odds: Of being above 0, 1, 2 and 3, (pairs, 4).

    Returns:
        Positive, rows summing to 1, (pairs, 5).
    """
    from scipy.special import expit

    above = np.minimum.accumulate(expit(log_odds), axis=1)  # (pairs, 4)
    ends = np.ones((len(above), 1)), np.zeros((len(above), 1))
    exact = -np.diff(np.hstack([ends[0], above, ends[1]]), axis=1)  # (pairs, 5)
    floored: NDArray[np.float64] = exact * (1 - exact.shape[1] * _FLOOR) + _FLOOR
    return floored.astype(np.float32)


def _features(
    pairs: pl.DataFrame, vocabulary: Vocabulary, cosines: Cosines | None
) -> NDArray[np.float32]:
    """Features of pairs, and the cosine of their vectors if there is a tower."""
    seen = pair_features(pairs, vocabulary)
    if cosines is None:
        return seen
    parts = [cosines.of(some) for some in pairs.iter_slices(_CHUNK)]
    return np.column_stack([seen, np.concatenate([np.zeros(0, np.float32), *parts])])


def _made_of(cosines: Cosines | None) -> dict[str, Any]:
    return {"features": list(FEATURES), "tower": cosines.fingerprint if cosines else ""}
