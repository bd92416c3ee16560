"""The command `trivium explain`: what each channel did with a query, and why each item came."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from trivium.cli.app import DEFAULT_CONFIG, Debug, Overrides, Quiet

if TYPE_CHECKING:
    from rich.table import Table

    from trivium.stages.explain import ExplainedQuery

EXAMPLES = (
    "Examples: `trivium explain 'shower heads 1/2 in' --run runs/a`; "
    "`trivium explain 'shower heads' --run runs/a --channel dictionary --top 20`; "
    "`trivium explain 'shower heads' --config trivium.toml --json`"
)


def explain(
    query: Annotated[str, typer.Argument(help="Any text, whether a query of the run or not.")],
    run: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option(help="Folder of a run: its catalog, its channels, its cache."),
    ] = None,
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--config",
            "-c",
            help="The configuration, if not that of the run; trivium.toml if neither is named.",
        ),
    ] = None,
    overrides: Overrides = None,
    channel: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Ask this channel alone; repeatable."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Items of each channel.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show what each channel did with a query, which items it found, and why each of them came.

    For every channel: what became of each part of the query (a phrase, a synonym, a corrected word,
    a size in another spelling) and with which weight; its first items with their rank in the other
    channels, and what each part gave of their scores. Nothing is written but the cache of a run.
    """
    from trivium.adapters.libraries import quieten
    from trivium.foundation.console import set_quiet
    from trivium.pipeline.explaining import explain_in_run, explain_with

    set_quiet(quiet=quiet)
    quieten()
    only, changes = channel or (), overrides or ()
    if run is not None:
        made = explain_in_run(query, run, config, changes, top=top, only=only)
    else:
        made = explain_with(query, config or DEFAULT_CONFIG, changes, top=top, only=only)
    if as_json:
        import json

        typer.echo(json.dumps(_as_json(made), ensure_ascii=False, indent=2))
    else:
        _print(made)


def _print(made: ExplainedQuery) -> None:
    from trivium.foundation.console import console_for_tables

    console = console_for_tables(asked_for=True)
    for name in made.channels:
        if name in made.unexplained:
            console.print(f"{name} cannot say what it does with a query", highlight=False)
        else:
            console.print(_steps_table(made, name))
        if made.counts[name]:
            console.print(_found_table(made, name))
        else:
            console.print(f"{name} found nothing", highlight=False)


def _steps_table(made: ExplainedQuery, name: str) -> Table:
    from trivium.cli.judge_tables import grid

    rows = [
        [row["part"], row["became"] or "-", _number(row["weight"]), row["why"]]
        for row in made.steps.filter(channel=name).iter_rows(named=True)
    ]
    return grid(f"{name}: the query", ["part", "became", "weight", "why"], rows)


def _found_table(made: ExplainedQuery, name: str) -> Table:
    from trivium.cli.judge_tables import grid

    others = [other for other in made.channels if other != name]
    found = made.found.filter(channel=name)
    rows = [
        [
            row["rank"],
            _number(row["score"]),
            row["item_id"],
            row["title"],
            *(row[f"rank_{other}"] or "-" for other in others),
            _reasons(made, name, row["item_id"]),
        ]
        for row in found.iter_rows(named=True)
    ]
    title = f"{name}: the first {found.height:,} of {made.counts[name]:,} items"
    return grid(title, ["rank", "score", "item", "title", *others, "why"], rows)


def _reasons(made: ExplainedQuery, name: str, item_id: str) -> str:
    shares = made.matches.filter(channel=name, item_id=item_id)
    return ", ".join(f"{r['part']} {_number(r['score'])}" for r in shares.to_dicts()) or "-"


def _as_json(made: ExplainedQuery) -> dict[str, Any]:
    return {"query": made.text, "channels": [_channel(made, name) for name in made.channels]}


def _channel(made: ExplainedQuery, name: str) -> Mapping[str, Any]:
    shares = made.matches.filter(channel=name).drop("channel")
    items = [
        {
            **{key: row[key] for key in ("rank", "score", "item_id", "title")},
            "other_ranks": {c: row[f"rank_{c}"] for c in made.channels if c != name},
            "matches": shares.filter(item_id=row["item_id"]).drop("item_id").to_dicts(),
        }
        for row in made.found.filter(channel=name).to_dicts()
    ]
    return {
        "channel": name,
        "explains": name not in made.unexplained,
        "steps": made.steps.filter(channel=name).drop("channel").to_dicts(),
        "found": made.counts[name],
        "items": items,
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
