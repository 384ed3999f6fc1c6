"""With a rate a the model goes a of the way that a round would have led it, whatever part of it an update carries.

Methods of which the updates carry less than the model (ranks, layers, slices, a part of the variables) have to move
what a round moves beside it, by as much.
"""

import pytest
import torch

from neulite_sim.engine.merging import WeighedUpdate, mixed, require_weighed
from neulite_sim.methods.conformance_fleet import NUM_DEVICES, ledger_of, settled
from neulite_sim.methods.contract import Setting, Update
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.trainee import load_tensors
from neulite_sim.registry import component, names
from neulite_sim.timeline.endings import Mixing

VARIANTS = [
    *((kind, {}) for kind in names("method")),
    ("lora", {"aggregation": "hetlora", "ranks": (3, 2, 1, 0)}),
    ("lora", {"aggregation": "hetlora", "ranks": (3, 1), "weighting": "uniform"}),
    ("lora", {"aggregation": "ffa"}),
    ("cocofl", {"choice": "most", "weighting": "samples"}),
    ("slt", {"averaged_over": "holders"}),
    ("profl", {"shrinking_rounds": 1, "growing_rounds": 1, "bn_frozen": "train"}),
    ("fedepth", {"link": "conv", "partial": False}),
    ("depthfl", {"extended": False, "classifier": "linear", "ensemble": "all"}),
]
OF_THE_LATEST = {"zeroth-order", "zo-warmup"}
"""What comes of their updates depends on the version, and asynchronous protocols are refused."""


def blueprint(kind):
    chosen, options = ("vit", {"patch": 4, "dim": 8, "heads": 2, "depth": 3}) if kind == "fedra" else ("lenet", {})
    found = component("model", chosen)
    width = 1.0 if options else 0.25
    return Blueprint(
        architecture=found.build(found.options(**options)), input_shape=(1, 8, 8), num_classes=3, width=width
    )


class Bench:
    """A method, its state after a round of all submodels, and updates of that state."""

    def __init__(self, kind, options):
        model = blueprint(kind)
        found = component("method", kind)
        built = model.build_meta()
        setting = Setting(
            num_blocks=built.num_blocks,
            num_layers=tuple(map(len, built.layers)),
            num_devices=NUM_DEVICES,
            max_rounds=4,
            seed=1,
        )
        self.method = settled(found.build(found.options(**options), setting), model)
        self.model = model
        state = self.method.start(model, 1, ledger_of(self.method, model))
        # Of the widths of allsmall the state holds the one that all devices train.
        self.submodels = (state.extra,) if kind == "allsmall" else self.method.submodels
        self.random = torch.Generator().manual_seed(1)
        self.state = self.method.digest(state, iter(self.updates(state, self.submodels)))

    def updates(self, state, submodels):
        return [self._update(state, number % NUM_DEVICES, name) for number, name in enumerate(submodels)]

    def _update(self, state, device, submodel):
        trainee, method = self.method.trainee(submodel, self.model), self.method
        sent = {**method.payload(state, submodel), **method.personal_payload(state, device, submodel)}
        load_tensors(trainee, sent)
        own = trainee.state_dict()
        moved = {name: own[name] + 0.1 * torch.rand(own[name].shape, generator=self.random)
                 for name in trainee.upload_names()}  # fmt: skip
        return Update(
            device=device,
            submodel=submodel,
            num_samples=2 + device,
            tensors=moved,
            loss=1.0,
            classes=tuple(range(self.model.num_classes)),
            version=state.version,
        )

    def after(self, updates, rate=None, anchor="current"):
        mixing = None if rate is None else Mixing(rate=rate, anchor=anchor)
        moved = (mixed(self.method, self.state, self.state, update, mixing) for update in updates)
        return self.method.digest(self.state, moved).tensors

    def strays(self, updates, rate, anchor):
        """Return what is not where a part of the way that a round leads would have brought it."""
        whole, part = self.after(updates), self.after(updates, rate, anchor)
        way = {name: old + rate * (whole[name] - old) for name, old in self.state.tensors.items()}
        return [name for name, wanted in way.items() if not torch.allclose(part[name], wanted, rtol=1e-4, atol=1e-6)]


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_with_a_rate_every_tensor_goes_that_part_of_the_way_of_a_round(kind, options):
    bench = Bench(kind, options)
    if bench.method.needs_current_version:
        assert kind in OF_THE_LATEST
        return
    every = bench.submodels
    for submodels in (*((name,) for name in every), every, every[-2:]):
        updates = bench.updates(bench.state, submodels)
        assert bench.after(updates).keys() == bench.state.tensors.keys()
        for rate, anchor in ((0.3, "current"), (0.3, "own"), (1e-6, "own"), (1.0, "current")):
            assert not bench.strays(updates, rate, anchor), (submodels, rate, anchor)


@pytest.mark.parametrize(("kind", "options"), VARIANTS)
def test_an_update_that_weighs_half_counts_as_though_each_of_the_others_came_twice(kind, options):
    bench = Bench(kind, options)
    if bench.method.needs_current_version:
        return
    for submodels in ((bench.submodels[0],) * 2, (*bench.submodels, bench.submodels[-1])):
        half, *others = bench.updates(bench.state, submodels)
        mixing = [Mixing(rate=0.5, anchor="own", weight=weight) for weight in (0.5, *[1.0] * len(others))]
        updates = [mixed(bench.method, bench.state, bench.state, update, each)
                   for update, each in zip((half, *others), mixing, strict=True)]  # fmt: skip
        found = bench.method.digest(bench.state, iter(updates)).tensors
        require_weighed(kind, [update for update in updates if isinstance(update, WeighedUpdate)])
        expected = bench.after([half, *others, *others], 0.5, "own")
        for name, tensor in expected.items():
            torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-6)
