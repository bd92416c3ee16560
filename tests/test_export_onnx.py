"""Towers as ONNX: equal to the model on texts that the export never saw, or refused."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tiny_towers import PROMPTS, bert_tower, static_tower
from trivium.adapters.exports.onnx_encoder import OnnxEncoder
from trivium.adapters.tower_models import build_tower
from trivium.adapters.towers import Tower, retrieve
from trivium.domain.measures import measure
from trivium.foundation.errors import ConfigError, DependencyError, InputError, WorkspaceError
from trivium.foundation.tower_config import TowerConfig
from trivium.stages.export import ExportedModel, JudgedQueries, export_model

UNSEEN = [
    "red mug",
    "a kettle of 2 l, 1/2 in. spout, brushed steel, and far more words than are read of any text",
    "x",
    "Über-Lampe",
]
SIDES = ("queries", "items")


@pytest.fixture(scope="module")
def judged() -> JudgedQueries:
    things = [f"{colour} {thing}" for colour in ("red", "blue") for thing in ("mug", "lamp", "fan")]
    pairs = [(q, i, 4 if q == i else 1) for q in range(3) for i in range(6)]
    qrels = {"query_id": [], "item_id": [], "grade": []}
    for q, i, grade in pairs:
        qrels["query_id"].append(f"q{q}")
        qrels["item_id"].append(f"i{i}")
        qrels["grade"].append(grade)
    return JudgedQueries(
        pl.DataFrame({"query_id": ["q0", "q1", "q2"], "text": ["mug red", "lamps", "a red fan"]}),
        pl.DataFrame({"item_id": [f"i{n}" for n in range(6)], "text": things}),
        pl.DataFrame(qrels),
        cutoff=3,
    )


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    bert_tower(str(folder / "body")).save_pretrained(str(folder / "tower"))
    return folder / "tower"


@pytest.fixture(scope="module")
def exported(
    bert: Path, judged: JudgedQueries, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, ExportedModel]:
    folder = tmp_path_factory.mktemp("out")
    samples = {"queries": ["hose"], "items": ["garden hose", "5 m hose"]}
    formats = ("sentence-transformers", "int8")
    return folder, export_model(str(bert), folder, formats, samples=samples, judged=judged)


def reference(model: Path) -> Tower:
    return Tower.load(str(model), bf16=False)


def differences(tower: Tower, folder: Path) -> list[float]:
    encoder = OnnxEncoder(folder, "model.onnx")
    pairs = [(tower.encode(UNSEEN, side), encoder.encode(UNSEEN, side)) for side in SIDES]
    return [float(np.abs(own - graph).max()) for own, graph in pairs]


def test_the_graph_is_the_model(exported, bert: Path) -> None:
    folder, made = exported
    assert max(differences(reference(bert), folder / "onnx")) < 1e-5
    assert made.figures.max_difference < 1e-5
    assert made.figures.texts == 2 * 5 + 3
    assert (made.figures.dimensions, made.figures.max_length) == (16, 12)


def test_prompts_of_each_side_are_used(exported) -> None:
    folder, _made = exported
    described = json.loads((folder / "onnx/export.json").read_text())
    assert described["prompts"] == {"queries": PROMPTS["query"], "items": PROMPTS["document"]}
    encoder = OnnxEncoder(folder / "onnx", "model.onnx")
    assert np.abs(encoder.encode(UNSEEN, "queries") - encoder.encode(UNSEEN, "items")).max() > 0.01


def test_the_copy_is_the_model(exported, bert: Path) -> None:
    folder, _made = exported
    own, copy = (reference(place).encode(UNSEEN) for place in (bert, folder / "model"))
    assert np.array_equal(own, copy)


def test_what_int8_loses_is_stated(exported, judged: JudgedQueries) -> None:
    folder, made = exported
    stated, lines = made.figures, " ".join(made.lines())
    assert 0.5 < stated.int8_min_cosine < stated.int8_mean_cosine < 1 - 1e-6
    assert f"{stated.int8_mean_cosine:.4f}" in lines
    for graph, value in (
        ("model.onnx", made.validated.fp32),
        ("model_int8.onnx", made.validated.int8),
    ):
        run = retrieve(OnnxEncoder(folder / "onnx", graph), judged.queries, judged.items, 3)
        values = measure(run, judged.qrels, cutoff=3, depth=3).filter(measure="nDCG@3")["value"]
        assert value == pytest.approx(values.mean())
        assert f"{value:.4f}" in lines
        assert f"{value:.4f}" in (folder / "onnx/README.md").read_text()


def test_the_code_of_the_readme_encodes(exported, bert: Path, monkeypatch) -> None:
    folder, _made = exported
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "onnx/README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(folder / "onnx")
    scope: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["scores"].shape == (1, 2)  # type: ignore[attr-defined]
    made = scope["encode"](UNSEEN, "queries")  # type: ignore[operator]
    assert np.abs(made - reference(bert).encode(UNSEEN, "queries")).max() < 1e-5


def test_two_towers_give_two_graphs(tmp_path: Path) -> None:
    static_tower().save_pretrained(str(tmp_path / "one"))
    model = build_tower(str(tmp_path / "one"), TowerConfig(kind="two", query_prompt="query: "))
    (weights,) = model[0].sub_modules["query"].parameters()
    weights.data = weights.data.flip(0)
    model.save_pretrained(str(tmp_path / "two"))
    export_model(str(tmp_path / "two"), tmp_path / "out", ("onnx",))
    assert max(differences(reference(tmp_path / "two"), tmp_path / "out/onnx")) < 1e-5
    assert {p.parent.name for p in (tmp_path / "out").rglob("*.onnx")} == set(SIDES)
    queries, items = differences(reference(tmp_path / "one"), tmp_path / "out/onnx")
    assert (queries > 0.01, items < 1e-5) == (True, True)


def test_static_embeddings_cut_to_fewer_dimensions_and_tokens(tmp_path: Path) -> None:
    static_tower(truncate_dim=8).save_pretrained(str(tmp_path / "static"))
    model = str(tmp_path / "static")
    made = export_model(model, tmp_path / "out", ("onnx",), max_length=6)
    tower = Tower.load(model, 6, bf16=False)
    assert (tower.dimension, made.figures.dimensions, made.figures.max_length) == (8, 8, 6)
    assert max(differences(tower, tmp_path / "out/onnx")) < 1e-5
    whole = Tower.load(model, bf16=False)
    assert max(differences(whole, tmp_path / "out/onnx")) > 0.01


def test_a_graph_that_differs_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    # The mean of this model leaves out the tokens of the prompt, which the graph cannot know.
    tower = bert_tower(str(tmp_path / "body"), include_prompt=False)
    tower.save_pretrained(str(tmp_path / "tower"))
    (tmp_path / "out/onnx").mkdir(parents=True)
    (tmp_path / "out/onnx/model.onnx").write_text("an earlier one")
    with pytest.raises(DependencyError, match="vectors that differ from the model's by 0"):
        export_model(str(tmp_path / "tower"), tmp_path / "out", ("onnx",), overwrite=True)
    assert [p.name for p in (tmp_path / "out").rglob("*")] == ["onnx", "model.onnx"]
    assert (tmp_path / "out/onnx/model.onnx").read_text() == "an earlier one"


def test_what_is_there_is_replaced_only_when_asked(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.txt").write_text("mine")
    with pytest.raises(WorkspaceError, match="overwrite"):
        export_model(str(bert), tmp_path, ("sentence-transformers",))
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["mine.txt"]
    export_model(str(bert), tmp_path, ("sentence-transformers",), overwrite=True)
    assert not (tmp_path / "model/mine.txt").exists()
    assert (tmp_path / "model/modules.json").exists()


def test_a_missing_package_is_named_before_anything_is_written(
    bert: Path, tmp_path: Path, monkeypatch
) -> None:
    find = importlib.util.find_spec
    without = lambda name, *rest: None if name == "onnxscript" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(DependencyError, match=r"pip install 'trivium\[export\]'") as error:
        export_model(str(bert), tmp_path, ("sentence-transformers", "onnx"))
    assert "'onnxscript'" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_model_without_a_graph_is_refused(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import BoW

    SentenceTransformer(modules=[BoW(["red", "mug"])]).save_pretrained(str(tmp_path / "bow"))
    with pytest.raises(DependencyError, match="BoW"):
        export_model(str(tmp_path / "bow"), tmp_path / "out", ("onnx",))


def test_the_function_of_the_api(bert: Path, tmp_path: Path, judged: JudgedQueries) -> None:
    import trivium

    with pytest.raises(ConfigError, match="one of sentence-transformers, onnx, int8"):
        trivium.export_model(str(bert), tmp_path, formats=["onxx"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="all three"):
        trivium.export_model(str(bert), tmp_path, items=judged.items)
    made = trivium.export_model(str(bert), tmp_path, formats=["sentence-transformers"])
    assert made.lines() == []
    assert made.folders == {"sentence-transformers": tmp_path / "model"}
