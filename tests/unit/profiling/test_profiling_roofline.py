"""Seconds of operators: by hand, and MobileNetV2 beside ResNet18 on a Raspberry Pi 4."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest

from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import FullModel
from neulite_sim.population.hardware.catalogue import device_class
from neulite_sim.population.hardware.contract import DeviceClass
from neulite_sim.profiling.profile import Profile, profile
from neulite_sim.profiling.roofline import OperatorKind, rates_of, step_s
from neulite_sim.profiling.step_time import step_seconds
from neulite_sim.registry import Options, component
from neulite_sim.scenario.schema import Training

TOY = DeviceClass(
    name="toy",
    family="computer",
    installed_memory_bytes=1,
    usable_memory_bytes=1,
    peak_flops_per_second=1000.0,
    memory_bytes_per_second=100.0,
    efficiency=0.5,
    operator_overhead_s=0.25,
    downlink_bits_per_second=1.0,
    uplink_bits_per_second=1.0,
    convolution_efficiency=0.25,
    bandwidth_efficiency=0.8,
    grouped_bandwidth_efficiency=0.1,
)
FIVE = dataclasses.replace(TOY, pointwise_efficiency=0.125, grouped_backward_efficiency=0.01)
KINDS = np.array([OperatorKind.OTHER, OperatorKind.CONVOLUTION, OperatorKind.GROUPED], np.int8)


def test_each_operator_takes_the_longer_of_its_two_times_at_the_rates_of_its_kind() -> None:
    flops, num_bytes = np.array([1000.0, 1000.0, 1000.0]), np.array([40.0, 40.0, 50.0])
    # Arithmetic 1000 / 500, 1000 / 250, 1000 / 250 s; traffic 40 / 80, 40 / 80, 50 / 10 s; overhead 3 x 0.25 s.
    assert step_s(flops, num_bytes, KINDS, rates_of(TOY)) == pytest.approx(2 + 4 + 5 + 0.75)


def test_points_and_gradients_of_groups_have_rates_of_their_own_where_a_device_gives_them() -> None:
    flops, num_bytes = np.array([1000.0, 100.0, 1.0]), np.array([40.0, 40.0, 400.0])
    kinds = np.array([3, 4, 4], np.int8)
    # Arithmetic 1000 / 125 and 100 / 10 s; traffic of gradients 400 / 80 s, as of everything; overhead 3 x 0.25 s.
    assert step_s(flops, num_bytes, kinds, rates_of(FIVE)) == pytest.approx(8 + 10 + 5 + 0.75)
    # Otherwise as all convolutions, 1000 / 250 s, and as grouped ones forward: 40 / 10 and 400 / 10 s.
    assert step_s(flops, num_bytes, kinds, rates_of(TOY)) == pytest.approx(4 + 4 + 40 + 0.75)


def test_a_smaller_batch_saves_work_but_no_overhead() -> None:
    flops, num_bytes = np.array([1000.0, 0.0, 0.0]), np.array([0.0, 40.0, 50.0])
    whole_s = step_s(flops, num_bytes, KINDS, rates_of(TOY))
    assert step_s(flops, num_bytes, KINDS, rates_of(TOY), 0.25) == pytest.approx(0.75 + (whole_s - 0.75) / 4)


def test_a_device_that_does_not_tell_kinds_apart_charges_all_alike() -> None:
    plain = dataclasses.replace(
        TOY, convolution_efficiency=None, bandwidth_efficiency=None, grouped_bandwidth_efficiency=None
    )
    flops, num_bytes = np.array([1000.0, 500.0, 100.0]), np.array([10.0, 200.0, 300.0])
    alike_s = step_s(flops, num_bytes, None, rates_of(plain))
    assert step_s(flops, num_bytes, KINDS, rates_of(plain)) == alike_s == pytest.approx(2 + 2 + 3 + 0.75)


def test_grouped_convolutions_share_the_bandwidth_of_the_others_where_nothing_else_is_known() -> None:
    rates = rates_of(dataclasses.replace(TOY, grouped_bandwidth_efficiency=None))
    assert rates.bytes_per_second.tolist() == [80.0] * 5


@functools.cache
def step_of(name: str) -> Profile:
    """Return the profile of training one of torchvision's networks as it was measured: 16 images of 224 pixels."""
    shape = (3, 224, 224)
    architecture = component("model", f"torchvision:{name}").build(Options(), name)
    blueprint = Blueprint(architecture=architecture, input_shape=shape, num_classes=1000)
    blueprint.build_meta()
    training = Training(batch_size=16, momentum=0.0, weight_decay=0.0)
    return profile("full", lambda: FullModel(blueprint), input_shape=shape, batch_size=16, training=training)


@pytest.mark.slow
def test_mobilenet_v2_trains_slower_than_resnet18_on_a_raspberry_pi_4_with_a_sixth_of_the_operations() -> None:
    pi = device_class("raspberry-pi-4-4gb")
    small, large = step_of("mobilenet_v2"), step_of("resnet18")
    assert 5.5 < large.flops_per_step / small.flops_per_step < 6.5
    assert step_seconds(small, pi) > 1.2 * step_seconds(large, pi)


@pytest.mark.slow
def test_without_its_rates_of_grouped_convolutions_a_raspberry_pi_4_would_have_it_the_other_way_round() -> None:
    pi = device_class("raspberry-pi-4-4gb")
    plain = dataclasses.replace(pi, grouped_bandwidth_efficiency=None, grouped_backward_efficiency=None)
    assert step_seconds(step_of("mobilenet_v2"), plain) < step_seconds(step_of("resnet18"), plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "network", "measured_s"),
    [
        ("raspberry-pi-4-4gb", "resnet18", 10.918),
        ("raspberry-pi-4-4gb", "mobilenet_v2", 15.274),
        ("raspberry-pi-5-8gb", "resnet18", 5.843),
        ("raspberry-pi-5-4gb", "mobilenet_v2", 7.218),
    ],
)
def test_charged_seconds_are_near_the_measured_ones(device: str, network: str, measured_s: float) -> None:
    # jafermarq/federated-embedded-vision@17ecd8b, loading included.
    assert step_seconds(step_of(network), device_class(device)) == pytest.approx(measured_s, rel=0.15)


def test_loading_is_charged_where_a_device_gives_its_rate_and_only_where_samples_are_read() -> None:
    step = step_of("resnet18")
    assert step.loaded_bytes == 16 * 3 * 224 * 224 * 4
    bare = dataclasses.replace(device_class("raspberry-pi-4-4gb"), loading_bytes_per_second=None)
    loads = dataclasses.replace(bare, loading_bytes_per_second=step.loaded_bytes / 0.5)
    assert step_seconds(step, loads) - step_seconds(step, bare) == pytest.approx(0.5)
    assert step_seconds(step, loads, 0.5) - step_seconds(step, bare, 0.5) == pytest.approx(0.25)
    later = dataclasses.replace(
        step, later_operator_flops=step.operator_flops, later_operator_bytes=step.operator_bytes,
        later_operator_kinds=step.operator_kinds,
    )  # fmt: skip
    assert step_seconds(later, loads, is_later=True) == step_seconds(later, bare, is_later=True)
