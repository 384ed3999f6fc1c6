"""nHSIC against the oracles of the reference sheet (section 1.9), in double precision."""

import pytest
import torch

from neulite_sim.methods.nhsic import feature_kernel, input_kernel, label_kernel, nhsic

X = torch.tensor([[0.0], [1.0], [2.0], [3.0]], dtype=torch.float64)
Z = torch.tensor([[1.0, 2.0], [2.0, 1.0], [0.0, 0.0], [3.0, 3.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1, 1])


def value(kernel_a, kernel_b, form="ratio", epsilon=1e-5):
    return nhsic(kernel_a, kernel_b, form=form, epsilon=epsilon)[0].item()


def centred_gaussian(points, sigma):
    """The same kernel by its definition, element by element."""
    count, dimension = points.shape
    kernel = torch.empty(count, count, dtype=torch.float64)
    for i in range(count):
        for j in range(count):
            kernel[i, j] = torch.exp(-((points[i] - points[j]) ** 2).sum() / (2 * sigma**2 * dimension))
    centring = torch.eye(count, dtype=torch.float64) - 1 / count
    return centring @ kernel @ centring


def test_self_terms_and_cross_term_match_the_reference_sheet():
    k, labels = feature_kernel(X, 5.0), label_kernel(LABELS, 2, 5.0)
    assert (k * labels).mean().item() == pytest.approx(3.6966078e-4, rel=1e-7)
    assert (k * k).mean().item() == pytest.approx(2.12901945e-3, rel=1e-8)
    assert (labels * labels).mean().item() == pytest.approx(9.80231347e-5, rel=1e-8)


@pytest.mark.parametrize(("sigma", "expected"), [(5.0, 0.8091876945), (1.0, 0.8436732707), (500.0, 0.8000009600)])
def test_ratio_matches_the_reference_sheet_for_each_width(sigma, expected):
    assert value(feature_kernel(X, sigma), label_kernel(LABELS, 2, sigma)) == pytest.approx(expected, abs=1e-10)


def test_wide_kernels_approach_linear_cka():
    assert value(feature_kernel(X, 3e3), label_kernel(LABELS, 2, 3e3)) == pytest.approx(0.8, abs=1e-7)


def test_nocco_matches_the_reference_sheet():
    """To one unit of the last digit given."""
    k, labels = feature_kernel(X, 5.0), label_kernel(LABELS, 2, 5.0)
    assert value(k, labels, "nocco") == pytest.approx(0.869376, abs=1e-6)
    assert value(k, k, "nocco") == pytest.approx(2.084234, abs=1e-6)
    assert value(labels, labels, "nocco") == pytest.approx(0.997983, abs=1e-6)


def test_second_example_and_its_gradient_match_the_reference_sheet():
    features = Z.clone().requires_grad_(True)
    term, defined = nhsic(feature_kernel(features, 5.0), label_kernel(LABELS, 2, 5.0), form="ratio", epsilon=1e-5)
    term.backward()
    assert term.item() == pytest.approx(0.0317807823, abs=1e-10)
    assert defined.item() == 1.0
    expected = torch.tensor(
        [[0.0021910808, -0.0021910808], [-0.0021910808, 0.0021910808],
         [-0.0114139681, -0.0114139681], [0.0114139680, 0.0114139680]], dtype=torch.float64
    )  # fmt: skip
    torch.testing.assert_close(features.grad, expected, atol=1e-10, rtol=0)
    assert value(feature_kernel(X, 5.0), feature_kernel(Z, 5.0)) == pytest.approx(0.1449800656, abs=1e-10)


def test_kernel_equals_its_definition_beyond_one_chunk_of_features():
    points = torch.randn(5, 9000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(feature_kernel(points, 2.0), centred_gaussian(points, 2.0), atol=1e-12, rtol=1e-9)


def test_label_kernel_equals_the_kernel_of_one_hot_rows():
    labels = torch.tensor([2, 0, 1, 2, 2, 0])
    one_hot = torch.eye(4, dtype=torch.float64)[labels]
    torch.testing.assert_close(label_kernel(labels, 4, 5.0), centred_gaussian(one_hot, 5.0), atol=1e-14, rtol=1e-10)


def test_labels_at_several_places_are_the_one_hot_rows_side_by_side():
    labels = torch.randint(5, (6, 3), generator=torch.Generator().manual_seed(1))
    one_hot = torch.nn.functional.one_hot(labels, 5).double().flatten(1)
    torch.testing.assert_close(label_kernel(labels, 5, 2.0), feature_kernel(one_hot, 2.0))


def test_ids_of_a_vocabulary_are_compared_as_labels_and_numbers_as_features():
    ids = torch.tensor([[0, 3], [1, 3], [0, 2]])
    torch.testing.assert_close(input_kernel(ids, 4, 2.0), label_kernel(ids, 4, 2.0))
    torch.testing.assert_close(input_kernel(Z, None, 2.0), feature_kernel(Z, 2.0))


@pytest.mark.parametrize("form", ["ratio", "nocco"])
def test_gradient_equals_finite_differences(form):
    features = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    labels = label_kernel(torch.tensor([0, 1, 2, 0, 1, 2]), 3, 1.0)

    def term(inputs):
        return nhsic(feature_kernel(inputs, 1.0), labels, form=form, epsilon=1e-2)[0]

    assert torch.autograd.gradcheck(term, (features,), atol=1e-7)


def test_ratio_of_a_kernel_with_itself_is_one_and_row_order_does_not_matter():
    order = torch.tensor([2, 0, 3, 1])
    assert value(feature_kernel(X, 5.0), feature_kernel(X, 5.0)) == pytest.approx(1.0, abs=1e-12)
    shuffled = value(feature_kernel(X[order], 5.0), label_kernel(LABELS[order], 2, 5.0))
    assert shuffled == pytest.approx(0.8091876945, abs=1e-10)


def test_a_large_common_offset_changes_nothing():
    offset = value(feature_kernel((Z + 1e6), 5.0), label_kernel(LABELS, 2, 5.0))
    assert offset == pytest.approx(0.0317807823, abs=1e-9)


DEGENERATE = {
    "one sample": (torch.ones(1, 3), torch.tensor([0])),
    "two samples": (torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1])),
    "one class": (torch.randn(4, 3, generator=torch.Generator().manual_seed(2)), torch.tensor([1, 1, 1, 1])),
    "constant features": (torch.full((4, 3), 7.0), torch.tensor([0, 1, 0, 1])),
    "tiny features": (
        torch.randn(4, 3, generator=torch.Generator().manual_seed(3)) * 1e-30,
        torch.tensor([0, 1, 0, 1]),
    ),
}


@pytest.mark.parametrize("form", ["ratio", "nocco"])
@pytest.mark.parametrize("case", DEGENERATE)
def test_an_undefined_term_is_zero_with_zero_gradient_and_is_told(case, form):
    points, labels = DEGENERATE[case]
    features = points.clone().requires_grad_(True)
    term, defined = nhsic(feature_kernel(features, 5.0), label_kernel(labels, 2, 5.0), form=form, epsilon=1e-5)
    term.backward()
    assert term.item() == 0.0
    assert defined.item() == 0.0
    assert torch.equal(features.grad, torch.zeros_like(points))


def test_features_keep_their_precision_and_are_not_copied_wide():
    features = torch.randn(4, 3, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        kernel = feature_kernel(features, 5.0)
    kernel.sum().backward()
    assert features.grad.dtype == torch.float32
    assert all(tensor.shape != features.shape or tensor.dtype == torch.float32 for tensor in saved)
