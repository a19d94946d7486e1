"""What the native module calls: every function of the package that it looks up, and no other.

Owned by the native module, to which it is handed once, when the package is imported
(`_asynctask._install`). Each function is called attached, with no Rust lock held, on whatever
thread there is; what it raises goes to the caller of the native module where there is one, else to
`sys.unraisablehook`. Beside these the native module calls what they give it: the methods of a
`Place` and of its `Remote`, what takes a thread off the list, and the functions of `_gevent`. No
other file of the package imports this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asynctask._callables import is_coroutine_function, is_plain_class
from asynctask._cpython import LendingWaiters, is_on_loop
from asynctask._lifecycle import end_child
from asynctask._logging import (
    log_blocked_loop,
    log_callback,
    log_inherited,
    log_initializer,
    log_lent,
    log_run,
    log_stalled,
    log_unseen,
)
from asynctask._places import (
    forget_async_library,
    place_on_executor,
    place_on_loop,
    stalled_loops,
    tasks_on_loops,
)
from asynctask._threading import has_other_threads, register_thread, safe_point, trace_thread

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "cooperative_gevent",
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
    "place_on_executor",
    "place_on_loop",
    "register_thread",
    "safe_point",
    "stalled_loops",
    "tasks_on_loops",
    "trace_thread",
]


def cooperative_gevent() -> ModuleType | None:
    """Give our functions for gevent, if this thread must not simply block.

    Imported here, not by the native module: what freezes programs looks for imports in Python.
    """
    from asynctask import _gevent  # noqa: PLC0415  # only for programs that gevent has patched

    return _gevent if _gevent.is_cooperative() else None


def new_waiters() -> list[Any]:
    """Make the `_waiters` of a task."""
    return LendingWaiters()
