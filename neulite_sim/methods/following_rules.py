"""What operators do with channels: for each that is not pointwise, the labels of the tensor that it puts out first."""

from __future__ import annotations

from collections.abc import Mapping

from neulite_sim.methods.channels import Label, is_fixed
from neulite_sim.methods.following import Following, Labels, Rule
from neulite_sim.methods.following_shapes import NAMES
from neulite_sim.methods.operators import Seen, Sizes, Step, UnclearError, at_each


def _alike(known: Following, step: Step) -> Labels:
    return known.aligned([step.get("self", "input")], step.outs[0])


def _every(known: Following, step: Step) -> Labels:
    return known.aligned(step.inputs, step.outs[0])


def _made(known: Following, step: Step) -> Labels:
    return known.new(step.outs[0])


def _convolution(known: Following, step: Step) -> Labels:
    """Let the weight's first dimension be written and its second one be read, in as many groups as there are."""
    source, weight, out = step.get("input"), step.get("weight"), step.outs[0]
    groups = at_each(step.get("groups"), len(source.sizes[0]))
    read, written = (1, 0) if not step.get("transposed") else (0, 1)
    maps, axes = known.of(source), known.of(weight)
    if is_fixed(groups):
        each = groups[0]
        inner, outer = axes[read], axes[written]
        if read == 1:
            inner = inner and known.channels.merged(inner, each, 1)
        else:
            outer = outer and known.channels.merged(outer, each, 1)
        known.join(maps[1], inner)
        for label, size in ((axes[0], weight.sizes[0]), (maps[1], source.sizes[1])):
            if each > 1 and label is not None:
                _in_parts(known, label, size, each)
        written_label = outer
    else:
        written_label = _grouped(known, groups, (maps[1], source.sizes[1]), (axes, weight), out)
    bias = step.get("bias")
    label = known.join(written_label, known.of(bias)[0] if bias is not None else None)
    return (maps[0], label, *[None] * (out.ndim - 2))


def _in_parts(known: Following, label: Label, size: Sizes, count: int) -> None:
    """Let channels fall apart into groups of equally many."""
    for number in range(1, count):
        if any(each % count for each in size):
            raise UnclearError("its groups do not have equally many channels at every width")
        known.channels.cut(label, tuple(each * number // count for each in size))


def _grouped(
    known: Following, groups: Sizes, read: tuple[Label | None, Sizes], held: tuple[Labels, Seen], out: Seen
) -> Label | None:
    """Let as many groups as there are channels, or a part of them, be the same in what is read and written."""
    axes, weight = held
    label = known.channels.run(groups)
    for other, size in (read, (axes[0], weight.sizes[0]), (None, out.sizes[1])):
        within = tuple(each // number for each, number in zip(size, groups, strict=True))
        if not is_fixed(within):
            raise UnclearError("both its groups and what is in each change with the width")
        if other is not None:
            known.join(other, known.channels.merged(label, 1, within[0]))
    return axes[0]


def _channel_norm(known: Following, step: Step) -> Labels:
    """Let BatchNorm and GroupNorm act on the second dimension."""
    maps = list(known.of(step.get("input")))
    own = (step.get(name) for name in ("weight", "bias", "running_mean", "running_var"))
    maps[1] = known.join(maps[1], *(known.of(tensor)[0] for tensor in own if tensor is not None))
    return maps


def _layer_norm(known: Following, step: Step) -> Labels:
    tensors = (step.get(name) for name in ("input", "weight", "bias"))
    return known.aligned([tensor for tensor in tensors if tensor is not None], step.outs[0])


def _weight_norm(known: Following, step: Step) -> Labels:
    known.put(step.outs[1], known.of(step.get("g")))
    return known.aligned([step.get("v"), step.get("g")], step.outs[0])


def _product(known: Following, step: Step) -> Labels:
    """Sum over the last dimension of one factor and the last but one of the other."""
    one = step.get("mat1", "batch1", "mat")
    added = step.get("self") if one is not None else None
    first, second = map(known.of, (one or step.get("self"), step.get("mat2", "batch2", "vec", "tensor")))
    summed = -2 if len(second) > 1 else -1
    known.join(first[-1], second[summed])
    batch = (known.join(*pair) for pair in zip(first[:-2], second[:-2], strict=False)) if len(second) > 2 else ()
    labels = [*batch, *first[-2:-1], *(second[-1:] if len(second) > 1 else ())]
    beside = known.aligned([added], step.outs[0]) if added is not None else [None] * len(labels)
    return [known.join(*pair) for pair in zip(labels, beside, strict=True)]


def _trilinear(known: Following, step: Step) -> Labels:
    """Multiply three tensors, each laid out along dimensions that it lacks, and sum over some dimensions."""
    labels: list[Label | None] = []
    for number in (1, 2, 3):
        found: list[Label | None] = list(known.of(step.get(f"i{number}")))
        for place in step.get(f"expand{number}"):
            found.insert(place, None)
        labels = [known.join(*pair) for pair in zip(labels or found, found, strict=True)]
    return [label for place, label in enumerate(labels) if place not in step.get("sumdim")]


def _embedding(known: Following, step: Step) -> Labels:
    rows, channels = known.of(step.get("weight"))
    if rows is not None:
        raise UnclearError("the rows of a table change with the width")
    return (*known.of(step.get("indices"))[: step.outs[0].ndim - 1], channels)


def _attention(known: Following, step: Step) -> Labels:
    """Sum over the last dimension of queries and keys and keep that of values."""
    query, key, value = (known.of(step.get(name)) for name in ("query", "key", "value"))
    known.join(query[-1], key[-1])
    leading = [known.join(*each) for each in zip(query[:-2], key[:-2], value[:-2], strict=True)]
    return (*leading, query[-2], value[-1])


def _reduced(known: Following, step: Step) -> Labels:
    """Leave out the dimensions that are summed over."""
    source = step.get("self")
    labels = known.of(source)
    given = step.get("dim")
    gone = range(len(labels)) if given is None or given == [] else [given] if isinstance(given, int) else given
    places = {place % len(labels) for place in gone} if labels else set()
    kept = [None if place in places else label for place, label in enumerate(labels)]
    if step.outs[0].ndim != source.ndim:
        kept = [label for place, label in enumerate(labels) if place not in places]
    for other in step.outs[1:]:
        known.put(other, kept)
    return kept


def _windowed(known: Following, step: Step) -> Labels:
    """Let some dimensions change their sizes; channels stay as they are."""
    source, out = step.get("self", "input"), step.outs[0]
    labels = list(known.of(source))
    for place, (label, before, after) in enumerate(zip(labels, source.sizes, out.sizes, strict=True)):
        if label is not None and before != after:
            raise UnclearError("it mixes neighbouring channels")
        if label is not None and place >= max(2, out.ndim - 3) and "pool" in step.name:
            raise UnclearError("it mixes neighbouring channels")
    for other in step.outs[1:]:
        known.put(other, labels)
    return labels


def _gated(known: Following, step: Step) -> Labels:
    """Multiply one half of the channels by a gate made of the other."""
    source = step.get("self")
    labels = list(known.of(source))
    place = step.arguments.get("dim", -1) % source.ndim
    if labels[place] is not None:
        half = tuple(each // 2 for each in source.sizes[place])
        labels[place] = known.join(*known.channels.cut(labels[place] or (), half))
    return labels


_NAMES: Mapping[Rule, str] = {
    **NAMES,
    _alike: "_softmax _safe_softmax _log_softmax native_dropout expand_copy hardswish cumsum cumprod logcumsumexp "
    "zeros_like ones_like empty_like full_like rand_like randn_like bernoulli normal uniform fill zero "
    "_fake_quantize_learnable_per_tensor_affine triu tril rrelu_with_noise rrelu_with_noise_functional",
    _every: "copy where masked_fill _prelu_kernel addcmul addcdiv lerp clamp floor_divide log_sigmoid_forward "
    "__and__ __or__",
    _made: "zeros ones empty full rand randn arange linspace new_zeros new_ones new_empty new_full empty_strided "
    "new_empty_strided scalar_tensor randint randperm",
    _convolution: "convolution",
    _channel_norm: "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
    "_native_batch_norm_legit_functional _batch_norm_no_update _batch_norm_with_update cudnn_batch_norm "
    "native_group_norm",
    _layer_norm: "native_layer_norm _fused_rms_norm",
    _weight_norm: "_weight_norm_interface",
    _product: "mm bmm addmm baddbmm mv addmv dot vdot",
    _trilinear: "_trilinear",
    _embedding: "embedding _embedding_bag",
    _attention: "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
    "_scaled_dot_product_efficient_attention _scaled_dot_product_fused_attention_overrideable",
    _reduced: "mean sum amax amin max min prod var std var_mean std_mean logsumexp norm linalg_vector_norm any all "
    "argmax argmin median mode nansum",
    _windowed: "max_pool2d_with_indices max_pool3d_with_indices max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d adaptive_max_pool1d adaptive_max_pool2d "
    "adaptive_max_pool3d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_linear1d "
    "upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d _upsample_nearest_exact1d _upsample_nearest_exact2d "
    "reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d",
    _gated: "glu",
}
RULES: Mapping[str, Rule] = {name: rule for rule, names in _NAMES.items() for name in names.split()}
