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
from neulite_sim.profiling.ledger import step_seconds
from neulite_sim.profiling.profile import Profile, profile
from neulite_sim.profiling.roofline import OperatorKind, rates_of, step_s
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
KINDS = np.array([OperatorKind.OTHER, OperatorKind.CONVOLUTION, OperatorKind.GROUPED], np.int8)


def test_each_operator_takes_the_longer_of_its_two_times_at_the_rates_of_its_kind() -> None:
    flops, num_bytes = np.array([1000.0, 1000.0, 1000.0]), np.array([40.0, 40.0, 50.0])
    # Arithmetic 1000 / 500, 1000 / 250, 1000 / 250 s; traffic 40 / 80, 40 / 80, 50 / 10 s; overhead 3 x 0.25 s.
    assert step_s(flops, num_bytes, KINDS, rates_of(TOY)) == pytest.approx(2 + 4 + 5 + 0.75)


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
    assert rates.bytes_per_second.tolist() == [80.0, 80.0, 80.0]


@functools.cache
def step_of(name: str) -> Profile:
    """Return the profile of training one of torchvision's networks as it was measured: 16 images of 224 pixels."""
    shape = (3, 224, 224)
    architecture = component("model", f"torchvision:{name}").build(Options(), name)
    blueprint = Blueprint(architecture=architecture, input_shape=shape, num_classes=1000)
    blueprint.build_meta()
    training = Training(batch_size=16, momentum=0.0, weight_decay=0.0)
    return profile("full", lambda: FullModel(blueprint), input_shape=shape, batch_size=16, training=training)


def test_mobilenet_v2_trains_slower_than_resnet18_on_a_raspberry_pi_4_with_a_sixth_of_the_operations() -> None:
    pi = device_class("raspberry-pi-4-4gb")
    small, large = step_of("mobilenet_v2"), step_of("resnet18")
    assert 5.5 < large.flops_per_step / small.flops_per_step < 6.5
    assert step_seconds(small, pi) > 1.2 * step_seconds(large, pi)
    # Measured 15.27 s and 10.92 s, with about 0.6 s of loading in each.
    assert step_seconds(large, pi) + 0.6 == pytest.approx(10.92, rel=0.05)
    assert step_seconds(small, pi) + 0.6 == pytest.approx(15.27, rel=0.35)


def test_without_its_rate_of_grouped_convolutions_a_raspberry_pi_4_would_have_it_the_other_way_round() -> None:
    pi = dataclasses.replace(device_class("raspberry-pi-4-4gb"), grouped_bandwidth_efficiency=None)
    assert step_seconds(step_of("mobilenet_v2"), pi) < step_seconds(step_of("resnet18"), pi)


def test_the_raspberry_pi_5_meets_its_one_public_point() -> None:
    # 5.843 s per batch of 16, of which 0.31 s are taken for loading.
    assert step_seconds(step_of("resnet18"), device_class("raspberry-pi-5-8gb")) == pytest.approx(5.53, rel=0.02)
