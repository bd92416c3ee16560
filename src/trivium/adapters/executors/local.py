"""Shards on one machine: in this process, or in a pool of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_work: Callable[[int], Any] | None = None


@dataclass(frozen=True)
class LocalExecutor:
    """Works on shards with some processes of this machine.

    Attributes:
        workers: Number of processes; 1 works in this one.
    """

    workers: int = 1

    def run(
        self, setup: Callable[[], Callable[[int], Any]], shards: Sequence[int]
    ) -> Iterator[Any]:
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
        with ProcessPoolExecutor(workers, context, _set_up, (setup,)) as pool:
            futures = [pool.submit(_call, shard) for shard in shards]
            try:
                for future in as_completed(futures):
                    yield future.result()
            finally:
                for future in futures:
                    future.cancel()


def _set_up(setup: Callable[[], Callable[[int], Any]]) -> None:
    global _work
    _work = setup()


def _call(shard: int) -> Any:
    assert _work is not None
    return _work(shard)
