"""P11: how often a process wakes up that has nothing to do."""

from __future__ import annotations

import functools
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.harness import Case, Metric, Sample, Scale, Workload, check
from benchmarks.process import child

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Idle:
    """A process to be watched."""

    name: str
    peer: str
    count: int
    needs: str | None = None


@functools.cache
def watch(processes: tuple[Idle, ...], seconds: float) -> dict[Idle, Sample]:
    """Set all of them up, and watch them for the same few seconds, since none disturbs another.

    Counted are the context switches of all threads, voluntary or not: a thread that wakes up has to
    go to sleep again. Checked: all timers wait, and no thread has come or gone.
    """
    with ExitStack() as stack:
        children = {idle: stack.enter_context(child(idle.peer, idle.count)) for idle in processes}
        time.sleep(0.5)
        start = time.monotonic()
        before = {idle: process.switches() for idle, process in children.items()}
        time.sleep(seconds)
        after = {idle: process.switches() for idle, process in children.items()}
        elapsed = time.monotonic() - start
        check(all(p.process.poll() is None for p in children.values()), "a process has ended")
    samples: dict[Idle, Sample] = {}
    for idle in processes:
        (switches, threads), (later, still) = before[idle], after[idle]
        check(threads == still, f"{idle.name}: {threads} threads became {still}")
        samples[idle] = {"wakeups": (later - switches) / elapsed}
    return samples


def workloads(scale: Scale) -> Sequence[Workload]:
    """P11, idle and with timers an hour ahead."""
    seconds = scale.pick(5.0, 2.0, 15.0)
    count = scale.pick(1_000_000, 100_000)
    jobs = scale.pick(5_000, 1_000)
    threads = scale.pick(1_000, 200)
    quiet = (
        Idle("AsyncTaskPool", "asynctask", 0),
        Idle("ThreadPoolExecutor", "thread_pool", 0),
        Idle("asyncio", "asyncio", 0),
        Idle("uvloop", "uvloop", 0, peers.UVLOOP),
        Idle("APScheduler", "apscheduler", 0, peers.APSCHEDULER),
    )
    far = (
        Idle(f"AsyncTaskPool, {count:,}", "asynctask", count),
        Idle(f"asyncio, {count:,}", "asyncio", count),
        Idle(f"uvloop, {count:,}", "uvloop", count, peers.UVLOOP),
        Idle(f"threading.Timer, {threads:,}", "thread_timer", threads),
        Idle(f"APScheduler, {jobs:,}", "apscheduler", jobs, peers.APSCHEDULER),
    )
    everyone = tuple(
        idle for idle in (*quiet, *far) if not idle.needs or peers.is_installed(idle.needs)
    )
    return [
        _workload("wake-ups of a process that has worked, and is idle", quiet, everyone, seconds),
        _workload("wake-ups of a process whose timers are an hour ahead", far, everyone, seconds),
    ]


def _sample(idle: Idle, processes: tuple[Idle, ...], seconds: float) -> Sample:
    return watch(processes, seconds)[idle]


def _workload(
    title: str, processes: tuple[Idle, ...], everyone: tuple[Idle, ...], seconds: float
) -> Workload:
    return Workload(
        "P11",
        title,
        [Metric("wakeups", "context switches a second", at_most=0, compared=False, digits=1)],
        [
            Case(
                idle.name,
                functools.partial(_sample, idle, everyone, seconds),
                ours=idle.peer == "asynctask",
                needs=idle.needs,
            )
            for idle in processes
        ],
        rounds=1,
        note=f"over {seconds:g} s",
    )
