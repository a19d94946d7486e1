"""What the native module calls back into: logging, and `threading`'s view of a worker.

Nothing here is public. Every function is called attached, with no lock held.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asynctask import AsyncTask

__all__ = [
    "log_callback",
    "log_initializer",
    "log_run",
    "log_unseen",
    "register_thread",
    "unregister_thread",
]

# No `NullHandler`: in a program that has not set logging up, a failure that nobody looked at goes
# to stderr, as with `concurrent.futures` and `asyncio`.
_logger = logging.getLogger("asynctask")


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
