"""A blueprint: the ways to say what its samples are, and how it calls its architecture."""

import functools
import pickle
from dataclasses import replace

import pytest

from neulite_sim.errors import ScenarioError
from neulite_sim.models.contract import Blueprint
from neulite_sim.samples import InputSpec

IMAGE = InputSpec(shape=(1, 8, 8), num_classes=3)
TEXT = InputSpec(shape=(5,), vocabulary=9, num_classes=2)


def of_images(input_shape, num_classes, width=1.0):
    return "images", input_shape, num_classes, width


def of_any(spec, width, *, depth=2):
    return "any", spec, width, depth


def test_images_are_said_by_shape_and_classes_or_as_a_whole():
    said = Blueprint(architecture=of_images, input_shape=(1, 8, 8), num_classes=3, name="one")
    assert said == Blueprint(architecture=of_images, spec=IMAGE, name="one")
    assert (said.input_shape, said.num_classes, said.spec, said.width) == ((1, 8, 8), 3, IMAGE, 1.0)
    assert pickle.loads(pickle.dumps(said)) == said
    assert hash(said) == hash(pickle.loads(pickle.dumps(said)))


def test_what_is_changed_in_a_copy_is_changed_alone():
    first = Blueprint(architecture=of_any, spec=TEXT, name="one")
    assert replace(first, width=0.5) == first.at_width(0.5)
    assert replace(first, num_classes=4).spec == replace(TEXT, num_classes=4)
    assert replace(first, input_shape=(6,)).spec == replace(TEXT, shape=(6,))


@pytest.mark.parametrize(
    ("architecture", "called"),
    [
        (of_images, ("images", (1, 8, 8), 3, 0.5)),
        (functools.partial(of_images), ("images", (1, 8, 8), 3, 0.5)),
        (lambda *given: given, ((1, 8, 8), 3, 0.5)),
        (of_any, ("any", IMAGE, 0.5, 2)),
        (functools.partial(of_any, depth=4), ("any", IMAGE, 0.5, 4)),
    ],
)
def test_an_architecture_is_called_by_what_it_takes(architecture, called):
    assert Blueprint(architecture=architecture, spec=IMAGE, width=0.5).build() == called


def test_an_architecture_of_any_samples_is_given_those_that_there_are():
    assert Blueprint(architecture=of_any, spec=TEXT).build() == ("any", TEXT, 1.0, 2)


@pytest.mark.parametrize("spec", [TEXT, replace(IMAGE, target_shape=(8, 8)), replace(IMAGE, shape=(8, 8))])
def test_an_architecture_of_images_is_given_nothing_else(spec):
    message = f"one reads images only, and the samples of data are {spec}; choose a model for them"
    with pytest.raises(ScenarioError, match=message):
        Blueprint(architecture=of_images, spec=spec, name="one").build()


def test_samples_that_are_not_said_are_asked_for():
    with pytest.raises(TypeError, match="must be given: spec, or input_shape and num_classes"):
        Blueprint(architecture=of_images, num_classes=3)
