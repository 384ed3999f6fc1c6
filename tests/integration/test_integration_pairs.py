"""Any method works with any selector and any protocol: every pair runs on digits, with one digest for any actors.

Starting an actor takes longer than such a run, so that the runs of this module share theirs, each equipped anew. Actors
know nothing of selectors: each method, and each selector, meets one and two actors in some of the pairs.
"""

import itertools
import json
import math

import pytest
from ray_pools import cluster, lent_pools

from neulite_sim.engine.simulation import simulate
from neulite_sim.registry import names
from neulite_sim.scenario.loading import parse_scenario

ROUNDS = 4
DEVICES_PER_ROUND = 3
BASE = {
    "name": "pair",
    "seed": 2,
    "data": {
        "kind": "digits",
        "train_samples": 96,
        "test_samples": 40,
        "partition": {"kind": "dirichlet", "alpha": 0.5},
    },
    "model": "cnn",
    "training": {"epochs": 1, "batch_size": 5, "learning_rate": 0.02},
    "population": {
        "devices": 8,
        "groups": [{"device": "jetson-nano-4gb", "share": 1}, {"device": "raspberry-pi-4-4gb", "share": 1}],
        "available_memory": {
            "kind": "explicit",
            "values": ["2MB", "5MB", "8MB", "20MB", "20MB", "30MB", "30MB", "30MB"],
        },
        "speed_jitter": 0.2,
    },
    "workload": {"input_shape": [3, 32, 32], "batch_size": 16},
    "proxy": {"width": 0.125},
    "evaluation": {"every_rounds": 2},
    "stop": {"rounds": ROUNDS},
    "backend": "inprocess",
}
"""Budgets from the thinnest to the full model, so that methods with several submodels offer several of them."""

METHODS = {
    # head-only is lora with rank 0.
    **{kind: {} for kind in names("method") if kind != "head-only"},
    "zo-warmup": {"warmup_rounds": 1},
    "lora": {"aggregation": "hetlora", "ranks": [4, 1]},
    "fedavg with a proximal term": {"proximal_mu": 0.1},
    # Without normalisation the factors of its scaler multiply from layer to layer, and training diverges here.
    "federated-dropout": {"scaler": False},
}
OPTIONS = {"tifl": {"tiers": 2, "interval": 1, "waits_for_stall": False}, "oort": {"exploration": 0.5}}
"""With these the selectors go by what the devices reported from the second round on."""

MODELS = {"fedra": {"model": {"kind": "vit", "patch": 4, "depth": 3}, "workload": {"batch_size": 16}}}
"""Where a method needs another network than a convolutional one."""
OF_THE_LATEST = ("zeroth-order", "zo-warmup")
"""Methods whose updates are of no use to a later version; protocols that would mix them are refused."""

PAIRS = list(itertools.product(METHODS, names("selection")))
ON_ACTORS = set(zip(METHODS, itertools.cycle(names("selection"))))
"""A pair of each method and of each selector."""

PROTOCOLS = {
    "deadline": {"over_selection": 2, "maximum_wait": "20s"},
    "fedasync": {"concurrency": 4},
    "fedbuff": {"concurrency": 4, "buffer_size": 2},
}
PROTOCOL_PAIRS = [
    pair for pair in itertools.product(METHODS, PROTOCOLS) if pair[0] not in OF_THE_LATEST or pair[1] == "deadline"
]


def pair(method, selection, protocol="synchronous", *, is_dry=False, **backend):
    kind = method.split(" ")[0]
    selector = {"kind": selection, "devices_per_round": DEVICES_PER_ROUND, **OPTIONS.get(selection, {})}
    given = {
        **BASE,
        **MODELS.get(kind, {}),
        "method": {"kind": kind, **METHODS[method]},
        "selection": selector,
        "protocol": {"kind": protocol, **PROTOCOLS.get(protocol, {})},
    }
    chosen = {"kind": "ray", **backend} if backend else "dry-run" if is_dry else "inprocess"
    return parse_scenario({**given, "backend": chosen})


@pytest.fixture(scope="module")
def _pools():
    with cluster(), lent_pools():
        yield


@pytest.mark.parametrize(("method", "selection"), PAIRS, ids=[" + ".join(pair) for pair in PAIRS])
def test_a_pair_runs_and_gives_one_digest_for_any_number_of_actors(method, selection, request):
    result = simulate(pair(method, selection))
    assert [row["round"] for row in result.rounds] == list(range(1, ROUNDS + 1))
    assert all(1 <= row["arrived"] <= DEVICES_PER_ROUND for row in result.rounds)
    assert all(math.isfinite(row["loss"]) for row in result.flights)
    assert all(row["peak_memory_bytes"] <= row["available_memory_bytes"] for row in result.flights)
    if (method, selection) in ON_ACTORS:
        request.getfixturevalue("_pools")
        digests = {n: simulate(pair(method, selection, workers=n)).summary["digest"] for n in (1, 2)}
        assert digests == dict.fromkeys((1, 2), result.summary["digest"])


def test_every_method_and_every_selector_meets_actors():
    assert {method for method, _ in ON_ACTORS} == set(METHODS)
    assert {selection for _, selection in ON_ACTORS} == set(names("selection"))


def test_every_protocol_has_its_options_here():
    assert {"synchronous", *PROTOCOLS} == set(names("protocol"))


@pytest.mark.usefixtures("_pools")
@pytest.mark.parametrize(("method", "protocol"), PROTOCOL_PAIRS, ids=[" + ".join(pair) for pair in PROTOCOL_PAIRS])
def test_any_method_works_with_any_protocol_and_gives_one_digest(method, protocol):
    result = simulate(pair(method, "uniform", protocol))
    assert [row["round"] for row in result.rounds] == list(range(1, ROUNDS + 1))
    merged = {"deadline": DEVICES_PER_ROUND, "fedasync": 1, "fedbuff": 2}[protocol]
    assert all(1 <= row["arrived"] <= merged for row in result.rounds)
    assert sum(row["arrived"] for row in result.rounds) == sum(row["loss"] is not None for row in result.flights)
    if protocol != "deadline":
        assert max(row["staleness"] or 0 for row in result.flights) > 0
    assert simulate(pair(method, "uniform", protocol, workers=2)).summary["digest"] == result.summary["digest"]


@pytest.mark.usefixtures("_pools")
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_devices_that_fit_their_steps_into_memory_give_one_digest(norm):
    training = {**BASE["training"], "fit": {"kind": "auto", "micro_batch_sizes": [16, 8]}, "norm": norm}
    shape = {
        "model": "resnet18",
        "proxy": {"width": 0.0625},
        "workload": {"input_shape": [3, 32, 32], "batch_size": 32},
    }
    # Plans need 270, 219 and 182 MB, with checkpointing 235, 185 and 160.
    memory = {"kind": "explicit", "values": ["160MB", "183MB", "190MB", "220MB", "225MB", "240MB", "280MB", "1GB"]}
    given = {**BASE, **shape, "method": "fedavg", "training": training, "stop": {"rounds": 3},
             "population": {**BASE["population"], "available_memory": memory}}  # fmt: skip
    runs = [
        simulate(parse_scenario({**given, "backend": backend}))
        for backend in ("inprocess", {"kind": "ray", "workers": 1}, {"kind": "ray", "workers": 2})
    ]
    assert len({row["plan"] for row in runs[0].flights}) > 1
    assert len({run.summary["digest"] for run in runs}) == 1


LLAMA = {"model_type": "llama", "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
         "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16}  # fmt: skip


@pytest.mark.usefixtures("_pools")
@pytest.mark.parametrize("method", ["lora", "fedra", "zeroth-order"])
def test_a_language_model_of_transformers_is_tuned_with_one_digest(tmp_path, method):
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    given = {**BASE, "data": {"kind": "synthetic-text", "samples": 40, "test_samples": 8, "sequence_length": 16},
             "model": {"kind": f"transformers:{tmp_path}"}, "method": method, "stop": {"rounds": 2},
             "workload": {}, "proxy": {}}  # fmt: skip
    runs = [
        simulate(parse_scenario({**given, "backend": backend}))
        for backend in ("inprocess", {"kind": "ray", "workers": 2})
    ]
    assert all(math.isfinite(row["loss"]) for row in runs[0].flights)
    assert len({run.summary["digest"] for run in runs}) == 1


@pytest.mark.usefixtures("_pools")
def test_diagnostics_are_the_same_for_any_number_of_actors():
    asked = {"every_rounds": 2, "diagnostics": ["nhsic_plane"], "diagnostic_samples": 50}
    runs = [
        simulate(parse_scenario({**BASE, "method": "neulite", "evaluation": asked, "backend": backend}))
        for backend in ("inprocess", {"kind": "ray", "workers": 1}, {"kind": "ray", "workers": 2})
    ]
    assert {row["round"] for row in runs[0].diagnostics} == {2, 4}
    assert runs[0].diagnostics == runs[1].diagnostics == runs[2].diagnostics
    assert len({run.summary["digest"] for run in runs}) == 1


def test_the_methods_offer_several_submodels_on_this_fleet():
    """Without that, a pair would show nothing that fedavg does not show."""
    for method in ("depthfl", "fedrolex", "heterofl", "neulite", "progfed"):
        flights = simulate(pair(method, "uniform", is_dry=True)).flights
        assert len({row["submodel"] for row in flights}) > 1, method
