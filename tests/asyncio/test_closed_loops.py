"""Loops that are closed, or gone, under the tasks that were to run on them."""

import asyncio
import gc
import queue
import weakref

import pytest
from asynctask import DelayTask, IntervalTask
from helpers.threads import start

PATIENCE = 30


def test_a_loop_that_goes_away_is_not_missed(new_loop, one, gate, caplog):
    """A task that is over after the loop which awaited it is closed ends as ever."""
    held = one.submit(gate)
    loop = new_loop()

    async def wait():
        await held

    waiting = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gate.open()
    assert held.result(20) == "through"
    assert one.submit(int).result(20) == 0
    waiting._log_destroy_pending = False
    assert caplog.records == []


def test_cancelling_what_is_on_a_closed_loop(new_loop, pool, collected):
    """A coroutine whose loop is closed cannot be cancelled, and the handle says so."""
    loop = new_loop()
    begun = []

    async def coroutine(loop):
        begun.append(asyncio.current_task())
        await loop.create_future()

    task = pool.post_task(coroutine, args=(loop,), loop=loop)
    while not begun:
        loop.run_until_complete(asyncio.sleep(0.001))
    begun.pop()._log_destroy_pending = False
    loop.close()
    assert task.cancel() is False
    assert not task.cancelled()
    reference = weakref.ref(loop)
    del loop
    collected(reference)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        task.result(20)


def test_a_loop_that_is_closed_before_the_task_is_due(new_loop, make_pool, clock):
    """The handle of a coroutine that was to run on a closed loop fails and says why."""
    pool = make_pool(1, clock=clock)
    loop = new_loop()

    async def coroutine():
        pass

    later = pool.post_task(coroutine, DelayTask(1), loop=loop)
    series = pool.post_task(coroutine, IntervalTask(1, on_error="stop"), loop=loop)
    loop.close()
    clock.advance(1)
    for task in (later, series, pool.post_task(coroutine, loop=loop)):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            task.result(20)


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_series_whose_loop_is_closed(new_loop, make_pool, clock, caplog, is_gone):
    """It ends as failed, and says so once; its ticks add up."""
    pool = make_pool(1, clock=clock)
    loop = new_loop()

    async def beat():
        pass

    series = pool.post_task(beat, IntervalTask(1), loop=loop, name="beat")
    loop.close()
    if is_gone:
        reference = weakref.ref(loop)
        del loop
        gc.collect()
        assert reference() is None, "a series keeps its loop alive"
    clock.advance(5)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        series.result(20)
    clock.advance(5)
    assert [record.getMessage() for record in caplog.records] == [
        "exception in a run of task 'beat'"
    ]
    stats = pool.stats()
    assert (series.called_times(), stats.skipped_runs, stats.missed_runs) == (1, 0, 0)
    assert (stats.failed, stats.pending_timers, stats.running_elsewhere) == (1, 0, 0)


def test_a_loop_that_refuses_a_run(new_loop, make_pool, clock, caplog):
    """Whatever else goes wrong there is a failing run, and the series goes on."""
    pool = make_pool(1, clock=clock)
    plain = new_loop()

    class Stubborn(type(plain)):
        is_stubborn = True

        def call_soon_threadsafe(self, *args, **keywords):
            if self.is_stubborn:
                raise RuntimeError("by hand")
            return super().call_soon_threadsafe(*args, **keywords)

    plain.close()
    loop = Stubborn()

    runs = []

    async def beat():
        runs.append(1)

    series = pool.post_task(beat, IntervalTask(1), loop=loop)
    clock.advance(2)
    series.wait_for_finished_count(2, 20)
    assert (series.done(), len(caplog.records)) == (False, 2)
    loop.is_stubborn = False  # what it has refused does not come back
    clock.jump(1)
    while series.called_times() < 3:
        loop.run_until_complete(asyncio.sleep(0.001))
    assert (series.done(), len(caplog.records), runs) == (False, 2, [1])
    series.cancel()
    loop.close()


def test_a_loop_that_is_closed_under_the_run_of_a_series(new_loop, one, caplog, collected):
    """When the loop is gone, the series ends as failed, and says so once."""
    loop = new_loop()
    started = []

    async def beat(loop):
        started.append(asyncio.current_task())
        await loop.create_future()

    series = one.post_task(beat, IntervalTask(0.001), args=(weakref.proxy(loop),), loop=loop)
    while not started:
        loop.run_until_complete(asyncio.sleep(0.001))
    started.pop()._log_destroy_pending = False
    loop.close()
    reference = weakref.ref(loop)
    del loop
    collected(reference)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        series.result(PATIENCE)
    assert [record.name for record in caplog.records] == ["asynctask"]


def test_a_loop_that_is_gone_before_the_task_is_due(new_loop, make_pool, clock):
    """A task that waits for its deadline does not keep its loop alive, and fails without it."""
    pool = make_pool(1, clock=clock)
    loop = new_loop()

    async def coroutine():
        pass

    async def wait(task):
        await task

    task = pool.post_task(coroutine, DelayTask(1), loop=loop)
    waiting = loop.create_task(wait(task))
    loop.run_until_complete(asyncio.sleep(0))
    waiting._log_destroy_pending = False
    loop.close()
    reference = weakref.ref(loop)
    del loop, waiting
    gc.collect()
    assert reference() is None, "a task keeps its loop alive"
    clock.advance(1)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        task.result(20)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("begun", [True, False])
def test_a_loop_that_is_closed_under_a_task(  # noqa: PLR0917  # they are fixtures
    new_loop, one, begun, caplog, until, collected
):
    """Who waits for a coroutine whose loop is closed and gone is told so."""
    loop = new_loop()
    started = []

    class Owner:
        """Holds the loop, as objects of asynchronous programs do."""

        def __init__(self, loop):
            self.loop = loop

        async def wait(self):
            started.append(self)
            await self.loop.create_future()

    task = one.post_task(Owner(loop).wait, loop=loop)
    until(task.running)
    if begun:
        while not started:
            loop.run_until_complete(asyncio.sleep(0.001))
    assert task.running()
    caught = queue.Queue()

    def wait():
        try:
            task.result(PATIENCE)
        except BaseException as error:
            caught.put(error)

    thread = start(wait)
    loop.close()
    reference = weakref.ref(loop)
    started.clear()
    del loop
    collected(reference)
    error = caught.get(timeout=PATIENCE)
    assert isinstance(error, RuntimeError)
    assert str(error) == "Event loop is closed"
    thread.join(PATIENCE)
    # That a coroutine was pending is asyncio's to say.
    assert {record.name for record in caplog.records} <= {"asyncio"}
