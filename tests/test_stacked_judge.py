from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from test_features_judge import PLAIN, graded_pairs
from trivium.adapters.judges import Answers, collect, stacked
from trivium.adapters.judges.features import FeaturesJudge
from trivium.adapters.judges.stacked import StackedJudge
from trivium.foundation.errors import InputError
from trivium.foundation.judge_config import FeaturesConfig, StackedConfig

CONFIG = StackedConfig(of=["words", "few"])


class Silent:
    """A judge that counts what it is asked, and does not answer about hammers."""

    def __init__(self, judge: FeaturesJudge) -> None:
        self.judge = judge
        self.asked = 0

    def answers(self, pairs: pl.DataFrame) -> Iterator[Answers]:
        self.asked += len(pairs)
        hammers = pairs["query_text"].str.contains("hammer").to_numpy()
        for some in self.judge.answers(pairs):
            some.probabilities[hammers[some.rows]] = np.nan
            yield Answers(some.rows, some.probabilities, some.read + 7, some.written)

    def tokens(self, pairs: pl.DataFrame) -> np.ndarray:
        return pairs["query_text"].str.len_chars().to_numpy().astype(np.int32)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory) -> dict[str, FeaturesJudge]:
    """Two judges, of which the second learned from few pairs."""
    pairs, grades = graded_pairs(500, 0)
    judges = {}
    for name, count, leaves in (("words", 500, 8), ("few", 60, 4)):
        config = FeaturesConfig(model="", rounds=PLAIN.rounds, leaves=leaves)
        judges[name] = FeaturesJudge.fit(
            pairs[:count],
            grades[:count],
            config,
            seed=0,
            folder=tmp_path_factory.mktemp(name),
            earlier={},
        )
    return judges


def fitted(earlier, grades_of=lambda grades: grades, count: int = 300) -> StackedJudge:
    pairs, grades = graded_pairs(count, 1)
    return StackedJudge.fit(
        pairs, grades_of(grades), CONFIG, seed=0, folder=Path(), earlier=earlier
    )


def log_loss(probabilities: np.ndarray, grades: np.ndarray) -> float:
    return -float(np.log(probabilities[np.arange(len(grades)), grades]).mean())


def test_it_does_no_worse_than_the_judges_it_is_made_of(earlier):
    pairs, grades = graded_pairs(500, 2)
    answers = collect(fitted(earlier), pairs)
    assert answers.probabilities.dtype == np.float32
    assert (answers.probabilities > 0).all()
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1.0, atol=1e-6)
    loss = log_loss(answers.probabilities, grades)
    alone = [log_loss(collect(judge, pairs).probabilities, grades) for judge in earlier.values()]
    assert loss < 1.1 * min(alone)
    assert loss < 0.8 * max(alone)


def test_it_asks_each_judge_once_and_reads_nothing_itself(earlier):
    counted = {"words": earlier["words"], "few": Silent(earlier["few"])}
    judge = fitted(counted)
    counted["few"].asked = 0
    pairs, _ = graded_pairs(100, 3)
    answers = collect(judge, pairs)
    assert counted["few"].asked == 100
    assert answers.read.sum() == answers.written.sum() == 0
    tokens = judge.tokens(pairs)
    assert tokens.dtype == np.int32
    np.testing.assert_array_equal(tokens, counted["few"].tokens(pairs))


def test_what_a_judge_did_not_answer_is_not_answered(earlier):
    judges = {"words": earlier["words"], "few": Silent(earlier["few"])}
    judge = fitted(judges)
    assert np.isfinite(judge.weights).all()
    pairs, _ = graded_pairs(100, 3)
    hammers = pairs["query_text"].str.contains("hammer").to_numpy()
    probabilities = collect(judge, pairs).probabilities
    assert 0 < hammers.sum() < 100
    assert np.isnan(probabilities[hammers]).all()
    assert np.isfinite(probabilities[~hammers]).all()
    only, grades = pairs.filter(hammers), np.arange(hammers.sum()) % 5
    with pytest.raises(InputError, match=r"judge 'stacked'[\s\S]*no answer of words, few"):
        StackedJudge.fit(only, grades, CONFIG, seed=0, folder=Path(), earlier=judges)


def test_a_pair_is_graded_alike_wherever_it_stands(earlier, monkeypatch):
    judge = fitted(earlier)
    pairs, _ = graded_pairs(100, 4)
    whole = collect(judge, pairs).probabilities
    order = np.random.default_rng(0).permutation(100)
    monkeypatch.setattr(stacked, "_CHUNK", 30)
    np.testing.assert_array_equal(collect(judge, pairs[order]).probabilities, whole[order])
    np.testing.assert_array_equal(collect(judge, pairs[7:8]).probabilities[0], whole[7])


def test_a_saved_judge_answers_the_same(earlier, tmp_path):
    pairs, _ = graded_pairs(50, 4)
    judge = fitted(earlier, lambda grades: np.where(grades == 2, 3, grades))
    judge.save(tmp_path)
    again = StackedJudge.load(tmp_path, CONFIG, earlier)
    expected = collect(judge, pairs).probabilities
    np.testing.assert_array_equal(collect(again, pairs).probabilities, expected)
    first = (tmp_path / "weights.json").read_bytes()
    fitted(earlier, lambda grades: np.where(grades == 2, 3, grades)).save(tmp_path)
    assert (tmp_path / "weights.json").read_bytes() == first


@pytest.mark.parametrize("seen", [(0, 1, 3, 4), (1, 3), (4,)])
def test_grades_that_never_occur_are_unlikely(earlier, seen):
    nearest = np.array([min(seen, key=lambda grade: abs(grade - g)) for g in range(5)])
    judge = fitted(earlier, lambda grades: nearest[grades])
    pairs, grades = graded_pairs(300, 2)
    probabilities = collect(judge, pairs).probabilities
    absent = [grade for grade in range(5) if grade not in seen]
    np.testing.assert_allclose(probabilities[:, absent], 1e-4, rtol=1e-3)
    assert (probabilities.argmax(axis=1) == nearest[grades]).mean() > 0.7


def test_weights_are_freer_where_that_does_better_on_other_queries():
    rng = np.random.default_rng(0)
    grades = rng.integers(0, 5, 400)
    queries = np.repeat(np.arange(80), 5)
    exact = np.column_stack([np.log(np.maximum(np.eye(5)[grades], 1e-4)), grades])
    noise = rng.normal(size=(400, 6))
    assert stacked._strength(exact, grades, queries) == 1.0
    believed, _ = stacked._regression(noise, grades, stacked._strength(noise, grades, queries))
    assert np.diag(believed).mean() < 0.25 < stacked._pool(6).max()
    assert stacked._strength(exact, grades, 0 * queries) == 0.0001


def test_few_pairs_leave_it_near_the_mean_of_the_judges():
    rng = np.random.default_rng(1)
    grades = rng.integers(0, 5, 400)
    logs = np.log(rng.dirichlet(np.ones(5), (400, 2)) + np.eye(5)[grades][:, None])
    numbers = np.concatenate([logs, logs[:, :, :1]], axis=2).reshape(400, 12)
    few, _ = stacked._regression(numbers[:6], grades[:6], 1e-6)
    seen = np.unique(grades[:6])
    np.testing.assert_allclose(few[seen][:, seen], stacked._POOL / 2 * np.eye(len(seen)), atol=1e-3)
    many, biases = stacked._regression(numbers, grades, 1.0)
    assert np.abs(many - few).max() > 0.1
    assert np.isfinite(biases).all()


def test_its_weights_are_those_of_least_penalised_loss():
    rng = np.random.default_rng(2)
    grades = rng.integers(1, 4, 60)
    numbers = rng.normal(size=(60, 12)) + grades[:, None]

    def penalised(weights: np.ndarray, biases: np.ndarray) -> float:
        logits = numbers @ weights[1:4].T + biases[1:4]
        chosen = logits[np.arange(60), grades - 1] - np.log(np.exp(logits).sum(axis=1))
        moved = (weights - stacked._pool(12))[1:4] * numbers.std(axis=0)
        return (moved**2).sum() / 2 - 0.1 * chosen.sum()

    weights, biases = stacked._regression(numbers, grades, 0.1)
    least = penalised(weights, biases)
    for _ in range(20):
        step = np.where(np.isfinite(biases)[:, None], rng.normal(size=(5, 12)), 0.0)
        assert penalised(weights + 0.01 * step, biases) > least
