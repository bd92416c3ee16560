"""The commands of `trivium seed`: pick pairs to rate, and read the ratings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

Debug = Annotated[bool, typer.Option("--debug", help="Show the trace of an error.")]

seed_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Have the pairs most worth it rated: pick them, then read what humans rated, or ask a "
    "chat model.",
    epilog="Examples: `trivium seed pick runs/a`; `trivium seed read anna.csv ben.csv`",
)


@seed_app.command(epilog="Example: `trivium seed pick runs/a --pairs 500 --queries 50`")
def pick(
    run: Annotated[Path, typer.Argument(help="Folder of a run in which `mine` is done.")],
    pairs: Annotated[int, typer.Option(min=1, help="Pairs to rate.")] = 500,
    queries: Annotated[int, typer.Option(min=1, help="Queries that they belong to.")] = 50,
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet, a CSV file.")] = Path(
        "to_rate.csv"
    ),
    seed: Annotated[int, typer.Option(help="Seed of the choice.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    debug: Debug = False,
) -> None:
    """Write a sheet of the pairs most worth rating.

    They are spread over the channels that found them, ranks, disagreement and the grades expected;
    a tenth is drawn from the whole catalog. Fill the column `grade` with 0 (embarrassing), 1 (bad),
    2 (fair), 3 (good) or 4 (excellent). The column `why` tells how a pair was found: delete or hide
    it before a rater sees it.
    """
    from trivium.adapters.rating_files import check_place, write_sheet
    from trivium.foundation.console import say
    from trivium.foundation.workspace import Workspace
    from trivium.stages.seed import pick_from_run, summary

    check_place(output, overwrite=overwrite)
    picked = pick_from_run(Workspace(run), pairs=pairs, queries_wanted=queries, seed=seed)
    write_sheet(output, picked, overwrite=overwrite)
    for line in summary(picked, pairs):
        say(line)
    say(f"-> {output}\nnext: fill in the grades, then trivium seed read {output} --run {run}")


@seed_app.command(
    epilog="Example: `trivium seed ask to_rate.csv --url http://localhost:8000/v1 --model llama`"
)
def ask(
    sheet: Annotated[Path, typer.Argument(help="Sheet that `trivium seed pick` wrote.")],
    model: Annotated[str, typer.Option(help="The endpoint's name of the model.")],
    url: Annotated[
        str, typer.Option(help="Base address of an OpenAI-compatible endpoint.")
    ] = "http://localhost:8000/v1",
    prompt: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it at run time
        typer.Option(help="Template with {query} and {item}; the packaged one if not named."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Judgments, a CSV file.")] = Path(
        "judgments.csv"
    ),
    store: Annotated[
        Path, typer.Option(help="Folder in which its answers are kept, so that none is paid twice.")
    ] = Path(".trivium-seed"),
    append: Annotated[bool, typer.Option("--append", help="Add to the file if it exists.")] = False,
    debug: Debug = False,
) -> None:
    """Let a chat model rate a sheet, where no human can: the rater says so in every row.

    What humans have not rated has not been checked by humans: have some of the rows rated by both.
    """
    from trivium.adapters.judges.panel import Desk
    from trivium.adapters.judges.rating import rate
    from trivium.adapters.rating_files import check_addition, read_sheet, write_judgments
    from trivium.adapters.store import LabelStore
    from trivium.foundation.console import say
    from trivium.foundation.judge_config import ChatConfig

    check_addition(output, append=append)
    pairs = read_sheet(sheet)
    desk = Desk(store, LabelStore(store / "labels.sqlite"), "trivium seed ask")
    config = ChatConfig(name="chat", url=url, model=model, prompt=prompt)
    judgments, troubles = rate(pairs, config, desk)
    write_judgments(output, judgments, append=append)
    say(f"{judgments.height:,} of {pairs.height:,} pairs rated by {model}")
    for what, count in sorted(troubles.items()):
        say(f"  {what}: {count:,}")
    say(f"-> {output}")


@seed_app.command(
    epilog="Example: `trivium seed read anna.csv ben.csv --output judgments.csv --run runs/a`"
)
def read(
    sheets: Annotated[list[Path], typer.Argument(help="Sheets that were filled in, as CSV.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Judgments, a CSV file.")] = Path(
        "judgments.csv"
    ),
    run: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--run", help="Check the ids, and the split, against this run."),
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add to the file if it exists.")] = False,
    debug: Debug = False,
) -> None:
    """Read sheets that were filled in, and write their judgments.

    A row without a rater is by the rater that its file is named after; rows without a grade are
    counted and left out.
    """
    from trivium.adapters.rating_files import read_sheet, write_judgments
    from trivium.foundation.console import say
    from trivium.foundation.workspace import Workspace
    from trivium.stages.seed import outlook, read_ratings

    workspace = Workspace(run) if run else None
    ratings = read_ratings({str(path): read_sheet(path) for path in sheets}, workspace)
    judgments = write_judgments(output, ratings.judgments, append=append)
    say(f"{ratings.judgments.height:,} grades read, {ratings.unfilled:,} rows not filled in")
    for line in outlook(judgments, ratings.queries, workspace):
        say(line)
    say(f"-> {output}")
    say(f'next: in trivium.toml, under [data]: judgments = "{output}", seen from its folder')
