from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from trivium.adapters.executors.local import LocalExecutor
from trivium.foundation.errors import InputError


@dataclass(frozen=True)
class Squares:
    """Writes down each process that loads it, and squares numbers."""

    folder: Path
    unlucky: int | None = None
    broken: bool = False

    def __call__(self):
        if self.broken:
            raise InputError.of("setup", got="nothing", expected="a model", fix="install it")
        (self.folder / f"{os.getpid()}").touch(exist_ok=False)

        def work(number: int) -> tuple[int, int]:
            if number == self.unlucky:
                raise InputError.of(f"shard {number}", got="13", expected="luck", fix="skip it")
            return number, number * number

        return work


SHARDS = [5, 0, 3, 13, 8]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_shard_is_worked_on_once(workers, tmp_path):
    done = list(LocalExecutor(workers).run(Squares(tmp_path), SHARDS))
    assert sorted(done) == [(n, n * n) for n in sorted(SHARDS)]
    loaded = {int(path.name) for path in tmp_path.iterdir()}
    assert 1 <= len(loaded) <= workers
    assert (os.getpid() in loaded) == (workers == 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_shard_surfaces(workers, tmp_path):
    with pytest.raises(InputError, match="shard 13") as caught:
        list(LocalExecutor(workers).run(Squares(tmp_path, unlucky=13), SHARDS))
    assert caught.value.faults[0].fix == "skip it"


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_setup_surfaces(workers, tmp_path):
    with pytest.raises(InputError, match="a model") as caught:
        list(LocalExecutor(workers).run(Squares(tmp_path, broken=True), SHARDS))
    assert caught.value.faults[0].where == "setup"


def test_nothing_to_do_loads_nothing(tmp_path):
    assert list(LocalExecutor(2).run(Squares(tmp_path, broken=True), [])) == []
    assert not list(tmp_path.iterdir())
