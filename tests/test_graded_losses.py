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
    stage,
    texts,
    with_targets,
)
from trivium.adapters.losses import (
    CIRCLE_GAP,
    CIRCLE_SCALE,
    KL_TEMPERATURE,
    GradedCircle,
    ListwiseKl,
    make_loss,
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


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
