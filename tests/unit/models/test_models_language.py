"""Language models: their sizes, their laws as architectures, and what is refused."""

import copy

import pytest
import torch
from pydantic import ValidationError

from neulite_sim.errors import ScenarioError
from neulite_sim.models.bert import COMPONENT as BERT
from neulite_sim.models.conformance import check_architecture
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.gpt import COMPONENT as GPT
from neulite_sim.models.language_presets import PRESETS
from neulite_sim.models.output import copied_head
from neulite_sim.models.targets import cross_entropy
from neulite_sim.models.trainee import FullModel
from neulite_sim.samples import InputSpec


def next_tokens(length=12, vocabulary=20):
    return InputSpec(
        shape=(length,), vocabulary=vocabulary, num_classes=vocabulary, target_shape=(length,), predicts_tokens=True
    )


CLASSES = InputSpec(shape=(12,), vocabulary=20, num_classes=3)
SMALL = {
    "gpt": {"dim": 32, "heads": 4},
    "math": {"dim": 32, "heads": 4, "attention": "math", "tied": False},
    "llama": {"preset": "tinyllama-1.1b", "dim": 32, "heads": 4, "kv_heads": 2, "vocabulary": 24, "depth": 3},
    "phi": {"preset": "phi-2", "dim": 40, "heads": 4, "vocabulary": 24, "depth": 2},
}
PUBLISHED = {
    "gpt2": 124_439_808, "qwen2.5-0.5b": 494_032_768, "llama-3.2-1b": 1_235_814_400, "tinyllama-1.1b": 1_100_048_384,
    "phi-2": 2_779_683_840, "llama-7b": 6_738_415_616,
}  # fmt: skip
"""Parameters of the published weights, as their files on the hub count them."""


def built(component, **options):
    return component.build(component.options(**options))


@pytest.mark.slow
@pytest.mark.parametrize("spec", [next_tokens(), CLASSES], ids=["next token", "class"])
@pytest.mark.parametrize("name", SMALL)
def test_decoders_keep_the_laws_of_architectures(name, spec):
    architecture = built(GPT, **SMALL[name])
    check_architecture(architecture, spec=architecture.reads(spec), width=0.25)


def test_encoders_keep_the_laws_of_architectures():
    check_architecture(built(BERT, dim=32, heads=4), spec=CLASSES, width=0.25)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_have_as_many_parameters_as_published_and_as_arithmetic_says(preset):
    size = PRESETS[preset]
    spec = next_tokens(length=64, vocabulary=size.vocabulary or 65)
    model = Blueprint(architecture=built(GPT, preset=preset), spec=spec).build_meta()
    found = sum(parameter.numel() for parameter in model.parameters())
    assert found == size.num_parameters(spec.vocabulary, 64) == PUBLISHED.get(preset, found)


def test_a_tied_embedding_is_one_tensor_with_one_name():
    trainee = FullModel(Blueprint(architecture=built(GPT, dim=32, heads=4), spec=next_tokens()))
    assert [name for name in trainee.state_dict() if name.startswith("head")] == [
        "head.classifier.norm.weight", "head.classifier.norm.bias",
    ]  # fmt: skip
    loss, _ = trainee.loss(torch.ones(2, 12, dtype=torch.int64), torch.zeros(2, 12, dtype=torch.int64))
    loss.backward()
    # The head reaches tokens that were never read.
    assert trainee.blocks[0].embedding.weight.grad[5].abs().sum() > 0


def test_a_copy_of_a_head_has_a_weight_of_its_own_unless_the_embedding_is_copied_or_kept_with_it():
    model = Blueprint(architecture=built(GPT, dim=32, heads=4), spec=next_tokens()).build_seeded(0)
    alone, beside = copied_head(model.head), copied_head(model.head, beside=model.blocks)
    whole = copy.deepcopy(model)
    maps = torch.randn(2, 32, 12)
    for head in (alone, beside, whole.head):
        assert torch.equal(head(maps), model.head(maps))
    with torch.no_grad():
        model.blocks[0].embedding.weight.zero_()
    assert model.head(maps).abs().max() == beside(maps).abs().max() == 0
    assert beside.classifier.norm.weight is not model.head.classifier.norm.weight
    assert beside.state_dict().keys() == whole.head.state_dict().keys() == model.head.state_dict().keys()
    assert alone.state_dict().keys() - model.head.state_dict().keys() == {"classifier.out.weight"}
    assert alone(maps).abs().max() > 0
    with torch.no_grad():
        whole.blocks[0].embedding.weight.zero_()
    assert whole.head(maps).abs().max() == 0


def test_a_token_sees_none_after_it():
    model = Blueprint(architecture=built(GPT, dim=32, heads=4), spec=next_tokens()).build_seeded(0).eval()
    ids = torch.arange(12)[None]
    other = torch.cat((ids[:, :7], torch.zeros(1, 5, dtype=torch.int64)), dim=1)
    first, second = model(ids), model(other)
    torch.testing.assert_close(first[..., :7], second[..., :7])
    assert not torch.allclose(first[..., 7:], second[..., 7:])


@pytest.mark.parametrize("name", SMALL)
def test_both_ways_of_attention_make_the_same(name):
    spec = built(GPT, **SMALL[name]).reads(next_tokens())
    models = [
        Blueprint(architecture=built(GPT, **SMALL[name] | {"attention": kernel}), spec=spec).build_seeded(1)
        for kernel in ("fused", "math")
    ]
    ids = torch.randint(spec.vocabulary, (3, 12))
    torch.testing.assert_close(models[0](ids), models[1](ids), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_loss_of_tokens_is_that_of_pytorch(reduction):
    logits, labels = torch.randn(3, 5, 7), torch.randint(7, (3, 5))
    expected = torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction=reduction)
    for classes_last in (True, False):
        found = cross_entropy(logits.transpose(1, 2), labels, classes_last=classes_last, reduction=reduction)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("component", "options", "message"),
    [
        (GPT, {"dim": 30, "heads": 4}, "30 is not a multiple of the 4 heads; use 28"),
        (GPT, {"kv_heads": 3}, "3 does not divide the 4 heads"),
        (GPT, {"dim": 12, "heads": 4, "position": "rotary"}, "a head has 3; use learned"),
        (GPT, {"blocks": 5}, "is 5, and there are 4 layers; use 1 to 4"),
        (BERT, {"dim": 30, "heads": 4}, "30 is not a multiple of the 4 heads; use 28"),
        (BERT, {"blocks": 3}, "is 3, and there are 2 layers; use 1 to 2"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(component, options, message):
    with pytest.raises(ValidationError, match=message):
        component.options(**options)


@pytest.mark.parametrize(
    ("component", "options", "spec", "message"),
    [
        (GPT, {}, InputSpec(shape=(1, 8, 8), num_classes=3), "gpt reads sequences of tokens, and the samples of data"),
        (GPT, {"vocabulary": 10}, next_tokens(), "the model knows 10 tokens, and the data hold 20; set model.vocab"),
        (BERT, {}, next_tokens(), "each token sees those after it, so that there is nothing to predict; set data.targ"),
    ],
)
def test_samples_that_a_model_cannot_read_are_refused(component, options, spec, message):
    with pytest.raises(ScenarioError, match=message):
        Blueprint(architecture=built(component, **options), spec=spec).build_meta()
