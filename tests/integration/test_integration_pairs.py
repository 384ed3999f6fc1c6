"""Any method works with any selector and any protocol: every pair runs on digits, with one digest for any workers.

A run is of a method, a selector and a protocol at once: each pair of two of these is in one of them. Each method meets
one and two actors, and so does each selector and each protocol. Starting an actor takes longer than such a run, so that
the runs of this module share theirs, each equipped anew.
"""

import itertools
import json
import math

import pytest
from ray_pools import cluster, lent_pools
from slow_cases import some_slow

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

PROTOCOLS = {
    "synchronous": {},
    "deadline": {"over_selection": 2, "maximum_wait": "20s"},
    "fedasync": {"concurrency": 4},
    "fedbuff": {"concurrency": 4, "buffer_size": 2},
}
MERGED = {"synchronous": DEVICES_PER_ROUND, "deadline": DEVICES_PER_ROUND, "fedasync": 1, "fedbuff": 2}
"""How many updates a round takes in at most."""
MIXING = ("fedasync", "fedbuff")
SELECTORS = names("selection")


def protocols_of(method):
    """Return the protocols of a method's runs: each that it goes with, and as many as there are selectors."""
    if method in OF_THE_LATEST:
        return ["synchronous", "deadline", "synchronous"]
    return list(PROTOCOLS)


def actors_of(place, method, protocol):
    """Return how many actors a run is repeated on, if any: of each method, a run on one and one or two on two."""
    if protocol in MIXING:
        return 2 if protocol == MIXING[place // 2 % 2] else None
    return 1 + (place + list(PROTOCOLS).index(protocol)) % 2


RUNS = [
    (method, SELECTORS[(place + number) % len(SELECTORS)], protocol, actors_of(place, method, protocol))
    for place, method in enumerate(METHODS)
    for number, protocol in enumerate(protocols_of(method))
]


def run_of(method, selection, protocol="synchronous", *, is_dry=False, **backend):
    kind = method.split(" ")[0]
    selector = {"kind": selection, "devices_per_round": DEVICES_PER_ROUND, **OPTIONS.get(selection, {})}
    given = {
        **BASE,
        **MODELS.get(kind, {}),
        "method": {"kind": kind, **METHODS[method]},
        "selection": selector,
        "protocol": {"kind": protocol, **PROTOCOLS[protocol]},
    }
    chosen = {"kind": "ray", **backend} if backend else "dry-run" if is_dry else "inprocess"
    return parse_scenario({**given, "backend": chosen})


@pytest.fixture(scope="module")
def _pools():
    with cluster(), lent_pools(most=2):
        yield


@pytest.mark.parametrize(
    ("method", "selection", "protocol", "actors"),
    some_slow(RUNS, lambda run: run[-1] is not None or run[0] == "fedra"),
    ids=[" + ".join(run[:3]) for run in RUNS],
)
def test_methods_selectors_and_protocols_go_together_with_one_digest(method, selection, protocol, actors, request):
    result = simulate(run_of(method, selection, protocol))
    assert [row["round"] for row in result.rounds] == list(range(1, ROUNDS + 1))
    assert all(1 <= row["arrived"] <= MERGED[protocol] for row in result.rounds)
    losses = [row["loss"] for row in result.flights if row["loss"] is not None]
    assert all(map(math.isfinite, losses))
    assert sum(row["arrived"] for row in result.rounds) == len(losses)
    assert protocol != "synchronous" or len(losses) == len(result.flights)
    assert all(row["peak_memory_bytes"] <= row["available_memory_bytes"] for row in result.flights)
    assert protocol not in MIXING or max(row["staleness"] or 0 for row in result.flights) > 0
    in_threads = simulate(run_of(method, selection, protocol, kind="inprocess", workers=2))
    assert in_threads.summary["digest"] == result.summary["digest"]
    if actors is not None:
        request.getfixturevalue("_pools")
        on_actors = simulate(run_of(method, selection, protocol, workers=actors))
        assert on_actors.summary["digest"] == result.summary["digest"]


def test_every_pair_is_in_a_run_and_everything_meets_one_and_two_actors():
    assert set(PROTOCOLS) == set(names("protocol"))
    together = {frozenset(two) for run in RUNS for two in itertools.combinations(run, 2)}
    kinds = (METHODS, SELECTORS, PROTOCOLS)
    wanted = {frozenset(two) for some, others in itertools.combinations(kinds, 2)
              for two in itertools.product(some, others)}  # fmt: skip
    refused = {frozenset(two) for two in itertools.product(OF_THE_LATEST, MIXING)}
    assert together & refused == set()
    assert wanted - refused <= together
    on_actors = {frozenset(two) for kind in kinds for two in itertools.product(kind, (1, 2))}
    # What mixes versions needs at least two at work.
    assert on_actors - {frozenset((protocol, 1)) for protocol in MIXING} <= together


@pytest.mark.slow
@pytest.mark.usefixtures("_pools")
@pytest.mark.parametrize(("norm", "actors"), [("batch", 2), ("group", 1)])
def test_devices_that_fit_their_steps_into_memory_give_one_digest(norm, actors):
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
        for backend in ("inprocess", {"kind": "ray", "workers": actors})
    ]
    assert len({row["plan"] for row in runs[0].flights}) > 1
    assert len({run.summary["digest"] for run in runs}) == 1


LLAMA = {"model_type": "llama", "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
         "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16}  # fmt: skip


@pytest.mark.slow
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


@pytest.mark.slow
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
        flights = simulate(run_of(method, "uniform", is_dry=True)).flights
        assert len({row["submodel"] for row in flights}) > 1, method
