from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from trivium.adapters.losses import (
    CIRCLE_GAP,
    CIRCLE_SCALE,
    KL_TEMPERATURE,
    CosineTriplet,
    GradedCircle,
    ListwiseKl,
    MaskedMnr,
    ScaledBce,
    make_loss,
)
from trivium.foundation.train_config import StageConfig

WORDS, DIM, ITEMS = 30, 6, 50


class Encoder(nn.Module):
    """The mean of word vectors, in double precision."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(WORDS, DIM, generator=generator, dtype=torch.float64)
        self.bag = nn.EmbeddingBag.from_pretrained(weights, freeze=False, mode="mean")

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sentence_embedding": self.bag(features["input_ids"])}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def texts(batch: int, columns: int, seed: int) -> list[dict[str, torch.Tensor]]:
    rng = np.random.default_rng(seed)
    return [
        {"input_ids": torch.from_numpy(rng.integers(0, WORDS, (batch, 3)))} for _ in range(columns)
    ]


def plain_units(encoder: Encoder, column: dict[str, torch.Tensor]) -> np.ndarray:
    weights = encoder.bag.weight.detach().numpy()
    vectors = weights[column["input_ids"].numpy()].mean(axis=1)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


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


def gradients_are_right(loss: nn.Module, features: list, labels: torch.Tensor) -> bool:
    names = [name for name, _ in loss.named_parameters()]
    values = [value.detach().double().requires_grad_() for _, value in loss.named_parameters()]

    def value_of(*given: torch.Tensor) -> torch.Tensor:
        parameters = dict(zip(names, given, strict=True))
        return torch.func.functional_call(loss, parameters, (features, labels))

    return torch.autograd.gradcheck(value_of, values, fast_mode=False)


@pytest.mark.parametrize("columns", [1, 2])
def test_the_gradient_of_mnr_is_right(columns):
    labels = batch_of(5, columns, 1)
    loss = MaskedMnr(Encoder(), codes_of(labels), ITEMS, 5.0)
    assert gradients_are_right(loss, texts(5, 1 + columns, 1), torch.from_numpy(labels))


def with_targets(*targets: list[float] | np.ndarray) -> torch.Tensor:
    """Label rows: positions of a query and of as many items as there are targets, the targets."""
    rows = np.column_stack(targets).astype(np.float64)
    positions = np.zeros((len(rows), 1 + rows.shape[1]))
    return torch.from_numpy(np.hstack([positions, rows]))


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


def stage(**settings) -> StageConfig:
    given = {"name": "s", "positives": ["easy_positive"], "negatives": ["hard_negative"]}
    return StageConfig(**given | settings)


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


def cosines_of(encoder: Encoder, features: list) -> np.ndarray:
    query, *items = (plain_units(encoder, column) for column in features)
    return np.stack([(query * item).sum(axis=1) for item in items], axis=1)


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


def grades_of(rows: int, items: int, seed: int) -> np.ndarray:
    """Expected grades with decimals; some rows have one grade throughout."""
    rng = np.random.default_rng(seed)
    grades = np.round(rng.uniform(0, 4, (rows, items)), 2)
    grades[0] = 3.0
    return grades


def plain_circle(cosines: np.ndarray, grades: np.ndarray, margin: float, weights_at: np.ndarray):
    """Double loops over pairs; the weights are those of other cosines, as constants."""
    losses = []
    for row in range(len(grades)):
        total = 1.0
        for better, high in enumerate(grades[row]):
            for worse, low in enumerate(grades[row]):
                if high - low < CIRCLE_GAP:
                    continue
                top, bottom = (0.5 + margin * (grade - 2) / 4 for grade in (high, low))
                rise = max(0.0, 2 - top - weights_at[row, better])
                fall = max(0.0, weights_at[row, worse] + bottom)
                below = fall * (cosines[row, worse] - bottom)
                above = rise * (cosines[row, better] - top)
                total += np.exp(CIRCLE_SCALE * (below - above))
        losses.append(np.log(total))
    return np.mean(losses)


@pytest.mark.parametrize("items", [2, 4])
@pytest.mark.parametrize("margin", [0.1, 0.4])
def test_circle_equals_a_plain_reference(margin, items):
    encoder, features, grades = Encoder(), texts(8, 1 + items, 4), grades_of(8, items, 4)
    loss = make_loss(stage(loss="circle", margin=margin), encoder, np.array([3]), ITEMS)
    cosines = cosines_of(encoder, features)
    expected = plain_circle(cosines, grades, margin, cosines)
    assert loss(features, with_targets(*grades.T)).item() == pytest.approx(expected, rel=1e-9)


class Given(nn.Module):
    """An encoder whose vectors have given cosines with the query (1, 0)."""

    def __init__(self, cosines: np.ndarray) -> None:
        super().__init__()
        self.cosines = nn.Parameter(torch.from_numpy(cosines))

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        column = int(features["input_ids"][0])
        first = self.cosines[:, column - 1] if column else torch.ones_like(self.cosines[:, 0])
        return {"sentence_embedding": torch.stack([first, (1 - first**2).sqrt()], dim=1)}


def given_columns(count: int) -> list[dict[str, torch.Tensor]]:
    return [{"input_ids": torch.tensor([number])} for number in range(count)]


def test_the_gradient_of_circle_takes_its_weights_as_constants():
    cosines = np.random.default_rng(1).uniform(0.2, 0.8, (5, 3))
    grades, encoder = grades_of(5, 3, 1), Given(cosines)
    GradedCircle(encoder, 0.3)(given_columns(4), with_targets(*grades.T)).backward()
    slopes = np.zeros_like(cosines)
    for place in np.ndindex(*cosines.shape):
        moved = [cosines.copy(), cosines.copy()]
        moved[0][place] -= 1e-6
        moved[1][place] += 1e-6
        low, high = (plain_circle(at, grades, 0.3, cosines) for at in moved)
        slopes[place] = (high - low) / 2e-6
    np.testing.assert_allclose(encoder.cosines.grad.numpy(), slopes, rtol=1e-5, atol=1e-8)
    assert not encoder.cosines.grad[0].any()  # one grade throughout
    assert encoder.cosines.grad[1:].any()


def published_circle(positive: float, negative: float, m: float) -> float:
    """Equations 4, 5 and 7 of arXiv 2002.10857 for one positive and one negative."""
    rise, fall = max(0.0, 1 + m - positive), max(0.0, negative + m)
    return math.log1p(
        math.exp(CIRCLE_SCALE * (fall * (negative - m) - rise * (positive - (1 - m))))
    )


@pytest.mark.parametrize("cosines", [(0.6, 0.5), (0.7, 0.2), (0.1, 0.4)])
def test_grades_four_and_zero_give_the_published_circle(cosines):
    loss = GradedCircle(Given(np.array([cosines])), 0.3)
    expected = published_circle(*cosines, m=0.35)
    got = loss(given_columns(3), with_targets([4.0], [0.0])).item()
    assert got == pytest.approx(expected, rel=1e-9)


def trained(loss: nn.Module, labels: torch.Tensor, steps: int = 300) -> np.ndarray:
    optimizer = torch.optim.Adam(loss.model.parameters(), lr=0.005)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(given_columns(labels.shape[1] // 2 + 1), labels).backward()
        optimizer.step()
    return loss.model.cosines.detach().numpy()


def test_circle_puts_every_grade_on_its_side():
    start = np.full((1, 4), 0.5) + np.array([[-0.03, 0.02, 0.01, 0.03]])
    found = trained(GradedCircle(Given(start), 0.4), with_targets([4], [3], [1], [0]))[0]
    assert (np.diff(found) < -0.02).all()
    assert found[0] > 0.65
    assert found[3] < 0.35


def plain_kl(cosines: np.ndarray, grades: np.ndarray, scale: float) -> float:
    losses = []
    for row in range(len(grades)):
        target = np.exp(grades[row] / KL_TEMPERATURE)
        found = np.exp(scale * cosines[row])
        p, q = target / target.sum(), found / found.sum()
        losses.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    return float(np.mean(losses))


@pytest.mark.parametrize("items", [2, 5])
def test_kl_equals_a_plain_reference(items):
    encoder, features, grades = Encoder(), texts(8, 1 + items, 4), grades_of(8, items, 4)
    loss = make_loss(stage(loss="kl", temperature=6.0), encoder, np.array([3]), ITEMS)
    expected = plain_kl(cosines_of(encoder, features), grades, 6.0)
    assert loss(features, with_targets(*grades.T)).item() == pytest.approx(expected, rel=1e-9)


def test_kl_ends_where_a_grade_is_worth_one_part_in_t():
    start = np.array([[0.3, 0.5, 0.4]])
    loss = ListwiseKl(Given(start), 20.0)
    found = trained(loss, with_targets([4], [2], [1]))[0]
    np.testing.assert_allclose(-np.diff(found), [2 / 20, 1 / 20], atol=1e-3)
    assert loss(given_columns(4), with_targets([4], [2], [1])).item() < 1e-4


@pytest.mark.parametrize("loss", ["triplet", "kl"])
def test_the_gradients_of_triplet_and_kl_are_right(loss):
    made = make_loss(stage(loss=loss, margin=0.3), Encoder(), np.array([3]), ITEMS)
    labels = with_targets(*grades_of(4, 3, 2).T)
    assert gradients_are_right(made, texts(4, 4, 2), labels)
