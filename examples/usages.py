"""The three usages of asynctask: now, in a moment, every so often.

Each callback notes when it starts, and a table says when it was posted, when it started, and its
lateness: start minus deadline, on the monotonic clock, which is never negative. An interval that
drifted would show it as a lateness that grows from beat to beat.

Run it with ``python examples/usages.py``. It exits with 1 if a callback ran too early.
"""

from __future__ import annotations

import sys
import time

import asynctask
from asynctask import DelayTask, IntervalTask

DELAY = 0.010
INTERVAL = 0.020
BEATS = 6

BEGAN = time.monotonic_ns()


def line(what: str, posted: int, deadline: int, started: int) -> bool:
    """Print one line of the table, and say whether the run was not early."""
    instants = (posted - BEGAN, started - BEGAN, started - deadline)
    print(f"{what:<24}", *(f"{nanoseconds / 1e6:>11.3f}" for nanoseconds in instants))
    return started >= deadline


def now(remark: str) -> bool:
    """Let a worker call something now. What it returns is the task's result."""
    posted = time.monotonic_ns()
    task = asynctask.post_task(time.monotonic_ns)
    started = task.result(timeout=5)
    return line(f"now ({remark})", posted, posted, started)


def in_a_moment() -> bool:
    """Let a worker call something after a delay, and wait until it has."""
    posted = time.monotonic_ns()
    task = asynctask.post_task(time.monotonic_ns, DelayTask(DELAY))
    task.wait_for_finished(timeout=5)
    deadline = posted + round(DELAY * 1e9)
    return line(f"in {DELAY * 1e3:.0f} ms", posted, deadline, task.result())


def every_so_often() -> bool:
    """Let workers call something over and over, until it is stopped."""
    starts: list[int] = []

    def beat() -> None:
        starts.append(time.monotonic_ns())

    posted = time.monotonic_ns()
    task = asynctask.post_task(beat, IntervalTask(INTERVAL))
    task.wait_for_finished_count(BEATS, timeout=5)
    task.stop_and_wait(timeout=5)

    interval = round(INTERVAL * 1e9)
    lateness = []
    on_time = True
    for number, started in enumerate(starts[:BEATS], start=1):
        # A machine that stalls for a whole interval skips a beat, and goes on in step.
        periods = max(number, (started - posted) // interval)
        deadline = posted + periods * interval
        lateness.append(started - deadline)
        on_time &= line(f"every {INTERVAL * 1e3:.0f} ms: beat {number}", posted, deadline, started)
    drift = lateness[-1] - lateness[0]
    print(f"\nThe interval's drift from beat 1 to beat {BEATS}: {drift / 1e6:+.3f} ms")
    return on_time


def main() -> int:
    """Show all three."""
    print(f"{'milliseconds':<24}", *(f"{title:>11}" for title in ("posted", "started", "lateness")))
    on_time = [
        now("starts a worker"),
        now("has a worker"),
        in_a_moment(),
        every_so_often(),
    ]
    # Not needed, for leaving the program does the same; it says whether all ended in time.
    ended = asynctask.wait_and_exit(timeout=1.0)
    return 0 if all(on_time) and ended else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
