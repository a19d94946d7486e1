"""What the native module calls back into: places, logging, and `threading`'s view of a worker.

Nothing here is public. Every function is called attached, with no lock held.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from asynctask import _asynctask, _threading
from asynctask._places import on_executor
from asynctask._threading import has_other_threads, register_thread, trace_thread

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from contextvars import Context
    from types import ModuleType

    from asynctask import AsyncTask
    from asynctask._loops import _OnLoop

__all__ = [
    "after_fork_in_child",
    "cooperative_gevent",
    "drain_at_exit",
    "end_child",
    "forget_async_library",
    "has_other_threads",
    "is_coroutine_function",
    "is_on_loop",
    "is_plain_class",
    "log_blocked_loop",
    "log_callback",
    "log_inherited",
    "log_initializer",
    "log_lent",
    "log_run",
    "log_stalled",
    "log_unseen",
    "new_waiters",
    "on_executor",
    "on_loop",
    "register_thread",
    "runs_on_loops",
    "safe_point",
    "stalled_loops",
    "trace_thread",
]

# No `NullHandler`: in a program that has not set logging up, a failure that nobody looked at goes
# to stderr, as with `concurrent.futures` and `asyncio`.
_logger = logging.getLogger("asynctask")

MARKS = ("_is_coroutine_marker", "_is_coroutine", "__code__")
"""What `is_coroutine_function` looks for on an object that is no function of Python's."""


def is_coroutine_function(callback: Any) -> bool:
    """Tell whether calling *callback* gives a coroutine, whatever it is wrapped in."""
    import inspect  # noqa: PLC0415  # plain functions, which most callbacks are, never come here

    if inspect.iscoroutinefunction(callback):
        return True
    # `staticmethod` objects as well: in the body of their class, that is what the name means.
    while isinstance(callback, (functools.partial, staticmethod)):
        callback = callback.func if isinstance(callback, functools.partial) else callback.__func__
    # Of an object that can be called, it is the class that has the function.
    kind = callback if inspect.isroutine(callback) else type(callback).__call__
    if not inspect.isroutine(kind):
        return is_coroutine_function(kind)  # or another such object in its place
    return inspect.iscoroutinefunction(kind) or _is_marked_by_asyncio(callback)


def is_plain_class(kind: Any) -> bool:
    """Tell whether calling an instance gives no coroutine, unless its `__dict__` has a mark."""
    return not (
        issubclass(kind, (functools.partial, staticmethod))
        or is_coroutine_function(kind.__call__)
        or hasattr(kind, "__getattr__")
        or kind.__getattribute__ is not object.__getattribute__
        or any(hasattr(kind, mark) for mark in MARKS)
    )


def _is_marked_by_asyncio(callback: Any) -> bool:
    """Tell whether *callback* has the mark that was asyncio's before `inspect` had one."""
    coroutines = sys.modules.get("asyncio.coroutines")
    mark = getattr(coroutines, "_is_coroutine", None)
    return mark is not None and getattr(callback, "_is_coroutine", None) is mark


def on_loop(loop: AbstractEventLoop | None) -> _OnLoop:
    """Give the place for coroutine functions: *loop*, or the running one."""
    from asynctask import _loops  # noqa: PLC0415  # whoever has a coroutine function has asyncio

    return _loops.on_loop(loop)


def cooperative_gevent() -> ModuleType | None:
    """Give our functions for gevent, if this thread must not simply block.

    Imported here, not by the native module: what freezes programs looks for imports in Python.
    """
    from asynctask import _gevent  # noqa: PLC0415  # only for programs that gevent has patched

    return _gevent if _gevent.is_cooperative() else None


def is_on_loop() -> bool:
    """Tell whether an event loop runs on this thread."""
    running = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)
    return running is not None and running() is not None


def stalled_loops(blocks: bool) -> list[int]:
    """Give the numbers of the loops whose coroutines cannot get on while this thread waits."""
    from asynctask import _loops  # noqa: PLC0415  # there are coroutines, so it has been imported

    return _loops.stalled(blocks)


def runs_on_loops() -> list[AsyncTask[Any]]:
    """Give every task that is on a loop."""
    from asynctask import _loops  # noqa: PLC0415  # as above

    return _loops.runs()


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


def safe_point() -> None:
    """Run a bytecode: CPython does on it what it has put off for this thread."""


class _Waiters(list[Any]):
    """The `_waiters` of a task: how a callback that waits by way of the library is noticed.

    `concurrent.futures.wait` and `as_completed` put an object here for as long as they wait. In a
    callback that wait may be for tasks that need its own worker, so another is lent meanwhile; the
    object holds the loan, once for however many tasks it is put on.
    """

    def append(self, waiter: Any) -> None:
        super().append(waiter)
        if not hasattr(waiter, "_asynctask_loan"):
            waiter._asynctask_loan = _asynctask._lend()

    def remove(self, waiter: Any) -> None:
        super().remove(waiter)
        waiter._asynctask_loan = None


def new_waiters() -> list[Any]:
    """Make the `_waiters` of a task."""
    return _Waiters()


def after_fork_in_child() -> None:
    """Begin anew in a forked child; a worker whose callback has forked is its main thread."""
    lost_series = _asynctask._after_fork_in_child()
    _threading.become_main()
    # `logging` has made its locks anew: it was imported before this was registered.
    if lost_series and not _is_forked_for_one_call():
        log_inherited(lost_series)


def _is_forked_for_one_call() -> bool:
    """Tell whether the child is to do one thing for its parent, and nobody expects series of it."""
    caller = sys._getframe(2).f_globals.get("__name__", "")  # who has called `os.fork`
    return caller.partition(".")[0] in {"multiprocessing", "subprocess"}


def drain_at_exit() -> None:
    """Let the pools finish what is queued, before `threading` joins its threads."""
    _asynctask._drain_at_exit()
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        # Unless it was spawned it ends as `end_child` ends one: `atexit` calls nothing there.
        _asynctask._log_alive()


def end_child(error: BaseException | None) -> None:
    """End a process that was forked in a callback, at the end of that callback.

    As `multiprocessing` ends a child: what it has posted runs, `atexit` is the parent's.
    """
    code = 1
    try:
        if error is None:
            code = 0
        elif isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            code = error.code or 0
        elif isinstance(error, SystemExit):
            sys.stderr.write(f"{error.code}\n")
        else:
            sys.excepthook(type(error), error, error.__traceback__)
        _threading.shut_down()
        _asynctask._log_alive()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()
        os._exit(code)


def log_unseen(name: str, error: BaseException) -> None:
    """Report a failure whose handle went away before anybody looked at it."""
    _logger.error("exception in task %r was never retrieved", name, exc_info=error)


def log_run(name: str, error: BaseException) -> None:
    """Report a failing run of a series."""
    _logger.error("exception in a run of task %r", name, exc_info=error)


def log_callback(task: AsyncTask[Any], error: BaseException) -> None:
    """Report a failing done-callback, in the words of `concurrent.futures`."""
    _logger.error("exception calling callback for %r", task, exc_info=error)


def log_inherited(count: int) -> None:
    """Report that series which the parent had posted do not run in a forked child."""
    _logger.warning(
        "%d series posted before the fork are cancelled in this process, and go on in its parent: "
        "post them after the fork, as in gunicorn's `post_fork` or uWSGI's `@postfork`",
        count,
    )


def log_stalled(count: int) -> None:
    """Report that a shutdown does not wait for coroutines which need the waiting thread."""
    _logger.warning(
        "the pool's shutdown does not wait for %d coroutine(s), whose event loop does not run "
        "while this thread waits; on a loop's thread, use `async with` or `await pool.aclose()`",
        count,
    )


def log_blocked_loop() -> None:
    """Report that a shutdown keeps the running loop of its thread from everything else."""
    _logger.warning(
        "the pool's shutdown blocks this thread's event loop, and never ends if a task waits "
        "for that loop; use `async with` or `await pool.aclose()`"
    )


def log_initializer(error: BaseException) -> None:
    """Report a failing initializer, in the words of `concurrent.futures`."""
    _logger.critical("Exception in initializer:", exc_info=error)


def log_lent(pool: str, lent: int) -> None:
    """Report a pool whose callbacks wait for each other more than is likely to be meant."""
    _logger.warning(
        "callbacks of the pool %r wait for other tasks, and it has lent a worker for each of them: "
        "%d at present. It goes on doing so, and does not say so again",
        pool,
        lent,
    )
