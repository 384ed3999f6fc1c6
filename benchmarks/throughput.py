"""Samples per second of real local training: neulite-sim beside a plain PyTorch loop and the limit of the machine.

    python benchmarks/throughput.py [--repeats 3] [--threads 2] [--rounds 20] [--only NAME ...] [--json]

The job: the `cnn` on 1000 devices x 50 samples of 3x32x32, 50 devices per round, batch 10, one epoch, 20 rounds
(`federated_cnn.yaml`). The plain loop is what people write by hand: one process, one model, a loop over devices, a
running mean; PyTorch uses `--threads` threads. neulite-sim runs with as many actors of one thread each (`ray`), or as
many workers in threads of one process (`inprocess`). The limit are as many processes of one thread, each on a core of
its own where the system can do that, that start together, train an equal part of each round's devices and exchange
nothing: in the default layout, in channels-last, and in channels-last with the foreach variant of SGD. `of the limit`
is the share of the last that is reached.

Runs alternate, so that a machine that slows down slows down all of them; what is printed is the median, and ratios are
those to the run of the same repeat. Steady rounds are all but the first, which holds what happens once. `to training`
runs from the command to the moment when the first task could be dealt out, `to first round` to the end of the first
round, both without profiles kept from runs before.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

SCENARIO = Path(__file__).with_name("federated_cnn.yaml")
DEVICES, DEVICES_PER_ROUND, SAMPLES, BATCH, CHANNELS, CLASSES = 1000, 50, 50, 10, 3, 10
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4

PLAIN, LIMIT = "plain loop", "limit, channels-last, foreach"
LIMITS = {"limit, default layout": (False, None), "limit, channels-last": (True, None), LIMIT: (True, True)}
READY, GO = "ready\n", "go\n"
KEEPS_NOTHING = {"NEULITE_SIM_CACHE": "off"}

Times = dict[str, float]


class Job(NamedTuple):
    """What every runner trains. `threads` are those of PyTorch, the workers, or the processes of the limit."""

    rounds: int = 20
    threads: int = 2
    devices_per_round: int = DEVICES_PER_ROUND
    devices: int = DEVICES

    @property
    def num_samples(self) -> int:
        """How many samples are trained in all rounds."""
        return self.rounds * self.devices_per_round * SAMPLES


Runner = Callable[[Job], Times]
T = TypeVar("T")


def network() -> nn.Sequential:
    """Return the `cnn` as plain PyTorch."""
    from torch import nn

    layers: list[nn.Module] = []
    for inner, outer in ((CHANNELS, 32), (32, 64)):
        layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.ReLU(), nn.Conv2d(outer, outer, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 8 * 8, 128), nn.ReLU(), nn.Linear(128, CLASSES))


def samples(devices: int = DEVICES) -> tuple[Tensor, Tensor]:
    """Return images and labels of that many devices; those of device d begin at d * SAMPLES."""
    import torch

    generator = torch.Generator().manual_seed(1)
    images = torch.randn(devices * SAMPLES, CHANNELS, 32, 32, generator=generator)
    return images, torch.randint(CLASSES, (devices * SAMPLES,), generator=generator)


def _train(
    model: nn.Module, images: Tensor, labels: Tensor, device: int, *, foreach: bool | None, channels_last: bool
) -> None:
    """Train the device's epoch in place."""
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, foreach=foreach
    )
    for batch in (device * SAMPLES + torch.randperm(SAMPLES)).split(BATCH):
        optimizer.zero_grad()
        outputs = model(images[batch].contiguous(memory_format=layout))
        torch.nn.functional.cross_entropy(outputs, labels[batch]).backward()
        optimizer.step()


def round_times(ends_s: Sequence[float]) -> Times:
    """Return seconds of all rounds, and what they would take if all were as those after the first."""
    rounds = len(ends_s)
    return {"rounds_s": ends_s[-1], "steady_s": (ends_s[-1] - ends_s[0]) * rounds / (rounds - 1)}


def plain_loop(rounds: int, threads: int, devices_per_round: int = DEVICES_PER_ROUND, devices: int = DEVICES) -> Times:
    """Train the job with nothing but PyTorch and return seconds of the rounds, and of steady ones."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    images, labels = samples(devices)
    model, ends_s = network(), []
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    started_s = time.perf_counter()
    for _ in range(rounds):
        total = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
        for device in torch.randperm(devices)[:devices_per_round].tolist():
            model.load_state_dict(state)
            _train(model, images, labels, device, foreach=None, channels_last=False)
            for name, tensor in model.state_dict().items():
                total[name] += tensor / devices_per_round
        state = total
        ends_s.append(time.perf_counter() - started_s)
    return round_times(ends_s)


def limit_part(
    job: Job, part: int, *, channels_last: bool, foreach: bool | None, wait: Callable[[], object] = lambda: None
) -> Times:
    """Train every `job.threads`-th of each round's devices in one thread on one core, from when `wait` returns."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[part % len(cores)]})
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    images, labels = samples(job.devices)
    model, ends_s = network(), []
    if channels_last:
        model.to(memory_format=torch.channels_last)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chooser = torch.Generator().manual_seed(1)
    wait()
    started_s = time.perf_counter()
    for _ in range(job.rounds):
        chosen = torch.randperm(job.devices, generator=chooser)[: job.devices_per_round].tolist()
        for device in chosen[part :: job.threads]:
            model.load_state_dict(state)
            _train(model, images, labels, device, foreach=foreach, channels_last=channels_last)
        ends_s.append(time.perf_counter() - started_s)
    return round_times(ends_s)


def limit(name: str, job: Job) -> Times:
    """Return what the processes of a limit take together: the time at the sum of their speeds.

    Raises:
        RuntimeError: one of them failed.
    """
    commands = [[*_child(name, job), "--part", str(part)] for part in range(job.threads)]
    with contextlib.ExitStack() as stack:
        # A process whose input is closed before it was told to go ends without training.
        started = [
            stack.enter_context(Popen(command, stdin=PIPE, stdout=PIPE, text=True, bufsize=1)) for command in commands
        ]
        if not all(process.stdout and process.stdout.readline() == READY for process in started):
            raise RuntimeError(f"a process of the {name!r} ended before it could start")
        for process in started:
            assert process.stdin is not None
            process.stdin.write(GO)
        said = [process.communicate()[0] for process in started]
        if codes := [process.returncode for process in started if process.returncode]:
            raise RuntimeError(f"a process of the {name!r} ended with exit code {codes[0]}")
    told = [json.loads(line) for line in said]
    sizes = [len(range(part, job.devices_per_round, job.threads)) for part in range(job.threads)]
    return {
        key: job.devices_per_round / sum(size / times[key] for size, times in zip(sizes, told, strict=True))
        for key in ("rounds_s", "steady_s")
    }


def job_options(job: Job) -> list[str]:
    """Return the options of a command that stand for the job."""
    return [word for name, size in job._asdict().items() for word in (f"--{name.replace('_', '-')}", str(size))]


def _child(name: str, job: Job) -> list[str]:
    return [sys.executable, __file__, "--child", name, *job_options(job)]


def plain_in_fresh_process(job: Job) -> Times:
    """Return what `plain_loop` measures in a process of its own."""
    done = subprocess.run(_child(PLAIN, job), check=True, stdout=PIPE, text=True)
    measured: Times = json.loads(done.stdout)
    return measured


def simulate_here(backend: str, job: Job) -> dict[str, Any]:
    """Run the scenario in this process; return when it could train, when its first round ended, and all ends."""
    from neulite_sim import load_scenario, simulate
    from neulite_sim.results.rows import Event

    times: dict[str, float] = {}

    class Watch:
        def notify(self, event: Event) -> None:
            times.setdefault(type(event).__name__, time.time())

    settings = [
        f"stop.rounds={job.rounds}",
        f"selection.devices_per_round={job.devices_per_round}",
        f"population.devices={job.devices}",
        f"data.samples={job.devices * SAMPLES}",
        f"backend={{kind: {backend}, workers: {job.threads}}}",
    ]
    result = simulate(load_scenario(SCENARIO, settings), observers=[Watch()])
    walls = [row["wall_time_s"] for row in result.rounds]
    return {"started_at": times["RunStarted"], "first_at": times["RoundRow"], "walls": walls}


def simulated(backend: str, job: Job) -> Times:
    """Run the scenario in a fresh process and return seconds of its rounds and from the command to the first."""
    script = (
        "import json, sys\n"
        f"sys.path.append({str(SCENARIO.parent)!r})\n"
        "import throughput\n"
        "job = throughput.Job(*map(int, sys.argv[2:]))\n"
        "print(json.dumps(throughput.simulate_here(sys.argv[1], job)))\n"
    )
    started = time.time()
    command = [sys.executable, "-c", script, backend, *map(str, job)]
    done = subprocess.run(command, check=True, stdout=PIPE, text=True, env={**os.environ, **KEEPS_NOTHING})
    told = json.loads(done.stdout.splitlines()[-1])
    return {
        **round_times(told["walls"]),
        "training_s": told["started_at"] - started,
        "first_round_s": told["first_at"] - started,
    }


RUNNERS: dict[str, Runner] = {
    PLAIN: plain_in_fresh_process,
    "ray": partial(simulated, "ray"),
    "inprocess": partial(simulated, "inprocess"),
    **{name: partial(limit, name) for name in LIMITS},
}


def measure(runners: Mapping[str, Runner], job: Job, repeats: int) -> dict[str, list[Times]]:
    """Run all in turn, `repeats` times, and return what each took each time."""
    found: dict[str, list[Times]] = {name: [] for name in runners}
    for repeat in range(repeats):
        for name, run in runners.items():
            print(f"repeat {repeat + 1} of {repeats}: {name}", file=sys.stderr, flush=True)
            found[name].append(run(job))
    return found


def _ratio(reference: Sequence[Times] | None, runs: Sequence[Times], key: str) -> float | None:
    if reference is None:
        return None
    return statistics.median(other[key] / run[key] for other, run in zip(reference, runs, strict=True))


def table_rows(found: Mapping[str, Sequence[Times]], job: Job) -> list[dict[str, Any]]:
    """Return a row for each runner: medians over repeats, ratios to the plain loop, the share of the limit.

    A ratio above 1 is faster. What was not measured is None.
    """
    plain, most = found.get(PLAIN), found.get(LIMIT)
    rows: list[dict[str, Any]] = []
    for name, runs in found.items():
        waits = {
            f"to_{key}": statistics.median(run[key] for run in runs) if key in runs[0] else None
            for key in ("training_s", "first_round_s")
        }
        rows.append(
            {
                "name": name,
                "samples_per_s": statistics.median(job.num_samples / run["rounds_s"] for run in runs),
                "steady_samples_per_s": statistics.median(job.num_samples / run["steady_s"] for run in runs),
                "ratio": _ratio(plain, runs, "rounds_s"),
                "steady_ratio": _ratio(plain, runs, "steady_s"),
                "limit_share": _ratio(most, runs, "steady_s"),
                **waits,
            }
        )
    return rows


def machine_name() -> str:
    """Return the processor's name and how many of them this process may use."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{named[0] if named else platform.processor() or platform.machine()}, {usable} cores"


def report(found: Mapping[str, Sequence[Times]], job: Job, *, as_json: bool) -> None:
    """Print the table of `found`, or it and what each run took as JSON."""
    rows, repeats = table_rows(found, job), len(next(iter(found.values())))
    if as_json:
        told = {"machine": machine_name(), "repeats": repeats, **job._asdict(), "rows": rows, "runs": found}
        print(json.dumps(told, indent=2))
        return
    print(f"{machine_name()}; {job.threads} threads, {job.num_samples:,} samples, {repeats} repeats")
    print(f"{'':<30}{'samples/s':>10}{'steady':>8}{'ratio':>7}{'steady ratio':>14}{'of the limit':>14}", end="")
    print(f"{'to training':>13}{'to first round':>16}")
    for row in rows:
        shares = [("ratio", 7), ("steady_ratio", 14), ("limit_share", 14)]
        waits = [("to_training_s", 13), ("to_first_round_s", 16)]
        cells = [f"{row['name']:<30}{row['samples_per_s']:>10.0f}{row['steady_samples_per_s']:>8.0f}"]
        cells += [f"{'' if row[key] is None else format(row[key], '.2f'):>{width}}" for key, width in shares]
        cells += [f"{'' if row[key] is None else format(row[key], '.1f') + ' s':>{width}}" for key, width in waits]
        print("".join(cells).rstrip())


def add_job(parser: argparse.ArgumentParser) -> None:
    """Give a command the options that stand for a job."""
    parser.add_argument("--rounds", type=int, default=20, help="at least 2: the first is not a steady one")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--devices-per-round", type=int, default=DEVICES_PER_ROUND, help="fewer for a trial")
    parser.add_argument("--devices", type=int, default=DEVICES, help="fewer for a trial")


def job_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the options that say what is measured, how often, and how it is printed."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    add_job(parser)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure these rows of the table alone")
    parser.add_argument("--json", action="store_true", help="print the table, and every run, as JSON")
    return parser


def job_of(parser: argparse.ArgumentParser, given: argparse.Namespace, names: Collection[str]) -> Job:
    """Return the job that was asked for; end with a message where it is none."""
    if given.rounds < 2 or given.repeats < 1 or given.threads < 1:
        parser.error("--rounds must be at least 2, --repeats and --threads at least 1")
    if not given.threads <= given.devices_per_round <= given.devices:
        parser.error("--devices-per-round must be at least --threads, and at most --devices")
    if unknown := set(given.only or ()) - set(names):
        parser.error(f"--only: no {sorted(unknown)[0]!r}; there are {', '.join(map(repr, names))}")
    return Job(given.rounds, given.threads, given.devices_per_round, given.devices)


def chosen(named: Mapping[str, T], only: Sequence[str] | None) -> dict[str, T]:
    """Return what is to be measured, in its order."""
    return {name: each for name, each in named.items() if only is None or name in only}


def _be_child(name: str, job: Job, part: int) -> Times:
    if name == PLAIN:
        return plain_loop(*job)

    def ready() -> None:
        sys.stdout.write(READY)
        sys.stdout.flush()
        if sys.stdin.readline() != GO:
            raise SystemExit("was not told to go")

    channels_last, foreach = LIMITS[name]
    return limit_part(job, part, channels_last=channels_last, foreach=foreach, wait=ready)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print a table and the ratios."""
    parser = job_parser(__doc__)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--plain-only", action="store_const", dest="child", const=PLAIN, help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    job = job_of(parser, given, RUNNERS)
    if given.child:
        print(json.dumps(_be_child(given.child, job, given.part)))
        return
    found = measure(chosen(RUNNERS, given.only), job, given.repeats)
    report(found, job, as_json=given.json)


if __name__ == "__main__":
    main()
