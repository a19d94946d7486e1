"""What is said on the logger ``asynctask``, in one place.

Called by the native module on whichever thread there is, and in a forked child. Failures that
nobody has looked at are logged by the worker on which their handles have ended, or by the thread
``asynctask-log``, which the native module starts for them. The logger is the program's to set up:
nothing here adds a handler or sets a level, and nothing decides whether there is something to log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asynctask._asynctask import TaskBase

__all__ = [
    "log_blocked_loop",
    "log_callback",
    "log_inherited",
    "log_initializer",
    "log_lent",
    "log_run",
    "log_stalled",
    "log_unseen",
]

# No `NullHandler`: in a program that has not set logging up, a failure that nobody looked at goes
# to stderr, as with `concurrent.futures` and `asyncio`.
_logger = logging.getLogger("asynctask")


def log_unseen(name: str, error: BaseException) -> None:
    """Report a failure whose handle went away before anybody looked at it."""
    _logger.error("exception in task %r was never retrieved", name, exc_info=error)


def log_run(name: str, error: BaseException) -> None:
    """Report a failing run of a series."""
    _logger.error("exception in a run of task %r", name, exc_info=error)


def log_callback(task: TaskBase[Any], error: BaseException) -> None:
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
