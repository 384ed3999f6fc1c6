"""Every registered method keeps the contract, and the check finds what breaks it."""

from dataclasses import replace
from fractions import Fraction
from typing import ClassVar

import pytest
import torch
from slow_cases import some_slow

from neulite_sim.errors import ScenarioError
from neulite_sim.methods.aggregation import merged
from neulite_sim.methods.conformance import check_method
from neulite_sim.methods.contract import Denial, Offers, State
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.models.contract import Blueprint
from neulite_sim.registry import component, names
from neulite_sim.samples import InputSpec

VARIANTS = [
    ("fedavg", {"proximal_mu": 0.1}),
    ("fedavg", {"memory_limit": False}),
    ("progfed", {"warmup_rounds": 1, "weighting": "uniform"}),
    ("profl", {"distillation_rounds": 0, "convergence": {"max_rounds": 1}}),
    ("profl", {"shrinking_rounds": 1, "growing_rounds": 1, "bn_frozen": "train"}),
    ("depthfl", {"feddyn_alpha": 0.1}),
    ("fedepth", {"link": "conv", "partial": False}),
    ("cocofl", {"choice": "most", "weighting": "samples"}),
    ("depthfl", {"extended": False, "classifier": "linear", "ensemble": "all"}),
    ("lora", {"aggregation": "flora", "ranks": (3, 2, 0)}),
    ("lora", {"aggregation": "hetlora", "ranks": (3, 2)}),
    ("lora", {"aggregation": "ffa", "head": "frozen", "base": "sent"}),
    ("lora", {"aggregation": "fedsa", "adapters": "convolutions"}),
    ("zeroth-order", {"steps": 2, "perturbations": 2, "differences": "forward"}),
    ("zeroth-order", {"pool": 8, "steps": 2, "noise": "rademacher"}),
    ("zo-warmup", {"warmup_rounds": 1}),
    ("zo-warmup", {"warmup_rounds": 1, "capable": "first-order"}),
]


TRANSFORMER = {"patch": 4, "dim": 8, "heads": 2, "depth": 3}


def blueprint(kind="lenet", **options):
    found = component("model", kind)
    if options:
        return Blueprint(architecture=found.build(found.options(**options)), input_shape=(1, 8, 8), num_classes=3)
    return Blueprint(architecture=found.build(found.options()), input_shape=(1, 8, 8), num_classes=3, width=0.25)


LONG = ("fedra", "slt", "federated-dropout")
"""Methods of many submodels, or of those that take long to profile."""


@pytest.mark.parametrize("kind", some_slow(names("method"), lambda kind: kind in LONG))
def test_every_registered_method_keeps_the_contract(kind):
    # It leaves out whole layers, which lenet has none of.
    model = blueprint("vit", **TRANSFORMER) if kind == "fedra" else blueprint()
    check_method(component("method", kind), model)


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_options_keep_the_contract(kind, options):
    found = component("method", kind)
    check_method(found, blueprint(), found.options(**options))


OF_IMAGES = ("slt",)
"""What has no language models, and says so."""
OWN_OPTIONS = {"depthfl": {"classifier": "linear"}, "profl": {"shrinking_rounds": 1, "growing_rounds": 1}}


def language(*, tied):
    spec = InputSpec(shape=(8,), vocabulary=13, num_classes=13, target_shape=(8,), predicts_tokens=True)
    found = component("model", "gpt")
    options = found.options(dim=8, heads=2, depth=2, vocabulary=13, tied=tied)
    return Blueprint(architecture=found.build(options), spec=spec, name="gpt")


@pytest.mark.parametrize("kind", some_slow(names("method"), lambda kind: kind in ("fedra", "federated-dropout")))
def test_methods_keep_the_contract_on_a_model_whose_head_reads_the_embedding(kind):
    found = component("method", kind)
    options = found.options(**OWN_OPTIONS.get(kind, {}))
    if kind in OF_IMAGES:
        with pytest.raises(ScenarioError, match="a layer that is no plain convolution"):
            check_method(found, language(tied=True), options)
        return
    check_method(found, language(tied=True), options)


class Forgetful(FedAvg):
    def offers(self, state, ledger, candidates):
        proposal = super().offers(state, ledger, candidates)
        return replace(proposal, denials=())


class Generous(FedAvg):
    def offers(self, state, ledger, candidates):
        proposal = super().offers(state, ledger, candidates)
        everyone = Offers(
            devices=candidates,
            submodel_index=candidates.astype("int16") * 0,
            submodels=("full",),
            expected_s=candidates * 0.0 + 1.0,
        )
        return replace(proposal, offers=everyone, denials=())


class Wordless(FedAvg):
    def offers(self, state, ledger, candidates):
        proposal = super().offers(state, ledger, candidates)
        return replace(proposal, denials=tuple(Denial(reason="", devices=d.devices) for d in proposal.denials))


class InPlace(FedAvg):
    def digest(self, state, updates):
        after = super().digest(state, updates)
        for name, tensor in state.tensors.items():
            tensor.copy_(after.tensors[name])
        return after


class Restless(FedAvg):
    def digest(self, state, updates):
        after = super().digest(state, updates)
        return State(version=after.version, tensors={name: tensor * 2 for name, tensor in after.tensors.items()})


class Deaf(FedAvg):
    def digest(self, state, updates):
        return State(version=state.version + 1, tensors=merged(state.tensors, {}))


class Timeless(FedAvg):
    def digest(self, state, updates):
        return replace(super().digest(state, updates), version=0)


class Stingy(FedAvg):
    def payload(self, state, submodel):
        return {name: tensor for name, tensor in state.tensors.items() if not name.startswith("head.fc3")}


class Silent(FedAvg):
    def trainee(self, submodel, blueprint):
        trainee = super().trainee(submodel, blueprint)
        trainee.squared_loss = lambda logits, labels: {}
        return trainee


class Careless(FedAvg):
    def evaluation_tensors(self, state):
        return {**state.tensors, "extra": torch.zeros(1)}


class Drifting(FedAvg):
    def offers(self, state, ledger, candidates):
        return replace(super().offers(state, ledger, candidates), stage=f"after {state.extra or 0} digests")

    def digest(self, state, updates):
        return replace(super().digest(state, updates), extra=(state.extra or 0) + 1)


class Standing(FedAvg):
    def follow(self, state, progress):
        return state


class Moody(FedAvg):
    def start(self, blueprint, seed, ledger):
        return super().start(blueprint, int(torch.randint(1000, ())), ledger)


class LateDrift(FedAvg):
    """Its stage changes with the seventh digest, which no journal tells."""

    def offers(self, state, ledger, candidates):
        stage = "late" if (state.extra or 0) > 6 else "early"
        return replace(super().offers(state, ledger, candidates), stage=stage)

    def digest(self, state, updates):
        return replace(super().digest(state, updates), extra=(state.extra or 0) + 1)


class Foreign(FedAvg):
    """Keeps a value of another package in its state."""

    def start(self, blueprint, seed, ledger):
        return replace(super().start(blueprint, seed, ledger), extra={"since": Fraction(1, 3)})


class Lossy(FedAvg):
    """Its state comes back as another value: the table of classes is not part of it."""

    seen: ClassVar[dict] = {}

    def start(self, blueprint, seed, ledger):
        state = super().start(blueprint, seed, ledger)
        self.seen[id(state.tensors)] = True
        return state

    def payload(self, state, submodel):
        known = id(state.tensors) in self.seen or state.version > 0
        return {name: tensor + (not known) for name, tensor in state.tensors.items()}


class Partial(FedAvg):
    """Calls a model with a frozen block the full one."""

    def trainee(self, submodel, blueprint):
        trainee = super().trainee(submodel, blueprint)
        for parameter in trainee.blocks[0].parameters():
            parameter.requires_grad_(False)
        return trainee


class Narrow(FedAvg):
    """Calls a thinner model the full one."""

    def trainee(self, submodel, blueprint):
        return super().trainee(submodel, blueprint.at_width(0.1))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (LateDrift, "round 6: a replay makes other offers; put what they depend on into progress and follow"),
        (
            Foreign,
            r"round 0: the state.extra\['since'\] is fractions.Fraction, which a checkpoint cannot keep; a state",
        ),
        (Lossy, r"round 0: a state read from a checkpoint sends other \['blocks.0.conv.weight'.* of full"),
        (Partial, r"full: \['blocks.0.conv.weight', .* are frozen, so it is not the full model; give the submodel"),
        (
            Narrow,
            r"full: is not the model of the blueprint \(blocks.0.conv.weight \(\d+, .*, not \(\d+, .*\); give the",
        ),
        (Forgetful, r"candidates \[0, 1, 2, 3, 4, 5, 6\] must each get one offer or one denial; offered \[2,"),
        (Generous, "device 0 is offered full, which does not fit"),
        (Wordless, r"devices \[0, 1\] are denied without a reason"),
        (InPlace, r"digest changed \['blocks.0.conv.weight'.*in the state it was given"),
        (Restless, "a digest of no update changed"),
        (Deaf, "the updates of 5 devices changed nothing"),
        (Timeless, "round 0: version 0 became 0"),
        (Stingy, r"full: payload lacks \['head.fc3.bias', 'head.fc3.weight'\]"),
        (Silent, r"full: loss reports \[\] without squared_loss"),
        (Careless, r"evaluation of 'full': lacks \[\] and has \['extra'\]"),
        (Drifting, "round 0: a replay makes other offers; put what they depend on into progress and follow"),
        (Standing, "round 0: follow went to version 0"),
        (Moody, "the same seed gave other values of"),
    ],
)
def test_a_broken_method_is_found_out(broken, message):
    found = component("method", "fedavg")
    faulty = replace(found, build=lambda options, setting: broken(memory_limit=True, weighting="uniform"))
    with pytest.raises(AssertionError, match=message):
        check_method(faulty, blueprint())
