"""Overlap, Jaccard and rank-biased overlap against plain counting and values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from trivium.domain.rank_overlap import UNIT, Rankings, by_segment, persistence, whole


def plain_rbo(first, second, p):
    """RBO_EXT as it is printed: equation 32 of Webber, Moffat and Zobel, TOIS 2010."""
    short, long = sorted((first, second), key=len)
    s, l = len(short), len(long)  # noqa: E741

    def x(d):
        return len(set(short[:d]) & set(long[:d]))

    total = sum(x(d) / d * p**d for d in range(1, l + 1))
    total += sum(x(s) * (d - s) / (s * d) * p**d for d in range(s + 1, l + 1))
    return (1 - p) / p * total + ((x(l) - x(s)) / l + x(s) / s) * p**l


def rankings(*queries, seed=0):
    """Rankings of lists a and b of each query, the rows in a random order."""
    rows = []
    for at, (first, second) in enumerate(queries):
        for item in sorted({*first, *second}):
            places = (lst.index(item) + 1 if item in lst else 0 for lst in (first, second))
            rows.append((at, *places))
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    table = np.random.default_rng(seed).permutation(table)
    ranks = {"a": table[:, 1].astype(np.int32), "b": table[:, 2].astype(np.int32)}
    return Rankings(table[:, 0], ranks, len(queries))


def rbo(first, second, depth):
    return rankings((list(first), list(second))).likeness("a", "b", [depth])[0].rbo[0]


def test_the_expected_depth_of_a_reader_is_the_depth():
    assert [persistence(depth) for depth in (10, 100, 500)] == pytest.approx([0.9, 0.99, 0.998])
    assert 1 / (1 - persistence(30)) == pytest.approx(30)
    assert 0 < persistence(1) < 1


def test_values_worked_out_by_hand():
    p = 0.9
    assert rbo("abcdefg", "abcdefg", 10) == pytest.approx(1)
    assert rbo("abcdefg", "hijklmn", 10) == 0
    # Only X_1 is 0: 1 - p^7 - (1 - p) + p^7. The same value is in other implementations' tests.
    assert rbo("abcdefg", "bacdefg", 10) == pytest.approx(0.9)
    # X_1 = X_2 = 1: (1-p)/p (p + p^2/2) + p^2/2 = 1 - p + p/2 (1 - p) + p^2 / 2
    assert rbo("ab", "ac", 10) == pytest.approx((1 - p) * (1 + p / 2) + p**2 / 2)
    # The shorter list's only item is the longer one's third: X_3 = 1, X_1 = 0.
    assert rbo("c", "abc", 10) == pytest.approx((1 - p) / p * p**3 / 3 + p**3 / 3)


@pytest.mark.parametrize("longer", ["ab", "abcdefghij", "abcdefghijklmnopqrstuvwxyz"])
def test_a_list_that_begins_another_is_wholly_alike(longer):
    """Nothing that was seen of the shorter list disagrees."""
    assert rbo("ab", longer, 100) == pytest.approx(1)
    assert rbo(longer, "ab", 100) == pytest.approx(1)


def test_early_ranks_count_most():
    assert rbo("abcdefgh", "abcdefhg", 10) > rbo("abcdefgh", "bacdefgh", 10)


def test_at_depth_one_only_the_first_item_counts():
    assert rbo("ab", "ac", 1) == pytest.approx(1)
    assert rbo("ab", "ba", 1) == 0


def random_lists(seed, queries=60):
    rng = np.random.default_rng(seed)
    pool = [f"i{i:02}" for i in range(40)]
    return [
        tuple([str(i) for i in rng.permutation(pool)[: rng.integers(0, 35)]] for _ in "ab")
        for _ in range(queries)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_measures_equal_plain_counting(seed):
    lists, depths = random_lists(seed), (1, 2, 7, 20, 500)
    found = rankings(*lists, seed=seed).likeness("a", "b", depths)
    for depth, likeness in zip(depths, found, strict=True):
        for at, (a, b) in enumerate((a[:depth], b[:depth]) for a, b in lists):
            both = len({*a} & {*b})
            counts = (likeness.both[at], likeness.a[at], likeness.b[at])
            assert counts == (both, len(a), len(b))
            got = [likeness.overlap[at], likeness.jaccard[at], likeness.rbo[at]]
            if not (a and b):
                assert np.isnan(got).all()
                continue
            expected = [
                both / min(len(a), len(b)),
                both / len({*a} | {*b}),
                plain_rbo(a, b, persistence(depth)),
            ]
            assert got == pytest.approx(expected, abs=1e-12)
            assert 0 <= min(got) <= max(got) <= 1 + 1e-12


def test_measures_do_not_depend_on_which_list_comes_first():
    made = rankings(*random_lists(5))
    one, other = (made.likeness(*pair, [10])[0] for pair in ("ab", "ba"))
    np.testing.assert_array_equal(one.rbo, other.rbo)
    np.testing.assert_array_equal(one.a, other.b)


def test_a_list_is_unchanged_only_with_the_same_items_at_the_same_ranks():
    lists = [
        (list("abc"), list("abc")),
        (list("abc"), list("acb")),
        (list("abc"), list("abd")),
        (list("abc"), list("ab")),
        ([], []),
    ]
    made = rankings(*lists)
    assert made.unchanged("a", "b", 3).tolist() == [True, False, False, False, True]
    assert made.unchanged("a", "b", 2).tolist() == [True, False, True, True, True]
    assert made.unchanged("a", "b", 1).tolist() == [True, True, True, True, True]


def test_segments_that_no_query_is_in_are_left_out():
    groups = by_segment(["tail", None, "head", "tail"])
    assert list(groups) == ["all", "head", "tail"]
    assert groups["tail"].tolist() == [True, False, False, True]
    assert groups["all"].all()
    assert list(by_segment([])) == ["all"]


def test_sums_do_not_depend_on_their_order():
    values = np.random.default_rng(0).random(10_000)
    parts = np.array_split(np.random.default_rng(1).permutation(values), 37)
    assert sum(whole(part) for part in parts) == whole(values)
    assert whole(values) / UNIT == pytest.approx(values.sum(), abs=1e-5)
