"""The configuration: published defaults, one key at a time, and what `trivium init` writes."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from trivium.cli.templates import market_config, user_config
from trivium.domain.curriculum import PUBLISHED, RECIPES, stages_of
from trivium.foundation.config import Config, load_config, parse_config
from trivium.foundation.errors import ConfigError
from trivium.foundation.judge_config import BUILT_IN
from trivium.foundation.sections import CatalogConfig
from trivium.foundation.train_config import StageConfig

DEFAULTS = Config()


def faults(raw, *overrides):
    with pytest.raises(ConfigError) as error:
        parse_config(raw, overrides)
    return error.value.faults


# What is published (docs: the method)


def test_mining_as_published():
    assert DEFAULTS.mine.names == ("dictionary", "bm25", "dense")
    assert DEFAULTS.mine.lexical == ["dictionary", "bm25"]
    assert DEFAULTS.mine.dense == ["dense"]
    assert DEFAULTS.mine.depth == 500
    assert DEFAULTS.mine.model == "sentence-transformers/all-MiniLM-L6-v2"


def test_levels_as_published():
    assert DEFAULTS.examples.hard_positive_depth == 50
    assert DEFAULTS.examples.hard_negative_depth == 100
    assert (DEFAULTS.examples.tfidf_low, DEFAULTS.examples.tfidf_high) == (0.2, 0.6)
    assert DEFAULTS.examples.max_positives == 50
    assert DEFAULTS.examples.max_negatives == 50


def test_the_judges_as_published():
    kinds = {kind: model.model_fields for kind, model in BUILT_IN.items()}
    assert kinds["cross_encoder"]["model"].default == "microsoft/deberta-v3-base"
    assert kinds["lora_llm"]["model"].default == "google/gemma-2b"
    assert DEFAULTS.annotate.ties == "confidence"
    assert DEFAULTS.data.judge_query_text == ["{query}"]
    assert DEFAULTS.data.judge_item_text == ["{title}"]


def test_the_curriculum_as_published():
    easy, hard, fine = stages_of(parse_config({"train": {"recipe": "published"}}).train)
    assert [stage.loss for stage in (easy, hard, fine)] == ["bce", "mnr", "triplet"]
    assert (easy.positives, easy.negatives) == (["easy_positive"], ["random_negative"])
    assert (easy.min_grade, easy.temperature) == (4, 20.0)
    assert (hard.positives, hard.negatives) == (["hard_positive"], ["hard_negative"])
    assert hard.min_grade == 0
    assert fine.negatives == ["token_similar_negative"]
    assert fine.margin == 0.3
    assert StageConfig.model_fields["margin"].default == 0.3
    assert RECIPES["published"] == PUBLISHED


def test_the_measure_as_published():
    assert DEFAULTS.evaluate.cutoff == 10
    assert parse_config({}) == DEFAULTS


# Overrides and faults


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("mine.depth=99", lambda c: c.mine.depth, 99),
        (" mine.depth = 99", lambda c: c.mine.depth, 99),
        ("mine.channels=['bm25']", lambda c: c.mine.names, ("bm25",)),
        ("train.recipe=published", lambda c: c.train.recipe, "published"),
        ("report.title=My shop, 2nd run", lambda c: c.report.title, "My shop, 2nd run"),
        ("report.title='7'", lambda c: c.report.title, "7"),
        ("train.bf16=false", lambda c: c.train.bf16, False),
        ("annotate.risk=1e-4", lambda c: c.annotate.risk, 1e-4),
        ("annotate.judges.0.rounds=7", lambda c: c.annotate.judges[0].rounds, 7),
        ("annotate.judges.large.rank=8", lambda c: c.annotate.judges[1].rank, 8),
        ("data.columns.items={title='name'}", lambda c: c.data.columns.items, {"title": "name"}),
        ("data.columns.items.title=name", lambda c: c.data.columns.items, {"title": "name"}),
    ],
)
def test_an_override_replaces_what_the_file_says(override, read, value):
    judges = [{"kind": "features"}, {"kind": "lora_llm", "name": "large"}]
    raw = {"mine": {"depth": 7, "channels": ["dense"]}, "train": {"bf16": True}}
    raw["annotate"] = {"judges": judges}
    assert read(parse_config(raw, [override])) == value


@pytest.mark.parametrize("override", ["annotate.judges.3.rank=8", "mine.depth.deeper=1"])
def test_an_override_of_what_is_not_there_is_refused(override):
    (fault,) = faults(
        {"mine": {"depth": 5}, "annotate": {"judges": [{"kind": "lora_llm"}]}}, override
    )
    assert "not a section or an entry" in fault.got


JUDGE_FAULTS = [
    ([{"kind": "features", "rouns": 3}], "annotate.judges.0.rouns", "rounds"),
    ([{"kind": "features"}, {"kind": "chat"}], "annotate.judges.1.model", "required"),
    ([{"kind": "features"}, {"kind": "features"}], "annotate", "different names"),
    ([{"kind": "features", "name": "vote"}], "annotate.judges.0", "not 'vote'"),
    ([{"kind": "features", "name": "cascade"}], "annotate.judges.0", "'cascade'"),
    ([{"kind": "features"}, {"kind": "stacked", "of": ["features", "x"]}], "annotate", "not x"),
    ([], "annotate.judges", "at least 1"),
]


@pytest.mark.parametrize(("judges", "where", "words"), JUDGE_FAULTS)
def test_a_judge_that_cannot_be_is_refused(judges, where, words):
    (fault,) = faults({"annotate": {"judges": judges}})
    assert fault.where.endswith(f": {where}")
    assert words in fault.expected


def test_a_judge_of_another_package_takes_its_own_settings():
    raw = {"annotate": {"judges": [{"kind": "oracle", "name": "o", "depth": 3}]}}
    (judge,) = parse_config(raw).annotate.judges
    assert (judge.kind, judge.name, judge.model_extra) == ("oracle", "o", {"depth": 3})


def test_thresholds_are_five_a_judge_that_is_there():
    good = {"features": [0.5, 0.5, 0.9, 0.5, 2.0]}
    raw = {"judges": [{"kind": "features"}], "thresholds": good}
    assert parse_config({"annotate": raw}).annotate.thresholds == good
    for wrong in ({"features": [0.5]}, {"other": [0.5] * 5}, {"features": [-1.0] * 5}):
        assert faults({"annotate": raw | {"thresholds": wrong}})
    two = [{"kind": "features"}, {"kind": "cross_encoder"}]
    (fault,) = faults({"annotate": {"judges": two, "thresholds": good}})
    assert "cross_encoder" in fault.expected
    silent = good | {"cross_encoder": []}
    section = parse_config({"annotate": {"judges": two, "thresholds": silent}}).annotate
    assert section.thresholds == silent
    assert faults({"annotate": raw | {"thresholds": {"features": []}}})


def test_the_last_override_wins_and_the_rest_stays():
    config = parse_config({"mine": {"queries": 5}}, ["mine.depth=1", "mine.depth=2"])
    assert (config.mine.depth, config.mine.queries) == (2, 5)


@pytest.mark.parametrize(
    ("raw", "where", "near"),
    [
        ({"mine": {"dept": 1}}, "mine.dept", "depth"),
        ({"trian": {}}, "trian", "train"),
        ({"data": {"columns": {"item": {}}}}, "data.columns.item", "items"),
        (
            {"train": {"stages": [{"name": "a", "loss": "bce", "positives": ["x"], "step": 1}]}},
            "train.stages.0.step",
            "steps",
        ),
    ],
)
def test_the_nearest_key_is_named(raw, where, near):
    (fault,) = faults(raw)
    assert fault.where.endswith(f": {where}")
    assert fault.fix == f"did you mean '{near}'?"
    assert near in fault.expected


def test_a_key_that_is_near_to_nothing():
    (fault,) = faults({"mine": {"zzz": 1}})
    assert fault.fix == "remove it"


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"seed": 0.6}, "must be 1, not 1.1"),
        ({"seed": 0, "train": 0, "validation": 0, "test": 0}, "must be 1, not 0"),
        ({"calibration": 0.6, "agreement": 0.4}, "must leave some of the seed"),
    ],
)
def test_shares_must_add_up(split, words):
    (fault,) = faults({"split": split})
    assert words in fault.expected


def test_every_wrong_value_is_named():
    raw = {"mine": {"depth": 0}, "train": {"bf16": "so"}, "data": {"items": 7}, "run": {"x": 1}}
    assert {fault.where.split(": ")[1] for fault in faults(raw)} == {
        "mine.depth",
        "train.bf16",
        "data.items",
        "run.x",
    }


# Stages and paths


STAGES = """
[train]
scale = 0.5
[[train.stages]]
name = "first"
loss = "bce"
positives = ["easy_positive"]
negatives = ["random_negative"]
min_grade = 4
steps = 30
[[train.stages]]
name = "second"
loss = "triplet"
positives = ["hard_positive"]
negatives = ["hard_negative"]
human_share = 0.5
margin = 0.2
"""


def test_stages_of_ones_own_replace_the_recipe(tmp_path):
    (tmp_path / "trivium.toml").write_text(STAGES)
    first, second = stages_of(load_config(tmp_path / "trivium.toml").train)
    assert (first.name, first.loss, first.min_grade, first.steps) == ("first", "bce", 4, 15)
    assert (second.name, second.human_share, second.margin) == ("second", 0.5, 0.2)
    assert second.negatives == ["hard_negative"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"positives": ["easy"]}, "easy_positive"),
        ({"negatives": ["hard_positive"]}, "hard_negative"),
        ({"name": "a/b"}, "letters, digits"),
        ({"loss": "bce", "negatives": []}, "needs"),
        ({"loss": "triplet", "negatives": []}, "needs"),
    ],
)
def test_a_stage_that_cannot_train_is_refused(wrong, words):
    good = {
        "name": "s",
        "loss": "triplet",
        "positives": ["hard_positive"],
        "negatives": ["hard_negative"],
    }
    assert parse_config({"train": {"stages": [good]}}).train.stages[0].name == "s"
    (fault,) = faults({"train": {"stages": [good | wrong]}})
    assert words in fault.expected


@pytest.mark.parametrize("loss", ["circle", "kl"])
def test_losses_of_grades_compare_positives_too(loss):
    stage = {"name": "s", "loss": loss, "positives": ["seed_positive"]}
    raw = {"train": {"stages": [stage | {"negatives": ["hard_positive", "hard_negative"]}]}}
    assert parse_config(raw).train.stages[0].negatives == ["hard_positive", "hard_negative"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"evaluate": {"cutoff": 101}}, "depth >= cutoff, not 100 < 101"),
        ({"data": {"torso_share": 0.4}}, "torso_share >= head_share, not 0.4 < 0.5"),
        ({"mine": {"channels": ["a", "b", "a"]}}, "channels with different names"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(raw, words):
    (fault,) = faults(raw)
    assert words in fault.expected


def test_settings_may_meet_their_bounds():
    raw = {"evaluate": {"cutoff": 100}, "data": {"torso_share": 0.5}}
    assert parse_config(raw).evaluate.cutoff == parse_config(raw).evaluate.depth


def test_stages_have_different_names_and_the_band_has_an_order():
    stage = {"name": "s", "loss": "mnr", "positives": ["hard_positive"]}
    (fault,) = faults({"train": {"stages": [stage, stage]}})
    assert "different names" in fault.expected
    (fault,) = faults({"examples": {"tfidf_low": 0.7, "tfidf_high": 0.2}})
    assert "tfidf_low <= tfidf_high" in fault.expected


def test_a_stage_needs_a_name_a_loss_and_positives():
    named = {fault.where for fault in faults({"train": {"stages": [{"positives": []}]}})}
    assert {where.rsplit(".", 1)[1] for where in named} == {"name", "loss", "positives"}


def test_paths_are_those_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP_DATA", str(tmp_path / "far"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = """[data]
    items = ["a.csv", "../b.csv", "${SHOP_DATA}/c.csv", "~/d.csv"]
    queries = "q.csv"
    synonyms = "s.txt"
    """
    place = tmp_path / "shop" / "trivium.toml"
    place.parent.mkdir()
    place.write_text(text)
    data = load_config(place).data
    assert [path.resolve() for path in data.items] == [
        tmp_path / "shop" / "a.csv",
        tmp_path / "b.csv",
        tmp_path / "far" / "c.csv",
        tmp_path / "home" / "d.csv",
    ]
    assert data.queries == [tmp_path / "shop" / "q.csv"]
    assert data.synonyms == tmp_path / "shop" / "s.txt"
    monkeypatch.chdir(place.parent)
    assert load_config(Path("trivium.toml")).data == data


def test_a_configuration_survives_its_own_record():
    raw = {
        "data": {"items": "a.csv", "columns": {"items": {"title": "name"}}},
        "mine": {"depth": 9},
    }
    config = parse_config(raw)
    assert parse_config(json.loads(json.dumps(config.model_dump(mode="json")))) == config


# What is documented


def sections(model=Config, prefix=""):
    for key, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from sections(type(default), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", field


EVERY = [
    *sections(),
    *sections(StageConfig, "train.stages."),
    *sections(CatalogConfig, "data.further."),
    *(pair for kind, model in BUILT_IN.items() for pair in sections(model, f"{kind}.")),
]


@pytest.mark.parametrize(("name", "field"), EVERY, ids=[name for name, _field in EVERY])
def test_every_setting_is_described(name, field):
    assert field.description
    assert not field.description.endswith(".")
    if field.default is None:
        assert "null" in field.description or field.examples


def test_every_section_is_described():
    for name in Config.model_fields:
        assert type(getattr(DEFAULTS, name)).__doc__


# What `trivium init` writes

WRITTEN = user_config([Path("shop/items.csv")], [Path("q.csv"), Path("r.csv")], [], Path())
COMMENTED = [n for n, line in enumerate(WRITTEN.splitlines()) if re.match(r"# \w+ = ", line)]


def uncommented(*numbers):
    lines = WRITTEN.splitlines()
    return "\n".join(line[2:] if n in numbers else line for n, line in enumerate(lines))


def test_what_init_writes_is_the_defaults_and_the_files():
    config = parse_config(tomllib.loads(WRITTEN), base=Path())
    items = [Path("shop/items.csv").absolute()]
    queries = [Path("q.csv").absolute(), Path("r.csv").absolute()]
    data = DEFAULTS.data.model_copy(update={"items": items, "queries": queries})
    assert config == DEFAULTS.model_copy(update={"data": data})


def test_the_two_models_stand_in_what_init_writes():
    raw = tomllib.loads(WRITTEN)
    assert raw["mine"] == {"model": DEFAULTS.mine.model}
    assert raw["annotate"] == {
        "judges": [{"kind": "cross_encoder", "model": "microsoft/deberta-v3-base"}]
    }


@pytest.mark.parametrize(
    "number", COMMENTED, ids=[WRITTEN.splitlines()[n].split(" =")[0] for n in COMMENTED]
)
def test_each_commented_setting_can_be_uncommented(number):
    plain = parse_config(tomllib.loads(WRITTEN))
    config = parse_config(tomllib.loads(uncommented(number)))
    line = WRITTEN.splitlines()[number]
    assert (config == plain) != line.endswith("; not set")


def test_all_commented_settings_together():
    raw = tomllib.loads(uncommented(*COMMENTED))
    parse_config(raw)
    assert {f"{name}.{key}" for name, table in raw.items() for key in table} == {
        f"{name}.{key}"
        for name in Config.model_fields
        for key in type(getattr(DEFAULTS, name)).model_fields
    }


def test_the_marketplaces_configuration_is_in_order():
    config = parse_config(tomllib.loads(market_config("tower", "body")))
    trees, encoder = config.annotate.judges
    assert (config.mine.model, encoder.model, trees.kind) == ("tower", "body", "features")
    assert config.data.complete
