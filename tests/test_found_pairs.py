"""Numbered ids, and the runs of channels put together, against plain dictionaries."""

import numpy as np
import polars as pl
import pytest

from trivium.domain.found_pairs import FoundPairs
from trivium.domain.ids import Ids
from trivium.foundation.errors import InputError
from trivium.foundation.tables import RUNS, candidates_schema, validate

QUERIES = Ids(pl.Series(sorted(f"q{n}" for n in range(12))))
ITEMS = Ids(pl.Series(sorted(f"i{n}" for n in range(200))))


def random_runs(seed, channels=("a", "b", "c")):
    """A run of each channel, rows in no order; some queries find nothing."""
    rng = np.random.default_rng(seed)
    runs = {}
    for channel in channels:
        rows = [
            (query, item, channel, rank, float(rng.normal()))
            for query in QUERIES.ids
            for rank, item in enumerate(
                rng.permutation(ITEMS.ids.to_list())[: rng.integers(0, 40)].tolist(), start=1
            )
        ]
        run = pl.DataFrame(rows, schema=dict(RUNS.columns), orient="row")
        runs[channel] = run.sample(fraction=1.0, shuffle=True, seed=seed)
    return runs


def test_ids_are_numbered_exactly():
    rng = np.random.default_rng(0)
    ids = sorted({f"{x:x}" for x in rng.integers(0, 1 << 40, 20_000)})
    numbers = {text: number for number, text in enumerate(ids)}
    asked = [*rng.choice(ids, 5_000).tolist(), *(f"no-{n}" for n in range(5_000)), ""]
    assert Ids(pl.Series(ids)).numbers(pl.Series(asked)).tolist() == [
        numbers.get(text, -1) for text in asked
    ]


def test_ids_of_nothing_and_ids_given_twice():
    assert Ids(pl.Series([], dtype=pl.String)).numbers(pl.Series(["a"])).tolist() == [-1]
    assert Ids(pl.Series(["a"])).numbers(pl.Series([], dtype=pl.String)).tolist() == []
    assert Ids(pl.Series(["a", "a", "b"])).numbers(pl.Series(["b", "a"])).tolist() == [2, 0]


def test_the_table_equals_a_plain_reference():
    runs = random_runs(1)
    expected = {}
    for channel, run in runs.items():
        for query, item, _, rank, score in run.rows():
            expected.setdefault((query, item), {})[channel] = (rank, score)
    pairs = FoundPairs.of(runs, QUERIES, ITEMS)
    tfidf = np.arange(len(pairs.keys), dtype=np.float32)
    left = [
        (q, i)
        for q in range(len(QUERIES))
        for i in range(len(ITEMS))
        if (QUERIES.ids[q], ITEMS.ids[i]) not in expected
    ][::-7]
    query, item = (np.array(column, dtype=np.int64) for column in zip(*left, strict=True))
    table = pairs.table(tfidf, (query, item, -np.ones(len(left), dtype=np.float32)))
    assert validate(table, candidates_schema(("a", "b", "c"))).equals(table)
    rows = {key: {} for key in ((QUERIES.ids[q], ITEMS.ids[i]) for q, i in left)} | expected
    order = sorted(expected)
    assert table.rows() == [
        (
            *key,
            *(value for channel in "abc" for value in rows[key].get(channel, (None, None))),
            len(rows[key]),
            float(order.index(key)) if key in expected else -1.0,
        )
        for key in sorted(rows)
    ]


def test_the_pairs_are_sorted_and_numbered():
    pairs = FoundPairs.of(random_runs(2), QUERIES, ITEMS)
    query, item = pairs.pairs
    assert np.all(np.diff(pairs.keys) > 0)
    assert np.array_equal(query * len(ITEMS) + item, pairs.keys)


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [("item_id", "stranger", "ids of the catalog"), ("query_id", "other", "that were asked")],
)
def test_an_id_that_nobody_knows_is_named(column, value, expected):
    run = random_runs(3)["a"]
    wrong = run.with_columns(
        pl.when(pl.int_range(pl.len()) == 4).then(pl.lit(value)).otherwise(column).alias(column)
    )
    with pytest.raises(InputError, match=f"(?s)channel 'a'.*{value}.*{expected}"):
        FoundPairs.of({"a": wrong}, QUERIES, ITEMS)


def test_a_pair_that_a_channel_found_twice_is_named():
    run = random_runs(4)["a"]
    with pytest.raises(InputError, match=r"(?s)channel 'a'.*share a key"):
        FoundPairs.of({"a": pl.concat([run, run.head(1)])}, QUERIES, ITEMS)
