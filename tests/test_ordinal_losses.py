from __future__ import annotations

import numpy as np
import pytest
import torch

from trivium.adapters.judges.ordinal_losses import class_weights, loss_of

GRADES = np.array([0, 1, 3, 4, 4, 4, 3, 4, 4], dtype=np.int64)
NAMES = ("rps", "cross_entropy", "weighted")


def plain_loss(name: str, probabilities: list[list[float]], grades: list[int]) -> float:
    """The definitions, a pair and a grade at a time."""
    counts = [int((grade == GRADES).sum()) for grade in range(5)]
    rarity = [count**-0.5 if count else 0.0 for count in counts]
    mean = sum(r * c for r, c in zip(rarity, counts, strict=True)) / len(GRADES)
    total = 0.0
    for row, grade in zip(probabilities, grades, strict=True):
        weight = rarity[grade] / mean if name == "weighted" else 1.0
        total -= weight * np.log(row[grade])
        if name == "rps":
            total += sum((sum(row[: k + 1]) - (grade <= k)) ** 2 for k in range(5))
    return total / len(grades)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_equals_its_definition(name):
    torch.manual_seed(0)
    logits, grades = torch.randn(7, 5, dtype=torch.float64), torch.tensor([0, 1, 3, 4, 4, 3, 1])
    plain = plain_loss(name, torch.softmax(logits, 1).tolist(), grades.tolist())
    assert float(loss_of(name, GRADES)(logits, grades)) == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_has_the_gradient_of_its_value(name):
    torch.manual_seed(1)
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    grades, loss = torch.tensor([0, 1, 3, 4, 4, 3]), loss_of(name, GRADES)
    assert torch.autograd.gradcheck(lambda x: loss(x, grades), (logits,))
    assert torch.isfinite(loss(logits * 1e4, grades))


def test_a_miss_by_two_grades_costs_more_than_a_miss_by_one():
    near, far = torch.zeros(1, 5), torch.zeros(1, 5)
    near[0, 3], far[0, 1] = 5.0, 5.0
    truth = torch.tensor([4])
    assert loss_of("rps", GRADES)(far, truth) > loss_of("rps", GRADES)(near, truth) + 1
    plain = loss_of("cross_entropy", GRADES)
    assert float(plain(far, truth)) == pytest.approx(float(plain(near, truth)))


def test_weights_rise_with_rarity_and_leave_the_mean_alone():
    weights = class_weights(GRADES)
    assert weights[GRADES].mean() == pytest.approx(1.0)
    assert weights[2] == 0.0
    assert weights[0] == weights[1] > weights[3] > weights[4]
    assert weights[0] / weights[4] == pytest.approx(5**0.5)
    np.testing.assert_allclose(class_weights(np.arange(5)), np.ones(5))
    np.testing.assert_allclose(class_weights(np.array([3, 3])), [0, 0, 0, 1, 0])
