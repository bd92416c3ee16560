"""Whether training will pay: each finding alone, and all of them together."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from trivium.domain.level_precision import LEVEL_PRECISION
from trivium.domain.payoff import (
    FEWEST_PAIRS,
    FEWEST_QUERIES,
    MACHINE_POSITIVES,
    RIGHT_ENOUGH,
    TOO_WRONG,
    Payoff,
    payoff,
)

GOOD = {"gain": 0.02, "ci_low": 0.01, "ci_high": 0.03, "p_value": 0.001, "queries": 400}


def precision_of(**levels: tuple[int, float, int, float]) -> pl.DataFrame:
    """Levels with (pairs, precision, sure pairs, their precision), and a worse training part."""
    names = ("pairs", "precision", "sure_pairs", "sure_precision")
    rows: list[dict[str, Any]] = []
    for level, figures in levels.items():
        row = {"level": level, **dict(zip(names, figures, strict=True))}
        rows += [row | {"part": "agreement"}, row | {"part": "train", "precision": 0.0}]
    return pl.DataFrame(rows, schema=LEVEL_PRECISION)


def outlook_of(teacher=GOOD, *, right=0.9, sure_right=0.9, covered=5000, sure=False) -> Payoff:
    precision = precision_of(
        easy_positive=(400, right, 200, sure_right), hard_negative=(400, 0.1, 100, 0.1)
    )
    counts = pl.DataFrame(
        {"level": ["easy_positive", "hard_negative", "seed_positive"], "rows": [9, 99, 999]}
    )
    return payoff(teacher, precision, counts, covered, sure=sure)


def test_what_speaks_for_it_all_together_is_expected_to_help():
    got = outlook_of()
    assert got.outlook == "expected to help"
    assert got.remedies == ()
    assert got.sentence == (
        "Training is expected to help: the judge ranks better than what it teaches (+0.020 "
        "[+0.010, +0.030] nDCG@10 against the starting tower on 400 graded queries); 90% of "
        "machine positives are right, by 400 human-graded pairs; 5,000 queries have a machine "
        "positive."
    )


@pytest.mark.parametrize(
    ("change", "outlook"),
    [
        ({"ci_low": -0.01}, "cannot tell"),
        ({"p_value": 0.2}, "cannot tell"),
        ({"gain": -0.02, "ci_low": -0.03, "ci_high": -0.01}, "not expected to help"),
        ({"gain": -0.02, "ci_low": -0.03, "ci_high": 0.01}, "cannot tell"),
        ({"gain": 0.02, "ci_low": None, "ci_high": None}, "cannot tell"),
    ],
)
def test_a_judge_that_is_not_shown_to_rank_better_may_have_nothing_to_teach(change, outlook):
    got = outlook_of(GOOD | change)
    assert got.outlook == outlook
    assert len(got.remedies) == 1
    assert "seed labels" in got.remedies[0]
    assert "What would change that: " in got.sentence


def test_without_a_pool_whose_order_matters_nothing_is_claimed():
    got = outlook_of(None)
    assert got.outlook == "cannot tell"
    assert got.sentence.startswith("It cannot be told whether training will help: no graded query")


@pytest.mark.parametrize(
    ("right", "outlook"),
    [
        (RIGHT_ENOUGH, "expected to help"),
        (RIGHT_ENOUGH - 0.01, "cannot tell"),
        (TOO_WRONG, "cannot tell"),
        (TOO_WRONG - 0.01, "not expected to help"),
    ],
)
def test_positives_that_are_wrong_speak_against_it(right, outlook):
    assert outlook_of(right=right).outlook == outlook
    assert outlook_of(right=0.1, sure_right=right, sure=True).outlook == outlook
    if outlook != "expected to help":
        assert "P >= 0.8" in outlook_of(right=right).remedies[0]
        assert "P >= 0.8" not in outlook_of(sure_right=right, sure=True).remedies[0]


@pytest.mark.parametrize("covered", [0, FEWEST_QUERIES - 1, FEWEST_QUERIES])
def test_few_queries_leave_it_open(covered):
    enough = covered >= FEWEST_QUERIES
    got = outlook_of(covered=covered)
    assert got.outlook == ("expected to help" if enough else "cannot tell")
    assert any("more queries" in remedy for remedy in got.remedies) != enough


def test_levels_count_by_the_examples_that_they_give():
    precision = precision_of(easy_positive=(99, 1.0, 0, 0.0), hard_positive=(99, 0.5, 0, 0.0))
    for rows, share in (((30, 10), 0.875), ((10, 30), 0.625)):
        counts = pl.DataFrame({"level": list(MACHINE_POSITIVES), "rows": rows})
        reason = payoff(GOOD, precision, counts, 5000, sure=False).reasons[1]
        assert reason.startswith(f"{share:.0%} of machine positives")


def test_a_large_level_without_graded_pairs_leaves_it_open():
    few = FEWEST_PAIRS - 1
    precision = precision_of(easy_positive=(99, 0.9, 0, 0.0), hard_positive=(few, 0.9, 0, 0.0))
    known, unknown = (
        payoff(
            GOOD,
            precision,
            pl.DataFrame({"level": list(MACHINE_POSITIVES), "rows": rows}),
            5000,
            sure=False,
        )
        for rows in ([50, 50], [49, 51])
    )
    assert known.outlook == "expected to help"
    assert unknown.outlook == "cannot tell"
    assert "easy_positive: 99, hard_positive: 29" in unknown.reasons[1]
    assert "trivium seed pick" in unknown.remedies[0]


def test_without_machine_positives_it_is_left_open():
    counts = pl.DataFrame({"level": ["seed_positive"], "rows": [9]})
    got = payoff(GOOD, precision_of(easy_positive=(99, 0.9, 0, 0.0)), counts, 0, sure=False)
    assert got.outlook == "cannot tell"
    assert "(there are none)" in got.reasons[1]
