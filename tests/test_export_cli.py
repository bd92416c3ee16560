"""`trivium export` on a run, and the card that it puts beside the model."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tiny_towers import static_tower
from trivium.foundation import tables
from trivium.foundation.config import Config, parse_config
from trivium.foundation.workspace import Plan, Workspace, write_table
from trivium.pipeline.card_facts import card_facts

TITLES = [f"{colour} {thing}" for colour in ("red", "blue") for thing in ("mug", "lamp", "fan")]
CONFIG = {
    "mine": {"model": "sentence-transformers/all-MiniLM-L6-v2"},
    "train": {"max_length": 20, "scale": 0.5},
}


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config(CONFIG)


def finish(run: Workspace, stage: str, config: Config, **upstream: str) -> str:
    plan = Plan(stage, upstream=upstream)
    run.stage(stage).finish(plan, {"configuration": config.model_dump(mode="json")})
    return plan.key


@pytest.fixture(scope="module")
def run(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stages leave that are read here."""
    workspace = Workspace(tmp_path_factory.mktemp("run"))
    ids = [f"i{n}" for n in range(len(TITLES))]
    asked = ["mug red", "lamp", "blue fan"]
    parts = ["seed", "train", "validation"]
    judged = {"query_id": ["q2"] * 6, "item_id": ids, "grade": [0, 0, 1, 1, 1, 4]}
    example = {
        "query_id": ["q0", "q0", "q1", "q1"],
        "item_id": ["i0", "i1", "i1", "i2"],
        "level": ["seed_positive", "seed_negative", "easy_positive", "random_negative"],
        "grade": [4, 0, 3, None],
        "p_relevant": [1.0, 0.0, 0.9, None],
        "p_irrelevant": [0.0, 1.0, 0.1, None],
        "expected_grade": [4.0, 0.0, 3.2, None],
        "confidence": [1.0, 1.0, 0.8, None],
        "source": ["human", "human", "judge", "sampled"],
        "reason": [""] * 4,
    }
    made = {
        "inputs/items": {"item_id": ids, "title": TITLES, "text": TITLES},
        "inputs/queries": {"query_id": ["q0", "q1", "q2"], "text": asked, "part": parts},
        "inputs/qrels": judged,
        "annotate/agreement": {
            "judge": ["cross_encoder"] * 2,
            "measure": ["accuracy", "kappa"],
            "value": [0.81, 0.7],
            "ci_low": [0.75, 0.6],
            "ci_high": [0.87, 0.8],
            "pairs": [1234, 1234],
        },
        "train/chosen": {"stage": ["broad", "hard"], "step": [50, 0], "ndcg": [0.62, 0.62]},
        "train/curves": {
            "stage": ["broad"] * 3,
            "step": [0, 10, 50],
            "loss": [None, 0.5, None],
            "ndcg": [0.6, None, 0.62],
        },
    }
    for name, columns in made.items():
        write_table(workspace.root / f"{name}.parquet", pl.DataFrame(columns))
    shards = pl.DataFrame(example, schema=dict(tables.EXAMPLES.columns))
    for number, query_id in enumerate(("q0", "q1")):
        place = workspace.stage("examples").shard_path("examples", number)
        write_table(place, shards.filter(query_id=query_id))
    static_tower().save_pretrained(str(workspace.root / "train/model"))
    finish(workspace, "examples", config)
    finish(workspace, "train", config)
    return workspace.root


@pytest.fixture
def evaluated(run: Path, config: Config) -> Callable[[str], Workspace]:
    """Test figures in the run, of a training of that key."""
    systems = ["start", "trained"]
    metrics = pl.DataFrame(
        {
            "system": systems,
            "segment": ["all"] * 2,
            "measure": ["nDCG@10"] * 2,
            "value": [0.5, 0.6],
            "ci_low": [0.4, 0.5],
            "ci_high": [0.6, 0.7],
            "queries": [300] * 2,
        }
    )
    gains = metrics.filter(system="trained").with_columns(
        difference=0.1, relative=0.2, ci_low=0.04, ci_high=0.16, p_value=0.0005
    )

    def measured(key: str) -> Workspace:
        workspace = Workspace(run)
        for name, table in (("metrics", metrics), ("gains", gains)):
            write_table(workspace.stage("evaluate").table_path(name), table)
        finish(workspace, "evaluate", config, train=key)
        return workspace

    return measured


def test_a_tower_and_its_examples(cli, run: Path, tmp_path: Path) -> None:
    wanted = ("--format", "int8", "--examples", "sentence-transformers", "--examples", "tevatron")
    made = cli("export", run, "--to", tmp_path / "out", *wanted, "--negatives", 1)
    assert made.code == 0, made.err
    files = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*")}
    graphs = {"model.onnx", "model_int8.onnx", "tokenizer.json", "export.json", "README.md"}
    assert files == {
        *(f"onnx/{name}" for name in graphs),
        "examples/sentence-transformers/train.parquet",
        "examples/tevatron/train.jsonl",
    }
    for words in (
        r"onnx: differs from the model by \de-\d\d at most on \d+ texts",
        r"int8: mean cosine to fp32 [01]\.\d{4}",
        r"NDCG@10 on 1 validation queries: fp32 [01]\.\d{4}, int8 [01]\.\d{4}",
        r"tevatron: 2 rows",
    ):
        assert re.search(words, made.out), made.out
    again = cli("export", run, "--to", tmp_path / "out", *wanted)
    again.explains(5, ("something that exists", "--overwrite"))


def test_the_card_has_the_recipe_and_no_text_of_the_user(
    cli, run: Path, evaluated: Callable[[str], Workspace], tmp_path: Path
) -> None:
    key = Workspace(run).stage("train").manifest()["key"]  # type: ignore[index]
    evaluated(key)
    out = tmp_path / "out"
    made = cli("export", run, "--to", out, "--format", "sentence-transformers", "--quiet")
    assert (made.code, made.out, made.err) == (0, "", "")
    card = (out / "model/README.md").read_text(encoding="utf-8")
    for row in (
        "base_model: sentence-transformers/all-MiniLM-L6-v2",
        "unit vectors of 16 dimensions",
        "first 20 tokens",
        "| 150 | 64 | 6e-05 | 50 | 0.620 |",
        "| its start | 0.620 |",
        "| skipped: no examples |",
        "| broad | 0 | 0.600 |",
        "| seed positive | 1 | 1 |",
        "| cross encoder | microsoft/deberta-v3-base | 0.810 [0.750, 0.870] | 1,234 |",
        "| nDCG@10 | 0.500 [0.400, 0.600] | 0.600 [0.500, 0.700] | "
        "+20.0% (+0.100) [+0.040, +0.160], p < 0.001 | 300 |",
    ):
        assert row in card, card
    assert "| broad | 10 |" not in card  # a loss alone is no validation
    assert not [text for text in (*TITLES, "mug red", "blue fan") if text in card]
    assert str(run) not in card


def test_figures_of_another_training_are_not_shown(
    run: Path, config: Config, evaluated: Callable[[str], Workspace]
) -> None:
    workspace = evaluated("of another")
    facts = card_facts(workspace, config, run / "train/model")
    assert facts.metrics is None
    assert facts.gains is None


def test_what_is_not_done_is_said(cli, run: Path, tmp_path: Path) -> None:
    made = cli("export", tmp_path / "none", "--to", tmp_path / "out")
    made.explains(5, ("no such stage", "--until train"))
    assert not (tmp_path / "out").exists()
    made = cli("export", run, "--to", tmp_path / "out", "--examples", "tevatron", "--negatives", -1)
    assert made.code == 2
