"""Settings of training: the curriculum, and one stage of it declared as data."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from trivium.foundation.sections import Count, Positive, Section, Share
from trivium.foundation.tables import NEGATIVE_LEVELS, POSITIVE_LEVELS


class StageConfig(Section):
    """One stage of the curriculum, declared as data."""

    name: str = Field(description="of the stage, and of its folder")
    loss: Literal["bce", "mnr", "triplet"] = Field(description="bce, mnr or triplet")
    positives: list[str] = Field(min_length=1, description="levels that give positives")
    negatives: list[str] = Field([], description="levels that give negatives")
    min_grade: int = Field(3, ge=0, le=4, description="lowest grade of a positive")
    min_p_relevant: Share = Field(0.0, description="floor of P(grade >= 3) for machine positives")
    human_share: Share | None = Field(
        None, description="share of human positives, each used 4 times at most; null = as found"
    )
    steps: Positive = Field(200, description="steps before train.scale")
    batch: Positive = Field(64, description="rows in a step")
    learning_rate: float = Field(3e-5, gt=0, description="peak of the learning rate")
    warmup: Share = Field(0.1, description="share of the steps in which the rate rises")
    margin: float = Field(0.3, gt=0, description="of the triplet loss, on cosines")
    temperature: float = Field(20.0, gt=0, description="t of t * cos at the start")

    @model_validator(mode="after")
    def _usable(self) -> StageConfig:
        if not re.fullmatch(r"[\w-]+", self.name):
            raise ValueError(f"a name of letters, digits, '-' and '_', not {self.name!r}")
        for given, known in (
            (self.positives, POSITIVE_LEVELS),
            (self.negatives, NEGATIVE_LEVELS),
        ):
            unknown = [level for level in given if level not in known]
            if unknown:
                raise ValueError(f"levels among {', '.join(known)}, not {', '.join(unknown)}")
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
    scale: float = Field(1.0, gt=0, description="multiplies the steps of every stage")
    validations: Positive = Field(4, description="validations in each stage")
    validation_items: Count = Field(
        5000, description="items that validation ranks: the judged and random ones; 0 = all"
    )
    max_length: Positive = Field(64, description="tokens that a tower reads")
    bf16: bool = Field(True, description="bfloat16 matrix products, in training alone")

    @model_validator(mode="after")
    def _distinct(self) -> TrainConfig:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages with different names, not {', '.join(names)}")
        return self
