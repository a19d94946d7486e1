"""P2: from a submit to its result, in time and in processor time."""

from __future__ import annotations

import time
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING

from asynctask import AsyncTaskPool

from benchmarks.harness import (
    Case,
    Metric,
    Sample,
    Scale,
    Workload,
    check,
    percentile,
    undisturbed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ANSWER = 42


def answer() -> int:
    """Give what the round trip must bring back."""
    return ANSWER


def round_trips(make: Callable[[], Executor], count: int, pause: float) -> Sample:
    """Submit, wait for the result, and again; with a pause the worker has gone to sleep.

    The processor time is that of all threads of the process. Checked: every result.
    """
    took: list[float] = []
    with make() as pool:
        for _ in range(100):
            pool.submit(answer).result()
        clock = time.perf_counter_ns
        with undisturbed():
            processor = time.process_time_ns()
            for _ in range(count):
                if pause:
                    time.sleep(pause)
                start = clock()
                result = pool.submit(answer).result()
                took.append((clock() - start) / 1e3)
                check(result == ANSWER, f"the result is {result}")
            processor = time.process_time_ns() - processor
    return {"p50": took, "p99": took, "cpu": processor / count / 1e3}


def workloads(scale: Scale) -> Sequence[Workload]:
    """P2, back to back and with pauses."""
    rounds = scale.turns(5, 2, 9)

    def workload(title: str, count: int, pause: float, note: str = "") -> Workload:
        return Workload(
            "P2",
            title,
            [
                Metric("p50", "round trip p50, us", reduce=percentile(0.5), digits=1),
                Metric("p99", "round trip p99, us", reduce=percentile(0.99), digits=1),
                Metric("cpu", "processor time for each, us", digits=1),
            ],
            [
                Case(
                    "AsyncTaskPool.submit",
                    lambda: round_trips(AsyncTaskPool, count, pause),
                    ours=True,
                ),
                Case(
                    "ThreadPoolExecutor.submit",
                    lambda: round_trips(ThreadPoolExecutor, count, pause),
                    at_least={"p50": 10, "p99": 1, "cpu": 1},
                ),
            ],
            rounds,
            note=note,
        )

    # The pool that was idle first: it is what a program meets that posts now and then.
    return [
        workload(
            "submit, then its result; 1 ms apart",
            scale.pick(300, 100),
            0.001,
            note="both wake a sleeping thread, and are woken by it: two wake-ups by the kernel are "
            "the floor of each",
        ),
        workload("submit, then its result; back to back", scale.pick(5_000, 1_000), 0),
    ]
