"""P4 to P6, and the core's half of P10: the wheel by itself, in Rust.

Measured by ``cargo bench --bench wheel`` (criterion), which checks that nothing is lost and nothing
early; read here from what it prints. The peers are the containers of Rust's standard library that
could do the wheel's job. Compared with each other only, never with a figure of a Python workload.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Case, Metric, Sample, Scale, Workload, check

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
WHEEL = "wheel"
SORTED = (WHEEL, "BTreeMap")
CONTESTANTS = (*SORTED, "BinaryHeap")  # a heap cannot cancel
TIMES = re.compile(
    r"^(?P<name>\S.*?)?\s+time:\s+\[(?P<low>[\d.]+) (?P<low_unit>\S+) "
    r"(?P<mid>[\d.]+) (?P<mid_unit>\S+) (?P<high>[\d.]+) (?P<high_unit>\S+)\]"
)
MEMORY = re.compile(r"^memory: (?P<bytes>[\d.]+) B a timer, (?P<what>.+)$")
NANOSECONDS = {"ps": 1e-3, "ns": 1.0, "µs": 1e3, "us": 1e3, "ms": 1e6, "s": 1e9}
MILLION = 1_000_000
ALL = "^(insert|churn over 1M|expire 1M/spread)/"


@functools.cache
def figures(quick: bool) -> Mapping[str, float]:
    """Run the benchmarks of the wheel once; nanoseconds and bytes by the names that they print.

    It is built first, if need be. A quick run leaves the peers out, which take long to set up.
    """
    chosen, seconds = (f"{ALL}.*{WHEEL}", 0.2) if quick else (ALL, 0.5)
    arguments = ["--noplot", "--warm-up-time", "0.2", "--measurement-time", str(seconds), chosen]
    command = ["cargo", "bench", "--quiet", "--bench", "wheel"]
    run = subprocess.run(
        [*command, "--", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    check(run.returncode == 0, f"cargo bench failed:\n{run.stderr[-2000:]}")
    return parse(run.stdout)


def parse(printed: str) -> Mapping[str, float]:
    """Read criterion's lines, and the reports about memory."""
    found: dict[str, float] = {}
    name = ""
    for line in printed.splitlines():
        if times := TIMES.match(line):
            # A long name has a line of its own, before the times.
            label = times["name"] or name
            found[label] = float(times["mid"]) * NANOSECONDS[times["mid_unit"]]
        elif memory := MEMORY.match(line):
            found[f"memory/{memory['what']}"] = float(memory["bytes"])
        name = line.strip()
    return found


def missing() -> str | None:
    """Say why there are no figures of the core, if so."""
    if shutil.which("cargo") is None:
        return "cargo is not installed"
    if not (ROOT / "benches" / "wheel.rs").is_file():
        return "there are no sources"
    return None


def _workload(
    name: str,
    title: str,
    metrics: Mapping[str, tuple[Metric, float]],
    contestants: Sequence[str],
    quick: bool,
) -> Workload:
    """Make a workload from the names of benchmarks, each with its metric and its divisor."""

    def sample(contestant: str) -> Sample:
        printed = figures(quick)
        return {
            metric.key: printed[benchmark.format(contestant)] / divisor
            for benchmark, (metric, divisor) in metrics.items()
        }

    return Workload(
        name,
        title,
        [metric for metric, _ in metrics.values()],
        [
            Case(
                name,
                functools.partial(sample, name),
                ours=name == WHEEL,
                skip=missing() or ("slow to set up" if quick and name != WHEEL else None),
            )
            for name in contestants
        ],
        rounds=1,
        note="criterion's median; Rust beside Rust",
    )


def workloads(scale: Scale) -> Sequence[Workload]:
    """P4, P5 and P6."""
    inserts = {
        f"insert/{{}}/{pending}": (
            Metric(f"{pending}", f"ns, {pending:,} pending", at_most=45, digits=1),
            1.0,
        )
        for pending in (1_000, 100_000, MILLION)
    }
    churn = {
        f"churn over 1M/{order}/{{}}": (
            Metric(order, f"ns for both, {title}", at_most=most, digits=1),
            1.0,
        )
        for order, title, most in (
            ("fifo", "the oldest cancelled", 60),
            ("random", "any cancelled", 130),
        )
    }
    expiry = {
        "expire 1M/spread/{}": (Metric("spread", "ns each", at_most=40, digits=1), float(MILLION))
    }
    quick = scale.quick
    return [
        _workload("P4", "core: insert, deadlines within a minute", inserts, CONTESTANTS, quick),
        _workload("P5", "core: cancel and insert over 1M pending", churn, SORTED, quick),
        _workload("P6", "core: expire 1M spread over a minute", expiry, CONTESTANTS, quick),
    ]
