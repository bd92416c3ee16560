"""Settings of the examples: the rules of the levels, and the figures that they name."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from trivium.foundation.sections import Count, Positive, Section, Share


class RulesConfig(Section):
    """Which pairs a level can use, whatever their grade; `false` switches a level off."""

    easy_positive: str = Field("found = channels", description="as published; see levels.md")
    hard_positive: str = Field(
        "best_lexical <= hard_positive_depth AND dense = 0", description="as published"
    )
    hard_negative: str = Field(
        "found = 1 AND best <= hard_negative_depth", description="as published"
    )
    token_similar: str = Field(
        "(found = 0 OR best > retrieved_depth) AND tfidf BETWEEN tfidf_low AND tfidf_high",
        description="as published, where retrieved_depth is that of the channels",
    )


PUBLISHED_DEPTH, SHALLOWEST, ITEMS_A_RANK = 500, 50, 1000
"""How deep a rank counts as retrieved: published for a catalog of millions; at least; and a rank
more for every thousand items. The last two are ours: 500 ranks of 54,667 items left 75% of the
queries of Home Depot without a token-similar pair."""


class ExamplesConfig(Section):
    """The five levels of difficulty, as published."""

    by: Literal["probability", "grade"] = Field(
        "probability",
        description="probability: a level takes what is likely enough; grade: the hard label",
    )
    min_p_relevant: Share = Field(
        0.5, description="by probability: lowest P(grade >= 3) of a positive"
    )
    min_p_irrelevant: Share = Field(
        0.5, description="by probability: lowest P(grade <= 1) of a negative"
    )
    keep_bad_levels: bool = Field(
        False, description="keep a level that human grades show to be worse than chance"
    )
    hard_positive_depth: Positive = Field(50, description="deepest lexical rank of a hard positive")
    hard_negative_depth: Positive = Field(100, description="deepest rank of a hard negative")
    tfidf_low: Share = Field(0.2, description="lowest TF-IDF cosine of a token-similar negative")
    tfidf_high: Share = Field(0.6, description="highest TF-IDF cosine of one")
    retrieved_depth: Positive | None = Field(
        None,
        description="deepest rank that counts as retrieved; null = 50 to 500, by catalog size",
        examples=[500],
    )
    rules: RulesConfig = RulesConfig()
    max_positives: Positive = Field(50, description="positives kept for a query")
    max_negatives: Positive = Field(50, description="negatives kept for a query")
    random_negatives: Count = Field(10, description="easy negatives drawn for a query")

    @model_validator(mode="after")
    def _band(self) -> ExamplesConfig:
        if self.tfidf_low > self.tfidf_high:
            raise ValueError(f"tfidf_low <= tfidf_high, not {self.tfidf_low} > {self.tfidf_high}")
        return self

    def for_catalog(self, items: int) -> ExamplesConfig:
        """The same with the depth of what counts as retrieved, for a catalog of some items.

        Example:
            >>> [ExamplesConfig().for_catalog(n).retrieved_depth for n in (900, 54_667, 10**7)]
            [50, 54, 500]
        """
        if self.retrieved_depth is not None:
            return self
        depth = min(PUBLISHED_DEPTH, max(SHALLOWEST, items // ITEMS_A_RANK))
        return self.model_copy(update={"retrieved_depth": depth})
