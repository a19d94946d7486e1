"""The handle of a task.

The public face of the native `TaskBase`, which has the state: handles are made there, one for each
post, and belong to whoever posted. Here is what `await` does. It runs nothing and keeps nothing.
"""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from asynctask._asynctask import TaskBase

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["AsyncTask"]

T = TypeVar("T")


class AsyncTask(TaskBase[T], Future[T]):  # type: ignore[override]  # the state is read-only here
    """One posted task: wait for it, look at it, cancel it.

    A `concurrent.futures.Future`, so everything that takes one takes it. Made by
    posting, never by calling the class. Thread-safe. Dropping it changes nothing for
    the task; a failure that nobody has looked at by then is logged on ``asynctask``.

    A task posted once is over when its callback has returned or raised. A *series*,
    posted with `IntervalTask`, is pending between its runs and over when it has been
    stopped, or has had all its runs; its result is then that of its last run, or
    `CancelledError` if it was stopped.

    In a coroutine, ``await task`` waits without blocking the loop.

    >>> import asynctask
    >>> asynctask.post_task(lambda: 6 * 7).result()
    42
    """

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, T]:
        """Wait in a coroutine; cancelling the wait cancels a task that has not started."""
        if not self.done():
            # Imports asyncio, which whoever awaits has.
            from asynctask._waiting import wait_until_done  # noqa: PLC0415

            yield from wait_until_done(self).__await__()
        if self.cancelled():
            from asyncio import CancelledError  # noqa: PLC0415  # as `asyncio.wrap_future` does

            raise CancelledError
        return self.result()
