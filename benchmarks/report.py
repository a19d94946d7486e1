"""The table of a run, in plain text; and how figures are written everywhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from benchmarks.results import rows_with_targets
from benchmarks.verdicts import MET, MISSED, OPEN, is_noisy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.machine import Machine
    from benchmarks.results import Interval, Results, RowResult, WorkloadResult

MICROSECONDS = re.compile(r"\bus\b")
HEADINGS = ("", "median", "min - max", "ratio", "min - max", "target", "met")


def table(results: Results) -> str:
    """Make the whole report, in plain text."""
    machine = results["machine"]
    lines = [
        f"{on_what(machine)}, {machine['python']}",
        f"asynctask {machine['asynctask']}, {versions(machine)}",
        f"garbage collector: {machine['garbage_collector']}",
        "ratio: how far our first line is ahead, within a round; less than 1 is a loss",
        "no ratio: a figure is nothing or negative, as of timers that come early",
    ]
    grid = [list(HEADINGS)]
    for workload in results["workloads"]:
        grid.extend(_section(workload))
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
    lines.extend(["", verdict(results)])
    return "\n".join(lines)


def on_what(machine: Machine) -> str:
    """Name the machine."""
    return f"{machine['cpu']}, {machine['cores']} cores, {machine['kernel']}"


def versions(machine: Machine) -> str:
    """List the peers that are packages."""
    return ", ".join(f"{peer} {version or 'missing'}" for peer, version in machine["peers"].items())


def _section(workload: WorkloadResult) -> Iterable[list[str]]:
    yield [""]
    yield [f"{workload['id']}  {workload['title']}  ({rounds(workload)})"]
    if workload["note"]:
        yield [f"    {workload['note']}"]
    last = None
    for row in workload["rows"]:
        if row["metric"] != last:
            yield [f"  {row['metric_title']}"]
            last = row["metric"]
        yield [f"    {row['case']}", *cells(row)]
    for name, reason in workload["skipped"].items():
        yield [f"    {name}: skipped, {reason}"]


def rounds(workload: WorkloadResult) -> str:
    """Say how many rounds there were, and how many of them were noisy."""
    count, noisy = workload["rounds"], workload["noisy_rounds"]
    text = "1 round" if count == 1 else f"{count} rounds"
    if workload["kept_rounds"] < count:
        text += f", {noisy} noisy and left out"
    elif noisy:
        text += f", {noisy} noisy" + (", all kept" if count > 1 else "")
    return text


def cells(row: RowResult) -> list[str]:
    """Write the figures of a row: what `HEADINGS` says, without the first."""
    digits = row["digits"]
    is_span = row["rounds_used"] > 1
    figure = [number(row["figure"]["value"], digits), span(row["figure"], digits)]
    ratio = ["no ratio" if has_no_ratio(row) else "", ""]
    if row["ratio"] is not None:
        ratio = [f"{number(row['ratio']['value'], 1)} x", span(row["ratio"], 1)]
    if not is_span:
        figure[1] = ratio[1] = ""
    word = said_of(row)
    met = "NO" if word == MISSED else word or ""
    return [*figure, *ratio, row["target"] or "", met]


def has_no_ratio(row: RowResult) -> bool:
    """Whether a peer would have a ratio, were its figure or ours not nothing or negative."""
    return row["is_compared"] and not row["ours"] and row["ratio"] is None


def number(value: float, digits: int) -> str:
    """Write a number; three digits that say something are enough for a small one."""
    if digits and 0 < abs(value) < 10 ** (1 - digits):
        least = 10 ** -(digits + 1)  # below it one digit says something, and a nought nothing
        return f"{value:.{digits + 1}f}" if abs(value) >= least else f"{value:.1g}"
    return f"{value:,.{digits}f}"


def with_micro(text: str) -> str:
    """Write microseconds as they are written where there is more than ASCII."""
    return MICROSECONDS.sub("µs", text)


def span(interval: Interval, digits: int) -> str:
    """Write what the rounds span."""
    return f"{number(interval['min'], digits)} - {number(interval['max'], digits)}"


def verdict(results: Results) -> str:
    """Say how many targets are met, and which are not."""
    text = counts(results)
    for workload, row in rows_with_targets(results):
        if said_of(row) == MISSED:
            text += f"\nmissed: {missed_target(workload, row)}"
    for name, reason in results["failed"].items():
        text += f"\nFAILED: {name}: {reason}"
    return text


def said_of(row: RowResult) -> str | None:
    """Say whether a target is met, missed or open; ``None`` without one."""
    if row["met"] is None:
        return None
    return row.get("verdict", MET if row["met"] else MISSED)


def counts(results: Results) -> str:
    """Say how many targets are met, missed and open."""
    said = [said_of(row) for _, row in rows_with_targets(results)]
    met = sum(row["met"] is True for _, row in rows_with_targets(results))
    if is_noisy(results):
        return f"all {len(said)} targets open, for the run was noisy; it met {met} of them"
    text = f"{said.count(MET)} of {len(said)} targets met, {said.count(MISSED)} missed"
    return text + (f", {said.count(OPEN)} open" if OPEN in said else "")


def missed_target(workload: WorkloadResult, row: RowResult) -> str:
    """Say which target was missed, and by what."""
    return f"{workload['id']} {workload['title']}: {row['metric_title']}, {missed_by(row)}"


def missed_by(row: RowResult) -> str:
    """Say who missed a target, or beside whom it was missed."""
    figure = number(row["figure"]["value"], row["digits"])
    if row["ratio"] is not None and not row["ours"]:
        figure = f"{number(row['ratio']['value'], 1)} x"
    return f"{row['case']}: {figure}, target {row['target']}"
