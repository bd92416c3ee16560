"""A run's folder: a folder for each stage, shards of Parquet, and a manifest that is written last.

A stage is *done* when its manifest exists and was made from the same plan (settings, inputs and
earlier stages) as the one that is asked for. Everything is written beside its place and renamed
into it, so that a killed process leaves no half file behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from trivium.foundation.errors import WorkspaceError

State = Literal["done", "stale", "unfinished", "missing"]


@dataclass(frozen=True)
class Plan:
    """All that decides what a stage makes.

    Attributes:
        stage: The stage's name.
        settings: Settings that the stage reads, by dotted name.
        inputs: Fingerprints of the files and models that it reads, by name.
        upstream: Keys of the stages whose tables it reads, by name.
    """

    stage: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    upstream: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A hash of the plan: equal keys make equal tables."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """The plan as plain JSON values."""
        plain = {
            "stage": self.stage,
            "settings": dict(self.settings),
            "inputs": dict(self.inputs),
            "upstream": dict(self.upstream),
        }
        return dict(json.loads(json.dumps(plain, default=str)))

    def changes_since(self, earlier: Mapping[str, Any]) -> list[str]:
        """Say in words how this plan differs from an earlier one's `as_dict`."""
        now, changes = self.as_dict(), []
        for part, verb in (("settings", "setting"), ("inputs", "input"), ("upstream", "stage")):
            before, after = earlier.get(part, {}), now[part]
            for name in sorted(before.keys() | after.keys()):
                if before.get(name) == after.get(name):
                    continue
                if part == "settings":
                    changes.append(f"{name}: {before.get(name)!r} -> {after.get(name)!r}")
                else:
                    changes.append(f"{verb} {name} changed")
        return changes


@dataclass(frozen=True)
class StageFolder:
    """Where one stage keeps its shards, artifacts and manifest."""

    path: Path

    @property
    def manifest_path(self) -> Path:
        """The file whose existence means that the stage is finished."""
        return self.path / "manifest.json"

    @property
    def _plan_path(self) -> Path:
        return self.path / "plan.json"

    def manifest(self) -> dict[str, Any] | None:
        """The manifest, or None while the stage is not finished."""
        return read_json(self.manifest_path)

    def begun(self) -> dict[str, Any] | None:
        """The plan that the stage was begun with, if it was: `Plan.as_dict`."""
        return read_json(self._plan_path)

    def state(self, plan: Plan) -> tuple[State, list[str]]:
        """Say whether the stage is done for a plan, and if it is stale, why."""
        earlier = self.begun()
        if earlier is None:
            return "missing", []
        changes = plan.changes_since(earlier)
        if changes:
            return "stale", changes
        return ("unfinished" if self.manifest() is None else "done"), []

    def begin(self, plan: Plan, *, overwrite: bool) -> None:
        """Make the folder ready for a plan: carry on with the same one, set another one aside.

        The work of another plan is moved to `superseded/`, or deleted when `overwrite` is set.

        Raises:
            WorkspaceError: If files that no stage wrote are in its place.
        """
        state, _changes = self.state(plan)
        if state in {"done", "unfinished"} and not overwrite:
            return
        if self.path.exists():
            self._set_aside(delete=overwrite)
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self._plan_path, plan.as_dict())

    def _set_aside(self, *, delete: bool) -> None:
        if not self._plan_path.exists():
            self._refuse_foreign_files()
            return
        if delete:
            shutil.rmtree(self.path)
            return
        shelf = self.path.parent / "superseded"
        shelf.mkdir(exist_ok=True)
        number = 1
        while (shelf / f"{self.path.name}-{number}").exists():
            number += 1
        self.path.rename(shelf / f"{self.path.name}-{number}")

    def _refuse_foreign_files(self) -> None:
        if self.path.is_dir() and all(p.name.startswith(".") for p in self.path.iterdir()):
            return
        raise WorkspaceError.of(
            str(self.path),
            got="files that trivium did not write",
            expected=f"a place for the results of the stage '{self.path.name}'",
            fix="name another run folder, or move these files away",
        )

    def finish(self, plan: Plan, details: Mapping[str, Any]) -> None:
        """Write the manifest, the last file of a stage."""
        write_json(self.manifest_path, {"key": plan.key, "plan": plan.as_dict(), **details})

    def table_path(self, table: str) -> Path:
        """Where a table that is one file lies."""
        return self.path / f"{table}.parquet"

    def shard_path(self, table: str, number: int) -> Path:
        """Where a shard of a table lies."""
        return self.path / table / f"part-{number:05d}.parquet"

    def parts(self, table: str) -> list[Path]:
        """The shards of a table that are there, in order."""
        return sorted((self.path / table).glob("part-*.parquet"))

    def read(self, table: str) -> pl.DataFrame:
        """Read a table, whole, from its one file or from its shards in order.

        Raises:
            WorkspaceError: If the stage has not made it.
        """
        single = self.table_path(table)
        if single.exists():
            return pl.read_parquet(single, memory_map=False)
        return pl.concat([pl.read_parquet(p, memory_map=False) for p in self.shards(table)])

    def shards(self, table: str) -> list[Path]:
        """The files of a table that lies in shards, in order.

        Raises:
            WorkspaceError: If the stage has not made it.
        """
        parts = self.parts(table)
        if not parts:
            raise WorkspaceError.of(
                str(self.path / table),
                got="no such table",
                expected=f"the table '{table}' of stage '{self.path.name}'",
                fix=f"run the stage first: trivium run --until {self.path.name}",
            )
        return parts


@dataclass(frozen=True)
class Workspace:
    """The folder of one run."""

    root: Path

    def stage(self, name: str) -> StageFolder:
        """The folder of a stage, whether it exists or not."""
        return StageFolder(self.root / name)

    @property
    def cache(self) -> Path:
        """Where embeddings are kept between stages; safe to delete."""
        return self.root / "cache"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process alone; one that was made and left empty is removed.

        Raises:
            WorkspaceError: If another process works in it, or it cannot be made.
        """
        import fcntl

        made = not self.root.exists()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError.of(
                str(self.root),
                got="a file" if self.root.is_file() else (error.strerror or str(error)).lower(),
                expected="a folder, or a place where one can be made",
                fix="name another run folder",
            ) from None
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkspaceError.of(
                    str(self.root),
                    got="another process is working in this run folder",
                    expected="one process at a time",
                    fix="wait for it to end, or name another run folder",
                ) from None
            try:
                yield
            finally:
                if made and [path.name for path in self.root.iterdir()] == [".lock"]:
                    shutil.rmtree(self.root)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_table(path: Path, table: pl.DataFrame) -> None:
    """Write a table as Parquet, atomically and with the same bytes for the same rows."""
    write_atomically(path, lambda place: table.write_parquet(place, compression="zstd"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON, atomically."""
    text = json.dumps(content, indent=2, default=str, ensure_ascii=False) + "\n"
    write_atomically(path, lambda place: place.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any] | None:
    """Read JSON, or None where there is no file.

    Raises:
        WorkspaceError: If the file is damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError) as error:
        raise WorkspaceError.of(
            str(path),
            got=f"damaged JSON ({error})",
            expected="a file written by trivium",
            fix="delete the stage's folder and run again",
        ) from None


def fingerprint_table(table: pl.DataFrame) -> str:
    """SHA-256 of a table's columns and values, whatever the order of its rows."""
    rows = sorted(table.write_ndjson().splitlines())
    return hashlib.sha256("\n".join([repr(table.schema), *rows]).encode()).hexdigest()


def fingerprint(path: Path) -> str:
    """SHA-256 of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
