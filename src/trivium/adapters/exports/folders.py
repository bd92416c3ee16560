"""A folder that is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trivium.foundation.errors import Fault, WorkspaceError


def refuse_existing(places: list[Path], *, overwrite: bool) -> None:
    """Refuse to write where something is already.

    Raises:
        WorkspaceError: With every place that exists, unless they are to be replaced.
    """
    taken = [] if overwrite else [place for place in places if place.exists()]
    if taken:
        raise WorkspaceError(
            *(
                Fault(
                    str(place),
                    got="something that exists",
                    expected="a new folder",
                    fix="name another folder, or pass --overwrite (overwrite=True)",
                )
                for place in taken
            )
        )


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """Give a folder beside `place` to fill, which then takes its place.

    What was there stays until the new one is whole; after an error nothing is left of the new one.
    """
    beside = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        if place.is_dir():
            shutil.rmtree(place)
        beside.replace(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
