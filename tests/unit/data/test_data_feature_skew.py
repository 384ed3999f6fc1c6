"""Feature skew: what each device sees, by hand, by its law, and what it refuses."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_scenarios import tiny

from neulite_sim.data.feature_skew import FeatureSkew, view_of
from neulite_sim.engine import assembly
from neulite_sim.errors import ScenarioError
from neulite_sim.samples import InputSpec
from neulite_sim.training.worker import Worker

IMAGE = InputSpec(shape=(2, 4, 4), num_classes=3)
SEEN = torch.arange(5 * 32, dtype=torch.float32).reshape(5, 2, 4, 4) / 100


def view(devices=4, spec=IMAGE, seed=0, **options):
    return view_of(FeatureSkew(**options), spec, devices, seed)


def test_without_skew_there_is_no_view():
    assert view_of(None, IMAGE, 4, 0) is None


def test_every_rank_is_given_once_and_drawn_from_the_seed():
    orders = {tuple(view(devices=30, seed=seed).ranks.tolist()) for seed in range(4)}
    assert len(orders) == 4
    assert all(sorted(order) == list(range(30)) for order in orders)


def test_noise_grows_with_the_rank_and_is_standard_normal():
    found = view(kind="noise", strength=2)
    zero = torch.zeros(500, 2, 4, 4)
    for device, rank in enumerate(found.ranks.tolist()):
        noise = found.own(zero, device)
        assert noise.std().item() == pytest.approx(2 * (rank + 1) / 4, rel=0.03)
        assert noise.mean().item() == pytest.approx(0, abs=0.06)


def test_rotation_turns_by_quarters_or_halves():
    for turns, quarters in ((4, [0, 1, 2, 3]), (2, [0, 2, 0, 2])):
        found = view(kind="rotation", turns=turns)
        for device, rank in enumerate(found.ranks.tolist()):
            assert torch.equal(found.own(SEEN, device), torch.rot90(SEEN, quarters[rank], (2, 3)))


def test_brightness_and_contrast_lie_evenly_around_what_there_is():
    bright, strong = view(devices=3, kind="brightness", strength=0.5), view(devices=3, kind="contrast", strength=0.5)
    for device in range(3):
        place = [-1, 0, 1][bright.ranks[device]]
        torch.testing.assert_close(bright.own(SEEN, device), SEEN + 0.5 * place)
        torch.testing.assert_close(strong.own(SEEN, device), SEEN * float(np.exp(0.5 * place)))


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(["noise", "rotation", "brightness", "contrast"]),
    seed=st.integers(0, 2**32),
    device=st.integers(0, 8),
)
def test_a_device_sees_the_same_whenever_it_looks_and_its_input_is_left_alone(kind, seed, device):
    found, before = view(devices=9, seed=seed, kind=kind), SEEN.clone()
    first = found.own(SEEN, device)
    found.own(SEEN, (device + 1) % 9)
    assert torch.equal(found.own(SEEN, device), first)
    assert torch.equal(SEEN, before)
    assert first.dtype == torch.float32


def test_augmented_batches_draw_their_noise_from_the_generator_they_are_given():
    found = view(kind="noise")
    first, again, other = (found.augmented(SEEN, 1, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    turned = view(kind="rotation")
    assert torch.equal(turned.augmented(SEEN, 1, torch.Generator()), turned.own(SEEN, 1))


@pytest.mark.parametrize("kind", ["noise", "rotation", "brightness"])
def test_tests_are_left_alone_unless_asked_and_then_do_not_depend_on_the_batches(kind):
    assert view(kind=kind).tested(SEEN, np.arange(5)) is SEEN
    found = view(kind=kind, test=True)
    whole = found.tested(SEEN, np.arange(5))
    parts = [found.tested(SEEN[:2], np.arange(2)), found.tested(SEEN[2:], np.arange(2, 5))]
    assert torch.equal(whole, torch.cat(parts))
    if kind != "noise":
        assert torch.equal(whole[1], found.own(SEEN[1:2], 1)[0])


@pytest.mark.parametrize(
    ("options", "spec", "words"),
    [
        ({"kind": "rotation"}, InputSpec(shape=(3,), num_classes=2), "data.feature_skew.kind: rotation turns images; the samples of data are rows of 3 numbers"),
        ({"kind": "rotation"}, InputSpec(shape=(1, 4, 6), num_classes=2), "data.feature_skew.turns: quarter turns need square images; use turns: 2; the samples of data are 1x4x6 images"),
        ({}, InputSpec(shape=(3,), vocabulary=9, num_classes=2), "data.feature_skew: alters numbers; the samples of data are sequences of 3 out of 9 tokens"),
    ],
)  # fmt: skip
def test_what_cannot_be_altered_is_refused(options, spec, words):
    with pytest.raises(ScenarioError, match=re.escape(words)):
        view(spec=spec, **options)


def test_a_worker_trains_and_tests_devices_on_what_they_see(monkeypatch):
    parts = assembly.assemble(tiny("data.feature_skew={kind: noise, strength: 3}"))
    from neulite_sim.engine.building import workplace

    place, seen = workplace(parts), {}
    monkeypatch.setattr(
        "neulite_sim.training.worker.train_locally",
        lambda trainee, inputs, labels, **rest: seen.setdefault("trained", inputs),
    )
    monkeypatch.setattr("neulite_sim.training.worker.load_tensors", lambda *given: None)
    monkeypatch.setattr(
        "neulite_sim.training.worker.evaluate", lambda model, batches: seen.setdefault("tested", list(batches))
    )
    worker = Worker(place)
    cost = SimpleNamespace(shortfall_bytes=0)
    worker.train(SimpleNamespace(submodel="full", device=2, flight=0, cost=cost, enforces_memory=True), {})
    worker.evaluate("full", {}, np.array([2]))
    own = place.partition.of(2)
    plain = place.dataset.seen(torch.from_numpy(place.dataset.train_inputs[own]))
    torch.testing.assert_close(seen["trained"], place.partition.view.own(plain, 2))
    torch.testing.assert_close(torch.cat([inputs for inputs, _ in seen["tested"]]), seen["trained"])
    assert torch.cat([labels for _, labels in seen["tested"]]).tolist() == place.dataset.train_labels[own].tolist()
