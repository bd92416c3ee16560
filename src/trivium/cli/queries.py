"""The command `trivium queries`: a table of queries out of raw logs."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from trivium.cli.app import refuse_existing

if TYPE_CHECKING:
    import polars as pl
    from rich.table import Table

EXAMPLES = """**Examples**

`trivium queries log.csv.gz --count-column hits --output queries.parquet`

`trivium queries logs/*.jsonl --query-column q --date-column day --since 2026-10-01`

`trivium queries log.parquet --min-frequency 2 --sample 100000 --head 1 --torso 2 --tail 2`
"""

_DAY = ["%Y-%m-%d"]
Weight = Annotated[
    Optional[float],  # noqa: UP045 - typer reads it at run time
    typer.Option(min=0, help="Weight of this segment in the sample; 0 if others have one."),
]


def queries(
    logs: Annotated[
        list[Path], typer.Argument(help="CSV, TSV, JSON lines, .txt (a query a line), Parquet.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The table, a Parquet file.")
    ] = Path("queries.parquet"),
    query_column: Annotated[str, typer.Option(help="Column of the texts.")] = "query",
    count_column: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Column of how often each was asked; else every row counts once."),
    ] = None,
    date_column: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Column of days such as 2026-11-25, or dates and times."),
    ] = None,
    since: Annotated[
        Optional[datetime],  # noqa: UP045
        typer.Option(formats=_DAY, help="First day that is read."),
    ] = None,
    until: Annotated[
        Optional[datetime],  # noqa: UP045
        typer.Option(formats=_DAY, help="Last day that is read."),
    ] = None,
    min_frequency: Annotated[
        int, typer.Option(min=1, help="Least times that a query was asked.")
    ] = 1,
    max_length: Annotated[int, typer.Option(min=1, help="Most characters of a query.")] = 200,
    fold: Annotated[
        bool, typer.Option(help="Make one of queries that ask the same in another spelling.")
    ] = True,
    sample: Annotated[int, typer.Option(min=0, help="Queries to draw; 0 keeps all.")] = 0,
    head: Weight = None,
    torso: Weight = None,
    tail: Weight = None,
    head_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the traffic that head queries make.")
    ] = 0.5,
    torso_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share that head and torso make together.")
    ] = 0.9,
    id_prefix: Annotated[str, typer.Option(help="What every query_id begins with.")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")] = False,
) -> None:
    """Make a table of queries out of raw logs of any size: query_id, query, frequency, segment.

    Texts are counted and folded; the segments are cut by traffic: head are the most
    frequent queries that together make half of it, torso those that bring it to nine tenths. The
    ids are hashes of what is asked, the same in every log.
    """
    from trivium.adapters.query_logs import LogFormat, read_logs
    from trivium.foundation.console import console_for_tables, say, set_quiet
    from trivium.foundation.workspace import write_table
    from trivium.stages.queries import LogSettings, queries_of_log

    set_quiet(quiet=quiet)
    given = {"head": head, "torso": torso, "tail": tail}
    weights = {name: weight for name, weight in given.items() if weight is not None}
    _check_options(weights, sample, (head_share, torso_share), date_column, since or until)
    _check_place(output, overwrite=overwrite)
    form = LogFormat(
        query=query_column,
        count=count_column,
        date=date_column,
        since=since.date() if since else None,
        until=until.date() if until else None,
        max_length=max_length,
    )
    settings = LogSettings(
        fold=fold,
        min_frequency=min_frequency,
        sample=sample,
        weights=weights,
        head_share=head_share,
        torso_share=torso_share,
        id_prefix=id_prefix,
        seed=seed,
    )
    log = read_logs(logs, form)
    say(f"{log.rows:,} rows read, {log.queries.height:,} different texts")
    for row in log.left_out.to_dicts():
        say(f"  rows left out, {row['reason']}: {row['rows']:,}, such as {row['example']!r}")
    made = queries_of_log(log.queries, settings)
    for line in made.summary:
        say(f"  {line}")
    write_table(output, made.queries)
    console_for_tables().print(_table(made.sizes))
    say(f"{made.queries.height:,} queries -> {output}")
    say(f'next: in trivium.toml, under [data]: queries = "{output}", seen from its folder')


def _check_options(
    weights: dict[str, float],
    sample: int,
    shares: tuple[float, float],
    date_column: str | None,
    day: date | None,
) -> None:
    from trivium.domain.query_log import weighted
    from trivium.foundation.errors import ConfigError

    if weights:
        weighted(weights)
    faults = {
        "--head, --torso, --tail": ("weights without --sample", weights and not sample),
        "--since, --until": ("days without --date-column", day and not date_column),
    }
    for where, (got, wrong) in faults.items():
        if wrong:
            raise ConfigError.of(
                where, got=got, expected="both", fix="give the other option too, or neither"
            )
    if shares[1] < shares[0]:
        raise ConfigError.of(
            "--torso-share",
            got=f"{shares[1]:g}",
            expected=f"at least --head-share, {shares[0]:g}",
            fix="raise it; it is the share that head and torso make together",
        )


def _check_place(output: Path, *, overwrite: bool) -> None:
    from trivium.foundation.errors import WorkspaceError

    if output.suffix != ".parquet":
        raise WorkspaceError.of(
            str(output),
            got=f"an ending '{output.suffix}'",
            expected=".parquet",
            fix="name a Parquet file with --output",
        )
    refuse_existing(output, "--output", overwrite=overwrite)


def _table(sizes: pl.DataFrame) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for name in ("segment", "queries", "asked", "traffic", "taken"):
        table.add_column(name, justify="left" if name == "segment" else "right")
    for row in sizes.to_dicts():
        counts = [f"{row[name]:,}" for name in ("queries", "asked")]
        table.add_row(row["segment"], *counts, f"{row['traffic']:.1%}", f"{row['taken']:,}")
    return table
