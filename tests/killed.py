"""Work that is killed -9, in processes of its own, and where the work after it goes on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from command_line import call_cli

# Forked from one that has imported what takes ten seconds each time.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["sentence_transformers"])


def kill_when(command: list[str], folder: Path, pattern: str) -> None:
    """Start the command, and kill -9 it as soon as a file of the pattern is there."""
    process = PROCESSES.Process(target=call_cli, args=command[1:])
    process.start()
    while process.is_alive() and not any(folder.glob(pattern)):
        time.sleep(0.001)
    process.kill()
    process.join()


def kill_fit(fit: Callable[[], object], *, step: int, every: int) -> None:
    """Train a judge with a checkpoint in every so many steps, and die while this one is written."""
    import torch

    # With as many threads as here, for the same bits.
    process = PROCESSES.Process(target=_die, args=(fit, step, every, torch.get_num_threads()))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def _die(fit: Callable[[], object], step: int, every: int, threads: int) -> None:
    import torch
    from transformers import Trainer

    from trivium.adapters.judges import trainer

    save = Trainer._save_rng_state

    def killed_while_saving(self: Trainer, folder: str) -> None:
        if self.state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, folder)

    Trainer._save_rng_state = killed_while_saving
    trainer.CHECKPOINT_EVERY = every
    torch.set_num_threads(threads)
    fit()


def resumptions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checkpoints that trainings of judges go on at from now on, as they begin."""
    from trivium.adapters.judges import trainer

    names: list[str] = []
    find = trainer.last_checkpoint

    def found(folder: Path) -> Path | None:
        last = find(folder)
        names.append(last.name if last else "")
        return last

    monkeypatch.setattr(trainer, "last_checkpoint", found)
    return names
