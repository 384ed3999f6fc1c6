"""The two ledgers of a scenario, and set-ups in which nothing can ever happen."""

import numpy as np
import pytest
from tiny_scenarios import tiny, waves

from neulite_sim.engine.assembly import assemble, prepare
from neulite_sim.engine.compatibility import require_somebody
from neulite_sim.errors import InfeasibleError, ScenarioError
from neulite_sim.population.sampling import draw_fleet

LOGISTIC_64_PEAK = 11_680
"""One step of `tiny`: parameters, gradients and momentum of 2600 bytes each, 1320 of batch, 2560 of weight decay."""


def memory(*values):
    """Return overrides for a fleet of these available bytes."""
    listed = ", ".join(map(str, values))
    return (f"population.devices={len(values)}", f"population.available_memory={{kind: explicit, values: [{listed}]}}")


def test_without_workload_and_proxy_devices_are_charged_for_what_is_trained():
    costing = assemble(tiny())
    assert costing.charged == costing.trained
    assert costing.charged_training == costing.trained_training == costing.scenario.training
    np.testing.assert_array_equal(costing.ledger.num_samples, costing.partition.sizes)


@pytest.mark.parametrize("other", ["seed=4", "population.speed_jitter=0.1", "population.devices=5"])
def test_a_fleet_that_was_drawn_is_taken_by_its_own_scenario_only(other):
    drawn = draw_fleet(tiny().population, tiny().seed)
    assert prepare(tiny("stop.rounds=9"), drawn).population is drawn.population
    taken, own = prepare(tiny(other), drawn).population, prepare(tiny(other)).population
    assert taken is not drawn.population
    assert (taken.num_devices, taken.speed_jitter) == (own.num_devices, own.speed_jitter)
    np.testing.assert_array_equal(taken.available_memory_bytes, own.available_memory_bytes)


def test_a_workload_changes_what_is_charged_and_nothing_that_is_trained():
    plain = assemble(tiny())
    changed = assemble(tiny("workload={model: lenet, input_shape: [3, 28, 20], classes: 7, samples_per_device: 500, "
                            "batch_size: 20, epochs: 3}"))  # fmt: skip
    assert (changed.charged.name, changed.charged.input_shape, changed.charged.num_classes) == ("lenet", (3, 28, 20), 7)
    assert (changed.charged_training.batch_size, changed.charged_training.epochs) == (20, 3)
    assert changed.ledger.num_samples.tolist() == [500] * 6
    assert changed.ledger.profiles["full"].batch_size == 20
    assert changed.trained == plain.trained
    assert changed.trained_training == plain.trained_training
    np.testing.assert_array_equal(changed.partition.samples, plain.partition.samples)


def test_a_proxy_changes_what_is_trained_and_nothing_that_is_charged():
    plain = assemble(tiny("model=cnn"))
    changed = assemble(tiny("model=cnn", "proxy={width: 0.25, image_size: 5, batch_size: 7, epochs: 9}"))
    assert (changed.trained.width, changed.trained.input_shape) == (0.25, (1, 5, 5))
    assert changed.dataset.input_shape == (1, 5, 5)
    assert (changed.trained_training.batch_size, changed.trained_training.epochs) == (7, 9)
    assert changed.charged == plain.charged
    assert changed.charged_training == plain.charged_training
    assert changed.ledger.profiles["full"].memory == plain.ledger.profiles["full"].memory
    np.testing.assert_array_equal(changed.ledger.num_samples, plain.ledger.num_samples)


def test_seconds_are_charged_for_the_samples_of_the_workload():
    """500 samples in batches of 5 are a hundred steps, where the device's own ten samples are two."""
    everyone = np.arange(6)
    own = assemble(tiny()).ledger.compute_s("full", everyone)
    charged = assemble(tiny("workload.samples_per_device=500")).ledger.compute_s("full", everyone)
    assert charged / own == pytest.approx(50.0)


def test_a_device_fits_from_the_very_byte_of_the_predicted_peak():
    costing = assemble(tiny(*memory(LOGISTIC_64_PEAK - 1, LOGISTIC_64_PEAK, LOGISTIC_64_PEAK + 1, 10**6)))
    assert costing.ledger.profiles["full"].peak_memory_bytes == LOGISTIC_64_PEAK
    assert costing.ledger.fits("full").tolist() == [False, True, True, True]
    assert costing.ledger.participation_rate(("full",)) == 0.75


def test_a_fleet_that_fits_nothing_is_refused_with_the_smallest_shortfall():
    costing = assemble(tiny(*memory(9_000, 11_180, 2_000)))
    message = (
        r"^NA: no device can train anything with method fedavg: its smallest submodel full needs 11\.68 kB at batch 5; "
        r"the largest available memory is 11\.18 kB \(device 1\), which is 500 B too little; "
        r"raise population\.available_memory, lower the batch size that is charged \(workload\.batch_size\), or .*"
    )
    with pytest.raises(InfeasibleError, match=message):
        require_somebody(costing)


def test_memory_of_a_device_without_data_does_not_count():
    """One sample for two devices: whoever has none may have all the memory of the world."""
    few = ("data.train_samples=1", "data.partition=iid", "training.batch_size=5")
    costing = assemble(tiny(*few, *memory(10**9, 10**9)))
    idle = int(np.flatnonzero(costing.partition.sizes == 0)[0])
    require_somebody(costing)
    values = [10, 10]
    values[idle] = 10**9
    with pytest.raises(InfeasibleError, match=rf"largest available memory is 10 B \(device {1 - idle}\)"):
        require_somebody(assemble(tiny(*few, *memory(*values))))


def test_the_shortfall_counts_the_sample_that_joins_the_last_full_batch():
    """Six samples in batches of five are one batch of six: 264 bytes of input more than five need."""
    six_each = ("data.train_samples=12", *memory(LOGISTIC_64_PEAK + 100, 5_000))
    with pytest.raises(InfeasibleError, match=r"full needs 11\.9\d kB.* is 11\.78 kB \(device 0\), which is 164 B too"):
        require_somebody(assemble(tiny(*six_each)))


def test_a_method_without_a_memory_limit_is_never_infeasible():
    require_somebody(assemble(tiny("method={kind: fedavg, memory_limit: false}", *memory(1, 1))))


def test_of_several_submodels_the_smallest_counts():
    with pytest.raises(InfeasibleError, match=r"method neulite: its smallest submodel stage-2 needs 2\.609 MB at b"):
        require_somebody(assemble(waves("population.available_memory={kind: uniform, low: 1MB, high: 1MB}")))


def test_a_workload_of_another_number_of_blocks_is_refused_where_submodels_are_blocks():
    message = r"workload\.model: resnet18 has 4 blocks, lenet has 2; .*neulite.*stage"
    with pytest.raises(ScenarioError, match=message):
        assemble(waves("workload.model=resnet18"))
    assert assemble(tiny("model=lenet", "workload.model=logistic")).charged.name == "logistic"


def test_a_width_that_acts_on_nothing_is_refused():
    with pytest.raises(ScenarioError, match=r"proxy\.width: 0\.5 leaves logistic as it is"):
        assemble(tiny("proxy.width=0.5"))


@pytest.mark.parametrize(
    ("model", "workload", "message"),
    [
        (
            "logistic",
            "logistic",
            "model: method heterofl trains logistic at several widths, but no width makes it thinner",
        ),
        ("lenet", "logistic", "workload.model: method heterofl trains logistic at several widths"),
        ("logistic", "lenet", "model: method heterofl trains logistic at several widths"),
    ],
)
def test_a_model_that_no_width_makes_thinner_is_refused_for_methods_of_several_widths(model, workload, message):
    with pytest.raises(ScenarioError) as refused:
        assemble(tiny("method=heterofl", f"model={model}", f"workload.model={workload}"))
    assert [str(problem).startswith(f"--set: {message}") for problem in refused.value.problems] == [True]


def test_recalibration_of_a_model_without_batch_norm_is_refused():
    with pytest.raises(
        ScenarioError, match=r"evaluation\.batch_norm: recalibrated acts on BatchNorm .* logistic has no"
    ):
        assemble(tiny("evaluation.batch_norm=recalibrated"))


def test_an_image_size_that_the_dataset_does_not_have_is_refused():
    data = "data={kind: synthetic, shape: [1, 6, 6], samples: 60, test_samples: 20}"
    with pytest.raises(ScenarioError, match=r"proxy\.image_size: synthetic has no image_size.*data\.shape"):
        assemble(tiny(data, "proxy.image_size=4"))
