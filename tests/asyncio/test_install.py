"""`aio.install`: the pool as the executor of a loop."""

import asyncio
import concurrent.futures as cf
import contextvars
import threading

import asynctask
import asynctask.aio
import pytest
from helpers.coroutines import eventually, fail
from helpers.threads import start

PATIENCE = 30


def test_install(run, pool):
    """After `aio.install` `to_thread` and `run_in_executor` run on the pool."""

    async def main():
        asynctask.aio.install(pool=pool)
        loop = asyncio.get_running_loop()
        name = await asyncio.to_thread(lambda: threading.current_thread().name)
        assert name.startswith("asynctask-")
        assert await loop.run_in_executor(None, pow, 2, 3) == 8
        variable = contextvars.ContextVar("variable")
        variable.set("seen")
        assert await asyncio.to_thread(variable.get) == "seen"
        with pytest.raises(ValueError, match="failed"):
            await asyncio.to_thread(fail)

    run(main())
    # The end of the loop is not the end of the pool.
    assert pool.submit(int).result(20) == 0
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


@pytest.mark.usefixtures("default_pool")
def test_install_of_the_default_pool(run):
    """Without a pool it is the default one."""

    async def main():
        asynctask.aio.install()
        await asyncio.to_thread(int)
        return asynctask.get_async_task().stats().submitted

    assert run(main()) == 1


def test_install_on_a_loop_that_does_not_run(new_loop, pool):
    """With `loop=` it can be done before the loop runs; without one it says so."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        asynctask.aio.install()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        asynctask.aio.install(runner.get_loop(), pool)

        async def main():
            return await asyncio.to_thread(lambda: threading.current_thread().name)

        assert runner.run(main()).startswith("asynctask-")


def test_the_end_of_the_loop_waits_for_its_own_tasks(new_loop, make_pool, make_gate, until):
    """`asyncio.run` waits for what was posted by way of its default executor, and nothing else."""
    pool = make_pool(2)
    foreign, own = make_gate(), make_gate()
    other = pool.submit(foreign)
    posted = []
    ended = threading.Event()

    class Recorder(asynctask.AsyncTaskPool):
        def submit(self, *call):
            posted.append(pool.submit(*call))
            return posted[-1]

    async def main():
        asynctask.aio.install(pool=Recorder())
        asyncio.get_running_loop().run_in_executor(None, own)
        await eventually(own.started.is_set)

    def let_go_on():
        # Not before somebody waits for it, as the library's `wait` shows, or nobody did.
        until(lambda: posted and (posted[0]._waiters or ended.is_set()))
        own.open()

    opener = start(let_go_on)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    waited = posted[0].done()
    ended.set()
    opener.join(20)
    assert waited
    assert not other.done()
    foreign.open()
    assert other.result(20) == "through"


def test_the_executor_of_an_installed_pool_is_shut_down_with_the_loop(pool):
    """The bridge refuses tasks after its shutdown, and can cancel what has not started."""

    async def main():
        asynctask.aio.install(pool=pool)
        loop = asyncio.get_running_loop()
        executor = loop._default_executor
        assert isinstance(executor, cf.ThreadPoolExecutor)
        later = executor.submit(int)
        assert isinstance(later, asynctask.AsyncTask)
        assert list(executor.map(int, "123")) == [1, 2, 3]
        executor.shutdown(wait=True, cancel_futures=True)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(int)

    asyncio.run(main())
