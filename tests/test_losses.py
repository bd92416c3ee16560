from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from plain_encoder import (
    ITEMS,
    Encoder,
    cosines_of,
    gradients_are_right,
    plain_units,
    stage,
    texts,
    with_targets,
)
from trivium.adapters.losses import (
    CosineTriplet,
    GradedCircle,
    ListwiseKl,
    MaskedMnr,
    ScaledBce,
    make_loss,
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def codes_of(labels: np.ndarray) -> np.ndarray:
    """Known-relevant codes of every row's own positive, and of a few more pairs."""
    queries, positives = labels[:, 0], labels[:, 1]
    own = queries * ITEMS + positives
    more = queries[:4] * ITEMS + np.roll(positives, 1)[:4]
    return np.unique(np.concatenate([own, more]))


def batch_of(size: int, columns: int, seed: int) -> np.ndarray:
    """Positions of queries and of items, (size, 1 + columns); some items come twice."""
    rng = np.random.default_rng(seed)
    return np.column_stack(
        [rng.choice(100, size, replace=False), rng.integers(0, ITEMS, (size, columns))]
    )


def plain_mnr(encoder: Encoder, features: list, labels: np.ndarray, known: set, scale: float):
    query, *columns = [plain_units(encoder, column) for column in features]
    losses, masked = [], 0
    for row in range(len(query)):
        logits = []
        for number, column in enumerate(columns):
            for other in range(len(query)):
                code = labels[row, 0] * ITEMS + labels[other, 1 + number]
                own = number == 0 and other == row
                same = labels[other, 1 + number] == labels[row, 1]
                if not own and (same or code in known):
                    masked += 1
                    continue
                logits.append((own, scale * query[row] @ column[other]))
        positive = next(value for own, value in logits if own)
        losses.append(np.logaddexp.reduce([value for _, value in logits]) - positive)
    return np.mean(losses), masked


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_mnr_equals_a_plain_reference(columns, seed):
    encoder, labels = Encoder(seed), batch_of(9, columns, seed)
    known, features = codes_of(labels), texts(9, 1 + columns, seed)
    loss = MaskedMnr(encoder, known, ITEMS, 20.0)
    expected, masked = plain_mnr(encoder, features, labels, set(known.tolist()), 20.0)
    assert masked > 0
    got = loss(features, torch.from_numpy(labels)).item()
    assert got == pytest.approx(expected, rel=1e-12)
    unmasked = MaskedMnr(encoder, known[:0], ITEMS, 20.0)(features, torch.from_numpy(labels))
    assert unmasked.item() > got


@pytest.mark.parametrize("columns", [1, 2])
def test_the_gradient_of_mnr_is_right(columns):
    labels = batch_of(5, columns, 1)
    loss = MaskedMnr(Encoder(), codes_of(labels), ITEMS, 5.0)
    assert gradients_are_right(loss, texts(5, 1 + columns, 1), torch.from_numpy(labels))


@pytest.mark.parametrize("bias", [False, True])
def test_the_gradient_of_bce_is_right(bias):
    loss = ScaledBce(Encoder(), 5.0, bias=bias)
    names = {name for name, _ in loss.named_parameters()}
    assert names == {"log_t", "model.bag.weight"} | ({"bias"} if bias else set())
    assert gradients_are_right(loss, texts(4, 2, 2), with_targets([1, 0, 0, 1]))


def test_masked_pairs_move_nothing():
    """Words 0-2 are the queries, 10-12 their items; each is used in one text."""
    encoder = Encoder()
    words = torch.tensor([[0], [1], [2]])
    features = [{"input_ids": words}, {"input_ids": words + 10}]
    labels = torch.tensor([[0, 10], [1, 11], [2, 12]])
    everything = np.array([q * ITEMS + i for q in range(3) for i in (10, 11, 12)])
    loss = MaskedMnr(encoder, everything, ITEMS, 20.0)(features, labels)
    loss.backward()
    assert loss.item() == 0.0
    assert not encoder.bag.weight.grad.any()

    # Item 12 is relevant to queries 0 and 1: it may move only for query 2.
    encoder.zero_grad()
    known = np.array([12, ITEMS + 12, 2 * ITEMS + 12])
    MaskedMnr(encoder, known, ITEMS, 20.0)(features, labels).backward()
    moved = encoder.bag.weight.grad[12].clone()
    encoder.zero_grad()
    units = [nn.functional.normalize(encoder(column)["sentence_embedding"]) for column in features]
    scores = 20.0 * units[0][2] @ units[1].T
    (nn.functional.cross_entropy(scores, torch.tensor(2)) / 3).backward()
    torch.testing.assert_close(moved, encoder.bag.weight.grad[12])
    assert moved.any()


def test_a_rows_own_positive_is_never_masked_and_its_copies_always_are():
    labels = torch.tensor([[0, 7], [0, 7], [1, 7]])
    features = texts(3, 2, 0)
    for known in ([], [7, ITEMS + 7]):
        loss = MaskedMnr(Encoder(), np.array(known, dtype=np.int64), ITEMS, 20.0)
        assert loss(features, labels).item() == 0.0


def test_the_known_pairs_are_no_part_of_what_is_saved():
    loss = MaskedMnr(Encoder(), np.array([3]), ITEMS, 20.0)
    assert set(loss.state_dict()) == {"model.bag.weight"}


def test_scores_keep_their_precision_under_autocast():
    encoder, labels = Encoder().float(), torch.from_numpy(batch_of(8, 1, 3))
    loss = MaskedMnr(encoder, codes_of(labels.numpy()), ITEMS, 20.0)
    features = texts(8, 2, 3)
    exact = loss(features, labels)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(features, labels).item() == exact.item()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_bce_equals_a_plain_reference(temperature, bias):
    encoder, features = Encoder(), texts(7, 2, 5)
    labels = np.array([1, 0, 0, 1, 1, 0, 1])
    query, item = (plain_units(encoder, column) for column in features)
    offset = -temperature / 2 if bias else 0.0
    p = 1 / (1 + np.exp(-temperature * (query * item).sum(axis=1) - offset))
    expected = -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    got = ScaledBce(encoder, temperature, bias=bias)(features, with_targets(labels))
    assert got.item() == pytest.approx(expected, rel=1e-6)


def test_temperature_and_bias_are_trained():
    loss = ScaledBce(Encoder(), 20.0, bias=True)
    assert loss.log_t.exp().item() == pytest.approx(20.0)
    assert loss.bias.item() == pytest.approx(-10.0)
    optimizer = torch.optim.AdamW([loss.log_t, loss.bias], lr=0.1)
    features = texts(16, 2, 6)
    cosines = [plain_units(loss.model, column) for column in features]
    # Labels that the cosines get wrong: a lower temperature loses less.
    labels = with_targets((cosines[0] * cosines[1]).sum(axis=1) < 0)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(features, labels)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert loss.log_t.exp().item() < 10.0
    assert loss.bias.item() > -9.5
    assert losses[-1] < losses[0] / 2


def test_what_a_loss_learns_is_saved_beside_the_tower():
    for settings, own in (({"bias": True}, {"log_t", "bias"}), ({}, {"log_t"})):
        state = make_loss(stage(loss="bce", **settings), Encoder(), np.array([3]), ITEMS)
        names = set(state.state_dict())
        assert {name for name in names if not name.startswith("model.")} == own


def test_a_stage_names_its_loss():
    encoder, known = Encoder(), np.array([3, 8])

    def made(**settings) -> nn.Module:
        loss = make_loss(stage(**settings), encoder, known, ITEMS)
        assert loss.model is encoder
        assert loss.recompute == settings.get("cached", False)
        return loss

    bce = made(loss="bce", temperature=7.0, cached=True)
    assert isinstance(bce, ScaledBce)
    assert bce.log_t.item() == pytest.approx(math.log(7.0))
    mnr = made(loss="mnr", temperature=9.0, cached=True)
    assert isinstance(mnr, MaskedMnr)
    assert (mnr.scale, mnr.items, mnr.known.tolist()) == (9.0, ITEMS, [3, 8])
    triplet = made(loss="triplet", margin=0.2)
    assert isinstance(triplet, CosineTriplet)
    circle = made(loss="circle", margin=0.4)
    assert isinstance(circle, GradedCircle)
    assert (triplet.margin, circle.margin) == (0.2, 0.4)
    kl = made(loss="kl", temperature=30.0)
    assert isinstance(kl, ListwiseKl)
    assert kl.scale == 30.0


def test_positions_that_are_not_exact_are_refused():
    loss = MaskedMnr(Encoder(), np.array([3]), ITEMS, 20.0)
    far = 2**24
    labels = torch.tensor([[0, far], [1, far + 1]])
    assert loss(texts(2, 2, 0), labels.double()).item() > 0.0
    with pytest.raises(TypeError, match="float64"):
        loss(texts(2, 2, 0), labels.float())


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("margin", [0.1, 0.3])
def test_triplet_is_the_hinge_on_cosines(margin, columns):
    encoder, features = Encoder(), texts(12, 2 + columns, 9)
    loss = make_loss(stage(loss="triplet", margin=margin), encoder, np.array([3]), ITEMS)
    cosines = cosines_of(encoder, features)
    hinges = [max(0.0, far - row[0] + margin) for row in cosines for far in row[1:]]
    assert 0 < sum(hinge > 0 for hinge in hinges) < len(hinges)
    labels = torch.zeros(12, 2 + columns, dtype=torch.float64)
    assert loss(features, labels).item() == pytest.approx(np.mean(hinges), rel=1e-9)
