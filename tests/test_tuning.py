"""Tuning of cascades, on simulated judges and against exhaustive search."""

from __future__ import annotations

import itertools
import json

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from trivium.domain.agreement import agreement
from trivium.domain.calibration import Calibrated
from trivium.domain.cascade import NEVER, Cascade, Settling
from trivium.domain.thresholds import cheapest_levels
from trivium.domain.tuning import replies_of, tune
from trivium.foundation.errors import ConfigError

COSTS = {"small": 1.0, "middle": 6.0, "large": 20.0}
SKILL = {"small": 0.4, "middle": 0.9, "large": 1.6}


def judged(queries: int, seed: int, names=tuple(COSTS), common=(0.1, 0.15, 0.1, 0.25, 0.4)):
    """Calibrated answers of judges that grow in skill, human grades, and queries."""
    rng = np.random.default_rng(seed)
    n = queries * 8
    human, query = rng.choice(5, n, p=common), np.repeat(np.arange(queries), 8)
    ease = rng.normal(0, 1.5, n)
    answers = {}
    for name in names:
        confidence = 0.2 + 0.8 / (1 + np.exp(-SKILL[name] - ease - rng.normal(0, 0.3, n)))
        right = rng.random(n) < confidence
        grades = np.where(right, human, (human + rng.integers(1, 5, n)) % 5)
        p = np.repeat((1 - confidence)[:, None] / 4, 5, axis=1)
        p[np.arange(n), grades] = confidence
        answers[name] = Calibrated(p, grades, confidence)
    return answers, human, query


def measured(cascade: Cascade, answers, human, costs=COSTS):
    """Accuracy and cost of a cascade by settling for real."""
    settling, spent = Settling(cascade, len(human)), 0.0
    for name in cascade.judges:
        rows, said = settling.open(name), answers[name]
        part = Calibrated(said.probabilities[rows], said.grades[rows], said.confidence[rows])
        settling.hear(name, rows, part)
        spent += costs[name] * len(rows)
    table = settling.table()
    right = table["grade"].to_numpy() == human
    return right, table, spent / len(human)


def test_without_a_target_the_cascade_agrees_as_well_as_the_cost_allows():
    answers, human, _ = judged(4000, 1)
    alone = sorted((said.grades == human).mean() for said in answers.values())
    found = []
    for share in (0.3, 0.5, 0.95):
        tuned = tune(*judged(300, 0), COSTS, max_cost=share)
        right, table, cost = measured(tuned.cascade, answers, human)
        found.append(right.mean())
        assert cost < 1.1 * share * COSTS["large"]
        assert tuned.point["cost"][0] <= 1.1 * share
        assert tuned.promise.startswith("No guarantee")
        assert table["judge"].is_in(["small", "middle"]).mean() > 0.2
    assert found[0] > alone[0]
    assert found[1] > alone[1] - 0.01
    assert found[2] > alone[2] - 0.01
    assert found[0] < found[2]


def test_cuts_for_a_grade_are_chosen_only_where_labels_agree_better_by_more_than_chance():
    plain = "the last settles the rest"
    answers, human, query = judged(300, 0)  # judges that err apart: a vote helps
    assert plain not in tune(answers, human, query, COSTS).promise
    one = dict.fromkeys(COSTS, answers["large"])  # judges that say the same
    assert tune(one, human, query, COSTS).promise.endswith(f"{plain}.")


def test_where_nothing_is_affordable_the_cheapest_is_taken():
    tuned = tune(*judged(300, 0), COSTS, max_cost=1e-6)
    assert set(measured(tuned.cascade, *judged(400, 1)[:2])[1]["judge"]) == {"small"}


def test_the_point_is_what_settling_gives():
    answers, human, query = judged(150, 2)
    answers["middle"].grades[:40], answers["middle"].confidence[:40] = -1, np.nan
    answers["middle"].probabilities[:40] = np.nan
    tuned = tune(answers, human, query, COSTS)
    right, table, cost = measured(tuned.cascade, answers, human)
    point = tuned.point.row(0, named=True)
    assert point["accuracy"] == pytest.approx(right.mean())
    assert point["cost_per_pair"] == pytest.approx(cost)
    assert point["cost"] == pytest.approx(cost / COSTS["large"])
    queries = pl.Series(query).cast(pl.String)
    grades = table["grade"].cast(pl.Int64).to_numpy()
    kappa = agreement(queries, human, grades, grades.astype(float), resamples=2, seed=0).measures
    assert point["kappa"] == pytest.approx(kappa.filter(measure="kappa")["value"][0])
    shares = [point[f"share_{name}"] for name in (*COSTS, "vote")]
    assert sum(shares) == pytest.approx(1.0)
    accepted = table.filter(settled="accepted")["judge"]
    assert shares[:3] == pytest.approx([(accepted == name).sum() / len(human) for name in COSTS])


def test_the_curve_rises_from_the_first_judge_alone_to_the_most_accurate_cascade():
    answers, human, query = judged(400, 3)
    curve = tune(answers, human, query, COSTS).curve
    assert curve["cost_per_pair"].is_sorted()
    alone = {name: (said.grades == human).mean() for name, said in answers.items()}
    assert curve["cost_per_pair"][0] == pytest.approx(COSTS["small"])
    assert curve["accuracy"][0] == pytest.approx(alone["small"])
    assert curve["accuracy"].max() >= alone["large"] - 0.005
    half = curve.filter(pl.col("cost") < 0.6)["accuracy"].max()
    assert half > (alone["small"] + alone["large"]) / 2
    assert curve["thresholds_large"].list.len().to_list() == [5] * curve.height
    assert json.dumps(curve.drop("error_price").to_dicts())


def exhaustive(replies, costs, error_price):
    """The least cost of any thresholds, one for each judge, for judges of a single grade."""

    def loss(levels):
        grades, first = replies.settle(levels, "confidence")
        asked = np.cumsum(costs)[np.minimum(first, len(costs) - 1)]
        return (asked + error_price * (grades != replies.human)).mean()

    steps = [np.append(np.quantile(c, np.arange(0, 1, 0.05)), NEVER) for c in replies.confidence]
    tried = (
        np.repeat(np.array(levels)[:, None], 5, axis=1) for levels in itertools.product(*steps)
    )
    return loss, min(loss(levels) for levels in tried)


@pytest.mark.parametrize("error_price", [2.0, 10.0, 60.0])
def test_thresholds_cost_no_more_than_those_of_exhaustive_search(error_price):
    rng = np.random.default_rng(4)
    n = 1200
    ease = rng.normal(0, 1.5, n)
    confidence = 1 / (1 + np.exp(-np.array([[0.3], [1.5]]) - ease - rng.normal(0, 0.3, (2, n))))
    right = rng.random((2, n)) < confidence
    answers = {
        name: Calibrated(np.zeros((n, 5)), np.full(n, 3), c)
        for name, c in zip("ab", confidence, strict=True)
    }
    # Both judges say 3; being right differs by judge, so the second one's wrong answers say 2.
    human = np.where(right[0], 3, np.where(right[1], 2, 1))
    answers["b"].grades[:] = np.where(right[1] & ~right[0], 2, 3)
    replies, costs = replies_of(answers, human, np.arange(n) // 8), np.array([1.0, 5.0])
    levels = cheapest_levels(replies, costs, error_price, "confidence")
    loss, least = exhaustive(replies, costs, error_price)
    assert loss(levels) <= least * 1.01


def test_a_grade_gets_a_threshold_of_its_own_only_if_labels_speak_for_it():
    costs, price = np.array([0.1, 0.2, 0.7]), 5.0
    answers, human, query = judged(200, 5, common=(0.02, 0.03, 0.05, 0.3, 0.6))
    alike = cheapest_levels(replies_of(answers, human, query), costs, price, "confidence")
    # Now what the first judge calls 3 is always wrong, and what it calls 4 always right.
    grades = answers["small"].grades
    grades[((grades == 3) & (human == 3)) | ((grades == 4) & (human != 4))] = 2
    levels = cheapest_levels(replies_of(answers, human, query), costs, price, "confidence")
    assert levels[0, 3] == NEVER
    assert alike[0, 3] < 1.0
    assert levels[0, 4] == 0.0


def test_few_labels_make_no_threshold_of_a_grades_own_and_fewer_none_at_all():
    costs, price = np.array([0.1, 0.2, 0.7]), 5.0
    few = replies_of(*judged(25, 5))
    rare = np.flatnonzero(np.bincount(few.grades[0], minlength=5) < 60)
    levels = cheapest_levels(few, costs, price, "confidence")
    assert len(rare) > 2
    assert len(set(levels[0, rare])) == 1
    assert levels[0, rare[0]] < 1.0
    fewer = replies_of(*judged(1, 5))
    assert (cheapest_levels(fewer, costs, price, "confidence") == NEVER).all()


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"mode": "overall"}, "the labels that judges accepted, taken together"),
        ({"mode": "overall", "target": 0.7, "over": "labelled"}, "votes included"),
        ({"mode": "per_class", "bound": "binomial"}, "for each judge and grade at once"),
        ({"mode": "per_class", "bound": "betting", "target": 0.75}, "large"),
    ],
)
def test_a_target_is_held_on_other_queries(rule, words):
    rule = {"target": 0.85} | rule
    tuned = tune(*judged(900, 6), COSTS, path_data=judged(300, 7), **rule)
    assert words in tuned.promise
    assert tuned.promise.startswith("With probability 90%")
    assert f"{rule['target']:.1%}" in tuned.promise
    answers, human, _ = judged(4000, 8)
    right, table, cost = measured(tuned.cascade, answers, human)
    accepted = (table["settled"] == "accepted").to_numpy()
    assert accepted.mean() > 0.2
    assert cost < sum(COSTS.values())
    if rule["mode"] == "per_class":
        cells = table.with_columns(right=right).filter(pl.Series(accepted))
        assert cells.group_by("judge", "grade").agg(pl.col("right").mean())["right"].min() >= (
            rule["target"] - 0.02
        )
    else:
        held = right if "over" in rule else right[accepted]
        assert held.mean() >= rule["target"] - 0.005


def test_what_cannot_be_certified_is_said_and_the_best_is_made_of_it():
    answers, human, query = judged(40, 9)
    for mode in ("per_class", "overall"):
        tuned = tune(answers, human, query, COSTS, target=0.995, mode=mode)
        assert "no thresholds could be certified for 99.5% agreement" in tuned.promise
        point = tuned.curve.filter(pl.col("accuracy") == tuned.curve["accuracy"].max())
        assert list(tuned.cascade.thresholds["small"]) == point["thresholds_small"][0].to_list()
        assert f"{point['accuracy'][0]:.1%} of the time" in tuned.promise


def test_given_thresholds_are_kept():
    answers, human, query = judged(50, 10)
    given = dict.fromkeys(COSTS, (0.9, 0.8, 0.7, 0.6, NEVER))
    tuned = tune(answers, human, query, COSTS, thresholds=given, target=0.9)
    assert tuned.cascade == Cascade(tuple(COSTS), given)
    assert "given" in tuned.promise
    with pytest.raises(ConfigError, match="thresholds of 'middle'"):
        tune(answers, human, query, COSTS, thresholds={"small": given["small"]})


def test_given_thresholds_need_no_labels():
    nothing = Calibrated(np.empty((0, 5)), np.empty(0, np.int64), np.empty(0))
    none = np.empty(0, np.int64)
    given = {"small": (0.5,) * 5}
    tuned = tune({"small": nothing}, none, none, COSTS, thresholds=given)
    assert tuned.cascade.thresholds == given
    assert tuned.point.select("accuracy", "kappa").row(0) == (None, None)
    assert tuned.curve.schema["accuracy"] == pl.Float64


def test_one_judge_and_free_judges_are_no_trouble():
    answers, human, query = judged(80, 11, names=("small",))
    tuned = tune(answers, human, query, {"small": 0.0})
    assert tuned.point["cost"].to_list() == [None]
    assert tuned.point["accuracy"][0] == pytest.approx((answers["small"].grades == human).mean())


def test_the_same_labels_give_the_same_cascade():
    first, second = (tune(*judged(100, 12), COSTS, target=0.8, seed=4) for _ in range(2))
    assert first.cascade == second.cascade
    assert first.promise == second.promise
    assert_frame_equal(first.curve, second.curve)
