"""The convex fits against solvers of another kind, and what they do at the edges."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from nlp_al.heads import SLACK, choice_head, yes_no_heads

OFFSETS = torch.tensor([0, 3, 5, 9, 11])
CHOSEN = torch.tensor([1, 0, 3, 1])


def points(rows=11, columns=4, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def brute_choice(x, start):
    """The same minimum without a gradient, option by option."""
    groups = [x[a:b].double().numpy() for a, b in zip(OFFSETS[:-1].tolist(), OFFSETS[1:].tolist(), strict=True)]
    centred = [group - group.mean(0) for group in groups]
    penalty = np.mean([(row**2).sum() for group in centred for row in group]) / SLACK

    def loss(w):
        total = penalty / 2 * ((w - start) ** 2).sum()
        for group, at in zip(groups, CHOSEN.tolist(), strict=True):
            weights = np.exp(group @ w)
            total -= np.log(weights[at] / weights.sum())
        return total

    return minimize(loss, np.zeros(x.shape[1]), method="Powell", options={"xtol": 1e-10, "ftol": 1e-15}).x


@pytest.mark.parametrize("start", [0.0, 1.5])
def test_the_choice_head_is_the_minimum_of_its_loss(start):
    x = points()
    found = choice_head(x, OFFSETS, CHOSEN, torch.full((4,), start))
    np.testing.assert_allclose(found.weight[0], brute_choice(x, start), atol=2e-5)


def test_a_shift_of_all_options_of_an_example_changes_nothing():
    x = points()
    shifted = x + torch.tensor([5.0, -3.0, 0.0, 9.0]).repeat_interleave(OFFSETS.diff())[:, None]
    first, second = (choice_head(values, OFFSETS, CHOSEN, torch.zeros(4)) for values in (x, shifted))
    torch.testing.assert_close(first.weight, second.weight, rtol=0, atol=1e-5)


def test_with_hardly_a_label_the_head_stays_near_its_start():
    start = torch.full((50,), 20.0)
    x = points(4, 50)
    found = choice_head(x, torch.tensor([0, 4]), torch.tensor([2]), start)
    cosine = torch.nn.functional.cosine_similarity(found.weight[0], start.double(), dim=0)
    assert cosine > 0.99


def test_the_same_labels_give_the_same_choice_head_bit_for_bit():
    first, second = (choice_head(points(), OFFSETS, CHOSEN, torch.zeros(4)) for _ in range(2))
    assert torch.equal(first.weight, second.weight)


def test_each_yes_no_head_is_a_logistic_regression_of_its_own():
    x = points(30, 3)
    targets = torch.stack([x[:, 0] > 0, x[:, 1] + x[:, 2] > 0.3], 1)
    both = yes_no_heads(x, targets)
    for column in range(2):
        alone = yes_no_heads(x, targets[:, [column]])
        assert torch.equal(both.weight[column], alone.weight[0])
        slope = torch.sigmoid(x.double() @ alone.weight[0] + alone.bias[0]) - targets[:, column].double()
        # scikit-learn's penalty on one weight vector: C · Σ loss + ½‖w‖².
        penalty = float(x.double().square().sum(1).mean()) / SLACK
        whole = x.double().T @ slope + penalty * alone.weight[0]
        assert whole.abs().max() < 30 * 1e-4  # scikit-learn stops where the mean's slope is below 1e-4


def test_a_label_without_a_second_case_is_certain():
    targets = torch.tensor([[True, False, True], [True, False, False]])
    head = yes_no_heads(points(2, 3), targets)
    assert head.bias[0] == torch.inf
    assert head.bias[1] == -torch.inf
    assert torch.isfinite(head.bias[2])
