"""The way from workers to an event loop: for those who await, and for coroutine functions.

Imported when a loop is first met, for the sake of programs that have none.

One bridge per loop. What is due for the loop goes on a list, and the loop is woken only if it has
not been woken since it last looked: 0.05 µs for each of a burst, instead of 10 µs.

- The worker: (1) puts its item on the list; (2) if `_armed` is not set, sets it and wakes the loop.
- The loop: (3) clears `_armed`; (4) takes what is on the list.

The race: an item put between 3 and 4 is taken in step 4, and wakes the loop once more for nothing;
one put after 4 finds `_armed` cleared. Nothing is left lying.

The bridge belongs to its loop, and with it what goes on there. Handles know the loop by a weak
reference only: when a loop is closed with tasks on it, its end as an object is the last moment to
tell who waits for them, and that end must come.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from collections import deque
from concurrent.futures import InvalidStateError
from contextvars import Context
from typing import TYPE_CHECKING, Any, Literal

from asynctask._asynctask import _lend, _seconds
from asynctask._places import end

if TYPE_CHECKING:
    from collections.abc import Callable

    from asynctask._pool import AsyncTaskPool
    from asynctask._task import AsyncTask
    from asynctask._types import Duration

__all__ = ["Bridge", "bridge_of", "check_loop", "end_pool", "finish", "on_loop", "runs", "stalled"]

BATCH = 1000
"""The most items a loop takes in one turn, so that its other callbacks get theirs."""

ATTRIBUTE = "_asynctask_bridge"
"""Where a loop keeps its bridge."""

CLOSED = "Event loop is closed"
"""What a closed loop itself says."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.001, 0.05
"""Seconds from one look of `aclose` to the next: at first, and at last."""

_bridges: weakref.WeakValueDictionary[int, Bridge] = weakref.WeakValueDictionary()
"""Every bridge, by the number of its loop."""


class Bridge:
    """The way from workers to one event loop, which owns it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: deque[Callable[[], object]] = deque()
        self._armed = False
        # A loop itself holds its tasks by weak references.
        self._runs: dict[asyncio.Future[Any], AsyncTask[Any]] = {}
        # Tasks given to the loop that have not ended.
        self._open: weakref.WeakSet[AsyncTask[Any]] = weakref.WeakSet()
        weakref.finalize(loop, _abandon, self._open).atexit = False

    def call(self, item: Callable[[], object]) -> None:
        """Have the loop call *item* soon; from any thread.

        Raises:
            RuntimeError: The loop is closed. Whatever is raised, the item has not been taken.
        """
        if self._loop.is_closed():
            raise RuntimeError(CLOSED)
        self._items.append(item)
        if not self._armed:
            self._armed = True
            # In a context of its own: what runs there must not keep that of whoever is first.
            try:
                self._loop.call_soon_threadsafe(self._drain, context=Context())
            except BaseException:
                self._armed = False
                try:
                    self._items.remove(item)
                except ValueError:
                    return  # it was taken meanwhile: the loop has it
                raise

    def _drain(self) -> None:
        self._armed = False
        items = self._items
        try:
            for _ in range(min(len(items), BATCH)):
                items.popleft()()
        finally:  # Ctrl-C may come anywhere
            if items and not self._armed:
                self._armed = True
                self._loop.call_soon(self._drain, context=Context())

    def start(
        self,
        task: AsyncTask[Any],
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        context: Context | None,
    ) -> None:
        """Run a coroutine function as a task of the loop; from any thread."""
        self._open.add(task)
        try:
            self.call(functools.partial(self._begin, task, callback, args, kwargs, context))
        except BaseException:
            self._open.discard(task)
            raise

    def _begin(
        self,
        task: AsyncTask[Any],
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        context: Context | None,
    ) -> None:
        if not task._is_wanted():
            self._open.discard(task)
            task._complete_cancelled(asyncio.CancelledError())
            return
        context = Context() if context is None else context
        try:
            coroutine = context.run(callback, *args, **(kwargs or {}))
            run = self._loop.create_task(coroutine, name=task.name, context=context)
        except asyncio.CancelledError as error:
            self._open.discard(task)
            task._complete_cancelled(error)
            return
        except BaseException as error:
            self._open.discard(task)
            task._fail(error)
            if isinstance(error, Exception):
                return
            raise  # as asyncio's own tasks do
        self._runs[run] = task
        run.add_done_callback(functools.partial(self._end, task))
        if not task._set_remote(_Remote(self._loop, run)):
            run.cancel()

    def _end(self, task: AsyncTask[Any], run: asyncio.Future[Any]) -> None:
        self._runs.pop(run, None)
        self._open.discard(task)
        end(task, run, asyncio.CancelledError)


def _abandon(tasks: weakref.WeakSet[AsyncTask[Any]]) -> None:
    """Tell who waits for what a loop has left behind."""
    for task in list(tasks):
        with contextlib.suppress(InvalidStateError):  # it has ended in this moment
            task._fail(RuntimeError(CLOSED), True)  # it is gone for good


class _OnLoop:
    """The place of coroutine functions; what a task has of its loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self.number = id(loop)

    def start(self, *call: Any) -> None:
        """Run a coroutine function as a task of the loop; the arguments are `Bridge.start`'s."""
        loop = self._loop()
        if loop is None:
            raise RuntimeError(CLOSED)
        bridge_of(loop).start(*call)

    def is_gone(self, _error: BaseException) -> bool:
        """Tell whether there will never be a run there again."""
        loop = self._loop()
        return loop is None or loop.is_closed()


class _Remote:
    """Cancels a run that is going on a loop, from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, run: asyncio.Future[Any]) -> None:
        self._loop = weakref.ref(loop)
        self._run = weakref.ref(run)

    def cancel(self) -> bool:
        loop, run = self._loop(), self._run()
        if loop is None or run is None:
            return False
        if run.done():
            return run.cancelled()  # and the handle is about to be
        try:
            bridge_of(loop).call(run.cancel)
        except RuntimeError:
            return False
        return True


def bridge_of(loop: asyncio.AbstractEventLoop) -> Bridge:
    """Give the one bridge to *loop*."""
    attributes = vars(loop)
    bridge: Bridge | None = attributes.get(ATTRIBUTE)
    if bridge is None:
        # Of two threads, the second gets what the first has put there.
        bridge = attributes.setdefault(ATTRIBUTE, Bridge(loop))
        _bridges[id(loop)] = bridge
    return bridge


def on_loop(loop: asyncio.AbstractEventLoop | None) -> _OnLoop:
    """Give the place for coroutine functions: *loop*, or the running one."""
    if loop is None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            message = (
                "callback is a coroutine function: post it from a running event loop, or pass "
                "loop=; under trio post "
                "`functools.partial(trio.from_thread.run, callback, trio_token=token)`"
            )
            raise TypeError(message) from None
    check_loop(loop)
    return _OnLoop(loop)


def check_loop(loop: object) -> None:
    """Refuse what is no event loop."""
    if not isinstance(loop, asyncio.AbstractEventLoop):
        message = f"loop must be an event loop, not {loop!r}"
        raise TypeError(message)


def stalled(blocks: bool) -> list[int]:
    """Give the numbers of the loops that do not run, or, if this thread *blocks*, run on it."""
    here = _running_loop() if blocks else None
    loops = [bridge._loop for bridge in _all_bridges()]
    return [id(loop) for loop in loops if loop is here or not loop.is_running()]


def runs() -> list[AsyncTask[Any]]:
    """Give every task that is on a loop."""
    return [task for bridge in _all_bridges() for task in _copy(bridge._open)]


async def end_pool(
    pool: AsyncTaskPool, within: Duration | None, delayed: Literal["cancel", "run", "wait"]
) -> bool:
    """Do what `AsyncTaskPool.aclose` says."""
    loop = running_loop("`aclose`", "pool.shutdown")
    end = None if within is None else loop.time() + _seconds("timeout", within)
    is_whole = pool._begin_end(delayed)
    run = asyncio.current_task()
    task = None if run is None else bridge_of(loop)._runs.get(run)
    if task is not None and pool._has_posted(task):
        return False  # it would wait for itself
    # It looks, for nothing here can be awaited: the last worker ends when it has left Python. The
    # end of a pool comes once, and soon.
    pause = SHORTEST_PAUSE
    loan = _lend()  # as in `finish`
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


def _all_bridges() -> list[Bridge]:
    # `valuerefs` copies in one step; an iteration would be upset by a thread that adds one.
    bridges = [reference() for reference in _bridges.valuerefs()]
    return [bridge for bridge in bridges if bridge is not None]


def _copy(tasks: weakref.WeakSet[AsyncTask[Any]]) -> list[AsyncTask[Any]]:
    while True:
        with contextlib.suppress(RuntimeError):  # another thread has added one, or taken one away
            return list(tasks)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def running_loop(what: str, blocking: str) -> asyncio.AbstractEventLoop:
    """Give the running loop that *what* needs.

    Where there is none, under trio for one, the error says how to wait there: by *blocking*, what
    a thread would call, in a thread.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        message = (
            f"no running event loop of asyncio, which {what} needs; under trio wait in a thread: "
            f"`await trio.to_thread.run_sync({blocking})`, or "
            f"`await anyio.to_thread.run_sync({blocking})` under both"
        )
        raise RuntimeError(message) from None


async def finish(task: AsyncTask[Any]) -> None:
    """Wait until *task* is over; cancelling the wait cancels a task that has not started."""
    loop = running_loop("`await task`", "task.result")
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

    def __init__(self, series: AsyncTask[None]) -> None:
        self._series = weakref.ref(series)
        # By weak references, as in `finish`. The set is added to, taken from and copied, each of
        # which is atomic.
        self._waiters: set[weakref.ref[asyncio.Future[None]]] = set()
        series.add_done_callback(self._wake)

    def _wake(self, series: AsyncTask[None]) -> None:
        for reference in self._waiters.copy():
            _wake(reference, series)

    async def sleep(self, delay: float) -> None:
        """Sleep for *delay* by the loop's own clock, or until the series is over."""
        loop = running_loop("`async for` over a ticker", "next, ticker")
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


def _wake(reference: weakref.ref[asyncio.Future[None]], _task: AsyncTask[Any]) -> None:
    waiter = reference()
    if waiter is None:
        return
    # A loop that is closed has nobody waiting on it any more.
    with contextlib.suppress(RuntimeError):
        bridge_of(waiter.get_loop()).call(functools.partial(_set, waiter))


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
