"""Settling pairs, checked against a plain loop over pairs."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivium.domain.calibration import Calibrated
from trivium.domain.cascade import NEVER, SETTLED, VOTE, Cascade, Settling, first_sure, vote
from trivium.foundation.errors import ConfigError
from trivium.foundation.tables import PROBABILITIES

NAMES = ("small", "middle", "large", "huge")


def calibrated(probabilities: np.ndarray) -> Calibrated:
    silent = np.isnan(probabilities).any(axis=1)
    known = np.nan_to_num(probabilities)
    grades = np.where(silent, -1, known.argmax(axis=1))
    return Calibrated(probabilities, grades, np.where(silent, np.nan, known.max(axis=1)))


def answers(judges: int, pairs: int, seed: int, silent: float = 0.1) -> list[Calibrated]:
    rng = np.random.default_rng(seed)
    told = []
    for _ in range(judges):
        p = rng.dirichlet(np.full(5, 0.5), pairs).astype(np.float32).astype(np.float64)
        p[rng.random(pairs) < silent] = np.nan
        told.append(calibrated(p))
    return told


def rows_of(said: Calibrated, rows: np.ndarray) -> Calibrated:
    return Calibrated(said.probabilities[rows], said.grades[rows], said.confidence[rows])


def run(cascade: Cascade, told: list[Calibrated]) -> tuple[pl.DataFrame, list[np.ndarray]]:
    settling, asked = Settling(cascade, len(told[0].grades)), []
    for name, said in zip(cascade.judges, told, strict=True):
        rows = settling.open(name)
        settling.hear(name, rows, rows_of(said, rows))
        assert not len(settling.open(name))
        asked.append(rows)
    return settling.table(), asked


def slowly(cascade: Cascade, told: list[Calibrated], pair: int) -> tuple:
    """Grade, judge, how and confidence of one pair, judge by judge."""
    heard = []
    for name, said in zip(cascade.judges, told, strict=True):
        grade, sure = int(said.grades[pair]), float(said.confidence[pair])
        if grade < 0:
            continue
        if sure >= cascade.thresholds[name][grade]:
            return grade, name, "accepted", sure
        heard.append((name, grade, sure, said.probabilities[pair]))
    if not heard:
        return None, None, "unanswered", None
    votes = [grade for _, grade, _, _ in heard]
    tied = [grade for grade in set(votes) if votes.count(grade) == max(map(votes.count, votes))]
    if cascade.ties == "higher_grade":
        winner = max(tied)
    else:
        best = {k: max(sure for _, grade, sure, _ in heard if grade == k) for k in tied}
        winner = min(tied, key=lambda k: (-best[k], k))
    mean = float(np.mean([p[winner] for *_, p in heard]))
    if len(heard) == 1:
        return winner, heard[0][0], "unsure", mean
    return winner, VOTE, "vote", mean


@pytest.mark.parametrize("ties", ["confidence", "higher_grade"])
@pytest.mark.parametrize("judges", [1, 2, 3, 4])
def test_pairs_are_settled_as_a_plain_loop_settles_them(judges, ties):
    rng = np.random.default_rng(judges)
    levels = rng.uniform(0.5, 1.0, (judges, 5))
    levels[rng.random((judges, 5)) < 0.2] = NEVER
    cascade = Cascade.of(NAMES[:judges], levels, ties)
    told = answers(judges, 400, judges, silent=0.3)
    table, asked = run(cascade, told)
    for pair, row in enumerate(table.to_dicts()):
        grade, judge, how, sure = slowly(cascade, told, pair)
        assert (row["grade"], row["judge"], row["settled"]) == (grade, judge, how)
        assert row["confidence"] == (sure if sure is None else pytest.approx(sure, abs=1e-6))
    expected = {"accepted", "unsure", "unanswered"} | ({"vote"} if judges > 1 else set())
    assert set(table["settled"]) == expected <= set(SETTLED)
    accepted = {n: set(np.flatnonzero(table["judge"] == n)) for n in cascade.judges}
    sure = set(np.flatnonzero(table["settled"] == "accepted"))
    gone: set[int] = set()
    for name, rows in zip(cascade.judges, asked, strict=True):
        assert set(rows) == set(range(400)) - gone
        gone |= accepted[name] & sure


def test_hearing_every_judge_on_every_pair_changes_nothing():
    cascade = Cascade.of(NAMES[:3], np.full((3, 5), 0.7))
    told = answers(3, 300, 9)
    table, asked = run(cascade, told)
    assert 0 < len(asked[2]) < len(asked[1]) < 300
    replay = Settling(cascade, 300)
    for name, said in reversed(list(zip(cascade.judges, told, strict=True))):
        replay.hear(name, np.arange(300), said)
    assert replay.table().equals(table)


def test_a_table_says_whose_distribution_it_is():
    p = np.array([[0.0, 0, 0, 0.05, 0.95], [0, 0, 0.1, 0.5, 0.4], [0.3, 0.3, 0.2, 0.1, 0.1]])
    other = np.array([[0.2] * 5, [0, 0.9, 0.1, 0, 0], [0.1, 0.1, 0.6, 0.1, 0.1]])
    table, _ = run(Cascade.of(("a", "b"), np.full((2, 5), 0.7)), [calibrated(p), calibrated(other)])
    assert table["judge"].to_list() == ["a", "b", VOTE]
    assert table["grade"].to_list() == [4, 1, 2]
    np.testing.assert_allclose(table["probabilities"][0], p[0], atol=1e-7)
    np.testing.assert_allclose(table["probabilities"][1], other[1], atol=1e-7)
    np.testing.assert_allclose(table["probabilities"][2], (p[2] + other[2]) / 2, atol=1e-7)
    assert table["confidence"][2] == pytest.approx(0.4)
    assert dict(table.schema) == {
        "grade": pl.Int8,
        "confidence": pl.Float32,
        "judge": pl.String,
        "settled": pl.String,
        "probabilities": PROBABILITIES,
    }


def test_what_nobody_answered_is_null_and_no_pairs_make_no_rows():
    cascade = Cascade.of(("a",), np.zeros((1, 5)))
    table, _ = run(cascade, [calibrated(np.full((2, 5), np.nan))])
    assert table["settled"].to_list() == ["unanswered"] * 2
    assert table.drop("settled").null_count().row(0) == (2, 2, 2, 2)
    nothing = Settling(cascade, 0).table()
    assert nothing.is_empty()
    assert nothing.schema == table.schema


def test_a_threshold_is_reached_at_its_own_value_and_never_above_one():
    p = np.array([[0.0, 0, 0.25, 0.75, 0], [0, 0, 0, 0, 1.0]])
    table, _ = run(Cascade(("a",), {"a": (0, 0, 0, 0.75, NEVER)}), [calibrated(p)])
    assert table["settled"].to_list() == ["accepted", "unsure"]
    assert table["judge"].to_list() == ["a", "a"]


def test_ties_of_a_vote():
    grades = np.array([[4, 1, 3, 2], [0, 1, 0, 2], [2, 3, 2, -1]])
    confidence = np.array([[0.3, 0.3, 0.6, 0.5], [0.4, 0.3, 0.6, 0.5], [0.35, 0.9, 0.5, np.nan]])
    assert vote(grades, confidence, "confidence").tolist() == [0, 1, 0, 2]
    assert vote(grades, confidence, "higher_grade").tolist() == [4, 1, 3, 2]
    assert vote(np.full((2, 1), -1), np.full((2, 1), np.nan), "higher_grade").tolist() == [-1]


def test_the_first_sure_judge_is_the_first_in_order():
    levels = np.full((2, 5), 0.5)
    grades, confidence = np.array([[1, 1, -1, 0], [2, 2, 2, 0]]), np.full((2, 4), 0.6)
    confidence[0, 1:3], confidence[:, 3] = [0.4, np.nan], 0.1
    assert first_sure(grades, confidence, levels).tolist() == [0, 1, 1, 2]


@given(
    st.lists(st.floats(0, 5), min_size=10, max_size=10),
    st.sampled_from(["confidence", "higher_grade"]),
)
def test_a_cascade_comes_back_from_json_exactly(values, ties):
    cascade = Cascade.of(("a", "b"), np.array(values).reshape(2, 5), ties)
    assert Cascade.from_dict(json.loads(json.dumps(cascade.as_dict()))) == cascade
    np.testing.assert_array_equal(cascade.levels.ravel(), values)


@pytest.mark.parametrize(
    ("judges", "thresholds", "ties", "match"),
    [
        ((), {}, "confidence", "one judge or more"),
        (("a", "a"), {"a": (0.5,) * 5}, "confidence", "different names"),
        (("a", "b"), {"a": (0.5,) * 5}, "confidence", "thresholds of 'b'"),
        (("a",), {"a": (0.5,) * 4}, "confidence", "one a grade"),
        (("a",), {"a": (0.5, 0.5, 0.5, 0.5, float("nan"))}, "confidence", "finite"),
        (("a",), {"a": (0.5,) * 5}, "lower_grade", "confidence or higher_grade"),
    ],
)
def test_a_faulty_cascade_is_refused(judges, thresholds, ties, match):
    with pytest.raises(ConfigError, match=match):
        Cascade(judges, thresholds, ties)
