"""Baselines and ablations of a finished run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from small_run import SMALL
from trivium.domain.ablations import orders, seen_by, without_level
from trivium.domain.curriculum import DEFAULT, PUBLISHED
from trivium.foundation.config import load_config
from trivium.foundation.tables import BASELINE_LEVELS, LEVELS
from trivium.foundation.workspace import Workspace
from trivium.pipeline.ablating import ablations
from trivium.pipeline.rivals import Rival, open_arena

SETTINGS = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def run(finished: Path, tmp_path_factory) -> Path:
    return Path(shutil.copytree(finished, tmp_path_factory.mktemp("rivals") / "run"))


def test_orders_are_all_the_others_and_start_from_what_came_before():
    made = dict(orders(PUBLISHED))
    assert len(made) == 5
    assert "order easy-hard-fine" not in made
    assert [stage.name for stage in made["order fine-easy-hard"]] == ["fine", "easy", "hard"]


def test_a_level_that_is_left_out_leaves_its_rows_to_the_others():
    rows = sum(stage.steps * stage.batch for stage in PUBLISHED)
    rest = without_level(PUBLISHED, "random_negative")
    assert [stage.name for stage in rest] == ["hard", "fine"]  # bce needs negatives
    assert abs(sum(s.steps * s.batch for s in rest) - rows) <= 64 * len(rest)
    rest = without_level(DEFAULT, "hard_negative")
    assert [stage.name for stage in rest] == [stage.name for stage in DEFAULT]
    assert not any("hard_negative" in stage.negatives for stage in rest)
    rest = without_level(PUBLISHED, "hard_positive")
    assert [stage.positives for stage in rest] == [["easy_positive"], ["easy_positive"]]


def test_a_channel_alone_sees_what_it_found_and_what_none_found():
    candidates = pl.DataFrame(
        {
            "query_id": ["q"] * 4,
            "item_id": ["both", "one", "other", "none"],
            "rank_a": [1, 2, None, None],
            "score_a": [1.0, 0.5, None, None],
            "rank_b": [3, None, 4, None],
            "score_b": [1.0, None, 0.5, None],
            "channels": [2, 1, 1, 0],
            "tfidf": [0.5] * 4,
        },
        schema_overrides={"channels": pl.Int8},
    )
    alone = seen_by(candidates, ["a"])
    assert alone["item_id"].to_list() == ["both", "one", "none"]
    assert alone["channels"].to_list() == [1, 1, 0]
    assert "rank_b" not in alone.columns
    assert seen_by(candidates, ["a", "b"]).equals(candidates)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_baselines_train_on_the_run_and_a_rerun_trains_nothing(
    cli, small_market: Path, run: Path, tmp_path
):
    config = ("-c", small_market / "trivium.toml", *SETTINGS, "--set", "train.validations=1")
    truth = small_market / "truth.parquet"
    log = tmp_path / "clicks.parquet"
    made = cli("clicks", run, "--truth", truth, "--unknown", 0, "--output", log)
    assert made.code == 0, made.err
    named = ["start", "click"]
    asked = [word for name in named for word in ("--baseline", name)]
    first = cli("train", run, *config, *asked, "--clicks", log)
    assert first.code == 0, first.err
    for name in ("own", *named):
        assert name in first.out
    ends = pl.read_parquet(run / "rivals" / "own-0" / "curves.parquet")
    own = ends.filter(stage=ends["stage"][-1])["ndcg"].max()
    (line,) = [line for line in first.out.splitlines() if line.startswith("validation NDCG")]
    assert f"own {own:.4f}" in line
    values = [float(word.strip(",")) for word in line.split() if word.startswith("0.")]
    assert len(values) == 2  # the start is not trained
    assert values == sorted(values, reverse=True)
    per_query = {
        folder.name: pl.read_parquet(folder / "per_query.parquet")
        for folder in (run / "rivals").iterdir()
        if (folder / "per_query.parquet").exists()
    }
    assert set(per_query) == {"start"} | {f"{n}-0" for n in ("own", *named[1:])}
    asked_about = {frozenset(table["query_id"]) for table in per_query.values()}
    assert len(asked_about) == 1
    again = cli("train", run, *config, *asked, "--clicks", log)
    assert again.out == first.out
    assert "training" not in again.err
    assert "start: validation" not in again.err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_queries_in_the_traffic_are_measured_apart_from_the_test(small_market: Path, run: Path):
    config = load_config(small_market / "trivium.toml", SETTINGS[1::2])
    arena = open_arena(Workspace(run), config)
    parts = dict(arena.job.table("inputs", "queries").select("query_id", "part").iter_rows())
    for part in ("test", "train"):
        measured = replace(arena, part=part).per_query(Rival("as it is", [], arena.examples), 0)
        assert {parts[query] for query in measured["query_id"]} == {part}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_channel_alone_has_no_pair_that_only_others_found(small_market: Path, run: Path):
    config = load_config(small_market / "trivium.toml", SETTINGS[1::2])
    arena = open_arena(Workspace(run), config)
    own = pl.concat(arena.examples())
    for rival in ablations(arena, ["channels"]):
        channel = rival.name.removesuffix(" alone")
        assert channel in config.mine.names
        assert rival.stages == arena.own().stages
        made = pl.concat(rival.parts())
        human = pl.col("source") == "human"
        assert made.filter(human).equals(own.filter(human))
        mined = made.filter(pl.col("source") == "judge")
        assert mined["reason"].str.contains(f"ranks: {channel} ").all()
        assert 0 < mined.height < own.height
    names = [rival.name for rival in ablations(arena, ())]
    assert len(set(names)) == len(names) > 10
    assert "one mixed stage" in names
    assert "hard labels" in names


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_cannot_be_trained_is_explained(cli, small_market: Path, run: Path, tmp_path):
    config = ("-c", small_market / "trivium.toml", *SETTINGS)
    cli("train", run, *config, "--baseline", "click").explains(4, ["--clicks"])
    cli("train", run, *config, "--baseline", "nothing").explains(4, ["offshelf"])
    cli("ablate", run, *config, "--only", "nothing").explains(4, ["orders"])
    cli("ablate", tmp_path / "none", *config).explains(5, ["--until examples"])


def test_no_baseline_level_is_one_of_the_methods():
    assert not set(BASELINE_LEVELS) & {
        level for stage in (*DEFAULT, *PUBLISHED) for level in (*stage.positives, *stage.negatives)
    }
    assert set(BASELINE_LEVELS) <= set(LEVELS)
