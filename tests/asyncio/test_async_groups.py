"""`async with` a group, and `async for` over a ticker."""

import asyncio

import asynctask
import asynctask.aio
import pytest
from asynctask import DelayTask
from helpers.coroutines import eventually, fail

PATIENCE = 30


def test_async_group(run, pool):
    """`async with` waits without blocking the loop, and functions and coroutines go together."""

    async def coroutine(n):
        await asyncio.sleep(0.001)
        return n

    async def main():
        async with pool.group() as group:
            for n in range(3):
                group.submit(int, n)
                group.submit(coroutine, n)
            group.post_task(int, DelayTask(0.002))
        assert group.results() == [0, 0, 1, 1, 2, 2, 0]

    run(main())


def test_async_group_with_failures(run, pool):
    """Failures come out as an `ExceptionGroup`, and cancel what has not started."""

    async def main():
        with pytest.raises(ExceptionGroup, match="1 of 2 tasks failed") as info:
            async with pool.group() as group:
                later = group.post_task(int, DelayTask(1000))
                group.submit(fail)
        assert [type(error) for error in info.value.exceptions] == [ValueError]
        assert later.cancelled()
        with pytest.raises(ExceptionGroup, match="2 of 3 tasks failed"):
            async with pool.group(on_error="collect") as group:
                for callback in (fail, int, fail):
                    group.submit(callback)

    run(main())


def test_async_group_whose_block_raises(run, pool):
    """An exception of the block cancels the tasks, waits for them, and comes out."""

    async def main():
        with pytest.raises(KeyError):
            async with pool.group() as group:
                later = group.post_task(int, DelayTask(1000))
                raise KeyError
        assert later.cancelled()

    run(main())


def test_async_group_that_is_cancelled(run, one, gate):
    """Cancelling the block cancels its tasks, waits for what runs, and goes on its way."""

    async def main():
        ready = asyncio.Event()
        tasks = []

        async def block():
            async with one.group() as group:
                tasks.extend([group.submit(gate), group.submit(int)])
                ready.set()

        waiting = asyncio.create_task(block())
        await ready.wait()
        await eventually(tasks[0].running)
        waiting.cancel()
        await eventually(tasks[1].cancelled)
        assert not waiting.done()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert tasks[0].result(0) == "through"

    run(main())


def test_async_group_in_a_timeout(run, pool):
    """`asyncio.timeout` around a group ends the group and raises `TimeoutError`."""

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), pool.group() as group:
                later = group.post_task(int, DelayTask(1000))
        assert later.cancelled()

    run(main())


def test_async_group_whose_time_is_up(run, pool):
    """A group's own timeout cancels what is left and raises `TimeoutError`."""

    async def main():
        with pytest.raises(TimeoutError):
            async with pool.group(timeout=0.01) as group:
                later = group.post_task(int, DelayTask(1000))
        assert later.cancelled()

    run(main())


def test_async_group_of_coroutines_that_fails(run, pool):
    """A failure cancels coroutines of the group that are going."""

    async def main():
        seen = []

        async def wait():
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                seen.append("over")

        with pytest.raises(ExceptionGroup):
            async with pool.group() as group:
                waiting = group.submit(wait)
                await eventually(waiting.running)
                await asyncio.sleep(0.005)
                group.submit(fail)
        assert seen == ["over"]

    run(main())


def test_async_ticker(run):
    """`async for` over a ticker counts, and the loop goes on meanwhile."""

    async def main():
        turns = 0

        async def others():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(others())
        ticks = []
        ticker = asynctask.ticker(0.002, missed="catch_up")
        async for tick in ticker:
            ticks.append(tick)
            if len(ticks) >= 5 and turns > 5:
                ticker.stop()
        other.cancel()
        assert ticks == list(range(1, len(ticks) + 1))
        ticker = asynctask.ticker(0.002)
        seen = []
        async for tick in ticker:
            seen.append(tick)
            if len(seen) == 3:
                ticker.stop()
        assert seen == sorted(set(seen))
        assert len(seen) in {3, 4}  # the next tick may have been before the stop

    run(main())


def test_async_ticker_that_is_cancelled(run):
    """A coroutine that waits for a tick can be cancelled."""

    async def main():
        ticker = asynctask.ticker(1000)

        async def loop():
            async for _ in ticker:
                pass

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop(), 0.01)
        ticker.stop()
        assert [tick async for tick in ticker] == []

    run(main())
