"""Waits of coroutines: for a task, for a tick, for the end of a pool.

Each belongs to the coroutine that awaits it, and ends with it. None blocks its loop, and none keeps
it alive: what is registered with a task refers weakly to the future that waits, which the coroutine
holds. Imported when somebody first awaits something of ours, who has asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from typing import TYPE_CHECKING, Any, Literal

from asynctask._asynctask import _lend, _seconds
from asynctask._loops import bridge_of, running_loop

if TYPE_CHECKING:
    from asynctask._asynctask import PoolBase, TaskBase
    from asynctask._types import Duration

__all__ = ["Sleepers", "close_pool", "require_running_loop", "wait_until_done"]

SHORTEST_PAUSE, LONGEST_PAUSE = 0.001, 0.05
"""Seconds from one look of `close_pool` to the next: at first, and at last."""


def require_running_loop(what: str, blocking: str) -> asyncio.AbstractEventLoop:
    """Give the running loop that *what* needs.

    Where there is none, under trio for one, the error says how to wait there: by *blocking*, what
    a thread would call, in a thread.
    """
    loop = running_loop()
    if loop is None:
        message = (
            f"no running event loop of asyncio, which {what} needs; under trio wait in a thread: "
            f"`await trio.to_thread.run_sync({blocking})`, or "
            f"`await anyio.to_thread.run_sync({blocking})` under both"
        )
        raise RuntimeError(message)
    return loop


async def wait_until_done(task: TaskBase[Any]) -> None:
    """Wait until *task* is over; cancelling the wait cancels a task that has not started."""
    loop = require_running_loop("`await task`", "task.result")
    waiter = loop.create_future()
    # The coroutine holds the waiter. The task must not: through it, it would hold the loop.
    task.add_done_callback(functools.partial(_wake, weakref.ref(waiter)))
    loan = _lend()  # for a loop that runs in a callback; it ends with the wait
    try:
        await waiter
    except asyncio.CancelledError:
        task.cancel()
        raise
    finally:
        del loan


class Sleepers:
    """Coroutines that sleep until the next tick of a series, or until it is over."""

    def __init__(self, series: TaskBase[None]) -> None:
        self._series = weakref.ref(series)
        # By weak references, as in `wait_until_done`. The set is added to, taken from and copied,
        # each of which is atomic.
        self._waiters: set[weakref.ref[asyncio.Future[None]]] = set()
        series.add_done_callback(self._wake)

    def _wake(self, series: TaskBase[None]) -> None:
        for reference in self._waiters.copy():
            _wake(reference, series)

    async def sleep(self, delay: float) -> None:
        """Sleep for *delay* by the loop's own clock, or until the series is over."""
        loop = require_running_loop("`async for` over a ticker", "next, ticker")
        waiter = loop.create_future()
        reference = weakref.ref(waiter)
        self._waiters.add(reference)
        timer = loop.call_later(delay, _set, waiter)
        try:
            series = self._series()
            if series is not None and not series.done():  # if it is, nobody may come to wake
                await waiter
        finally:
            timer.cancel()
            self._waiters.discard(reference)


def _wake(reference: weakref.ref[asyncio.Future[None]], _task: TaskBase[Any]) -> None:
    waiter = reference()
    if waiter is None:
        return
    # A loop that is closed has nobody waiting on it any more.
    with contextlib.suppress(RuntimeError):
        bridge_of(waiter.get_loop()).call(functools.partial(_set, waiter))


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def close_pool(
    pool: PoolBase, within: Duration | None, delayed: Literal["cancel", "run", "wait"]
) -> bool:
    """Do what `AsyncTaskPool.aclose` says."""
    loop = require_running_loop("`aclose`", "pool.shutdown")
    end = None if within is None else loop.time() + _seconds("timeout", within)
    is_whole = pool._begin_end(delayed)
    task = bridge_of(loop).task_of(asyncio.current_task())
    if task is not None and pool._has_posted(task):
        return False  # it would wait for itself
    # It looks, for nothing here can be awaited: the last worker ends when it has left Python. The
    # end of a pool comes once, and soon.
    pause = SHORTEST_PAUSE
    loan = _lend()  # as in `wait_until_done`
    try:
        while not pool._has_ended():
            if end is not None:
                left = end - loop.time()
                if left <= 0:
                    break
                pause = min(pause, left)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
    finally:
        del loan
    return pool._end_now() and is_whole
