"""The pool and its counts.

The public face of the native `PoolBase`, which owns workers, queue and wheel, and does all that has
to be fast. Here are what the library has in Python too (`map`), what coroutines wait for, and the
words. A pool is its user's, or the process's if it is the default one. Nothing here takes a lock.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from concurrent.futures import Executor
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypeVar

from asynctask._asynctask import PoolBase, _seconds
from asynctask._group import TaskGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from asynctask._task import AsyncTask
    from asynctask._types import Duration

__all__ = ["AsyncTaskPool", "PoolStats"]

T = TypeVar("T")


class PoolStats(NamedTuple):
    """The counts of a pool; a series counts once, when it is over."""

    max_workers: int
    """The most workers at a time."""
    running_workers: int
    """Workers that call a callback now."""
    idle_workers: int
    """Workers that are alive and do not."""
    waiting: int
    """Tasks in the queue."""
    pending_timers: int
    """Tasks that wait for their deadline."""
    submitted: int
    """Tasks accepted since the pool began."""
    successful: int
    """Tasks whose last run returned."""
    failed: int
    """Tasks whose last run raised."""
    cancelled: int
    """Tasks cancelled, and series stopped."""
    dropped: int
    """Tasks cancelled because the queue was full."""
    completed: int
    """`successful` and `failed` together."""
    skipped_runs: int
    """Ticks of a series that found its previous run still going, up to now."""
    missed_runs: int
    """Ticks of a series that went by before a run could start, or whose run was dropped."""
    running_elsewhere: int
    """Runs that go on elsewhere: coroutines on their loops, callbacks on other executors."""


class AsyncTaskPool(PoolBase, Executor):
    """Workers, queue, timing wheel and timer thread together.

    A `concurrent.futures.Executor` whose tasks may also start later, or run over and
    over. No thread is started before the first post, and an idle pool wakes nothing.
    Thread-safe, also from inside its own callbacks: a callback that waits for another
    task runs it itself, or lends the pool another worker for as long as the wait lasts.
    Once dropped, it finishes what was posted, and its threads leave.

    A subclass may have an ``__init__`` of its own, which calls this one, once.

    Args:
        max_workers: The most workers at a time; ``min(32, cpus + 4)`` by default.
        thread_name_prefix: Workers are called this, a dash and a number.
        initializer: Called with *initargs* on each new worker. If it raises, every
            waiting task fails with `BrokenPool`, and so does every later post.
        initargs: See *initializer*.
        min_workers: Workers that stay when idle.
        idle_timeout: How long any other worker stays idle before it leaves; 10 s by default.
        queue_size: The most tasks that wait for a worker. ``None`` for no bound, 0 to
            hand over to a free worker or treat the queue as full.
        on_full: What happens to a post that finds the queue full. ``"block"``: it
            waits, except on a worker of the same pool, where it would wait for itself
            and goes in beyond the bound. ``"raise"``: `QueueFull`. ``"drop_newest"``,
            ``"drop_oldest"``: that task is cancelled. ``"caller_runs"``: the poster's
            thread runs it. Tasks whose deadline has come are never refused nor dropped;
            where the oldest is a run of a series, ``"drop_oldest"`` drops that run, which
            counts as missed, and where nothing older may go, the new task.
        propagate_context: Whether callbacks see the `contextvars` of the poster, each run
            in a copy of its own. By default each runs in an empty context: what the poster
            keeps there, a database session or a request, is not shared with a task that
            outlives it. Coroutine functions inherit in any case, as asyncio has it.
        nudge: Whether a due task asks a main thread that computes to let a worker have
            the GIL, instead of waiting the 5 ms of `sys.setswitchinterval` for it. Each
            time takes some 10 µs of the main thread's, at most 2,000 times a second. No
            effect before Python 3.13, and where there is no GIL.
        tiers: The tiers of the timing wheel, as pairs of tick and number of slots; each
            tier's span must be the next one's tick. They bound the work, not the
            accuracy: deadlines are exact.
        clock: A clock to be moved by hand, from `asynctask.testing`.
        executor: Runs every callback, when it is due, instead of the pool's own workers:
            a process pool, say. Handles, deadlines and cancelling stay here.
        stack_size: The stack of a worker's thread in bytes, at least 32,768. By default
            that of a `threading.Thread` at the time when the pool is made:
            `threading.stack_size()`, or what ``ulimit -s`` says, 8 MiB as a rule.

    >>> from asynctask import AsyncTaskPool
    >>> with AsyncTaskPool(4) as pool:
    ...     pool.submit(pow, 2, 10).result()
    1024
    """

    def stats(self) -> PoolStats:
        """Give the counts at this instant."""
        return PoolStats(*self._stats())

    def wait_and_exit(
        self,
        timeout: Duration | None = 1.0,
        *,
        delayed: Literal["cancel", "run", "wait"] = "cancel",
    ) -> bool:
        """Like `shutdown`, for at most *timeout*; what is left then is cancelled.

        What another executor runs goes on there. On the thread of a running loop use `aclose`.

        Args:
            timeout: ``None`` waits as long as it takes.
            delayed: As for `shutdown`.

        Returns:
            Whether everything ended in time, and this call cut nothing short: ``False`` if it
            has cancelled a task, one that waited for its deadline as well, or a coroutine or a
            run on another executor went on. A series has no end of its own, so stopping it
            cuts nothing short.
        """
        return super().wait_and_exit(timeout, delayed=delayed)

    async def aclose(
        self,
        timeout: Duration | None = None,  # noqa: ASYNC109  # it ends more than the wait
        *,
        delayed: Literal["cancel", "run", "wait"] = "cancel",
    ) -> bool:
        """Do what `wait_and_exit` does for a coroutine, whose loop goes on meanwhile.

        Leaving an ``async with`` block does it too, without a timeout. In a coroutine that is a
        task of this very pool it does not wait, and gives ``False``. Cancelling it ends the
        wait alone.

        Args:
            timeout: ``None`` waits as long as it takes.
            delayed: As for `shutdown`.

        Returns:
            Whether everything ended in time, and nothing was cut short; see `wait_and_exit`.

        >>> import asyncio
        >>> from asynctask import AsyncTaskPool
        >>> async def main():
        ...     async with AsyncTaskPool(2) as pool:
        ...         task = pool.post_task(asyncio.sleep, args=(0.005, "slept"))
        ...     return task.result()
        >>> asyncio.run(main())
        'slept'
        """
        from asynctask._waiting import close_pool  # noqa: PLC0415  # whoever awaits has asyncio

        return await close_pool(self, timeout, delayed)

    async def __aenter__(self) -> Self:
        from asynctask._waiting import require_running_loop  # noqa: PLC0415  # as above

        require_running_loop("`async with` a pool", "pool.shutdown")
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.aclose()

    @property
    def _max_workers(self) -> int:
        """What dask, and others who know `ThreadPoolExecutor` from inside, ask for."""
        return self.stats().max_workers

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: Duration | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Run *fn* for each tuple of arguments, and give the results in order.

        Args:
            fn: Anything that can be called.
            iterables: The arguments, read at once, or as results are taken with *buffersize*.
            timeout: Counted from here, the longest to wait for all results: real time,
                whatever the pool's clock, as with every wait.
            chunksize: No effect, as with any pool of threads.
            buffersize: The most tasks posted whose results have not been taken.

        Raises:
            TimeoutError: By the iterator, when *timeout* has passed.
            Exception: By the iterator, what *fn* raised, in the place of its result.
        """
        # In the library's words, as `ProcessPoolExecutor` and, from 3.14 on, `Executor` have them.
        if isinstance(chunksize, bool) or not hasattr(chunksize, "__index__"):
            message = f"chunksize must be an integer, not {chunksize!r}"
            raise TypeError(message)
        if chunksize < 1:
            message = f"chunksize must be >= 1, not {chunksize!r}"
            raise ValueError(message)
        if buffersize is not None:
            if isinstance(buffersize, bool) or not isinstance(buffersize, int):
                message = f"buffersize must be an integer or None, not {buffersize!r}"
                raise TypeError(message)
            if buffersize < 1:
                message = f"buffersize must be None or > 0, not {buffersize!r}"
                raise ValueError(message)
        end = None if timeout is None else time.monotonic() + _seconds("timeout", timeout)
        arguments = zip(*iterables, strict=False)
        first = arguments if buffersize is None else islice(arguments, min(buffersize, sys.maxsize))
        if self._has_own_submit():
            tasks = deque(self.submit(fn, *args) for args in first)
        else:
            tasks = deque(self._submit_each(fn, first))
        if buffersize is None and end is None:
            return self._all_results(tasks)
        return self._results(fn, tasks, arguments, end)

    def _has_own_submit(self) -> bool:
        """Tell whether somebody's `submit` has taken the place of the pool's own.

        In a subclass or on the object, to count or to wrap what is submitted: `map` must not go
        past it, as the library's does not.
        """
        return type(self).submit is not PoolBase.submit or "submit" in vars(self)

    @staticmethod
    def _all_results(tasks: deque[AsyncTask[T]]) -> Iterator[T]:
        """Do what `_results` does for the one who has posted all and waits as long as it takes."""
        try:
            while tasks:
                # As below; but a task that is over need not be kept.
                if not tasks[0].done():
                    tasks[0].exception()
                yield tasks.popleft().result()
        finally:
            for task in tasks:
                task.cancel()

    def _results(
        self,
        fn: Callable[..., T],
        tasks: deque[AsyncTask[T]],
        arguments: Iterator[tuple[Any, ...]],
        end: float | None,
    ) -> Iterator[T]:
        try:
            while tasks:
                # Not by way of a variable: a result that was taken is not ours to keep.
                yield self._take(fn, tasks, arguments, end)
        finally:
            for task in tasks:
                task.cancel()

    def _take(
        self,
        fn: Callable[..., T],
        tasks: deque[AsyncTask[T]],
        arguments: Iterator[tuple[Any, ...]],
        end: float | None,
    ) -> T:
        result = tasks[0].result(None if end is None else end - time.monotonic())
        del tasks[0]
        for args in islice(arguments, 1):
            tasks.append(self.submit(fn, *args))
        return result

    def group(
        self,
        *,
        on_error: Literal["cancel", "collect"] = "cancel",
        timeout: Duration | None = None,
    ) -> TaskGroup[Any]:
        """Make a group of tasks that are waited for together; see `TaskGroup`."""
        return TaskGroup(self, on_error=on_error, timeout=timeout)

    def group_context(
        self,
        timeout: Duration | None = None,
        *,
        on_error: Literal["cancel", "collect"] = "cancel",
    ) -> TaskGroup[Any]:
        """Make a group whose tasks must be over within *timeout*."""
        return self.group(on_error=on_error, timeout=timeout)
