"""The laws of the architecture contract as assertions, for tests of any architecture, in this package or in another.

In a test of yours:

    from neulite_sim.models.conformance import check_architecture
    check_architecture(COMPONENT.build(COMPONENT.options()))

and of one that reads something else than images:

    check_architecture(architecture, spec=InputSpec(shape=(20,), vocabulary=50, num_classes=2))
"""

from __future__ import annotations

import pickle

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from neulite_sim.contracts import held_to
from neulite_sim.models.contract import Architecture, BlockModel, Blueprint
from neulite_sim.models.kernel_guard import KernelGuard
from neulite_sim.models.noise import noise
from neulite_sim.models.output import OutputModule
from neulite_sim.samples import ImageShape, InputSpec
from neulite_sim.turns import my_turn

BATCH = 3
TOLERANCE = 1e-4
"""Between samples alone and together: float32 sums in another order."""


@held_to("neulite_sim.models.contract")
@my_turn()
def check_architecture(
    architecture: Architecture,
    *,
    input_shape: ImageShape = (3, 32, 32),
    num_classes: int = 10,
    width: float = 0.125,
    spec: InputSpec | None = None,
    is_seeded: bool = True,
) -> None:
    """Pass where `architecture` keeps the contract of `neulite_sim.models.contract`, at the given sizes.

    Samples are those of `spec` where it is given, else images of `input_shape` and `num_classes`. The model is trained
    for one step at `width` and built without memory at width 1. PyTorch's global generator is left as it was. One that
    is not `is_seeded` starts from the same weights whatever the seed.

    Raises:
        AssertionError: the first law that is broken, with what was found.
    """
    spec = spec or InputSpec(shape=input_shape, num_classes=num_classes)
    blueprint = Blueprint(architecture=architecture, spec=spec, width=width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = blueprint.build()
        assert isinstance(model, BlockModel), f"the architecture must return a BlockModel, it returns {type(model)}"
        _check_names(model)
        _check_shapes(model, spec)
        _check_stages(model, noise(spec, BATCH))
        _check_samples_apart(model, noise(spec, BATCH))
    _check_seeds(blueprint, is_seeded=is_seeded)
    _check_widths(blueprint)
    _check_without_memory(blueprint)


def _check_names(model: BlockModel) -> None:
    assert model.num_blocks >= 1, "blocks: there must be at least one"
    strangers = [name for name in model.state_dict() if not name.startswith(("blocks.", "head."))]
    assert not strangers, f"parameters and buffers must be named blocks.… or head.…, found {strangers[:3]}"
    assert len(model.tails) == len(model.block_shapes) == model.num_blocks, (
        f"tails and block_shapes: one per block is {model.num_blocks}, "
        f"found {len(model.tails)} and {len(model.block_shapes)}"
    )
    for index, (block, paths) in enumerate(zip(model.blocks, model.tails, strict=True)):
        known = dict(block.named_modules())
        missing = [path for path in paths if path not in known]
        assert not missing, f"tails[{index}]: block {index} has no module {missing}"
        empty = [path for path in paths if not any(True for _ in known[path].parameters())]
        assert not empty, f"tails[{index}]: {empty} of block {index} has no parameter"
    _check_layers(model)


def _check_layers(model: BlockModel) -> None:
    assert len(model.layers) == model.num_blocks, (
        f"layers: one entry per block is {model.num_blocks}, found {len(model.layers)}"
    )
    for index, (block, layers, tail) in enumerate(zip(model.blocks, model.layers, model.tails, strict=True)):
        assert not tail or layers[-1:] == (tail,), (
            f"layers[{index}]: the last must be the tail {tail}, is {layers[-1:]}"
        )
        known = dict(block.named_modules())
        paths = [path for layer in layers for path in layer]
        missing = [path for path in paths if path not in known]
        assert not missing, f"layers[{index}]: block {index} has no module {missing}"
        held = [id(parameter) for path in paths for parameter in known[path].parameters()]
        assert len(held) == len(set(held)), f"layers[{index}]: a parameter of block {index} is in two layers"
        empty = [layer for layer in layers if not any(True for path in layer for _ in known[path].parameters())]
        assert not empty, f"layers[{index}]: {empty} of block {index} has no parameter"
        whole = len({id(parameter) for parameter in block.parameters()})
        assert len(layers) < 2 or len(held) == whole, (
            f"layers[{index}]: block {index} has {whole} parameters, its layers hold {len(held)} of them"
        )


def _check_shapes(model: BlockModel, spec: InputSpec) -> None:
    features = noise(spec, BATCH)
    for index, (block, stated) in enumerate(zip(model.blocks, model.block_shapes, strict=True)):
        before = features
        kept = before.clone()
        features = block(before)
        assert torch.equal(before, kept), f"block {index} changes its input in place"
        assert features.shape == (BATCH, *stated), (
            f"block_shapes[{index}]: states {stated}, block {index} puts out {tuple(features.shape[1:])}"
        )
    logits = model.head(features)
    wanted = (BATCH, spec.num_classes, *spec.target_shape)
    assert logits.shape == wanted, f"head: must put out {wanted}, {tuple(logits.shape)}"
    assert torch.isfinite(logits).all(), "head: logits of a fresh model are not finite"


def _check_stages(model: BlockModel, inputs: Tensor) -> None:
    """Each stage of NeuLite trains all it holds; the last one is the full model."""
    strange = [shape for shape in model.block_shapes if len(shape) != 3]
    assert not strange or model.num_blocks == 1 or model.basic_layer is not None, (
        f"basic_layer: must be given where maps are not (C, H, W), as {strange[0]} is not; stages of NeuLite need it"
    )
    for stage in range(1, model.num_blocks + 1):
        output = OutputModule(model, stage, projection=True)
        features = inputs
        for block in model.blocks[:stage]:
            features = block(features)
        logits, final_map = output(features)
        assert final_map.shape[1:] == model.block_shapes[-1], (
            f"stage {stage}: ends in a map of {tuple(final_map.shape[1:])}, the last block in {model.block_shapes[-1]}"
        )
        parts = nn.ModuleList([*model.blocks[:stage], output])
        parts.zero_grad()
        with KernelGuard():
            (logits.square().sum() + output.project(final_map).square().sum()).backward()
        untouched = [name for name, parameter in parts.named_parameters() if parameter.grad is None]
        assert not untouched, f"stage {stage}: no gradient reaches {untouched[:3]}"


def _check_samples_apart(model: BlockModel, inputs: Tensor) -> None:
    model.eval()
    with torch.no_grad():
        together, alone = model(inputs), torch.cat([model(sample[None]) for sample in inputs])
    difference = float((together - alone).abs().max())
    assert difference <= TOLERANCE * (1 + float(alone.abs().max())), (
        f"in evaluation a sample's logits must not depend on the others of its batch; they differ by {difference:g}"
    )


def _check_seeds(blueprint: Blueprint, *, is_seeded: bool) -> None:
    there = pickle.loads(pickle.dumps(blueprint))
    first, again, other = blueprint.build_seeded(7), there.build_seeded(7), blueprint.build_seeded(8)
    ours, theirs, others = (model.state_dict() for model in (first, again, other))
    assert list(ours) == list(theirs), "names: a pickled blueprint builds a model with other names"
    differing = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not differing, f"initial weights must depend on the seed alone; {differing[:3]} differ from build to build"
    depends = any(not torch.equal(ours[name], others[name]) for name in ours)
    assert depends == is_seeded, f"initial weights {'' if depends else 'do not '}depend on the seed"


def _check_widths(blueprint: Blueprint) -> None:
    """Compare two widths: the wider model holds tensors of the same names, none of them smaller."""
    thin, wide = (blueprint.at_width(width).build_meta().state_dict() for width in (blueprint.width, 1.0))
    assert list(thin) == list(wide), f"names must not depend on the width: {sorted(thin.keys() ^ wide.keys())[:3]}"
    for name, tensor in thin.items():
        assert tensor.dim() == wide[name].dim(), f"{name}: has another number of dimensions at another width"
        shapes = tuple(tensor.shape), tuple(wide[name].shape)
        assert all(a <= b for a, b in zip(*shapes, strict=True)), (
            f"{name}: is {shapes[0]} at width {blueprint.width:g} and {shapes[1]} at width 1"
        )


def _check_without_memory(blueprint: Blueprint) -> None:
    """Build on the meta device and train on fake tensors, as the memory model does: nothing may look at a value."""
    held = [name for name, tensor in blueprint.build_meta().state_dict().items() if not tensor.is_meta]
    assert not held, f"built on the meta device, {held[:3]} are not there; leave the device of new tensors to PyTorch"
    with FakeTensorMode():
        model = blueprint.build()
        try:
            model(noise(blueprint.spec, BATCH)).sum().backward()
        except DataDependentOutputException as failure:
            raise AssertionError(f"the network looks at the values of its maps: {failure}") from failure
        bare = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not bare, f"on fake tensors no gradient reaches {bare[:3]}"
