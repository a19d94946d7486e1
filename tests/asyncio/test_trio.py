"""Programs that run under trio, or under anyio on whichever loop."""

import contextvars
import functools

import asynctask
import pytest
from asynctask import DelayTask

trio = pytest.importorskip("trio", reason="the group `test` of pyproject.toml has it")
anyio = pytest.importorskip("anyio", reason="the group `test` of pyproject.toml has it")
sniffio = pytest.importorskip("sniffio", reason="the group `test` of pyproject.toml has it")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_way_to_wait(pool, backend):
    """Under any loop `to_thread.run_sync` of its framework waits for a task."""

    async def main():
        task = pool.post_task(pow, DelayTask(0.001), args=(2, 3))
        assert await anyio.to_thread.run_sync(task.result) == 8
        with pool.group() as group:
            group.submit(pow, 2, 4)
        assert await anyio.to_thread.run_sync(group.results) == [16]
        if backend == "trio":
            task = pool.post_task(pow, DelayTask(0.001), args=(2, 5))
            assert await trio.to_thread.run_sync(task.result) == 32

    anyio.run(main, backend=backend)


def test_what_needs_asyncio_says_what_to_do(pool, gate):
    """Under trio whatever needs a loop of asyncio names the way to wait there."""

    async def awaited():
        await pool.submit(gate)

    async def group():
        async with pool.group():
            pytest.fail("the block was entered")

    async def ticks():
        async for _ in asynctask.Ticker(1000, pool=pool):
            pytest.fail("there was a tick")

    async def block():
        async with pool:
            pytest.fail("the block was entered")

    ways = {
        awaited: "task.result",
        group: "group.wait",
        ticks: "next, ticker",
        block: "pool.shutdown",
        pool.aclose: "pool.shutdown",
    }
    for main, call in ways.items():
        with pytest.raises(RuntimeError, match="no running event loop of asyncio") as caught:
            trio.run(main)
        assert f"`await trio.to_thread.run_sync({call})`" in str(caught.value)
        assert f"`await anyio.to_thread.run_sync({call})`" in str(caught.value)
    pool.submit(int).result(20)  # it has not been shut down
    gate.open()


def test_a_task_that_is_over_can_be_awaited_anywhere(pool):
    """There is nothing to wait for."""

    async def main():
        task = pool.submit(pow, 2, 3)
        await trio.to_thread.run_sync(task.wait_for_finished)
        return await task

    assert trio.run(main) == 8


def test_a_coroutine_function_of_trio_runs_there(pool):
    """The error of a coroutine function that has no loop says how to run it under trio."""

    async def here(n):
        await trio.sleep(0)
        return n, sniffio.current_async_library()

    async def main():
        with pytest.raises(TypeError, match=r"trio\.from_thread\.run, callback, trio_token=token"):
            pool.submit(here, 1)
        token = trio.lowlevel.current_trio_token()
        run = functools.partial(trio.from_thread.run, here, trio_token=token)
        task = pool.submit(run, 7)
        return await trio.to_thread.run_sync(task.result)

    assert trio.run(main) == (7, "trio")


@pytest.mark.parametrize("propagate", [False, True])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_there_is_no_loop_on_a_worker(make_pool, propagate, backend):
    """A callback is told that it runs under no kind of loop, whatever its poster runs under."""
    pool = make_pool(2, propagate_context=propagate)
    variable = contextvars.ContextVar("variable", default="its own")

    def library():
        try:
            return sniffio.current_async_library()
        except sniffio.AsyncLibraryNotFoundError:
            return f"none, {variable.get()}"

    async def main():
        variable.set("the poster's")
        task = pool.submit(library)
        seen = await anyio.to_thread.run_sync(task.result)
        assert sniffio.current_async_library() == backend
        assert seen == ("none, the poster's" if propagate else "none, its own")

    anyio.run(main, backend=backend)


def test_a_coroutine_is_told_of_the_loop_it_runs_on(pool):
    """Posted from trio to a loop of asyncio, a coroutine is told that it is on the latter."""

    async def library():
        return sniffio.current_async_library()

    async def from_trio(loop):
        task = pool.post_task(library, loop=loop)
        return await anyio.to_thread.run_sync(task.result)

    async def main():
        import asyncio  # noqa: PLC0415

        assert await pool.submit(library) == "asyncio"
        loop = asyncio.get_running_loop()
        post = functools.partial(anyio.run, from_trio, loop, backend="trio")
        assert await anyio.to_thread.run_sync(post) == "asyncio"

    anyio.run(main, backend="asyncio")
