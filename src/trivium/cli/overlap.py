"""The command `trivium overlap`: what channels share, in one run or from one run to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from trivium.cli.app import Debug, Quiet, refuse_existing
from trivium.foundation.errors import InputError

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from trivium.pipeline.overlaps import RunComparison

EXAMPLES = (
    "Examples: `trivium overlap runs/a --by-segment`; `trivium overlap runs/a --svg sets.svg`; "
    "`trivium overlap runs/last-week runs/this-week --channel dense=new_dense`"
)


def overlap(
    run: Annotated[Path, typer.Argument(help="Folder of a run in which `mine` is done.")],
    later: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Argument(help="Folder of a later run to compare it with."),
    ] = None,
    channel: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A channel and the later run's to compare it with, a=b; repeatable."),
    ] = None,
    by_segment: Annotated[
        bool, typer.Option("--by-segment", help="Show head, torso and tail too.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every figure as JSON, segments too.")
    ] = False,
    svg: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Draw which channels found the pairs of a run, in this file."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say how much of their results the channels share, or what changed between two runs.

    Of one run: overlap coefficient, Jaccard index and rank-biased overlap of each two channels, and
    how many pairs each set of channels found. Of two runs, over the queries that both mined: how
    much of each channel's list is still there, and whether the channels agree more with each other
    than before: a dense channel that learned from lexical ones leaves less to mine.
    """
    from trivium.foundation.console import set_quiet

    set_quiet(quiet=quiet)
    if later is None:
        _refuse(channel, "--channel", "two runs, to name what is compared")
        _one(run, by_segment=by_segment, as_json=as_json, svg=svg, overwrite=overwrite)
    else:
        _refuse(svg, "--svg", "a single run, to draw what its channels found")
        _two(run, later, _named(channel or []), by_segment=by_segment, as_json=as_json)


def _one(run: Path, *, by_segment: bool, as_json: bool, svg: Path | None, overwrite: bool) -> None:
    from trivium.adapters.upset import SETS
    from trivium.pipeline.overlaps import overlap_of

    if svg is not None:
        refuse_existing(svg, "--svg", overwrite=overwrite)
    shared, sets = overlap_of(run)
    if svg is not None:
        _draw(sets, svg)
    if as_json:
        _print_json({"overlap": shared.to_dicts(), "found_by": sets.to_dicts()})
    else:
        _print([_overlap_table(shared, by_segment), _sets_table(sets, by_segment, SETS)])


def _two(
    before: Path, after: Path, named: Mapping[str, str], *, by_segment: bool, as_json: bool
) -> None:
    from trivium.foundation.console import say
    from trivium.pipeline.overlaps import compare_runs

    compared = compare_runs(before, after, named)
    if as_json:
        _print_json(_as_json(compared))
        return
    for line in compared.notes:
        say(line)
    drift = compared.drift
    _print([_kept_table(drift.kept, by_segment), _between_table(drift.between, by_segment)])
    for line in compared.loop:
        typer.echo(line)


def _draw(sets: pl.DataFrame, place: Path) -> None:
    from trivium.adapters.figures import standalone
    from trivium.adapters.upset import Sets, upset
    from trivium.domain.rank_overlap import ALL
    from trivium.foundation.console import say
    from trivium.foundation.workspace import write_atomically

    drawing = upset(Sets.of(sets.filter(segment=ALL)))
    if drawing is None:
        raise InputError.of(
            str(place),
            got="a run whose channels found nothing",
            expected="pairs to draw",
            fix="leave --svg out",
        )
    text = standalone(drawing)
    write_atomically(place, lambda path: path.write_text(text, encoding="utf-8"))
    say(f"-> {place}")


def _overlap_table(shared: pl.DataFrame, by_segment: bool) -> Table:
    heads = ["channels", "depth", "overlap", "Jaccard", "RBO", "queries"]

    def cells(row: Mapping[str, Any]) -> list[str]:
        measures = (_number(row[name]) for name in ("overlap", "jaccard", "rbo"))
        return [f"{row['a']}, {row['b']}", str(row["depth"]), *measures, f"{row['queries']:,}"]

    return _table("what channels share of their top results", heads, shared, cells, by_segment)


def _sets_table(sets: pl.DataFrame, by_segment: bool, most: int) -> Table:
    totals = dict(sets.select("segment", "pairs").group_by("segment").sum().iter_rows())

    def cells(row: Mapping[str, Any]) -> list[str]:
        share = row["pairs"] / totals[row["segment"]]
        return [row["channels"].replace("+", ", "), f"{row['pairs']:,}", f"{share:.1%}"]

    heads = ["found by exactly", "pairs", "share"]
    largest = sets.group_by("segment", maintain_order=True).head(most)
    title = "pairs by the channels that found them"
    if largest.height < sets.height:
        title += f", the {most} largest sets; --json has all"
    return _table(title, heads, largest, cells, by_segment)


def _kept_table(kept: pl.DataFrame, by_segment: bool) -> Table:
    heads = ["channel", "depth", "overlap", "Jaccard", "RBO", "unchanged"]
    heads += ["pairs kept", "gone", "new", "queries"]

    def cells(row: Mapping[str, Any]) -> list[str]:
        measures = (_number(row[name]) for name in ("overlap", "jaccard", "rbo"))
        counts = (f"{row[name]:,}" for name in ("kept", "gone", "new", "queries"))
        unchanged = "-" if row["unchanged"] is None else f"{row['unchanged']:.1%}"
        return [row["channel"], str(row["depth"]), *measures, unchanged, *counts]

    return _table("what is still there of each channel's list", heads, kept, cells, by_segment)


def _between_table(between: pl.DataFrame, by_segment: bool) -> Table:
    names = {"overlap": "overlap", "jaccard": "Jaccard", "rbo": "RBO"}
    heads = ["channels", "depth", "measure", "before", "after", "difference", "queries"]

    def cells(row: Mapping[str, Any]) -> list[str]:
        values = _number(row["before"]), _number(row["after"]), _difference(row)
        head = [f"{row['a']}, {row['b']}", str(row["depth"]), names[row["measure"]]]
        return [*head, *values, f"{row['queries']:,}"]

    title = "what channels share of each other's lists, before and after, 95% intervals"
    return _table(title, heads, between, cells, by_segment)


def _table(
    title: str,
    heads: Sequence[str],
    rows: pl.DataFrame,
    cells: Callable[[Mapping[str, Any]], list[str]],
    by_segment: bool,
) -> Table:
    from trivium.cli.judge_tables import grid
    from trivium.domain.rank_overlap import ALL

    if by_segment:
        own = ([row["segment"], *cells(row)] for row in rows.to_dicts())
        return grid(title, ["segment", *heads], own)
    return grid(title, heads, (cells(row) for row in rows.filter(segment=ALL).to_dicts()))


def _as_json(compared: RunComparison) -> dict[str, Any]:
    matched = compared.queries
    old, new, both = compared.items
    return {
        "queries": {
            "common": matched.queries.height,
            "by_text": matched.by_text,
            "renamed": matched.renamed,
            "only_before": matched.only_before,
            "only_after": matched.only_after,
        },
        "items": {"before": old, "after": new, "common": both},
        "channels": {name: list(pair) for name, pair in compared.channels.items()},
        "left_out": list(compared.left_out),
        "kept": compared.drift.kept.to_dicts(),
        "between": compared.drift.between.to_dicts(),
        "loop": compared.loop,
    }


def _print(tables: Iterable[Table]) -> None:
    from trivium.foundation.console import console_for_tables

    console = console_for_tables(asked_for=True)
    for table in tables:
        console.print(table)


def _print_json(content: Mapping[str, Any]) -> None:
    import json

    typer.echo(json.dumps(content, ensure_ascii=False, indent=2))


def _named(channels: Sequence[str]) -> dict[str, str]:
    named: dict[str, str] = {}
    for given in channels:
        before, equals, after = given.partition("=")
        if not (before and equals and after) or before in named:
            raise InputError.of(
                f"--channel {given}",
                got="a channel named twice" if before in named else repr(given),
                expected="a channel and the later run's, such as dense=new_dense",
                fix="name each channel of the earlier run once",
            )
        named[before] = after
    return named


def _refuse(given: object, option: str, expected: str) -> None:
    if given:
        raise InputError.of(
            option, got="the other kind of question", expected=expected, fix=f"leave {option} out"
        )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _difference(row: Mapping[str, Any]) -> str:
    if row["difference"] is None:
        return "-"
    ends = "" if row["ci_low"] is None else f" [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]"
    return f"{row['difference']:+.3f}{ends}"
