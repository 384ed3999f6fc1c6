"""What was asked: a scenario in plain words, from the plain values of `scenario.yaml`.

Kinds that nobody foresaw, such as those of plug-ins, are said with their options as they stand in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from neulite_sim.reports.churn_view import battery_of
from neulite_sim.reports.html.wording import count, duration, listed, options, percent, plain, size
from neulite_sim.reports.run_names import method_name

Scenario = Mapping[str, Any]


def asked(scenario: Scenario) -> tuple[tuple[str, str], ...]:
    """Return terms and sentences on what a scenario asks; a part that is not there is left out."""
    parts: tuple[tuple[str, Callable[[Scenario], str]], ...] = (
        ("Devices", _devices),
        ("Memory", _memory),
        ("Online", _online),
        ("Links", _links),
        ("Churn", _churn),
        ("Data", _data),
        ("Model", _model),
        ("Training", _training),
        ("Method", _method),
        ("Who is asked", _selection),
        ("Rounds", _protocol),
        ("Ends", _end),
        ("Charged for", _workload),
        ("Trained in its place", _proxy),
    )
    found = []
    for term, say in parts:
        try:
            text = say(scenario)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        if text:
            found.append((term, text))
    return tuple(found)


def _devices(scenario: Scenario) -> str:
    fleet = scenario["population"]
    groups = fleet["groups"]
    total = sum(float(group["share"]) for group in groups)
    kinds = [f"{percent(float(group['share']) / total)} {group['device']}" for group in groups]
    return f"{count(int(fleet['devices']), 'device')}: {listed(kinds)}."


def _memory(scenario: Scenario) -> str:
    fleet = scenario["population"]
    common = fleet.get("available_memory")
    own = {group["device"]: group["available_memory"] for group in fleet["groups"] if group.get("available_memory")}
    said = [f"{device}: {_amount(memory)}" for device, memory in own.items()]
    others = "all others: " if own else ""
    if len(own) < len(fleet["groups"]):
        said.append(f"{others}{_amount(common)}")
    moves = fleet.get("memory_motion") or {}
    moving = "" if moves.get("kind", "constant") == "constant" else f" It moves: {options(moves)}."
    text = "; ".join(said)
    return f"{text[:1].upper() + text[1:] if not own else text}, available for training.{moving}"


def _amount(memory: Any) -> str:
    kind = memory["kind"]
    if kind == "uniform":
        return f"{size(memory['low'])} to {size(memory['high'])}, evenly"
    if kind == "lognormal":
        return f"about {size(memory['median'])} (log-normal, sigma {memory['sigma']})"
    if kind == "choice":
        return f"one of {listed([size(value) for value in memory['values']])}"
    if kind == "installed":
        return f"{percent(memory['share'])} of what is installed"
    if kind == "explicit":
        return "as listed, device by device"
    return options(memory)


def _online(scenario: Scenario) -> str:
    when = scenario["population"]["availability"]
    if when["kind"] == "always":
        gated = "as far as their batteries go" if battery_of(scenario) else "all the time"
        return f"All devices, {gated}."
    if when["kind"] == "markov":
        on_s, off_s = float(when["mean_on"]), float(when["mean_off"])
        share = on_s / (on_s + off_s)
        return (
            f"Devices come and go at random: online for {duration(on_s)} and away for {duration(off_s)} in the mean, "
            f"so {percent(share)} of the time."
        )
    return f"As {options(when)}."


def _links(scenario: Scenario) -> str:
    link = scenario["population"].get("link")
    if not link:
        return ""
    if not isinstance(link.get("downlink"), int | float):
        return options(link)
    down, up, latency_ms = link["downlink"] / 1e6, link["uplink"] / 1e6, link["latency"] * 1e3
    return f"{down:g} Mbit/s down, {up:g} Mbit/s up, {latency_ms:g} ms latency."


def _churn(scenario: Scenario) -> str:
    churn = scenario.get("churn") or {}
    words = {"abort": "Work is lost when a device goes offline", "pause": "Work pauses while a device is offline"}
    said = [words.get(str(churn["offline"]), f"Offline: {churn['offline']}")]
    if churn.get("failures_per_hour"):
        said.append(f"{churn['failures_per_hour']:g} failures per hour of flight")
    if churn.get("timeout"):
        said.append(f"given up after {duration(churn['timeout'])}")
    for key, value, say in (
        ("outages", churn.get("outages"), _outages),
        ("battery", battery_of(scenario), _battery),
    ):
        if value:
            try:
                said.append(say(value))
            except (KeyError, TypeError, ValueError):
                said.append(f"{key}: {options(value)}")
    return "; ".join(said) + "."


def _outages(outages: Any) -> str:
    every, length = duration(outages["mean_between"]), duration(outages["mean_length"])
    return f"{count(outages['groups'], 'group')} of devices go dark together every {every}, for {length} in the mean"


def _battery(battery: Any) -> str:
    plugged = " on their chargers" if battery["requires_charging"] else ""
    return f"devices train{plugged} with batteries of {percent(battery['minimum'])} and more"


def _data(scenario: Scenario) -> str:
    data = scenario["data"]
    partition = data.get("partition") or {}
    kinds: dict[str, str] = {"iid": "dealt out evenly", "natural": "as its writers own it"}
    alpha = partition.get("alpha")
    kinds["table"] = f"dealt as {partition.get('path')} says"
    if partition.get("law") == "dirichlet":
        kinds["quantity"] = f"unequal in number: Dirichlet with alpha {alpha:g}"
    how = f"uneven: Dirichlet with alpha {alpha:g}" if partition.get("kind") == "dirichlet" else ""
    how = how or kinds.get(partition.get("kind", ""), options(partition))
    samples = data.get("train_samples")
    skew = data.get("feature_skew")
    seen = f"; each device sees them in a way of its own ({options(skew)})" if skew else ""
    return f"{data['kind']}{f', {samples:,} training samples' if samples else ''}, {how}{seen}."


def _model(scenario: Scenario) -> str:
    return f"{options(scenario['model'])}."


def _training(scenario: Scenario) -> str:
    train = scenario["training"]
    kinds = train.get("optimizer") or {}
    said = f"{count(train['epochs'], 'local epoch')} of batches of {train['batch_size']}, {options(kinds).upper()}, "
    said += f"learning rate {train['learning_rate']:g}"
    schedule = train.get("learning_rate_schedule") or {}
    if schedule.get("kind", "constant") != "constant":
        said += f" ({schedule['kind']})"
    fit = train.get("fit") or {}
    more = " Devices choose smaller steps where memory is short." if fit.get("kind", "none") != "none" else ""
    return f"{said}.{more}"


def _method(scenario: Scenario) -> str:
    method = scenario["method"]
    free = " Its memory limit is off: every device takes part." if method.get("memory_limit") is False else ""
    return f"{method_name(str(method['kind']))}.{free}"


def _selection(scenario: Scenario) -> str:
    selection = scenario["selection"]
    drawn = selection.get("devices_per_round")
    if selection["kind"] == "uniform" and drawn:
        return f"{count(drawn, 'device')} a round, drawn evenly among those that can."
    return f"{options(selection)}."


def _protocol(scenario: Scenario) -> str:
    kinds = {"synchronous": "Synchronous: each waits for all its devices."}
    protocol = scenario["protocol"]
    return kinds.get(protocol["kind"]) or f"{options(protocol)}."


def _end(scenario: Scenario) -> str:
    return f"{listed_or([*_ends(scenario['stop'])])}."


def listed_or(texts: list[str]) -> str:
    """Return ends of a run as a sentence: after a, or b, whichever comes first."""
    if len(texts) == 1:
        return texts[0][:1].upper() + texts[0][1:]
    text = ", or ".join(texts)
    return f"{text[:1].upper() + text[1:]}, whichever comes first"


def _ends(stop: Mapping[str, Any]) -> Iterator[str]:
    if stop.get("rounds"):
        yield f"after {count(stop['rounds'], 'round')}"
    if stop.get("virtual_time"):
        yield f"after {duration(stop['virtual_time'])} of virtual time"
    if stop.get("target_accuracy"):
        yield f"at {percent(stop['target_accuracy'])} accuracy"


def _differing(section: Any) -> str:
    given = {key: value for key, value in (section or {}).items() if value is not None}
    return ", ".join(f"{key.replace('_', ' ')} {plain(value)}" for key, value in given.items())


def _workload(scenario: Scenario) -> str:
    said = _differing(scenario.get("workload"))
    return f"Devices pay memory, time and traffic for: {said}." if said else ""


def _proxy(scenario: Scenario) -> str:
    said = _differing(scenario.get("proxy"))
    return f"What really learned is smaller, and so is its accuracy: {said}." if said else ""
