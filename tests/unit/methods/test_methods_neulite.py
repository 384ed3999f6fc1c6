"""NeuLite: stages, what is frozen, hand-over, and every option that changes something."""

import pytest
import torch
from pydantic import ValidationError

from neulite_sim.methods.contract import Setting, Update
from neulite_sim.methods.neulite import NeuLite, NeuLiteOptions
from neulite_sim.models.contract import Blueprint
from neulite_sim.registry import component

T = 4


def blueprint(width=0.0625, shape=(1, 16, 16)):
    found = component("model", "resnet18")
    return Blueprint(architecture=found.build(found.options()), input_shape=shape, num_classes=10, width=width)


def neulite(**options) -> NeuLite:
    setting = Setting(num_blocks=T, num_devices=4, max_rounds=8, seed=3)
    return component("method", "neulite").build(NeuLiteOptions(**options), setting)


class EveryoneFits:
    """The part of a ledger that `offers` reads, for three devices with room for some submodels."""

    def __init__(self, *unfit):
        self.unfit = unfit

    def fits(self, submodel):
        return torch.tensor([submodel not in self.unfit] * 3).numpy()

    def fits_somebody(self, submodel):
        return submodel not in self.unfit

    def shortfall_bytes_of(self, submodel, devices):
        return self.shortfall_bytes(submodel)[devices]

    def shortfall_bytes(self, submodel):
        return torch.tensor([7, 7, 7]).numpy()

    def total_s(self, submodel, devices):
        return torch.ones(len(devices)).double().numpy()


def stages_of(method, rounds, ledger=None):
    state, seen = method.start(blueprint(), 0, EveryoneFits()), []
    for _ in range(rounds):
        proposal = method.offers(state, ledger or EveryoneFits(), torch.arange(3).numpy())
        seen.append(proposal.stage)
        state = method.digest(state, [trained(method, state, proposal.stage, 1.0)])
    return seen


def trained(method, state, submodel, amount, samples=1):
    names = method.trainee(submodel, blueprint()).upload_names()
    payload = method.payload(state, submodel)
    tensors = {name: payload[name] + amount for name in names}
    return Update(device=0, submodel=submodel, num_samples=samples, tensors=tensors, loss=0.0)


def test_stages_come_in_turn_one_per_round():
    assert stages_of(neulite(), 9) == [f"stage-{n}" for n in (1, 2, 3, 4, 1, 2, 3, 4, 1)]


def test_a_stage_that_no_device_fits_is_left_out_of_the_turn():
    assert stages_of(neulite(), 4, EveryoneFits("stage-1")) == ["stage-2", "stage-3", "stage-4", "stage-2"]


def test_stage_one_trains_all_of_its_model():
    trainee = neulite().trainee("stage-1", blueprint())
    assert all(parameter.requires_grad for parameter in trainee.parameters())


def test_a_later_stage_trains_its_block_the_tail_before_it_and_its_output_module():
    trainee = neulite().trainee("stage-3", blueprint())
    names = {name for name, parameter in trainee.named_parameters() if parameter.requires_grad}
    tail = {name for name in names if name.startswith("blocks.1.")}
    assert not any(name.startswith("blocks.0.") for name in names)
    assert all(parameter.requires_grad for parameter in trainee.blocks[2].parameters())
    assert all(parameter.requires_grad for parameter in trainee.outputs.parameters())
    assert sorted(name.rsplit(".", 2)[-2] for name in tail) == ["bn2", "bn2", "conv2"]
    without = neulite(coadaptation=False).trainee("stage-3", blueprint())
    assert not any(parameter.requires_grad for parameter in without.blocks[:2].parameters())


def test_frozen_batch_norm_stands_still_by_default_and_moves_in_train_mode():
    images, labels = torch.randn(4, 1, 16, 16), torch.tensor([0, 1, 2, 3])
    moved = {}
    for mode in ("eval", "train"):
        trainee = neulite(bn_frozen=mode).trainee("stage-2", blueprint())
        trainee.prepare()
        frozen = [name for name, _ in trainee.named_buffers() if name.startswith("blocks.0.") and "mean" in name]
        before = {name: dict(trainee.named_buffers())[name].clone() for name in frozen}
        trainee.loss(images, labels)
        after = dict(trainee.named_buffers())
        moved[mode] = {name for name in frozen if not torch.equal(before[name], after[name])}
    tail = {name for name in moved["train"] if "bn2" in name and name in moved["eval"]}
    assert moved["eval"] == tail
    assert len(moved["train"]) > len(moved["eval"]) == 1


def test_an_update_changes_only_what_its_stage_trains():
    method = neulite()
    state = method.start(blueprint(), 0, EveryoneFits())
    after = method.digest(state, [trained(method, state, "stage-2", 1.0)])
    changed = {name for name in state.tensors if not torch.equal(state.tensors[name], after.tensors[name])}
    names = set(method.trainee("stage-2", blueprint()).upload_names())
    assert changed == names
    assert not any(name.startswith(("outputs.1.", "outputs.3.", "blocks.2.")) for name in changed)


def test_what_one_stage_learned_of_a_shared_block_reaches_the_next():
    method = neulite()
    state = method.start(blueprint(), 0, EveryoneFits())
    after = method.digest(state, [trained(method, state, "stage-1", 1.0)])
    name = next(name for name in after.tensors if name.startswith("blocks.0."))
    assert torch.equal(method.payload(after, "stage-2")[name], state.tensors[name] + 1.0)


def test_the_global_model_is_the_pool_with_the_head_of_the_last_stage():
    method = neulite()
    state = method.start(blueprint(), 0, EveryoneFits())
    tensors = method.evaluation_tensors(state)
    model = blueprint().build()
    wanted = {name for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    assert tensors.keys() == wanted
    head = next(name for name in wanted if name.startswith("head."))
    assert torch.equal(tensors[head], state.tensors[head.replace("head.", "outputs.4.head.")])
    after = method.digest(state, [trained(method, state, "stage-1", 1.0)])
    assert torch.equal(method.evaluation_tensors(after)[head], tensors[head])


def test_aggregation_weighs_by_samples_or_alike():
    for weighting, expected in (("samples", 1.75), ("uniform", 1.5)):
        method = neulite(weighting=weighting)
        state = method.start(blueprint(), 0, EveryoneFits())
        updates = [
            trained(method, state, "stage-4", 1.0, samples=100),
            trained(method, state, "stage-4", 2.0, samples=300),
        ]
        after = method.digest(state, updates)
        name = next(name for name in updates[0].tensors if name.startswith("outputs.4.head"))
        difference = after.tensors[name] - state.tensors[name]
        torch.testing.assert_close(difference, torch.full_like(difference, expected))


def test_private_output_modules_differ_and_shared_ones_are_one():
    private, shared = neulite(), neulite(output_modules="shared")
    private_state, shared_state = (
        private.start(blueprint(), 0, EveryoneFits()),
        shared.start(blueprint(), 0, EveryoneFits()),
    )
    assert any(name.startswith("outputs.2.head") for name in private_state.tensors)
    assert not any(name.startswith("outputs.2.") for name in shared_state.tensors)
    after = shared.digest(shared_state, [trained(shared, shared_state, "stage-1", 1.0)])
    for stage in (1, 2, 3, 4):
        payload = shared.payload(after, f"stage-{stage}")
        head = next(name for name in payload if name.startswith(f"outputs.{stage}.head"))
        origin = shared.payload(shared_state, f"stage-{stage}")[head]
        assert torch.equal(payload[head], origin + 1.0)
    # The surrogate for block 3 is the second one of stage 1 and the first one of stage 2.
    first = shared.payload(after, "stage-1")["outputs.1.surrogates.1.conv.weight"]
    assert torch.equal(first, shared.payload(after, "stage-2")["outputs.2.surrogates.0.conv.weight"])


def test_without_coadaptation_a_stage_ends_in_a_pooled_linear_head():
    trainee = neulite(coadaptation=False, curriculum=False).trainee("stage-1", blueprint())
    output = trainee.outputs["1"]
    assert len(output.surrogates) == 0
    assert sum(p.numel() for p in output.parameters()) == 4 * 10 + 10


def test_shared_modules_without_coadaptation_are_refused():
    with pytest.raises(ValidationError, match="output_modules is 'shared' but coadaptation is false"):
        NeuLiteOptions(coadaptation=False, output_modules="shared")


def test_curriculum_weights_run_linearly_over_the_stages():
    method = neulite(lambda_x=(0.5, 0.05), lambda_y=(0.05, 0.5))
    weights = [method._plan(stage).curriculum for stage in range(1, T + 1)]
    assert [w.lambda_x for w in weights] == pytest.approx([0.5, 0.35, 0.2, 0.05])
    assert [w.lambda_y for w in weights] == pytest.approx([0.05, 0.2, 0.35, 0.5])


@pytest.mark.parametrize(
    "options",
    [{"curriculum": False}, {"lambda_x": (0.0, 0.0)}, {"lambda_y": (0.0, 0.0)}, {"nhsic": "nocco"}, {"sigma": 1.0},
     {"z_source": "module"}, {"mlp_operand": "x"}, {"mlp_operand": "both"}, {"mlp_relu": True},
     {"surrogate": "conv-bn-relu"}, {"coadaptation": False}],
)  # fmt: skip
def test_every_option_of_the_loss_changes_it(options):
    images = torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    losses = []
    for given in ({}, options):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            trainee = neulite(**given).trainee("stage-2", blueprint())
        trainee.prepare()
        losses.append(trainee.loss(images, labels)[0].item())
    assert losses[0] != losses[1]


def test_epsilon_acts_on_nocco():
    images, labels = torch.randn(6, 1, 16, 16), torch.tensor([0, 1, 2, 0, 1, 2])
    losses = []
    for epsilon in (1e-5, 1e-1):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            trainee = neulite(nhsic="nocco", epsilon=epsilon).trainee("stage-2", blueprint())
        trainee.prepare()
        losses.append(trainee.loss(images, labels)[0].item())
    assert losses[0] != losses[1]


def test_a_batch_of_one_class_trains_on_cross_entropy_alone_and_is_counted():
    trainee = neulite().trainee("stage-2", blueprint())
    trainee.prepare()
    loss, scalars = trainee.loss(torch.randn(4, 1, 16, 16), torch.tensor([3, 3, 3, 3]))
    loss.backward()
    assert scalars["num_skipped_terms"].item() == 1.0
    assert scalars["nhsic_y"].item() == 0.0
    assert all(torch.isfinite(p.grad).all() for p in trainee.parameters() if p.grad is not None)


def test_everything_is_sent_back_on_request():
    trained_only = neulite().trainee("stage-3", blueprint()).upload_names()
    everything = neulite(upload="all").trainee("stage-3", blueprint())
    assert set(trained_only) < set(everything.upload_names()) == {name for name, _ in everything.travelling()}


def test_the_sequential_schedule_freezes_a_block_when_it_has_converged():
    rule = {"window": 1, "evaluations": 2, "slope_threshold": 1.0, "max_rounds": 3}
    method = neulite(schedule="sequential", convergence=rule)
    # Every update has the same direction: EM is 1 in each round, so its slope is flat. Window 1 and two values take
    # three rounds, which is also the most a stage gets.
    assert stages_of(method, 10) == [f"stage-{n}" for n in (1, 1, 1, 2, 2, 2, 3, 3, 3, 4)]


def test_late_updates_of_a_frozen_block_do_not_bring_its_stage_back():
    """An asynchronous protocol hands over what left before the sequence moved on."""
    method = neulite(schedule="sequential", convergence={"window": 1, "evaluations": 2, "max_rounds": 3})
    state = method.start(blueprint(), 0, EveryoneFits())
    late = state

    def updated(sent, submodel, now):
        payload = dict(method.payload(sent, submodel))
        update = Update(device=0, submodel=submodel, num_samples=1, tensors=payload, loss=0.0, version=sent.version)
        return method.digest(now, [update])

    for _ in range(3):
        state = updated(state, "stage-1", state)
    assert method.progress(state) == {"sequence_stage": 2}
    after = updated(late, "stage-1", state)
    assert method.progress(after) == {"sequence_stage": 2}
    assert after.extra == state.extra


def test_the_same_seed_gives_the_same_start_and_another_seed_another():
    states = [neulite().start(blueprint(), seed, EveryoneFits()).tensors for seed in (0, 0, 1)]
    name = next(iter(states[0]))
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])
