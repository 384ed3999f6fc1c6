"""The page of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neulite_sim.reports.html.asking import asked
from neulite_sim.reports.html.blocks import Block, Commands, Facts, Grid, Page, Prose, Section, Tile, with_content
from neulite_sim.reports.html.devices import devices_blocks, read_devices
from neulite_sim.reports.html.energy import energy_blocks
from neulite_sim.reports.html.fleet import drawn_memory, kept_memory, needs_of
from neulite_sim.reports.html.measured import measure_switch, said_measures
from neulite_sim.reports.html.rounds_time import first_rounds, time_blocks
from neulite_sim.reports.html.run_story import RunStory, read_story
from neulite_sim.reports.html.taking_part import part_blocks
from neulite_sim.reports.html.wall import wall_blocks
from neulite_sim.reports.html.wording import count, duration, percent, size
from neulite_sim.reports.lines import accuracy as said_accuracy
from neulite_sim.reports.lines import energy as said_energy
from neulite_sim.reports.lines import proxy_note
from neulite_sim.reports.lines import target as said_target
from neulite_sim.reports.measures import ACCURACY, PERPLEXITY
from neulite_sim.reports.run_names import method_name
from neulite_sim.reports.table import TextTable


def run_page(path: Path, *, most_rows: int, shown_as: str) -> Page:
    """Return the page of the run in a folder; `shown_as` is the folder as the commands to repeat it have it.

    Raises:
        DataNotFoundError: a file of the folder is missing or damaged, or the run has no round yet.
    """
    story = read_story(path)
    run = story.run
    devices = read_devices(path, num_devices=len(story.flown.took_part), most_rows=most_rows)
    if devices is None:
        memory = drawn_memory(path, story.flown)
        needs, peaks = needs_of(story.flown, story.shortfalls, memory), story.flown.peaks
    else:
        memory = kept_memory(devices)
        ranked = sorted(devices.needs.items(), key=lambda item: (item[1].least, item[0]))
        needs = {name: need.least for name, need in ranked}
        peaks = {name: (need.least, need.most) for name, need in ranked}
    sections = (
        Section(name="question", title="What was asked", blocks=(Facts(items=asked(run.scenario)),)),
        Section(name="accuracy", title=said_measures([run]), blocks=_tests(story)),
        Section(name="memory", title="The memory wall", blocks=wall_blocks(memory, needs, peaks=peaks)),
        Section(
            name="part",
            title="Who took part",
            blocks=part_blocks(story, num_samples=None if devices is None else devices.num_samples),
        ),
        Section(name="time", title="Where the time goes", blocks=(*time_blocks(story), *first_rounds(path, story))),
        Section(name="energy", title="Where the energy goes", blocks=energy_blocks(story)),
        Section(name="devices", title="Devices", blocks=devices_blocks(devices)),
        Section(name="repeat", title="Repeat it", blocks=_repeat(story, shown_as, has_devices=devices is not None)),
        Section(name="provenance", title="Provenance", blocks=(_provenance(story),)),
    )
    return Page(
        title=str(run.summary["name"]),
        subtitle=_subtitle(story),
        answer=answer(story),
        tiles=tuple(_tiles(story)),
        sections=with_content(sections),
        made_of=path.resolve().name,
        warnings=tuple(_warnings(story)),
    )


def _subtitle(story: RunStory) -> str:
    summary = story.run.summary
    return (
        f"{method_name(str(summary['method']))} · {summary['model']} on {summary['dataset']} · seed {summary['seed']}"
    )


def answer(story: RunStory) -> str:
    """Return the result of a run in a few sentences."""
    run, summary = story.run, story.run.summary
    if run.not_applicable is not None:
        return f"No device could train anything: {run.not_applicable.removeprefix('NA: ')}."
    how_long = f"{count(summary['rounds'], 'round')} and {duration(summary['virtual_time_s'])} of virtual time"
    accuracy = summary.get("tail_accuracy")
    if accuracy is None:
        said = f"Nothing was tested in {how_long}."
    else:
        whose = "The proxy" if summary.get("proxy") else "The model"
        perplexity = summary.get(PERPLEXITY.summarised)
        also = "" if perplexity is None else f" and a perplexity of {PERPLEXITY.say(perplexity)}"
        said = f"{whose} reached {said_accuracy(accuracy)} accuracy{also} in {how_long}."
    rate, data = summary.get("participation_rate"), summary.get("data_share")
    if rate is not None:
        everybody = "Every device has" if rate >= 1 else f"{percent(rate)} of the devices have"
        said += f" {everybody} the memory to take part"
        said += f"; those that did hold {percent(data)} of the data." if data is not None else "."
    said += f" The largest training step needs {size(summary['peak_memory_bytes'])} on a device."
    return said


def _tiles(story: RunStory) -> Sequence[Tile]:
    summary, stop = story.run.summary, story.run.scenario.get("stop") or {}
    if story.run.not_applicable is not None:
        return ()
    reached = _reached(summary)
    return (
        Tile(
            title="Accuracy",
            value=said_accuracy(summary.get("tail_accuracy")),
            details=_accuracy_details(summary, stop),
        ),
        Tile(
            title="Virtual time",
            value=duration(summary["virtual_time_s"]),
            details=_time_details(summary, stop, reached),
        ),
        Tile(
            title="Peak memory",
            value=size(summary["peak_memory_bytes"]),
            details=_memory_details(summary),
        ),
        Tile(title="Data that took part", value=percent(summary.get("data_share")), details=_part_details(story)),
    )


def _reached(summary: Mapping[str, Any]) -> list[tuple[str, float]]:
    times = summary.get("time_to_accuracy_s") or {}
    return sorted(
        ((target, at_s) for target, at_s in times.items() if at_s is not None), key=lambda item: float(item[0])
    )


def _accuracy_details(summary: Mapping[str, Any], stop: Mapping[str, Any]) -> tuple[str, ...]:
    if summary.get("tail_accuracy") is None:
        return ("not tested",)
    said = [f"mean of up to three last tests; best {said_accuracy(summary['best_accuracy'])}"]
    if summary.get(PERPLEXITY.summarised) is not None:
        final, best = (PERPLEXITY.say(summary[f"{name}_perplexity"]) for name in ("final", "best"))
        said.append(f"perplexity {final} at the end; best {best}")
    target = stop.get("target_accuracy")
    if target is not None:
        is_reached = summary["best_accuracy"] >= target
        said.append(f"target {said_target(target)}: {'reached' if is_reached else 'not reached'}")
    if summary.get("proxy"):
        said.append("of the proxy")
    return tuple(said)


def _time_details(
    summary: Mapping[str, Any], stop: Mapping[str, Any], reached: list[tuple[str, float]]
) -> tuple[str, ...]:
    limit_s = stop.get("virtual_time")
    said = [f"{count(summary['rounds'], 'round')}{f', of {duration(limit_s)} allowed' if limit_s else ''}"]
    if reached:
        target, at_s = reached[-1]
        said.append(f"{_target(target)} after {duration(at_s)}")
    missed = [target for target, at_s in (summary.get("time_to_accuracy_s") or {}).items() if at_s is None]
    if missed and summary.get("best_accuracy") is not None:
        said.append(f"never {', '.join(map(_target, missed))}")
    return tuple(said)


def _target(name: str) -> str:
    return said_target(float(name))


def _memory_details(summary: Mapping[str, Any]) -> tuple[str, ...]:
    rate = summary.get("participation_rate")
    what = "tensor bytes of the largest training step"
    traffic = f"traffic {size(summary['bytes_down'])} down, {size(summary['bytes_up'])} up"
    energy = [] if summary.get("energy_j") is None else [f"energy {said_energy(summary)}"]
    if rate is None:
        return (what, traffic, *energy)
    return (what, f"{percent(rate)} of the devices hold at least one submodel", traffic, *energy)


def _part_details(story: RunStory) -> tuple[str, ...]:
    summary, devices = story.run.summary, int(story.flown.took_part.sum())
    flights = f"{count(summary['flights_arrived'], 'flight')} arrived, {summary['flights_dropped']:,} dropped"
    return f"on {devices:,} of {count(len(story.flown.took_part), 'device')}", flights


def _warnings(story: RunStory) -> Sequence[str]:
    run, said = story.run, []
    if not run.is_complete:
        said.append("This run was cut off, or still goes on: all is shown as far as its rows go.")
    if run.summary.get("proxy"):
        note = proxy_note(run.summary["proxy"])
        said.append(f"{note[:1].upper()}{note[1:]}. Memory, time and traffic are those of what is charged.")
    said += [str(text) for text in story.provenance.get("left_out") or ()]
    return said


def _tests(story: RunStory) -> tuple[Block, ...]:
    tests = story.rounds.tests
    if not tests[ACCURACY]:
        why = "Nobody could train." if story.run.not_applicable is not None else "Nothing was tested."
        return (Prose(paragraphs=(why,)),)
    times = story.run.summary.get("time_to_accuracy_s") or {}
    blocks: list[Block] = [measure_switch(ACCURACY, tests[ACCURACY], target=_goal(story))]
    if times:
        rows = tuple((_target(target), "never" if at_s is None else duration(at_s)) for target, at_s in times.items())
        table = TextTable(
            title="Virtual time to accuracy",
            headers=("accuracy", "first reached after"),
            rows=rows,
            numeric=frozenset(("accuracy", "first reached after")),
        )
        blocks.append(Grid(table=table))
    if tests[PERPLEXITY]:
        blocks.append(measure_switch(PERPLEXITY, tests[PERPLEXITY]))
    return tuple(blocks)


def _goal(story: RunStory) -> float | None:
    goal = (story.run.scenario.get("stop") or {}).get("target_accuracy")
    return None if goal is None else float(goal)


def _repeat(story: RunStory, folder: str, *, has_devices: bool) -> tuple[Block, ...]:
    digest = story.run.summary.get("digest")
    said = (
        "From the folder of this file. An equal digest means an equal run, bit for bit"
        if digest
        else "From the folder of this file"
    )
    items = [
        ("Run the same scenario again", f"neulite-sim run {folder}/scenario.yaml --out again"),
        ("Where the time of the rounds goes", f"neulite-sim timeline {folder}"),
        *([("The story of one device: 0, or another number", f"neulite-sim device {folder} 0")] if has_devices else []),
        ("This page", f"neulite-sim report {folder} --out report.html"),
    ]
    if not story.run.is_complete:
        items.insert(0, ("Go on with it", f"neulite-sim resume {folder}"))
    ending = f": {str(digest)[:16]}…" if digest else ""
    return (Prose(paragraphs=(f"{said}{ending}.",)), Commands(items=tuple(items)))


def _provenance(story: RunStory) -> Facts:
    made, summary = story.provenance, story.run.summary
    versions = {"Python": made.get("python"), **(made.get("libraries") or {})}
    known = (
        ("Run folder", story.run.path.resolve().name),
        ("Started", made.get("started_at_utc")),
        ("neulite-sim", _version(made)),
        ("Seed", made.get("seed")),
        ("Scenario", made.get("scenario_hash")),
        ("Digest", summary.get("digest")),
        ("Backend", summary.get("backend")),
        ("Machine", _machine(made)),
        (
            "Python and libraries",
            ", ".join(f"{name} {version}" for name, version in versions.items() if version),
        ),
        ("Files that were read", ", ".join(map(str, made.get("inputs") or ())) or None),
        ("Wall time", duration(summary["wall_time_s"]) if summary.get("wall_time_s") is not None else None),
    )
    return Facts(items=tuple((term, str(text)) for term, text in known if text not in (None, "")))


def _version(made: Mapping[str, Any]) -> str:
    commit = made.get("git_commit")
    return f"{made.get('neulite_sim', '')}{f', commit {commit}' if commit else ''}"


def _machine(made: Mapping[str, Any]) -> str:
    parts = [made.get("processor") or made.get("machine"), made.get("platform")]
    cores = made.get("cpu_count")
    return ", ".join([*(str(part) for part in parts if part), *([f"{cores} processors"] if cores else [])])
