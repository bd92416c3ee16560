"""What each stage reads: the settings, files, models and earlier stages that decide its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from trivium.adapters.channels.run_blocks import matching_files
from trivium.adapters.models import model_fingerprint
from trivium.foundation.channel_config import BUILT_IN_CHANNELS, CHANNEL_UNDECIDING
from trivium.foundation.config import Config
from trivium.foundation.errors import DependencyError
from trivium.foundation.judge_config import BUILT_IN, UNDECIDING
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.workspace import Plan, fingerprint

STAGES = ("inputs", "mine", "judges", "annotate", "examples", "train", "evaluate", "report")


@dataclass(frozen=True)
class StageReads:
    """What a stage reads.

    Attributes:
        settings: Dotted names of sections or single settings.
        files: Settings of `[data]` whose files it reads.
        models: Settings that name models.
        upstream: Stages whose tables it reads.
    """

    settings: Sequence[str]
    files: Sequence[str] = ()
    models: Sequence[str] = ()
    upstream: Sequence[str] = ()


_TEXTS = ("columns", "query_text", "item_text", "judge_query_text", "judge_item_text")
_ABSENT = "absent"
_BAND = ("examples.tfidf_low", "examples.tfidf_high")
_ROLES = ("mine.lexical", "mine.dense")
_MINE = tuple(f"mine.{name}" for name in MineConfig.model_fields)
_DEPTHS = ("examples.hard_positive_depth", "examples.hard_negative_depth")
_LEARNING = (
    *("examples.by", "examples.min_p_relevant", "examples.min_p_irrelevant"),
    *("examples.max_positives", "examples.max_negatives", "examples.random_negatives"),
)
"""What annotation reads too if it learns what its labels are good for: `annotate.pilot`."""
_UNDECIDING = {"store", "max_budget"}
"""Settings of annotation that decide where answers are kept and when to stop, not what they are."""
_ENTRIES: Mapping[str, set[str]] = {
    "annotate.judges": UNDECIDING,
    "mine.channels": CHANNEL_UNDECIDING,
    "data.further": set(),
}
"""Lists of sections, and what of an entry does not decide a result."""

READS: Mapping[str, StageReads] = {
    "inputs": StageReads(
        settings=(
            *(f"data.{name}" for name in _TEXTS),
            "data.further",
            "data.head_share",
            "data.torso_share",
            "split",
            "run.seed",
        ),
        files=("items", "queries", "judgments", "qrels", "further"),
    ),
    "mine": StageReads(
        settings=(*_MINE, *_BAND, "examples.max_negatives", "run.seed", "run.shard"),
        files=("synonyms",),
        models=("mine.model", "mine.channels"),
        upstream=("inputs",),
    ),
    "judges": StageReads(
        settings=(
            *("annotate.judges", "annotate.background", "annotate.deep"),
            *(*_BAND, *_ROLES, *_DEPTHS),
            *("run.seed", "run.shard"),
        ),
        models=("annotate.judges", "mine.model", "train.model"),
        upstream=("inputs", "mine"),
    ),
    "annotate": StageReads(
        settings=(
            *("annotate", *_BAND, *_ROLES, *_DEPTHS),
            *("examples.retrieved_depth", "examples.rules", "run.seed"),
        ),
        upstream=("inputs", "mine", "judges"),
    ),
    "examples": StageReads(
        settings=("examples", *_ROLES, "data.complete", "run.seed", "run.shard"),
        upstream=("inputs", "mine", "judges", "annotate"),
    ),
    "train": StageReads(
        settings=("train", "evaluate.cutoff", "evaluate.gain", "data.complete", "run.seed"),
        models=("train.model",),
        upstream=("inputs", "examples"),
    ),
    "evaluate": StageReads(
        settings=("evaluate", "data.complete", "train.max_length", "run.seed"),
        models=("train.model",),
        upstream=("inputs", "train"),
    ),
    "report": StageReads(
        settings=("report",),
        upstream=("inputs", "mine", "judges", "annotate", "examples", "train", "evaluate"),
    ),
}


_CODE = {"trivium": metadata.version("trivium")}
"""A new release makes its own tables."""


@dataclass(frozen=True)
class Planner:
    """Plans the stages of one configuration."""

    config: Config

    @cached_property
    def plans(self) -> dict[str, Plan]:
        """A plan for every stage, in order.

        A file or model that is absent or cannot be read is planned as absent: the check reports it,
        with everything else that is wrong.
        """
        plans: dict[str, Plan] = {}
        for stage in STAGES:
            reads = READS[stage]
            learning = _LEARNING if stage == "annotate" and self.config.annotate.pilot else ()
            plans[stage] = Plan(
                stage,
                settings=self._settings((*reads.settings, *learning)),
                inputs=self._files(reads.files)
                | self._models(reads.models)
                | (self._prompts() if stage == "judges" else {})
                | (self._channel_files() if stage == "mine" else {})
                | _CODE,
                upstream={name: plans[name].key for name in reads.upstream},
            )
        return plans

    def setting(self, name: str) -> Any:
        """The value of a dotted setting."""
        value: Any = self.config
        for part in name.split("."):
            value = getattr(value, part)
        return value

    def _settings(self, names: Sequence[str]) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for name in names:
            value = self.setting(name)
            if name in _ENTRIES:
                undeciding = _ENTRIES[name]
                settings[name] = [e.model_dump(mode="json", exclude=undeciding) for e in value]
            elif isinstance(value, BaseModel):
                plain = value.model_dump(mode="json", exclude=_UNDECIDING)
                settings |= {f"{name}.{key}": plain[key] for key in plain}
            else:
                settings[name] = value
        return settings

    def _files(self, names: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in names:
            value = self.setting(f"data.{name}")
            paths: list[Path] = value if isinstance(value, list) else [value] if value else []
            if name == "further":
                paths = [p for c in value for p in (*c.items, *c.queries, *c.judgments)]
            for number, path in enumerate(paths):
                found[f"{name}[{number}]"] = _file(path)
        return found

    def _prompts(self) -> dict[str, str]:
        return {
            f"prompt of {judge.name}": _file(Path(prompt))
            for judge in self.config.annotate.judges
            if (prompt := getattr(judge, "prompt", None)) and judge.kind in BUILT_IN
        }

    def _channel_files(self) -> dict[str, str]:
        """The files that channels name: runs, templates of requests."""
        found: dict[str, str] = {}
        for channel in self.config.mine.channels:
            for setting in type(channel).model_fields:
                value = getattr(channel, setting)
                named = value if isinstance(value, list) else [value]
                paths = matching_files([path for path in named if isinstance(path, Path)])
                for number, path in enumerate(paths):
                    found[f"{channel.name}.{setting}[{number}]"] = _file(path)
        return found

    def _models(self, names: Sequence[str]) -> dict[str, str]:
        chosen: dict[str, str | None] = {}
        for name in names:
            if name == "annotate.judges":
                chosen |= judge_models(self.config)
            elif name == "mine.channels":
                chosen |= channel_models(self.config)
            else:
                chosen[name] = self.setting(name)
        if "train.model" in chosen:
            chosen["train.model"] = self.config.train.model or self.config.mine.model
        return {name: self._model(model) for name, model in chosen.items() if model}

    def _model(self, name: str) -> str:
        if name not in self._fingerprints:
            try:
                self._fingerprints[name] = model_fingerprint(name)
            except (DependencyError, OSError):
                self._fingerprints[name] = _ABSENT
        return self._fingerprints[name]

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {}


def judge_models(config: Config) -> dict[str, str]:
    """Models that the judges are made from, by the judge's name.

    An endpoint's model is its own, and what another package calls so may be anything.
    """
    return {
        f"judge {judge.name}": model
        for judge in config.annotate.judges
        if judge.kind in BUILT_IN
        and judge.kind != "chat"
        and (model := getattr(judge, "model", None))
    }


def channel_models(config: Config) -> dict[str, str]:
    """Models that channels name besides `mine.model`, by the channel's name."""
    return {
        f"channel {channel.name}": model
        for channel in config.mine.channels
        if channel.kind in BUILT_IN_CHANNELS and (model := getattr(channel, "model", None))
    }


def _file(path: Path) -> str:
    try:
        return fingerprint(path)
    except OSError:
        return _ABSENT
