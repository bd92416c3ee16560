"""The rows that a stage trains on, each drawn from its number alone, however many there are.

Nothing is laid out before training: the row of a number is computed when it is asked for, from
arrays that may be mapped from files, with memory for the queries and not for the examples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from trivium.domain.example_arrays import ExampleArrays
from trivium.domain.sampling import draw_positions, hash_strings, mix
from trivium.foundation.train_config import GRADED_LOSSES, StageConfig

Ints = NDArray[np.int64]

MAX_HUMAN_REPEATS = 4
"""Times that a stage uses one human positive at most, where a share of them is stated; and rows of
a query with human positives for each row of another query, at most. Ours: few queries are worn out
by half of a stage's rows."""

_REDRAWS = 20
_HUMAN, _OTHERS, _ZEROS, _NEGATIVES = range(4)  # streams of randomness


@dataclass(frozen=True)
class Pool:
    """Some of the examples, by query.

    Attributes:
        chosen: Positions of the examples, ascending, (n,); may be mapped from a file.
        queries: Numbers of the queries that have some, ascending, (q,).
        starts: Where each query's begin in `chosen`, (q,).
        counts: How many each has, (q,).
    """

    chosen: Ints
    queries: Ints
    starts: Ints
    counts: Ints

    @classmethod
    def of(cls, chosen: Ints, examples: ExampleArrays) -> Pool:
        """Group chosen examples by query, block by block."""
        found: list[Ints] = []
        counted: list[Ints] = []
        for begin in range(0, len(chosen), 1 << 20):
            owners = examples.query[np.asarray(chosen[begin : begin + (1 << 20)])]
            queries, counts = np.unique(owners, return_counts=True)
            found.append(queries.astype(np.int64))
            counted.append(counts.astype(np.int64))
        if not found:
            nothing = np.empty(0, dtype=np.int64)
            return cls(nothing, nothing, nothing, nothing)
        queries, place = np.unique(np.concatenate(found), return_inverse=True)
        counts = np.bincount(place, np.concatenate(counted)).astype(np.int64)
        return cls(chosen, queries.astype(np.int64), np.cumsum(counts) - counts, counts)

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.chosen)


class Turns:
    """A pool's examples in an endless order: every query gives one before any gives a second.

    With grades, a query gives those of the highest grade first, equal ones in a drawn order: few
    turns then spend themselves on what is surest and best. When all have been given, they are given
    again, equal ones in another order.

    Args:
        pool: Some of the examples.
        seed: Of the order.
        stream: Tells this order from others of the same seed.
        grades: Expected grades of all examples, NaN where nobody graded; without, all are equal.
    """

    def __init__(
        self, pool: Pool, seed: int, stream: int, grades: NDArray[np.float32] | None = None
    ) -> None:
        self._pool, self._seed, self._grades = pool, (seed, stream), grades
        self._most_first = np.argsort(-pool.counts, kind="stable")
        reach = np.bincount(pool.counts)[::-1].cumsum()[::-1][1:]  # queries with more than t
        self._bounds = np.concatenate([[0], np.cumsum(reach)])
        self._shuffled = lru_cache(maxsize=4)(self._shuffle)

    def at(self, numbers: Ints) -> Ints:
        """Positions among the examples of the pool's n-th ones, for some n: (numbers,)."""
        total = self._bounds[-1]
        epoch, rest = numbers // total, numbers % total
        turn = np.searchsorted(self._bounds, rest, side="right") - 1
        place = rest - self._bounds[turn]
        members = np.empty(len(numbers), dtype=np.int64)
        for one in np.unique(np.column_stack([epoch, turn]), axis=0):
            of_it = (epoch == one[0]) & (turn == one[1])
            members[of_it] = self._shuffled(int(one[0]), int(one[1]))[place[of_it]]
        return self._best(members, turn, epoch)

    def _best(self, members: Ints, turn: Ints, epoch: Ints) -> Ints:
        """Positions of the examples that are the best but for `turn` others, of some queries."""
        counts = self._pool.counts[members]
        begins = np.cumsum(counts) - counts
        row = np.repeat(np.arange(len(members)), counts)
        places = self._pool.starts[members][row] + np.arange(len(row)) - begins[row]
        chosen = np.asarray(self._pool.chosen[places])
        worse = np.zeros(len(row))
        if self._grades is not None:
            worse -= np.nan_to_num(self._grades[chosen])
        seed = np.uint64(self._seed[0] * 8 + self._seed[1])
        drawn = mix(
            chosen.astype(np.uint64) ^ mix(seed + (epoch[row].astype(np.uint64) << np.uint64(8)))
        )
        order = np.lexsort((drawn, worse, row))
        return chosen[order[begins + turn % counts]]

    def _shuffle(self, epoch: int, turn: int) -> Ints:
        size = int(self._bounds[turn + 1] - self._bounds[turn])
        rng = np.random.default_rng([*self._seed, epoch, turn])
        return self._most_first[rng.permutation(size)]


@dataclass(frozen=True)
class Rows:
    """Some rows, as numbers of queries and positions of items.

    Attributes:
        queries: int64 (rows,).
        items: int64 (rows, 1 + columns): the positive, or BCE's only item, then the negatives.
        targets: float64 (rows, t): 0 or 1 for BCE (t = 1), a grade for each item for the losses
            that read them (t = 1 + columns), nothing for the others (t = 0).
    """

    queries: Ints
    items: Ints
    targets: NDArray[np.float64]


class StageRows:
    """The rows of a stage: `draw` gives those of any numbers from 0 to `total` - 1.

    Every query gives a positive before any gives a second one, its best first; when all are used
    they are used again. Where a share of human positives is stated, human and machine ones
    alternate in that share, as far as `MAX_HUMAN_REPEATS` allows. A row whose query has too few
    negatives of the stage's levels gets random items that are not known to be relevant. BCE has as
    many negatives as positives.

    Args:
        stage: The stage.
        examples: All examples.
        positives: Its positives; if it states a share of human ones, those of machines.
        human: Its human positives, if it states their share.
        negatives: Its negatives.
        known: Sorted codes query * items + item of pairs that must never serve as negatives.
        n_items: Items in the catalog.
        seed: Seed of every order and draw.
    """

    def __init__(
        self,
        stage: StageConfig,
        examples: ExampleArrays,
        positives: Pool,
        human: Pool,
        negatives: Pool,
        known: Ints,
        n_items: int,
        seed: int,
    ) -> None:
        self.stage, self._examples = stage, examples
        seed = int(hash_strings([stage.name], seed)[0] >> np.uint64(8))  # stages draw others' rows
        self._known, self._n_items, self._seed = known, n_items, seed
        grades = examples.expected_grade
        self._human = Turns(human, seed, _HUMAN, grades) if len(human) else None
        self._others = Turns(positives, seed, _OTHERS, grades) if len(positives) else None
        self._negatives, self._zeros = negatives, None
        if stage.loss == "bce" and len(negatives):
            self._zeros = Turns(negatives, seed, _ZEROS)
        self.steps = stage.steps
        if stage.epochs:
            rows = stage.epochs * (len(human) + len(positives))
            self.steps = max(1, round(rows / stage.batch))
        self.total = self.steps * stage.batch
        self._humans = self._human_rows(human, positives)

    def draw(self, numbers: Ints) -> Rows:
        """The rows of some numbers."""
        if self._zeros is not None:
            return self._labelled(numbers)
        positives = self._positives(numbers, self.total)
        queries = self._examples.query[positives].astype(np.int64)
        items = self._examples.item[positives].astype(np.int64)[:, None]
        grades = self._expected(positives)[:, None]
        if self.stage.negatives:
            drawn, theirs = self._draw_negatives(numbers, queries)
            items, grades = np.hstack([items, drawn]), np.hstack([grades, theirs])
        reads_grades = self.stage.loss in GRADED_LOSSES
        return Rows(queries, items, grades if reads_grades else grades[:, :0])

    def _human_rows(self, human: Pool, others: Pool) -> int:
        share, total = self.stage.human_share, self._positive_rows(self.total)
        if share is None or not (len(human) and len(others)):
            return total if len(human) else 0
        if share == 1:
            return total
        weight = MAX_HUMAN_REPEATS * len(human.queries)
        fair = total * weight / (weight + len(others.queries))
        return round(min(total * share, fair, MAX_HUMAN_REPEATS * len(human)))

    def _positive_rows(self, total: int) -> int:
        return total - total // 2 if self._zeros is not None else total

    def _positives(self, numbers: Ints, total: int) -> Ints:
        """Positions of the n-th positives of `total`."""
        before = numbers * self._humans // total  # human ones among the earlier
        is_human = (numbers + 1) * self._humans // total > before
        found = np.empty(len(numbers), dtype=np.int64)
        for turns, of_it, places in (
            (self._human, is_human, before),
            (self._others, ~is_human, numbers - before),
        ):
            if turns is not None and of_it.any():
                found[of_it] = turns.at(places[of_it])
        return found

    def _labelled(self, numbers: Ints) -> Rows:
        assert self._zeros is not None
        ones = numbers % 2 == 0
        found = np.empty(len(numbers), dtype=np.int64)
        if ones.any():
            found[ones] = self._positives(numbers[ones] // 2, self._positive_rows(self.total))
        if not ones.all():
            found[~ones] = self._zeros.at(numbers[~ones] // 2)
        items = self._examples.item[found].astype(np.int64)[:, None]
        queries = self._examples.query[found].astype(np.int64)
        return Rows(queries, items, ones.astype(np.float64)[:, None])

    def _draw_negatives(self, numbers: Ints, queries: Ints) -> tuple[Ints, NDArray[np.float64]]:
        """Negatives of each row's own query, or random items where it has too few."""
        columns = self.stage.columns
        keys = mix(numbers.astype(np.uint64) ^ mix(np.uint64(self._seed * 8 + _NEGATIVES)))
        random = self._random_items(keys, queries, columns)
        pool = self._negatives
        place = np.minimum(np.searchsorted(pool.queries, queries), len(pool.queries) - 1)
        count = np.where(pool.queries[place] == queries, pool.counts[place], 0)
        first = (keys % np.maximum(count, 1).astype(np.uint64)).astype(np.int64)
        column = np.arange(columns)
        turn = (first[:, None] + column) % np.maximum(count, 1)[:, None]
        chosen = np.asarray(pool.chosen[pool.starts[place][:, None] + turn])
        own = column < count[:, None]
        items = np.where(own, self._examples.item[chosen].astype(np.int64), random)
        return items, np.where(own, self._expected(chosen), 0.0)

    def _random_items(self, keys: NDArray[np.uint64], queries: Ints, columns: int) -> Ints:
        """Draw items, again where one is known to be relevant."""
        tries = draw_positions(keys, columns * (1 + _REDRAWS), self._n_items)
        tries = tries.reshape(len(keys), 1 + _REDRAWS, columns)
        drawn = tries[:, 0].copy()
        for number in range(1, 1 + _REDRAWS):
            wrong = self._is_known(queries[:, None] * self._n_items + drawn)
            if not wrong.any():
                break
            drawn[wrong] = tries[:, number][wrong]
        return drawn

    def _is_known(self, codes: Ints) -> NDArray[np.bool_]:
        if not len(self._known):
            return np.zeros(codes.shape, dtype=np.bool_)
        place = np.minimum(np.searchsorted(self._known, codes), len(self._known) - 1)
        found: NDArray[np.bool_] = self._known[place] == codes
        return found

    def _expected(self, positions: Ints) -> NDArray[np.float64]:
        return np.nan_to_num(self._examples.expected_grade[positions].astype(np.float64))
