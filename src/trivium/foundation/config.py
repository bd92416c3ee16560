"""The configuration: one section a stage, defaults as published or said to be ours."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from trivium.foundation.errors import ConfigError, Fault
from trivium.foundation.tables import NEGATIVE_LEVELS, POSITIVE_LEVELS


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, (str, Path)) else value


Paths = Annotated[list[Path], BeforeValidator(_as_list)]
Template = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of the configuration: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnsConfig(Section):
    """Names of the project's columns mapped to the names in the user's files."""

    items: dict[str, str] = Field({}, description="such as {item_id = 'sku'}")
    queries: dict[str, str] = Field({}, description="such as {query = 'text'}")
    judgments: dict[str, str] = Field({}, description="such as {grade = 'label'}")


class DataConfig(Section):
    """Where the tables are and how their fields become text.

    A template is a list of parts; a part that names a field which is empty in a row is left out
    of that row, and the rest is joined by spaces.
    """

    items: Paths = Field([], description="the catalog: item_id, title, further fields")
    queries: Paths = Field([], description="query_id, query; frequency, segment, part if known")
    judgments: Paths = Field([], description="human grades; some of their queries teach the judge")
    qrels: Paths = Field([], description="grades for validation and test, if not the judgments")
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
    calibration: Share = Field(0.2, description="share of the seed that calibrates the judge")
    agreement: Share = Field(0.2, description="share of the seed that measures the judge")

    @model_validator(mode="after")
    def _sums(self) -> SplitConfig:
        total = self.seed + self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"seed + train + validation + test must be 1, not {total:g}")
        if self.calibration + self.agreement >= 1.0:
            raise ValueError("calibration + agreement must leave some of the seed for training")
        return self


class MineConfig(Section):
    """The channels and how deep they are searched."""

    channels: list[str] = Field(
        ["dictionary", "bm25", "dense"], min_length=1, description="by their entry points' names"
    )
    lexical: list[str] = Field(["dictionary", "bm25"], description="channels called lexical")
    dense: list[str] = Field(["dense"], description="channels called dense")
    depth: Positive = Field(500, description="items kept from each channel")
    model: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2",
        description="tower in production: a hub name, a folder, or package:NAME/FOLDER",
    )
    queries: Count = Field(0, description="queries to mine, sampled; 0 means all of them")
    min_coverage: Share = Field(
        0.0, description="set a query aside if the catalog knows fewer of its words than this"
    )

    @model_validator(mode="after")
    def _distinct(self) -> MineConfig:
        if len(set(self.channels)) < len(self.channels):
            raise ValueError(f"channels with different names, not {', '.join(self.channels)}")
        return self


class AnnotateConfig(Section):
    """The judge: a cross-encoder with one class a grade."""

    model: str = Field(
        "microsoft/deberta-v3-base", description="body of the cross-encoder; named as mine.model is"
    )
    pairs_per_query: Positive = Field(150, description="candidates annotated for a query")
    background: float = Field(
        0.5, ge=0.0, description="random pairs added as weak grade 0, per human grade in training"
    )
    epochs: float = Field(3.0, gt=0, description="passes over the seed's grades")
    batch: Positive = Field(32, description="pairs in a step of training")
    learning_rate: float = Field(5e-5, gt=0, description="peak of the learning rate")
    warmup: Share = Field(0.1, description="share of the steps in which the rate rises")
    max_length: Positive = Field(96, description="tokens of a pair that are read")
    min_calibration: Positive = Field(10, description="labels a class needs for its own curve")


class ExamplesConfig(Section):
    """The five levels of difficulty, as published."""

    hard_positive_depth: Positive = Field(50, description="deepest lexical rank of a hard positive")
    hard_negative_depth: Positive = Field(100, description="deepest rank of a hard negative")
    tfidf_low: Share = Field(0.2, description="lowest TF-IDF cosine of a token-similar negative")
    tfidf_high: Share = Field(0.6, description="highest TF-IDF cosine of one")
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
    return config.model_copy(update={"data": _resolve_paths(config.data, base)})


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
    table = raw
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError.of(
                f"--set {override}",
                got=f"'{parent}', which is a single setting",
                expected="a section before each dot",
                fix=f"leave out what follows '{parent}'",
            )
    table[last] = value


def _fault(error: dict[str, Any], where: str) -> Fault:
    location = [str(part) for part in error["loc"]]
    name = ".".join(location)
    if error["type"] != "extra_forbidden":
        return Fault(
            f"{where}: {name or 'configuration'}",
            got=repr(error["input"])[:80],
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


def _known_keys(path: Sequence[str]) -> Mapping[str, Any]:
    model: Any = Config
    for part in path:
        if part.isdigit():
            continue
        annotation = model.model_fields[part].annotation
        model = StageConfig if part == "stages" else annotation
    return dict(model.model_fields)


def _resolve_paths(data: DataConfig, base: Path) -> DataConfig:
    def resolve(path: Path) -> Path:
        expanded = os.path.expandvars(str(path))
        if "$" in expanded:
            raise ConfigError.of(
                f"data: {path}",
                got="an environment variable that is not set",
                expected="a path",
                fix="set the variable, or write the path out",
            )
        return (base / Path(expanded).expanduser()).absolute()

    return data.model_copy(
        update={
            "items": [resolve(p) for p in data.items],
            "queries": [resolve(p) for p in data.queries],
            "judgments": [resolve(p) for p in data.judgments],
            "qrels": [resolve(p) for p in data.qrels],
            "synonyms": resolve(data.synonyms) if data.synonyms else None,
        }
    )
