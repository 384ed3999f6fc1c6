"""Methods, selectors, protocols and availability of a user's own: from Python, from a file, registered."""

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from broken_runs import BreakAfter, Broken
from ray_pools import cluster, lent_pools
from tiny_scenarios import TINY, tiny
from torch import nn

import neulite_sim
from neulite_sim.engine.given import held_values, register, with_given
from neulite_sim.engine.resuming import find_cut_off, resume
from neulite_sim.engine.simulation import simulate
from neulite_sim.errors import OutputError, ScenarioError, SimulationError, UnknownComponentError
from neulite_sim.methods.fedavg import FedAvg
from neulite_sim.registry import Component, Options
from neulite_sim.scenario.loading import load_scenario, parse_scenario
from neulite_sim.selection.contract import Selector
from neulite_sim.timeline.endings import ending_of

SHIFT = 0.0
LOCK = threading.Lock()


def median(current: Any, updates: Any) -> Any:
    names = updates[0].tensors
    return {
        name: torch.stack([update.tensors[name] for update in updates]).median(dim=0).values + SHIFT for name in names
    }


class Halved(FedAvg):
    def digest(self, state: Any, updates: Any) -> Any:
        new = super().digest(state, updates)
        half = {name: (state.tensors[name] + tensor) / 2 for name, tensor in new.tensors.items()}
        return type(new)(version=new.version, tensors=half)


def last_ones(offers: Any, count: int, rng: Any) -> Any:
    return np.arange(len(offers))[-count:]


class Rotation(Selector):
    def __init__(self, num_devices: int, start: int = 0) -> None:
        self._times = np.zeros(num_devices)
        self._times[:start] = 1

    def choose(self, offers: Any, count: int, rng: Any) -> Any:
        chosen = np.sort(np.argsort(self._times[offers.devices], kind="stable")[:count])
        self._times[offers.devices[chosen]] += 1
        return chosen


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, images: Any) -> Any:
        return images + self.second(self.first(images).relu())


class Net(nn.Module):
    """Blocks that branch and meet again, kept in a list: nothing that could be cut by its children."""

    def __init__(self, num_classes: int, channels: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.stages = nn.ModuleList([Residual(channels) for _ in range(3)])
        self.norm = nn.BatchNorm2d(channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, images: Any) -> Any:
        maps = self.stem(images)
        for stage in self.stages:
            maps = stage(maps)
        return self.head(self.norm(maps).relu().mean(dim=(2, 3)))


def stripes(seed: int, samples: int = 90) -> Any:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, samples)
    images = rng.normal(0, 1, (samples, 8, 8)).astype(np.float32)
    images[np.arange(samples), 2 * labels] += 3
    return images[30:], labels[30:], images[:30], labels[:30]


def every_sixth(labels: Any, num_devices: int) -> Any:
    return [np.arange(device, len(labels), num_devices) for device in range(num_devices)]


class Evenings:
    """Online in the first half of every ten seconds."""

    def __init__(self, num_devices: int, seed: int) -> None:
        self.num_devices = num_devices

    def online(self, at_s: float) -> Any:
        return np.full(self.num_devices, at_s % 10 < 5)

    def online_until_s(self, devices: Any, at_s: float, horizon_s: float = 0.0) -> Any:
        return np.full(len(devices), at_s - at_s % 10 + 5 if at_s % 10 < 5 else at_s)

    def next_online_s(self, devices: Any, at_s: float) -> Any:
        return np.full(len(devices), at_s if at_s % 10 < 5 else at_s - at_s % 10 + 10)


class Breaks:
    """Synchronous rounds with a break of a second after each."""

    mixes_versions = False

    def process(self, clock: Any, server: Any, launch: Any) -> Any:
        while not server.is_over():
            flights = server.dispatch(clock.now)
            if not flights:
                yield clock.at(server.next_chance_s(clock.now))
                continue
            server.train(flights)
            landings = [launch(flight) for flight in flights]
            yield clock.all_of(landings)
            server.digest(
                [ending_of(flight, landing) for flight, landing in zip(flights, landings, strict=True)], clock.now
            )
            yield clock.at(clock.now + 1.0)


FILE = Path(__file__).read_text(encoding="utf-8").partition("\n\nFILE = ")[0]
MODEL_AND_DATA = {"model": Net, "data": stripes, "partition": every_sixth}
OWN = {"method": median, "selector": Rotation, "availability": Evenings}


@pytest.fixture(name="_actors", scope="module")
def _two_actors() -> Iterator[None]:
    """Two actors, of which a run takes as many as it asks for."""
    with cluster(), lent_pools(most=2):
        yield


@pytest.fixture(name="file", scope="module")
def _file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    # The same code, without what it imports of the tests.
    kept = [
        line
        for line in FILE.splitlines()
        if not line.startswith(("from broken_runs", "from ray_pools", "from tiny_scenarios"))
    ]
    (folder / "own.py").write_text("\n".join(kept))
    return folder / "own.py"


def in_file(file: Path) -> list[str]:
    return [
        f"method={{kind: python, path: {file}, name: median}}",
        f"selection={{kind: python, path: {file}, name: Rotation, devices_per_round: 3}}",
        f"population.availability={{kind: python, path: {file}, name: Evenings}}",
    ]


def test_the_same_code_gives_the_same_run_from_python_from_a_file_and_registered(file: Path) -> None:
    for field, value in OWN.items():
        register(field, f"own-{field}", value)
    named = ["method=own-method", "selection={kind: own-selector, devices_per_round: 3}",
             "population.availability=own-availability"]  # fmt: skip
    results = [simulate(TINY, **OWN), simulate(tiny(), **OWN), simulate(tiny(*in_file(file))), simulate(tiny(*named))]
    assert len({result.summary["digest"] for result in results}) == 1
    assert results[0].summary["digest"] != simulate(tiny()).summary["digest"]
    assert [result.summary["method"] for result in results] == ["median", "median", "median", "own-method"]
    assert results[2].summary["selection"] == "Rotation"


@pytest.mark.slow
@pytest.mark.usefixtures("_actors")
def test_actors_are_sent_the_code_and_give_the_same_bits(file: Path, tmp_path: Path) -> None:
    ray = ["backend={kind: ray, workers: 2}"]
    halved = {"method": Halved, "selector": last_ones}
    in_process = simulate(TINY, **halved).summary["digest"]
    assert simulate(tiny(*ray), **halved).summary["digest"] == in_process
    other = f"method={{kind: python, path: {file}, name: Halved}}"
    chosen = f"selection={{kind: python, path: {file}, name: last_ones, devices_per_round: 3}}"
    assert simulate(tiny(*ray, other, chosen)).summary["digest"] == in_process


STAGED = {**TINY, "method": "neulite", "stop": {"rounds": 3}}
IN_FILE = {"model": {"name": "Net", "blocks": 3}, "data": {"name": "stripes", "partition": {"name": "every_sixth"}}}


def staged_in_file(file: Path) -> dict[str, Any]:
    def located(named: dict[str, Any]) -> dict[str, Any]:
        inner = {key: located(value) if isinstance(value, dict) else value for key, value in named.items()}
        return {"kind": "python", "path": str(file), **inner}

    return {**STAGED, **{field: located(named) for field, named in IN_FILE.items()}}


@pytest.mark.slow
@pytest.mark.usefixtures("_actors")
def test_models_and_data_of_ones_own_train_alike_everywhere(file: Path, tmp_path: Path) -> None:
    """From Python and from a file, in process and on one or two actors, unbroken and resumed: one digest."""
    named = staged_in_file(file)
    scenarios = [with_given({**STAGED, "model": {"kind": "python", "path": "x", "name": "x", "blocks": 3}},
                            **MODEL_AND_DATA), parse_scenario(named)]  # fmt: skip
    digests = {simulate(scenario).summary["digest"] for scenario in scenarios}
    for workers in (1, 2):
        scenario = scenarios[workers - 1]
        ray = parse_scenario(scenario.dump(), [f"backend={{kind: ray, workers: {workers}}}"])
        digests.add(simulate(ray).summary["digest"])
    for place, scenario in enumerate(scenarios):
        run_dir = broken_off(tmp_path / str(place), scenario)
        digests.add(resume(find_cut_off(run_dir)).summary["digest"])
    assert len(digests) == 1
    assert digests != {simulate(parse_scenario(named, ["model.options={channels: 5}"])).summary["digest"]}


def test_a_run_is_not_resumed_where_a_function_gives_other_data(tmp_path: Path) -> None:
    np.save(tmp_path / "shift.npy", np.float32(0))
    (tmp_path / "code.py").write_text(
        "import numpy as np\nfrom pathlib import Path\n\n\ndef load():\n"
        "    shift = np.load(Path(__file__).parent / 'shift.npy')\n"
        "    images = np.arange(60 * 64, dtype=np.float32).reshape(60, 8, 8) / 64 + shift\n"
        "    return images[:40], np.arange(40) % 3, images[40:], np.arange(20) % 3\n"
    )
    own = {"kind": "python", "path": str(tmp_path / "code.py"), "name": "load"}
    run_dir = broken_off(tmp_path / "run", parse_scenario({**TINY, "data": own}))
    np.save(tmp_path / "shift.npy", np.float32(1))
    with pytest.raises(OutputError, match="data: load gives other samples now"):
        resume(find_cut_off(run_dir))


def test_the_way_in_which_values_are_given_is_free() -> None:
    digests = {
        simulate(TINY, method=value).summary["digest"] for value in (Halved, Halved(), Halved(memory_limit=True))
    }
    assert len(digests) == 1
    plain = simulate(TINY, method=FedAvg(weighting="samples")).summary
    assert plain["digest"] == simulate(TINY).summary["digest"]
    component = Component(kind="x", summary="", source="", options=Options, build=lambda options, setting: Halved())
    assert simulate(TINY, method=component).summary["digest"] in digests


def test_a_selector_that_remembers_begins_anew_in_each_run() -> None:
    selector = Rotation(6, start=2)
    first, second = (simulate(TINY, selector=selector).summary["digest"] for _ in range(2))
    assert first == second


def test_a_protocol_of_ones_own_takes_its_time() -> None:
    usual, slower = simulate(TINY), simulate(TINY, protocol=Breaks)
    assert slower.summary["digest"] != usual.summary["digest"]
    more_s = [
        slow["virtual_time_s"] - quick["virtual_time_s"]
        for slow, quick in zip(slower.rounds, usual.rounds, strict=True)
    ]
    assert more_s == pytest.approx([0, 1, 2, 3], abs=1e-6)


def broken_off(folder: Path, scenario: Any, **given: Any) -> Path:
    with pytest.raises(Broken):
        simulate(scenario, out=folder, observers=[BreakAfter(2)], **given)
    return folder


def test_a_run_with_values_from_python_is_resumed_with_the_same_ones(tmp_path: Path) -> None:
    whole = simulate(TINY, **OWN)
    run_dir = broken_off(tmp_path / "run", TINY, **OWN)
    holders = held_values(**OWN)
    assert resume(find_cut_off(run_dir)).summary["digest"] == whole.summary["digest"]
    del holders


def test_a_run_is_not_resumed_with_other_values(tmp_path: Path) -> None:
    def own(current: Any, updates: Any) -> Any:
        return updates[0].tensors

    run_dir = broken_off(tmp_path / "run", TINY, method=own)
    del own
    import gc

    gc.collect()
    with pytest.raises(ScenarioError, match=r"method: was given from Python, and own is not here \(fingerprint "):
        resume(find_cut_off(run_dir))

    def own(current: Any, updates: Any) -> Any:
        return updates[-1].tensors

    holders = held_values(method=own)
    with pytest.raises(ScenarioError, match=r"what is called own now is something else .*give the same again, with"):
        resume(find_cut_off(run_dir))
    del holders


def test_a_run_with_a_file_is_resumed_while_that_and_what_it_imports_stay(tmp_path: Path) -> None:
    (tmp_path / "part_of_own_code.py").write_text("LAST = -1\n")
    (tmp_path / "code.py").write_text(
        "from part_of_own_code import LAST\n\n\ndef last(current, updates):\n    return updates[LAST].tensors\n"
    )
    (tmp_path / "s.yaml").write_text(
        json.dumps({**TINY, "method": {"kind": "python", "path": "code.py", "name": "last"}})
    )
    scenario = load_scenario(tmp_path / "s.yaml")
    run_dir = broken_off(tmp_path / "run", scenario)
    inputs = json.loads((run_dir / "provenance.json").read_text())["inputs"]
    assert list(inputs["method.path"]["beside"]) == ["part_of_own_code.py"]
    (tmp_path / "part_of_own_code.py").write_text("LAST = 0\n")
    with pytest.raises(OutputError, match=r"part_of_own_code.py, which it imports, holds something else now; put it"):
        find_cut_off(run_dir)
    (tmp_path / "part_of_own_code.py").write_text("LAST = -1\n")
    assert resume(find_cut_off(run_dir)).summary["digest"] == simulate(scenario).summary["digest"]


def test_a_run_with_a_registered_name_is_resumed_with_the_same_code_only(tmp_path: Path) -> None:
    register("method", "of-mine", median)
    run_dir = broken_off(tmp_path / "run", tiny("method=of-mine"))
    register("method", "of-mine", Halved)
    with pytest.raises(OutputError, match="method: what is registered now has other code or data"):
        find_cut_off(run_dir)
    register("method", "of-mine", median)
    find_cut_off(run_dir)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda current, updates: {"nobody": 1}, r"method <lambda> returns 'nobody', which the model has not"),
        (lambda current, updates: None, r"method <lambda> returns NoneType; it must return a mapping of tensors"),
        (lambda current, updates: {"head.fc.bias": torch.zeros(3)},
         r"method <lambda> returns a tensor of shape \(3,\), not \(10,\), for 'head.fc.bias'"),
        (lambda current, updates: updates[99], r"method <lambda> fails: \S*own_code.py:\d+: IndexError: list index"),
    ],
)  # fmt: skip
def test_a_method_that_gives_no_model_is_refused(function: Any, said: str) -> None:
    with pytest.raises(SimulationError, match=said):
        simulate(TINY, method=function)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda offers, count, rng: [0, 0], r"selection <lambda> chose the offers 0, 0 of 6; it must return positions"),
        (lambda offers, count, rng: [7], r"chose the offers 7 of 6; it must return positions from 0 to 5 \(not device"),
        (lambda offers, count, rng: [0, 1, 2, 3], r"chose 4 offers where at most 3 are wanted"),
        (lambda offers, count, rng: [0.5], r"selection <lambda> returned numbers of type float64; it must return"),
        (lambda offers, count, rng: [], r"selection <lambda> chose none of 6 offers; nothing else moves the run on"),
        (lambda offers, count, rng: None, r"selection <lambda> returned nothing; it must return a list"),
        (lambda offers, count, rng: 1 // 0, r"selection <lambda> fails: \S*own_code.py:\d+: ZeroDivisionError"),
    ],
)  # fmt: skip
def test_a_selector_that_chooses_what_is_not_there_is_refused(function: Any, said: str) -> None:
    with pytest.raises(SimulationError, match=said):
        simulate(TINY, selector=function)


@pytest.mark.parametrize("answer", [None, "all", [0.9, 1.9], [], [3, 2]])
def test_what_a_selector_of_a_class_returns_is_checked_and_names_its_file(answer: Any) -> None:
    class Odd(Selector):
        def choose(self, offers: Any, count: int, rng: Any) -> Any:
            return answer

    with pytest.raises(
        SimulationError, match=r"selection Odd \(\S*test_integration_own_code.py:\d+\) (chose|returned)"
    ):
        simulate(TINY, selector=Odd)


def test_options_of_what_is_given_stand_in_the_scenario() -> None:
    signals = np.random.default_rng(0).normal(size=(60, 4, 9)).astype(np.float32)
    data = signals, np.arange(60) % 3
    result = simulate(
        {**TINY, "data": {"options": {"inputs": "numbers"}}},
        data=data,
        model=lambda num_classes: nn.Sequential(nn.Flatten(), nn.Linear(36, num_classes)),
    )
    assert result.summary["dataset"] == "arrays"
    with pytest.raises(ScenarioError, match=r"data\.inputs: unknown key"):
        simulate({**TINY, "data": {"inputs": "numbers"}}, data=data)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": 3}, "method: int is of type int, which is no method; give a function aggregate"),
        ({"method": Rotation}, "method: Rotation is the class Rotation, which is no method"),
        ({"selector": 3}, "selection: int is int, which is no selector; give a function choose"),
        ({"protocol": 3}, "protocol: int is or makes int, which is no protocol; give an object with mixes_versions"),
        ({"availability": 3}, "population.availability: int is or makes int, which is no availability"),
        ({"availability": Evenings(4, 0)}, "Evenings answers for 4 devices; population.devices is 6"),
        ({"method": lambda current, updates, lock=LOCK: None},
         r"method: <lambda> holds a lock \(defaults\[0\]\[0\]\), which can neither be told from another nor be sent to "
         "worker processes; make it inside of the function"),
    ],
)  # fmt: skip
def test_what_is_no_such_thing_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ScenarioError, match=said):
        simulate(TINY, **given)


@pytest.mark.parametrize(
    "rng", [np.random.default_rng(0), torch.Generator(), random.Random(0)], ids=lambda each: type(each).__name__
)
def test_a_model_with_a_generator_of_its_own_is_refused(rng: Any) -> None:
    class Noisy(Net):
        def forward(self, images: Any) -> Any:
            return super().forward(images) * float(rng.random())

    with pytest.raises(
        ScenarioError, match=r"model: Noisy holds a generator of random numbers \(\.forward rng\), which no"
    ):
        simulate({**TINY, "stop": {"rounds": 1}}, model=Noisy, data=stripes)


def test_what_is_assumed_of_ones_own_is_said_with_the_progress(capsys: Any) -> None:
    images, labels = (
        np.zeros((50, 8, 8), np.float32) + np.arange(50, dtype=np.float32)[:, None, None],
        np.arange(50) % 3,
    )
    simulate({**TINY, "stop": {"rounds": 1}}, data=(images, labels), progress=True)
    said = capsys.readouterr().err
    assert "! arrays: read as grey images [N, H, W]: 1x8x8\n" in said
    assert "are held out" in said


def test_names_that_cannot_be_registered_are_refused() -> None:
    with pytest.raises(
        UnknownComponentError, match=r"nothing is registered for 'metod'; did you mean 'method' or 'model'\?"
    ):
        register("metod", "x", median)
    with pytest.raises(UnknownComponentError, match="method 'fedavg' is there already; register it by another name"):
        register("method", "fedavg", median)
    with pytest.raises(UnknownComponentError, match="'a:b' can be no name of a component; use letters"):
        register("method", "a:b", median)


def test_what_is_no_scenario_is_refused() -> None:
    with pytest.raises(ScenarioError, match="a scenario is wanted, found int; give a Scenario, the path of its file"):
        simulate(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="nothing is given as 'selectr'; did you mean 'selector'"):
        with_given(TINY, selectr=3)


def test_what_a_file_says_of_a_component_that_is_given_is_not_needed(tmp_path: Path) -> None:
    rest = {key: value for key, value in TINY.items() if key != "method"}
    (tmp_path / "s.yaml").write_text(json.dumps(rest))
    assert simulate(tmp_path / "s.yaml", method=median).summary["method"] == "median"
    scenario = with_given(TINY, ["stop.rounds=2"], seed=9, selector=last_ones)
    assert scenario.selection.options.devices_per_round == 3
    assert (scenario.seed, scenario.stop.rounds) == (9, 2)
    assert neulite_sim.simulate(scenario).summary["rounds"] == 2
