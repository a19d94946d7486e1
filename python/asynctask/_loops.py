"""The bridge from workers to an event loop of asyncio's, over which calls and coroutines go.

One for each loop, which owns it, and with it what goes on there. It never blocks a worker for the
sake of the loop, nor keeps a loop alive: handles know the loop by a weak reference only, for when a
loop is closed with tasks on it, its end as an object is the last moment to tell who waits for them,
and that end must come. This file is imported when a loop is first met, and imports asyncio.

What is due for the loop goes on a list, and the loop is woken only if it has not been woken since
it last looked, which is what makes a burst cheap (`docs/design/package.md`).

- The worker: (1) puts its item on the list; (2) if `_armed` is not set, sets it and wakes the loop.
- The loop: (3) clears `_armed`; (4) takes what is on the list.

The race: an item put between 3 and 4 is taken in step 4, and wakes the loop once more for nothing;
one put after 4 finds `_armed` cleared. Two workers that both find it so in step 2 both wake the
loop, and the second time for nothing. Nothing is left lying.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from collections import deque
from concurrent.futures import InvalidStateError
from contextvars import Context
from typing import TYPE_CHECKING, Any

from asynctask._outcomes import copy_outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from asynctask._asynctask import TaskBase

__all__ = [
    "Bridge",
    "bridge_at",
    "bridge_of",
    "check_loop",
    "open_tasks",
    "running_loop",
    "stalled_loops",
]

BATCH = 1000
"""The most items a loop takes in one turn, so that its other callbacks get theirs."""

ATTRIBUTE = "_asynctask_bridge"
"""Where a loop keeps its bridge."""

CLOSED = "Event loop is closed"
"""What a closed loop itself says."""

_bridges: weakref.WeakValueDictionary[int, Bridge] = weakref.WeakValueDictionary()
"""Every bridge, by the number of its loop."""


class Bridge:
    """The way to one event loop. Thread-safe, but for what says that the loop calls it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: deque[Callable[[], object]] = deque()
        self._armed = False
        # A loop itself holds its tasks by weak references.
        self._runs: dict[asyncio.Future[Any], TaskBase[Any]] = {}
        # Tasks given to the loop that have not ended.
        self._open: weakref.WeakSet[TaskBase[Any]] = weakref.WeakSet()
        weakref.finalize(loop, _fail_open, self._open).atexit = False

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
        """Do steps 3 and 4; the loop calls it."""
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
        task: TaskBase[Any],
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
        task: TaskBase[Any],
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        context: Context | None,
    ) -> None:
        """Make the run of *task* that `start` is about; the loop calls it."""
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
        if not task._set_remote(_LoopRun(self._loop, run)):
            run.cancel()

    def task_of(self, run: asyncio.Future[Any] | None) -> TaskBase[Any] | None:
        """Give the task that *run* is a run of, if it was started here."""
        return None if run is None else self._runs.get(run)

    def _end(self, task: TaskBase[Any], run: asyncio.Future[Any]) -> None:
        """Tell *task* how *run* has ended; the loop calls it."""
        self._runs.pop(run, None)
        self._open.discard(task)
        copy_outcome(run, task, asyncio.CancelledError)


def _fail_open(tasks: weakref.WeakSet[TaskBase[Any]]) -> None:
    """Tell who waits for what a loop has left behind."""
    for task in list(tasks):
        with contextlib.suppress(InvalidStateError):  # it has ended in this moment
            task._fail(RuntimeError(CLOSED), True)  # it is gone for good


class _LoopRun:
    """A run on a loop, as a `Remote`: cancels it, from any thread."""

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


def bridge_at(reference: weakref.ref[asyncio.AbstractEventLoop]) -> Bridge:
    """Give the one bridge to a loop.

    Raises:
        RuntimeError: There is no such loop any more.
    """
    loop = reference()
    if loop is None:
        raise RuntimeError(CLOSED)
    return bridge_of(loop)


def bridge_of(loop: asyncio.AbstractEventLoop) -> Bridge:
    """Give the one bridge to *loop*."""
    attributes = vars(loop)
    bridge: Bridge | None = attributes.get(ATTRIBUTE)
    if bridge is None:
        # Of two threads, the second gets what the first has put there.
        bridge = attributes.setdefault(ATTRIBUTE, Bridge(loop))
        _bridges[id(loop)] = bridge
    return bridge


def check_loop(loop: object) -> None:
    """Refuse what is no event loop."""
    if not isinstance(loop, asyncio.AbstractEventLoop):
        message = f"loop must be an event loop, not {loop!r}"
        raise TypeError(message)


def stalled_loops(blocks: bool) -> list[asyncio.AbstractEventLoop]:
    """Give the loops with a bridge that do not run, or, if this thread *blocks*, run on it."""
    here = running_loop() if blocks else None
    loops = [bridge._loop for bridge in _all_bridges()]
    return [loop for loop in loops if loop is here or not loop.is_running()]


def open_tasks() -> list[TaskBase[Any]]:
    """Give every task that was given to a loop and has not ended."""
    return [task for bridge in _all_bridges() for task in _copy(bridge._open)]


def _all_bridges() -> list[Bridge]:
    # `valuerefs` copies in one step; an iteration would be upset by a thread that adds one.
    bridges = [reference() for reference in _bridges.valuerefs()]
    return [bridge for bridge in bridges if bridge is not None]


def _copy(tasks: weakref.WeakSet[TaskBase[Any]]) -> list[TaskBase[Any]]:
    while True:
        with contextlib.suppress(RuntimeError):  # another thread has added one, or taken one away
            return list(tasks)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Give the loop that runs on this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
