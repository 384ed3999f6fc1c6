"""The report of the time model as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def print_report(found: Mapping[str, Any]) -> None:
    """Print the report as text."""
    print(f"{found['rows']} rows; not used:")
    for reason, count in found["unused"].items():
        print(f"  {count:4} {reason}")
    for family in found["families"]:
        print(f"\n{family['title']}")
        for remark in family["remarks"]:
            print(f"  {remark}")
        for board in family["boards"]:
            _print_board(board)
    print(
        "\nAs charged by the catalogue, loading included, beside what was measured (its constants were fitted to it):"
    )
    for name, groups in found["charged"].items():
        _print_quality(name, groups)


def _print_board(board: Mapping[str, Any]) -> None:
    print(f"\n  {board['name']}: {board['steps']} steps of {board['networks']} networks")
    print(f"    {'constant':32}{'value':>10}   95 % interval")
    for name, it in board["constants"].items():
        interval = f"{it['low']:.3g} to {it['high']:.3g}" if it["low"] < it["high"] else "not fitted"
        print(f"    {name:32}{it['value']:10.3g}   {interval}")
    if board["network_left_out"]:
        print(f"    {'':32}{'steps':>6}{'median error':>14}{'90th pct.':>11}{'Spearman':>10}")
    for model, groups in board["network_left_out"].items():
        _print_quality(f"network left out: {model}", groups if model == "roofline by kind" else {"all": groups["all"]})
    if "board_left_out" in board:
        _print_quality("board left out", board["board_left_out"])
    for line in board.get("worst", ()):
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in line["shares"].items() if share > 0.005)
        seconds = f"{line['predicted_s']:9.3f}{line['measured_s']:9.3f}{line['error']:+8.0%}"
        print(f"      {line['step']:28}{seconds}   {shares}")


def _print_quality(name: str, groups: Mapping[str, Any]) -> None:
    for group, it in groups.items():
        errors = f"{it['median_error']:14.1%}{it['p90_error']:11.1%}{it['spearman']:10.3f}"
        print(f"    {name if group == 'all' else '  ... ' + group:44}{it['count']:6}{errors}")
