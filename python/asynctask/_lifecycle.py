"""How a process begins as a fork of another, and how it ends.

Called by CPython at `os.fork` and at the exit of the program, and by the native module in a child
that was forked inside a callback. What becomes of pools and tasks then is the native module's; here
stands the order in which it, `threading` and `logging` are told. Nothing is kept.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys

from asynctask import _asynctask, _cpython, _logging, _threading

__all__ = ["after_fork_in_child", "drain_at_exit", "end_child", "register"]


def register() -> None:
    """Have CPython call what must be called at forks and at the exit; once in a process."""
    # So a thread which waits for a task of ours is not waited for first.
    _cpython.call_before_join(drain_at_exit)
    atexit.register(_asynctask._stop_at_exit)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_asynctask._before_fork,
            after_in_parent=_asynctask._after_fork_in_parent,
            after_in_child=after_fork_in_child,
        )


def after_fork_in_child() -> None:
    """Begin anew in a forked child; a worker whose callback has forked is its main thread."""
    lost_series = _asynctask._after_fork_in_child()
    _threading.become_main_thread()
    # `logging` has made its locks anew: it was imported before this was registered.
    if lost_series and not _is_forked_for_one_call():
        _logging.log_inherited(lost_series)


def _is_forked_for_one_call() -> bool:
    """Tell whether the child is to do one thing for its parent, and nobody expects series of it."""
    caller = _cpython.module_of_caller(2)  # who has called `os.fork`
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
        _cpython.join_threads()
        _asynctask._log_alive()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()
        os._exit(code)
