"""Explain a query with the channels and the catalog of a run, or of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from trivium.adapters.files import names_of, read_files
from trivium.foundation import tables
from trivium.foundation.config import Config, load_config, parse_config
from trivium.foundation.console import say
from trivium.foundation.errors import InputError
from trivium.foundation.workspace import Workspace
from trivium.pipeline.runner import config_to_compare
from trivium.stages.explain import TOP, ExplainedQuery, explain
from trivium.stages.inputs.checks import with_texts


def explain_in_run(
    text: str,
    root: Path,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    *,
    top: int = TOP,
    only: Sequence[str] = (),
) -> ExplainedQuery:
    """Explain a query with the catalog of a run and what it keeps in its cache.

    A text that is one of the run's queries is asked under its query_id.

    Args:
        text: The query.
        root: Folder of a run in which `inputs` is done.
        config: The channels; those that the run mined with if none is named.
        overrides: Settings that replace the others.
        top: Items of each channel to explain.
        only: Channels to ask; all of them if none is named.

    Raises:
        WorkspaceError: If the folder holds no run, or one without a catalog.
        InputError: If the text is blank.
    """
    _refuse_blank(text)
    workspace = Workspace(root)
    chosen = load_config(config, overrides) if config else _mined_with(workspace, overrides)
    inputs = workspace.stage("inputs")
    items, queries = inputs.read("items"), inputs.read("queries")
    same = queries.filter(query=text).sort("query_id").head(1)
    if same.height:
        say(f"query {same['query_id'][0]} of the run")
    return explain(
        same["text"][0] if same.height else text,
        items.drop("judge_text"),
        chosen.mine,
        chosen.data,
        query_id=same["query_id"][0] if same.height else "",
        top=top,
        only=only,
        cache=workspace.cache,
    )


def explain_with(
    text: str,
    config: Path,
    overrides: Sequence[str] = (),
    *,
    top: int = TOP,
    only: Sequence[str] = (),
) -> ExplainedQuery:
    """Explain a query with the channels and the catalog of a configuration; nothing is kept.

    Raises:
        ConfigError: If the configuration is faulty.
        InputError: If the catalog is, or the text is blank.
    """
    _refuse_blank(text)
    chosen = load_config(config, overrides)
    items = _catalog(chosen).drop("judge_text")
    return explain(text, items, chosen.mine, chosen.data, top=top, only=only)


def _mined_with(workspace: Workspace, overrides: Sequence[str]) -> Config:
    manifest = workspace.stage("mine").manifest()
    if manifest is None:
        return config_to_compare(workspace, None, overrides)[0]
    return parse_config(manifest["configuration"], overrides)


def _catalog(config: Config) -> pl.DataFrame:
    data = config.data
    if not data.items:
        raise InputError.of("data.items", got="no file", expected="a catalog", fix="set data.items")
    raw = read_files(data.items, data.columns.items)
    return with_texts(tables.validate(raw, tables.ITEMS, names_of(data.items)), data, "item")


def _refuse_blank(text: str) -> None:
    if not text.strip():
        raise InputError.of(
            "query", got=repr(text), expected="a query with words", fix="write it out, in quotes"
        )
