"""P14: callbacks that wait for tasks of their own pool, deeper than it has workers."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from asynctask import AsyncTaskPool

from benchmarks import peers
from benchmarks.harness import Case, Metric, Sample, Scale, Workload, check, undisturbed

if TYPE_CHECKING:
    from collections.abc import Sequence

DEPTH = 50
PATIENCE = 30.0


def nested(workers: int) -> Sample:
    """Each callback posts the next and waits for it. Checked: the depth, and no thread is left."""
    threads = threading.active_count()

    def descend(depth: int) -> int:
        return 1 + pool.submit(descend, depth - 1).result(PATIENCE) if depth else 0

    with AsyncTaskPool(workers) as pool:
        pool.submit(int).result()
        with undisturbed():
            start = time.perf_counter()
            reached = pool.submit(descend, DEPTH).result(PATIENCE)
            elapsed = time.perf_counter() - start
    check(reached == DEPTH, f"{reached} deep, and not {DEPTH}")
    check(threading.active_count() == threads, "a thread is left")
    return {"us": elapsed * 1e6}


def workloads(scale: Scale) -> Sequence[Workload]:
    """P14."""

    def never() -> Sample:
        raise NotImplementedError

    def hanging(name: str, needs: str | None = None) -> Case:
        return Case(
            name, never, needs=needs, skip="never ends: a callback that waits has its worker"
        )

    return [
        Workload(
            "P14",
            f"nested waits, {DEPTH} deep, on 1 worker",
            [Metric("us", "us in all")],
            [
                Case("AsyncTaskPool, 1 worker", lambda: nested(1), ours=True),
                hanging("ThreadPoolExecutor"),
                hanging("multiprocessing ThreadPool"),
                hanging("gevent ThreadPool", peers.GEVENT),
            ],
            scale.turns(5, 2, 9),
        )
    ]
