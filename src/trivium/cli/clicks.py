"""The command `trivium clicks`: a simulated click log for the baseline that learns from clicks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from trivium.cli.app import Debug, Quiet, refuse_existing

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

    from trivium.stages.clicks import SimulatedClicks

EXAMPLES = (
    "Examples: `trivium clicks runs/a --truth market/truth.parquet --output clicks.parquet`; "
    "`trivium clicks runs/a --judgments ratings.csv --probabilities other_judge.parquet`; "
    "`trivium clicks runs/a --channel prod --searches 100000 --probabilities other_judge.parquet`"
)

_Grades = Optional[Path]  # noqa: UP045 - typer reads it at run time


def clicks(
    run: Annotated[Path, typer.Argument(help="Folder of a run in which `mine` is done.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The clicks, a Parquet file.")
    ] = Path("clicks.parquet"),
    truth: Annotated[
        _Grades,
        typer.Option(help="Complete grades: of a query in it, absent pairs have grade 0."),
    ] = None,
    judgments: Annotated[_Grades, typer.Option(help="Human grades of some pairs.")] = None,
    probabilities: Annotated[
        _Grades,
        typer.Option(
            help="query_id, item_id, p (five probabilities) of a judge that labels nothing else: "
            "a grade is drawn for each pair without one."
        ),
    ] = None,
    unknown: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, max=4, help="Grade of all other pairs; else they are an error."),
    ] = None,
    channel: Annotated[str, typer.Option(help="Whose ranking shoppers saw.")] = "bm25",
    shown: Annotated[int, typer.Option(min=1, help="Results of a search.")] = 100,
    eta: Annotated[
        float, typer.Option(min=0, help="A place is looked at with probability rank^-eta.")
    ] = 1.0,
    noise: Annotated[
        float, typer.Option(min=0, max=1, help="Chance of a click on grade 0, once looked at.")
    ] = 0.1,
    searches: Annotated[
        int,
        typer.Option(
            min=0, help="In the whole log; 0 = as the frequencies say, or 10 a query without any."
        ),
    ] = 0,
    zipf: Annotated[
        float, typer.Option(min=0, help="Exponent of the traffic where no frequency is known.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every draw.")] = 0,
    traffic: Annotated[
        _Grades, typer.Option(help="Write query_id, searches, segment of every query here, too.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Simulate the clicks of shoppers who saw one channel's results for the queries mined.

    A position-based model: a place is looked at or not by its rank, an item attracts or not by its
    true grade, and a click needs both. Popular queries are searched often; those of the tail get
    few clicks or none. Writes query_id, item_id, clicks, impressions, rank, and in the file's
    metadata that they are simulated, and how. Clicks of your own need none of this: `trivium train
    --baseline click` reads any table with these columns, the last two optional.
    """
    from trivium.domain.clicks import ClickModel, ClickRule, click_positives
    from trivium.foundation.console import console_for_tables, say, set_quiet
    from trivium.pipeline.clicks import clicks_of_run
    from trivium.stages.clicks import read_sources

    set_quiet(quiet=quiet)
    _check_place(output, "--output", overwrite=overwrite)
    if traffic is not None:
        _check_place(traffic, "--traffic", overwrite=overwrite)
    sources = read_sources(truth, judgments, probabilities, unknown)
    model = ClickModel(eta=eta, noise=noise, shown=shown, zipf=zipf, searches=searches)
    made = clicks_of_run(run, channel, sources, model, seed)
    facts = {"simulated": True, "channel": channel, "seed": seed, **vars(model)}
    _write(output, made.clicks, facts)
    if traffic is not None:
        _write(traffic, made.traffic, facts)
    positives, left_out = click_positives(made.clicks)
    console_for_tables().print(_table(made.sizes))
    _say_what_was_made(made, positives.height, ClickRule().min_clicks)
    for reason, count in left_out.items():
        say(f"  clicked pairs left out, {reason}: {count:,}")
    say(f"-> {output}\nnext: trivium train {run} --baseline click --clicks {output}")


def _check_place(path: Path, option: str, *, overwrite: bool) -> None:
    from trivium.foundation.errors import WorkspaceError

    if path.suffix != ".parquet":
        raise WorkspaceError.of(
            str(path),
            got=f"an ending '{path.suffix}'",
            expected=".parquet",
            fix=f"name a Parquet file with {option}",
        )
    refuse_existing(path, option, overwrite=overwrite)


def _write(path: Path, table: pl.DataFrame, facts: dict[str, Any]) -> None:
    from trivium.foundation.workspace import write_atomically

    metadata = {"trivium": json.dumps(facts)}
    write_atomically(
        path, lambda place: table.write_parquet(place, compression="zstd", metadata=metadata)
    )


def _say_what_was_made(made: SimulatedClicks, positives: int, least: int) -> None:
    from trivium.foundation.console import say

    searches, clicked = made.traffic["searches"], made.clicks["clicks"]
    origins = ", ".join(f"{name} {count:,}" for name, count in made.sources.items())
    say(
        f"simulated: {searches.sum():,} searches for {made.traffic.height:,} queries, "
        f"{clicked.sum():,} clicks; no shopper is real"
    )
    say(f"  grades of the pairs shown: {origins}")
    say(f"  pairs that would train: {positives:,}, with {least} clicks or more")


def _table(sizes: pl.DataFrame) -> Table:
    from trivium.cli.judge_tables import grid

    heads = ("segment", "queries", "searches", "queries clicked", "clicks", "on grade 3 or 4")
    rows = [
        [
            row["segment"],
            *(f"{row[name]:,}" for name in ("queries", "searches", "clicked", "clicks")),
            "-" if row["relevant"] is None else f"{row['relevant']:.1%}",
        ]
        for row in sizes.to_dicts()
    ]
    return grid("simulated clicks", heads, rows)
