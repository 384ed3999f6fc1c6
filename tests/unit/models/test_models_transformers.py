"""Models of the library transformers as chains of blocks, and as the oracle of this project's own layers."""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import save_file

from neulite_sim.errors import DataNotFoundError, ScenarioError
from neulite_sim.methods.conformance import check_method
from neulite_sim.models.conformance import check_architecture
from neulite_sim.models.contract import Blueprint
from neulite_sim.models.gpt import COMPONENT as GPT
from neulite_sim.models.output import copied_head
from neulite_sim.models.trainee import FullModel
from neulite_sim.models.transformers_model import COMPONENT
from neulite_sim.models.transformers_parts import After
from neulite_sim.profiling.audit import audit
from neulite_sim.profiling.profile import profile
from neulite_sim.registry import component
from neulite_sim.samples import InputSpec
from neulite_sim.scenario.schema import Training

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)

TOKENS = InputSpec(shape=(12,), vocabulary=60, num_classes=60, target_shape=(12,), predicts_tokens=True)
CLASSES = InputSpec(shape=(12,), vocabulary=60, num_classes=3)
PLAIN = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "max_position_embeddings": 64}  # fmt: skip
CONFIGS = {
    "llama": PLAIN | {"num_key_value_heads": 2, "tie_word_embeddings": False},
    "qwen2": PLAIN | {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "phi": PLAIN | {"partial_rotary_factor": 0.5},
    "gpt2": {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "bert": PLAIN,
}
SCALED = {"rope_theta": 500000.0, "rms_norm_eps": 1e-5, "rope_scaling": {
    "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}}  # fmt: skip


def architecture(folder, kind, *, also=None, **options):
    path = folder / f"{kind}.json"
    path.write_text(json.dumps({"model_type": kind, **CONFIGS[kind], **(also or {})}))
    return COMPONENT.build(COMPONENT.options(**options), str(path))


def parts_and_whole(made, spec):
    """Return a chain and the library's own model with the same weights, both as for a test."""
    model = Blueprint(architecture=made, spec=spec).build_seeded(0).eval()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return model, made._made(spec, torch.device("cpu")).eval()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "spec"), [("llama", TOKENS), ("qwen2", CLASSES), ("gpt2", TOKENS), ("bert", CLASSES)])
def test_models_of_a_configuration_keep_the_laws_and_make_what_the_library_makes(tmp_path, kind, spec):
    made = architecture(tmp_path, kind)
    check_architecture(made, spec=spec)
    model, theirs = parts_and_whole(made, spec)
    ids = torch.randint(1, 60, (3, 12))
    expected = theirs(input_ids=ids).logits
    torch.testing.assert_close(model(ids), expected.movedim(-1, 1) if spec is TOKENS else expected)


@pytest.mark.slow
@pytest.mark.parametrize("plan", [{}, {"checkpointing": True}], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("kernel", ["fused", "math"])
def test_their_peaks_are_predicted_to_the_byte(tmp_path, kernel, plan):
    model = Blueprint(architecture=architecture(tmp_path, "llama", attention=kernel), spec=TOKENS)
    training = Training(batch_size=4, epochs=1, **plan)
    found = profile("full", lambda: FullModel(model), spec=TOKENS, batch_size=4, training=training)
    assert found.tensor_bytes == audit(lambda: FullModel(model), spec=TOKENS, batch_size=4, training=training).total


def test_a_copy_of_a_tied_head_is_tied_to_the_embedding_that_it_is_copied_beside(tmp_path):
    model = Blueprint(architecture=architecture(tmp_path, "qwen2"), spec=TOKENS).build_seeded(0)
    alone, beside = copied_head(model.head), copied_head(model.head, beside=model.blocks)
    assert beside.state_dict().keys() == model.head.state_dict().keys()
    assert len(alone.state_dict()) == len(beside.state_dict()) + 1
    with torch.no_grad():
        next(iter(model.blocks.parameters())).zero_()
        maps = torch.randn(2, 32, 12)
        assert model.head(maps).abs().max() == beside(maps).abs().max() == 0
        assert alone(maps).abs().max() > 0


def test_profl_keeps_the_contract_with_a_tied_head(tmp_path):
    found = component("method", "profl")
    model = Blueprint(architecture=architecture(tmp_path, "qwen2"), spec=TOKENS, name="qwen2")
    check_method(found, model, found.options(shrinking_rounds=1, growing_rounds=1))


OWN = {
    "llama": ({"preset": "llama-3.2-1b", "kv_heads": 2, "tied": False}, SCALED),
    "qwen2": ({"preset": "qwen2.5-0.5b", "kv_heads": 2}, {"rope_theta": 1000000.0, "rms_norm_eps": 1e-6}),
    "phi": ({"preset": "phi-2"}, {"partial_rotary_factor": 0.4, "hidden_size": 80, "layer_norm_eps": 1e-5}),
}
NAMES = {
    "embedding.weight": "embed_tokens.weight", "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj", "norm1": "input_layernorm", "norm2": "post_attention_layernorm",
    "feed_forward.gate": "mlp.gate_proj",
}  # fmt: skip


def their_name(name, kind):
    of_kind = {"attention.out": "self_attn.dense", "feed_forward.up": "mlp.fc1", "feed_forward.down": "mlp.fc2"}
    if kind != "phi":
        of_kind = {"attention.out": "self_attn.o_proj", "feed_forward.up": "mlp.up_proj"}
        of_kind["feed_forward.down"] = "mlp.down_proj"
    _, *rest = name.split(".")
    if name.startswith("head."):
        norm = "final_layernorm" if kind == "phi" else "norm"
        return ".".join(rest).replace("classifier.norm", f"model.{norm}").replace("classifier.out", "lm_head")
    path = ".".join(rest[1:])
    for ours, theirs in (NAMES | of_kind).items():
        path = path.replace(ours, theirs)
    return "model." + path.replace("layer", "layers.", 1) if path.startswith("layer") else f"model.{path}"


@pytest.mark.parametrize("kind", OWN)
def test_own_decoders_make_what_the_library_makes_of_the_same_weights(tmp_path, kind):
    options, also = OWN[kind]
    theirs = architecture(tmp_path, kind, also=also)._made(TOKENS, torch.device("cpu")).eval()
    dim = also.get("hidden_size", 32)
    own = GPT.build(GPT.options(dim=dim, heads=4, hidden=64, depth=2, blocks=2, vocabulary=60, **options))
    model = Blueprint(architecture=own, spec=TOKENS).build_seeded(0).eval()
    weights = theirs.state_dict()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Away from what they start as, so that every one counts.
            weights[their_name(name, kind)].normal_(std=0.3)
            parameter.copy_(weights[their_name(name, kind)])
    ids = torch.randint(60, (3, 12))
    torch.testing.assert_close(model(ids), theirs(input_ids=ids).logits.movedim(-1, 1), rtol=1e-5, atol=1e-5)


def test_a_folder_with_weights_begins_with_them(tmp_path):
    made = architecture(tmp_path, "llama")
    theirs = made._made(TOKENS, torch.device("cpu"))
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "config.json").write_text(made.config)
    save_file({name: tensor.clone() for name, tensor in theirs.state_dict().items()}, folder / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    loaded = COMPONENT.build(COMPONENT.options(), str(folder))
    assert "begins with the weights in" in loaded.remarks[0]
    model = Blueprint(architecture=loaded, spec=TOKENS).build_seeded(5).eval()
    ids = torch.randint(60, (2, 12))
    torch.testing.assert_close(model(ids), theirs.eval()(input_ids=ids).logits.movedim(-1, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is no configuration of transformers: it has no model_type"),
        ("{", "is no configuration of transformers"),
        ('{"model_type": "none-such"}', "transformers knows no model_type 'none-such'"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ScenarioError, match=message):
        COMPONENT.build(COMPONENT.options(), str(tmp_path))


def test_what_does_not_fit_a_configuration_is_refused(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"nowhere.json cannot be read .*give a config.json"):
        COMPONENT.build(COMPONENT.options(), str(tmp_path / "nowhere.json"))
    long = architecture(tmp_path, "llama", also={"max_position_embeddings": 8})
    with pytest.raises(ScenarioError, match="reads up to 8 tokens, and a sequence of data has 12"):
        Blueprint(architecture=long, spec=TOKENS).build_meta()
    with pytest.raises(ScenarioError, match="is 9, and there are 2 layers; use 1 to 2"):
        Blueprint(architecture=architecture(tmp_path, "llama", blocks=9), spec=TOKENS).build_meta()
    with pytest.raises(ScenarioError, match="reads sequences of tokens, and the samples of data are 1x8x8 images"):
        Blueprint(architecture=long, spec=InputSpec(shape=(1, 8, 8), num_classes=3)).build_meta()


FAMILIES = {
    "gpt_neo": {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "gemma2": PLAIN | {"num_key_value_heads": 2, "head_dim": 8},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "modernbert": PLAIN | {"num_hidden_layers": 4},
    "fnet": PLAIN,
    "gemma3": {"text_config": PLAIN | {"vocab_size": 60, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}},
}
SETTINGS = {"vocab_size": 60, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ENCODERS = ("distilbert", "modernbert", "fnet")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*FAMILIES, "llama", "qwen2", "gpt2"])
def test_the_parts_of_a_family_answer_learn_and_are_charged_as_the_whole(tmp_path, kind):
    settings = SETTINGS | {**FAMILIES, **CONFIGS}[kind]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, **settings}))
    made, spec = COMPONENT.build(COMPONENT.options(), str(tmp_path)), CLASSES if kind in ENCODERS else TOKENS
    model, theirs = parts_and_whole(made, spec)
    ids = torch.randint(3, 60, (3, 12))
    expected = theirs(input_ids=ids).logits
    expected = expected.movedim(-1, 1) if spec is TOKENS else expected
    found = model(ids)
    torch.testing.assert_close(found, expected)
    squares = []
    for network, logits in ((model, found), (theirs, expected)):
        logits.square().mean().backward()
        squares.append(sum(float(each.grad.square().sum()) for each in network.parameters() if each.grad is not None))
    assert squares[0] == pytest.approx(squares[1], rel=1e-5)
    blueprint, training = Blueprint(architecture=made, spec=spec), Training(batch_size=4, epochs=1)
    found = profile("full", lambda: FullModel(blueprint), spec=spec, batch_size=4, training=training)
    assert found.tensor_bytes == audit(lambda: FullModel(blueprint), spec=spec, batch_size=4, training=training).total


def test_a_family_without_fused_attention_keeps_its_scores_and_says_so(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bloom", **SETTINGS, **FAMILIES["bloom"]}))
    made = COMPONENT.build(COMPONENT.options(), str(tmp_path))
    assert "keeps the scores of its attention: transformers has no fused one for it" in made.remarks[1]
    assert len(architecture(tmp_path, "llama").remarks) == 1
    asked = COMPONENT.build(COMPONENT.options(attention="fused"), str(tmp_path))
    assert len(asked.remarks) == 1
    with pytest.raises(ScenarioError, match=r"set model.attention: math, or leave it out"):
        Blueprint(architecture=asked, spec=TOKENS).build_meta()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("mixtral", PLAIN, r"sends each token to some of 8 experts \(num_\w*experts\), .* depends on the tokens and cannot"),
        ("falcon", PLAIN | {"head_dim": 8}, "is no configuration that transformers takes: .* has no setter; give the"),
        ("mamba2", PLAIN, "is no configuration that transformers takes: .*Inconsistent configuration"),
        ("mpnet", PLAIN, "tells its layers, beside their map, what hangs on weights outside of them; use another"),
        ("rwkv", {"hidden_size": 32, "num_hidden_layers": 2}, "cannot be taken apart: .*has no attribute 'attention'"),
        ("deberta-v2", PLAIN | {"relative_attention": False}, "cannot be taken apart: not enough values to unpack"),
        ("albert", PLAIN | {"embedding_size": 16}, "has no list of layers that run one after the other, once each"),
    ],
)  # fmt: skip
def test_a_family_that_is_no_chain_is_refused(tmp_path, kind, settings, message):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, **SETTINGS, **settings}))
    spec = TOKENS if kind in ("mixtral", "falcon", "mamba2", "rwkv") else CLASSES
    with pytest.raises(ScenarioError, match=message):
        Blueprint(architecture=COMPONENT.build(COMPONENT.options(), str(tmp_path)), spec=spec).build_meta()


def test_parts_that_answer_otherwise_than_the_whole_are_refused(tmp_path, monkeypatch):
    forward = After.forward
    monkeypatch.setattr(After, "forward", lambda self, features: forward(self, features.flip(-1)))
    with pytest.raises(ScenarioError, match="cannot be taken apart: its parts answer otherwise than the whole"):
        Blueprint(architecture=architecture(tmp_path, "gpt2"), spec=TOKENS).build_seeded(0)
