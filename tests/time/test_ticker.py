"""Tickers: a tick for each turn of a loop."""

import asyncio
import gc
import itertools
import sys
import threading
import time

import asynctask
import pytest
from asynctask import IntervalTask, Ticker
from helpers.threads import join, start


@pytest.fixture
def tick(timed):
    """Make tickers on the manual clock."""

    def make(interval, **keywords):
        return Ticker(interval, pool=timed, **keywords)

    return make


def test_a_ticker_counts_its_ticks(tick, clock):
    """Each turn gives the number of the tick, the first being 1."""
    ticks = tick(1)
    assert iter(ticks) is ticks
    seen = []
    for _ in range(3):
        clock.advance(1)
        seen.append(next(ticks))
    assert seen == [1, 2, 3]


def test_a_slow_loop_gets_the_latest_tick(tick, clock):
    """Ticks that nobody took are skipped: the next turn has the number of the latest."""
    ticks = tick(1)
    clock.advance(1)
    assert next(ticks) == 1
    clock.advance(4.5)
    assert next(ticks) == 5
    clock.advance(0.5)
    assert next(ticks) == 6


def test_a_slow_loop_can_get_them_all(tick, clock):
    """With `missed="catch_up"` every tick is had, one by one."""
    ticks = tick(1, missed="catch_up")
    clock.advance(4)
    assert [next(ticks) for _ in range(4)] == [1, 2, 3, 4]


def test_a_ticker_costs_no_worker(tick, timed, clock):
    """Ticks that nobody waits for take no worker and no run."""
    ticks = tick(0.001)
    clock.advance(1)
    stats = timed.stats()
    assert (stats.running_workers, stats.idle_workers) == (0, 0)
    assert next(ticks) == 1000


def test_stop_ends_the_loop(tick, clock):
    """A loop over a stopped ticker ends after the ticks that have been."""
    ticks = tick(1)
    seen = []
    clock.advance(1)
    for number in ticks:
        seen.append(number)
        if number == 3:
            ticks.stop()
        else:
            clock.advance(1)
    assert seen == [1, 2, 3]
    assert list(ticks) == []
    ticks.stop()


def test_stop_wakes_a_loop_that_waits(tick):
    """A loop that waits for a tick is ended by `stop` from another thread."""
    ticks = tick(1000)
    seen = []
    thread = start(lambda: seen.append(list(ticks)))
    ticks.stop()
    thread.join(20)
    assert seen == [[]]


@pytest.mark.parametrize("keywords", [{"max_runs": 3}, {"until": 3}, {"until": 3.5}], ids=str)
def test_a_ticker_ends_as_a_series_does(tick, clock, keywords):
    """A ticker takes the keywords of `IntervalTask`."""
    ticks = tick(1, missed="catch_up", **keywords)
    clock.advance(100)
    assert list(ticks) == [1, 2, 3]


def test_a_jump_is_caught_up_or_not(tick, clock, until):
    """After a stall the ticker goes on in phase; what went by is skipped or had, as asked."""
    skipping, catching = tick(1), tick(1, missed="catch_up")
    clock.jump(4.5)
    assert next(skipping) == 1
    assert [next(catching) for _ in range(4)] == [1, 2, 3, 4]
    clock.advance(0.5)
    assert next(skipping) == 2
    assert next(catching) == 5


class TickAfterALook:
    """The ticks of a ticker whose last tick comes just after somebody has found none."""

    def __init__(self, ticks, clock):
        self._ticks, self._clock = ticks, clock

    def take(self, task):
        number = self._ticks.take(task)
        if number is None and not task.done():
            self._clock.advance(1)
        return number

    @property
    def given(self):
        return self._ticks.given


@pytest.mark.parametrize("kind", ["for", "async for"])
def test_a_last_tick_is_had_though_it_comes_after_the_look(tick, clock, kind):
    """A tick that ends the series while a loop finds none is had all the same."""
    ticks = tick(1, max_runs=1)
    ticks._ticks = TickAfterALook(ticks._ticks, clock)

    async def loop():
        return [number async for number in ticks]

    assert (list(ticks) if kind == "for" else asyncio.run(loop())) == [1]


def test_a_loop_sleeps_until_the_tick_after_its_last(tick, clock, until, monkeypatch):
    """A loop that has had the latest tick waits for one that has not been, and does not spin."""
    wanted, wait = [], asynctask.AsyncTask.wait_for_finished_count

    def noted(task, count, *arguments):
        wanted.append(count)
        assert len(wanted) < 10, "it spins"
        return wait(task, count, *arguments)

    monkeypatch.setattr(asynctask.AsyncTask, "wait_for_finished_count", noted)
    ticks, seen = tick(1), []
    thread = start(lambda: seen.extend(ticks))
    for number in (1, 2, 3):
        until(lambda number=number: len(wanted) >= number)
        clock.advance(1)
    until(lambda: len(wanted) >= 4)
    ticks.stop()
    thread.join(20)
    assert (seen, wanted) == ([1, 2, 3], [1, 2, 3, 4])


@pytest.fixture
def switching():
    """Have threads switch as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("missed", ["catch_up", "skip"])
def test_two_loops_share_a_ticker(tick, clock, until, missed):
    """Of loops that wait for the same tick one gets it, and the others the next."""
    ticks = tick(1, missed=missed, max_runs=200)
    seen = [[], [], []]
    threads = [start(lambda own=own: own.extend(ticks)) for own in seen]
    for number in range(1, 201):
        clock.advance(1)
        until(lambda number=number: ticks._ticks.given >= number)
    join(*threads)
    assert sorted(itertools.chain(*seen)) == list(range(1, 201))
    assert all(own == sorted(own) for own in seen)


@pytest.mark.usefixtures("switching")
@pytest.mark.parametrize("missed", ["catch_up", "skip"])
def test_ticks_that_have_been_are_shared_too(tick, clock, missed):
    """However many loops take what a stall has left, each tick is had once."""
    ticks = tick(1, missed=missed, max_runs=3000)
    clock.advance(3000)
    barrier, seen = threading.Barrier(4), [[] for _ in range(4)]

    def loop(own):
        barrier.wait(20)
        own.extend(ticks)

    threads = [start(loop, own) for own in seen]
    join(*threads)
    had = sorted(itertools.chain(*seen))
    assert had == (list(range(1, 3001)) if missed == "catch_up" else [3000])
    assert all(own == sorted(own) for own in seen)


def test_loops_of_two_kinds_share_a_ticker(tick, clock, until):
    """Coroutines of one loop, and those of another, and threads share ticks as well."""
    ticks = tick(1, missed="catch_up", max_runs=100)
    seen = [[] for _ in range(5)]

    async def loop(own):
        async for number in ticks:
            own.append(number)

    async def both(one, other):
        await asyncio.gather(loop(one), loop(other))

    threads = [
        threading.Thread(target=lambda: asyncio.run(both(*seen[:2]))),
        threading.Thread(target=lambda: asyncio.run(both(*seen[2:4]))),
        threading.Thread(target=lambda: seen[4].extend(ticks)),
    ]
    for thread in threads:
        thread.start()
    for number in range(1, 101):
        clock.advance(1)
        until(lambda number=number: ticks._ticks.given >= number)
    join(*threads)
    assert sorted(itertools.chain(*seen)) == list(range(1, 101))
    assert all(own == sorted(own) for own in seen)


def test_a_ticker_that_nobody_has_ends(tick, timed, until):
    """A ticker stops ticking with its last reference."""
    ticks = tick(1)
    series = ticks._task
    assert timed.stats().pending_timers == 1
    del ticks
    gc.collect()
    until(series.cancelled)
    assert timed.stats().pending_timers == 0


@pytest.mark.usefixtures("default_pool")
def test_a_loop_that_is_left_leaves_no_ticks():
    """After `break`, or an exception, nothing goes on ticking; the one in use does."""
    kept = asynctask.ticker(0.001)

    async def loop():
        async for _ in asynctask.ticker(0.001):
            break

    for _ in range(10):
        for _ in asynctask.ticker(0.001):
            break
        asyncio.run(loop())
    with pytest.raises(LookupError):
        for _ in asynctask.ticker(0.001):
            raise LookupError
    gc.collect()
    stats = asynctask.get_async_task().stats()
    assert stats.cancelled == 21
    assert next(kept) < next(kept)
    kept.stop()


def test_a_ticker_that_could_not_be_made_says_nothing_more(tick):
    """What a refused ticker leaves is gone without a word."""
    with pytest.raises(ValueError, match="interval"):
        tick(0)
    gc.collect()


@pytest.mark.parametrize("how", ["stop", "shutdown", "cancel"])
def test_the_end_wakes_a_coroutine_that_waits(timed, clock, how):
    """A coroutine that waits for a tick far away is told when there will be none."""
    ticks = Ticker(1000, pool=timed)

    async def main():
        seen = asyncio.ensure_future(loop())
        await asyncio.sleep(0.01)
        assert not seen.done()
        {"stop": ticks.stop, "shutdown": timed.shutdown, "cancel": ticks._task.cancel}[how]()
        assert await asyncio.wait_for(seen, 20) == []

    async def loop():
        return [number async for number in ticks]

    ticks._is_by_hand = False  # as on the system's clock: it sleeps until the tick
    asyncio.run(main())


def test_a_coroutine_that_waits_hears_of_a_clock_that_is_moved(tick, clock):
    """`async for` follows the clock of the ticker's pool."""
    ticks = tick(1000)

    async def main():
        waiting = asyncio.ensure_future(anext(ticks))
        await asyncio.sleep(0.01)
        clock.jump(999)
        await asyncio.sleep(0.01)
        assert not waiting.done()
        clock.jump(1)
        assert await asyncio.wait_for(waiting, 20) == 1

    asyncio.run(main())


def test_shutdown_ends_a_ticker(tick, timed):
    """A ticker ends with its pool."""
    ticks = tick(1000)
    timed.shutdown()
    assert list(ticks) == []


@pytest.mark.usefixtures("default_pool")
def test_ticks_are_not_early_really():
    """On the real clock no tick is early, and `ticker` takes what `IntervalTask` takes."""
    began = time.monotonic()
    at = [time.monotonic() for _ in asynctask.ticker(0.01, missed="catch_up", max_runs=10)]
    assert len(at) == 10
    assert all(t - began >= n * 0.01 for n, t in enumerate(at, 1))
    with pytest.raises(TypeError, match="nonsense"):
        asynctask.ticker(1, nonsense=1)


@pytest.mark.usefixtures("default_pool")
def test_a_ticker_in_a_coroutine():
    """`async for` waits for ticks without blocking the loop."""

    async def main():
        others = []

        async def other():
            for _ in range(5):
                await asyncio.sleep(0)
                others.append(None)

        task = asyncio.ensure_future(other())
        began = time.monotonic()
        ticks = asynctask.ticker(0.005, missed="catch_up", max_runs=3)
        seen = [(number, time.monotonic()) async for number in ticks]
        await task
        assert [number for number, _ in seen] == [1, 2, 3]
        assert all(at - began >= number * 0.005 for number, at in seen)
        assert len(others) == 5

    asyncio.run(main())


def test_a_ticker_in_a_callback_of_the_only_worker(one):
    """A callback may loop over a ticker, though it holds the only worker."""
    ticks = Ticker(0.001, pool=one, max_runs=3, missed="catch_up")
    assert one.submit(list, ticks).result(20) == [1, 2, 3]


def test_a_ticker_beside_a_series(timed, clock):
    """A ticker and a series of the same period have the same ticks."""
    ticks = Ticker(0.25, pool=timed, missed="catch_up")
    series = timed.post_task(int, IntervalTask(0.25))
    clock.advance(10)
    assert series.called_times() == 40
    assert [next(ticks) for _ in range(40)] == list(range(1, 41))
