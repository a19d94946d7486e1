"""Run something in the background, later, or every so often, inside this process.

>>> import asynctask
>>> from asynctask import DelayTask, IntervalTask

>>> task = asynctask.post_task(lambda: "now")                        # a worker runs it now
>>> later = asynctask.post_task(lambda: "later", DelayTask(0.010))   # in 10 ms
>>> beat = asynctask.post_task(lambda: None, IntervalTask(0.002))    # every 2 ms, no drift

>>> task.result(), later.result()
('now', 'later')
>>> beat.wait_for_finished_count(3, timeout=10)
>>> beat.stop_and_wait(timeout=10)

A Rust worker pool and a three-tier timing wheel run on native threads, and take the GIL
only to call a callback. Tasks live in memory, in this process; they are never serialised.
"""

from __future__ import annotations

import sys as _sys
from concurrent.futures import CancelledError
from threading import Condition as _Condition
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from asynctask import _asynctask, _cpython, _hooks, _lifecycle
from asynctask._asynctask import (
    DelayTask,
    IntervalTask,
    IntervalWithDelayTask,
    check_cancelled,
    current_task,
    get_async_task,
    post_task,
    set_work_pool_options,
    sleep,
)
from asynctask._default import after, wait_and_exit
from asynctask._group import TaskGroup
from asynctask._pool import AsyncTaskPool, PoolStats
from asynctask._task import AsyncTask
from asynctask._ticker import Ticker, ticker
from asynctask.exceptions import BrokenPool, PoolShutdown, QueueFull

if _TYPE_CHECKING:
    from asynctask import aio as aio
    from asynctask import testing as testing

__version__ = "0.1.0"

__all__ = [
    "AsyncTask",
    "AsyncTaskPool",
    "BrokenPool",
    "CancelledError",
    "DelayTask",
    "IntervalTask",
    "IntervalWithDelayTask",
    "PoolShutdown",
    "PoolStats",
    "QueueFull",
    "TaskGroup",
    "Ticker",
    "after",
    "check_cancelled",
    "current_task",
    "get_async_task",
    "post_task",
    "set_work_pool_options",
    "sleep",
    "ticker",
    "wait_and_exit",
]

# Modules of the package that are imported when somebody first asks for them: `aio` imports asyncio.
_LAZY = frozenset({"aio", "testing"})


def __getattr__(name: str) -> _Any:
    if name in _LAZY:
        # By name, for `from asynctask import aio` comes here again; what freezes programs finds the
        # two in the imports above.
        import importlib  # noqa: PLC0415  # only where a submodule is asked for

        return importlib.import_module(f"asynctask.{name}")
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message, name=name, obj=_sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})


# Workers run in the main interpreter, and nowhere else.
if not _cpython.is_main_interpreter():
    _message = "asynctask does not support sub-interpreters"
    raise ImportError(_message)

# What is public says where it is found, not where it is written: in reprs, errors and pickles.
for _name in __all__:
    if _name != "CancelledError":
        globals()[_name].__module__ = __name__

_asynctask._install(AsyncTask, AsyncTaskPool, _Condition, _hooks)
_lifecycle.register()
