"""The command line inside this process, and how it ended."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from unittest import mock


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    def explains(self, code: int, words: Iterable[str]) -> None:
        """Assert that an error of the user's was explained, with these words among others."""
        assert self.code == code, self.err
        for word in ("got:", "expected:", "fix:", *words):
            assert word in self.err
        assert "Traceback" not in self.err
        assert "fault of trivium" not in self.err
        assert self.out == ""


def call_cli(*args: object) -> Result:
    """Run the command line in this process, exactly as the console script does."""
    from trivium.cli import main
    from trivium.foundation.console import set_quiet

    out, err, code = io.StringIO(), io.StringIO(), 0
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    set_quiet(quiet=False)
    with mock.patch.object(sys, "argv", ["trivium", *map(str, args)]), streams[0], streams[1]:
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    set_quiet(quiet=False)
    return Result(code, out.getvalue(), err.getvalue())
