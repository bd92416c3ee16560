"""What the user sees: results on stdout, talk and progress on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

_quiet = False
_PLAIN_EVERY_S = 10.0


def set_quiet(*, quiet: bool) -> None:
    """Silence everything but errors."""
    global _quiet
    _quiet = quiet


def say(message: str) -> None:
    """Print a line of talk on stderr."""
    if not _quiet:
        print(message, file=sys.stderr, flush=True)


def progress(rows: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield the rows, showing how far along they are.

    A bar on a terminal; elsewhere a line every ten seconds, so that logs stay short.
    """
    with counter(what, total) as advance:
        for row in rows:
            yield row
            advance(1)


@contextmanager
def counter(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function that is called with the number of units just finished."""
    if _quiet:
        yield lambda _count: None
    elif sys.stderr.isatty():
        with _bar(what, total) as advance:
            yield advance
    else:
        yield _plain(what, total)


def console_for_tables(*, asked_for: bool = False) -> Console:
    """A rich console on stdout; where there is no terminal it is wide enough for tables.

    Args:
        asked_for: Whether the tables are what the command is for, so that `--quiet` keeps them.
    """
    from rich.console import Console

    wide = None if sys.stdout.isatty() else 120
    return Console(width=wide, quiet=_quiet and not asked_for)


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total)
        yield lambda count: bars.update(task, advance=count)


def _plain(what: str, total: int) -> Callable[[int], None]:
    done, last = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, last
        done += count
        if time.monotonic() - last >= _PLAIN_EVERY_S:
            last = time.monotonic()
            say(f"  {what}: {done}/{total}")

    return advance
