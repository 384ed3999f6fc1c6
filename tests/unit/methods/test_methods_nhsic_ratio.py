"""nHSIC terms in closed form, as workers take them, against the plain ones that devices are charged for."""

import pytest
import torch

from neulite_sim.methods import nhsic as plain
from neulite_sim.methods.nhsic_ratio import weighted_ratios

SIGMA, WEIGHTS = 2.0, (0.5, -0.3)


def operands(samples=6, sides=(3, 5), *, dtype=torch.float64, labels=None, seed=0):
    torch.manual_seed(seed)
    features = [torch.randn(samples, size, dtype=dtype).requires_grad_() for size in sides]
    labels = torch.arange(samples) % 3 if labels is None else labels
    return features, torch.randn(samples, 7, dtype=dtype), labels


def in_closed_form(features, inputs, labels):
    others = torch.stack((plain.input_exponents(inputs, None, SIGMA), plain.label_exponents(labels, 3, SIGMA)))
    total, terms, defined = weighted_ratios(*features, others, weights=WEIGHTS, sigma=SIGMA)
    return total, terms, defined, torch.autograd.grad(total, features)


def in_plain_form(features, inputs, labels):
    others = plain.input_kernel(inputs, None, SIGMA), plain.label_kernel(labels, 3, SIGMA)
    found = [plain.nhsic(other, plain.feature_kernel(side, SIGMA), form="ratio", epsilon=1.0)
             for other, side in zip(others, features, strict=True)]  # fmt: skip
    terms, defined = (torch.stack(column) for column in zip(*found, strict=True))
    total = WEIGHTS[0] * terms[0] + WEIGHTS[1] * terms[1]
    return total, terms, defined, torch.autograd.grad(total, features)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"samples": 3},
        {"sides": (4100, 2)},
        {"labels": torch.zeros(6, dtype=torch.int64)},
        {"labels": torch.tensor([[0, 1], [2, 2], [1, 0], [0, 0], [1, 1], [2, 0]])},
        {"samples": 2},
    ],
    ids=["usual", "fewest samples", "two chunks", "one class", "two places", "too few samples"],
)
def test_terms_and_gradients_are_those_of_the_plain_form(given):
    parts = operands(**given)
    (*found, gradients), (*expected, others) = in_closed_form(*parts), in_plain_form(*parts)
    for ours, theirs in zip((*found, *gradients), (*expected, *others), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


def test_features_that_do_not_vary_have_no_term_and_no_gradient():
    (side, other), inputs, labels = operands()
    still = torch.ones_like(side).requires_grad_()
    total, terms, defined, gradients = in_closed_form([still, other], inputs, labels)
    assert (terms[0], defined[0], defined[1]) == (0, 0, 1)
    assert (gradients[0] == 0).all()
    assert total.item() == pytest.approx(WEIGHTS[1] * terms[1].item())


def test_gradient_equals_finite_differences():
    features, inputs, labels = operands()
    others = torch.stack((plain.input_exponents(inputs, None, SIGMA), plain.label_exponents(labels, 3, SIGMA)))
    total = lambda *sides: weighted_ratios(*sides, others, weights=WEIGHTS, sigma=SIGMA)[0]  # noqa: E731
    assert torch.autograd.gradcheck(total, features, atol=1e-8)


def test_gradients_come_in_the_precision_of_the_features_and_only_where_wanted():
    features, inputs, _ = operands(dtype=torch.float32)
    features[1].requires_grad_(False)
    total, *_ = weighted_ratios(*features, plain.input_exponents(inputs, None, SIGMA).repeat(2, 1, 1),
                                weights=WEIGHTS, sigma=SIGMA)  # fmt: skip
    total.backward()
    assert features[0].grad.dtype == torch.float32
    assert features[1].grad is None
