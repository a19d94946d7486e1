"""A process of its own for one peer: sets up what waits, tells what it took, and sits still.

``python -m benchmarks.child PEER COUNT`` prints one line of JSON when COUNT timers an hour ahead
wait (0: a pool, loop or scheduler that has worked, and now is idle), and ends when its standard
input does.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sched
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from asynctask import AsyncTaskPool

from benchmarks import peers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOUR = 3600.0
NUMBERS = random.Random(1)


def resident() -> int:
    """Give the bytes of memory in use; not the high-water mark, which never falls."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def delays(count: int) -> Iterator[float]:
    """Give delays of an hour to an hour and a half."""
    return (NUMBERS.uniform(HOUR, 1.5 * HOUR) for _ in range(count))


def nothing() -> None:
    """Do nothing."""


def tell(count: int, before: int, waiting: int) -> None:
    """Print the line that the parent waits for."""
    line = {"count": count, "waiting": waiting, "bytes": resident() - before}
    print(json.dumps(line), flush=True)


def sit_still() -> NoReturn:
    """Wait for the parent, and leave at once: taking a million timers down is nobody's figure."""
    sys.stdin.buffer.read()
    os._exit(0)


def asynctask(count: int) -> None:
    """A pool of ours; handles dropped."""
    # A worker that leaves while the parent watches would count as a wake-up.
    pool = AsyncTaskPool(idle_timeout=HOUR)
    # What there is once, whatever is posted, is not part of a timer's size.
    for _ in range(100):
        pool.post_task(nothing)
    pool.post_delay_task(nothing, HOUR).cancel()
    pool.after(0.01).result()
    gc.collect()
    before = resident()
    for delay in delays(count):
        pool.post_delay_task(nothing, delay)
    tell(count, before, pool.stats().pending_timers)
    sit_still()


def thread_pool(count: int) -> None:
    """A `ThreadPoolExecutor`, which has no timers."""
    pool = ThreadPoolExecutor()
    for _ in range(100):
        pool.submit(nothing)
    pool.submit(nothing).result()
    tell(count, resident(), 0)
    sit_still()


def event_loop(peer: str, count: int) -> None:
    """A loop that runs, with its timers; its handles are kept by the loop alone."""
    loop = peers.new_loop(peer)
    loop.run_until_complete(asyncio.sleep(0.01))
    gc.collect()
    before = resident()
    waiting = 0
    for delay in delays(count):
        loop.call_later(delay, nothing)
        waiting += 1
    loop.add_reader(sys.stdin.fileno(), sit_still)
    loop.call_soon(tell, count, before, waiting)
    loop.run_forever()


def thread_timer(count: int) -> None:
    """A `threading.Timer`, and so a thread, for each."""
    gc.collect()
    before = resident()
    for delay in delays(count):
        timer = threading.Timer(delay, nothing)
        timer.daemon = True
        timer.start()
    tell(count, before, threading.active_count() - 1)
    sit_still()


def sched_enter(count: int) -> None:
    """A `sched.scheduler`, which nothing runs."""
    scheduler = sched.scheduler(time.monotonic)
    gc.collect()
    before = resident()
    for delay in delays(count):
        scheduler.enter(delay, 0, nothing)
    tell(count, before, count)
    sit_still()


def apscheduler(count: int) -> None:
    """An APScheduler with date jobs."""
    scheduler = peers.new_scheduler()
    scheduler.start(paused=True)  # or each job would wake its thread and be looked at
    scheduler.add_job(nothing)
    gc.collect()
    before = resident()
    now = datetime.now(UTC)
    for delay in delays(count):
        scheduler.add_job(nothing, "date", run_date=now + timedelta(seconds=delay))
    scheduler.resume()
    time.sleep(0.1)
    tell(count, before, len(scheduler.get_jobs()))
    sit_still()


PEERS: dict[str, Callable[[int], None]] = {
    "asynctask": asynctask,
    "thread_pool": thread_pool,
    "asyncio": lambda count: event_loop("asyncio", count),
    "uvloop": lambda count: event_loop(peers.UVLOOP, count),
    "sched": sched_enter,
    "thread_timer": thread_timer,
    "apscheduler": apscheduler,
}

if __name__ == "__main__":
    gc.disable()
    PEERS[sys.argv[1]](int(sys.argv[2]))
