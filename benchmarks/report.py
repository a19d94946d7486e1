"""The table, and the JSON."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asynctask

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.harness import Figure, Outcome, Row

PEERS = ("apscheduler", "uvloop")
HEADINGS = ("", "median", "min - max", "ratio", "min - max", "target", "met")


def machine() -> dict[str, Any]:
    """Describe what the figures were measured on."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "switch_interval": sys.getswitchinterval(),
        "asynctask": asynctask.__version__,
        "peers": {peer: _version(peer) for peer in PEERS},
        "garbage_collector": "collected before each measurement, off during it",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def table(outcomes: Sequence[Outcome], machine: dict[str, Any]) -> str:
    """Make the whole report, in plain text."""
    peers = [f"{peer} {version or 'missing'}" for peer, version in machine["peers"].items()]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}, {machine['python']}",
        ", ".join([f"asynctask {machine['asynctask']}", *peers]),
        f"garbage collector: {machine['garbage_collector']}",
        "ratio: how much more it is than our first line, within a round; less than 1 is a loss",
    ]
    grid = [list(HEADINGS)]
    for outcome in outcomes:
        grid.extend(_section(outcome))
    widths = [
        max(len(cells[at]) for cells in grid if len(cells) > 1) for at in range(len(HEADINGS))
    ]
    for cells in grid:
        if len(cells) == 1:
            lines.append(cells[0])
            continue
        first, *others = cells
        aligned = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *aligned]).rstrip())
    lines.extend(["", _verdict(outcomes)])
    return "\n".join(lines)


def _section(outcome: Outcome) -> Iterable[list[str]]:
    workload = outcome.workload
    yield [""]
    yield [f"{workload.id}  {workload.title}  ({_rounds(outcome)})"]
    if workload.note:
        yield [f"    {workload.note}"]
    last = None
    for row in outcome.rows:
        if row.metric is not last:
            yield [f"  {row.metric.title}"]
            last = row.metric
        yield _cells(row)
    for name, reason in outcome.skipped:
        yield [f"    {name}: skipped, {reason}"]


def _rounds(outcome: Outcome) -> str:
    rounds = outcome.workload.rounds
    text = "1 round" if rounds == 1 else f"{rounds} rounds"
    if outcome.kept < rounds:
        text += f", {outcome.noisy} noisy and left out"
    elif outcome.noisy:
        text += f", {outcome.noisy} noisy" + (", all kept" if rounds > 1 else "")
    return text


def _cells(row: Row) -> list[str]:
    digits = row.metric.digits
    ratio, span = "", ""
    if row.ratio is not None:
        ratio = f"{_number(row.ratio.value, 1)} x"
        span = _span(row.ratio, 1) if row.rounds > 1 else ""
    target, met = "", ""
    if row.bound is not None:
        sign, bound = row.bound
        target = f"{sign} {bound:g}" + (" x" if sign == ">=" else "")
        met = "yes" if row.met else "NO"
    return [
        f"    {row.case.name}",
        _number(row.figure.value, digits),
        _span(row.figure, digits) if row.rounds > 1 else "",
        ratio,
        span,
        target,
        met,
    ]


def _number(value: float, digits: int) -> str:
    # Three digits that say something are enough for a small figure.
    if digits and 0 < abs(value) < 10 ** (1 - digits):
        return f"{value:.{digits + 1}f}"
    return f"{value:,.{digits}f}"


def _span(figure: Figure, digits: int) -> str:
    return f"{_number(figure.low, digits)} - {_number(figure.high, digits)}"


def _verdict(outcomes: Sequence[Outcome]) -> str:
    held = [row for outcome in outcomes for row in outcome.rows if row.met is not None]
    missed = [row for row in held if not row.met]
    text = f"{len(held) - len(missed)} of {len(held)} targets met"
    if missed:
        names = "; ".join(f"{row.workload} {row.case.name}: {row.metric.title}" for row in missed)
        text += f"\nmissed: {names}"
    return text


def as_json(outcomes: Sequence[Outcome], machine: dict[str, Any]) -> dict[str, Any]:
    """Make the report for programs."""
    return {
        "machine": machine,
        "workloads": [
            {
                "id": outcome.workload.id,
                "title": outcome.workload.title,
                "rounds": outcome.workload.rounds,
                "noisy_rounds": outcome.noisy,
                "kept_rounds": outcome.kept,
                "seconds": round(outcome.seconds, 1),
                "skipped": dict(outcome.skipped),
                "rows": [_row(row) for row in outcome.rows],
            }
            for outcome in outcomes
        ],
    }


def _row(row: Row) -> dict[str, Any]:
    bound = row.bound
    return {
        "metric": row.metric.key,
        "metric_title": row.metric.title,
        "case": row.case.name,
        "ours": row.case.ours,
        "figure": _interval(row.figure),
        "ratio": None if row.ratio is None else _interval(row.ratio),
        "rounds_used": row.rounds,
        "target": None if bound is None else f"{bound[0]} {bound[1]:g}",
        "met": row.met,
    }


def _interval(figure: Figure) -> dict[str, float]:
    return {"value": figure.value, "min": figure.low, "max": figure.high}
