"""The command `trivium export`: a run's tower and examples, for other software."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from trivium.cli.app import Debug, Quiet

if TYPE_CHECKING:
    from trivium.pipeline.exporting import ExportedRun

EXAMPLES = (
    "Examples: `trivium export runs/a --to out`; "
    "`trivium export runs/a --to out --format int8 --examples tevatron`"
)


class ModelChoice(StrEnum):
    """Formats of a tower."""

    SENTENCE_TRANSFORMERS = "sentence-transformers"
    ONNX = "onnx"
    INT8 = "int8"


class ExamplesChoice(StrEnum):
    """Formats of examples."""

    SENTENCE_TRANSFORMERS = "sentence-transformers"
    TEVATRON = "tevatron"
    FLAGEMBEDDING = "flagembedding"


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run that is trained.")],
    to: Annotated[Path, typer.Option(help="Folder to write into; made if absent.")],
    formats: Annotated[
        Optional[list[ModelChoice]],  # noqa: UP045 - typer reads it at run time
        typer.Option(
            "--format",
            help="Of the tower; repeatable. onnx: fp32, proven equal; int8: both, and what int8 "
            "loses. Without --format and --examples: sentence-transformers and onnx.",
        ),
    ] = None,
    examples: Annotated[
        Optional[list[ExamplesChoice]],  # noqa: UP045
        typer.Option(help="Write the examples in a trainer's format; repeatable."),
    ] = None,
    negatives: Annotated[
        int, typer.Option(min=0, help="Negatives of a row for sentence-transformers.")
    ] = 4,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what was exported there before.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Export the tower of a run, and its examples, in the formats of other software.

    The tower goes to `model` (with a card of how it was made) and `onnx`, the examples to
    `examples/FORMAT`. ONNX graphs pool and normalise, and are compared with the model on texts of
    the run; one that differs by more than 1e-5 is refused.
    """
    from trivium.adapters.libraries import quieten
    from trivium.foundation.console import set_quiet
    from trivium.pipeline.exporting import export_run

    set_quiet(quiet=quiet)
    quieten()
    chosen = formats or ([] if examples else [ModelChoice.SENTENCE_TRANSFORMERS, ModelChoice.ONNX])
    made = export_run(
        run,
        to,
        [choice.value for choice in dict.fromkeys(chosen)],
        [choice.value for choice in dict.fromkeys(examples or [])],
        negatives=negatives,
        overwrite=overwrite,
    )
    for line in _lines(made):
        typer.echo(line)
    _say_where(to)


def _lines(made: ExportedRun) -> list[str]:
    of_model = made.model.lines() if made.model else []
    return [*of_model, *(_counted(name, counts) for name, counts in made.examples.items())]


def _counted(name: str, counts: Counter[str]) -> str:
    left_out = [f"{n:,} {why}" for why, n in counts.items() if why != "rows" and n]
    text = f"{name}: {counts['rows']:,} rows"
    return f"{text}; left out: {', '.join(left_out)}" if left_out else text


def _say_where(to: Path) -> None:
    from trivium.foundation.console import say

    say(f"-> {to}")
