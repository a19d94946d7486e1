"""What `threading` has no public way for: every private part of CPython that the package uses.

`threading` cannot be told of a thread that it did not start, nor of what is to happen before it
joins threads. What is used of it here is private, and unknown to the type checker: each such line
says ``attr-defined``. `tests/test_private_parts.py` tells what a new CPython has changed.

- ``_register_atexit``: a call before threads are joined, as `concurrent.futures` has it; 3.9 on.
- ``_shutdown``: the end of a forked child, as `multiprocessing` has it.
- ``_DummyThread``: the base of what `threading` sees of a worker.
- ``_active``, ``_active_limbo_lock``: where threads are entered. A fork makes a new lock.
- ``_thread_local_info._track_dummy_thread_ref``: takes a dummy out of ``_active`` when the locals
  of its thread end; 3.13 on.
- ``_MainThread``: the class of a worker that has forked, in the child. From 3.13 on CPython gives
  it that class; ``_set_tstate_lock`` goes with it up to 3.12.

The name of this file matters: debugpy warns of a `sys.settrace` unless a file calls it whose name
ends like that of `threading`, in whose place it is called here.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "become_main",
    "before_join",
    "has_other_threads",
    "register_thread",
    "shut_down",
    "unregister_thread",
]


class _WorkerThread(threading._DummyThread):
    """A worker, as `threading` sees it: a thread with a name that is not started."""

    def __init__(self, name: str) -> None:
        super().__init__()  # enters it into `_active`
        self._settle(name)

    def _settle(self, name: str) -> None:
        """Make a dummy that has been entered a worker's."""
        self._name = name
        self._over = False
        info: Any = getattr(threading, "_thread_local_info", None)
        if not hasattr(info, "_track_dummy_thread_ref"):
            return
        # We take the thread off the list ourselves. At the end of the program the `__del__` of what
        # does it for CPython may find its module gone, and say so on stderr (gh-130522). It is
        # called here instead, and what it does is taken back. (To give it another class would stop
        # every thread of a program without a GIL.)
        with threading._active_limbo_lock:  # type: ignore[attr-defined]
            del info._track_dummy_thread_ref
            threading._active[self.ident] = self  # type: ignore[attr-defined]

    def is_alive(self) -> bool:
        return not self._over

    def join(self, timeout: float | None = None) -> None:  # noqa: ARG002  # Thread's signature
        message = "a worker ends when its pool says so; use the pool's shutdown"
        raise RuntimeError(message)


def register_thread(name: str) -> None:
    """Do for the calling worker what `Thread._bootstrap` does for a thread of Python's."""
    thread = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]
    if type(thread) is threading._DummyThread:
        # A debugger has seen this very call, and asked whose it is. What it was given is what it
        # goes by from now on, so that has to be the worker.
        thread.__class__ = _WorkerThread
        _WorkerThread._settle(thread, name)  # type: ignore[arg-type]  # it is one now
    else:
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
        # Without it the entry stays until the system gives the same identity to another thread.
        with contextlib.suppress(AttributeError, KeyError), threading._active_limbo_lock:  # type: ignore[attr-defined]
            del threading._active[thread.ident]  # type: ignore[attr-defined]


def has_other_threads() -> bool:
    """Tell whether any other thread than the calling one is alive."""
    return threading.active_count() > 1


def become_main() -> None:
    """Make a worker that has forked the main thread of the child, as it is one now."""
    main = threading.main_thread()
    if isinstance(main, _WorkerThread):
        # What CPython does with its own dummies from 3.13 on. Without it `_shutdown` fails.
        main.__class__ = threading._MainThread  # type: ignore[attr-defined]
        main._name = "MainThread"
        main._daemonic = False  # type: ignore[attr-defined]
        if hasattr(main, "_set_tstate_lock"):
            main._set_tstate_lock()


def before_join(call: Callable[[], Any]) -> None:
    """Have *call* called at the end of the program, before `threading` joins its threads.

    So a thread which waits for a task of ours is not waited for first.
    """
    threading._register_atexit(call)  # type: ignore[attr-defined]


def shut_down() -> None:
    """Do what the end of the program does about threads, in a child that has no such end."""
    threading._shutdown()  # type: ignore[attr-defined]
