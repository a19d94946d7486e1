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


def nested(patience: float | None) -> Sample:
    """Each callback posts the next and waits for it. Checked: the depth, and no thread is left."""
    threads = threading.active_count()

    def descend(depth: int) -> int:
        return 1 + pool.submit(descend, depth - 1).result(patience) if depth else 0

    with AsyncTaskPool(1) as pool:
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
                Case("AsyncTaskPool, result()", lambda: nested(None), ours=True),
                Case("AsyncTaskPool, result(timeout)", lambda: nested(PATIENCE), ours=True),
                hanging("ThreadPoolExecutor"),
                hanging("multiprocessing ThreadPool"),
                hanging("gevent ThreadPool", peers.GEVENT),
            ],
            scale.turns(5, 2, 9),
            note="a wait without a timeout runs the task it waits for, 32 deep; one with one, "
            "which has to be kept, and all beyond have a worker lent, a thread each",
        )
    ]
