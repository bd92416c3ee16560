"""The configurations of the real-data benchmarks: whole inputs, no leak."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

from trivium.foundation.config import load_config
from trivium.foundation.text import word_set
from trivium.stages.inputs import Inputs, read_inputs

BENCH = Path(__file__).parents[1] / "bench"
DATA = os.environ.get("TRIVIUM_DATA", "")

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(
        not DATA or not Path(DATA).is_dir(), reason="TRIVIUM_DATA names no folder of real data"
    ),
]


@pytest.fixture(scope="module", params=["homedepot", "crowdflower"])
def inputs(request: pytest.FixtureRequest) -> Inputs:
    return read_inputs(load_config(BENCH / f"{request.param}.toml"))


def words(queries: pl.DataFrame) -> set[str]:
    return set(queries.select(word_set("query"))["query"])


def test_no_two_parts_share_words(inputs: Inputs) -> None:
    seen: dict[str, str] = {}
    for part in ("train", "seed", "calibration", "tuning", "agreement", "validation", "test"):
        queries = inputs.queries.filter(pl.col("part") == part)
        assert queries.height > 0, part
        for text in words(queries):
            other = seen.setdefault(text, part)
            assert other == part or {other, part} == {"train", "seed"}, text


def test_what_is_held_out_is_judged(inputs: Inputs) -> None:
    for part in ("validation", "test"):
        queries = inputs.queries.filter(pl.col("part") == part)["query_id"]
        assert queries.is_in(inputs.qrels["query_id"].implode()).all()
    assert inputs.judgments["grade"].is_between(0, 4).all()


def test_queries_of_the_log_are_for_training_alone(inputs: Inputs) -> None:
    judged = inputs.judgments["query_id"].unique().implode()
    unjudged = inputs.queries.filter(~pl.col("query_id").is_in(judged))
    assert set(unjudged["part"]) <= {"train"}
