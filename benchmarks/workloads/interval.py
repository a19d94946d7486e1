"""P15: whether a series keeps its grid for as long as it runs, also over a stop of the process.

Each contestant has a process of its own, and all of them run at the same time, a little apart, so
that they share whatever happens to the machine. `benchmarks.ticking` is its program.
"""

from __future__ import annotations

import functools
import json
import signal
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import peers
from benchmarks.harness import Case, Metric, Sample, Scale, Workload, check, percentile
from benchmarks.ticking import INTERVAL

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
MS = 1_000_000
SETTLE = 100 * MS
"""After the stop this much is left out, for all that was due meanwhile."""
EARLY = 4 * MS
"""A run that seems more than this before its instant is taken as late for the one before."""
RECENT = 25
ENDS = 100
"""Runs at either end that the drift is the difference of."""

now = time.monotonic_ns


def drift_and_phase(began: int, runs: Sequence[int], stop: tuple[int, int]) -> Sample:
    """Hold the runs against the grid that begins one interval after *began*.

    A run's phase is its start minus its own instant of the grid: the one with which the phase is
    next to, or after, what it has been of late, so that it may grow beyond an interval. The drift
    is the median phase of the last runs minus that of the first.
    """
    stopped, over = stop
    phases: list[float] = []
    for run in runs:
        if stopped <= run < over + SETTLE:
            continue
        usual = statistics.median(phases[-RECENT:]) if len(phases) >= RECENT else 0
        phases.append((run - began - usual + EARLY) % INTERVAL + usual - EARLY)
    drift = statistics.median(phases[-ENDS:]) - statistics.median(phases[:ENDS])
    off = [abs(phase) / 1e3 for phase in phases]
    return {"p50": off, "p99": off, "drift": abs(drift) / 1e3, "runs": float(len(runs))}


@functools.cache
def watch(names: tuple[str, ...], seconds: float, pause: float) -> dict[str, Sample]:
    """Run all of them for so long, and stop them once, in the middle, for *pause* seconds."""
    with ExitStack() as stack:
        processes = {}
        for name in names:
            command = [sys.executable, "-m", "benchmarks.ticking", name]
            process = stack.enter_context(
                subprocess.Popen(
                    command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            stack.callback(process.kill)
            processes[name] = process
        began = {name: json.loads(_line(process)) for name, process in processes.items()}
        time.sleep((seconds - pause) / 2)
        stopped = now()
        for process in processes.values():
            process.send_signal(signal.SIGSTOP)
        time.sleep(pause)
        for process in processes.values():
            process.send_signal(signal.SIGCONT)
        over = now()
        time.sleep((seconds - pause) / 2)
        samples = {}
        for name, process in processes.items():
            told = json.loads(process.communicate("end\n")[0])
            samples[name] = drift_and_phase(began[name], told["runs"], (stopped, over))
            _check(name, began[name], told)
    return samples


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None  # noqa: S101  # for the type checker
    line = process.stdout.readline()
    check(line, "a process did not set up")
    return line


def _check(name: str, began: int, told: dict[str, Any]) -> None:
    """Check of all that they ran; of ours, that none was early and each instant accounted for."""
    runs = told["runs"]
    check(len(runs) > ENDS, f"{name}: {len(runs)} runs")
    if name != "asynctask":
        return
    places = [(run - began) // INTERVAL for run in runs]
    check(places[0] >= 1, "the first run was early")
    check(len(set(places)) == len(places), "two runs in one interval: one of them was early")
    passed = (told["ended"] - began) // INTERVAL
    accounted = len(runs) + told["missed"] + told["skipped"]
    check(abs(passed - accounted) <= 1, f"{accounted} instants accounted for of {passed}")


def workloads(scale: Scale) -> Sequence[Workload]:
    """P15."""
    seconds = scale.pick(12, 3, 600)
    pause = scale.pick(2, 1, 3)
    contestants = {
        "post_interval_task": ("asynctask", None),
        "asyncio call_at": ("asyncio", None),
        "uvloop call_at": (peers.UVLOOP, peers.UVLOOP),
        "sched enterabs, in a thread": ("sched", None),
        "threading.Timer": ("thread_timer", None),
        "threading.Timer, an interval later": ("naive_timer", None),
        "APScheduler interval": (peers.APSCHEDULER, peers.APSCHEDULER),
    }
    present = tuple(
        name for name, needs in contestants.values() if not needs or peers.is_installed(needs)
    )

    def case(title: str, name: str, needs: str | None) -> Case:
        return Case(
            title,
            lambda: watch(present, seconds, pause)[name],
            ours=name == "asynctask",
            needs=needs,
        )

    return [
        Workload(
            "P15",
            f"an interval of 10 ms for {seconds} s, the process stopped once for {pause} s",
            [
                Metric("drift", "drift, us", at_most=100, compared=False, digits=1),
                Metric("p50", "phase p50, us", reduce=percentile(0.5), compared=False, digits=1),
                Metric(
                    "p99",
                    "phase p99, us",
                    at_most=1_000,
                    reduce=percentile(0.99),
                    compared=False,
                    is_drawn=True,
                ),
                Metric("runs", "runs", compared=False),
            ],
            [case(title, *names) for title, names in contestants.items()],
            rounds=1,
            note="all at the same time, each in its own process; drift: median phase of the last"
            f" {ENDS} runs, minus that of the first",
        )
    ]
