"""How a pool ends: what becomes of what waits, what is waited for, and what the answer says."""

import asyncio
import concurrent.futures as cf
import contextlib
import logging
import threading

import asynctask
import pytest
from asynctask import AsyncTaskPool, DelayTask, IntervalTask
from helpers.threads import join, start

PATIENCE = 30


async def eventually(condition):
    """Wait for a condition that nothing announces, such as another thread's progress."""
    while not condition():  # noqa: ASYNC110  # see above
        await asyncio.sleep(0.001)


def shut_down(pool, **keywords):
    pool.shutdown(**keywords)
    return True


def wait_and_exit(pool, **keywords):
    return pool.wait_and_exit(PATIENCE, **keywords)


def aclose(pool, **keywords):
    return asyncio.run(pool.aclose(PATIENCE, **keywords))


ENDS = pytest.mark.parametrize("end", [shut_down, wait_and_exit, aclose])


@pytest.fixture
def background_loop():
    """Give a loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = start(loop.run_forever)
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()


@ENDS
def test_delayed_tasks_run_at_the_end_in_the_order_of_their_deadlines(one, end):
    """`delayed="run"` runs what waits for its deadline, earliest first, and stops series."""
    order = []
    for delay in (300, 100, 900, 200):
        one.post_task(order.append, DelayTask(delay), args=(delay,))
    quiet = one.after(500)
    watched = one.after(600)
    told = threading.Event()
    watched.add_done_callback(lambda task: told.set())
    series = one.post_task(order.append, IntervalTask(400), args=("series",))
    assert end(one, delayed="run") is True
    assert order == [100, 200, 300, 900]
    assert quiet.result(0) is None
    assert watched.result(0) is None
    assert told.wait(PATIENCE)
    assert series.cancelled()


@ENDS
def test_delayed_tasks_are_waited_for(make_pool, end):
    """`delayed="wait"` ends the pool when the last of them has run, never before its time."""
    pool = make_pool(2)
    tasks = [pool.post_task(int, DelayTask(delay)) for delay in (0.05, 0.01, 0.08)]
    quiet = pool.after(0.06)
    series = pool.post_task(int, IntervalTask(900))
    assert end(pool, delayed="wait") is True
    assert [task.result(0) for task in (*tasks, quiet)] == [0, 0, 0, None]
    assert series.cancelled()
    assert pool.stats().idle_workers == 0


@ENDS
def test_delayed_tasks_are_cancelled_by_default(one, end):
    """What waits for its deadline is cancelled, and the answer is no: it was cut short."""
    task = one.post_task(int, DelayTask(900))
    assert end(one) is (end is shut_down)
    assert task.cancelled()


def test_a_stopped_series_is_not_cut_short(one):
    """A series has no end of its own: to stop it cuts nothing short."""
    series = one.post_task(int, IntervalTask(900))
    assert one.wait_and_exit(PATIENCE) is True
    assert series.cancelled()


def test_nothing_is_taken_while_delayed_tasks_are_waited_for(make_pool, clock):
    """A pool that waits for its last delayed tasks refuses every post, and can move them."""
    pool = make_pool(1, clock=clock)
    first, last = pool.post_task(int, DelayTask(1)), pool.post_task(int, DelayTask(50))
    pool.shutdown(wait=False, delayed="wait")
    for post in (
        lambda: pool.submit(int),
        lambda: pool.try_submit(int),
        lambda: list(pool.map(int, "1")),
        lambda: pool.post_task(int, DelayTask(1)),
        lambda: pool.post_task(int, IntervalTask(1)),
        lambda: pool.after(1),
    ):
        with pytest.raises(asynctask.PoolShutdown):
            post()
    assert last.reschedule(5)
    clock.advance(1)
    assert first.result(PATIENCE) == 0
    assert not last.done()
    clock.advance(4)
    assert last.result(PATIENCE) == 0
    assert pool.wait_and_exit(PATIENCE) is True


def test_delayed_tasks_of_a_manual_clock_are_waited_for(make_pool, clock):
    """With a clock that is moved by hand the end comes when it has been moved far enough."""
    pool = make_pool(1, clock=clock)
    task = pool.post_task(int, DelayTask(900))
    with cf.ThreadPoolExecutor(1) as other:
        end = other.submit(pool.wait_and_exit, PATIENCE, delayed="wait")
        clock.advance(899)
        with pytest.raises(TimeoutError):
            end.result(0.02)
        clock.advance(1)
        assert end.result(PATIENCE) is True
    assert task.result(0) == 0


def test_cancelling_the_last_delayed_task_ends_the_wait(one):
    """Who waits for delayed tasks hears of it when the last of them is cancelled."""
    tasks = [one.post_task(int, DelayTask(900)) for _ in range(3)]
    one.shutdown(wait=False, delayed="wait")
    with cf.ThreadPoolExecutor(1) as other:
        end = other.submit(one.wait_and_exit, PATIENCE, delayed="wait")
        for task in tasks:
            assert not end.done()
            assert task.cancel()
        assert end.result(PATIENCE) is True


def test_the_wait_for_delayed_tasks_has_an_end_too(make_pool):
    """When the timeout has passed they are cancelled, and so by a second shutdown."""
    pool = make_pool(1)
    task = pool.post_task(int, DelayTask(900))
    assert pool.wait_and_exit(0.01, delayed="wait") is False
    assert task.cancelled()
    pool = make_pool(1)
    task = pool.post_task(int, DelayTask(900))
    pool.shutdown(wait=False, delayed="wait")
    assert not task.done()
    pool.shutdown()
    assert task.cancelled()


def test_a_queue_that_is_cancelled_beside_delayed_tasks_that_are_not(one, gate):
    """`cancel_futures` is about the queue, `delayed` about the wheel."""
    running = gate.hold(one)
    queued, delayed = one.submit(int), one.post_task(int, DelayTask(0.01))
    one.shutdown(wait=False, cancel_futures=True, delayed="wait")
    assert queued.cancelled()
    gate.open()
    assert running.result(PATIENCE) == "through"
    assert delayed.result(PATIENCE) == 0
    assert one.wait_and_exit(PATIENCE, delayed="wait") is True


def test_the_default_pool_has_the_same_say(default_pool):
    """`wait_and_exit` of the module takes `delayed`, and says what was cut short."""
    task = asynctask.post_task(int, DelayTask(900))
    assert asynctask.wait_and_exit(PATIENCE, delayed="run") is True
    assert task.result(0) == 0
    assert asynctask.testing.reset_default_pool(PATIENCE)
    task = asynctask.post_task(int, DelayTask(900))
    assert asynctask.wait_and_exit(PATIENCE) is False
    assert task.cancelled()


@ENDS
@pytest.mark.parametrize("delayed", ["now", "", 1, None.__class__, b"run"])
def test_a_wrong_word_stops_nothing(one, end, delayed):
    """What is no way to treat delayed tasks is refused, by name and value, and nothing ends."""
    with pytest.raises(ValueError, match="delayed must be one of 'cancel', 'run', 'wait', not"):
        end(one, delayed=delayed)
    with pytest.raises(ValueError, match="delayed must be one of"):
        asynctask.wait_and_exit(delayed=delayed)
    assert one.submit(abs, -1).result(PATIENCE) == 1


def test_a_coroutine_in_flight_is_waited_for(one, background_loop, until):
    """A pool has not ended while a coroutine of its runs on its loop, and its counts show it."""
    started, leave = threading.Event(), asyncio.Event()

    async def coroutine():
        started.set()
        await leave.wait()
        return "done"

    task = one.post_task(coroutine, loop=background_loop)
    assert started.wait(PATIENCE)
    until(lambda: one.stats().running_workers == 0)
    assert one.stats().running_elsewhere == 1
    with cf.ThreadPoolExecutor(1) as other:
        end = other.submit(one.wait_and_exit, PATIENCE)
        with pytest.raises(TimeoutError):
            end.result(0.02)
        background_loop.call_soon_threadsafe(leave.set)
        assert end.result(PATIENCE) is True
    assert task.result(0) == "done"
    assert one.stats().running_elsewhere == 0


def test_a_coroutine_is_cancelled_when_the_time_is_up(make_pool, background_loop):
    """What is on a loop when the timeout has passed is cancelled there, and the answer is no."""
    pool, other = make_pool(1), make_pool(1)
    started = threading.Event()

    async def coroutine():
        started.set()
        await asyncio.sleep(900)

    foreign = other.post_task(asyncio.sleep, args=(900,), loop=background_loop)
    task = pool.post_task(coroutine, loop=background_loop)
    assert started.wait(PATIENCE)
    assert pool.wait_and_exit(0.01) is False
    with pytest.raises(cf.CancelledError):
        task.result(PATIENCE)
    assert not foreign.done()
    assert foreign.cancel()
    with pytest.raises(cf.CancelledError):
        foreign.result(PATIENCE)


def test_a_run_on_another_executor_is_waited_for(make_pool, gate):
    """What was handed over is waited for, and told if it goes on."""
    with cf.ThreadPoolExecutor(1) as executor:
        pool = make_pool(1)
        task = pool.post_task(gate, executor=executor)
        gate.wait()
        assert pool.stats().running_elsewhere == 1
        assert pool.wait_and_exit(0.01) is False
        gate.open()
        assert task.result(PATIENCE) == "through"
        assert pool.wait_and_exit(PATIENCE) is True


def test_a_block_that_coroutines_leave_waits_for_them(make_pool):
    """`async with` and `aclose` let the loop go on, so coroutines and those who need it end."""

    async def main():
        loop = asyncio.get_running_loop()
        async with make_pool(2) as pool:
            tasks = [
                pool.post_task(asyncio.sleep, args=(0.01, "slept")),
                pool.submit(
                    lambda: asyncio.run_coroutine_threadsafe(
                        asyncio.sleep(0.01, "far"), loop
                    ).result(PATIENCE)
                ),
            ]
        assert [task.result(0) for task in tasks] == ["slept", "far"]
        with pytest.raises(asynctask.PoolShutdown):
            pool.submit(int)
        assert await pool.aclose() is True

    asyncio.run(main())


def test_leaving_the_block_by_an_exception_waits_too(make_pool):
    """The exception gets through, after what was posted has ended."""

    async def main():
        with pytest.raises(ZeroDivisionError):
            async with make_pool(1) as pool:
                task = pool.post_task(asyncio.sleep, args=(0.01, "slept"))
                raise ZeroDivisionError
        assert task.result(0) == "slept"

    asyncio.run(main())


def test_aclose_gives_up_in_time(make_pool, gate):
    """When the timeout has passed, what is left is cancelled, and the answer is no."""

    async def main():
        pool = make_pool(1)
        running, queued = pool.submit(gate), pool.submit(int)
        await eventually(gate.started.is_set)
        coroutine = asynctask.get_async_task().post_task(asyncio.sleep, args=(900,))
        assert await pool.aclose(0.01) is False
        assert queued.cancelled()
        assert not coroutine.done()
        coroutine.cancel()
        gate.open()
        assert await running == "through"
        with pytest.raises(ValueError, match="timeout"):
            await make_pool(1).aclose(float("nan"))

    asyncio.run(main())


def test_aclose_that_is_cancelled_ends_nothing_more(make_pool, gate):
    """Who no longer waits for the end of a pool leaves what is queued to run."""

    async def main():
        pool = make_pool(1)
        running, queued = pool.submit(gate), pool.submit(int)
        end = asyncio.create_task(pool.aclose())
        await asyncio.sleep(0)
        end.cancel()
        with pytest.raises(asyncio.CancelledError):
            await end
        gate.open()
        assert await running == "through"
        assert await queued == 0

    asyncio.run(main())


def test_a_coroutine_of_the_pool_may_close_it(make_pool):
    """`aclose` in a task of the same pool does not wait for itself; in another pool's it waits."""

    async def main():
        pool, other = make_pool(1), make_pool(1)

        async def close(which):
            return await which.aclose()

        last = other.post_task(asyncio.sleep, args=(0.01,))
        assert await pool.post_task(close, args=(other,)) is True
        assert last.done()
        assert await pool.post_task(close, args=(pool,)) is False
        assert await pool.aclose() is True

    asyncio.run(main())


@pytest.mark.parametrize("end", [shut_down, wait_and_exit])
def test_a_blocking_end_on_a_loop_does_not_hang(make_pool, end, caplog):
    """It does not wait for coroutines of the very loop that it blocks, and says so once."""

    async def main():
        pool = make_pool(1)
        task = pool.post_task(asyncio.sleep, args=(0.01, "slept"))
        with caplog.at_level(logging.WARNING, "asynctask"):
            assert end(pool) is (end is shut_down)
        (record,) = caplog.records
        assert "does not wait for 1 coroutine" in record.message
        assert "async with" in record.message
        # Nobody has cancelled it, but where the answer said so.
        with contextlib.suppress(asyncio.CancelledError):
            assert await task == "slept"
        assert task.cancelled() is (end is wait_and_exit)

    asyncio.run(main())


def test_a_loop_that_does_not_run_is_not_waited_for(make_pool, caplog):
    """A coroutine on a loop that has stopped, or is closed, holds nobody up."""
    loop = asyncio.new_event_loop()
    pool = make_pool(1)

    async def main():
        task = pool.post_task(asyncio.sleep, args=(900,))
        await eventually(lambda: pool.stats().running_elsewhere)
        return task

    task = loop.run_until_complete(main())
    with caplog.at_level(logging.WARNING, "asynctask"):
        pool.shutdown()
    assert "does not wait for 1 coroutine" in caplog.text
    assert not task.done()
    for left in asyncio.all_tasks(loop):
        left.cancel()
    loop.run_until_complete(asyncio.sleep(0.01))
    assert task.cancelled()
    loop.close()


def test_whoever_blocks_a_loop_for_long_is_told(make_pool, gate, caplog):
    """A shutdown that waits on a running loop for workers says what to use instead."""

    async def main():
        pool = make_pool(1)
        pool.submit(gate)
        await eventually(gate.started.is_set)

        class Opener(logging.Handler):
            def emit(self, record):
                gate.open()

        opener = Opener()
        logging.getLogger("asynctask").addHandler(opener)
        try:
            pool.shutdown()  # the gate is opened by what it says
        finally:
            logging.getLogger("asynctask").removeHandler(opener)
        assert "blocks this thread's event loop" in caplog.text

    asyncio.run(main())


def test_the_exit_of_a_program_waits_for_coroutines_of_running_loops(run_python):
    """At exit a coroutine ends as a queued task does; one whose loop has stopped holds nobody."""
    printed = run_python(
        """
        import asyncio, threading
        import asynctask

        running, stopped = asyncio.new_event_loop(), asyncio.new_event_loop()
        threading.Thread(target=running.run_forever, daemon=True).start()
        begun = threading.Event()

        async def slow():
            begun.set()
            await asyncio.sleep(0.2)
            print("done")

        asynctask.post_task(slow, loop=running)
        assert begun.wait(20)

        async def main():
            left_behind = asyncio.Event()

            async def sleep():
                left_behind.set()
                await asyncio.sleep(900)

            task = asynctask.post_task(sleep)
            await left_behind.wait()
            return task

        task = stopped.run_until_complete(main())
        for left in asyncio.all_tasks(stopped):
            left._log_destroy_pending = False
        """
    )
    assert printed == "done\n"


def test_posts_race_with_the_end_and_nothing_is_lost():
    """Whatever is accepted while a pool begins to wait for its delayed tasks has run in the end."""
    for _ in range(50):
        pool = AsyncTaskPool(2)
        ready = threading.Barrier(3)
        accepted = []

        def post(pool=pool, ready=ready, accepted=accepted):
            ready.wait(PATIENCE)
            with contextlib.suppress(asynctask.PoolShutdown):
                while True:
                    accepted.append(pool.submit(int))
                    accepted.append(pool.post_task(int, DelayTask(0.001)))

        threads = [start(post) for _ in range(2)]
        ready.wait(PATIENCE)
        assert pool.wait_and_exit(PATIENCE, delayed="wait") is True
        join(*threads)
        assert all(task.done() and not task.cancelled() for task in accepted)
        stats = pool.stats()
        assert stats.submitted == stats.successful == len(accepted)
