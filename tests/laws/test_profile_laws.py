"""A profile depends on what it is asked for and on nothing else, so that tests may share one (`shared_profiles`)."""

import dataclasses
import functools

import numpy as np
import pytest
from shared_profiles import SHARED, plainly
from thin_models import SETTING, blueprint, fitting, method

from neulite_sim.engine import charging
from neulite_sim.profiling import operators
from neulite_sim.profiling.kept import KeptProfiles
from neulite_sim.profiling.profile import Profile
from neulite_sim.registry import component, names
from neulite_sim.scenario.schema import CachingAllocator, Training

SHAPE = (1, 8, 8)


def small(kind="lenet", width=0.25, classes=10):
    return blueprint(kind, SHAPE, width=width, num_classes=classes)


def asked(kind="fedavg", submodel=None, model=None, training=None, **options):
    """Return the arguments with which the engine asks for a profile, all of them made anew; the smallest submodel."""
    chosen = method(kind, **options)
    arguments = []

    def noted(submodel, build, **how):
        arguments.append((submodel, build, how))

    charging.profile_submodel(
        chosen, submodel or chosen.submodels[-1], model or small(fitting(kind, "lenet")),
        training or Training(batch_size=4), noted,
    )  # fmt: skip
    return arguments[0]


def key(*given, **options):
    return SHARED.key(*asked(*given, **options))


@pytest.mark.slow
@pytest.mark.parametrize("kind", names("method"))
def test_the_same_submodel_made_anew_has_the_same_profile_and_the_same_key(kind):
    first, second = asked(kind), asked(kind)
    assert first[1] is not second[1]
    one, other = (plainly(submodel, build, **how) for submodel, build, how in (first, second))
    assert_equal(one, other)
    assert SHARED.key(*first) == SHARED.key(*second) is not None


def assert_equal(one, other):
    for field in dataclasses.fields(Profile):
        mine, its = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(mine, its) if isinstance(mine, np.ndarray) else mine == its, field.name


PLANS = (
    Training(batch_size=5, micro_batch_size=2, prefix_cache="device", epochs=2),
    Training(batch_size=4, precision="bf16", checkpointing=True),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "model", "training"),
    [
        ("neulite", ("lenet", 0.25), PLANS[0]),
        ("fedavg", ("resnet18", 0.125), PLANS[1]),
        ("heterofl", ("lenet", 0.25), PLANS[1]),
        ("zo-warmup", ("lenet", 0.25), PLANS[0]),
    ],
)
def test_a_profile_is_that_for_which_every_operator_was_asked(kind, model, training, monkeypatch):
    submodel, build, how = asked(kind, model=small(*model), training=training)
    first, second = (plainly(submodel, build, **how) for _ in range(2))
    monkeypatch.setattr(operators, "_call_of", lambda func, args, kwargs: None)
    every = plainly(submodel, build, **how)
    assert_equal(first, every)
    assert_equal(second, every)


@pytest.mark.parametrize(
    "other",
    [
        functools.partial(asked, "exclusivefl"),
        functools.partial(asked, "neulite"),
        functools.partial(asked, proximal_mu=0.1),
        functools.partial(asked, submodel="another"),
        functools.partial(asked, model=small("logistic")),
        functools.partial(asked, model=small(width=0.5)),
        functools.partial(asked, model=small(classes=9)),
        functools.partial(asked, training=Training(batch_size=5)),
        functools.partial(asked, training=Training(batch_size=4, momentum=0.5)),
        functools.partial(asked, training=Training(batch_size=4, precision="bf16")),
    ],
)
def test_whatever_is_different_has_another_key(other):
    assert SHARED.key(*other()) not in (key(), None)


def test_an_allocator_is_part_of_the_key():
    submodel, build, how = asked()
    assert SHARED.key(submodel, build, {**how, "allocator": CachingAllocator()}) not in (key(), None)


def test_two_classes_of_one_name_have_two_keys():
    def made():
        class Same:
            pass

        return Same

    (one, other) = (SHARED.key(made()()) for _ in range(2))
    assert None not in (one, other)
    assert one != other


def test_what_has_no_key_is_profiled_each_time():
    loop: list = []
    loop.append(loop)
    assert SHARED.key(loop) is None
    assert SHARED.key(item for item in ()) is None


def bits(found):
    """Return all that a profile says, types of numbers included."""
    values = [getattr(found, field.name) for field in dataclasses.fields(Profile)]
    return [
        (value.dtype, value.tobytes()) if isinstance(value, np.ndarray) else (type(value), value) for value in values
    ]


@pytest.mark.parametrize("kind", names("method"))
def test_a_profile_kept_on_disk_is_that_made_anew_to_the_byte(kind, tmp_path):
    submodel, build, how = asked(kind)
    KeptProfiles(tmp_path).keep("a", plainly(submodel, build, **how))
    found = KeptProfiles(tmp_path).find("a", submodel, how["batch_size"])
    assert bits(found) == bits(plainly(submodel, build, **how))


@pytest.mark.parametrize("kind", names("method"))
def test_rounds_devices_and_seed_shape_no_submodel_of_a_built_in_method(kind):
    """So that none of them is in the key of a kept profile."""

    def shaped(setting):
        made = component("method", kind)
        chosen = made.build(made.options(), setting)
        submodel = chosen.submodels[-1]
        return bits(
            plainly(submodel, lambda: chosen.trainee(submodel, small(fitting(kind, "lenet"))), **asked(kind)[2])
        )

    other = dataclasses.replace(SETTING, max_rounds=7, num_devices=9, seed=5)
    assert shaped(SETTING) == shaped(other)
