"""The commands `trivium judge` and `trivium cascade`: fit the judges, test them, tune them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

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

judge_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Fit the judges on the seed's human grades, and test them on queries they have not seen.",
)
cascade_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Find when each judge is sure enough.",
)


@judge_app.command(epilog="Example: `trivium judge train runs/a`")
def train(
    folder: RunFolder,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fit every judge that is not fitted yet, in the order of `[[annotate.judges]]`.

    Runs what it still lacks of the stages before. A judge that was fitted to the same grades with
    the same settings is not fitted again, whatever else has changed.
    """
    first = "judges" if overwrite else None
    run_stages(folder, config, overrides, first, "judges", overwrite=overwrite, quiet=quiet)


@judge_app.command("test", epilog="Example: `trivium judge test runs/a`")
def measure(
    folder: RunFolder,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say how far the judges agree with humans, and whether they rank well enough to teach.

    On queries of the part `agreement`, which no judge has seen. Nothing is labelled.
    """
    from trivium.cli.judge_tables import agreement_table, calibration_table, rerank_table
    from trivium.foundation.config import load_config
    from trivium.foundation.console import console_for_tables
    from trivium.foundation.workspace import Workspace
    from trivium.pipeline.judging import trial

    run_stages(folder, config, overrides, None, "judges", overwrite=False, quiet=quiet)
    tables, verdict, _fitted = trial(Workspace(folder), load_config(config, overrides or ()))
    console = console_for_tables(asked_for=True)
    for table in (
        agreement_table(tables["agreement"]),
        calibration_table(tables["calibration"]),
        rerank_table(tables["rerank"]),
    ):
        console.print(table)
    if verdict:
        typer.echo(verdict.text)


@judge_app.command(epilog="Example: `trivium judge drift runs/last-week runs/this-week`")
def drift(
    before: Annotated[Path, typer.Argument(help="Folder of the earlier run.")],
    after: Annotated[Path, typer.Argument(help="Folder of the later run.")],
    debug: Debug = False,
) -> None:
    """Compare the grades that two runs gave: shares, changes, and who settled them."""
    from trivium.cli.judge_tables import drift_tables
    from trivium.domain.drift import drift as compare
    from trivium.foundation.console import console_for_tables
    from trivium.foundation.workspace import Workspace

    labels = [Workspace(run).stage("annotate").read("labels") for run in (before, after)]
    for table in drift_tables(compare(*labels)):
        console_for_tables(asked_for=True).print(table)


@cascade_app.command(
    epilog="Example: `trivium cascade tune runs/a --target 0.8 --guarantee accepted --risk 0.1`"
)
def tune(
    folder: RunFolder,
    config: ConfigFile = DEFAULT_CONFIG,
    overrides: Overrides = None,
    target: Annotated[
        Optional[float],  # noqa: UP045 - typer reads it at run time
        typer.Option(help="Agreement with humans to hold; else the best within annotate.max_cost."),
    ] = None,
    guarantee: Annotated[
        Optional[Literal["per_class", "accepted", "labelled"]],  # noqa: UP045
        typer.Option(help="Hold it for each grade of each judge, all accepted, or all labels."),
    ] = None,
    risk: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Probability with which the guarantee may be broken."),
    ] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Print accuracy against cost, and the thresholds that the labels allow.

    Nothing is written: what pleases goes into trivium.toml. Thresholds are found on queries of the
    part `tuning`, and the agreement printed is that of the part `agreement`.
    """
    from trivium.cli.judge_tables import curve_table, settings_text, settled_table
    from trivium.foundation.config import load_config
    from trivium.foundation.console import console_for_tables
    from trivium.foundation.workspace import Workspace
    from trivium.pipeline.judging import agreement_line, trial

    given = {"target_agreement": target, "guarantee": guarantee, "risk": risk}
    chosen = [f"annotate.{name}={value}" for name, value in given.items() if value is not None]
    settings = [*(overrides or ()), *chosen]
    run_stages(folder, config, overrides, None, "judges", overwrite=False, quiet=quiet)
    loaded = load_config(config, settings)
    tables, _verdict, fitted = trial(Workspace(folder), loaded)
    if loaded.annotate.target_agreement is not None:
        given = {name: getattr(loaded.annotate, name) for name in given}
    console = console_for_tables(asked_for=True)
    console.print(curve_table(tables["curve"]))
    console.print(settled_table(tables["settled"]))
    typer.echo(agreement_line(tables["agreement"]))
    typer.echo(fitted.promise)
    typer.echo(settings_text(fitted.cascade, fitted.calibrations, given))
