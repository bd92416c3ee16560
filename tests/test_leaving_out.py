"""Judges that add nothing are left out: simulated ones, and what asking the others costs."""

from __future__ import annotations

import itertools

import numpy as np

from test_tuning import judged
from trivium.domain.calibration import Calibrated
from trivium.domain.leaving_out import asked_first, costs_with, worth_asking


def guessing(pairs: int, seed: int) -> Calibrated:
    """A judge that has learned nothing but how common the grades are."""
    rng = np.random.default_rng([seed, 1])
    said = rng.choice(5, pairs, p=(0.1, 0.15, 0.1, 0.25, 0.4))
    return Calibrated(np.eye(5)[said], said, np.full(pairs, 0.27))


def test_a_judge_that_guesses_has_no_say_wherever_it_stands_but_first():
    for at, seed in itertools.product((1, 2, 3), range(3)):
        answers, human, query = judged(150, seed)
        several = list(answers.items())
        several.insert(at, ("guess", guessing(len(human), seed)))
        assert worth_asking(dict(several), human, query) == list(answers)


def test_a_judge_that_agrees_about_as_well_as_a_cheaper_one_keeps_its_say():
    answers, human, query = judged(150, 4, names=("small", "large"))
    twice = {"small": answers["small"], "large": answers["large"], "twin": answers["large"]}
    assert worth_asking(twice, human, query) == ["small", "large", "twin"]
    worse = {"large": answers["large"], "small": answers["small"]}
    assert worth_asking(worse, human, query) == ["large"]


def test_one_judge_is_always_left():
    answers, human, query = judged(60, 5, names=("small",))
    assert worth_asking(answers, human, query) == ["small"]
    only = guessing(len(human), 0)
    assert worth_asking({"guess": only}, human, query) == ["guess"]
    silent = Calibrated(np.full((480, 5), np.nan), np.full(480, -1), np.full(480, np.nan))
    assert worth_asking({"silent": silent, **answers}, human, query)[-1] == "small"


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
