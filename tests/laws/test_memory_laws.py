"""Laws of the memory ledger, on fake tensors: what must never cost less, and what must never cost anything."""

from __future__ import annotations

import functools
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thin_models import method

from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import FullModel
from neulite_sim.profiling.profile import Profile, profile
from neulite_sim.registry import component
from neulite_sim.scenario.schema import Training

SHAPE = (3, 8, 8)
KINDS = ("vit", "cnn", "lenet")
LAWS = settings(max_examples=6, deadline=None, derandomize=True)

kinds = st.sampled_from(KINDS)
BATCHES = (2, 5, 12, 24)
"""Few, so that laws find the profiles of one another."""
batches = st.sampled_from(BATCHES)
optimizers = st.sampled_from([("momentum", 0.9), ("momentum", 0.0), ("optimizer", "adam")])
STATES = {("momentum", 0.9): 1, ("momentum", 0.0): 0, ("optimizer", "adam"): 2}


def narrow(kind: str) -> Blueprint:
    """Return a network thin and, where it has one, shallow enough for a test."""
    found = component("model", kind)
    options = {"patch": 4, "dim": 64, "heads": 2, "depth": 3} if kind == "vit" else {}
    architecture = found.build(found.options(**options))
    return Blueprint(architecture=architecture, input_shape=SHAPE, num_classes=10, width=0.25, name=kind)


@functools.cache
def profiled(name: str, submodel: str, kind: str, batch_size: int, *options: tuple[str, object]) -> Profile:
    chosen = method(name)
    training = Training(batch_size=batch_size, **dict(options))
    build = (
        (lambda: FullModel(narrow(kind))) if submodel == "full" else (lambda: chosen.trainee(submodel, narrow(kind)))
    )
    return profile(submodel, build, input_shape=SHAPE, batch_size=batch_size, training=training)


@pytest.mark.slow
@LAWS
@given(
    kind=kinds,
    sizes=st.sampled_from([*itertools.combinations((*BATCHES, BATCHES[-1] + 1), 2)]),
    submodel=st.sampled_from(["full", "stage-1", "stage-2"]),
)
def test_memory_and_flops_grow_with_the_batch(kind, sizes, submodel):
    small, large = (profiled("neulite", submodel, kind, size) for size in sizes)
    assert large.peak_memory_bytes > small.peak_memory_bytes
    assert large.flops_per_step > small.flops_per_step


@pytest.mark.slow
@LAWS
@given(kind=kinds, batch_size=batches, optimizer=optimizers)
def test_training_more_blocks_of_the_same_network_never_needs_less(kind, batch_size, optimizer):
    """ProgFed's warm-up trains the newest block and the head of the network that it then trains whole."""
    chosen = method("progfed", warmup_rounds=1)
    training = Training(batch_size=batch_size, **dict([optimizer]))
    part, whole = (
        profile(name, lambda name=name: chosen.trainee(name, narrow(kind)), input_shape=SHAPE, batch_size=batch_size,
                training=training)
        for name in ("full-warmup", "full")
    )  # fmt: skip
    assert part.parameters == whole.parameters
    assert part.trainable_parameters < whole.trainable_parameters
    assert part.peak_memory_bytes <= whole.peak_memory_bytes
    assert part.flops_per_step < whole.flops_per_step


@pytest.mark.slow
@LAWS
@given(kind=kinds, batch_size=batches, optimizer=optimizers, submodel=st.sampled_from(["stage-1", "stage-2", "full"]))
def test_frozen_blocks_cost_no_gradient_and_no_optimizer_state(kind, batch_size, optimizer, submodel):
    found = profiled("neulite", submodel, kind, batch_size, optimizer)
    trained_bytes = 4 * found.trainable_parameters
    # Adam counts its steps in a number per tensor.
    counters = 4 * 200 if optimizer[0] == "optimizer" else 0
    assert found.memory.gradients <= trained_bytes
    assert STATES[optimizer] * trained_bytes <= found.memory.optimizer <= STATES[optimizer] * trained_bytes + counters


@pytest.mark.slow
@settings(LAWS, max_examples=3)
@given(
    kind=st.sampled_from(["vit", "cnn"]),
    batch_size=batches,
    optimizer=optimizers,
    surrogate=st.sampled_from(["conv", "conv-bn-relu", "none"]),
)
def test_a_longer_tail_is_charged_for_all_that_it_trains(kind, batch_size, optimizer, surrogate):
    """Each layer more costs memory, operations, gradients and upload, and nothing to download."""
    found = []
    for tail in (False, True, 2):
        chosen = method("neulite", tail=tail, surrogate=surrogate)
        build = functools.partial(chosen.trainee, "stage-2", narrow(kind))
        training = Training(batch_size=batch_size, **dict([optimizer]))
        found.append(profile("stage-2", build, input_shape=SHAPE, batch_size=batch_size, training=training))
    for shorter, longer in itertools.pairwise(found):
        assert shorter.parameters == longer.parameters
        assert shorter.bytes_down == longer.bytes_down
        added_bytes = 4 * (longer.trainable_parameters - shorter.trainable_parameters)
        assert 0 < added_bytes <= longer.bytes_up - shorter.bytes_up
        assert longer.memory.optimizer - shorter.memory.optimizer >= STATES[optimizer] * added_bytes
        assert longer.peak_memory_bytes >= shorter.peak_memory_bytes
        assert longer.flops_per_step > shorter.flops_per_step


@pytest.mark.slow
@LAWS
@given(kind=kinds, batch_size=batches, submodel=st.sampled_from(["full", "stage-1", "stage-2"]))
def test_checkpointing_never_raises_memory_nor_lowers_flops(kind, batch_size, submodel):
    plain = profiled("neulite", submodel, kind, batch_size)
    again = profiled("neulite", submodel, kind, batch_size, ("checkpointing", True))
    assert again.peak_memory_bytes <= plain.peak_memory_bytes
    assert again.flops_per_step >= plain.flops_per_step


@pytest.mark.slow
@LAWS
@given(
    kind=kinds, batch_size=batches, count=st.integers(1, 4), submodel=st.sampled_from(["full", "stage-1", "stage-2"])
)
def test_micro_batches_raise_the_peak_by_their_running_sum_of_gradients_at_most(kind, batch_size, count, submodel):
    """Up to four of them: each more is the same operators once more."""
    plain = profiled("neulite", submodel, kind, batch_size)
    parts = profiled("neulite", submodel, kind, batch_size, ("micro_batch_size", -(-batch_size // count)))
    assert parts.peak_memory_bytes <= plain.peak_memory_bytes + 4 * plain.trainable_parameters
