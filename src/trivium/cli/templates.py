"""The texts that commands write: configurations with comments, and the status table."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from trivium.foundation.config import Config

if TYPE_CHECKING:
    from trivium.pipeline.runner import StageStatus

_HEAD = """\
# The models to choose are mine.model, the tower in production, and those of [[annotate.judges]].
# Every setting that is commented out is at its default; `trivium check` names what is wrong.
"""


def user_config(
    items: Sequence[Path], queries: Sequence[Path], judgments: Sequence[Path], base: Path
) -> str:
    """A commented trivium.toml for some files and the default models.

    Every other setting is there, commented out.
    """
    defaults = Config()
    data = {"items": items, "queries": queries, "judgments": judgments}
    given: dict[str, dict[str, Any]] = {
        "data": {
            name: [os.path.relpath(path, base).replace(os.sep, "/") for path in paths]
            for name, paths in data.items()
            if paths
        },
        "mine": {"model": defaults.mine.model},
    }
    sections = {
        name: _section(name, getattr(defaults, name), given.get(name, {}))
        for name in Config.model_fields
    }
    sections["annotate"] += _judges(defaults)
    return _HEAD + "".join(sections.values())


def market_config(model: str, judge: str) -> str:
    """The trivium.toml of a simulated marketplace."""
    return f"""\
# A simulated marketplace: nothing in it is real.
[data]
items = "items.parquet"
queries = "queries.parquet"
judgments = "judgments.parquet"
qrels = "truth.parquet"
complete = true
synonyms = "synonyms.txt"
item_text = ["{{title}}"]
judge_item_text = [
    "{{title}}",
    "brand: {{brand}}",
    "colour: {{colour}}",
    "size: {{size}}",
    "pack: {{pack}}",
    "model: {{model_number}}",
    "for: {{compatible_with}}",
]

[split]
seed = 0.35
train = 0.3
validation = 0.05
test = 0.3

[mine]
model = "{model}"
depth = 50  # of a small catalog; the published 500 is of millions

[annotate]
pairs_per_query = 40

[[annotate.judges]]
kind = "features"

[[annotate.judges]]
kind = "cross_encoder"
model = "{judge}"
epochs = 2
learning_rate = 1e-4
max_length = 80

[train]
max_length = 48
scale = 0.3
validations = 2
validation_items = 600
"""


def status_table(rows: Sequence[StageStatus]) -> str:
    """One line a stage: its state, when it is stale why, and what it made."""
    lines = []
    for row in rows:
        made = ""
        if row.manifest:
            counts = ", ".join(f"{count:,} {name}" for name, count in row.manifest["rows"].items())
            made = f"{counts}; {row.manifest['seconds']:g} s"
        why = f"since {'; '.join(row.why)}" if row.why else ""
        lines.append(f"{row.stage:<10} {row.state:<11} {why or made}".rstrip())
    return "\n".join(lines)


def _section(name: str, section: BaseModel, given: dict[str, Any]) -> str:
    lines = [f"\n[{name}]  # {(type(section).__doc__ or '').splitlines()[0]}"]
    tables = []
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        sections = isinstance(value, list) and value and isinstance(value[0], BaseModel)
        if sections and not field.examples:
            continue  # written as tables of their own
        if isinstance(value, BaseModel):
            tables.append(_section(f"{name}.{key}", value, {}).rstrip())
            continue
        note = f"  # {field.description}" if field.description else ""
        if key in given:
            lines.append(f"{key} = {_toml(given[key])}{note}")
        elif field.examples and not value:
            lines.append(f"# {key} = {_toml(field.examples[0])}{note}; not set")
        else:
            lines.append(f"# {key} = {_toml(_named(value))}{note}")
    return "\n".join(lines + tables) + "\n"


def _named(value: Any) -> Any:
    """A list of sections as the names that stand for them."""
    if isinstance(value, list):
        return [getattr(entry, "name", entry) for entry in value]
    return value


def _judges(defaults: Config) -> str:
    """The judges of a new configuration, and further ones commented out."""
    given = "".join(
        f'\n[[annotate.judges]]\nkind = "{judge.kind}"\n'
        + (f'model = "{model}"\n' if (model := getattr(judge, "model", None)) else "")
        for judge in defaults.annotate.judges
    )
    return (
        given
        + """
# Larger judges are asked about what the ones before them are not sure of:
#     [[annotate.judges]]
#     kind = "lora_llm"
#     name = "llm_2b"
#     model = "google/gemma-2b"
#
#     [[annotate.judges]]
#     kind = "chat"
#     url = "http://localhost:8000/v1"
#     model = "meta-llama/Llama-3.1-8B"
#     usd_per_million_tokens = 0.2
"""
    )


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        entries = (f"{_toml(key)} = {_toml(entry)}" for key, entry in value.items())
        return f"{{{', '.join(entries)}}}"
    return json.dumps(value, ensure_ascii=False, default=str)
