"""Run the study of docs/background/methods_compared.md and print its tables in Markdown.

    python docs/methods_compared.py [--tables cifar10,digits] [--jobs 2] [--data-root DIR] [--plan | --tables-only]

Every method runs on the same fleet for the virtual time that NeuLite needs for its rounds, found by dry runs; hours
on a small machine. The rows that the others are read against come first. Ctrl-C stops it and prints what is complete;
the same command goes on. `--write` puts the tables into the page. All runs of a table must be of one commit and one
kind of processor: start it from a checkout that nobody changes. Table `cifar10` needs CIFAR-10 under
data/, or where `--data-root` says.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from paired_runs import CHECKOUT, Entry, Table, main

STUDY = CHECKOUT / "scenarios" / "study"
PAGE = CHECKOUT / "docs" / "background" / "methods_compared.md"
FIT = "training.fit=auto"
RECALIBRATED = "evaluation.batch_norm=recalibrated"

FEDAVG_FIT = Entry(name="fedavg-fit", label="FedAvg, fit: auto", settings=("method=fedavg", FIT))
NEULITE = Entry(name="neulite", label="NeuLite", settings=("method=neulite",))
NEULITE_FIT = Entry(name="neulite-fit", label="NeuLite, fit: auto", settings=("method=neulite", FIT))
EXCLUSIVEFL = Entry(name="exclusivefl", label="ExclusiveFL", settings=("method=exclusivefl",))
FEDAVG_FREE = Entry(
    name="fedavg", label="FedAvg without a memory wall", settings=("method={kind: fedavg, memory_limit: false}",)
)
FIRST = (FEDAVG_FIT, NEULITE, NEULITE_FIT, EXCLUSIVEFL, FEDAVG_FREE)
"""In this order before all others."""
WHOLE = replace(FEDAVG_FIT, settings=(*FEDAVG_FIT.settings, "proxy.micro_batch_size=16"))
"""Charged in parts of a batch and trained on the whole of it: without BatchNorm that is the same step, and faster."""
NEW = (
    Entry(
        name="federated-dropout",
        label="Federated Dropout, recalibrated",
        settings=("method=federated-dropout", RECALIBRATED),
    ),
    Entry(name="partial-variables", label="Partial variables", settings=("method=partial-variables",)),
    Entry(name="slt", label="SLT, recalibrated", settings=("method=slt", RECALIBRATED)),
    Entry(name="fedepth", label="FeDepth", settings=("method=fedepth",)),
    Entry(
        name="profl",
        label="ProFL, phases of equal length",
        settings=("method={kind: profl, shrinking_rounds: {rounds/8}, growing_rounds: {rounds/8}}",),
    ),
)
OLD = (
    Entry(name="depthfl", label="DepthFL", settings=("method=depthfl",)),
    Entry(name="progfed", label="ProgFed", settings=("method=progfed",)),
    Entry(name="heterofl-recal", label="HeteroFL, recalibrated", settings=("method=heterofl", RECALIBRATED)),
    Entry(name="fedrolex-recal", label="FedRolex, recalibrated", settings=("method=fedrolex", RECALIBRATED)),
    Entry(name="allsmall", label="AllSmall", settings=("method=allsmall",)),
    Entry(name="heterofl", label="HeteroFL, running statistics", settings=("method=heterofl",)),
)
ENTRIES = (*FIRST, *NEW, *OLD)
LATER = (FEDAVG_FIT, NEULITE, Entry(name="cocofl", label="CoCoFL", settings=("method=cocofl",)))
"""Built after the tables were run: with the rows that it is read against, in a table of its own."""
TABLES = (
    Table(
        name="cifar10",
        scenario=STUDY / "cifar10.yaml",
        page=PAGE,
        rounds=160,
        target="0.4",
        entries=ENTRIES,
        reads_files=True,
    ),
    Table(name="digits", scenario=STUDY / "digits.yaml", page=PAGE, rounds=150, target="0.8", entries=ENTRIES),
    Table(name="digits-later", scenario=STUDY / "digits.yaml", page=PAGE, rounds=150, target="0.8", entries=LATER),
    Table(
        name="parameters",
        scenario=STUDY / "parameters.yaml",
        page=PAGE,
        rounds=120,
        target="0.5",
        entries=(WHOLE, *FIRST[1:]),
    ),
    Table(
        name="jetson_mix",
        scenario=CHECKOUT / "scenarios" / "jetson_mix.yaml",
        page=CHECKOUT / "README.md",
        rounds=120,
        target="0.9",
        entries=(FEDAVG_FIT, NEULITE, EXCLUSIVEFL),
        clock="",
        is_sideways=True,
    ),
)

if __name__ == "__main__":
    order = [entry.name for entry in (*ENTRIES, *LATER)]
    sys.exit(main(TABLES, about=__doc__, folder="methods_compared", order=order))
