"""The pool, its counts, and its groups."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Executor
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, ParamSpec, TypeVar

from asynctask._asynctask import DelayTask, PoolBase, _seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextvars import Context
    from types import TracebackType

    from asynctask._asynctask import IntervalTask
    from asynctask._task import AsyncTask
    from asynctask._types import Duration

__all__ = ["AsyncTaskPool", "PoolStats", "TaskGroup"]

P = ParamSpec("P")
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
    """Ticks of a series that found its previous run still going."""
    missed_runs: int
    """Ticks of a series that went by before a run could start."""


class AsyncTaskPool(PoolBase, Executor):
    """Workers, queue, timing wheel and timer thread together.

    A `concurrent.futures.Executor` whose tasks may also start later, or run over and
    over. No thread is started before the first post, and an idle pool wakes nothing.
    Thread-safe, also from inside its own callbacks: a callback that waits for another
    task runs it itself, or lends the pool another worker for as long as the wait lasts.

    Args:
        max_workers: The most workers at a time; ``min(32, cpus + 4)`` by default.
        thread_name_prefix: Workers are called this, a dash and a number.
        initializer: Called with *initargs* on each new worker. If it raises, every
            waiting task fails with `BrokenPool`, and so does every later post.
        initargs: See *initializer*.
        min_workers: Workers that stay when idle.
        idle_timeout: How long any other worker stays idle before it leaves.
        queue_size: The most tasks that wait for a worker. ``None`` for no bound, 0 to
            hand over to a free worker or treat the queue as full.
        on_full: What happens to a post that finds the queue full. ``"block"``: it
            waits, except on a worker of the same pool, where it would wait for itself
            and goes in beyond the bound. ``"raise"``: `QueueFull`. ``"drop_newest"``,
            ``"drop_oldest"``: that task is cancelled. ``"caller_runs"``: the poster's
            thread runs it. Tasks whose deadline has come are never refused.
        propagate_context: Whether callbacks see the `contextvars` of the poster; each
            runs in a copy. Otherwise each runs in an empty context.
        tiers: The tiers of the timing wheel, as pairs of tick and number of slots; each
            tier's span must be the next one's tick. They bound the work, not the
            accuracy: deadlines are exact.
        clock: A clock to be moved by hand, from `asynctask.testing`.

    >>> from asynctask import AsyncTaskPool
    >>> with AsyncTaskPool(4) as pool:
    ...     pool.submit(pow, 2, 10).result()
    1024
    """

    def stats(self) -> PoolStats:
        """Give the counts at this instant."""
        return PoolStats(*self._stats())

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


class TaskGroup(Generic[T]):
    """Tasks that are waited for together.

    Leaving the ``with`` block waits for all of them, and raises their failures as an
    `ExceptionGroup`; `wait` raises the first failure by itself. If the block itself
    raises, the tasks are cancelled and waited for. Thread-safe: tasks of the group may
    add tasks to it.

    Args:
        pool: Where the tasks run.
        on_error: ``"cancel"``: the first failure cancels the tasks that have not
            started, and asks the others to give up (`check_cancelled`). ``"collect"``:
            all of them run.
        timeout: When it has passed, counted from here, whatever is not over is
            cancelled, and the wait raises `TimeoutError`.

    >>> from asynctask import AsyncTaskPool
    >>> with AsyncTaskPool(2) as pool, pool.group() as group:
    ...     for n in range(3):
    ...         _ = group.submit(pow, n, 2)
    >>> group.results()
    [0, 1, 4]
    """

    def __init__(
        self,
        pool: AsyncTaskPool,
        *,
        on_error: Literal["cancel", "collect"] = "cancel",
        timeout: Duration | None = None,
    ) -> None:
        if on_error not in ("cancel", "collect"):
            message = f"on_error must be one of 'cancel', 'collect', not {on_error!r}"
            raise ValueError(message)
        self._pool = pool
        self._cancel_on_error = on_error == "cancel"
        # Appending to a list and reading it are atomic, which is all that is asked of it.
        self._tasks: list[AsyncTask[T]] = []
        self._cancelled = False
        self._deadline: float | None = None
        self._alarm: AsyncTask[None] | None = None
        if timeout is not None:
            left = _seconds("timeout", timeout)
            self._deadline = time.monotonic() + left
            # For when nobody waits; who waits keeps the deadline himself.
            self._alarm = pool.post_task(self.cancel, DelayTask(left), name="group deadline")

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> AsyncTask[T]:
        """Post ``fn(*args, **kwargs)`` for a worker to run now."""
        return self._add(self._pool.submit(fn, *args, **kwargs))

    def post_task(
        self,
        callback: Callable[..., T],
        /,
        *options: DelayTask | IntervalTask,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        context: Context | None = None,
    ) -> AsyncTask[T]:
        """Post as `AsyncTaskPool.post_task` does. A series keeps the group waiting."""
        task = self._pool.post_task(
            callback, *options, args=args, kwargs=kwargs, name=name, context=context
        )
        return self._add(task)

    def _add(self, task: AsyncTask[T]) -> AsyncTask[T]:
        self._tasks.append(task)
        if self._cancelled:
            task.cancel()
        elif self._cancel_on_error:
            task.add_done_callback(self._look)
        return task

    def _look(self, task: AsyncTask[T]) -> None:
        if not task.cancelled() and task._exception is not None:
            self.cancel()

    def cancel(self) -> None:
        """Cancel what has not started; ask what runs to give up (`check_cancelled`)."""
        self._cancelled = True
        for task in list(self._tasks):
            task.cancel()

    def wait(self, timeout: Duration | None = None) -> None:
        """Wait until every task is over.

        Raises:
            TimeoutError: *timeout* passed first, or the group's own; in the second case
                what was left has been cancelled.
            CancelledError: The group was cancelled.
            Exception: The first failure, in the order of posting.
        """
        self._wait(timeout)
        for task in self._tasks:
            if not task.cancelled():
                error = task.exception()
                if error is not None:
                    raise error
        if self._cancelled:
            raise CancelledError

    def _wait(self, timeout: Duration | None) -> None:
        deadline = self._deadline
        own = None if timeout is None else time.monotonic() + _seconds("timeout", timeout)
        if own is not None:
            deadline = own if deadline is None else min(deadline, own)
        waited = 0
        while waited < len(self._tasks):  # tasks may be added meanwhile
            task = self._tasks[waited]
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                task.exception(left)
            except CancelledError:
                pass
            except TimeoutError:
                if task.done():
                    continue
                if deadline != own:
                    self.cancel()
                raise
            waited += 1
        if self._alarm is not None:
            self._alarm.cancel()

    def results(self) -> list[T]:
        """Wait for every task, and give their results in the order of posting.

        Raises:
            Exception: As `wait` does.
        """
        self.wait()
        return [task.result() for task in self._tasks]

    def __enter__(self) -> TaskGroup[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.cancel()
        try:
            self._wait(None)
        except TimeoutError:
            if kind is None:
                raise
        if kind is not None:
            return
        failures = [
            failure
            for task in self._tasks
            if not task.cancelled() and (failure := task.exception()) is not None
        ]
        if failures:
            message = f"{len(failures)} of {len(self._tasks)} tasks failed"
            raise BaseExceptionGroup(message, failures)
        if self._cancelled:
            raise CancelledError
