"""Every private part of CPython that the package uses, and which versions have it.

Owned by the process, as those parts are. Other files call what stands here by a name of ours; it
decides nothing, starts no thread, and never takes a lock of CPython's. A new CPython may change any
of it without a word: `tests/project/test_private_parts.py` tells what it has changed.

Threads, of `threading`:

- ``_active``: the list of threads, by their identities, which workers are entered on. All versions.
- ``_DummyThread``, ``Thread._name``: what a worker is on that list. All versions.
- ``_thread_local_info._track_dummy_thread_ref``: takes a dummy off the list when the locals of its
  thread end, if that is the ``_dummy_thread`` that it knows. 3.13 on.
- ``_MainThread``, ``Thread._daemonic``: a worker that has forked is the child's main thread. All
  versions; from 3.13 on CPython does the same to its own dummies.
- ``Thread._set_tstate_lock``: goes with it. 3.11 and 3.12.
- ``_register_atexit``: a call before threads are joined, as `concurrent.futures` has it. All.
- ``_shutdown``: the end of a forked child, as `multiprocessing` has it. All.

Futures and executors, of `concurrent.futures`:

- ``Future._waiters``: where `wait` and `as_completed` are noticed. All.
- ``_shutdown``, ``_shutdown_thread``, ``_broken`` of executors: whether one takes no more. All.

Coroutines and loops:

- ``asyncio.events._get_running_loop``: gives `None` where `get_running_loop` raises. All.
- ``asyncio.coroutines._is_coroutine``: the mark of functions that give a coroutine. All, though
  from 3.12 on there is `inspect.markcoroutinefunction`, which sets ``_is_coroutine_marker``.

The interpreter:

- ``sys._getframe``: who has forked. All.
- ``_xxsubinterpreters``: whether this is the main one. 3.11; from 3.12 on CPython itself refuses
  the import of the native module in another.

"All" are 3.11 to 3.15. What the type checker does not know of is marked ``attr-defined``.

``threading._active`` has a lock, which no code of ours may hold: a debugger that stops all threads
would stop the one that has it, and then wait for it itself. What is done with the dict here is one
operation each, and needs none.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from asynctask._asynctask import _lend

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, ThreadPoolExecutor

__all__ = [
    "COROUTINE_MARKS",
    "DummyThread",
    "LendingWaiters",
    "active_threads",
    "adopt_dummy",
    "become_main_thread",
    "call_before_join",
    "close_executor",
    "executor_states",
    "is_closed_executor",
    "is_main_interpreter",
    "is_marked_by_asyncio",
    "is_on_loop",
    "is_plain_dummy",
    "join_threads",
    "module_of_caller",
]

# Threads.

DummyThread = threading._DummyThread
"""The class of what `threading` sees of a thread that it did not start."""


def active_threads() -> dict[int, threading.Thread]:
    """Give the list on which `threading` has its threads, by their identities."""
    threads: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
    return threads


def is_plain_dummy(thread: threading.Thread | None) -> bool:
    """Tell whether `threading` has made *thread* itself, for a thread that it was asked about."""
    return type(thread) is threading._DummyThread


def adopt_dummy(thread: threading.Thread, name: str) -> None:
    """Name the dummy of the calling thread, which its owner takes off the list.

    From 3.13 on CPython takes a dummy off when the locals of its thread end, by the ``__del__`` of
    an object that is kept there. At the end of the program that may find its module gone, and say
    so on stderr (gh-130522). It is called here instead, and has no thread to take off. (To give it
    another class would stop every thread of a program without a GIL.)
    """
    thread._name = name  # type: ignore[attr-defined]
    info: Any = getattr(threading, "_thread_local_info", None)
    if hasattr(info, "_track_dummy_thread_ref"):
        info._track_dummy_thread_ref._dummy_thread = None
        del info._track_dummy_thread_ref


def become_main_thread(thread: threading.Thread) -> None:
    """Make a dummy the main thread, as it is one in a forked child.

    What CPython does with its own dummies from 3.13 on. Without it `threading._shutdown` fails.
    """
    thread.__class__ = threading._MainThread  # type: ignore[attr-defined]
    thread._name = "MainThread"  # type: ignore[attr-defined]
    thread._daemonic = False  # type: ignore[attr-defined]
    if hasattr(thread, "_set_tstate_lock"):
        thread._set_tstate_lock()


def call_before_join(call: Callable[[], Any]) -> None:
    """Have *call* called at the end of the program, before `threading` joins its threads."""
    threading._register_atexit(call)  # type: ignore[attr-defined]


def join_threads() -> None:
    """Do what the end of the program does about threads, *call_before_join* included."""
    threading._shutdown()  # type: ignore[attr-defined]


# Futures and executors.


class LendingWaiters(list[Any]):
    """The ``_waiters`` of a task: how a callback that waits by way of the library is noticed.

    `concurrent.futures.wait` and `as_completed` put an object here for as long as they wait. In a
    callback that wait may be for tasks that need its own worker, so another is lent meanwhile; the
    object holds the loan, once for however many tasks it is put on.
    """

    def append(self, waiter: Any) -> None:
        super().append(waiter)
        if not hasattr(waiter, "_asynctask_loan"):
            waiter._asynctask_loan = _lend()

    def remove(self, waiter: Any) -> None:
        super().remove(waiter)
        waiter._asynctask_loan = None


def executor_states(executor: Executor) -> list[bool]:
    """Give what an executor says of itself: `True` for each reason not to take any more.

    Those of the library say `False`, `True`, or why. Of one that says nothing the list is empty.
    """
    names = ("_shutdown", "_shutdown_thread", "_broken")
    states = [getattr(executor, name, None) for name in names]
    return [bool(state) for state in states if isinstance(state, (bool, str))]


def is_closed_executor(executor: ThreadPoolExecutor) -> bool:
    """Tell whether *executor* was shut down."""
    return executor._shutdown


def close_executor(executor: ThreadPoolExecutor) -> None:
    """Have *executor* say that it was shut down."""
    executor._shutdown = True


# Coroutines and loops.

COROUTINE_MARKS = ("_is_coroutine_marker", "_is_coroutine", "__code__")
"""What `inspect` and `asyncio` look for on an object that is no function of Python's."""


def is_marked_by_asyncio(callback: Any) -> bool:
    """Tell whether *callback* has the mark that was asyncio's before `inspect` had one."""
    coroutines = sys.modules.get("asyncio.coroutines")
    mark = getattr(coroutines, "_is_coroutine", None)
    return mark is not None and getattr(callback, "_is_coroutine", None) is mark


def is_on_loop() -> bool:
    """Tell whether an event loop runs on this thread. It imports nothing."""
    running = getattr(sys.modules.get("asyncio.events"), "_get_running_loop", None)
    return running is not None and running() is not None


# The interpreter.


def module_of_caller(depth: int) -> str:
    """Give the name of the module whose function is *depth* calls above the calling one.

    It is empty if that is called from C, with no function of Python's below.
    """
    try:
        frame = sys._getframe(depth + 1)
    except ValueError:  # the stack is not that deep
        return ""
    name = frame.f_globals.get("__name__", "")
    return name if isinstance(name, str) else ""


def is_main_interpreter() -> bool:
    """Tell whether this is no sub-interpreter, where CPython does not see to that itself."""
    if sys.version_info >= (3, 12):
        return True
    import _xxsubinterpreters as interpreters  # noqa: PLC0415  # there up to 3.12 only

    return bool(interpreters.get_current() == interpreters.get_main())
