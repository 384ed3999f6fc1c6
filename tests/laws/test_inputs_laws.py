"""Law 6 of the project: a run's inputs are part of it. Every option that names a file is known, and what is read there.

`PLAIN` lists the options that hold text of another kind; an option that is neither marked nor listed fails here, and
so does a component that opens a file which its marks do not cover.
"""

import os
import typing
from pathlib import Path

import pytest
from opened_files import opened_below
from pydantic import BaseModel
from tiny_scenarios import tiny

from neulite_sim import registry
from neulite_sim.population.sampling import build_population
from neulite_sim.registry import Choice
from neulite_sim.results.study import PATH_OPTIONS
from neulite_sim.scenario.inputs import (
    MOST_NAMED,
    Reads,
    differences,
    found_from,
    input_records,
    mark_of,
    pinned,
    without_places,
)
from neulite_sim.scenario.loading import load_scenario, scenario_hash
from neulite_sim.scenario.schema import Scenario

PLAIN = {
    "Energy.power",  # names of devices
    "Scenario.name",
    "Group.device",
    "RayOptions.address",
    *(f"ArrayOptions.{name}" for name in ("train_inputs", "train_labels", "test_inputs", "test_labels", "groups")),
    *(f"CsvOptions.{name}" for name in ("label", "group", "ignore", "categorical")),
    *(f"HuggingFaceOptions.{name}" for name in ("input", "label", "group")),
    "FlwrOptions.options",
}
# What a user's own function is called with: it finds files by its own place, and the data that it gives is hashed.
OF_USERS = ("InFile.name", "InFile.options")


def models(kind, seen):
    """Yield a model of options and every one that can stand inside of it."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if kind not in seen:
            seen.add(kind)
            yield kind
            for info in kind.model_fields.values():
                yield from models(info.annotation, seen)
        return
    for inner in typing.get_args(kind):
        yield from models(inner, seen)


def holds_text(annotation):
    if typing.get_origin(annotation) is typing.Literal:
        return False
    return annotation is str or any(map(holds_text, typing.get_args(annotation)))


def every_option():
    seen = set()
    kinds = [
        Scenario,
        *(registry.load(group, name).options for group in registry.GROUPS for name in registry.kinds(group)),
    ]
    for kind in kinds:
        for model in models(kind, seen):
            for name, info in model.model_fields.items():
                yield f"{model.__name__}.{name}", info


def test_every_option_of_text_is_the_mark_of_a_file_or_known_to_be_none():
    texts = {name: info for name, info in every_option() if holds_text(info.annotation)}
    unknown = sorted(
        name
        for name, info in texts.items()
        if mark_of(info) is None and name not in PLAIN and not name.endswith(OF_USERS)
    )
    assert not unknown, f"declare {unknown} as InputFile or with input_folder, or list them in PLAIN"
    assert {name for name, info in every_option() if mark_of(info)} >= {
        "RateTrace.trace", "Individuals.path", "PopulationSection.hardware", "ImageFolderOptions.root"}  # fmt: skip


def test_runs_without_a_provenance_are_told_apart_by_every_option_that_names_a_file():
    assert {name.partition(".")[2] for name, info in every_option() if mark_of(info)} == PATH_OPTIONS


@pytest.mark.parametrize(
    "annotation",
    [
        typing.Annotated[str, Reads()],
        typing.Annotated[str, Reads()] | None,
        tuple[typing.Annotated[str, Reads()], ...],
        dict[str, typing.Annotated[str, Reads()] | None],
    ],
)
def test_a_mark_is_found_wherever_it_stands(annotation):
    class Own(registry.Options):
        files: annotation

    assert mark_of(Own.model_fields["files"]) == Reads()
    given = {"a": "x.csv"} if typing.get_origin(annotation) is dict else ("x.csv",)
    value = "x.csv" if annotation in (typing.Annotated[str, Reads()], typing.Annotated[str, Reads()] | None) else given
    chosen = Choice("own", Own(files=value))
    assert [record["path"] for record in input_records(chosen).values()] == [os.path.abspath("x.csv")]


def hardware():
    numbers = {
        "installed_memory_bytes": 8e9, "usable_memory_bytes": 6e9, "peak_flops_per_second": 1e11,
        "memory_bytes_per_second": 2e10, "efficiency": 0.5, "bandwidth_efficiency": 0.7, "operator_overhead_s": 1e-5,
        "downlink_bits_per_second": 1e8, "uplink_bits_per_second": 5e7,
    }  # fmt: skip
    facts = [f'{key} = {{ value = {int(value) if value > 1 else value}, status = "measured", source = "made up for a test" }}'
             for key, value in numbers.items()]  # fmt: skip
    head = ["schema_version = 1", "[devices.my-board]", 'family = "computer"', 'compute_unit = "four cores"']
    return "\n".join([*head, *facts, ""])


def files_of_a_fleet(folder):
    """Write one file of every kind that a population reads, and return the changes that name them."""
    (folder / "online.csv").write_text("device,start_s,end_s\n0,0,1000\n")
    (folder / "memory.csv").write_text("device,t_s,available_bytes\n0,0,10000000\n")
    (folder / "rates.csv").write_text("trace,t_s,bits_per_second\n0,0,1e7\n0,10,2e7\n0,20,\n")
    (folder / "phones.csv").write_text("model,speed_factor\na,1.0\nb,0.5\n")
    (folder / "boards.toml").write_text(hardware())
    link = "{downlink: {trace: rates.csv}, uplink: {trace: rates.csv, scale: 0.5}}"
    return (
        "population.availability={kind: trace, path: online.csv}",
        "population.memory_motion={kind: trace, path: memory.csv}",
        f"population.link={link}",
        "population.groups=[{device: my-board, share: 1, individuals: {path: phones.csv}}]",
        "population.hardware=boards.toml",
    )


def test_what_a_fleet_reads_is_what_is_hashed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scenario = tiny(*files_of_a_fleet(tmp_path))
    records = input_records(scenario)
    with opened_below(tmp_path) as opened:
        build_population(scenario.population, 0)
    assert opened == {os.path.relpath(record["path"], tmp_path) for record in records.values()}
    assert set(records) == {
        "population.availability.path", "population.memory_motion.path", "population.link.downlink.trace",
        "population.hardware", "population.link.uplink.trace", "population.groups.0.individuals.path"}  # fmt: skip
    for path in sorted(opened):
        (tmp_path / path).write_text((tmp_path / path).read_text() + "\n")
        (found, *_) = differences(records, input_records(scenario))
        assert found.endswith(f"{tmp_path / path} holds something else now")
        records = input_records(scenario)


def test_a_scenario_without_files_reads_none_and_keeps_its_hash():
    assert input_records(tiny()) == {}
    assert without_places(tiny()) == tiny()
    assert found_from(tiny(), lambda keys: ("/",)) == tiny()


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A scenario in one folder that extends one in another, and a third folder as the current one."""
    for name in ("own", "base", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "base" / "base.yaml").write_text(tiny().model_dump_json())
    (tmp_path / "own" / "own.yaml").write_text(
        "extends: ../base/base.yaml\npopulation: {availability: {kind: trace, path: t.csv}}\n"
    )
    return tmp_path


def path_of(*overrides):
    return load_scenario("../own/own.yaml", overrides).population.availability.options.path


def test_a_path_is_looked_up_beside_the_file_that_says_it_then_in_the_current_folder(places):
    assert path_of() == "t.csv"
    (places / "base" / "t.csv").touch()
    assert path_of() == "t.csv"
    (places / "here" / "t.csv").touch()
    assert path_of() == "t.csv"
    (places / "own" / "t.csv").touch()
    assert path_of() == "../own/t.csv"


def test_what_is_kept_of_a_run_holds_from_any_folder(places):
    (places / "own" / "t.csv").touch()
    found = pinned(load_scenario("../own/own.yaml")).population.availability.options.path
    assert os.path.isabs(found)
    assert Path(found).samefile(places / "own" / "t.csv")


def test_a_path_of_the_base_is_looked_up_beside_the_base(places):
    text = "population: {availability: {kind: trace, path: t.csv}}\n"
    base = load_scenario("../base/base.yaml")
    (places / "base" / "base.yaml").write_text(
        base.model_copy(update={"name": "b"}).model_dump_json()[:-1].replace('"always"', '"always"') + "}"
    )
    (places / "base" / "middle.yaml").write_text("extends: base.yaml\n" + text)
    (places / "own" / "own.yaml").write_text("extends: ../base/middle.yaml\n")
    for name in ("own", "base"):
        (places / name / "t.csv").touch()
    assert Path(path_of()).samefile(places / "base" / "t.csv")


def test_a_path_on_the_command_line_is_looked_up_in_the_current_folder_first(places):
    change = "population.availability.path=u.csv"
    (places / "own" / "u.csv").touch()
    assert Path(path_of(change)).samefile(places / "own" / "u.csv")
    (places / "here" / "u.csv").touch()
    assert Path(path_of(change)).samefile(places / "here" / "u.csv")


def test_absolute_and_home_paths_stay(places, monkeypatch):
    monkeypatch.setenv("HOME", str(places / "here"))
    (places / "own" / "~").mkdir()
    for path in ("/nowhere/t.csv", "~/t.csv"):
        assert path_of(f"population.availability.path={path}") == path


def test_a_folder_is_found_by_what_is_read_in_it(places):
    change = ("data={kind: image-folder, root: pictures}",)
    for name in ("own", "here"):
        (places / name / "pictures").mkdir()
    (places / "here" / "pictures" / "train").mkdir()
    found = load_scenario("../own/own.yaml", change).data.options.root
    assert Path(found).samefile(places / "here" / "pictures")
    (places / "own" / "own.yaml").write_text("extends: ../base/base.yaml\ndata: {kind: image-folder, root: pictures}\n")
    (places / "own" / "pictures" / "test").mkdir()
    assert Path(load_scenario("../own/own.yaml").data.options.root).samefile(places / "own" / "pictures")


def test_the_same_files_in_another_place_are_the_same_scenario(places):
    (places / "own" / "t.csv").touch()
    (places / "here" / "t.csv").touch()
    one, other = (load_scenario("../own/own.yaml", [f"population.availability.path={places / name / 't.csv'}"])
                  for name in ("own", "here"))  # fmt: skip
    assert scenario_hash(one) != scenario_hash(other)
    assert scenario_hash(without_places(one)) == scenario_hash(without_places(other))
    assert differences(input_records(one), input_records(other)) == []


@pytest.fixture
def pictures(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part / "cat").mkdir(parents=True)
        (tmp_path / part / "cat" / "1.png").write_bytes(b"abc")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "notes.txt").touch()
    return tiny(f"data={{kind: image-folder, root: '{tmp_path}'}}"), tmp_path


def changes_in(scenario, records):
    return differences(records, input_records(scenario))


def test_of_a_folder_each_file_is_told_that_changed_came_or_went(pictures):
    scenario, root = pictures
    records = input_records(scenario)
    assert records["data.root"]["by"] == "content"
    (root / "train" / "cat" / ".hidden").touch()
    (root / "notes.txt").write_text("not read")
    assert changes_in(scenario, records) == []
    (root / "train" / "cat" / "1.png").write_bytes(b"abd")
    assert changes_in(scenario, records) == [f"data.root: {root}/train/cat/1.png was changed"]
    (root / "train" / "cat" / "2.png").touch()
    assert changes_in(scenario, records) == [
        f"data.root: {root}/train/cat/1.png was changed, and 1 more of that folder differ"
    ]
    (root / "train" / "cat" / "1.png").write_bytes(b"abc")
    assert changes_in(scenario, records) == [f"data.root: {root}/train/cat/2.png is new"]
    (root / "train" / "cat" / "2.png").rename(root / "test" / "cat" / "1.png")
    assert changes_in(scenario, records) == [f"data.root: {root}/test/cat/1.png was changed"]


def test_of_a_folder_of_many_files_the_folder_is_told(pictures):
    scenario, root = pictures
    for number in range(MOST_NAMED):
        (root / "train" / "cat" / f"{number + 2}.png").touch()
    records = input_records(scenario)
    assert set(records["data.root"]["parts"]) == {"train/cat", "test/cat"}
    (root / "train" / "cat" / "7.png").write_bytes(b"x")
    assert changes_in(scenario, records) == [f"data.root: {root}/train/cat was changed"]


def test_a_large_folder_is_compared_by_names_and_sizes(pictures, monkeypatch):
    scenario, root = pictures
    monkeypatch.setattr("neulite_sim.scenario.inputs.CONTENT_BYTES", 5)
    records = input_records(scenario)
    assert records["data.root"]["by"] == "names and sizes"
    (root / "train" / "cat" / "1.png").write_bytes(b"abd")
    assert changes_in(scenario, records) == []
    (root / "train" / "cat" / "1.png").write_bytes(b"abcd")
    assert changes_in(scenario, records) == [f"data.root: {root}/train/cat/1.png was changed"]


def test_what_is_gone_or_is_no_file_is_told(pictures, tmp_path):
    scenario, root = pictures
    records = input_records(scenario)
    (root / "train" / "loop").symlink_to(root / "train")
    assert changes_in(scenario, records) == []
    for part in ("train", "test"):
        (root / part).rename(root / f"{part}-gone")
    assert changes_in(scenario, records) == [f"data.root: {root} cannot be read any more (No such file or directory)"]
    trace = tiny(f"population.availability={{kind: trace, path: '{tmp_path / 'pipe'}'}}")
    os.mkfifo(tmp_path / "pipe")
    assert input_records(trace)["population.availability.path"]["missing"] == "is not a regular file"
    assert differences({}, input_records(trace)) == [
        f"population.availability.path: no checksum of {tmp_path / 'pipe'} was kept"
    ]
