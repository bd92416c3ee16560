"""One confidence for judges of every kind: the strictest that can be paid for."""

from __future__ import annotations

import numpy as np

from test_tuning import judged
from trivium.domain.cascade import NEVER
from trivium.domain.one_confidence import one_confidence, spent_on, strictest
from trivium.domain.tuning import replies_of

COSTS = np.array([1.0, 6.0, 20.0])


def replies(queries: int, seed: int):
    answers, human, query = judged(queries, seed)
    answers["small"].grades[:9], answers["small"].confidence[:9] = -1, np.nan
    return replies_of(answers, human, query)


def test_the_strictest_affordable_confidence_is_the_one_of_exhaustive_search():
    said = replies(60, 4)

    def cost(confidence):
        _, first = said.settle(one_confidence(confidence, 3), "confidence")
        return spent_on(first, COSTS).mean()

    known = said.confidence[:2][~np.isnan(said.confidence[:2])]
    tried = sorted({0.0, NEVER, *known.tolist()})
    for most in (1.5, 4.0, 8.0, 14.0, 26.9):
        levels = strictest(said, COSTS, most)
        affordable = [confidence for confidence in tried if cost(confidence) <= most]
        assert levels[0, 0] == affordable[-1]
        assert (levels[:2] == levels[0, 0]).all()
        assert (levels[2] == 0.0).all()


def test_whoever_can_pay_for_all_asks_the_last_and_who_cannot_pay_for_any_the_first():
    said = replies(60, 4)
    assert (strictest(said, COSTS, COSTS.sum())[:2] == NEVER).all()
    assert (strictest(said, COSTS, 0.5) == 0.0).all()


def test_one_judge_settles_everything():
    answers, human, query = judged(20, 5, names=("large",))
    assert (strictest(replies_of(answers, human, query), np.ones(1), 0.1) == 0.0).all()


def test_which_labels_are_right_has_no_say():
    answers, human, query = judged(100, 6)
    other = np.random.default_rng(6).permutation(human)
    levels = [
        strictest(replies_of(answers, grades, query), COSTS, 9.0) for grades in (human, other)
    ]
    assert (levels[0] == levels[1]).all()
