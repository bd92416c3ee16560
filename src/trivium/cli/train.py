"""The commands that train towers: `trivium train` and `trivium ablate`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from trivium.cli.app import (
    DEFAULT_CONFIG,
    ConfigFile,
    Debug,
    Overrides,
    Overwrite,
    Quiet,
    RunFolder,
    run_stages,
)

if TYPE_CHECKING:
    from trivium.pipeline.rivals import Arena, Rival

TRAIN_EXAMPLES = (
    "Examples: `trivium train runs/a`; `trivium train runs/a --set train.recipe=published`; "
    "`trivium train runs/a --baseline offshelf`; "
    "`trivium train runs/a --baseline click --clicks clicks.parquet`"
)
ABLATE_EXAMPLES = (
    "Examples: `trivium ablate runs/a`; "
    "`trivium ablate runs/a --only levels --only mixed --seeds 3`"
)


def train(
    folder: RunFolder,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
    baseline: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads it at run time
        typer.Option(
            help="Train this in place of the curriculum, on the same budget, and measure both: "
            "start, click, offshelf, seed or mixed; repeatable."
        ),
    ] = None,
    clicks: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Clicks for the baseline click: your own, or of `trivium clicks`."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each baseline.")] = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train the tower through the curriculum, or a baseline that it must beat.

    Runs this stage and what it still lacks of the ones before it.
    """
    if not baseline:
        first = "train" if overwrite else None
        run_stages(folder, config, overrides, first, "train", overwrite=overwrite, quiet=quiet)
        return
    from trivium.pipeline.baselines import baseline as rival_of

    with _arena(folder, config, overrides, quiet=quiet) as arena:
        rivals = [rival_of(arena, name, clicks) for name in baseline]
        _show(arena, [arena.own(), *rivals], seeds)


def ablate(
    folder: RunFolder,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
    only: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="orders, mixed, levels, channels or hard; repeatable; all if absent."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each.")] = 1,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train the curriculum without each of its parts, and say what the part was worth.

    The stages in every other order, all in one, without each level, with one channel alone, and
    with hard labels in place of probabilities. Every training lies under `rivals/` of the run; a
    rerun finishes what is missing.
    """
    from trivium.pipeline.ablating import ablations

    with _arena(folder, config, overrides, quiet=quiet) as arena:
        _show(arena, [arena.own(), *ablations(arena, only or ())], seeds)


@contextmanager
def _arena(
    folder: Path, config: Path, overrides: list[str] | None, *, quiet: bool
) -> Iterator[Arena]:
    """The run, held for this process alone."""
    from trivium.adapters.libraries import quieten
    from trivium.foundation.config import load_config
    from trivium.foundation.console import set_quiet
    from trivium.foundation.workspace import Workspace
    from trivium.pipeline.rivals import open_arena

    set_quiet(quiet=quiet)
    loaded = load_config(config, overrides or ())
    quieten()
    workspace = Workspace(folder)
    with workspace.locked():
        yield open_arena(workspace, loaded)


def _show(arena: Arena, rivals: list[Rival], seeds: int) -> None:
    """Train and measure them, and print how they compare with the first."""
    from trivium.foundation.console import console_for_tables, say
    from trivium.pipeline.rivals import compare
    from trivium.stages.report import results_table

    found = compare(arena, rivals, seeds)
    console = console_for_tables()
    console.print(results_table(found.metrics, found.gains))
    ranked = sorted(found.validation.items(), key=lambda known: -known[1])
    listed = ", ".join(f"{name} {ndcg:.4f}" for name, ndcg in ranked)
    console.print(f"validation NDCG, by which to choose: {listed}", soft_wrap=True)
    say(f"paired over the test queries, the mean of {seeds} seed(s) a query")
    say(f"-> {arena.place}")
