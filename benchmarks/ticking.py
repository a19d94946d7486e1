"""A process of its own for one peer: calls back every 10 ms, and tells when it did.

``python -m benchmarks.ticking PEER`` prints the instant that its grid begins at, and, when a line
comes in on its standard input, the instants of its runs; on the monotonic clock, which all
processes share.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from asynctask import AsyncTaskPool

from benchmarks import peers

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = 10_000_000
SECONDS = INTERVAL / 1e9

Runs: TypeAlias = "list[int]"

now = time.monotonic_ns


def series(runs: Runs) -> dict[str, Any]:
    """`post_interval_task`."""
    with AsyncTaskPool() as pool:
        pool.submit(int).result()
        began = now()
        task = pool.post_interval_task(lambda: runs.append(now()), SECONDS)
        _tell(began)
        sys.stdin.readline()
        task.stop_and_wait()
        ended = now()
        stats = pool.stats()
    return {"ended": ended, "missed": stats.missed_runs, "skipped": stats.skipped_runs}


def event_loop(peer: str, runs: Runs) -> None:
    """`call_at` on the loop's own thread; each run posts the next, on the grid."""
    loop = peers.new_loop(peer)

    def run(due: float) -> None:
        runs.append(now())
        due = _next(due, loop.time())
        loop.call_at(due, run, due)

    def start() -> None:
        due = loop.time() + SECONDS
        _tell(now())
        loop.call_at(due, run, due)

    loop.add_reader(sys.stdin.fileno(), loop.stop)
    loop.call_soon(start)
    loop.run_forever()


def _next(due: float, at: float) -> float:
    """Give the next instant of the grid that is not over."""
    due += SECONDS
    while due <= at:
        due += SECONDS
    return due


def thread_timer(runs: Runs) -> None:
    """`threading.Timer`; each run starts the next, on the grid."""

    def run(due: float) -> None:
        runs.append(now())
        post(_next(due, time.monotonic()))

    def post(due: float) -> None:
        timer = threading.Timer(due - time.monotonic(), run, [due])
        timer.daemon = True
        timer.start()

    began = now()
    post(began / 1e9 + SECONDS)
    _tell(began)
    sys.stdin.readline()


def naive_timer(runs: Runs) -> None:
    """`threading.Timer`; each run starts the next, an interval later."""

    def run() -> None:
        runs.append(now())
        post()

    def post() -> None:
        timer = threading.Timer(SECONDS, run)
        timer.daemon = True
        timer.start()

    _tell(now())
    post()
    sys.stdin.readline()


def sched_thread(runs: Runs) -> None:
    """`sched.enterabs` in a thread of its own; each run posts the next, on the grid."""
    with peers.SchedThread() as scheduler:

        def run(due: float) -> None:
            runs.append(now())
            post(_next(due, time.monotonic()))

        def post(due: float) -> None:
            scheduler.enter_at(due, functools.partial(run, due))

        began = now()
        post(began / 1e9 + SECONDS)
        _tell(began)
        sys.stdin.readline()


def apscheduler(runs: Runs) -> None:
    """`add_job` with an interval; runs that were missed count as one."""
    with peers.scheduler() as scheduler:
        job = scheduler.add_job(
            lambda: runs.append(now()), "interval", seconds=SECONDS, coalesce=True, max_instances=1
        )
        # Its grid is of the wall clock, and begins when the job is made.
        ahead = job.trigger.start_date.timestamp() - time.time() - SECONDS
        _tell(now() + int(ahead * 1e9))
        sys.stdin.readline()


def _tell(began: int) -> None:
    print(json.dumps(began), flush=True)


PEERS: dict[str, Callable[[Runs], dict[str, Any] | None]] = {
    "asynctask": series,
    "asyncio": functools.partial(event_loop, "asyncio"),
    peers.UVLOOP: functools.partial(event_loop, peers.UVLOOP),
    "sched": sched_thread,
    "thread_timer": thread_timer,
    "naive_timer": naive_timer,
    peers.APSCHEDULER: apscheduler,
}


def main() -> None:
    """Be the process of one of them."""
    runs: Runs = []
    told = PEERS[sys.argv[1]](runs) or {}
    print(json.dumps({**told, "runs": runs}), flush=True)


if __name__ == "__main__":
    main()
