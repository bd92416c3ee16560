"""Raters of a simulated marketplace, its files, and arguments that are refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy import stats

from trivium.foundation import tables
from trivium.foundation.errors import ConfigError, WorkspaceError
from trivium.simulation import HUMAN_CONFUSION, confusion, draw_grades, simulate, write

FRAMES = ("items", "queries", "judgments", "truth", "intents")


@pytest.fixture(scope="module")
def market():
    return simulate(items=2000, queries=600, seed=3, raters=3)


def test_each_rater_makes_the_stated_confusions(market):
    truth = market.truth.rename({"grade": "true"})
    rated = market.judgments.join(truth, on=["query_id", "item_id"], how="left")
    rated = rated.with_columns(pl.col("true").fill_null(0))
    assert set(rated["rater"]) == {"sim-rater-1", "sim-rater-2", "sim-rater-3"}
    for _, rows in rated.group_by("rater"):
        for grade in tables.GRADES:
            given = rows.filter(pl.col("true") == grade)["grade"].to_numpy()
            counts = np.bincount(given, minlength=5)
            # Cells expected to hold few are put together with the ends, as chi-square needs.
            expected = HUMAN_CONFUSION[grade] * counts.sum()
            kept = expected >= 5
            observed = np.append(counts[kept], counts[~kept].sum())
            wanted = np.append(expected[kept], expected[~kept].sum())
            filled = wanted > 0
            assert stats.chisquare(observed[filled], wanted[filled]).pvalue > 1e-4


def test_raters_err_independently(market):
    wide = market.judgments.pivot(on="rater", index=["query_id", "item_id"], values="grade")
    wide = wide.join(market.truth, on=["query_id", "item_id"], how="left").fill_null(0)
    wrong = [(wide[f"sim-rater-{n}"] != wide["grade"]).to_numpy() for n in (1, 2)]
    assert abs(np.corrcoef(*wrong)[0, 1]) < 0.05


@pytest.mark.parametrize("agreement", [0.68, 0.8, 0.89, 1.0])
def test_a_simulated_judge_agrees_as_often_as_stated(agreement):
    matrix = confusion(agreement)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(5))
    assert matrix.diagonal() == pytest.approx(np.full(5, agreement))
    truth = np.random.default_rng(0).integers(0, 5, 20_000).astype(np.int8)
    drawn = draw_grades(truth, matrix, np.random.default_rng(1))
    assert (drawn == truth).mean() == pytest.approx(agreement, abs=0.01)
    errors = np.abs(drawn - truth)[drawn != truth]
    assert agreement == 1.0 or (errors == 1).mean() > 0.7


def test_written_files_are_the_tables(market, tmp_path):
    folder = tmp_path / "new" / "market"
    write(market, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "items.parquet",
        "judgments.parquet",
        "queries.parquet",
        "synonyms.txt",
        "truth.parquet",
    ]
    for name in ("items", "queries", "judgments", "truth"):
        assert_frame_equal(pl.read_parquet(folder / f"{name}.parquet"), getattr(market, name))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "simulated" in readme
    assert "- seed: 3" in readme
    assert "| **4** | 0.001 | 0.004 | 0.015 | 0.080 | 0.900 |" in readme


def test_a_folder_that_is_not_empty_is_left_alone(market, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(WorkspaceError, match="not empty"):
        write(market, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    write(market, tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "keep"
    assert (tmp_path / "truth.parquet").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"items": 0},
        {"queries": 0},
        {"judged": 601},
        {"raters": 0},
        {"misspelling_rate": 1.5},
        {"head_share": 0.95},
        {"confusion": np.eye(4)},
        {"confusion": np.full((5, 5), 0.3)},
        {"items": 20, "queries": 5000},
        {"items": 200_000, "queries": 20_000, "judged": 20_000},
    ],
)
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match="expected"):
        simulate(**wrong)


def test_a_tiny_market_still_works():
    market = simulate(items=5, queries=10, seed=0)
    assert len(market.items) == 5
    assert market.judgments["query_id"].n_unique() == 10
