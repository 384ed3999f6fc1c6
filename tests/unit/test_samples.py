"""What a sample is: the value itself, and the ways to say it."""

import doctest

import pytest

from neulite_sim import samples
from neulite_sim.errors import ScenarioError
from neulite_sim.samples import InputSpec, spec_of

IMAGE = InputSpec(shape=(3, 4, 5), num_classes=10)
TEXT = InputSpec(shape=(7,), vocabulary=50, num_classes=2)


def test_the_example_is_true():
    assert doctest.testmod(samples).failed == 0


def test_ids_are_longer_than_pixels():
    assert (IMAGE.dtype, IMAGE.num_bytes) == ("float32", 4 * 60)
    assert (TEXT.dtype, TEXT.num_bytes) == ("int64", 8 * 7)


@pytest.mark.parametrize(
    ("spec", "is_image", "text"),
    [
        (IMAGE, True, "3x4x5 images"),
        (TEXT, False, "sequences of 7 out of 50 tokens"),
        (InputSpec(shape=(3, 4, 5), num_classes=2, target_shape=(4, 5)), False,
         "sequences of 3x4x5 numbers, each with a target"),
        (InputSpec(shape=(9,), num_classes=2), False, "rows of 9 numbers"),
    ],
)  # fmt: skip
def test_only_pixels_with_one_target_are_an_image(spec, is_image, text):
    assert (spec.is_image, str(spec)) == (is_image, text)


def test_a_workload_has_the_size_it_is_given():
    assert IMAGE.charged_as(None, None) == IMAGE
    assert IMAGE.charged_as((1, 2, 2), 5) == InputSpec(shape=(1, 2, 2), num_classes=5)
    assert TEXT.charged_as(None, 5) == InputSpec(shape=(7,), vocabulary=50, num_classes=5)


def test_shape_and_classes_go_over_those_of_a_spec():
    assert spec_of(None, [3, 4, 5], 10) == IMAGE
    assert spec_of(TEXT, (8,), None) == InputSpec(shape=(8,), vocabulary=50, num_classes=2)
    with pytest.raises(TypeError, match="must be given: spec, or input_shape and num_classes"):
        spec_of(None, (3, 4, 5), None)


NEXT = InputSpec(shape=(8,), vocabulary=20, num_classes=20, target_shape=(8,), predicts_tokens=True)
IMAGES = InputSpec(shape=(1, 8, 8), num_classes=3)


def test_sequences_are_charged_at_another_length_and_vocabulary():
    charged = NEXT.charged_as(None, None, sequence_length=64, vocabulary=500)
    assert charged == InputSpec(shape=(64,), vocabulary=500, num_classes=500, target_shape=(64,), predicts_tokens=True)
    assert str(charged) == "sequences of 64 out of 500 tokens, each with the next as its target"


@pytest.mark.parametrize(
    ("spec", "classes", "options", "message"),
    [
        (IMAGES, None, {"sequence_length": 64}, "workload.sequence_length: is of sequences of tokens, but the samples"),
        (IMAGES, None, {"vocabulary": 64}, "workload.vocabulary: is of sequences of tokens, but the samples"),
        (NEXT, 5, {}, "workload.classes: .* their classes are the tokens; set workload.vocabulary"),
    ],
)
def test_what_does_not_go_with_samples_cannot_be_charged(spec, classes, options, message):
    with pytest.raises(ScenarioError, match=message):
        spec.charged_as(None, classes, **options)
