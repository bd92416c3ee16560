"""The model card by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from trivium.adapters.model_card import CardFacts, write_card
from trivium.adapters.templates import NONE
from trivium.domain.curriculum import PUBLISHED


@pytest.fixture
def facts() -> CardFacts:
    return CardFacts(
        start="intfloat/e5-base-v2",
        recipe="published",
        stages=PUBLISHED,
        chosen=pl.DataFrame({"stage": ["easy"], "step": [10], "ndcg": [0.5]}),
        curves=pl.DataFrame({"stage": ["easy"], "step": [10], "loss": [None], "ndcg": [0.5]}),
        levels=pl.DataFrame(
            {"level": ["random_negative", "easy_positive"], "rows": [2, 3], "queries": [1, 1]}
        ),
        dimensions=768,
        max_length=64,
        query_text=["{query}"],
        item_text=["{title}", "brand: {brand} & <more>"],
        version="1.2.3",
    )


def written(facts: CardFacts, folder: Path) -> str:
    return write_card(folder, facts).read_text(encoding="utf-8")


def test_the_start_s_own_card_is_replaced(facts: CardFacts, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("license: mit\nI am another model.")
    card = written(facts, tmp_path)
    assert "another model" not in card
    assert "license:" not in card.split("---")[1]
    assert [p.name for p in tmp_path.iterdir()] == ["README.md"]


def test_it_may_be_written_again_with_figures(facts: CardFacts, tmp_path: Path) -> None:
    assert "Not measured on test queries yet." in written(facts, tmp_path)
    metrics = pl.DataFrame(
        {
            "system": ["trained"] * 2,
            "segment": ["all", "tail"],
            "measure": ["nDCG@10"] * 2,
            "value": [0.5, 0.1],
            "ci_low": [None, None],
            "ci_high": [None, None],
            "queries": [9, 3],
        }
    )
    card = written(replace(facts, metrics=metrics), tmp_path)
    assert f"| nDCG@10 | 0.500 | {NONE} | 9 |" in card
    assert "Not measured" not in card


def test_every_table_is_whole(facts: CardFacts, tmp_path: Path) -> None:
    blocks = [b.splitlines() for b in written(facts, tmp_path).split("\n\n") if b.startswith("|")]
    assert len(blocks) == 3
    for lines in blocks:
        assert len({line.count("|") for line in lines}) == 1, lines
    stages, _curve, levels = blocks
    assert len(stages) == 2 + len(PUBLISHED)
    assert [line.split(" | ")[0] for line in levels[2:]] == ["| easy positive", "| random negative"]


def test_text_is_not_escaped(facts: CardFacts, tmp_path: Path) -> None:
    assert "`{title}, brand: {brand} & <more>`" in written(facts, tmp_path)


@pytest.mark.parametrize(
    ("start", "shown", "of_the_hub"),
    [
        ("intfloat/e5-base-v2", "intfloat/e5-base-v2", True),
        ("/srv/secret/towers/mine", "mine", False),
        ("package:some_package/model", "package:some_package/model", False),
    ],
)
def test_how_the_start_is_named(
    facts: CardFacts, tmp_path: Path, start: str, shown: str, of_the_hub: bool
) -> None:
    card = written(replace(facts, start=start), tmp_path)
    assert f"Trained from `{shown}`" in card
    assert ("base_model:" in card) == of_the_hub
    assert "secret" not in card


def test_a_training_that_changed_nothing_says_so(facts: CardFacts, tmp_path: Path) -> None:
    stayed = facts.chosen.with_columns(step=pl.lit(0))
    claim = "the weights are those of `intfloat/e5-base-v2`"
    assert claim in written(replace(facts, chosen=stayed), tmp_path)
    assert claim not in written(facts, tmp_path)


def test_simulated_data_are_named_so(facts: CardFacts, tmp_path: Path) -> None:
    assert "The data are simulated" in written(replace(facts, simulated=True), tmp_path)
    assert "simulated" not in written(facts, tmp_path)
