"""What is imported before any work is asked for: nothing heavy."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

HEAVY = ("torch", "pandas", "sklearn", "ray", "polars", "faiss", "transformers")
HEAVIER = (*HEAVY, "sentence_transformers", "matplotlib", "numba", "scipy", "datasets", "pyarrow")


def imported_by(program: str) -> set[str]:
    """Top-level modules that a fresh process has imported after a program."""
    shown = f"{program}\nimport sys\nsys.stderr.write('\\n'.join(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in ended.stderr.split()}


def through_the_command(*words: str) -> str:
    return f"""
import sys
sys.argv = ["trivium", *{words!r}]
from trivium.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def test_importing_trivium_imports_nothing_heavy():
    modules = imported_by("import trivium; trivium.__version__; dir(trivium)")
    assert "trivium" in modules
    assert modules.isdisjoint(HEAVIER)


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("run", "--help")])
def test_help_imports_nothing_heavy(words):
    modules = imported_by(through_the_command(*words))
    assert {"trivium", "typer"} <= modules
    assert modules.isdisjoint(HEAVIER)


def test_the_public_functions_are_there_when_they_are_asked_for():
    program = (
        "import trivium\nassert all(callable(getattr(trivium, n)) for n in trivium.__all__[1:])"
    )
    modules = imported_by(program)
    assert "polars" in modules
    assert modules.isdisjoint({"torch", "ray", "faiss", "transformers", "matplotlib"})


def test_an_unknown_name_is_an_attribute_error():
    import trivium

    with pytest.raises(AttributeError, match="no attribute 'mines'"):
        _ = trivium.mines  # type: ignore[attr-defined]


def test_tests_do_not_reach_the_network():
    with socket.socket() as outside, pytest.raises(PermissionError, match="the network"):
        outside.connect(("192.0.2.1", 80))
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as inside:
        inside.connect(server.getsockname())
