"""Tasks that are waited for together.

A group is its user's, and owns nothing but the list of its tasks, whose handles wait, cancel and
fail as any others do. It runs nothing, starts no thread, and has no lock.
"""

from __future__ import annotations

import contextlib
import functools
import time
import weakref
from concurrent import futures
from concurrent.futures import CancelledError
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    ParamSpec,
    TypeVar,
    Unpack,
    overload,
)

from asynctask._asynctask import _lend, _seconds
from asynctask._checks import check_pool, not_pickled

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
    from concurrent.futures import Future
    from contextvars import Context
    from types import TracebackType

    from asynctask._asynctask import Deadline, DelayTask, IntervalTask, _Ts
    from asynctask._pool import AsyncTaskPool
    from asynctask._task import AsyncTask
    from asynctask._types import Duration

__all__ = ["TaskGroup"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def _expire(group: weakref.ref[TaskGroup[Any]], tasks: list[AsyncTask[Any]]) -> None:
    """Cancel what is left when the time is up, be it of a group that has gone."""
    alive = group()
    if alive is not None:
        alive._expire()
        return
    for task in tasks:
        task.cancel()


def _cancel_if_over(
    alarm: AsyncTask[None], tasks: list[AsyncTask[Any]], _over: Future[Any] | None = None
) -> None:
    """End the alarm of a group that has gone, if there is nothing left to cancel."""
    if all(task.done() for task in tasks):
        alarm.cancel()


class TaskGroup(Generic[T]):
    """Tasks that are waited for together.

    Leaving the ``with`` or ``async with`` block waits for all of them, and raises their
    failures as an `ExceptionGroup`; `wait` and `results` raise the first failure by
    itself, or what was collected as such a group. If the block itself raises, the tasks
    are cancelled and waited for. Thread-safe: tasks of the group may add tasks to it.

    ``TaskGroup[int]`` says of what type `results` are; each handle has its callback's.

    Args:
        pool: Where the tasks run.
        on_error: ``"cancel"``: the first failure cancels the tasks that have not
            started, and asks the others to give up (`check_cancelled`). ``"collect"``:
            all of them run.
        timeout: When it has passed, counted from here on the pool's clock, whatever is not
            over is cancelled, and the wait raises `TimeoutError`. The end of the block still
            waits for tasks that run, which learn of it from `check_cancelled`.

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
        check_pool(pool)
        if on_error not in ("cancel", "collect"):  # it may not be hashable
            message = f"on_error must be one of 'cancel', 'collect', not {on_error!r}"
            raise ValueError(message)
        self._pool = pool
        self._cancel_on_error = on_error == "cancel"
        # Appending to a list and reading it are atomic, which is all that is asked of it.
        self._tasks: list[AsyncTask[T]] = []
        self._cancelled = False
        self._expired = False
        self._deadline: Deadline | None = None
        self._alarm: AsyncTask[None] | None = None
        if timeout is not None:
            self._deadline = pool._deadline(timeout)
            # For when nobody waits; who waits keeps the deadline himself. It does not keep the
            # group: once that has gone with nothing left to cancel, there is nothing to wait for.
            expire = functools.partial(_expire, weakref.ref(self), self._tasks)
            self._alarm = pool._post_alarm(expire, self._deadline)

    def __del__(self) -> None:
        # There is none if the constructor has raised.
        alarm = getattr(self, "_alarm", None)
        if alarm is None or alarm.done():
            return
        cancel_if_over = functools.partial(_cancel_if_over, alarm, self._tasks)
        cancel_if_over()
        for task in self._tasks:
            if not task.done():
                task.add_done_callback(cancel_if_over)

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncTask[R]: ...
    @overload
    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> AsyncTask[R]: ...
    def submit(self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> AsyncTask[Any]:
        """Post ``fn(*args, **kwargs)`` for a worker to run now."""
        return self._add(self._pool.submit(fn, *args, **kwargs))

    @overload
    def post_task(
        self,
        callback: Callable[[], Coroutine[Any, Any, R]],
        /,
        *options: DelayTask | IntervalTask,
        args: tuple[()] | None = None,
        kwargs: None = None,
        name: str | None = None,
        context: Context | None = None,
    ) -> AsyncTask[R]: ...
    @overload
    def post_task(
        self,
        callback: Callable[[], R],
        /,
        *options: DelayTask | IntervalTask,
        args: tuple[()] | None = None,
        kwargs: None = None,
        name: str | None = None,
        context: Context | None = None,
    ) -> AsyncTask[R]: ...
    @overload
    def post_task(
        self,
        callback: Callable[[Unpack[_Ts]], Coroutine[Any, Any, R]],
        /,
        *options: DelayTask | IntervalTask,
        args: tuple[*_Ts],
        kwargs: None = None,
        name: str | None = None,
        context: Context | None = None,
    ) -> AsyncTask[R]: ...
    @overload
    def post_task(
        self,
        callback: Callable[[Unpack[_Ts]], R],
        /,
        *options: DelayTask | IntervalTask,
        args: tuple[*_Ts],
        kwargs: None = None,
        name: str | None = None,
        context: Context | None = None,
    ) -> AsyncTask[R]: ...
    @overload
    def post_task(
        self,
        callback: Callable[..., Coroutine[Any, Any, R]],
        /,
        *options: DelayTask | IntervalTask,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None,
        name: str | None = None,
        context: Context | None = None,
    ) -> AsyncTask[R]: ...
    @overload
    def post_task(
        self,
        callback: Callable[..., R],
        /,
        *options: DelayTask | IntervalTask,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None,
        name: str | None = None,
        context: Context | None = None,
    ) -> AsyncTask[R]: ...
    @overload
    def post_task(
        self,
        callback: Callable[..., Coroutine[Any, Any, R]],
        /,
        *options: DelayTask | IntervalTask,
        args: list[Any] | Iterator[Any],
        kwargs: None = None,
        name: str | None = None,
        context: Context | None = None,
    ) -> AsyncTask[R]: ...
    @overload
    def post_task(
        self,
        callback: Callable[..., R],
        /,
        *options: DelayTask | IntervalTask,
        args: list[Any] | Iterator[Any],
        kwargs: None = None,
        name: str | None = None,
        context: Context | None = None,
    ) -> AsyncTask[R]: ...
    def post_task(
        self,
        callback: Callable[..., Any],
        /,
        *options: DelayTask | IntervalTask,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        context: Context | None = None,
    ) -> AsyncTask[Any]:
        """Post as `AsyncTaskPool.post_task` does. A series keeps the group waiting."""
        return self._add(
            self._pool.post_task(
                callback, *options, args=args, kwargs=kwargs, name=name, context=context
            )
        )

    def _add(self, task: AsyncTask[T]) -> AsyncTask[T]:
        self._tasks.append(task)
        # Asked here too: most groups have no deadline, and a call is not free.
        if self._deadline is not None and self._is_past_deadline():
            self._expire()
        if self._cancelled:
            task.cancel()
        elif self._cancel_on_error:
            task._on_failure(self._cancel_others)
        return task

    def _cancel_others(self, _failed: AsyncTask[T]) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Cancel what has not started; ask what runs to give up (`check_cancelled`)."""
        self._cancelled = True
        for task in list(self._tasks):
            task.cancel()

    def _expire(self) -> None:
        """Cancel what is left when the time is up, if anything is."""
        if not all(task.done() for task in list(self._tasks)):
            self._expired = True
            self.cancel()

    def wait(self, timeout: Duration | None = None) -> None:
        """Wait until every task is over.

        Args:
            timeout: How long the caller waits, in real time whatever the pool's clock.

        Raises:
            TimeoutError: *timeout* passed first, or the group's own; in the second case
                what was left has been cancelled.
            CancelledError: The group was cancelled.
            Exception: The first failure, in the order of posting; with ``"collect"`` the
                `ExceptionGroup` of all.
        """
        own = None if timeout is None else time.monotonic() + _seconds("timeout", timeout)
        self._wait(own)
        self._raise_failures(together=not self._cancel_on_error)

    def _wait(self, own: float | None) -> None:
        """Wait until *own* or the group's deadline, whichever comes first."""
        waited = 0
        while waited < len(self._tasks):  # tasks may be added meanwhile
            task = self._tasks[waited]
            if task.done():
                waited += 1
                continue
            if self._is_past_deadline():
                self._expire()
                raise TimeoutError
            if own is not None and time.monotonic() >= own:
                raise TimeoutError
            self._wait_for(task, own)
        self._cancel_alarm()
        # Before any failure: that tasks gave up when they were told to is no news.
        if self._expired:
            raise TimeoutError

    def _wait_for(self, task: AsyncTask[T], own: float | None) -> None:
        """Wait until *task* is over, or one of the deadlines is there."""
        ends = [] if own is None else [own - time.monotonic()]
        alarm = self._manual_alarm()
        if alarm is None and self._deadline is not None:
            ends.append(self._deadline.left())
        left = max(0.0, min(ends)) if ends else None
        if alarm is not None:
            both: list[AsyncTask[Any]] = [task, alarm]
            futures.wait(both, left, futures.FIRST_COMPLETED)
            return
        with contextlib.suppress(CancelledError, TimeoutError):
            task.exception(left)

    def _manual_alarm(self) -> AsyncTask[None] | None:
        """Give what tells of a deadline that sleeping does not get to: the pool's alarm."""
        if self._deadline is None or not self._deadline.is_manual:
            return None
        return None if self._alarm is None or self._alarm.done() else self._alarm

    def _is_past_deadline(self) -> bool:
        return self._deadline is not None and self._deadline.left() <= 0

    def _cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

    def _failures(self) -> list[BaseException]:
        return [
            failure
            for task in self._tasks
            if not task.cancelled() and (failure := task.exception()) is not None
        ]

    def _raise_failures(self, *, together: bool) -> None:
        failures = self._failures()
        if failures and together:
            message = f"{len(failures)} of {len(self._tasks)} tasks failed"
            raise BaseExceptionGroup(message, failures)
        if failures:
            raise failures[0]
        if self._cancelled:
            raise CancelledError

    def results(self) -> list[T]:
        """Wait for every task, and give their results in the order of posting.

        Raises:
            Exception: As `wait` does.
        """
        self.wait()
        return [task.result() for task in self._tasks]

    def __repr__(self) -> str:
        tasks = list(self._tasks)
        over = sum(task.done() for task in tasks)
        state = "expired" if self._expired else "cancelled" if self._cancelled else "open"
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        return f"<{name} at {id(self):#x}: {state}, {over} of {len(tasks)} tasks over>"

    def __reduce__(self) -> Any:
        """Refused, always: two groups would share their tasks."""
        raise not_pickled(self, "a group stays in its process")

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
            self._wait_for_runs()
            if kind is None:
                raise
        if kind is None:
            self._raise_failures(together=True)

    def _wait_for_runs(self) -> None:
        """Wait for what goes on after the deadline: nothing of a group outlives its block."""
        for task in self._tasks:
            with contextlib.suppress(CancelledError):
                task.exception()

    async def __aenter__(self) -> TaskGroup[T]:
        # Imports asyncio, which whoever awaits has.
        from asynctask._waiting import require_running_loop  # noqa: PLC0415  # as said

        require_running_loop("`async with` a group", "group.wait")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.cancel()
        loan = _lend()  # for a loop that runs in a callback; it ends with the wait
        try:
            # A cancellation cancels the tasks, waits for those that run, and goes on its way:
            # nothing of the group outlives its block.
            interruption = await self._wait_on_loop()
        finally:
            del loan
            self._cancel_alarm()
        if interruption is not None:
            raise interruption
        if kind is None:
            self._raise_failures(together=True)

    async def _wait_on_loop(self) -> asyncio.CancelledError | TimeoutError | None:
        import asyncio  # noqa: PLC0415  # for the sake of programs without it

        interruption: asyncio.CancelledError | TimeoutError | None = None
        waited = 0
        while waited < len(self._tasks):
            task = self._tasks[waited]
            if not task.done():
                given_up = interruption is not None or self._expired
                if not given_up and self._is_past_deadline():
                    self._expire()
                    continue
                left: float | None = None
                waiters: list[asyncio.Future[Any]] = [asyncio.wrap_future(task)]
                if not given_up:
                    alarm = self._manual_alarm()
                    if alarm is not None:
                        waiters.append(asyncio.wrap_future(alarm))
                    elif self._deadline is not None:
                        left = self._deadline.left()
                for waiter in waiters:
                    # What became of the task is looked at when all are over.
                    waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
                try:
                    # The loop may round to its own clock, so look again.
                    await asyncio.wait(waiters, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                except asyncio.CancelledError as cancelled:
                    self.cancel()
                    interruption = cancelled
                continue
            waited += 1
        return TimeoutError() if interruption is None and self._expired else interruption
