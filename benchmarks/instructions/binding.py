"""Operations of the module for callgrind to count the instructions of.

It counts nothing itself: it prints a line for each operation, name and count, and calls each three
times: once to warm up, once with that count, once with three times as many. Each call marks the
beginning and the end of what is counted. What is left of the difference between the last two is
the operation, with the Python loop around it; what is done once cancels out.

Nothing that is counted depends on time. The one worker stands at a gate while the counting begins
and ends: it is not woken, does not go idle and does not look for work in between.
"""

from __future__ import annotations

import asyncio
import gc
import os
import time
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from asynctask import AsyncTaskPool, DelayTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asynctask import AsyncTask

COUNT = 1_000
HOUR = 3600.0

# Begins or ends what is counted: callgrind writes down what it has at each call of `getppid`.
mark = os.getppid

OPERATIONS: list[Callable[[int], None]] = []


def operation(function: Callable[[int], None]) -> Callable[[int], None]:
    """Put *function* on the list."""
    OPERATIONS.append(function)
    return function


def nothing() -> None:
    """Be the callback."""


def second(_first: object, second: object) -> object:
    """Be the callback with arguments."""
    return second


class Gate:
    """A callback that a worker stands in until it is told to go on."""

    def __init__(self) -> None:
        self.came, self.opened = Event(), Event()

    def __call__(self) -> None:
        """Stand."""
        self.came.set()
        self.opened.wait()

    def wait(self) -> None:
        """Wait until the worker is there."""
        self.came.wait()

    def open(self) -> None:
        """Let it go on."""
        self.opened.set()


@contextmanager
def held_pool() -> Iterator[tuple[AsyncTaskPool, Gate]]:
    """Give a pool whose worker stands at a gate, and let it run empty in the end."""
    gate = Gate()
    with AsyncTaskPool(1) as pool:
        pool.post_task(gate)
        gate.wait()
        try:
            yield pool, gate
        finally:
            gate.open()


def run_counted(pool: AsyncTaskPool, first: Gate) -> None:
    """Count what the worker does from one gate to the next."""
    last = Gate()
    pool.post_task(last)
    mark()
    first.open()
    last.wait()
    mark()
    last.open()


@operation
def post_task(count: int) -> None:
    """A no-op whose handle is kept."""
    handles: list[AsyncTask[None]] = []
    keep = handles.append
    with held_pool() as (pool, _):
        post = pool.post_task
        mark()
        for _ in range(count):
            keep(post(nothing))
        mark()


@operation
def run(count: int) -> None:
    """It is taken, called and ended."""
    with held_pool() as (pool, gate):
        handles = [pool.post_task(nothing) for _ in range(count)]
        run_counted(pool, gate)
        check(all(handle.done() for handle in handles))


@operation
def post_task_and_forget(count: int) -> None:
    """A no-op whose handle is dropped at once."""
    with held_pool() as (pool, _):
        post = pool.post_task
        mark()
        for _ in range(count):
            post(nothing)
        mark()


@operation
def run_forgotten(count: int) -> None:
    """It is taken, called, ended and freed."""
    with held_pool() as (pool, gate):
        for _ in range(count):
            pool.post_task(nothing)
        run_counted(pool, gate)
        check(pool.stats().waiting == 0)


@operation
def submit_with_arguments(count: int) -> None:
    """A task with two arguments."""
    handles: list[AsyncTask[object]] = []
    keep = handles.append
    with held_pool() as (pool, _):
        submit = pool.submit
        mark()
        for _ in range(count):
            keep(submit(second, 1, 2))
        mark()


@operation
def run_with_arguments(count: int) -> None:
    """It is taken, called and ended."""
    with held_pool() as (pool, gate):
        handles = [pool.submit(second, 1, 2) for _ in range(count)]
        run_counted(pool, gate)
        check(all(handle.result() == 2 for handle in handles))


@contextmanager
def pool_with_timer() -> Iterator[AsyncTaskPool]:
    """Give a pool whose timer thread sleeps, for longer than any delay to come could shorten."""
    gate = Gate()
    with AsyncTaskPool(1) as pool:
        sentinel = pool.post_delay_task(nothing, HOUR / 2)
        pool.post_delay_task(gate, 0.001)
        gate.wait()
        try:
            yield pool
            check(pool.stats().pending_timers == 1)
        finally:
            sentinel.cancel()
            gate.open()


@operation
def post_delay_task_and_cancel(count: int) -> None:
    """A delay that is cancelled."""
    with pool_with_timer() as pool:
        post = pool.post_delay_task
        mark()
        for _ in range(count):
            post(nothing, HOUR).cancel()
        mark()


@operation
def post_task_with_delay_and_cancel(count: int) -> None:
    """A delay as an option, ready made, that is cancelled."""
    with pool_with_timer() as pool:
        post, delay = pool.post_task, DelayTask(HOUR)
        mark()
        for _ in range(count):
            post(nothing, delay).cancel()
        mark()


@operation
def delay_task(count: int) -> None:
    """The option itself."""
    mark()
    for _ in range(count):
        DelayTask(HOUR)
    mark()


def finished(count: int) -> list[AsyncTask[object]]:
    """Give handles of tasks that are over."""
    with AsyncTaskPool(1) as pool:
        return [pool.submit(second, 1, 2) for _ in range(count)]


@operation
def result(count: int) -> None:
    """The result of a task that is over."""
    handles = finished(count)
    mark()
    for handle in handles:
        handle.result()
    mark()


@operation
def done(count: int) -> None:
    """Whether it is over."""
    handles = finished(count)
    mark()
    for handle in handles:
        handle.done()
    mark()


@operation
def await_finished(count: int) -> None:
    """A task that is over, in a coroutine."""
    handles = finished(count)

    async def wait_for_all() -> None:
        mark()
        for handle in handles:
            await handle
        mark()

    asyncio.run(wait_for_all())


@operation
def map_post(count: int) -> None:
    """An item of `map`, until it is in the queue."""
    items = list(range(count))
    with held_pool() as (pool, _):
        mark()
        results = pool.map(second, items, items)
        mark()
    check(list(results) == items)


@operation
def map_take(count: int) -> None:
    """An item of `map`, from the task that is over to the result."""
    items = list(range(count))
    with AsyncTaskPool(1) as pool:
        results = pool.map(second, items, items)
    mark()
    for _ in results:
        pass
    mark()


@operation
def group_submit(count: int) -> None:
    """A task of a group."""
    with held_pool() as (pool, gate), pool.group() as group:
        submit = group.submit
        mark()
        for _ in range(count):
            submit(nothing)
        mark()
        gate.open()  # the group waits for its tasks


def check(holds: bool) -> None:
    """Refuse to count what was not done."""
    if not holds:
        message = "the operations did not do what they are counted for"
        raise RuntimeError(message)


def wait_for_threads() -> None:
    """Wait until the pool's threads are gone, and with them the memory that they give back."""
    while len(list(Path("/proc/self/task").iterdir())) > 1:
        time.sleep(0.001)


def main() -> None:
    """Run every operation."""
    gc.disable()
    for function in OPERATIONS:
        print(function.__name__, COUNT)
        for count in (COUNT, COUNT, 3 * COUNT):
            function(count)
            gc.collect()
            wait_for_threads()


if __name__ == "__main__":
    main()
