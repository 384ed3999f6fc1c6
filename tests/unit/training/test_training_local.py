"""Local training, learning rates, evaluation and the memory promise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_flights import cost_of
from torch import nn

from neulite_sim.data.contract import Dataset, Partition
from neulite_sim.errors import BackendUnavailableError, SimulationError
from neulite_sim.methods.contract import LocalTask, Setting
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.step import Stepper
from neulite_sim.profiling.plans import plan_of
from neulite_sim.registry import component
from neulite_sim.scenario.learning_rate import learning_rate
from neulite_sim.scenario.schema import Evaluation, Training
from neulite_sim.training import local as local_module
from neulite_sim.training import worker as worker_module
from neulite_sim.training.contract import Workplace
from neulite_sim.training.evaluation import evaluate, recalibrate_batch_norm
from neulite_sim.training.inprocess import InProcess, InProcessOptions
from neulite_sim.training.worker import Worker

SHAPE = (1, 8, 8)


def dataset(count=21, augmentation="none"):
    rng = np.random.Generator(np.random.PCG64(0))
    labels = np.arange(count) % 3
    images = (rng.normal(size=(count, *SHAPE)) + labels[:, None, None, None]).astype(np.float32)
    return Dataset(name="toy", train_images=images, train_labels=labels, test_images=images, test_labels=labels,
                   num_classes=3, mean=(1.0,), std=(1.0,), augmentation=augmentation)  # fmt: skip


def workplace(kind="fedavg", model="logistic", training=None, evaluation=None, augmentation="none", **options):
    found, chosen = component("model", model), component("method", kind)
    data = dataset(augmentation=augmentation)
    blueprint = Blueprint(architecture=found.build(found.options()), input_shape=SHAPE, num_classes=3, width=0.125)
    setting = Setting(num_blocks=blueprint.build_meta().num_blocks, num_devices=2, max_rounds=4, seed=0)
    return Workplace(
        dataset=data,
        partition=Partition(samples=np.arange(21), offsets=np.array([0, 9, 21])),
        method=chosen.build(chosen.options(**options), setting),
        blueprint=blueprint,
        training=training or Training(epochs=2, batch_size=4, learning_rate=0.05),
        evaluation=evaluation or Evaluation(batch_size=8),
        seed=5,
        threads=1,
    )


def task(device=0, flight=1, available=100, peak=100, submodel="full", learning_rate=0.05):
    return LocalTask(flight=flight, cost=cost_of(device, submodel, peak_memory_bytes=peak, available_memory_bytes=available or 0),
                     version=0, seed=5, learning_rate=learning_rate, enforces_memory=available is not None)  # fmt: skip


def start(place):
    return place.method.start(place.blueprint, 1, None)


def test_training_learns_and_reports_its_own_samples():
    place = workplace(training=Training(epochs=20, batch_size=4, learning_rate=0.05))
    worker, state = Worker(place), start(place)
    update = worker.train(task(), state.tensors)
    before = worker.evaluate("full", state.tensors)
    after = worker.evaluate("full", {**state.tensors, **update.tensors})
    assert update.num_samples == 9
    assert update.loss < before.loss
    assert after.accuracy > before.accuracy


def test_an_update_depends_on_the_task_alone():
    """Neither on what the worker did before, nor on how often, nor on global generators."""
    place = workplace(model="resnet18")
    state = start(place)
    fresh = Worker(place).train(task(device=1, flight=7), state.tensors)
    used = Worker(place)
    used.train(task(device=0, flight=3), state.tensors)
    torch.manual_seed(123)
    again = used.train(task(device=1, flight=7), state.tensors)
    assert all(torch.equal(fresh.tensors[name], again.tensors[name]) for name in fresh.tensors)
    other = used.train(task(device=1, flight=8), state.tensors)
    assert any(not torch.equal(fresh.tensors[name], other.tensors[name]) for name in fresh.tensors)


@pytest.mark.parametrize(
    ("kind", "submodel", "options"),
    [
        ("fedavg", "full", {"momentum": 0.9, "weight_decay": 0.01}),
        ("neulite", "stage-2", {"optimizer": "adam"}),
        ("neulite", "stage-1", {"micro_batch_size": 3, "clip_norm": 1.0}),
    ],
)
def test_a_worker_takes_the_steps_that_devices_are_charged_for(monkeypatch, kind, submodel, options):
    """Fused steps and nHSIC in closed form differ by rounding alone; the plain worker is what a profile runs."""
    training = Training(epochs=2, batch_size=4, **options)
    place = workplace(kind, "resnet18", training)
    payload = place.method.payload(start(place), submodel)
    # With longer steps a change of 1e-7 in the weights grows a thousandfold over two epochs.
    given = task(submodel=submodel, learning_rate=0.001)
    quick = Worker(place).train(given, payload)
    monkeypatch.setattr(worker_module, "take_shortcuts", lambda trainee: setattr(trainee, "takes_shortcuts", False))
    monkeypatch.setattr(local_module, "stepper_of", lambda *given, is_charged, **named: Stepper(*given, **named))
    plain = Worker(place).train(given, payload)
    assert quick.loss == pytest.approx(plain.loss, rel=1e-4)
    assert quick.metrics == pytest.approx(plain.metrics, rel=1e-3, abs=1e-6)
    for name, tensor in plain.tensors.items():
        torch.testing.assert_close(quick.tensors[name], tensor, rtol=1e-3, atol=2e-4)


def test_a_flight_leaves_the_generator_where_it_was_and_no_note_of_its_seed():
    place = workplace()
    worker, tensors = Worker(place), start(place).tensors
    worker.train(task(), tensors)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    before = len(torch.cuda._queued_calls)
    worker.train(task(), tensors)
    assert torch.equal(torch.rand(2), expected)
    assert len(torch.cuda._queued_calls) == before


def test_scalars_are_means_over_samples_and_counts_are_sums_over_all_steps():
    means = local_module._Means()
    for loss in (9.0, 1.0):
        means.next_epoch()
        means.add(3, torch.tensor(loss), {"num_odd": torch.tensor(2.0), "term": torch.tensor(0.5, dtype=torch.float64)})
        means.add(1, torch.tensor(loss + 4), {"num_odd": torch.tensor(1.0), "term": torch.tensor(1.5)})
    assert means.loss == pytest.approx(2.0)
    assert means.metrics == {"num_odd": 6.0, "term": pytest.approx(0.75)}


def test_augmentation_changes_what_is_learned_and_repeats():
    plain, augmented = workplace(), workplace(augmentation="crop-flip")
    state = start(plain)
    first, second = (Worker(augmented).train(task(), state.tensors).loss for _ in range(2))
    assert first == second
    assert first != Worker(plain).train(task(), state.tensors).loss


def test_one_plain_step_is_w_minus_rate_times_gradient():
    training = Training(epochs=1, batch_size=64, momentum=0.0, weight_decay=0.0, learning_rate=0.05)
    place = workplace(training=training)
    state = start(place)
    update = Worker(place).train(task(), state.tensors)
    numbers = place.partition.of(0)
    images = torch.from_numpy(place.dataset.train_images[numbers]) - 1.0
    weight = next(name for name in state.tensors if name.endswith("weight"))
    bias = weight.replace("weight", "bias")
    parameters = [state.tensors[name].clone().requires_grad_(True) for name in (weight, bias)]
    logits = images.flatten(1) @ parameters[0].T + parameters[1]
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(place.dataset.train_labels[numbers]))
    loss.backward()
    assert update.loss == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(update.tensors[weight], state.tensors[weight] - 0.05 * parameters[0].grad)


@pytest.mark.parametrize("model", ["logistic", "resnet18"])
def test_a_task_with_a_smaller_batch_trains_as_a_scenario_with_that_batch(model):
    for batch_size in (2, 1):
        small = workplace(model=model, training=Training(epochs=2, batch_size=batch_size, learning_rate=0.05))
        place = workplace(model=model)
        state = start(place)
        shrunk = Worker(place).train(
            replace(task(), plan=replace(plan_of(place.training), batch_size=batch_size)), state.tensors
        )
        expected = Worker(small).train(task(), state.tensors)
        whole = Worker(place).train(task(), state.tensors)
        assert all(torch.equal(shrunk.tensors[name], expected.tensors[name]) for name in expected.tensors)
        assert any(not torch.equal(shrunk.tensors[name], whole.tensors[name]) for name in expected.tensors)


def test_clipping_bounds_the_step():
    rate = 0.05
    training = Training(epochs=1, batch_size=64, momentum=0.0, weight_decay=0.0, learning_rate=rate, clip_norm=0.01)
    place = workplace(training=training)
    state = start(place)
    update = Worker(place).train(task(), state.tensors)
    step = torch.cat([(update.tensors[name] - state.tensors[name]).flatten() for name in update.tensors])
    assert step.norm().item() == pytest.approx(rate * 0.01, rel=1e-3)


def test_batches_of_one_sample_never_reach_batch_norm():
    """Nine samples in batches of four leave one over; BatchNorm would refuse it."""
    place = workplace(model="resnet18", training=Training(epochs=1, batch_size=4, learning_rate=0.01))
    assert np.isfinite(Worker(place).train(task(), start(place).tensors).loss)


def test_skipped_terms_are_summed_over_all_steps():
    place = workplace("neulite", "resnet18", Training(epochs=3, batch_size=2, learning_rate=0.01))
    update = Worker(place).train(task(submodel="stage-1"), place.method.payload(start(place), "stage-1"))
    # Nine samples in batches of two: three batches of two and one of three, in three epochs; two terms each.
    assert update.metrics["num_skipped_terms"] >= 3 * 3 * 2


def test_a_task_above_its_promise_is_refused_with_both_sizes():
    place = workplace()
    with pytest.raises(SimulationError, match=r"flight 1 .* full needs 711\.8 MB, device 0 has 640 MB"):
        Worker(place).train(task(peak=711_820_064, available=640_000_000), start(place).tensors)
    assert Worker(place).train(task(peak=10**12, available=None), start(place).tensors).num_samples == 9


def test_a_failure_inside_training_names_flight_device_and_submodel():
    place = workplace()
    state = start(place)
    backend = InProcess()
    backend.equip(place)
    ticket = backend.submit_training(task(flight=4), {name: torch.zeros(7) for name in state.tensors}, {})
    with pytest.raises(SimulationError, match=r"local training failed in flight 4 \(device 0, full\): .*size"):
        backend.collect_update(ticket)


@pytest.mark.parametrize("model", ["resnet18", "logistic"])
def test_a_device_with_a_single_sample_trains(model):
    """Maps of 8x8 images end at 1x1, where one sample has no variance: BatchNorm then keeps its running statistics."""
    place = replace(workplace(model=model), partition=Partition(samples=np.arange(21), offsets=np.array([0, 1, 21])))
    update = Worker(place).train(task(), start(place).tensors)
    assert update.num_samples == 1
    assert np.isfinite(update.loss)
    assert all(torch.isfinite(tensor).all() for tensor in update.tensors.values())


def test_cuda_without_a_device_is_refused_with_what_to_do():
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(BackendUnavailableError, match=r"backend\.device is 'cuda' but PyTorch finds no CUDA device"):
        component("backend", "inprocess").build(InProcessOptions(device="cuda"))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"kind": "constant"}, [0.1, 0.1, 0.1, 0.1]),
        ({"kind": "step", "milestones": [2, 3], "factor": 0.5}, [0.1, 0.1, 0.05, 0.025]),
        ({"kind": "cosine"}, [0.1, 0.0853553391, 0.05, 0.0146446609]),
        ({"kind": "cosine", "rounds": 2, "final": 0.02}, [0.1, 0.06, 0.02, 0.02]),
    ],
)
def test_learning_rate_of_each_round(schedule, expected):
    training = Training(learning_rate=0.1, learning_rate_schedule=schedule)
    assert [learning_rate(training, number, 4) for number in (1, 2, 3, 4)] == pytest.approx(expected)


class Fixed(nn.Module):
    """Says class 0 with logit 1, whatever it sees."""

    def forward(self, images):
        return torch.tensor([[1.0, 0.0]]).repeat(len(images), 1)


def test_evaluation_is_the_mean_over_samples_not_over_batches():
    batches = [(torch.zeros(3, 1), torch.tensor([0, 0, 0])), (torch.zeros(1, 1), torch.tensor([1]))]
    found = evaluate(Fixed(), batches)
    assert found.accuracy == 0.75
    assert found.loss == pytest.approx((3 * 0.3132617 + 1.3132617) / 4, abs=1e-6)
    assert found.num_samples == 4


def test_recalibrated_statistics_are_the_mean_over_the_batches():
    layer = nn.BatchNorm2d(1)
    layer.running_mean.fill_(50.0)
    recalibrate_batch_norm(layer, [torch.full((2, 1, 2, 2), 1.0), torch.full((2, 1, 2, 2), 4.0)])
    assert layer.running_mean.item() == pytest.approx(2.5)
    assert layer.running_var.item() == pytest.approx(0.0)
    assert layer.momentum == 0.1


def test_recalibration_repairs_statistics_that_are_wrong():
    found = {}
    for mode, samples in (("running", {}), ("recalibrated", {"recalibration_samples": 21})):
        place = workplace(model="resnet18", evaluation=Evaluation(batch_norm=mode, **samples))
        state = start(place)
        broken = {name: tensor + 100.0 if "running_mean" in name else tensor for name, tensor in state.tensors.items()}
        found[mode] = Worker(place).evaluate("full", broken).loss, Worker(place).evaluate("full", state.tensors).loss
    assert found["running"][0] != found["running"][1]
    assert found["recalibrated"][0] == found["recalibrated"][1]
