"""How often a guarantee is broken, by simulation of judges whose true accuracy is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trivium.domain.guarantee import Bound, Replies, certify_each, certify_path, common_path
from trivium.foundation.tables import GRADES

Floats = NDArray[np.float64]
Kind: TypeAlias = Literal["each", "accepted", "labelled"]

# Log-odds of being right on a pair of middling difficulty: accuracies of 0.73, 0.77 and 0.80.
_SKILL = np.array([1.2, 1.5, 1.8])
_SPREAD, _NOISE = 1.5, 0.5  # of the difficulty of pairs, and of what confidence does not see
_GRADES = np.array([0.10, 0.15, 0.10, 0.25, 0.40])
_POPULATION = 80_000


@dataclass(frozen=True)
class Kept:
    """How a guarantee fared over many draws of labels.

    Attributes:
        broken: Share of draws in which what was promised is not so.
        stated: The share that the guarantee allows.
        accepted: Mean share of all pairs that a certified judge settles.
        certified: Share of draws in which anything is certified.
    """

    broken: float
    stated: float
    accepted: float
    certified: float


def simulate_promises(
    *,
    kind: Kind = "accepted",
    bound: Bound = "betting",
    queries: int = 300,
    pairs: int = 8,
    clustering: float = 1.0,
    target: float = 0.85,
    delta: float = 0.1,
    replications: int = 200,
    seed: int = 0,
) -> Kept:
    """Certify cascades of three judges on labels drawn again and again, and see what they do.

    Args:
        kind: `each` grade of each judge, everything `accepted`, or everything `labelled`.
        bound: What is taken to be independent.
        queries: Queries in a draw.
        pairs: Graded pairs of each query.
        clustering: Standard deviation over queries of the log-odds of being right; 0 makes all
            pairs independent.
        target: Agreement promised.
        delta: Share of draws in which the promise may be broken.
        replications: Draws.
        seed: Decides the draws.
    """
    rng = np.random.default_rng(seed)
    everyone = _draw(rng, _POPULATION // pairs, pairs, clustering)
    broken, certified, accepted = np.zeros((3, replications))
    for draw in range(replications):
        labels = _draw(rng, queries, pairs, clustering)
        levels = _certify(labels, kind, bound, target, delta, seed=draw)
        if levels is None:
            continue
        lowest, share = _truth(everyone, levels, kind)
        broken[draw], certified[draw], accepted[draw] = lowest < target, share > 0, share
    return Kept(float(broken.mean()), delta, float(accepted.mean()), float(certified.mean()))


def _draw(rng: np.random.Generator, queries: int, pairs: int, clustering: float) -> Replies:
    n, judges = queries * pairs, len(_SKILL)
    query = np.repeat(np.arange(queries), pairs)
    ease = rng.normal(0.0, _SPREAD, n)
    unseen = clustering * rng.normal(size=queries)[query]
    skill = _SKILL[:, None]
    right = rng.random((judges, n)) < _sigmoid(skill + ease + unseen)  # (judges, pairs)
    confidence = _sigmoid(skill + ease + rng.normal(0.0, _NOISE, (judges, n)))
    human = rng.choice(len(GRADES), n, p=_GRADES)
    aside = np.where(rng.random((judges, n)) < 0.5, human - 1, human + 1)
    wrong = np.where(aside < 0, 1, np.where(aside > 4, 3, aside))
    return Replies(np.where(right, human, wrong), confidence, human, query)


def _certify(
    labels: Replies, kind: Kind, bound: Bound, target: float, delta: float, *, seed: int
) -> Floats | None:
    if kind == "each":
        return certify_each(labels, target=target, delta=delta, bound=bound, seed=seed)
    return certify_path(
        labels,
        common_path(labels.confidence),
        over=kind,
        ties="confidence",
        target=target,
        delta=delta,
        bound=bound,
        seed=seed,
    )


def _truth(everyone: Replies, levels: Floats, kind: Kind) -> tuple[float, float]:
    """The lowest true share of what was promised, and the share of pairs that are accepted."""
    grades, first = everyone.settle(levels, "confidence")
    accepted = first < len(levels)
    correct = grades == everyone.human
    if kind == "each":
        cell = first[accepted] * len(GRADES) + grades[accepted]
        count = np.bincount(cell, minlength=levels.size)
        right = np.bincount(cell, correct[accepted], minlength=levels.size)
        lowest = (right[count > 0] / count[count > 0]).min(initial=1.0)
    else:
        inside = correct if kind == "labelled" else correct[accepted]
        lowest = inside.mean() if len(inside) else 1.0
    return float(lowest), float(accepted.mean())


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))
