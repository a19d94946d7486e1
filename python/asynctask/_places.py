"""Where callbacks may run other than on a worker: an event loop, or somebody's executor.

A task that runs elsewhere keeps its place for all its runs, or shares that of its pool; the native
module calls it when a run is due. What runs there ends there: a place waits for nothing, and never
calls a callback itself. Loops are met by way of `_loops`, which imports asyncio, and so only where
there is one.

1. The native module calls `Place.start`, on a worker, attached, with no lock held.
2. The place hands the callback over, and gives the task a `Remote` that cancels the run.
3. The run ends over there, on whatever thread, and its outcome is copied to the task.

The race: the task may be cancelled at any time. If it was before it had the remote, `_set_remote`
says so in step 2, and the place cancels what it has just started; later the task itself calls the
remote.
"""

from __future__ import annotations

import functools
import sys
import weakref
from concurrent.futures import BrokenExecutor, CancelledError
from typing import TYPE_CHECKING, Any, Protocol

from asynctask._asynctask import PoolBase
from asynctask._cpython import executor_states
from asynctask._outcomes import copy_outcome
from asynctask.exceptions import BrokenPool

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from concurrent.futures import Executor, Future
    from contextvars import Context

    from asynctask._asynctask import TaskBase
    from asynctask._loops import Bridge

__all__ = [
    "Place",
    "Remote",
    "forget_async_library",
    "place_on_executor",
    "place_on_loop",
    "stalled_loops",
    "tasks_on_loops",
]

EXITED = "cannot schedule new futures after interpreter shutdown"

REFUSALS = ("cannot schedule new futures after shutdown", EXITED)
"""What executors say that were shut down, the library's and others that follow it."""


class Remote(Protocol):
    """A run that goes on elsewhere; the native module cancels it. Thread-safe."""

    def cancel(self) -> bool:
        """Cancel the run if that is still possible; whether it was."""
        ...


class Place(Protocol):
    """Where the callbacks of a task run; the native module calls it. Thread-safe."""

    def start(
        self,
        task: TaskBase[Any],
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        context: Context | None,
        /,
    ) -> None:
        """Begin a run of *task*, and return before it has ended.

        Whatever it raises is the outcome of the run, unless that has begun after all.
        """
        ...

    def is_gone(self, error: BaseException, /) -> bool:
        """Tell whether no run can start here any more, as `start` has raised *error*."""
        ...


class _ExecutorPlace:
    """The place of callbacks that somebody else's executor runs."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def start(
        self,
        task: TaskBase[Any],
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        _context: Context | None,
    ) -> None:
        """Have the executor run it. The context stays here: it cannot follow to a process."""
        run = self._executor.submit(callback, *args, **(kwargs or {}))
        if not task._set_remote(run):
            run.cancel()
        run.add_done_callback(functools.partial(self._end, task))

    def is_gone(self, error: BaseException) -> bool:
        """Tell whether `submit`, which has raised *error*, will never take anything again.

        What the executor says of itself comes first, for its `submit` may pass on what another
        one has raised. Of one that says nothing, all that there is to go by is the error.
        """
        if not isinstance(error, RuntimeError):  # which a `BrokenExecutor` is
            return False
        if str(error) == EXITED:
            return True
        states = self._states()
        if states:
            return any(states)
        if isinstance(error, BrokenPool):
            return False  # a pool of ours that could not start a thread
        return isinstance(error, BrokenExecutor) or str(error) in REFUSALS

    def _states(self) -> list[bool]:
        executor = self._executor
        if isinstance(executor, PoolBase):
            return [True] if executor._is_over() else []
        return executor_states(executor)

    def _end(self, task: TaskBase[Any], run: Future[Any]) -> None:
        # A shutdown cancels runs, and a broken executor fails them: then there is no further one.
        is_cut_short = run.cancelled() or isinstance(run.exception(), BrokenExecutor)
        copy_outcome(run, task, CancelledError, is_cut_short and any(self._states()))


class _LoopPlace:
    """The place of coroutine functions; what a task has of its loop, which it does not keep."""

    __slots__ = ("_bridge_at", "_loop", "number")

    def __init__(
        self,
        loop: AbstractEventLoop,
        bridge_at: Callable[[weakref.ref[AbstractEventLoop]], Bridge],
    ) -> None:
        self._loop = weakref.ref(loop)
        self._bridge_at = bridge_at
        self.number = id(loop)
        """Which loop it is, for the native module: see `stalled_loops`."""

    def start(
        self,
        task: TaskBase[Any],
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        context: Context | None,
    ) -> None:
        """Run a coroutine function as a task of the loop."""
        self._bridge_at(self._loop).start(task, callback, args, kwargs, context)

    def is_gone(self, _error: BaseException) -> bool:
        """Tell whether the loop is closed, or does not exist any more."""
        loop = self._loop()
        return loop is None or loop.is_closed()


def place_on_executor(executor: Executor) -> Place:
    """Give the place for callbacks that *executor* runs."""
    if not callable(getattr(executor, "submit", None)):
        message = f"executor must be a concurrent.futures.Executor, not {executor!r}"
        raise TypeError(message)
    return _ExecutorPlace(executor)


def place_on_loop(loop: AbstractEventLoop | None) -> _LoopPlace:
    """Give the place for coroutine functions: *loop*, or the running one."""
    from asynctask import _loops  # noqa: PLC0415  # whoever has a coroutine function has asyncio

    if loop is None:
        loop = _loops.running_loop()
    if loop is None:
        message = (
            "callback is a coroutine function: post it from a running event loop, or pass "
            "loop=; under trio post "
            "`functools.partial(trio.from_thread.run, callback, trio_token=token)`"
        )
        raise TypeError(message)
    _loops.check_loop(loop)
    return _LoopPlace(loop, _loops.bridge_at)


def stalled_loops(blocks: bool) -> list[int]:
    """Give the numbers of the loops whose coroutines cannot get on while this thread waits.

    Those that do not run and, if this thread *blocks*, the one that runs on it.
    """
    from asynctask import _loops  # noqa: PLC0415  # there are coroutines, so it has been imported

    return [id(loop) for loop in _loops.stalled_loops(blocks)]


def tasks_on_loops() -> list[TaskBase[Any]]:
    """Give every task that was given to a loop and has not ended."""
    from asynctask import _loops  # noqa: PLC0415  # as above

    return _loops.open_tasks()


def forget_async_library(context: Context, is_loop: bool) -> None:
    """Take out of a poster's *context* which kind of loop the poster runs under.

    Programs built on anyio ask sniffio, which finds it there. On a worker there is no loop, and on
    one of asyncio's it is asyncio.
    """
    variable = getattr(sys.modules["sniffio"], "current_async_library_cvar", None)
    if variable is None:  # it is being imported
        return
    library = context.get(variable)
    if library is not None and not (is_loop and library == "asyncio"):
        context.run(variable.set, None)
