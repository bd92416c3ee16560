"""The errors a user can meet: each says what was got, what was expected and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fault:
    """One thing wrong with an input.

    Attributes:
        where: The file, table, column or setting at fault.
        got: What was found there.
        expected: What should have been there.
        fix: What the user can do about it.
    """

    where: str
    got: str
    expected: str
    fix: str

    def __str__(self) -> str:
        """Lay the fault out on four short lines."""
        return (
            f"{self.where}\n    got:      {self.got}\n    expected: {self.expected}\n"
            f"    fix:      {self.fix}"
        )


class TriviumError(Exception):
    """Base of all errors that are the user's to mend; never shown as a traceback.

    Attributes:
        faults: Everything that was found wrong, not only the first thing.
        exit_code: The exit status of the command line for this kind of error.
    """

    exit_code = 1

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__(*faults)

    def __str__(self) -> str:
        """Lay out the faults one below the other."""
        return "\n".join(str(fault) for fault in self.faults)

    @classmethod
    def of(cls, where: str, *, got: str, expected: str, fix: str) -> TriviumError:
        """Build an error with a single fault."""
        return cls(Fault(where, got, expected, fix))


class InputError(TriviumError):
    """The user's tables are faulty. Exit status 3."""

    exit_code = 3


class ConfigError(TriviumError):
    """The configuration is faulty. Exit status 4."""

    exit_code = 4


class WorkspaceError(TriviumError):
    """A run folder is in the way, in use, or lacks what was asked of it. Exit status 5."""

    exit_code = 5


class DependencyError(TriviumError):
    """A package, model or service that was asked for is not there. Exit status 6."""

    exit_code = 6


def combined(errors: Sequence[TriviumError]) -> TriviumError:
    """One error with the faults of several: of their kind if they share one, else an InputError."""
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else InputError
    return kind(*(fault for error in errors for fault in error.faults))


def collect(steps: Sequence[Callable[[], Any]]) -> list[Any]:
    """Take every step, whatever the others raise; then raise all of it at once."""
    made, errors = [], []
    for step in steps:
        try:
            made.append(step())
        except TriviumError as error:
            errors.append(error)
    if errors:
        raise combined(errors)
    return made
