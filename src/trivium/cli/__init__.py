"""The command line: words for the stages, no logic of its own."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; errors that are the user's to mend end in a message, not a trace."""
    from trivium.cli.commands import app
    from trivium.foundation.errors import TriviumError, WorkspaceError

    debug = "--debug" in sys.argv or bool(os.environ.get("TRIVIUM_DEBUG"))
    try:
        app()
    except TriviumError as error:
        if debug:
            raise
        _print_faults(error)
        sys.exit(error.exit_code)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, OSError) and error.errno:  # no permission, no space
            sys.stderr.write(f"error: {error}\n")
            sys.exit(WorkspaceError.exit_code)
        sys.stderr.write(f"error: {type(error).__name__}: {error}\n")
        sys.stderr.write("This is a fault of trivium's. Run again with --debug for its trace.\n")
        sys.exit(1)


def _print_faults(error: Exception) -> None:
    faults = getattr(error, "faults", ())
    count = f"{len(faults)} faults" if len(faults) != 1 else "error"
    sys.stderr.write(f"{count}:\n")
    for fault in faults:
        sys.stderr.write(f"  {fault}\n")
