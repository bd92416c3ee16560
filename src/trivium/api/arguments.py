"""What the functions of the API are given: keywords made a configuration, frames made tables."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import polars as pl

from trivium.foundation import tables
from trivium.foundation.config import Config, parse_config
from trivium.foundation.errors import ConfigError, Fault, InputError
from trivium.foundation.examples_config import ExamplesConfig
from trivium.foundation.mine_config import MineConfig
from trivium.stages.inputs.checks import check_ids, with_texts

if TYPE_CHECKING:
    import pandas as pd

    Frame: TypeAlias = pl.DataFrame | pd.DataFrame
else:
    Frame = Any

_SEGMENTS = ("data.head_share", "data.torso_share")
_TEXTS = ("data.query_text", "data.item_text")
_JUDGE_TEXTS = ("data.judge_query_text", "data.judge_item_text")
_ROLES = ("mine.lexical", "mine.dense")
_BAND = ("examples.tfidf_low", "examples.tfidf_high")
_DEPTHS = ("examples.hard_positive_depth", "examples.hard_negative_depth")
_EXAMPLES = tuple(
    f"examples.{name}" for name in ExamplesConfig.model_fields if name != "keep_bad_levels"
)
_READS: Mapping[str, tuple[str, ...]] = {
    "split": ("split", *_SEGMENTS),
    "mine": ("mine", *_TEXTS, *_SEGMENTS, "data.synonyms", *_BAND, "examples.max_negatives"),
    "explain": ("mine", "data.item_text", "data.synonyms"),
    "annotate": (
        *("annotate", *_TEXTS, *_JUDGE_TEXTS, *_SEGMENTS),
        *("mine.model", *_ROLES, *_BAND, *_DEPTHS, "examples.retrieved_depth", "examples.rules"),
        *(f"examples.{name}" for name in ("by", "min_p_relevant", "min_p_irrelevant")),
        *(f"examples.{name}" for name in ("max_positives", "max_negatives", "random_negatives")),
    ),
    "build_examples": (*_EXAMPLES, *_ROLES),
    "train": ("train", *_TEXTS, "data.complete", "evaluate.cutoff", "evaluate.gain"),
    "export_model": (*_TEXTS, "data.complete", "evaluate.cutoff", "evaluate.gain"),
    "export_examples": _TEXTS,
    "evaluate": (
        *("evaluate", "data.complete", *_TEXTS, "train.max_length"),
        *("mine.model", "data.synonyms"),
    ),
}
"""Sections and single settings that each function takes as keywords."""


def configure(
    function: str, seed: int, settings: Mapping[str, Any], candidates: Frame | None = None
) -> Config:
    """Make a configuration of a function's keywords.

    Args:
        function: Name of the function.
        seed: The run's seed.
        settings: The keywords; None keeps the default.
        candidates: The function's candidates, whose channels are those that rules and budgets name.

    Raises:
        ConfigError: If the function does not take a keyword, or a value is wrong.
    """
    sections, where = _keywords(function), f"trivium.{function}"
    unknown = [name for name in settings if name not in sections]
    if unknown:
        raise ConfigError(*(_unknown(where, name, sections) for name in unknown))
    raw: dict[str, Any] = {"run": {"seed": seed}}
    for name, value in settings.items():
        if value is not None:
            raw.setdefault(sections[name], {})["queries" if name == "sample" else name] = value
    if candidates is not None and (settings.get("rules") or settings.get("budgets")):
        raw["mine"] = _given_channels(candidates) | raw.get("mine", {})
    return parse_config(raw, where=where)


def _given_channels(candidates: Frame) -> dict[str, Any]:
    channels = tables.channels_of(as_polars(candidates))
    roles = {role: MineConfig.model_fields[role].default for role in ("lexical", "dense")}
    return roles | {"channels": [{"kind": "given", "name": name} for name in channels]}


def _keywords(function: str) -> dict[str, str]:
    """Settings that a function takes, each with its section; mine.queries is called `sample`."""
    sections: dict[str, str] = {}
    for dotted in _READS[function]:
        section, _, name = dotted.partition(".")
        fields: Any = Config.model_fields[section].annotation
        sections |= dict.fromkeys([name] if name else fields.model_fields, section)
    if sections.pop("queries", None):
        sections["sample"] = "mine"
    return sections


def _unknown(where: str, name: str, known: Mapping[str, str]) -> Fault:
    owners = [f"trivium.{other}" for other in _READS if name in _keywords(other)]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    fix = f"did you mean '{near[0]}'?" if near else "remove it"
    return Fault(
        f"{where}: {name}",
        got=f"a setting of {', '.join(owners)}" if owners else f"unknown keyword '{name}'",
        expected=f"one of {', '.join(sorted(known))}",
        fix=f"pass it to {' or '.join(owners)}" if owners else fix,
    )


def with_model_texts(
    items: Frame, queries: Frame, config: Config
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Check items and queries, add the texts that models read, and sort both by id.

    Raises:
        InputError: If a table is faulty or a text empty.
        ConfigError: If a template is faulty.
    """
    catalog = with_texts(tables.validate(as_polars(items), tables.ITEMS), config.data, "item")
    asked = with_texts(tables.validate(as_polars(queries), tables.QUERIES), config.data, "query")
    return catalog.sort("item_id"), asked.sort("query_id")


def check_known(
    pairs: pl.DataFrame, name: str, items: pl.DataFrame, queries: pl.DataFrame
) -> pl.DataFrame:
    """Return the pairs, all of whose ids must be those of items and queries.

    Raises:
        InputError: If some are not.
    """
    return check_ids(name, {name: pairs, "items": items, "queries": queries})


def candidates_table(frame: Frame) -> pl.DataFrame:
    """Check candidates, of whatever channels they name."""
    table = as_polars(frame)
    return tables.validate(table, tables.candidates_schema(tables.channels_of(table)))


def labels_table(frame: Frame) -> pl.DataFrame:
    """Check labels, of whatever judges they name."""
    table = as_polars(frame)
    judges = tuple(c.removeprefix("p_") for c in table.columns if c.startswith("p_"))
    return tables.validate(table, tables.labels_schema(judges))


def as_polars(frame: Frame) -> pl.DataFrame:
    """Take a frame of either library.

    Raises:
        InputError: If it is neither, or a pandas column holds several types.
    """
    if isinstance(frame, pl.DataFrame):
        return frame
    try:
        made: Any = pl.from_pandas(frame)
        got = "a single column"
    except (TypeError, ValueError) as error:
        made, got = None, str(error).splitlines()[0]
    if isinstance(made, pl.DataFrame):
        return made
    raise InputError.of(
        f"a table given as {type(frame).__name__}",
        got=got,
        expected="a polars or pandas DataFrame whose columns hold one type each",
        fix="convert it, such as ids of mixed types to strings",
    )


def as_given(original: Frame, result: pl.DataFrame) -> Frame:
    """Give a result back in the library of what came in."""
    return result if isinstance(original, pl.DataFrame) else result.to_pandas()
