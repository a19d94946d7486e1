"""Tasks that coroutines wait for, on asyncio's own loop and on uvloop's."""

import asyncio
import concurrent.futures as cf
import queue
import threading

import asynctask
import asynctask.aio
import pytest
from asynctask import DelayTask, IntervalTask
from helpers.coroutines import CountingLoop, eventually, fail
from helpers.threads import join, start

PATIENCE = 30


def test_await(run, pool):
    """`await task` gives the result, raises the failure, or the cancellation."""

    async def main():
        assert await pool.submit(pow, 2, 5) == 32
        with pytest.raises(ValueError, match="failed") as info:
            await pool.submit(fail)
        assert info.traceback[-1].name == "fail"
        cancelled = pool.post_task(int, DelayTask(1000))
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert await pool.post_task(lambda: "later", DelayTask(0.005)) == "later"
        assert await pool.after(0.005) is None
        assert await pool.post_task(lambda: 5, IntervalTask(0.001, max_runs=3)) == 5
        return "done"

    assert run(main()) == "done"


def test_await_of_what_is_over_does_not_touch_the_loop(pool):
    """A finished task is awaited without a turn of the loop."""
    finished, failed = pool.submit(lambda: 1), pool.submit(fail)
    cancelled = pool.post_task(int, DelayTask(1000))
    cancelled.cancel()
    cf.wait([finished, failed])

    async def main():
        loop = asyncio.get_running_loop()
        loop.armed = True
        for _ in range(10):
            assert await finished == 1
            with pytest.raises(ValueError, match="failed"):
                await failed
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        loop.armed = False
        return loop.soon, loop.threadsafe

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        assert runner.run(main()) == (0, 0)


def test_awaiting_outside_of_a_loop(one, gate):
    """A finished task needs no loop to be awaited; another one says that there is none."""
    held = one.submit(gate)
    with pytest.raises(RuntimeError, match="no running event loop"):
        held.__await__().send(None)
    gate.open()
    held.result(20)
    with pytest.raises(StopIteration) as info:
        held.__await__().send(None)
    assert info.value.value == "through"


def test_other_coroutines_run_meanwhile(run, one, gate):
    """An await does not block the loop."""

    async def opener():
        gate.open()

    async def main():
        task = one.submit(gate)
        other = asyncio.create_task(opener())
        assert await task == "through"
        await other

    run(main())


def test_gather_and_task_groups(run, pool):
    """`gather`, `TaskGroup`, `wait_for` and `timeout` take tasks as they take awaitables."""

    async def main():
        tasks = [pool.submit(int, n) for n in range(200)]
        assert await asyncio.gather(*tasks) == list(range(200))
        results = await asyncio.gather(pool.submit(fail), pool.submit(int), return_exceptions=True)
        assert isinstance(results[0], ValueError)
        assert results[1] == 0

        async def one(n):
            return await pool.submit(int, n)

        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(one(n)) for n in range(20)]
        assert [run.result() for run in runs] == list(range(20))
        assert await asyncio.wait_for(pool.submit(int, 3), PATIENCE) == 3
        async with asyncio.timeout(PATIENCE):
            assert await pool.submit(int, 4) == 4
        done, _ = await asyncio.wait([asyncio.ensure_future(pool.submit(int, 5))])
        assert done.pop().result() == 5
        assert await asyncio.shield(pool.submit(int, 6)) == 6
        assert [await it for it in asyncio.as_completed([pool.submit(int, 7)])] == [7]

    run(main())


@pytest.mark.parametrize("how", ["wait_for", "timeout", "cancel"])
def test_giving_up_cancels_what_has_not_started(run, one, gate, how):
    """A coroutine that stops waiting cancels a queued task."""

    async def wait(task):
        return await task

    async def main():
        held = one.submit(gate)
        queued = one.submit(int)
        if how == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(queued, 0.01)
        elif how == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await queued
        else:
            waiting = asyncio.create_task(wait(queued))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert queued.cancelled()
        gate.open()
        assert await held == "through"

    run(main())


def test_giving_up_leaves_what_runs(run, one, gate):
    """A coroutine that stops waiting does not stop what runs; the callback can ask."""

    def call():
        gate()
        try:
            asynctask.check_cancelled()
        except cf.CancelledError:
            return "told"

    async def main():
        held = one.submit(call)
        await eventually(held.running)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(held, 0.01)
        assert held.running()
        gate.open()
        assert await held == "told"

    run(main())


def test_several_await_one_task(run, one, gate):
    """Several coroutines of one loop may await the same task."""

    async def wait(task):
        return await task

    async def main():
        held = one.submit(gate)
        waiting = [asyncio.create_task(wait(held)) for _ in range(10)]
        await asyncio.sleep(0)
        gate.open()
        assert await asyncio.gather(*waiting) == ["through"] * 10

    run(main())


def test_loops_of_several_threads_await_one_task(new_loop, one, gate):
    """Coroutines of several loops may await the same task, and threads wait for it."""
    held = one.submit(gate)
    results = queue.Queue()
    ready = threading.Barrier(4)

    async def wait():
        ready.wait(PATIENCE)
        results.put(await held)

    def serve():
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(wait())

    threads = [start(serve) for _ in range(3)]
    ready.wait(PATIENCE)
    gate.open()
    assert held.result(PATIENCE) == "through"
    join(*threads)
    assert [results.get(timeout=1) for _ in threads] == ["through"] * 3


def test_one_wake_up_for_a_burst(one, gate):
    """Ten thousand tasks that end while the loop is busy wake it once."""
    count = 10_000

    async def wait(task):
        return await task

    async def main():
        loop = asyncio.get_running_loop()
        one.submit(gate)
        tasks = [one.submit(int, n) for n in range(count)]
        waiting = [asyncio.ensure_future(wait(task)) for task in tasks]
        await asyncio.sleep(0)
        loop.armed = True
        gate.open()
        one.submit(int).result(PATIENCE)  # the loop is blocked while they end
        results = await asyncio.gather(*waiting)
        loop.armed = False
        assert results == list(range(count))
        return loop.threadsafe

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        # A second one, for the last of the first lot may come when the loop has looked.
        assert runner.run(main()) <= 2


def test_others_get_their_turn_in_a_burst(one, gate):
    """A loop that has a burst of ends to take takes it in portions."""
    count = 5000

    async def wait(task):
        return await task

    async def main():
        loop = asyncio.get_running_loop()
        one.submit(gate)
        tasks = [one.submit(int, n) for n in range(count)]
        waiting = [asyncio.ensure_future(wait(task)) for task in tasks]
        await asyncio.sleep(0)
        gate.open()
        one.submit(int).result(PATIENCE)
        seen = []

        def look():
            seen.append(sum(run.done() for run in waiting))
            if seen[-1] < count:
                loop.call_soon(look)

        look()
        await asyncio.gather(*waiting)
        return seen

    seen = asyncio.run(main())
    assert len({portion for portion in seen if 0 < portion < count}) >= 2


def test_ctrl_c_in_a_burst_loses_nothing(run, one, gate):
    """An exception in the middle of a portion does not strand the rest."""

    async def main():
        loop = asyncio.get_running_loop()
        bridge = asynctask._loops.bridge_of(loop)
        seen = []

        def interrupt():
            raise RuntimeError("in between")

        loop.set_exception_handler(lambda _loop, context: seen.append(context["exception"]))
        for item in (lambda: seen.append(1), interrupt, lambda: seen.append(2)):
            bridge.call(item)
        await eventually(lambda: 2 in seen)
        return [str(item) for item in seen]

    assert run(main()) == ["1", "in between", "2"]


def test_run_in_executor(run, pool):
    """`loop.run_in_executor` takes the pool."""

    async def main():
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(pool, pow, 2, 5) == 32
        with pytest.raises(ValueError, match="failed"):
            await loop.run_in_executor(pool, fail)
        assert await asyncio.wrap_future(pool.submit(int)) == 0

    run(main())
