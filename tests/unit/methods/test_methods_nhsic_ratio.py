"""nHSIC terms in closed form, as workers take them, against the plain ones that devices are charged for."""

import pytest
import torch

from neulite_sim.methods import nhsic as plain
from neulite_sim.methods import nhsic_host, nhsic_ratio

SIGMA, WEIGHTS = 2.0, (0.5, -0.3)


def operands(samples=6, sides=(3, 5), *, dtype=torch.float64, labels=None, seed=0):
    torch.manual_seed(seed)
    features = [torch.randn(samples, size, dtype=dtype).requires_grad_() for size in sides]
    labels = torch.arange(samples) % 3 if labels is None else labels
    return features, torch.randn(samples, 7, dtype=dtype), labels


def by_tensors(features, inputs, labels):
    others = torch.stack((plain.input_exponents(inputs, None, SIGMA), plain.label_exponents(labels, 3, SIGMA)))
    return nhsic_ratio.weighted_ratios(*features, others, weights=WEIGHTS, sigma=SIGMA)


def on_the_host(features, inputs, labels):
    others = nhsic_host.input_exponents(inputs, None, SIGMA), nhsic_host.label_exponents(labels, 3, SIGMA)
    return nhsic_host.weighted_ratios(*features, others, weights=WEIGHTS, sigma=SIGMA)


@pytest.fixture(params=[by_tensors, on_the_host])
def in_closed_form(request):
    def found(features, inputs, labels):
        total, terms, defined = request.param(features, inputs, labels)
        return total, terms, defined, torch.autograd.grad(total, features, allow_unused=True)

    return found


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
def test_terms_and_gradients_are_those_of_the_plain_form(in_closed_form, given):
    parts = operands(**given)
    (*found, gradients), (*expected, others) = in_closed_form(*parts), in_plain_form(*parts)
    for ours, theirs in zip((*found, *gradients), (*expected, *others), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-13)


def test_features_that_do_not_vary_have_no_term_and_no_gradient(in_closed_form):
    (side, other), inputs, labels = operands()
    still = torch.ones_like(side).requires_grad_()
    total, terms, defined, gradients = in_closed_form([still, other], inputs, labels)
    assert (terms[0], defined[0], defined[1]) == (0, 0, 1)
    assert (gradients[0] == 0).all()
    assert total.item() == pytest.approx(WEIGHTS[1] * terms[1].item())


@pytest.mark.parametrize("way", [by_tensors, on_the_host])
def test_gradient_equals_finite_differences(way):
    features, inputs, labels = operands()
    assert torch.autograd.gradcheck(lambda *sides: way(sides, inputs, labels)[0], features, atol=1e-8)


@pytest.mark.parametrize("way", [by_tensors, on_the_host])
def test_gradients_come_in_the_precision_of_the_features_and_only_where_wanted(way):
    features, inputs, labels = operands(dtype=torch.float32)
    features[1].requires_grad_(False)
    way(features, inputs, labels)[0].backward()
    assert features[0].grad.dtype == torch.float32
    assert features[1].grad is None


def test_ids_of_a_vocabulary_are_compared_place_by_place():
    ids = torch.tensor([[0, 1, 2], [0, 1, 3], [4, 1, 3]])
    pairs = nhsic_host.input_exponents(ids, 5, SIGMA)
    whole = plain.input_exponents(ids, 5, SIGMA)
    assert pairs.tolist() == pytest.approx([whole[0, 1].item(), whole[0, 2].item(), whole[1, 2].item()])


def test_a_feature_beyond_all_bounds_leaves_its_term_undefined_in_silence(in_closed_form, recwarn):
    features, inputs, labels = operands(dtype=torch.float32)
    with torch.no_grad():
        features[0][0, 0] = float("inf")
    total, terms, defined, gradients = in_closed_form(features, inputs, labels)
    assert not recwarn.list
    assert (terms[0], defined.tolist()) == (0, [0, 1])
    assert total == WEIGHTS[1] * terms[1]
    assert gradients[0].isnan().all()
    assert gradients[1].isfinite().all()
