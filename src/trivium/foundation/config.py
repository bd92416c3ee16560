"""The configuration: one section a stage, defaults as published or said to be ours."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from trivium.foundation.annotate_config import AnnotateConfig
from trivium.foundation.budgets import check_budgets
from trivium.foundation.channel_config import channel_section
from trivium.foundation.engine_config import CREDENTIALS
from trivium.foundation.errors import ConfigError, Fault, TriviumError
from trivium.foundation.examples_config import ExamplesConfig
from trivium.foundation.judge_config import judge_section
from trivium.foundation.mine_config import MineConfig
from trivium.foundation.rules import check_rules
from trivium.foundation.sections import (
    CatalogConfig,
    ColumnsConfig,
    Count,
    Paths,
    Positive,
    Section,
    Share,
    Template,
)
from trivium.foundation.train_config import StageConfig, TrainConfig

S = TypeVar("S", bound=Section)


class DataConfig(Section):
    """Where the tables are and how their fields become text.

    A template is a list of parts; a part that names a field which is empty in a row is left out
    of that row, and the rest is joined by spaces.
    """

    items: Paths = Field([], description="the catalog: item_id, title, further fields")
    queries: Paths = Field([], description="query_id, query; frequency, segment, part if known")
    judgments: Paths = Field([], description="human grades; some of their queries teach the judge")
    qrels: Paths = Field([], description="grades for validation and test, if not the judgments")
    further: list[CatalogConfig] = Field(
        [], description="[[data.further]]: labels of other catalogs, which teach the judges"
    )
    complete: bool = Field(False, description="qrels name every relevant item: absent is grade 0")
    synonyms: Path | None = Field(
        None,
        description="Solr synonyms file for the dictionary channel",
        examples=["synonyms.txt"],
    )
    columns: ColumnsConfig = ColumnsConfig()
    query_text: Template = Field(["{query}"], description="what towers and channels read")
    item_text: Template = Field(["{title}"], description="what towers and channels read")
    judge_query_text: Template = Field(["{query}"], description="what the judge reads")
    judge_item_text: Template = Field(["{title}"], description="what the judge reads")
    head_share: Share = Field(0.5, description="head: the queries that make this share of traffic")
    torso_share: Share = Field(0.9, description="torso: the further queries up to this share")

    @model_validator(mode="after")
    def _shares(self) -> DataConfig:
        if self.torso_share < self.head_share:
            raise ValueError(
                f"torso_share >= head_share, not {self.torso_share:g} < {self.head_share:g}"
            )
        return self


class SplitConfig(Section):
    """Shares of the judged queries; queries without judgments are always for training."""

    seed: Share = Field(0.5, description="their human grades teach the judge")
    train: Share = Field(0.2, description="mined as if they had no grades")
    validation: Share = Field(0.1, description="choose checkpoints")
    test: Share = Field(0.2, description="the results")
    calibration: Share = Field(0.2, description="share of the seed that calibrates the judges")
    tuning: Share = Field(
        0.15, description="share of the seed that finds the thresholds of two judges or more"
    )
    agreement: Share = Field(0.2, description="share of the seed that measures the judges")

    @model_validator(mode="after")
    def _sums(self) -> SplitConfig:
        total = self.seed + self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"seed + train + validation + test must be 1, not {total:g}")
        if self.calibration + self.tuning + self.agreement >= 1.0:
            raise ValueError("calibration + tuning + agreement must leave some of the seed")
        return self


class EvaluateConfig(Section):
    """What is measured, on the test queries over the full catalog."""

    cutoff: Positive = Field(10, description="ranks that NDCG and the shares read")
    gain: Literal["exponential", "linear"] = Field(
        "exponential", description="2^grade - 1, or the grade itself"
    )
    depth: Positive = Field(100, description="items retrieved for a query")
    resamples: Positive = Field(2000, description="bootstrap and permutation resamples")

    @model_validator(mode="after")
    def _deep_enough(self) -> EvaluateConfig:
        if self.depth < self.cutoff:
            raise ValueError(f"depth >= cutoff, not {self.depth} < {self.cutoff}")
        return self


class ReportConfig(Section):
    """The HTML report."""

    title: str = Field("Trivium report", description="of the page")


class RunConfig(Section):
    """How the pipeline runs."""

    seed: Count = Field(0, description="of every draw, order and resample")
    shard: Positive = Field(256, description="queries in a shard, the unit of work and of memory")
    workers: Positive = Field(1, description="processes that work on shards")


class Config(Section):
    """A whole `trivium.toml`."""

    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    mine: MineConfig = MineConfig()
    annotate: AnnotateConfig = AnnotateConfig()
    examples: ExamplesConfig = ExamplesConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    report: ReportConfig = ReportConfig()
    run: RunConfig = RunConfig()

    def for_catalog(self, items: int) -> Config:
        """The same for a catalog of some items; see `ExamplesConfig.for_catalog`."""
        return self.model_copy(update={"examples": self.examples.for_catalog(items)})


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a `trivium.toml`, apply `section.key=value` overrides, and check it.

    Relative paths are taken from the file's own folder; `${NAME}` in a path is an environment
    variable.

    Args:
        path: The file.
        overrides: Settings that replace the file's, their values in TOML or a bare string.

    Raises:
        ConfigError: If the file is absent or not TOML, a key is unknown, or a value is wrong.
    """
    return parse_config(_read_toml(path), overrides, base=path.parent, where=str(path))


def parse_config(
    raw: dict[str, Any],
    overrides: Sequence[str] = (),
    *,
    base: Path = Path(),
    where: str = "configuration",
) -> Config:
    """Check a configuration given as nested dictionaries; see `load_config`."""
    for override in overrides:
        _apply_override(raw, override)
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(*(_fault(dict(e), where) for e in error.errors())) from None
    check_rules(config.examples.rules, config.mine.names, where)
    check_budgets(config.annotate.budgets, config.mine.names, where)
    return _with_paths(config, base)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError.of(
            str(path),
            got=(error.strerror or str(error)).lower(),
            expected="a trivium.toml",
            fix="run `trivium init` to write one, or name yours with --config",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError.of(
            str(path), got=str(error), expected="a TOML file in UTF-8", fix="correct that line"
        ) from None


def _apply_override(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    *parents, last = key.strip().split(".")
    if not equals or not parents:
        raise ConfigError.of(
            f"--set {override}",
            got=repr(override),
            expected="section.key=value, such as mine.depth=100",
            fix="name the section, the key and the value",
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    table: Any = raw
    for parent in parents:
        table = _within(table, parent, override)
    if not isinstance(table, dict):
        raise _not_a_section(override, parents[-1])
    table[last] = value


def _within(table: Any, part: str, override: str) -> Any:
    """What lies under a part of an override; an entry of a list is known by number or by name."""
    if isinstance(table, list):
        for at, entry in enumerate(table):
            if entry == part:  # a kind by its name alone
                table[at] = {"kind": part}
                return table[at]
            if isinstance(entry, dict) and part in (str(at), entry.get("name", entry.get("kind"))):
                return entry
    elif isinstance(table, dict):
        return table.setdefault(part, {})
    raise _not_a_section(override, part)


def _not_a_section(override: str, part: str) -> TriviumError:
    return ConfigError.of(
        f"--set {override}",
        got=f"'{part}', which is not a section or an entry of a list that the file has",
        expected="a section, or an entry by its number or name, before each dot",
        fix=f"leave out what follows '{part}', or correct it",
    )


def _fault(error: dict[str, Any], where: str) -> Fault:
    location = [str(part) for part in error["loc"]]
    shown = [part for at, part in enumerate(location) if not _is_tag(location, at)]
    name = ".".join(shown)
    if error["type"] != "extra_forbidden":
        return Fault(
            f"{where}: {name or 'configuration'}",
            got=_got(error),
            expected="a section of settings"
            if error["type"] == "model_type"
            else re.sub("^(Value error, |Input should be )", "", error["msg"]),
            fix="correct it; docs/configuration.md lists the settings",
        )
    known = sorted(_known_keys(location[:-1]))
    near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.4)
    return Fault(
        f"{where}: {name}",
        got=f"unknown key '{location[-1]}'",
        expected=f"one of {', '.join(known)}",
        fix=f"did you mean '{near[0]}'?" if near else "remove it",
    )


def _got(error: Mapping[str, Any]) -> str:
    """What stood there, without what stands before the @ of an address."""
    if error["type"] == CREDENTIALS:
        return "something that may hold a secret, and is not repeated here"
    if error["type"] == "missing":
        return "nothing"
    return re.sub(r"//[^'\"\s]*@", "//***@", repr(error["input"]))[:80]


_ENTRIES: Mapping[str, Any] = {"stages": StageConfig, "further": CatalogConfig}
"""Settings that are lists of sections, and what one entry is."""
_BY_KIND: Mapping[str, Callable[[str], Any]] = {
    "judges": judge_section,
    "channels": channel_section,
}
"""Lists of sections of several kinds, and what one of a kind is."""


def _is_tag(location: Sequence[str], at: int) -> bool:
    """Whether a part of a fault's place is the kind of an entry, which no user wrote there."""
    return at > 1 and location[at - 2] in _BY_KIND and location[at - 1].isdigit()


def _known_keys(path: Sequence[str]) -> Mapping[str, Any]:
    model: Any = Config
    for at, part in enumerate(path):
        if part.isdigit() or part in _BY_KIND:
            continue
        if _is_tag(path, at):
            model = _BY_KIND[path[at - 2]](part)
        else:
            model = _ENTRIES.get(part) or model.model_fields[part].annotation
    return dict(model.model_fields)


def _with_paths(config: Config, base: Path) -> Config:
    """The configuration with every path of a file made absolute, seen from `base`."""
    further = [_resolved(c, base, "data.further") for c in config.data.further]
    data = _resolved(config.data, base, "data").model_copy(update={"further": further})
    judges = [_resolved(j, base, f"annotate.judges {j.name}") for j in config.annotate.judges]
    annotate = _resolved(config.annotate, base, "annotate").model_copy(update={"judges": judges})
    channels = [_resolved(c, base, f"mine.channels {c.name}") for c in config.mine.channels]
    mine = config.mine.model_copy(update={"channels": channels})
    return config.model_copy(update={"data": data, "annotate": annotate, "mine": mine})


def _resolved(section: S, base: Path, where: str) -> S:
    changed: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Path):
            changed[name] = _resolve(value, base, where)
        elif isinstance(value, list) and value and isinstance(value[0], Path):
            changed[name] = [_resolve(path, base, where) for path in value]
    return section.model_copy(update=changed)


def _resolve(path: Path, base: Path, where: str) -> Path:
    expanded = os.path.expandvars(str(path))
    if "$" in expanded:
        raise ConfigError.of(
            f"{where}: {path}",
            got="an environment variable that is not set",
            expected="a path",
            fix="set the variable, or write the path out",
        )
    return (base / Path(expanded).expanduser()).absolute()
