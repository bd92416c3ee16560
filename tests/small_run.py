"""The whole pipeline on a small simulated marketplace, as a user would call it."""

from __future__ import annotations

import sys
from pathlib import Path

from command_line import Result, call_cli

SMALL = {
    "mine.depth": "30",
    "run.shard": "10",
    "annotate.judges.cross_encoder.epochs": "1",
    "annotate.pairs_per_query": "12",
    "train.scale": "0.02",
    "train.validations": "2",
    "train.validation_items": "100",
    "train.max_length": "24",
    "annotate.judges.cross_encoder.max_length": "32",
    "evaluate.resamples": "200",
    "split.seed": "0.5",
    "split.train": "0.25",
    "split.validation": "0.1",
    "split.test": "0.15",
}


def trivium(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("trivium")), *arguments]


def run_command(market: Path, folder: Path, *more: str, **settings: str) -> list[str]:
    chosen = {**SMALL, **{name.replace("__", "."): value for name, value in settings.items()}}
    overrides = [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]
    return trivium("run", str(folder), "-c", str(market / "trivium.toml"), *overrides, *more)


def finish(command: list[str], code: int = 0) -> Result:
    """Run a command in this process, which has loaded what it needs already."""
    done = call_cli(*command[1:])
    assert done.code == code, done.err
    return done
