"""Run the ablation of docs/background/methods_compared.md on its table (b) and print it in Markdown.

    python docs/ablation.py [--tables harmonizer,batch] [--jobs 2] [--data-root DIR] [--plan | --tables-only]

`harmonizer` leaves out NeuLite's parts one by one, each variant for the same virtual time; `batch` trains FedAvg
without a memory wall on parts of a batch (the charge stays that of the whole batch, so that nothing else differs).
Stops, goes on and refuses mixtures as `methods_compared.py` does.
"""

from __future__ import annotations

import sys

from paired_runs import CHECKOUT, Entry, Table, main

CIFAR10 = CHECKOUT / "scenarios" / "study" / "cifar10.yaml"
PAGE = CHECKOUT / "docs" / "background" / "methods_compared.md"
ROUNDS, TARGET = 160, "0.4"


def _neulite(name: str, label: str, options: str, *more: str, as_long_as: str = "") -> Entry:
    return Entry(name=name, label=label, settings=(f"method={{kind: neulite{options}}}", *more), as_long_as=as_long_as)


HARMONIZER = Table(
    name="harmonizer",
    scenario=CIFAR10,
    page=PAGE,
    rounds=ROUNDS,
    target=TARGET,
    baseline="neulite",
    reads_files=True,
    entries=(
        _neulite("neulite", "NeuLite", ""),
        _neulite("without-curriculum", "cross-entropy alone", ", curriculum: false"),
        _neulite("without-coadaptation", "neither tail nor surrogates", ", coadaptation: false"),
        _neulite("without-tail", "no co-trained tail", ", tail: false"),
        _neulite("without-surrogates", "no surrogates: a pooled head", ", surrogate: none"),
        _neulite(
            "sequential",
            "block after block, a quarter of the rounds each",
            ", schedule: sequential, convergence: {max_rounds: {rounds/4}, slope_threshold: 1e-12}",
            as_long_as="neulite",
        ),
        _neulite("conv-bn-relu", "surrogates with BatchNorm and ReLU", ", surrogate: conv-bn-relu"),
        _neulite("tail-2", "a tail of two layers", ", tail: 2"),
    ),
)
"""Every row is NeuLite but for what its label says."""

_FREE = "method={kind: fedavg, memory_limit: false}"
BATCH = Table(
    name="batch",
    scenario=CIFAR10,
    page=PAGE,
    rounds=ROUNDS,
    target=TARGET,
    baseline="fedavg",
    reads_files=True,
    entries=(
        Entry(name="fedavg", label="FedAvg, batches of 32", settings=(_FREE,)),
        Entry(name="micro-8", label="parts of 8", settings=(_FREE, "proxy.micro_batch_size=8")),
        Entry(name="group", label="GroupNorm", settings=(_FREE, "training.norm=group")),
        Entry(
            name="group-micro-8",
            label="GroupNorm, parts of 8",
            settings=(_FREE, "training.norm=group", "proxy.micro_batch_size=8"),
        ),
        Entry(name="micro-2", label="parts of 2", settings=(_FREE, "proxy.micro_batch_size=2")),
        Entry(name="neulite", label="NeuLite, batches of 32", settings=("method=neulite",)),
        Entry(
            name="neulite-micro-8", label="NeuLite, parts of 8", settings=("method=neulite", "proxy.micro_batch_size=8")
        ),
    ),
)
"""NeuLite comes last: parts change its BatchNorm and its nHSIC terms at once."""

if __name__ == "__main__":
    order = [entry.name for entry in (*HARMONIZER.entries[:5], *BATCH.entries[:4])]
    sys.exit(main((HARMONIZER, BATCH), about=__doc__, folder="ablation", order=order))
