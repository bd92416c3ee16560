"""Seconds of `import trivium` and `trivium --help`: medians of whole processes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

RUNS = 9


def median_s(command: Sequence[str]) -> float:
    """Median wall seconds of a command."""
    seconds = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def main() -> None:
    """Print one JSON object on stdout."""
    python = sys.executable
    bare = median_s([python, "-c", "pass"])
    imported = median_s([python, "-c", "import trivium"])
    helped = median_s([str(Path(python).with_name("trivium")), "--help"])
    figures = {
        "bare_python_s": round(bare, 3),
        "import_trivium_s": round(imported - bare, 3),
        "help_s": round(helped, 3),
        "runs": RUNS,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
