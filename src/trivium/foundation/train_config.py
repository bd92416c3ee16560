"""Settings of training: the curriculum, and one stage of it declared as data."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from trivium.foundation.sections import Count, Positive, Section, Share
from trivium.foundation.tables import LEVELS, NEGATIVE_LEVELS, POSITIVE_LEVELS
from trivium.foundation.tower_config import TowerConfig

_STARTS = ("best", "start")
GRADED_LOSSES = ("circle", "kl")
"""The losses that read the grades of a row's items."""


class StageConfig(Section):
    """One stage of the curriculum, declared as data."""

    name: str = Field(description="of the stage, and of its folder")
    loss: Literal["bce", "mnr", "triplet", "circle", "kl"] = Field(
        description="bce, mnr, triplet; circle: margins by grade; kl: to the judge's grades"
    )
    positives: list[str] = Field(min_length=1, description="levels that give positives")
    negatives: list[str] = Field(
        [], description="levels that give negatives; for circle and kl any, as they compare grades"
    )
    columns: Positive = Field(1, description="negatives beside each positive, of its own query")
    min_grade: int = Field(0, ge=0, le=4, description="lowest grade of a positive")
    min_p_relevant: Share = Field(0.0, description="floor of P(grade >= 3) for machine positives")
    min_p_irrelevant: Share = Field(0.0, description="floor of P(grade <= 1) for negatives of one")
    min_confidence: Share = Field(0.0, description="floor of P(its grade) for machine labels")
    human_share: Share | None = Field(
        None,
        description="share of human positives, each used 4 times at most, their queries 4 times as "
        "often as others at most; null = as found",
    )
    steps: Positive = Field(200, description="steps before train.scale")
    epochs: float | None = Field(
        None, gt=0, description="passes over the positives, in place of steps", examples=[1.0]
    )
    batch: Positive = Field(64, description="rows in a step")
    cached: bool = Field(
        False, description="compute activations twice, so that memory holds those of few texts"
    )
    learning_rate: float = Field(3e-5, gt=0, description="peak of the learning rate")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        "linear", description="how the rate falls after its peak"
    )
    warmup: Share = Field(0.1, description="share of the steps in which the rate rises")
    margin: float = Field(0.3, gt=0, description="of triplet and circle, on cosines")
    temperature: float = Field(20.0, gt=0, description="t of t * cos, for bce at the start")
    bias: bool = Field(False, description="bce: learn b of t * cos + b, from -t / 2")
    start: str = Field(
        "best", description="best: what the stage before chose; start; or the name of a stage"
    )

    @model_validator(mode="after")
    def _usable(self) -> StageConfig:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(f"a name of letters, digits, '-' and '_', not {self.name!r}")
        beside = LEVELS if self.loss in GRADED_LOSSES else NEGATIVE_LEVELS
        for given, known in ((self.positives, POSITIVE_LEVELS), (self.negatives, beside)):
            unknown = [level for level in given if level not in known]
            if unknown:
                raise ValueError(f"levels among {', '.join(known)}, not {', '.join(unknown)}")
        if self.name in _STARTS:
            raise ValueError(f"a name other than {' and '.join(_STARTS)}")
        if self.loss != "mnr" and not self.negatives:
            raise ValueError(f"some level of negatives, which the loss '{self.loss}' needs")
        return self


class TrainConfig(Section):
    """The curriculum: a named recipe, or a list of stages of one's own."""

    recipe: Literal["default", "published"] = Field(
        "default", description="default: progressive MNR; published: BCE, MNR, triplet"
    )
    stages: list[StageConfig] = Field([], description="[[train.stages]]; replaces the recipe")
    model: str | None = Field(
        None, description="starting tower; null = the dense channel's", examples=["models/tower"]
    )
    tower: TowerConfig = TowerConfig()
    scale: float = Field(1.0, gt=0, description="multiplies the steps of every stage")
    validations: Positive = Field(4, description="validations in each stage")
    validation_items: Count = Field(
        5000,
        description="items that validation ranks: the judged, the first ones of the starting "
        "tower, and random ones; 0 = all",
    )
    patience: Count = Field(
        2, description="end a stage when so many validations found nothing better; 0 = never"
    )
    processes: Positive = Field(1, description="processes that share every batch, through torchrun")
    report_to: list[str] = Field(
        [], description="trackers that the trainer knows", examples=[["tensorboard"]]
    )
    max_length: Positive = Field(64, description="tokens that a tower reads")
    bf16: bool | None = Field(
        None,
        description="bfloat16 matrix products in training; null = where the hardware has them",
        examples=[True],
    )

    @model_validator(mode="after")
    def _distinct(self) -> TrainConfig:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages with different names, not {', '.join(names)}")
        for at, stage in enumerate(self.stages):
            if stage.start not in (*_STARTS, *names[:at]):
                raise ValueError(f"a start among {', '.join((*_STARTS, *names[:at]))}")
        return self
