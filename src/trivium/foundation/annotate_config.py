"""Settings of annotation: the judges, their calibration, the cascade and what it may cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from trivium.foundation.judge_config import CrossEncoderConfig, JudgeConfig, made_of
from trivium.foundation.sections import Count, Positive, Section, Share


def _five_or_none(values: list[float]) -> list[float]:
    if len(values) not in (0, 5):
        raise ValueError("five thresholds, or none for a judge without a say")
    return values


Thresholds = Annotated[list[Annotated[float, Field(ge=0.0)]], AfterValidator(_five_or_none)]


class AnnotateConfig(Section):
    """The judges, the cheapest first, and the cascade that they make."""

    judges: list[JudgeConfig] = Field(
        [CrossEncoderConfig()],
        min_length=1,
        description="[[annotate.judges]], in the order in which they are asked",
    )
    pairs_per_query: Positive = Field(150, description="candidates annotated for a query")
    budgets: dict[str, Count] = Field(
        {},
        description="most pairs of a query by level, by the channels that found them, or by both",
        examples=[{"token_similar": 30, "hard_negative/bm25": 20}],
    )
    pilot: Share = Field(
        0.0,
        description="share of the queries annotated evenly first, to learn what strata yield; "
        "0 = levels take turns throughout",
    )
    explore: Share = Field(
        0.1, description="share of every other query's pairs that is spread evenly all the same"
    )
    rank_bands: list[Positive] = Field(
        [10, 50, 100], min_length=1, description="last ranks of the bands that tell strata apart"
    )
    tfidf_bands: Positive = Field(
        4, description="bands of the TF-IDF cosine, for pairs that no channel found"
    )
    background: float = Field(
        0.5, ge=0.0, description="random pairs added as weak grade 0, per human grade in teaching"
    )
    deep: float = Field(
        0.5, ge=0.0, description="deep lexical candidates added as weak grade 1, per human grade"
    )
    calibration: Literal["none", "temperature", "platt", "isotonic", "one_vs_rest", "predicted"] = (
        Field("one_vs_rest", description="method; both of the last two are per-class isotonic")
    )
    min_calibration: Positive = Field(10, description="labels a class needs for its own curve")
    few_labels: Literal["fall_back", "refuse"] = Field(
        "fall_back", description="what to do with a class that has fewer"
    )
    thresholds: dict[str, Thresholds] = Field(
        {},
        description="confidence that each grade needs, by judge, [] for one without a say; found "
        "on labels when empty",
    )
    max_cost: float = Field(
        0.5,
        gt=0,
        description="without a target: most that labels may cost, as a share of asking the dearest "
        "judge about everything",
    )
    target_agreement: Share | None = Field(
        None,
        description="agreement with humans to hold; null = the best within max_cost",
        examples=[0.8],
    )
    guarantee: Literal["per_class", "accepted", "labelled"] = Field(
        "accepted",
        description="what holds the target: each grade of each judge, all labels that judges "
        "accepted together, or all labels, votes too",
    )
    bound: Literal["binomial", "betting"] = Field(
        "betting", description="independent are: the pairs (binomial), or the queries (betting)"
    )
    risk: float = Field(
        0.1, gt=0, lt=1, description="probability with which the guarantee may be broken"
    )
    ties: Literal["confidence", "higher_grade"] = Field(
        "confidence", description="what settles a vote that is even"
    )
    store: Path | None = Field(
        None,
        description="file of the label store; null = one inside the run's folder",
        examples=["labels.sqlite"],
    )
    max_budget: float | None = Field(
        None,
        gt=0,
        description="US dollars that a run may spend on judges; null = any sum",
        examples=[20.0],
    )

    @model_validator(mode="after")
    def _distinct(self) -> AnnotateConfig:
        names = [judge.name for judge in self.judges]
        if len(set(names)) < len(names):
            raise ValueError(f"judges with different names, not {', '.join(names)}")
        for at, judge in enumerate(self.judges):
            absent = set(made_of(judge)) - set(names[:at])
            if absent:
                raise ValueError(
                    f"a judge made of judges before it, not {', '.join(sorted(absent))}"
                )
        unknown = sorted(set(self.thresholds) - set(names))
        if unknown:
            raise ValueError(f"thresholds of judges that are named, not {', '.join(unknown)}")
        lacking = sorted(set(names) - set(self.thresholds))
        if self.thresholds and lacking:
            raise ValueError(f"thresholds of every judge or of none, {', '.join(lacking)} too")
        if self.thresholds and not any(self.thresholds.values()):
            raise ValueError("thresholds of at least one judge")
        return self
