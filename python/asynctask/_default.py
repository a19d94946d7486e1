"""Functions of the default pool that need a default of their own.

The pool is the process's, and the native module's to make and to end; nothing is kept here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from asynctask import _asynctask

if TYPE_CHECKING:
    from asynctask._task import AsyncTask
    from asynctask._types import Duration

__all__ = ["after", "wait_and_exit"]


def after(delay: Duration) -> AsyncTask[None]:
    """Make a task that is over once *delay* has passed: no callback, no worker, no GIL.

    >>> import asynctask
    >>> asynctask.after(0.005).result()
    """
    return _asynctask.get_async_task().after(delay)


def wait_and_exit(
    timeout: Duration | None = 1.0, *, delayed: Literal["cancel", "run", "wait"] = "cancel"
) -> bool:
    """End the default pool: series stop, and queued tasks get *timeout* to finish.

    What is left then is cancelled. See `AsyncTaskPool.wait_and_exit`.

    Args:
        timeout: ``None`` waits as long as it takes.
        delayed: What becomes of tasks that wait for their deadline: ``"cancel"``, ``"run"``,
            which is now, or ``"wait"``.

    Returns:
        Whether everything ended in time, and nothing was cut short, delayed tasks included;
        ``True`` if the default pool was never used.

    >>> import asynctask
    >>> task = asynctask.post_task(lambda: "done")
    >>> asynctask.wait_and_exit()
    True
    >>> task.result()
    'done'
    """
    return _asynctask._wait_and_exit(timeout, delayed)
