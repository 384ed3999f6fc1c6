"""Any causal or classification model of transformers, `transformers:PATH`, from a configuration on disk.

PATH is a `config.json`, or a folder that holds one and perhaps weights in safetensors. The network comes as the package
builds it; with next tokens as targets it is that for causal language modelling, with classes that for sequences. Its
weights are those of the folder where there are any, else drawn from the seed as the package draws them. Nothing is
looked for outside of PATH, no code of a model's author runs, and no pickle is read.

The layers are cut into blocks as those of `gpt`; what comes before them belongs to the first block, what comes after is
the head (`transformers_parts`).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from neulite_sim.bounds import LayerCount
from neulite_sim.errors import DataNotFoundError, Problem, ScenarioError, UnknownComponentError
from neulite_sim.models.gpt import MOST_BLOCKS, fitting_vocabulary
from neulite_sim.outside import plain_json, printable, read_regular, user_path
from neulite_sim.registry import Component, Options
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.inputs import Reads
from neulite_sim.torchvision_compat import torchvision_module

if TYPE_CHECKING:
    from torch import nn

    from neulite_sim.models.contract import BlockModel
    from neulite_sim.models.transformers_parts import Anatomy

INSTALL = "pip install 'neulite-sim[transformers]'"
CONFIG = "config.json"
_ATTENTION = {"fused": "sdpa", "math": "eager"}
_NO_FUSED = "scaled_dot_product_attention"
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_WARNS_OF_PADDING = "warn_if_padding_and_no_attention_mask"
Kernel = Literal["fused", "math"]


class TransformersOptions(Options):
    """Options of `transformers:PATH`."""

    argument_reads: ClassVar[Reads] = Reads(is_folder=None)
    blocks: LayerCount | None = None
    """Into how many blocks the layers are cut, as evenly as can be; four, or as many as there are layers."""
    attention: Kernel | None = None
    """`fused`: PyTorch's attention that keeps no score of two tokens. `math`: scores and their softmax are tensors.
    By default fused where transformers has it for the network, and else math."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """The architecture of a configuration, as text, so that it travels; `folder` is where weights are, or empty."""

    name: str
    config: str
    folder: str
    blocks: int | None
    kernel: Kernel | None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of it."""
        begins = f"{self.name} begins with weights drawn from the seed: there is no model.safetensors beside it"
        if self.folder:
            begins = f"{self.name} begins with the weights in {self.folder}"
        if self.kernel is not None or not _lacks_fused(self):
            return (begins,)
        return (begins, f"{self.name} keeps the scores of its attention: transformers has no fused one for it")

    def reads(self, spec: InputSpec) -> InputSpec:
        """Return what samples are for its own vocabulary.

        Raises:
            ScenarioError: the samples are no sequences of tokens, or more tokens or longer than it knows; or what a
                step of it takes depends on the tokens.
        """
        if not spec.is_text or (spec.target_shape and not spec.predicts_tokens):
            finding = f"{self.name} reads sequences of tokens, and the samples of data are {spec}"
            hint = "use data of kind synthetic-text, text or shakespeare, or another model"
            raise ScenarioError([Problem.advising(key="model", found=finding, hint=hint)])
        config = self._config()
        self._refuse_experts(config)
        longest = _asked(config, "max_position_embeddings")
        if isinstance(longest, int) and spec.shape[0] > longest:
            finding = f"{self.name} reads up to {longest} tokens, and a sequence of data has {spec.shape[0]}"
            raise ScenarioError(
                [Problem.advising(key="data.sequence_length", found=finding, hint=f"use at most {longest}")]
            )
        return fitting_vocabulary(spec, int(config.vocab_size))

    def _refuse_experts(self, config: Any) -> None:
        for name in _EXPERTS:
            count = _asked(config, name)
            if isinstance(count, int) and count > 1:
                finding = (
                    f"{self.name} sends each token to some of {count} experts ({name}), so that what a step takes "
                    "depends on the tokens and cannot be predicted"
                )
                raise ScenarioError([Problem.advising(key="model", found=finding, hint="use a dense model")])

    def _config(self) -> Any:
        package, content = _transformers(), json.loads(self.config)
        kind = content.pop("model_type")
        try:
            config = package.AutoConfig.for_model(kind, **content).get_text_config()
            # Some are only looked at where they are asked for.
            _ = config.vocab_size, config.hidden_size
        except Exception as failure:
            finding = f"{self.name} is no configuration that transformers takes: {_reason(failure)}"
            hint = "give the config.json of a causal or classification model of text"
            raise ScenarioError([Problem.advising(key="model", found=finding, hint=hint)]) from failure
        return config

    def __call__(self, spec: InputSpec, width: float) -> BlockModel:
        """Return the network; no width makes it thinner."""
        import torch
        from torch._subclasses.fake_tensor import FakeTensor

        from neulite_sim.models.transformers_parts import check_parts

        spec = self.reads(spec)
        model = self._made(spec, torch.get_default_device())
        chain = self._cut(model, _anatomy(self, spec), spec)
        is_real = not any(isinstance(each, FakeTensor) or each.is_meta for each in model.parameters())
        if is_real:
            check_parts(chain, model, self.name, spec)
        return chain

    def _cut(self, model: nn.Module, anatomy: Anatomy, spec: InputSpec) -> BlockModel:
        """Return the chain of a model's parts."""
        from neulite_sim.models.decoder import cut_at, token_chain
        from neulite_sim.models.transformers_parts import After, Before, Layer, Told

        layers = list(model.get_submodule(anatomy.layers).children())
        before = Before(model, anatomy)
        told = Told(before)
        parts = [Layer(layer, number, told) for number, layer in enumerate(layers)]
        head = After(model, anatomy, predicts_tokens=spec.predicts_tokens)
        num_blocks = self.blocks or min(MOST_BLOCKS, len(layers))
        if num_blocks > len(layers):
            message = f"is {num_blocks}, and there are {len(layers)} layers; use 1 to {len(layers)}"
            raise ScenarioError([Problem(key="model.blocks", message=message)])
        chain = token_chain(before, parts, head, basic_layer=functools.partial(_one_layer, like=parts[-1]))
        return cut_at(chain, num_blocks, (int(self._config().hidden_size), spec.shape[0]))

    def _made(self, spec: InputSpec, device: Any) -> nn.Module:
        """Return the package's own model: on a real device with the weights of the folder, if there are any."""
        import torch
        from torch._subclasses.fake_tensor import FakeTensor

        package, config = _transformers(), self._config()
        auto = package.AutoModelForSequenceClassification
        if spec.predicts_tokens:
            auto = package.AutoModelForCausalLM
        else:
            config.num_labels = spec.num_classes
        config.use_cache = False
        kernel = self.kernel or ("math" if _lacks_fused(self) else "fused")
        implementation = _ATTENTION[kernel]
        is_fake = isinstance(torch.empty(0), FakeTensor)
        try:
            if self.folder and device.type != "meta" and not is_fake:
                model = auto.from_pretrained(
                    self.folder, config=config, local_files_only=True, use_safetensors=True, dtype=torch.float32,
                    attn_implementation=implementation, trust_remote_code=False,
                )  # fmt: skip
            else:
                with _nothing_drawn() if is_fake else contextlib.nullcontext():
                    model = auto.from_config(
                        config, dtype=torch.float32, attn_implementation=implementation, trust_remote_code=False
                    )
        except Exception as failure:
            finding = f"{self.name} cannot be built by transformers: {_reason(failure)}"
            hint = "give the configuration of a causal or classification model"
            if _NO_FUSED in str(failure):
                hint = "set model.attention: math, or leave it out"
            raise ScenarioError([Problem.advising(key="model", found=finding, hint=hint)]) from failure
        if model.config.pad_token_id is None:
            # Its head for classes refuses batches without one, although nothing here is padded.
            model.config.pad_token_id = 0
        for part in model.modules():
            if hasattr(part, _WARNS_OF_PADDING):
                setattr(part, _WARNS_OF_PADDING, _say_nothing)
        made: nn.Module = model.train()
        return made


def _say_nothing(*_args: Any, **_kwargs: Any) -> None:
    """Stand in for a warning that looks at ids, which meta and fake tensors do not have; nothing here is padded."""


def _reason(failure: Exception) -> str:
    """Return the first line of what the package says, and of the second where the first is but a heading."""
    said = [line.strip() for line in str(failure).splitlines() if line.strip()] or [type(failure).__name__]
    return printable(" ".join(said[: 2 if said[0].endswith(":") else 1]))


def _asked(config: Any, name: str) -> Any:
    """Return what a configuration has by a name; None where it has none, or will not tell."""
    try:
        return getattr(config, name, None)
    except Exception:
        return None


@functools.lru_cache(maxsize=8)
def _lacks_fused(architecture: Pretrained) -> bool:
    """Return whether transformers refuses to build a network with PyTorch's own attention."""
    import torch
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    package = _transformers()
    for auto in (package.AutoModelForCausalLM, package.AutoModelForSequenceClassification):
        try:
            with unset_fake_temporarily(), torch.device("meta"):
                auto.from_config(architecture._config(), attn_implementation=_ATTENTION["fused"])
        except Exception as failure:
            if _NO_FUSED in str(failure):
                return True
        else:
            return False
    return False


@functools.lru_cache(maxsize=8)
def _anatomy(architecture: Pretrained, spec: InputSpec) -> Anatomy:
    """Return where the layers are, found out on the meta device; the same for each build."""
    import torch
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    from neulite_sim.models.transformers_parts import anatomy_of, check_parts

    with unset_fake_temporarily(), torch.device("meta"):
        model = architecture._made(spec, torch.device("meta"))
        anatomy = anatomy_of(model, architecture.name, spec.shape[0])
        check_parts(architecture._cut(model, anatomy, spec), model, architecture.name, spec)
        return anatomy


@contextlib.contextmanager
def _nothing_drawn() -> Iterator[None]:
    """Within, truncated normal weights are left as they are: PyTorch draws them until it likes their numbers.

    It leaves those of meta tensors out itself; fake ones have no numbers either.
    """
    from torch.nn import init

    drawn = init._no_grad_trunc_normal_
    init._no_grad_trunc_normal_ = lambda tensor, *_args, **_kwargs: tensor
    try:
        yield
    finally:
        init._no_grad_trunc_normal_ = drawn


def _one_layer(before: Any, after: Any, *, like: Any) -> nn.Module:
    from torch import nn

    from neulite_sim.models.chain import Permuted
    from neulite_sim.models.decoder import FROM_MAP, TO_MAP

    assert before == after, f"a layer keeps the shape of its map: {before}, {after}"
    return nn.Sequential(Permuted(*FROM_MAP), like.again(), Permuted(*TO_MAP))


def _transformers() -> ModuleType:
    if importlib.util.find_spec("transformers") is None:
        raise UnknownComponentError("transformers:PATH needs the package transformers", hint=INSTALL)
    # Read when the package is imported: it then asks no server, whatever happens.
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # It imports torchvision where that is installed, whose import beside a CPU-only PyTorch needs a hand.
    if importlib.util.find_spec("torchvision") is not None:
        torchvision_module("ops")
    package = importlib.import_module("transformers")
    package.utils.logging.disable_progress_bar()
    return package


def _build(options: TransformersOptions, path: str) -> Pretrained:
    place = user_path(path).absolute()
    file = place / CONFIG if place.is_dir() else place
    try:
        content = plain_json(read_regular(file))
    except OSError as failure:
        reason = failure.strerror or str(failure)
        hint = f"give a {CONFIG}, or a folder that holds one"
        raise DataNotFoundError(f"transformers: {printable(str(file))} cannot be read ({reason})", hint=hint) from None
    except ValueError as failure:
        raise _no_config(file, str(failure)) from None
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise _no_config(file, "it has no model_type")
    known = _transformers().CONFIG_MAPPING
    if content["model_type"] not in known:
        raise _no_config(file, f"transformers knows no model_type {content['model_type']!r:.60}")
    folder = file.parent
    has_weights = any(folder.glob("model*.safetensors"))
    return Pretrained(
        name=f"transformers:{Path(path).name or path}",
        config=json.dumps(content, sort_keys=True),
        folder=str(folder) if has_weights else "",
        blocks=options.blocks,
        kernel=options.attention,
    )


def _no_config(file: Path, reason: str) -> ScenarioError:
    finding = f"{printable(str(file))} is no configuration of transformers: {printable(reason)}"
    return ScenarioError([Problem.advising(key="model", found=finding, hint="give the config.json of a model")])


COMPONENT = Component(
    kind="transformers",
    summary="any causal or classification model of transformers from a configuration on disk (extra transformers)",
    source="T. Wolf et al., EMNLP 2020 (demos), https://github.com/huggingface/transformers",
    options=TransformersOptions,
    build=_build,
    takes_argument=True,
)
