"""The public API as a type checker sees it: checked by mypy and pyright, never run.

A line with `type: ignore` is wrong, and must be found wrong: an ignore that is not needed is an
error.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor, Future, as_completed, wait
from datetime import UTC, datetime, timedelta
from typing import Any, ParamSpec, TypeVar, assert_type

import asynctask
from asynctask import (
    AsyncTask,
    AsyncTaskPool,
    DelayTask,
    IntervalTask,
    IntervalWithDelayTask,
    PoolStats,
    TaskGroup,
    Ticker,
)
from asynctask.testing import ManualClock, reset_default_pool

P = ParamSpec("P")
T = TypeVar("T")


def answer() -> int:
    return 42


def shout(text: str, *, times: int = 1) -> str:
    return text * times


async def beat() -> int:
    return 1


async def fetch(number: int) -> str:
    return str(number)


class Client:
    def __init__(self, number: int = 0) -> None:
        self.number = number

    async def fetch(self, number: int) -> str:
        return str(number)

    async def __call__(self) -> int:
        return self.number


def options() -> None:
    DelayTask(1)
    DelayTask(0.5)
    DelayTask(timedelta(seconds=1))
    DelayTask("1")  # type: ignore[arg-type]
    DelayTask()  # type: ignore[call-arg]
    option = IntervalTask(
        1,
        timing="fixed_delay",
        overlap="queue",
        missed="catch_up",
        max_runs=3,
        until=datetime.now(UTC),
        jitter=timedelta(milliseconds=5),
        on_error="stop",
    )
    IntervalTask(1, until=60)
    IntervalTask(1, timing="sometimes")  # type: ignore[arg-type]
    IntervalTask(1, max_runs=1.5)  # type: ignore[arg-type]
    IntervalTask(1, 2)  # type: ignore[call-arg, arg-type]
    assert_type(option.interval, float | timedelta)
    assert_type(option.until, float | timedelta | datetime | None)
    assert_type(option.max_runs, int | None)
    assert_type(DelayTask(1) + option, IntervalWithDelayTask)
    assert_type(option + DelayTask(1), IntervalWithDelayTask)
    DelayTask(1) + DelayTask(1)  # type: ignore[operator]
    both: IntervalTask = IntervalWithDelayTask(1, timedelta(minutes=1), max_runs=1)
    option.interval = 2  # type: ignore[misc]
    match both:
        case IntervalWithDelayTask(start_delay, interval):
            assert_type(start_delay, float | timedelta)
            assert_type(interval, float | timedelta)
        case _:
            pass


def default_pool() -> None:
    assert_type(asynctask.post_task(answer), AsyncTask[int])
    assert_type(asynctask.post_task(answer, DelayTask(1)), AsyncTask[int])
    assert_type(asynctask.post_task(answer, DelayTask(1), IntervalTask(1)), AsyncTask[int])
    assert_type(asynctask.post_task(answer, DelayTask(1) + IntervalTask(1)), AsyncTask[int])
    assert_type(asynctask.post_task(lambda: "text"), AsyncTask[str])
    assert_type(
        asynctask.post_task(
            shout,
            args=("hey",),
            kwargs={"times": 3},
            name="shout",
            context=contextvars.copy_context(),
        ),
        AsyncTask[str],
    )
    asynctask.post_task(5)  # type: ignore[call-overload]
    asynctask.post_task(answer, 0.5)  # type: ignore[call-overload]
    asynctask.post_task(answer, name=5)  # type: ignore[call-overload]
    assert_type(asynctask.get_async_task(), AsyncTaskPool)
    assert_type(asynctask.after(1), AsyncTask[None])
    assert_type(asynctask.wait_and_exit(), bool)
    assert_type(asynctask.wait_and_exit(None), bool)
    assert_type(asynctask.wait_and_exit(timedelta(seconds=1)), bool)
    asynctask.set_work_pool_options(4, 100, on_full="raise", idle_timeout=timedelta(seconds=1))
    asynctask.set_work_pool_options(max_wrokers=3)  # type: ignore[call-arg]
    asynctask.set_work_pool_options(on_full="nonsense")  # type: ignore[arg-type]
    asynctask.sleep(0.1)
    asynctask.check_cancelled()
    task = asynctask.current_task()
    if task is not None:
        assert_type(task, AsyncTask[Any])
    assert_type(reset_default_pool(), bool)
    assert_type(reset_default_pool(timeout=None), bool)


def pool() -> None:
    with AsyncTaskPool() as made:
        assert_type(made, AsyncTaskPool)
    some = AsyncTaskPool(
        4,
        "name",
        shout,
        ("hey",),
        min_workers=1,
        idle_timeout=timedelta(seconds=1),
        queue_size=10,
        on_full="drop_oldest",
        propagate_context=False,
        nudge=False,
        tiers=((0.005, 200), (1.0, 120)),
        clock=ManualClock(),
    )
    AsyncTaskPool(on_full="nonsense")  # type: ignore[arg-type]
    AsyncTaskPool(clock=5)  # type: ignore[arg-type]
    as_an_executor(some)
    assert_type(some.submit(answer), AsyncTask[int])
    assert_type(some.submit(shout, "hey", times=2), AsyncTask[str])
    some.submit(shout)  # type: ignore[call-overload]
    some.submit(shout, 5)  # type: ignore[call-overload]
    some.submit(shout, "hey", time=2)  # type: ignore[call-arg, arg-type]
    assert_type(some.try_submit(shout, "hey"), AsyncTask[str] | None)
    some.try_submit(shout, 5)  # type: ignore[call-overload]
    assert_type(some.post_task(answer, IntervalTask(1)), AsyncTask[int])
    assert_type(some.post_async_task(answer), AsyncTask[int])
    assert_type(some.post_delay_task(answer, 0.5), AsyncTask[int])
    assert_type(some.post_interval_task(answer, timedelta(seconds=1)), AsyncTask[int])
    some.post_delay_task(answer)  # type: ignore[call-overload]
    assert_type(some.after(1), AsyncTask[None])
    assert_type(some.map(shout, ["a", "b"]), Iterator[str])
    stats = some.stats()
    assert_type(stats, PoolStats)
    assert_type(stats.submitted, int)
    some.resize(2)
    some.shutdown(wait=False, cancel_futures=True)
    assert_type(some.wait_and_exit(1), bool)


def as_an_executor(executor: Executor) -> None:
    assert_type(executor.submit(shout, "hey"), Future[str])


def coroutine_functions(some: AsyncTaskPool) -> None:
    assert_type(asynctask.post_task(beat), AsyncTask[int])
    assert_type(asynctask.post_task(fetch, DelayTask(1), args=(1,)), AsyncTask[str])
    assert_type(asynctask.post_task(fetch, kwargs={"number": 1}, name="one"), AsyncTask[str])
    assert_type(asynctask.post_task(asyncio.sleep, args=(0, "slept")), AsyncTask[str])
    assert_type(some.post_task(beat, IntervalTask(1)), AsyncTask[int])
    assert_type(some.post_task(Client().fetch, args=(1,)), AsyncTask[str])
    assert_type(some.post_task(Client(1)), AsyncTask[int])
    assert_type(some.post_task(functools.partial(fetch, 1)), AsyncTask[str])
    assert_type(some.post_async_task(beat), AsyncTask[int])
    assert_type(some.post_delay_task(beat, 0.5), AsyncTask[int])
    assert_type(some.post_interval_task(beat, 0.5), AsyncTask[int])
    assert_type(some.submit(fetch, 1), AsyncTask[str])
    assert_type(some.try_submit(fetch, 1), AsyncTask[str] | None)
    some.submit(fetch, "1")  # type: ignore[call-overload]
    some.try_submit(fetch, "1")  # type: ignore[call-overload]
    some.post_delay_task(fetch, 0.5)  # type: ignore[arg-type]


def arguments(some: AsyncTaskPool, group: TaskGroup[Any], numbers: list[int]) -> None:
    assert_type(asynctask.post_task(shout, args=("hey",)), AsyncTask[str])
    asynctask.post_task(shout)  # type: ignore[arg-type]
    asynctask.post_task(shout, args=(5,))  # type: ignore[arg-type]
    asynctask.post_task(shout, args=("hey", 5))  # type: ignore[arg-type]
    some.post_task(fetch, IntervalTask(1))  # type: ignore[arg-type]
    some.post_task(fetch, args=("1",))  # type: ignore[arg-type]
    group.post_task(fetch, args=("1",))  # type: ignore[arg-type]
    some.post_task(shout, args="hey")  # type: ignore[call-overload]
    assert_type(some.post_task(Client, args=(1,)), AsyncTask[Client])
    assert_type(some.post_task(sum, args=([1, 2],)), AsyncTask[int])
    assert_type(some.post_task(lambda number: str(number), args=(1,)), AsyncTask[str])  # noqa: PLW0108
    some.post_task(print, args=("any", "number"), kwargs={"sep": ""})
    some.post_task(print, args=tuple(numbers))
    # The checker does not know how many there are.
    assert_type(some.post_task(shout, args=["hey"]), AsyncTask[str])
    assert_type(some.post_task(fetch, args=iter(numbers)), AsyncTask[str])


def wrappers(
    some: AsyncTaskPool,
    callback: Callable[P, T],
    coroutine_function: Callable[P, Coroutine[Any, Any, T]],
    options: Mapping[str, Any] | None,
    *args: P.args,
    **kwargs: P.kwargs,
) -> None:
    assert_type(some.submit(callback, *args, **kwargs), AsyncTask[T])
    assert_type(some.post_task(callback, args=args, kwargs=kwargs), AsyncTask[T])
    assert_type(some.post_task(callback, args=args, kwargs=options), AsyncTask[T])
    assert_type(some.submit(coroutine_function, *args, **kwargs), AsyncTask[T])
    assert_type(some.post_task(coroutine_function, args=args, kwargs=kwargs), AsyncTask[T])


def handle(task: AsyncTask[str]) -> None:
    future: Future[str] = task
    assert_type(task.result(), str)
    assert_type(task.result(timeout=1), str)
    assert_type(task.result(timedelta(seconds=1)), str)
    assert_type(task.exception(), BaseException | None)
    task.wait_for_finished(1)
    task.wait_for_finished_count(3, timeout=1)
    task.wait_for_finished_count("3")  # type: ignore[arg-type]
    task.stop()
    task.stop_and_wait(0.5)
    assert_type(task.called_times(), int)
    assert_type(task.is_running(), bool)
    assert_type(task.finished(), bool)
    assert_type(task.reschedule(1), bool)
    assert_type(task.cancel(), bool)
    assert_type(task.done(), bool)
    assert_type(task.name, str)
    task.name = "other"  # type: ignore[misc]
    task.add_done_callback(lambda done: done.result())
    assert_type(wait([task, future]).done, set[Future[str]])
    for one in as_completed([task]):
        assert_type(one.result(), str)


async def in_a_coroutine(task: AsyncTask[str], some: AsyncTaskPool) -> None:
    assert_type(await task, str)
    assert_type(await asyncio.wrap_future(task), str)
    assert_type(await asyncio.wait_for(task, 1), str)
    assert_type(await asyncio.gather(task, some.submit(answer)), tuple[str, int])
    loop = asyncio.get_running_loop()
    assert_type(await loop.run_in_executor(some, answer), int)
    assert_type(await some.submit(fetch, 1), str)
    async with some.group() as group:
        assert_type(group.submit(answer), AsyncTask[int])
        assert_type(group.submit(fetch, 1), AsyncTask[str])
        assert_type(group.submit(beat).result(), int)
    async for tick in asynctask.ticker(1):
        assert_type(tick, int)


def groups(some: AsyncTaskPool) -> None:
    with some.group(on_error="collect", timeout=1) as group:
        assert_type(group, TaskGroup[Any])
        assert_type(group.submit(shout, "hey"), AsyncTask[str])
        assert_type(group.post_task(answer, DelayTask(1), name="one"), AsyncTask[int])
        assert_type(group.post_task(fetch, DelayTask(1), args=(1,)), AsyncTask[str])
        group.submit(shout)  # type: ignore[call-overload]
    some.group(on_error="nonsense")  # type: ignore[arg-type]
    some.group_context(timedelta(seconds=1))
    numbers: TaskGroup[int] = TaskGroup(some)
    assert_type(numbers.submit(answer), AsyncTask[int])
    assert_type(numbers.results(), list[int])
    numbers.wait(1)
    numbers.cancel()


def tickers() -> None:
    ticks = asynctask.ticker(0.5, missed="catch_up")
    assert_type(ticks, Ticker)
    Ticker(1, pool=AsyncTaskPool(1), max_runs=3, until=timedelta(hours=1))
    asynctask.ticker(1, mised="skip")  # type: ignore[call-arg]
    asynctask.ticker(1, missed="nonsense")  # type: ignore[arg-type]
    asynctask.ticker(1, pool=5)  # type: ignore[arg-type]
    Ticker(1, max_runs=1.5)  # type: ignore[arg-type]
    for tick in ticks:
        assert_type(tick, int)
    ticks.stop()


def clocks() -> None:
    clock = ManualClock()
    clock.advance(1)
    clock.advance(timedelta(seconds=1), patience=5)
    clock.jump(0.5)
    assert_type(clock.now(), float)


def exceptions() -> None:
    error: RuntimeError = asynctask.PoolShutdown()
    broken: RuntimeError = asynctask.BrokenPool()
    full: Exception = asynctask.QueueFull()
    raise ExceptionGroup("all", [error, broken, full])
