"""P13: callbacks that block, and so let go of the GIL, on as many workers as there are."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

from asynctask import AsyncTaskPool

from benchmarks import peers
from benchmarks.harness import Case, Metric, Sample, Scale, Workload, check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COUNT = 64
PAUSE = 0.010
WORKERS = 8


def block(number: int) -> int:
    """Block for a while, and give the number back."""
    time.sleep(PAUSE)
    return number


def makespans(
    make: Callable[[int], Any], method: str, workers: int, batches: int = 1
) -> list[float]:
    """Give the milliseconds of so many batches, the first on a new pool. Checked: every result."""
    spans = []
    start = time.perf_counter()  # some start their threads here, others at the first post
    with make(workers) as pool:
        post = getattr(pool, method)
        for _ in range(batches):
            # A tuple of arguments for some, the argument for others.
            if method == "apply_async":
                handles = [post(block, (number,)) for number in range(COUNT)]
            else:
                handles = [post(block, number) for number in range(COUNT)]
            results = [_result(handle) for handle in handles]
            spans.append((time.perf_counter() - start) * 1e3)
            check(results == list(range(COUNT)), "a result is wrong")
            start = time.perf_counter()
    return spans


def _result(handle: Any) -> int:
    number: int = handle.result() if hasattr(handle, "result") else handle.get()
    return number


def at_eight(make: Callable[[int], Any], method: str) -> Sample:
    """Give the makespans on eight workers."""
    new, warm = makespans(make, method, WORKERS, 2)
    return {"new": new, "warm": warm}


def curve(make: Callable[[int], Any], method: str, places: Sequence[int]) -> Sample:
    """Give the makespans on so many workers, new ones."""
    return {str(workers): makespans(make, method, workers)[0] for workers in places}


def workloads(scale: Scale) -> Sequence[Workload]:
    """P13, on 8 workers and on 1 to 32."""
    ideal = COUNT * PAUSE * 1e3 / WORKERS
    places = [1, 2, 4, 8, 16, 32] if not scale.quick else [2, 8, 32]
    return [
        Workload(
            "P13",
            f"{COUNT} callbacks that block for 10 ms, on {WORKERS} workers; ideal {ideal:g} ms",
            [
                Metric("new", "ms in all, new pool", at_most=1.05 * ideal, digits=1),
                Metric("warm", "ms in all, pool that has worked", at_most=1.05 * ideal, digits=1),
            ],
            [
                Case("AsyncTaskPool", lambda: at_eight(AsyncTaskPool, "submit"), ours=True),
                Case("ThreadPoolExecutor", lambda: at_eight(ThreadPoolExecutor, "submit")),
                Case("multiprocessing ThreadPool", lambda: at_eight(ThreadPool, "apply_async")),
                Case(
                    "gevent ThreadPool",
                    lambda: at_eight(peers.gevent_pool, "spawn"),
                    needs=peers.GEVENT,
                ),
            ],
            scale.turns(5, 2, 9),
        ),
        Workload(
            "P13",
            f"the same, on {places[0]} to {places[-1]} workers, new ones",
            [
                Metric(
                    str(workers),
                    f"ms in all, {workers} workers; ideal {COUNT * PAUSE * 1e3 / workers:g}",
                    at=workers,
                    digits=1,
                )
                for workers in places
            ],
            [
                Case("AsyncTaskPool", lambda: curve(AsyncTaskPool, "submit", places), ours=True),
                Case(
                    "ThreadPoolExecutor",
                    lambda: curve(ThreadPoolExecutor, "submit", places),
                ),
            ],
            scale.turns(2, 1, 3),
            axis="workers",
        ),
    ]
