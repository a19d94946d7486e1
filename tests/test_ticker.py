"""Tickers: a tick for each turn of a loop."""

import asyncio
import threading
import time

import asynctask
import pytest
from asynctask import IntervalTask, Ticker


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
    thread = threading.Thread(target=lambda: seen.append(list(ticks)))
    thread.start()
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


def test_two_loops_share_a_ticker(tick, clock):
    """A tick is had once, whoever takes it."""
    ticks = tick(1, missed="catch_up", max_runs=100)
    clock.advance(100)
    seen = []
    threads = [threading.Thread(target=lambda: seen.extend(ticks)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(set(seen)) == list(range(1, 101))


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
        ticks = asynctask.ticker(0.005, missed="catch_up", max_runs=3)
        began = time.monotonic()
        seen = [(number, time.monotonic()) async for number in ticks]
        await task
        assert [number for number, _ in seen] == [1, 2, 3]
        assert all(at - began >= number * 0.005 for number, at in seen)
        assert len(others) == 5

    asyncio.run(main())


def test_a_ticker_in_a_callback_of_the_only_worker(make_pool):
    """A callback may loop over a ticker, though it holds the only worker."""
    pool = make_pool(1)
    ticks = Ticker(0.001, pool=pool, max_runs=3, missed="catch_up")
    assert pool.submit(list, ticks).result(20) == [1, 2, 3]


def test_a_ticker_beside_a_series(timed, clock):
    """A ticker and a series of the same period have the same ticks."""
    ticks = Ticker(0.25, pool=timed, missed="catch_up")
    series = timed.post_task(int, IntervalTask(0.25))
    clock.advance(10)
    assert series.called_times() == 40
    assert [next(ticks) for _ in range(40)] == list(range(1, 41))
