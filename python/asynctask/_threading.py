"""Workers as `threading` sees them, and what `threading` promises to every thread.

Each function is called on the thread that it is about, which owns what is entered. Nothing here
starts or ends a thread, or takes a lock.

The name of this file matters: debugpy warns of a `sys.settrace` unless a file calls it whose name
ends like that of `threading`, in whose place it is called here.
"""

from __future__ import annotations

import functools
import sys
import threading
from typing import TYPE_CHECKING

from asynctask import _cpython

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "become_main_thread",
    "has_other_threads",
    "register_thread",
    "safe_point",
    "trace_thread",
]


class _WorkerThread(_cpython.DummyThread):
    """A worker, as `threading` sees it: a thread with a name that is not started."""

    def __init__(self, name: str) -> None:
        super().__init__()  # enters it
        _cpython.adopt_dummy(self, name)

    def is_alive(self) -> bool:
        return self.ident is not None and _cpython.active_threads().get(self.ident) is self

    def join(self, timeout: float | None = None) -> None:  # noqa: ARG002  # Thread's signature
        message = "a worker ends when its pool says so; use the pool's shutdown"
        raise RuntimeError(message)


def register_thread(name: str) -> Callable[[], object]:
    """Enter the calling worker on `threading`'s list, and give what takes it off again.

    That is none of Python's functions: a debugger could stop the thread in one, and would then not
    find it on the list to let it go on.
    """
    threads = _cpython.active_threads()
    thread = threads.get(threading.get_ident())
    if thread is not None and _cpython.is_plain_dummy(thread):
        # A debugger has seen this very call, and asked whose it is. What it was given is what it
        # goes by from now on, so that has to be the worker.
        thread.__class__ = _WorkerThread
        _cpython.adopt_dummy(thread, name)
    else:
        thread = _WorkerThread(name)
    return functools.partial(threads.pop, thread.ident, None)


def trace_thread() -> None:
    """Give the calling worker what `settrace` and `setprofile` of `threading` promise to threads.

    A native thread starts without.
    """
    trace = threading.gettrace()
    if trace is not None:
        sys.settrace(trace)
    profile = threading.getprofile()
    if profile is not None:
        sys.setprofile(profile)


def safe_point() -> None:
    """Run a bytecode: CPython does on it what it has put off for the calling thread."""


def has_other_threads() -> bool:
    """Tell whether any other thread than the calling one is alive."""
    return threading.active_count() > 1


def become_main_thread() -> None:
    """Make a worker that has forked the main thread of the child, as it is one now."""
    main = threading.main_thread()
    if isinstance(main, _WorkerThread):
        _cpython.become_main_thread(main)
