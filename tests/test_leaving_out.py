"""Judges that add nothing are left out: simulated ones, and what asking the others costs."""

from __future__ import annotations

import itertools

import numpy as np

from test_tuning import COSTS, judged
from trivium.domain.calibration import Calibrated
from trivium.domain.leaving_out import asked_first, costs_with, worth_asking

ALONE = dict.fromkeys((*COSTS, "guess", "twin"), ())


def guessing(pairs: int, seed: int) -> Calibrated:
    """A judge that has learned nothing but how common the grades are."""
    rng = np.random.default_rng([seed, 1])
    said = rng.choice(5, pairs, p=(0.1, 0.15, 0.1, 0.25, 0.4))
    return Calibrated(np.eye(5)[said], said, np.full(pairs, 0.27))


def certain(judge: Calibrated) -> Calibrated:
    """The same judge, whose distribution has its predicted grade alone."""
    return Calibrated(np.eye(5)[judge.grades], judge.grades, judge.confidence)


def test_a_judge_that_guesses_is_mostly_left_out_wherever_it_stands():
    guessed = []
    for at, seed in itertools.product((0, 1, 3), range(3)):
        answers, human, query = judged(150, seed)
        several = [(name, certain(judge)) for name, judge in answers.items()]
        several.insert(at, ("guess", guessing(len(human), seed)))
        costs = COSTS | {"guess": 30.0 if at == 3 else 3.0}
        kept = worth_asking(dict(several), human, query, costs, ALONE, max_cost=0.7, seed=seed)
        guessed.append("guess" in kept)
        assert "large" in kept
        assert kept == [name for name, _ in several if name in kept]
    assert sum(guessed) <= 2


def test_of_two_judges_that_say_the_same_the_dearer_goes():
    answers, human, query = judged(150, 4, names=("small", "large"))
    twice = {"small": answers["small"], "twin": answers["large"], "large": answers["large"]}
    for dear, kept in (("twin", ["small", "large"]), ("large", ["small", "twin"])):
        costs = {"small": 1.0, "twin": 10.0, "large": 10.0, dear: 11.0}
        assert worth_asking(twice, human, query, costs, ALONE, max_cost=1.2)[-1:] == kept[-1:]


def test_one_judge_is_always_left():
    answers, human, query = judged(60, 5, names=("small",))
    assert worth_asking(answers, human, query, COSTS, ALONE) == ["small"]
    nothing = {name: guessing(480, seed) for seed, name in enumerate(("guess", "twin"))}
    human, query = judged(60, 5)[1:]
    assert len(worth_asking(nothing, human, query, {"guess": 1.0, "twin": 2.0}, ALONE)) == 1


def test_judges_that_another_is_made_of_are_asked_once_and_paid_for():
    made_of = {"a": (), "b": (), "c": ("a", "b"), "d": ("b",), "e": ("c", "d")}
    costs = {"a": 1.0, "b": 10.0, "c": 0.0, "d": 100.0, "e": 0.5}
    cases = {
        "abcde": {"a": (), "b": (), "c": (), "d": (), "e": ()},
        "ac": {"a": (), "c": ("b",)},
        "de": {"d": ("b",), "e": ("a", "c")},
        "e": {"e": ("a", "b", "c", "d")},
    }
    for kept, first in cases.items():
        assert asked_first("abcde", kept, made_of) == first
        paid = costs_with(costs, first)
        assert list(paid) == list(kept)
        assert sum(paid.values()) == sum(
            costs[name] for name in {*kept, *(part for parts in first.values() for part in parts)}
        )


def test_a_judge_is_not_kept_where_those_it_is_made_of_cost_too_much():
    answers, human, query = judged(150, 6, names=("small", "large"))
    for part, kept in ((1.0, True), (50.0, False)):
        costs = {"small": 1.0, "middle": part, "large": 1.0, "guess": 60.0}
        three = {**answers, "middle": guessing(len(human), 6)}
        ordered = {name: three[name] for name in ("small", "middle", "large")}
        found = worth_asking(ordered, human, query, costs, {"large": ("middle",)}, max_cost=0.1)
        assert ("large" in found) == kept
