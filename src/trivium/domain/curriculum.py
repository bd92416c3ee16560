"""The curriculum as data: the named recipes, and which examples a stage of one takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trivium.domain.example_arrays import ExampleArrays, levels_in
from trivium.foundation.tables import RELEVANT
from trivium.foundation.train_config import StageConfig, TrainConfig

PUBLISHED = (
    StageConfig(
        name="easy",
        loss="bce",
        positives=["easy_positive"],
        negatives=["random_negative"],
        min_grade=4,
    ),
    StageConfig(name="hard", loss="mnr", positives=["hard_positive"], negatives=["hard_negative"]),
    StageConfig(
        name="fine",
        loss="triplet",
        positives=["easy_positive", "hard_positive"],
        negatives=["token_similar_negative"],
        margin=0.3,
    ),
)
"""BCE, then MNR, then triplet, as published (arXiv 2606.23911); steps and rates are ours."""

_BROAD = StageConfig(
    name="broad",
    loss="mnr",
    positives=["seed_positive", "easy_positive", "hard_positive"],
    negatives=["seed_negative", "hard_negative", "token_similar_negative"],
    min_p_relevant=0.8,
    min_p_irrelevant=0.8,
    human_share=0.85,
    steps=300,
    learning_rate=6e-5,
    schedule="constant",
)
_HARD = {"name": "hard", "columns": 2, "steps": 150, "schedule": "linear", "warmup": 0.0}
_FINE = {
    "name": "fine",
    "loss": "triplet",
    "margin": 0.1,
    "steps": 50,
    "learning_rate": 1e-5,
    "schedule": "linear",
}

DEFAULT = (_BROAD, _BROAD.model_copy(update=_HARD), _BROAD.model_copy(update=_FINE))
"""Progressive MNR: a judged negative beside the batch's, then two, then a short triplet stage.

The rate stays at its peak through the first stage and falls through the second: a rate that fell in
the first one too spent most of the rows at low rates. Human seed positives come first, as far as
their caps allow; the rest are machine positives that the judge is sure of, since judges are least
sure where channels disagree; the published recipe has only the latter. What was compared on
validation queries is in docs/training.md.
"""

RECIPES: dict[str, tuple[StageConfig, ...]] = {"default": DEFAULT, "published": PUBLISHED}


def stages_of(config: TrainConfig) -> list[StageConfig]:
    """The stages to train: the user's own list, else the named recipe's, with scaled steps."""
    stages: Sequence[StageConfig] = config.stages or RECIPES[config.recipe]
    return [
        stage.model_copy(
            update={
                "steps": max(1, round(stage.steps * config.scale)),
                "epochs": stage.epochs and stage.epochs * config.scale,
            }
        )
        for stage in stages
    ]


def takes_positive(examples: ExampleArrays, stage: StageConfig) -> NDArray[np.bool_]:
    """Which of some examples the stage takes as positives: (examples,).

    Human grades pass every floor of probability and confidence.
    """
    sure = _at_least(examples.p_relevant, stage.min_p_relevant)
    sure &= _at_least(examples.confidence, stage.min_confidence)
    graded = examples.grade >= stage.min_grade
    taken: NDArray[np.bool_] = (
        levels_in(examples, stage.positives) & graded & (examples.human | sure)
    )
    return taken


def takes_negative(examples: ExampleArrays, stage: StageConfig) -> NDArray[np.bool_]:
    """Which of some examples the stage takes as negatives: (examples,).

    Negatives that nobody graded, drawn at random, pass every floor.
    """
    sure = _at_least(examples.p_irrelevant, stage.min_p_irrelevant)
    sure &= _at_least(examples.confidence, stage.min_confidence)
    ungraded = examples.grade < 0
    taken: NDArray[np.bool_] = levels_in(examples, stage.negatives) & (
        examples.human | ungraded | sure
    )
    return taken


def is_relevant(examples: ExampleArrays) -> NDArray[np.bool_]:
    """Which of some examples must never serve as negatives: (examples,)."""
    relevant: NDArray[np.bool_] = examples.grade >= RELEVANT
    return relevant | _at_least(examples.p_relevant, _LIKELY)


_LIKELY = 0.5
"""P(grade >= 3) from which a pair is more likely relevant than not."""


def _at_least(values: NDArray[np.float32], floor: float) -> NDArray[np.bool_]:
    """Where values reach a floor; what is not known reaches 0 alone."""
    reached: NDArray[np.bool_] = np.nan_to_num(values) >= np.float32(floor)
    return reached
