"""Shards on one machine: in this process, or in a pool of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Setup = Callable[[], Callable[[int], Any]]

_setup: Setup | None = None
_work: Callable[[int], Any] | None = None


@dataclass(frozen=True)
class LocalExecutor:
    """Works on shards with some processes of this machine.

    Attributes:
        workers: Number of processes; 1 works in this one.
    """

    workers: int = 1

    def run(self, setup: Setup, shards: Sequence[int]) -> Iterator[Any]:
        """See `Executor.run`."""
        if not shards:
            return
        if self.workers == 1:
            yield from map(setup(), shards)
            return
        from concurrent.futures import ProcessPoolExecutor, as_completed
        from multiprocessing import get_context

        workers = min(self.workers, len(shards))
        # Threads of torch and faiss do not survive a fork.
        context = get_context("spawn")
        with ProcessPoolExecutor(workers, context, _set_up, (setup, workers)) as pool:
            futures = [pool.submit(_call, shard) for shard in shards]
            try:
                for future in as_completed(futures):
                    yield future.result()
            finally:
                for future in futures:
                    future.cancel()


def _set_up(setup: Setup, workers: int) -> None:
    global _setup
    _setup = setup
    # Read when torch, numba and BLAS are first imported: processes must not fight over the cores.
    os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))


def _call(shard: int) -> Any:
    global _work
    if _work is None:
        # Not in the pool's initializer, whose errors are lost: the pool only says that it broke.
        assert _setup is not None
        _work = _setup()
    return _work(shard)
