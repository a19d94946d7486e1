"""What the native module calls back into: places, logging, and `threading`'s view of a worker.

Nothing here is public. Every function is called attached, with no lock held.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

from asynctask._executors import on_executor

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from asynctask import AsyncTask
    from asynctask._loops import Bridge

__all__ = [
    "is_coroutine_function",
    "log_callback",
    "log_initializer",
    "log_run",
    "log_unseen",
    "on_executor",
    "on_loop",
    "register_thread",
    "unregister_thread",
]

# No `NullHandler`: in a program that has not set logging up, a failure that nobody looked at goes
# to stderr, as with `concurrent.futures` and `asyncio`.
_logger = logging.getLogger("asynctask")


def is_coroutine_function(callback: Any) -> bool:
    """Tell whether calling *callback* gives a coroutine, whatever it is wrapped in."""
    import inspect  # noqa: PLC0415  # plain functions, which most callbacks are, never come here

    while isinstance(callback, functools.partial):
        callback = callback.func
    # Of an object that can be called, it is the class that has the function.
    function = callback if inspect.isroutine(callback) else type(callback).__call__
    return inspect.iscoroutinefunction(function)


def on_loop(loop: AbstractEventLoop | None) -> Bridge:
    """Give the place for coroutine functions: *loop*, or the running one."""
    from asynctask import _loops  # noqa: PLC0415  # whoever has a coroutine function has asyncio

    return _loops.on_loop(loop)


class _WorkerThread(threading._DummyThread):
    """A worker, as `threading` sees it: a thread with a name that is not started."""

    def __init__(self, name: str) -> None:
        super().__init__()  # enters it into `threading._active`
        self._name = name
        self._over = False

    def is_alive(self) -> bool:
        return not self._over

    def join(self, timeout: float | None = None) -> None:  # noqa: ARG002  # Thread's signature
        message = "a worker ends when its pool says so; use the pool's shutdown"
        raise RuntimeError(message)


def register_thread(name: str) -> None:
    """Do for the calling worker what `Thread._bootstrap` does for a thread of Python's."""
    _WorkerThread(name)
    # A native thread starts without the trace and profile functions that
    # `threading.settrace` and `threading.setprofile` promise to every new thread.
    trace = threading.gettrace()
    if trace is not None:
        sys.settrace(trace)
    profile = threading.getprofile()
    if profile is not None:
        sys.setprofile(profile)


def unregister_thread() -> None:
    """Take the calling worker off `threading`'s list again."""
    thread = threading.current_thread()
    if isinstance(thread, _WorkerThread):
        thread._over = True
        # Private, but `threading` has no other way out of its list; without it the
        # entry stays until the system gives the same identity to another thread.
        with contextlib.suppress(AttributeError, KeyError), threading._active_limbo_lock:  # type: ignore[attr-defined]
            del threading._active[thread.ident]  # type: ignore[attr-defined]


def log_unseen(name: str, error: BaseException) -> None:
    """Report a failure whose handle went away before anybody looked at it."""
    _logger.error("exception in task %r was never retrieved", name, exc_info=error)


def log_run(name: str, error: BaseException) -> None:
    """Report a failing run of a series."""
    _logger.error("exception in a run of task %r", name, exc_info=error)


def log_callback(task: AsyncTask[Any], error: BaseException) -> None:
    """Report a failing done-callback, in the words of `concurrent.futures`."""
    _logger.error("exception calling callback for %r", task, exc_info=error)


def log_initializer(error: BaseException) -> None:
    """Report a failing initializer, in the words of `concurrent.futures`."""
    _logger.critical("Exception in initializer:", exc_info=error)
