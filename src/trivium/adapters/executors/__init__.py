"""An executor works on shards: in this process, in several, or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol


class Executor(Protocol):
    """Where shards are worked on."""

    def run(
        self, setup: Callable[[], Callable[[int], Any]], shards: Sequence[int]
    ) -> Iterator[Any]:
        """Work on shards, in any order.

        Args:
            setup: Called once in each process; loads what the work needs and returns the function
                that works on one shard. It must be picklable.
            shards: Numbers of the shards.

        Yields:
            What the function returned, as shards finish.
        """
        ...
