"""The README's code blocks run as they stand, on files like a user's, with small settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

README = Path(__file__).parents[1] / "README.md"
MODELS = ("mine.model", "annotate.judges.cross_encoder.model")
SMALL = (
    "annotate.judges.cross_encoder.epochs=1",
    "annotate.pairs_per_query=10",
    "train.scale=0.01",
    "train.validations=1",
    "mine.depth=30",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def user_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """items.csv, queries.csv and ratings.csv, from a simulated marketplace.

    They lie in the folder with the marketplace's ids, and in its subfolder `numbers` with numbers.
    """
    from trivium.simulation import simulate

    folder = tmp_path_factory.mktemp("user")
    market = simulate(items=250, queries=120, seed=3)
    tables = {
        "items": market.items,
        "queries": market.queries.select("query_id", "query"),
        "ratings": market.judgments.select("query_id", "item_id", "grade"),
    }
    (folder / "numbers").mkdir()
    number = pl.selectors.matches("^(query|item)_id$").str.extract(r"(\d+)$").cast(pl.Int64)
    for name, table in tables.items():
        table.write_csv(folder / f"{name}.csv")
        table.with_columns(number).write_csv(folder / f"numbers/{name}.csv")
    return folder


def test_shell_blocks(model: str, user_files: Path) -> None:
    (commands,) = [block for block in blocks("bash") if "trivium init" in block]
    lines = [line for line in commands.splitlines() if line.startswith("trivium ")]
    assert [line.split()[1] for line in lines] == ["init", "check", "run", "status"]
    settings = (*SMALL, *(f'{name}="{model}"' for name in MODELS))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    for line in lines:
        words = line.split()
        if words[1] in {"check", "run"}:
            words += [word for setting in settings for word in ("--set", setting)]
        done = subprocess.run(
            words, cwd=user_files, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    assert (user_files / "runs/first/train/model/modules.json").exists()
    assert (user_files / "runs/first/report/report.html").exists()
    assert done.stdout.count("done") == 8


@pytest.mark.parametrize(("frames", "ids"), [("polars", "strings"), ("pandas", "numbers")])
def test_python_block(
    model: str,
    user_files: Path,
    tmp_path: Path,
    frames: str,
    ids: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("items.csv", "queries.csv", "ratings.csv"):
        given = user_files / "numbers" if ids == "numbers" else user_files
        (tmp_path / name).symlink_to(given / name)
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    small = code
    for old, new in (
        ("sentence-transformers/all-MiniLM-L6-v2", model),
        ('deberta-v3-base"}', 'deberta-v3-base", "epochs": 1}'),
        ("microsoft/deberta-v3-base", model),
        ("queries, model=tower)", "queries, model=tower, depth=30)"),
        ("judges=judges)", "judges=judges, pairs_per_query=10)"),
        ('output="tower")', 'output="tower", scale=0.01, validations=1)'),
    ):
        assert old in small
        small = small.replace(old, new)
    if frames == "pandas":
        small = small.replace("import polars as pl", "import pandas as pl")
    scope: dict[str, object] = {}
    exec(compile(small, str(README), "exec"), scope)
    read = pl.read_csv(tmp_path / "items.csv")
    assert read.schema["item_id"] == (pl.Int64 if ids == "numbers" else pl.String)
    table = pl.DataFrame if frames == "polars" else __import__("pandas").DataFrame
    for name in ("candidates", "labels", "examples", "queries"):
        assert isinstance(scope[name], table), name
        assert len(scope[name]) > 0, name  # type: ignore[arg-type]
    assert "nDCG@10" in capsys.readouterr().out


def test_make_targets_are_those_that_the_readme_names() -> None:
    makefile = README.with_name("Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"^make (\w+)", "\n".join(blocks("bash")), re.MULTILINE))
    assert named == {"demo", "test"}
    assert named <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
