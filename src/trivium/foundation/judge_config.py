"""Settings of the judges: `[[annotate.judges]]`, one entry a judge, the cheapest first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import ConfigDict, Discriminator, Field, Tag

from trivium.foundation.sections import NamedSection, NonNegative, Positive, Share, tag_by_kind

PRICE_FIELDS = ("usd_per_million_tokens", "usd_per_million_written", "usd_per_hour")
UNDECIDING = {
    *PRICE_FIELDS,
    *("api_key_variable", "concurrency", "requests_per_minute", "timeout_s", "attempts"),
}
"""Settings of a judge that decide what it costs and how it is asked, not what it answers."""


class JudgeSection(NamedSection):
    """What every judge has."""

    taken: ClassVar = ("vote", "cascade")  # the labels that no single judge gave

    kind: str = Field(description="an entry point of the group trivium.judges")
    name: str = Field("", description="of its column p_<name>; its kind when empty")
    usd_per_million_tokens: NonNegative = Field(0.0, description="price of what it reads")
    usd_per_million_written: NonNegative = Field(0.0, description="price of what it writes")
    usd_per_hour: NonNegative = Field(0.0, description="price of the machine that it runs on")


class FeaturesConfig(JudgeSection):
    """Gradient-boosted trees over words, numbers, units and embeddings of a pair."""

    kind: Literal["features"] = Field("features", description="of judge")
    model: str | None = Field(
        None, description="tower whose cosine is a feature; null = mine.model, '' = none"
    )
    rounds: Positive = Field(200, description="trees of each of the four boundaries")
    leaves: Positive = Field(15, description="leaves of a tree")
    learning_rate: float = Field(0.05, gt=0, description="shrinkage of each tree")


class CrossEncoderConfig(JudgeSection):
    """An encoder that reads query and item together, with one class a grade."""

    kind: Literal["cross_encoder"] = Field("cross_encoder", description="of judge")
    model: str = Field("microsoft/deberta-v3-base", description="its body; named as mine.model is")
    start: str | None = Field(
        None,
        description="earlier judge of this kind to start from, and to learn on from the catalog's "
        "own pairs alone; null = from the body, and all pairs",
    )
    loss: Literal["rps", "weighted", "cross_entropy"] = Field(
        "rps",
        description="cross-entropy with the ranked probability score; weighted by rarity of the "
        "grade; or plain",
    )
    epochs: float = Field(3.0, gt=0, description="passes over the seed's grades")
    batch: Positive = Field(32, description="pairs in a step of training")
    learning_rate: float = Field(5e-5, gt=0, description="peak of the learning rate")
    warmup: Share = Field(0.1, description="share of the steps in which the rate rises")
    max_length: Positive = Field(96, description="tokens of a pair that are read")


class LoraLlmConfig(JudgeSection):
    """A decoder with a classification head and low-rank adapters, reading a filled prompt."""

    kind: Literal["lora_llm"] = Field("lora_llm", description="of judge")
    model: str = Field("google/gemma-2b", description="named as mine.model is, or a GGUF file")
    prompt: Path | None = Field(
        None, description="template with {query} and {item}; the packaged one when null"
    )
    load: Literal["auto", "fp32", "bf16", "int8"] = Field(
        "auto", description="number type of the frozen weights; auto = bf16 where it is fast"
    )
    rank: Positive = Field(16, description="of the adapters")
    alpha: float = Field(32.0, gt=0, description="their scale is alpha / rank")
    targets: list[str] | Literal["all-linear"] = Field(
        "all-linear", description="layers that get adapters"
    )
    pairs: Positive | None = Field(None, description="most pairs to learn from; null = all")
    loss: Literal["rps", "weighted", "cross_entropy"] = Field("rps", description="as above")
    epochs: float = Field(1.0, gt=0, description="passes over the pairs")
    batch: Positive = Field(16, description="pairs in a step of training")
    learning_rate: float = Field(2e-4, gt=0, description="peak of the learning rate")
    warmup: Share = Field(0.1, description="share of the steps in which the rate rises")
    max_length: Positive = Field(128, description="tokens of the prompt that are read")


class ChatConfig(JudgeSection):
    """A model behind an OpenAI-compatible endpoint, asked with a prompt, never trained."""

    kind: Literal["chat"] = Field("chat", description="of judge")
    url: str = Field("http://localhost:8000/v1", description="base address of the endpoint")
    model: str = Field(description="the endpoint's name of the model")
    prompt: Path | None = Field(
        None, description="template with {query} and {item}; the packaged one when null"
    )
    api_key_variable: str = Field(
        "OPENAI_API_KEY", description="environment variable that holds the key"
    )
    answer: Literal["auto", "logprobs", "json"] = Field(
        "auto", description="grade from token log-probabilities, from JSON, or whichever is there"
    )
    concurrency: Positive = Field(8, description="requests in flight")
    requests_per_minute: Positive | None = Field(None, description="limit on the rate; null = none")
    timeout_s: float = Field(60.0, gt=0, description="seconds to wait for an answer")
    attempts: Positive = Field(5, description="times that a pair is asked before it is given up")
    max_tokens: Positive = Field(32, description="tokens that an answer may have")


class StackedConfig(JudgeSection):
    """A judge made of earlier ones: it learns how to weigh what they say."""

    kind: Literal["stacked"] = Field("stacked", description="of judge")
    of: list[str] = Field(min_length=2, description="names of earlier judges")
    pairs: Positive = Field(
        2000, description="most pairs to learn from; each of the earlier judges is asked about them"
    )


class PluginConfig(JudgeSection):
    """A judge of another package, with whatever settings it takes."""

    model_config = ConfigDict(extra="allow", frozen=True)


BUILT_IN: Mapping[str, type[JudgeSection]] = {
    "features": FeaturesConfig,
    "cross_encoder": CrossEncoderConfig,
    "lora_llm": LoraLlmConfig,
    "chat": ChatConfig,
    "stacked": StackedConfig,
}


def judge_section(kind: str) -> type[JudgeSection]:
    """The settings of a kind of judge."""
    return BUILT_IN.get(kind, PluginConfig)


JudgeConfig: TypeAlias = Annotated[
    Annotated[FeaturesConfig, Tag("features")]
    | Annotated[CrossEncoderConfig, Tag("cross_encoder")]
    | Annotated[LoraLlmConfig, Tag("lora_llm")]
    | Annotated[ChatConfig, Tag("chat")]
    | Annotated[StackedConfig, Tag("stacked")]
    | Annotated[PluginConfig, Tag("plugin")],
    Discriminator(tag_by_kind(BUILT_IN)),
]


def made_of(judge: Any) -> list[str]:
    """Names of the earlier judges that a judge is made of or starts from."""
    start = getattr(judge, "start", None)
    return [*getattr(judge, "of", ()), *([start] if start else [])]
