"""For programs built on asyncio: `asyncio.to_thread` and `run_in_executor` on a pool of ours.

The loop owns the executor that it is given here, and the executor never ends the pool. Public as
`asynctask.aio`, and imported when somebody first names it, for it imports asyncio.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from asynctask._asynctask import get_async_task
from asynctask._checks import check_pool
from asynctask._cpython import close_executor, is_closed_executor
from asynctask._loops import check_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from asynctask._pool import AsyncTaskPool
    from asynctask._task import AsyncTask

__all__ = ["install"]

P = ParamSpec("P")
T = TypeVar("T")


class _PoolExecutor(ThreadPoolExecutor):
    """A `ThreadPoolExecutor` by name only: asyncio takes no other default executor.

    It never starts a thread of its own.
    """

    def __init__(self, pool: AsyncTaskPool) -> None:
        super().__init__(max_workers=1)
        self._pool = pool
        self._posted: set[AsyncTask[Any]] = set()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> AsyncTask[T]:
        if is_closed_executor(self):
            message = "cannot schedule new futures after shutdown"
            raise RuntimeError(message)
        task = self._pool.submit(fn, *args, **kwargs)
        self._posted.add(task)
        task.add_done_callback(self._posted.discard)
        return task

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        # The pool is not this loop's alone. What it has posted is.
        close_executor(self)
        posted = list(self._posted)
        if cancel_futures:
            for task in posted:
                task.cancel()
        if wait:
            _wait(posted)


def _wait(tasks: list[AsyncTask[Any]]) -> None:
    wait(tasks)


def install(
    loop: asyncio.AbstractEventLoop | None = None, pool: AsyncTaskPool | None = None
) -> None:
    """Make *pool* the default executor of *loop*, for `to_thread` and `run_in_executor`.

    Args:
        loop: The running loop by default.
        pool: The default pool by default. It is not shut down when the loop ends.

    >>> import asyncio, asynctask.aio
    >>> async def main():
    ...     asynctask.aio.install()
    ...     return await asyncio.to_thread(pow, 2, 10)
    >>> asyncio.run(main())
    1024
    """
    loop = asyncio.get_running_loop() if loop is None else loop
    check_loop(loop)
    pool = get_async_task() if pool is None else pool
    check_pool(pool)
    loop.set_default_executor(_PoolExecutor(pool))
