"""Coroutines as tasks and as runs of a series: how they fail, are cancelled, and end."""

import asyncio
import concurrent.futures as cf
import gc
import logging
import queue
import traceback as tb
import weakref

import asynctask
import asynctask.aio
import pytest
from asynctask import DelayTask, IntervalTask
from helpers.coroutines import CountingLoop, eventually, fail, mark

PATIENCE = 30


def test_failures_of_coroutines(run, pool, caplog, until):
    """What a coroutine raises is in its handle, and logged if nobody looks."""

    async def failing():
        await asyncio.sleep(0)
        fail()

    async def main():
        task = pool.submit(failing)
        with pytest.raises(ValueError, match="failed") as info:
            await task
        assert [frame.name for frame in info.traceback][-2:] == ["failing", "fail"]
        wrong = pool.submit(failing, 1, 2)
        with pytest.raises(TypeError):
            await wrong
        assert caplog.records == []
        silent = pool.post_task(failing, name="silent")
        await eventually(silent.done)
        silent = task = None

    run(main())
    until(lambda: gc.collect() is not None and caplog.records)  # which threads may do by themselves
    names = {(record.name, record.levelno) for record in caplog.records}
    assert names == {("asynctask", logging.ERROR)}
    assert "'silent'" in caplog.text


def test_cancelling_the_handle_cancels_the_coroutine(run, pool):
    """`cancel` of a running coroutine works, unlike that of a running function."""

    async def main():
        started = asyncio.Event()
        seen = []

        async def wait():
            started.set()
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                seen.append("told")
                raise

        task = pool.submit(wait)
        await started.wait()
        assert task.running()
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (task.cancelled(), seen) == (True, ["told"])
        assert not task.running()

    run(main())


def test_cancelling_a_coroutine_that_its_loop_has_not_begun(run, pool, until):
    """`cancel` says so when a coroutine is on its way to a loop that is busy."""

    async def main():
        ran = []

        async def note():
            ran.append(1)

        task = pool.submit(note)
        until(task.running)  # the worker has passed it on, and the loop, which waits here, has not
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (task.cancelled(), ran) == (True, [])

    run(main())


def test_what_is_cancelled_before_its_loop_has_begun_it_is_not_called(run, pool, until):
    """Not even the function that would make the coroutine."""

    async def main():
        called = []

        @mark
        def call():
            called.append(1)
            fail()

        task = pool.submit(call)
        until(task.running)  # the worker has passed it on, and the loop, which waits here, has not
        assert task.cancel()
        await eventually(task.done)
        assert (task.cancelled(), called) == (True, [])

    run(main())


def test_cancelling_the_handle_from_a_thread(run, pool):
    """`cancel` reaches a coroutine from any thread, and wakes a thread that waits."""

    async def main():
        started = asyncio.Event()

        async def wait():
            started.set()
            await asyncio.sleep(PATIENCE)

        task = pool.submit(wait)
        await started.wait()

        def from_thread():
            assert task.cancel()
            try:
                task.result(PATIENCE)
            except cf.CancelledError:
                return "cancelled"

        assert await asyncio.to_thread(from_thread) == "cancelled"

    run(main())


def test_a_coroutine_that_is_cancelled_from_inside(run, pool):
    """A coroutine whose asyncio task is cancelled ends its handle as cancelled."""

    async def main():
        started = queue.SimpleQueue()

        async def wait():
            started.put(asyncio.current_task())
            await asyncio.sleep(PATIENCE)

        task = pool.submit(wait)
        await eventually(lambda: not started.empty())
        started.get().cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main())


def test_a_coroutine_that_shrugs_a_cancel_off(run, pool):
    """A coroutine that catches its cancellation has a result."""

    async def main():
        started = asyncio.Event()

        async def wait():
            started.set()
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                return "stays"

        task = pool.submit(wait)
        await started.wait()
        task.cancel()
        assert await task == "stays"

    run(main())


def test_giving_up_on_a_coroutine_cancels_it(run, pool):
    """A timeout around the await of a coroutine's handle ends the coroutine."""

    async def main():
        task = pool.submit(asyncio.sleep, PATIENCE)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, 0.01)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main())


def test_a_series_of_coroutines(run, pool):
    """Each run of a series is a task of the loop; runs do not overlap; stopping ends it."""

    async def main():
        going = 0
        most = 0

        async def beat():
            nonlocal going, most
            going += 1
            most = max(most, going)
            await asyncio.sleep(0.005)
            going -= 1

        series = pool.post_task(beat, IntervalTask(0.002))
        await eventually(lambda: series.called_times() >= 3)
        series.stop()
        with pytest.raises(asyncio.CancelledError):
            await series
        assert (going, most) == (0, 1)
        limited = pool.post_task(beat, IntervalTask(0.001, max_runs=2), name="limited")
        assert await limited is None
        assert limited.called_times() == 2

    run(main())


def test_a_series_goes_on_after_a_failing_coroutine(run, pool, caplog):
    """A failing run of a series of coroutines is logged, and the next one comes."""

    async def main():
        runs = []

        async def beat():
            runs.append(1)
            if len(runs) == 1:
                fail()

        series = pool.post_task(beat, IntervalTask(0.001), name="beat")
        await eventually(lambda: len(runs) >= 3)
        series.cancel()

    run(main())
    assert [record.getMessage() for record in caplog.records] == [
        "exception in a run of task 'beat'"
    ]


@pytest.mark.parametrize("on_error", ["continue", "stop"])
@pytest.mark.parametrize("how", ["what it awaits", "its asyncio task"])
def test_a_run_of_a_series_that_somebody_else_cancels(run, pool, caplog, how, on_error):
    """It is a failing run: logged with its place, and `on_error` says what comes next."""

    async def main():
        runs = []
        awaited = asyncio.get_running_loop().create_future()
        awaited.cancel()

        async def beat():
            runs.append(1)
            if how == "what it awaits":
                await awaited
            asyncio.current_task().cancel()
            await asyncio.sleep(PATIENCE)

        series = pool.post_task(beat, IntervalTask(0.001, on_error=on_error), name="beat")
        if on_error == "stop":
            await eventually(series.done)
            assert isinstance(series.exception(), asyncio.CancelledError)
            assert not series.cancelled()
            return 1
        await eventually(lambda: len(caplog.records) >= 3)
        assert not series.done()
        series.stop()
        await eventually(series.done)
        assert series.cancelled()
        return len(runs)

    logged = run(main())
    assert [record.getMessage() for record in caplog.records] == [
        "exception in a run of task 'beat'"
    ] * logged
    for record in caplog.records:
        kind, _, traceback = record.exc_info
        assert kind is asyncio.CancelledError
        names = [frame.name for frame in tb.extract_tb(traceback)]
        assert "beat" in names
        assert "end" not in names


def test_the_error_of_a_cancelled_run_holds_no_handle(run, pool, gone, until):
    """A series that ended with it goes by reference count."""

    async def main():
        async def beat():
            asyncio.current_task().cancel()
            await asyncio.sleep(PATIENCE)

        series = pool.post_task(beat, IntervalTask(0.001, on_error="stop"))
        await eventually(series.done)
        series.exception()
        return weakref.ref(series)

    gc.collect()
    gc.disable()
    try:
        reference = run(main())
        until(lambda: gone(reference))  # the worker that began the run may still have it
    finally:
        gc.enable()


def test_a_series_that_its_handle_has_cancelled_logs_nothing(run, pool, caplog):
    """`cancel` is what the run is cancelled by, though it takes the loop a moment."""

    async def main():
        started = asyncio.Event()

        async def beat():
            started.set()
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                await asyncio.sleep(0)

        series = pool.post_task(beat, IntervalTask(0.001))
        await started.wait()
        assert series.cancel()
        await eventually(series.done)
        assert series.cancelled()

    run(main())
    assert caplog.records == []


def test_cancelling_twice_says_the_same(run, pool):
    """Also between the end of the coroutine and that of its handle."""

    async def main():
        started = asyncio.Event()
        told = []

        async def wait():
            started.set()
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                me = asyncio.current_task()
                asyncio.get_running_loop().call_soon(
                    lambda: told.append((me.done(), task.cancel()))
                )

        task = pool.submit(wait)
        await started.wait()
        assert task.cancel()
        await eventually(task.done)
        assert told == [(True, True)]
        assert task.cancelled()

    run(main())


def test_a_coroutine_that_has_ended_is_not_kept(run, pool):
    """What a coroutine returned goes with its handle, though its loop runs on."""

    class Value:
        pass

    async def coroutine():
        return Value()

    async def main():
        task = pool.post_task(coroutine)
        gone = weakref.ref(await task)
        del task
        await eventually(lambda: gc.collect() is not None and gone() is None)

    run(main())


def test_a_cancelled_series_of_coroutines(run, pool):
    """`cancel` of a series cancels the coroutine that is going, and ends the series."""

    async def main():
        started = asyncio.Event()

        async def beat():
            started.set()
            await asyncio.sleep(PATIENCE)

        series = pool.post_task(beat, IntervalTask(0.001))
        await started.wait()
        assert series.cancel()
        with pytest.raises(asyncio.CancelledError):
            await series
        assert series.cancelled()

    run(main())


def test_many_coroutines_wake_the_loop_once(make_pool):
    """Ten thousand coroutines that fall due together are one wake-up of the loop."""
    clock = asynctask.testing.ManualClock()
    pool = make_pool(2, clock=clock)
    count = 10_000

    async def coroutine(n):
        return n

    async def main():
        loop = asyncio.get_running_loop()
        tasks = [pool.post_task(coroutine, DelayTask(1), args=(n,)) for n in range(count)]
        loop.armed = True
        clock.advance(1)  # the loop is blocked until all have been handed over
        results = await asyncio.gather(*tasks)
        loop.armed = False
        assert results == list(range(count))
        return loop.threadsafe

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        # One for the start of all, and at most a few for their ends, which come on the loop itself.
        assert runner.run(main()) <= 2 * count // 1000


def test_shutdown_does_not_wait_for_coroutines(run, one):
    """A shutdown on the loop's own thread returns; the coroutine goes on."""

    async def main():
        started = asyncio.Event()
        go = asyncio.Event()

        async def wait():
            started.set()
            await go.wait()
            return "went on"

        task = one.submit(wait)
        await started.wait()
        one.shutdown()
        go.set()
        assert await task == "went on"

    run(main())
