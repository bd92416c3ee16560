"""The commands and their options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperGroup

STOPPED = 130


class Commands(TyperGroup):
    """The commands; one that is interrupted says how to carry on."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Exit status 130 after Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            anew = " without --overwrite" if "--overwrite" in sys.argv else ""
            typer.echo(f"\nstopped; the same command{anew} carries on from here", err=True)
            raise typer.Exit(STOPPED) from None


app = typer.Typer(
    name="trivium",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Train a dense retriever from what your search systems disagree about.",
    epilog="""**Examples**

`trivium simulate market` writes a simulated marketplace to try things on.

`trivium init --items items.csv --queries queries.csv --judgments ratings.csv` writes trivium.toml.

`trivium check` looks for faults in the tables; `trivium run runs/first` runs every stage.
""",
)

RunFolder = Annotated[Path, typer.Argument(help="Folder of the run; made if absent.")]
ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="The configuration.")]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045 - typer reads it at run time
    typer.Option("--set", help="section.key=value, over what the file says; repeatable."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Run anew, and delete earlier results of the stages.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")]

DEFAULT_CONFIG = Path("trivium.toml")


def refuse_existing(path: Path, option: str, *, overwrite: bool) -> None:
    """Refuse to write over a file unasked.

    Raises:
        WorkspaceError: If the file exists and is not to be replaced.
    """
    from trivium.foundation.errors import WorkspaceError

    if path.exists() and not overwrite:
        raise WorkspaceError.of(
            str(path),
            got="a file that exists",
            expected="a new file",
            fix=f"name another with {option}, or pass --overwrite",
        )


def _version(value: bool) -> None:
    if value:
        from trivium import __version__

        typer.echo(f"trivium {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(epilog="Example: `trivium simulate market --items 5000 --queries 1500 --seed 7`")
def simulate(
    folder: Annotated[Path, typer.Argument(help="Folder to write; must be empty or absent.")],
    items: Annotated[int, typer.Option(help="Items in the catalog.")] = 2000,
    queries: Annotated[int, typer.Option(help="Distinct queries.")] = 600,
    judged: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Queries with truth and ratings; all of them if they are few."),
    ] = None,
    raters: Annotated[int, typer.Option(help="Raters of every pooled pair.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0,
    model: Annotated[
        str, typer.Option(help="Tower named in the configuration that is written.")
    ] = "sentence-transformers/all-MiniLM-L6-v2",
    judge: Annotated[
        str, typer.Option(help="Body of the judge named there.")
    ] = "microsoft/deberta-v3-base",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    debug: Debug = False,
) -> None:
    """Write a simulated marketplace and a configuration for it."""
    from trivium.cli.templates import market_config
    from trivium.foundation.console import say
    from trivium.simulation.files import write
    from trivium.simulation.marketplace import simulate as make

    market = make(items=items, queries=queries, judged=judged, raters=raters, seed=seed)
    write(market, folder, overwrite=overwrite)
    (folder / "trivium.toml").write_text(market_config(model, judge), encoding="utf-8")
    say(
        f"simulated: {market.items.height:,} items, {market.queries.height:,} queries, "
        f"{market.judgments.height:,} ratings, {market.truth.height:,} true grades"
    )
    say(f"-> {folder}\nnext: trivium run RUN --config {folder / 'trivium.toml'}")


@app.command(epilog="Example: `trivium init --items items.csv --queries log.csv --judgments r.csv`")
def init(
    items: Annotated[list[Path], typer.Option(help="Catalog: item_id, title, further fields.")],
    queries: Annotated[list[Path], typer.Option(help="Queries: query_id, query, frequency.")],
    judgments: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="Human grades: query_id, item_id, grade. None yet: see `trivium seed`."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where to write.")
    ] = DEFAULT_CONFIG,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    debug: Debug = False,
) -> None:
    """Write a commented trivium.toml for your files.

    It names the default models, `mine.model` (the tower in production) and those of the judges:
    replace them by your own. Without human grades mine first, and let `trivium seed` pick the pairs
    to rate.
    """
    from trivium.cli.templates import user_config
    from trivium.foundation.console import say
    from trivium.foundation.errors import Fault, InputError

    graded = judgments or []
    absent = [path for path in (*items, *queries, *graded) if not path.is_file()]
    if absent:
        raise InputError(
            *(
                Fault(str(path), got="no such file", expected="a file", fix="correct the path")
                for path in absent
            )
        )
    refuse_existing(output, "--output", overwrite=overwrite)
    text = user_config(items, queries, graded, output.parent)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    mined = f"trivium mine RUN --config {output}, then trivium seed pick RUN"
    say(f"-> {output}\nnext: {f'trivium check --config {output}' if graded else mined}")


@app.command(epilog="Example: `trivium check --config trivium.toml`")
def check(
    config: ConfigFile = DEFAULT_CONFIG, overrides: Overrides = None, debug: Debug = False
) -> None:
    """Look for faults in the configuration and the tables, and name all of them at once."""
    from trivium.adapters.libraries import quieten
    from trivium.foundation.config import load_config
    from trivium.pipeline.check import check_everything

    quieten()
    for line in check_everything(load_config(config, overrides or [])):
        typer.echo(line)


@app.command(
    epilog="Examples: `trivium run runs/a`; `trivium run runs/a --until mine --set mine.depth=99`"
)
def run(
    folder: RunFolder,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
    first: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--from", help="Stage to begin with; those before it must be done."),
    ] = None,
    last: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option("--until", help="Stage to end with."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run the stages in order: inputs, mine, judges, annotate, examples, train, evaluate, report.

    What is done is skipped, what a change made stale runs again, what was killed carries on.
    """
    run_stages(folder, config, overrides, first, last, overwrite=overwrite, quiet=quiet)


@app.command(epilog="Example: `trivium status runs/a`")
def status(
    folder: Annotated[Path, typer.Argument(help="Folder of the run.")],
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--config", "-c", help="Compare with this; else with that of the last run."),
    ] = None,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Show which stages are done, stale (and why), unfinished or missing."""
    from trivium.cli.templates import status_table
    from trivium.foundation.console import say
    from trivium.foundation.workspace import Workspace
    from trivium.pipeline.runner import config_to_compare
    from trivium.pipeline.runner import status as statuses

    workspace = Workspace(folder)
    chosen, name = config_to_compare(workspace, config, overrides or ())
    say(f"compared with {name}")
    typer.echo(status_table(statuses(workspace, chosen)))


def run_stages(
    folder: Path,
    config: Path,
    overrides: list[str] | None,
    first: str | None,
    last: str | None,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Run the stages of a configuration from `first` to `last`."""
    from trivium.adapters.libraries import quieten
    from trivium.foundation.console import set_quiet
    from trivium.foundation.workspace import Workspace
    from trivium.pipeline.runner import Source
    from trivium.pipeline.runner import run as run_pipeline

    set_quiet(quiet=quiet)
    source = Source(config, overrides or ())
    loaded = source.load()
    quieten()
    run_pipeline(Workspace(folder), loaded, source, first=first, last=last, overwrite=overwrite)


@app.command(
    epilog="Examples: `trivium annotate runs/a --dry-run`; "
    "`trivium annotate runs/a --set annotate.max_budget=20`"
)
def annotate(
    folder: RunFolder,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Fit the judges, then say what labels would cost.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Calibrate the judges, find their thresholds, and grade the candidates with the cascade.

    Runs this stage and what it still lacks of the ones before it. No answer is paid for twice;
    `annotate.max_budget` ends a run cleanly, with everything kept.
    """
    first, last = ("annotate" if overwrite else None), "judges" if dry_run else "annotate"
    first = None if dry_run else first
    run_stages(folder, config, overrides, first, last, overwrite=overwrite, quiet=quiet)
    if dry_run:
        from trivium.cli.judge_tables import forecast_table
        from trivium.foundation.config import load_config
        from trivium.foundation.console import console_for_tables
        from trivium.foundation.workspace import Workspace
        from trivium.pipeline.forecast import forecast

        predicted = forecast(Workspace(folder), load_config(config, overrides or ()))
        console_for_tables(asked_for=True).print(forecast_table(predicted))


def _add_stage(name: str, words: str) -> None:
    def command(
        folder: RunFolder,
        config: ConfigFile = DEFAULT_CONFIG,
        overrides: Overrides = None,
        overwrite: Overwrite = False,
        quiet: Quiet = False,
        debug: Debug = False,
    ) -> None:
        first = name if overwrite else None
        run_stages(folder, config, overrides, first, name, overwrite=overwrite, quiet=quiet)

    app.command(
        name,
        help=f"{words}\n\nRuns this stage and what it still lacks of the ones before it.",
        epilog=f"Example: `trivium {name} runs/a`",
    )(command)


for _name, _words in {
    "mine": "Search the channels for every training query.",
    "examples": "Make examples of five levels of difficulty.",
    "evaluate": "Measure the trained tower, the start and BM25 on the test queries.",
    "report": "Write the HTML report and print the results.",
}.items():
    _add_stage(_name, _words)
