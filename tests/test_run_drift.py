"""What changed between two runs, against plain counting; and what two runs have in common."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from merged_runs import merge_runs
from test_rank_overlap import plain_rbo
from trivium.domain.rank_overlap import persistence
from trivium.domain.run_drift import BETWEEN, KEPT, drift_sums, pool_drift
from trivium.domain.run_match import match_channels, match_queries
from trivium.foundation.errors import InputError
from trivium.foundation.tables import RUNS

CHANNELS = ("bm25", "dense")
SAME = {name: (name, name) for name in CHANNELS}
DEPTHS = (3, 10)
QUERIES = [f"q{q:02}" for q in range(24)]
SEGMENTS = pl.DataFrame(
    {"query_id": QUERIES, "segment": [("head", "torso", None)[q % 3] for q in range(24)]}
)


def random_run(seed):
    """Lists by query and channel; some are empty."""
    rng = np.random.default_rng(seed)
    return {
        (query, channel): [
            f"i{i:02}" for i in rng.permutation(25)[: rng.choice([0, 2, 8, 12, 12, 12])]
        ]
        for query in QUERIES
        for channel in CHANNELS
    }


def candidates(lists, names=CHANNELS):
    rows = [
        (query, item, channel, rank, 1 / rank)
        for (query, channel), items in lists.items()
        for rank, item in enumerate(items, start=1)
    ]
    return merge_runs(pl.DataFrame(rows, schema=dict(RUNS.columns), orient="row"), names)


def alike(a, b, depth):
    both = len({*a} & {*b})
    rbo = plain_rbo(a, b, persistence(depth))
    return both / min(len(a), len(b)), both / len({*a} | {*b}), rbo


def matched(query_ids=QUERIES):
    return pl.DataFrame({"before": query_ids, "after": query_ids})


def compare(before, after, queries=None, channels=SAME, segments=SEGMENTS):
    queries = matched() if queries is None else queries
    parts = [
        drift_sums(before, after, channels, DEPTHS, piece, segments)
        for piece in queries.iter_slices(7)
    ]
    return pool_drift(parts)


BEFORE, AFTER = (
    random_run(0),
    {**random_run(1), **{k: v for k, v in random_run(0).items() if k[0] < "q06"}},
)
AFTER["q00", "dense"] = []


@pytest.fixture(scope="module")
def drift():
    return compare(candidates(BEFORE), candidates(AFTER))


def members(segment):
    known = dict(SEGMENTS.iter_rows())
    return [query for query in QUERIES if segment in ("all", known[query])]


@pytest.mark.parametrize("segment", ["all", "head", "torso"])
@pytest.mark.parametrize("channel", CHANNELS)
def test_what_is_still_there_equals_plain_counting(drift, segment, channel):
    assert dict(drift.kept.schema) == KEPT
    for depth in DEPTHS:
        values, unchanged, counts, queries = [], [], np.zeros(3, dtype=int), 0
        for query in members(segment):
            a, b = (run[query, channel][:depth] for run in (BEFORE, AFTER))
            if not (a or b):
                continue
            queries += 1
            values.append(alike(a, b, depth) if a and b else (0, 0, 0))
            unchanged.append(a == b)
            counts += [len({*a} & {*b}), len({*a} - {*b}), len({*b} - {*a})]
        row = drift.kept.row(
            by_predicate=(pl.col("segment") == segment)
            & (pl.col("depth") == depth)
            & (pl.col("channel") == channel),
            named=True,
        )
        got = [row["overlap"], row["jaccard"], row["rbo"]]
        assert got == pytest.approx(np.mean(values, axis=0).tolist(), abs=1e-8)
        assert row["unchanged"] == pytest.approx(np.mean(unchanged))
        assert [row["kept"], row["gone"], row["new"]] == counts.tolist()
        assert row["queries"] == queries


@pytest.mark.parametrize("segment", ["all", "torso"])
def test_what_channels_share_before_and_after_equals_plain_counting(drift, segment):
    assert dict(drift.between.schema) == BETWEEN
    for depth in DEPTHS:
        pairs = []
        for query in members(segment):
            lists = [[run[query, c][:depth] for c in CHANNELS] for run in (BEFORE, AFTER)]
            if all(items for run in lists for items in run):
                pairs.append([alike(*run, depth) for run in lists])
        values = np.array(pairs)  # (queries, runs, measures)
        for at, measure in enumerate(("overlap", "jaccard", "rbo")):
            row = drift.between.filter(segment=segment, depth=depth, measure=measure)
            assert row.height == 1
            before, after = values[:, 0, at], values[:, 1, at]
            changes = after - before
            half = 1.96 * changes.std(ddof=1) / np.sqrt(len(changes))
            expected = [before.mean(), after.mean(), changes.mean()]
            expected += [changes.mean() - half, changes.mean() + half]
            got = row.select("before", "after", "difference", "ci_low", "ci_high").row(0)
            assert list(got) == pytest.approx(expected, abs=1e-5)
            assert row["queries"][0] == len(changes)


def test_a_run_has_not_changed_from_itself():
    run = candidates(BEFORE)
    drift = compare(run, run)
    assert (drift.kept["unchanged"] == 1).all()
    assert drift.kept.select(pl.col("overlap", "jaccard", "rbo").round(9)).unique().rows() == [
        (1, 1, 1)
    ]
    assert drift.kept.select(pl.col("gone", "new").sum()).row(0) == (0, 0)
    assert (drift.between["difference"] == 0).all()


def test_shards_make_no_difference(drift):
    whole = pool_drift(
        [drift_sums(candidates(BEFORE), candidates(AFTER), SAME, DEPTHS, matched(), SEGMENTS)]
    )
    assert whole.kept.equals(drift.kept)
    assert whole.between.equals(drift.between)
    single = pool_drift(  # more parts than are held apart
        drift_sums(candidates(BEFORE), candidates(AFTER), SAME, DEPTHS, piece, SEGMENTS)
        for piece in [matched().clear()] * 120 + list(matched().iter_slices(1))
    )
    assert single.kept.equals(drift.kept)


def test_other_ids_and_other_names_of_channels_compare_alike(drift):
    ids = {query: f"old-{99 - at}" for at, query in enumerate(QUERIES)}
    before = candidates(BEFORE).with_columns(pl.col("query_id").replace(ids))
    after = candidates(AFTER).rename({"rank_dense": "rank_new"})
    queries = pl.DataFrame({"before": list(ids.values()), "after": QUERIES})
    channels = {"bm25": ("bm25", "bm25"), "dense": ("dense", "new")}
    other = compare(before, after, queries, channels)
    assert_frame_equal(other.kept, drift.kept)
    assert_frame_equal(other.between, drift.between)


def test_only_the_queries_that_are_matched_count():
    drift = compare(candidates(BEFORE), candidates(AFTER), matched(QUERIES[:6]))
    alone = drift.kept.filter(segment="all", channel="bm25", depth=10)
    assert alone["queries"].to_list() == [sum(bool(BEFORE[q, "bm25"]) for q in QUERIES[:6])]
    assert alone["unchanged"].to_list() == [1.0]


def test_a_single_query_has_no_interval():
    both = {(q, c): ["i1", "i2"] for q in QUERIES for c in CHANNELS}
    drift = compare(candidates(both), candidates(both), matched(QUERIES[:1]), segments=None)
    assert drift.between["queries"].unique().to_list() == [1]
    assert drift.between["ci_low"].null_count() == drift.between.height


# --- What two runs have in common ----------------------------------------------------------------


def queries(**texts):
    return pl.DataFrame({"query_id": list(texts), "query": list(texts.values())})


def test_queries_match_by_id_and_words_else_by_words():
    before = queries(a="red mug", b="blue hose", c="Lamp!", d="fan", e="old", f="???")
    after = queries(a="Red  mug", b="green hose", x="lamp", y="blue hose", z="new", g="!!!")
    match = match_queries(before, after)
    assert match.queries.rows() == [("a", "a"), ("c", "x"), ("b", "y")]
    assert (match.by_text, match.renamed, match.only_before, match.only_after) == (2, 1, 3, 3)


def test_of_queries_with_the_same_words_the_first_id_is_matched():
    match = match_queries(queries(a="mug", b="Mug"), queries(x="mug", y="mug", b="mug"))
    assert match.queries.rows() == [("b", "b"), ("a", "x")]
    assert (match.only_before, match.only_after) == (0, 1)


def test_no_queries_in_common():
    match = match_queries(queries(a="mug"), queries(a="hose"))
    assert match.queries.is_empty()
    assert (match.renamed, match.only_before, match.only_after) == (1, 1, 1)


def test_channels_match_by_name_or_as_they_are_named():
    before, after = ("bm25", "dense", "old"), ("new", "dense", "bm25")
    assert match_channels(before, after, {}) == {
        "bm25": ("bm25", "bm25"),
        "dense": ("dense", "dense"),
    }
    assert match_channels(before, after, {"old": "dense"}) == {
        "bm25": ("bm25", "bm25"),
        "old=dense": ("old", "dense"),
    }
    assert list(match_channels(before, after, {"dense": "new"})) == ["bm25", "dense=new"]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"nope": "bm25"}, "earlier run"),
        ({"bm25": "nope"}, "later run"),
        ({"bm25": "dense", "dense": "dense"}, "named for 2 channels"),
    ],
)
def test_channels_that_cannot_be_compared_are_refused(named, words):
    with pytest.raises(InputError, match=words):
        match_channels(("bm25", "dense"), ("bm25", "dense"), named)


def test_no_channel_in_common_is_refused():
    with pytest.raises(InputError, match="--channel a=b"):
        match_channels(("a",), ("b",), {})
