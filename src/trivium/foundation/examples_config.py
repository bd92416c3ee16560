"""Settings of the examples: the rules of the levels, and the figures that they name."""

from __future__ import annotations

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
        "found = 0 AND tfidf BETWEEN tfidf_low AND tfidf_high", description="as published"
    )


class ExamplesConfig(Section):
    """The five levels of difficulty, as published."""

    hard_positive_depth: Positive = Field(50, description="deepest lexical rank of a hard positive")
    hard_negative_depth: Positive = Field(100, description="deepest rank of a hard negative")
    tfidf_low: Share = Field(0.2, description="lowest TF-IDF cosine of a token-similar negative")
    tfidf_high: Share = Field(0.6, description="highest TF-IDF cosine of one")
    rules: RulesConfig = RulesConfig()
    min_p_relevant: Share = Field(0.0, description="floor of P(grade >= 3) for a positive")
    min_p_irrelevant: Share = Field(0.0, description="floor of P(grade <= 1) for a negative")
    max_positives: Positive = Field(50, description="positives kept for a query")
    max_negatives: Positive = Field(50, description="negatives kept for a query")
    random_negatives: Count = Field(10, description="easy negatives drawn for a query")

    @model_validator(mode="after")
    def _band(self) -> ExamplesConfig:
        if self.tfidf_low > self.tfidf_high:
            raise ValueError(f"tfidf_low <= tfidf_high, not {self.tfidf_low} > {self.tfidf_high}")
        return self
