"""The laws of the method contract as assertions, for tests of any method, in this package or in another.

In a test of yours, with a model small enough for it:

    from neulite_sim.methods.conformance import check_method
    from neulite_sim.models.contract import Blueprint
    from neulite_sim.models.lenet import lenet

    check_method(COMPONENT, Blueprint(architecture=lenet, input_shape=(1, 8, 8), num_classes=3))

It builds the method, profiles its submodels, puts them on a fleet of seven devices from one that fits nothing to one
that fits everything, and goes through a few rounds with made-up updates: each state is packed and unpacked as a
checkpoint has it, and replayed from what the journal keeps of it. Nothing is trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neulite_sim.arrays import Integers
from neulite_sim.contracts import held_to
from neulite_sim.errors import SimulationError
from neulite_sim.methods.conformance_fleet import BATCH_SIZE, NUM_DEVICES, ledger_of, settled
from neulite_sim.methods.contract import FoldOrder, Method, Offers, Proposal, Setting, State, Update
from neulite_sim.methods.finite import unsound
from neulite_sim.methods.folding import Fold, weighting_of
from neulite_sim.methods.state_files import Packing, packages_of, unpack
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.names import FULL
from neulite_sim.models.noise import noise, taking_turns
from neulite_sim.models.trainee import Trainee, load_tensors
from neulite_sim.profiling.ledger import Ledger
from neulite_sim.registry import Component, Options
from neulite_sim.turns import my_turn

NUM_ROUNDS = 4
NUM_REPLAYED = 8
"""Rounds after these, of one update each, that are only replayed: what a method forgets may show late."""
SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """A method with everything that the engine would give it."""

    method: Method
    blueprint: Blueprint
    ledger: Ledger
    candidates: Integers
    trainees: Mapping[str, Trainee]
    """One per submodel, refilled for each device, as workers do."""


@held_to("neulite_sim.methods.contract.Method")
@my_turn()
def check_method(component: Component, blueprint: Blueprint, options: Options | None = None) -> None:
    """Check that a method keeps the contract on models of `blueprint`; `options` default to the component's own.

    Raises:
        AssertionError: the first law that is broken, with the submodel, the device or the tensors it is about.
    """
    model = blueprint.build_meta()
    setting = Setting(
        num_blocks=model.num_blocks,
        num_layers=tuple(map(len, model.layers)),
        num_devices=NUM_DEVICES,
        max_rounds=NUM_ROUNDS,
        seed=SEED,
    )
    method: Method = component.build(component.options() if options is None else options, setting)
    assert method.submodels, "submodels: a method must name at least one before it has settled them"
    method = settled(method, blueprint)
    assert method.submodels, "submodels: a method must name at least one"
    assert len(set(method.submodels)) == len(method.submodels), f"submodels: {method.submodels} has a name twice"
    ledger = ledger_of(method, blueprint)
    bench = _Bench(
        method=method,
        blueprint=blueprint,
        ledger=ledger,
        candidates=np.arange(NUM_DEVICES),
        trainees={submodel: method.trainee(submodel, blueprint) for submodel in method.submodels},
    )
    _check_full(bench)
    _check_start(bench)
    state = method.start(blueprint, SEED, ledger)
    _check_tested(bench, state)
    for submodel in method.submodels:
        _check_names(bench, submodel)
        _check_loss(bench, submodel)
    replayed = state
    for number in range(NUM_ROUNDS):
        for candidates in (bench.candidates, bench.candidates[::2], bench.candidates[:0]):
            _check_offers(bench, method.offers(state, ledger, candidates), candidates)
        state = _check_round(bench, state, number)
        replayed = _followed(bench, replayed, state, number)
    for number in range(NUM_ROUNDS, NUM_ROUNDS + NUM_REPLAYED):
        offers = method.offers(state, ledger, bench.candidates).offers
        state = method.digest(state, _once([_update(bench, state, offers, number % len(offers))]))
        replayed = _followed(bench, replayed, state, number)


def _check_start(bench: _Bench) -> None:
    """Check that equal seeds give equal states, of floating-point tensors alone."""
    one, same = (bench.method.start(bench.blueprint, SEED, bench.ledger) for _ in range(2))
    assert one.version == 0, f"start: version must be 0, is {one.version}"
    integers = [name for name, tensor in one.tensors.items() if not tensor.is_floating_point()]
    assert not integers, f"start: {integers[:3]} are not floating-point; leave batch counters out (float_tensors)"
    changed = _changed(one.tensors, same.tensors)
    assert not changed, f"start: the same seed gave other values of {changed[:3]}"


def _check_full(bench: _Bench) -> None:
    """Check that what goes by the name of the full model is the full model: it is profiled where the wall stands."""
    if FULL not in bench.method.submodels:
        return
    trainee = bench.trainees[FULL]
    own = {name: tuple(tensor.shape) for name, tensor in trainee.state_dict().items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in bench.blueprint.build_meta().state_dict().items()}
    wrong = [f"{name} {own.get(name, 'is missing')}, not {shape}" for name, shape in wanted.items()
             if own.get(name) != shape]  # fmt: skip
    assert not wrong, f"{FULL}: is not the model of the blueprint ({wrong[0]}); give the submodel another name"
    frozen = [name for name, parameter in trainee.named_parameters() if name in wanted and not parameter.requires_grad]
    assert not frozen, f"{FULL}: {frozen[:3]} are frozen, so it is not the full model; give the submodel another name"


def _check_names(bench: _Bench, submodel: str) -> None:
    """Check that what is uploaded is part of what travels, and that something is trained."""
    trainee = bench.trainees[submodel]
    travelling = [name for name, _ in trainee.travelling()]
    unknown = sorted(set(trainee.upload_names()) - set(travelling))
    assert not unknown, f"{submodel}: uploads {unknown[:3]}, which are not among its travelling tensors"
    assert trainee.upload_names(), f"{submodel}: uploads nothing, so nothing can be learned from it"
    assert any(p.requires_grad for p in trainee.parameters()), f"{submodel}: no parameter is trainable"


def _check_loss(bench: _Bench, submodel: str) -> None:
    """Check that a batch has a loss to minimise, and that selectors are told the squared loss when they ask for it."""
    trainee = bench.trainees[submodel]
    spec = bench.blueprint.spec
    inputs = noise(spec, BATCH_SIZE, generator=torch.Generator().manual_seed(SEED))
    labels_B = taking_turns(spec, BATCH_SIZE, num_classes=spec.num_classes)
    trainee.reports_squared_loss = True
    trainee.see_labels(labels_B)
    trainee.prepare()
    loss, scalars = trainee.loss(inputs, labels_B)
    assert loss.shape == (), f"{submodel}: the loss must be one number, has shape {tuple(loss.shape)}"
    assert loss.isfinite(), f"{submodel}: the loss of a random batch is {loss.item()}"
    assert loss.requires_grad, f"{submodel}: the loss has no gradient"
    assert "squared_loss" in scalars, (
        f"{submodel}: loss reports {sorted(scalars)} without squared_loss; add those of Trainee.squared_loss"
    )


def _check_offers(bench: _Bench, proposal: Proposal, candidates: Integers) -> None:
    """Check that every candidate is offered work or denied it once, and nobody is offered what does not fit."""
    offers, denied = proposal.offers, [int(d) for denial in proposal.denials for d in denial.devices]
    answered = sorted([*map(int, offers.devices), *denied])
    assert answered == [int(d) for d in candidates], (
        f"offers: candidates {candidates.tolist()} must each get one offer or one denial; offered "
        f"{offers.devices.tolist()}, denied {sorted(denied)}"
    )
    assert (np.diff(offers.devices) > 0).all(), f"offers: devices must ascend, are {offers.devices.tolist()}"
    assert proposal.stage, "offers: the stage must have a name"
    for position in range(len(offers)):
        _check_offer(bench, offers, position)
    for denial in proposal.denials:
        assert denial.reason, f"offers: devices {denial.devices.tolist()} are denied without a reason"
        missing = denial.shortfall_bytes
        assert missing is None or (len(missing) == len(denial.devices) and (missing > 0).all()), (
            f"offers: shortfalls {missing} of devices {denial.devices.tolist()} must be positive, one per device"
        )


def _check_offer(bench: _Bench, offers: Offers, position: int) -> None:
    offer = offers[position]
    assert offer.submodel in bench.method.submodels, (
        f"offers: {offer.submodel!r} is not among the method's submodels {bench.method.submodels}"
    )
    assert math.isfinite(offer.expected_s), f"offers: device {offer.device} is expected in {offer.expected_s} s"
    assert offer.expected_s > 0, f"offers: device {offer.device} is expected in {offer.expected_s} s"
    if bench.method.enforces_memory:
        fits = bool(bench.ledger.fits(offer.submodel)[offer.device])
        assert fits, f"offers: device {offer.device} is offered {offer.submodel}, which does not fit its memory"


def _check_round(bench: _Bench, state: State, number: int) -> State:
    """Check payloads and digests of one round, and return the state after it."""
    method = bench.method
    before = {name: tensor.clone() for name, tensor in state.tensors.items()}
    offers = method.offers(state, bench.ledger, bench.candidates).offers
    assert len(offers), f"round {number}: no device of the bench is offered work, though one has room for everything"
    updates = [_update(bench, state, offers, position) for position in range(len(offers))]
    nothing = method.digest(state, iter(()))
    changed = _changed(before, nothing.tensors)
    assert not changed, f"round {number}: a digest of no update changed {changed[:3]}"
    after = method.digest(state, _once(updates))
    assert after.version == state.version + 1, f"round {number}: version {state.version} became {after.version}"
    _check_same_shapes(before, after.tensors, f"round {number}: digest")
    spoilt = unsound(after.tensors)
    assert spoilt is None, f"round {number}: digest made numbers that are not finite of updates that were, in {spoilt}"
    mutated = _changed(before, state.tensors)
    assert not mutated, f"round {number}: digest changed {mutated[:3]} in the state it was given"
    assert _changed(before, after.tensors), f"round {number}: the updates of {len(updates)} devices changed nothing"
    again = _changed(after.tensors, method.digest(state, _once(updates)).tensors)
    assert not again, f"round {number}: the same digest gave other values of {again[:3]}"
    _check_kept(bench, state, after, updates, number)
    _check_folded(bench, state, after, updates, number)
    _check_tested(bench, after)
    return after


def _check_kept(bench: _Bench, state: State, after: State, updates: list[Update], number: int) -> None:
    """Check that a state that was packed and unpacked makes the same offers, payloads and next state."""
    method, packages = bench.method, packages_of(bench.method)
    packing = Packing(packages)
    try:
        kept = unpack(json.loads(json.dumps(packing.pack(state, "the state"))), packing.tensors, packages=packages)
    except SimulationError as error:
        raise AssertionError(f"round {number}: {error}") from error
    assert _is_same_proposal(bench, state, kept), f"round {number}: a state read from a checkpoint makes other offers"
    for submodel in method.submodels:
        changed = _changed(method.payload(state, submodel), method.payload(kept, submodel))
        assert not changed, f"round {number}: a state read from a checkpoint sends other {changed[:3]} of {submodel}"
    changed = _changed(after.tensors, method.digest(kept, _once(updates)).tensors)
    assert not changed, f"round {number}: a state read from a checkpoint digests to other values of {changed[:3]}"


def _check_folded(bench: _Bench, state: State, after: State, updates: list[Update], number: int) -> None:
    """Check that a method that folds comes to the same from means as from the updates, but for the rounding."""
    weighting = weighting_of(bench.method)
    if weighting is None:
        return
    fold = Fold(FoldOrder(number=0, weighting=weighting, most_weight=sum(round(u.weight(weighting)) for u in updates)))
    for update in updates:
        fold.add(update)
    found = bench.method.digest(state, iter(fold.updates())).tensors
    _check_same_shapes(after.tensors, found, f"round {number}: digest of folded updates")
    apart = [
        name
        for name, tensor in after.tensors.items()
        if not torch.allclose(found[name], tensor, rtol=1e-4, atol=1e-6 * max(1.0, float(tensor.abs().max())))
    ]
    assert not apart, (
        f"round {number}: folds_by is {weighting}, but the digest of the means gives other values of {apart[:3]}; "
        "weigh updates by Update.weight, or leave folds_by None"
    )


def _followed(bench: _Bench, replayed: State, after: State, number: int) -> State:
    """Return the next state of a replay, which has no updates: at the same version it makes the same offers."""
    method = bench.method
    followed = method.follow(replayed, json.loads(json.dumps(dict(method.progress(after)))))
    assert followed.version == after.version, f"round {number}: follow went to version {followed.version}"
    same = _is_same_proposal(bench, after, followed)
    assert same, f"round {number}: a replay makes other offers; put what they depend on into progress and follow"
    return followed


def _is_same_proposal(bench: _Bench, one: State, other: State) -> bool:
    wanted, found = (bench.method.offers(item, bench.ledger, bench.candidates) for item in (one, other))
    return (
        wanted.stage == found.stage
        and wanted.offers.submodels == found.offers.submodels
        and all(
            np.array_equal(getattr(wanted.offers, name), getattr(found.offers, name))
            for name in ("devices", "submodel_index", "expected_s")
        )
        and all(_owed(bench, one, submodel) == _owed(bench, other, submodel) for submodel in bench.method.submodels)
    )


def _owed(bench: _Bench, state: State, submodel: str) -> list[int] | None:
    """Return what each device downloads beyond a submodel's bytes; None where that is nothing."""
    owed = bench.method.owed_bytes(state, bench.candidates, [submodel] * len(bench.candidates))
    assert owed is None or (len(owed) == len(bench.candidates) and (owed >= 0).all()), (
        f"{submodel}: owed_bytes is {owed}; it must be a number of bytes for each of the devices asked for"
    )
    return None if owed is None else [int(each) for each in owed]


def _once(updates: list[Update]) -> Iterator[Update]:
    yield from updates


def _update(bench: _Bench, state: State, offers: Offers, position: int) -> Update:
    """Load a device's payload into its trainee and return a made-up update: every weight a little off."""
    offer = offers[position]
    trainee = bench.trainees[offer.submodel]
    payload = bench.method.payload(state, offer.submodel)
    personal = bench.method.personal_payload(state, offer.device, offer.submodel)
    _check_payload(trainee, payload, personal, offer.submodel)
    load_tensors(trainee, {**payload, **personal})
    own = trainee.state_dict()
    return Update(
        device=offer.device,
        submodel=offer.submodel,
        num_samples=1 + offer.device,
        tensors={name: own[name] + 0.01 * (1 + offer.device) for name in trainee.upload_names()},
        loss=1.0,
        classes=tuple(range(bench.blueprint.num_classes)),
        version=state.version,
    )


def _check_payload(
    trainee: Trainee, payload: Mapping[str, Tensor], personal: Mapping[str, Tensor], submodel: str
) -> None:
    """Check that what a device is sent fills its trainee, and that the payload is charged as a download."""
    own = {name: tensor for name, tensor in trainee.state_dict().items() if tensor.is_floating_point()}
    sent = {**payload, **personal}
    assert own.keys() == sent.keys(), (
        f"{submodel}: payload lacks {sorted(own.keys() - sent.keys())[:3]} and has "
        f"{sorted(sent.keys() - own.keys())[:3]} that the trainee does not know"
    )
    charged = {name for name, _ in trainee.travelling()}
    uncharged = sorted(payload.keys() - charged)
    assert not uncharged, f"{submodel}: {uncharged[:3]} are in every payload but not among the travelling tensors"
    _check_same_shapes(own, sent, f"{submodel}: payload")


def _check_tested(bench: _Bench, state: State) -> None:
    """Check that the tensors that are tested are those of the module that is tested, and that it gives logits."""
    name, spec = bench.method.evaluated(state), bench.blueprint.spec
    model = bench.method.evaluation_model(name, bench.blueprint)
    own = {key: tensor for key, tensor in model.state_dict().items() if tensor.is_floating_point()}
    tested = bench.method.evaluation_tensors(state)
    assert own.keys() == tested.keys(), (
        f"evaluation of {name!r}: lacks {sorted(own.keys() - tested.keys())[:3]} and has "
        f"{sorted(tested.keys() - own.keys())[:3]} that the model does not know"
    )
    _check_same_shapes(own, tested, f"evaluation of {name!r}")
    load_tensors(model, tested)
    model.eval()
    with torch.no_grad():
        logits_BK = model(noise(spec, 2, generator=torch.Generator().manual_seed(SEED)))
    wanted = (2, spec.num_classes, *spec.target_shape)
    assert tuple(logits_BK.shape) == wanted, (
        f"evaluation of {name!r}: logits of two samples must be {wanted}, are {tuple(logits_BK.shape)}"
    )


def _check_same_shapes(before: Mapping[str, Tensor], after: Mapping[str, Tensor], where: str) -> None:
    assert before.keys() == after.keys(), f"{where}: names differ: {sorted(before.keys() ^ after.keys())[:3]}"
    for name, tensor in before.items():
        now = after[name]
        assert tensor.shape == now.shape, f"{where}: {name} was {tuple(tensor.shape)}, is {tuple(now.shape)}"
        assert tensor.dtype == now.dtype, f"{where}: {name} was {tensor.dtype}, is {now.dtype}"


def _changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Return the names whose values differ, or that only one of the two has."""
    return [
        *sorted(before.keys() ^ after.keys()),
        *(name for name, tensor in before.items() if name in after and not torch.equal(tensor, after[name])),
    ]
