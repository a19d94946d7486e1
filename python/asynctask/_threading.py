"""What `threading` has no public way for: every private part of CPython that the package uses.

`threading` cannot be told of a thread that it did not start, nor of what is to happen before it
joins threads. What is used of it here is private, and unknown to the type checker: each such line
says ``attr-defined``. `tests/project/test_private_parts.py` tells what a new CPython has changed.

- ``_register_atexit``: a call before threads are joined, as `concurrent.futures` has it; 3.9 on.
- ``_shutdown``: the end of a forked child, as `multiprocessing` has it.
- ``_DummyThread``: the base of what `threading` sees of a worker.
- ``_active``: where threads are entered, by their identities. `threading` has a lock for it, which
  no code of ours may hold: a debugger that stops all threads would stop the one that has it, and
  then wait for it itself. What is done with the dict here is one operation each, and needs none.
- ``_thread_local_info._track_dummy_thread_ref``: takes a dummy out of ``_active`` when the locals
  of its thread end, if that is the ``_dummy_thread`` that it knows; 3.13 on.
- ``_MainThread``: the class of a worker that has forked, in the child. From 3.13 on CPython gives
  it that class; ``_set_tstate_lock`` goes with it up to 3.12.

The name of this file matters: debugpy warns of a `sys.settrace` unless a file calls it whose name
ends like that of `threading`, in whose place it is called here.
"""

from __future__ import annotations

import functools
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
    "trace_thread",
]


class _WorkerThread(threading._DummyThread):
    """A worker, as `threading` sees it: a thread with a name that is not started."""

    def __init__(self, name: str) -> None:
        super().__init__()  # enters it into `_active`
        self._settle(name)

    def _settle(self, name: str) -> None:
        """Make a dummy that has been entered a worker's."""
        self._name = name
        info: Any = getattr(threading, "_thread_local_info", None)
        if not hasattr(info, "_track_dummy_thread_ref"):
            return
        # We take the thread off the list ourselves. At the end of the program the `__del__` of what
        # does it for CPython may find its module gone, and say so on stderr (gh-130522). It is
        # called here instead, and has no thread to take off. (To give it another class would stop
        # every thread of a program without a GIL.)
        info._track_dummy_thread_ref._dummy_thread = None
        del info._track_dummy_thread_ref

    def is_alive(self) -> bool:
        return threading._active.get(self.ident) is self  # type: ignore[attr-defined]

    def join(self, timeout: float | None = None) -> None:  # noqa: ARG002  # Thread's signature
        message = "a worker ends when its pool says so; use the pool's shutdown"
        raise RuntimeError(message)


def register_thread(name: str) -> Callable[[], object]:
    """Enter the calling worker on `threading`'s list, and give what takes it off again.

    That is none of Python's functions: a debugger could stop the thread in one, and would then not
    find it on the list to let it go on.
    """
    thread = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]
    if type(thread) is threading._DummyThread:
        # A debugger has seen this very call, and asked whose it is. What it was given is what it
        # goes by from now on, so that has to be the worker.
        thread.__class__ = _WorkerThread
        _WorkerThread._settle(thread, name)  # type: ignore[arg-type]  # it is one now
    else:
        thread = _WorkerThread(name)
    return functools.partial(threading._active.pop, thread.ident, None)  # type: ignore[attr-defined]


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
