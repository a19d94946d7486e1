"""A million delays at once."""

import json

import pytest


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_million_delays_half_of_them_cancelled(run_python):
    """Each that was not cancelled runs exactly once, none early, and the memory comes back."""
    printed = run_python(
        """
        import gc, json, random, time
        from array import array
        import asynctask
        from asynctask import AsyncTaskPool, DelayTask

        COUNT = 1_000_000
        PAGE = 4096

        def resident():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * PAGE

        pool = AsyncTaskPool(2)
        ran = bytearray(COUNT)
        # An array, for a list's floats would lie between the tasks and keep their memory.
        deadlines = array("d", bytes(8 * COUNT))
        early = 0

        def run(number, monotonic=time.monotonic):
            global early
            if monotonic() < deadlines[number]:
                early += 1
            ran[number] += 1

        def round_of(count):
            choose = random.Random(count)
            # An hour ahead, so that however slow the machine, none is due when it is cancelled.
            tasks = [
                pool.post_task(run, DelayTask(3600 + choose.random() * 3600), args=(number,))
                for number in range(count)
            ]
            peak = resident()
            order = list(range(count))
            choose.shuffle(order)
            assert all(tasks[number].cancel() for number in order[: count // 2])
            assert pool.stats().pending_timers == count - count // 2
            left = order[count // 2 :]
            for number in left:
                delay = choose.random() * 2
                deadlines[number] = time.monotonic() + delay
                assert tasks[number].reschedule(delay)
            for number in left:
                tasks[number].wait_for_finished(60)
            assert all(ran[number] == 0 for number in order[: count // 2])
            return peak

        round_of(10_000)  # what is made once is made now
        ran[:] = bytes(COUNT)
        early = 0
        gc.collect()
        before = resident()
        peak = round_of(COUNT)
        stats = pool.stats()
        print(json.dumps({
            "ran_once": ran.count(1),
            "ran_more": COUNT - ran.count(0) - ran.count(1),
            "early": early,
            "pending": stats.pending_timers,
            "waiting": stats.waiting,
            "successful": stats.successful,
            "cancelled": stats.cancelled,
        }))
        gc.collect()
        assert pool.wait_and_exit(30)
        print(before, peak, resident())
        """
    )
    counts, memory = printed.splitlines()
    counts = json.loads(counts)
    assert counts == {
        "ran_once": 500_000,
        "ran_more": 0,
        "early": 0,
        "pending": 0,
        "waiting": 0,
        "successful": 505_000,
        "cancelled": 505_000,
    }
    before, peak, after = map(int, memory.split())
    assert peak - before > 100_000_000  # there was something to give back
    assert after - before < (peak - before) / 4


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(120)
def test_a_million_delays_on_the_manual_clock(run_python, count):
    """In exact time too: half are cancelled, the others run once each, and never early."""
    printed = run_python(
        f"""
        import random
        from asynctask import AsyncTaskPool, DelayTask
        from asynctask.testing import ManualClock

        COUNT = {count}
        clock = ManualClock()
        pool = AsyncTaskPool(2, clock=clock)
        choose = random.Random(1)
        ran = bytearray(COUNT)
        run = ran.__setitem__
        post = pool.post_task
        delays = [DelayTask(choose.randrange(1, 4)) for _ in range(COUNT)]
        tasks = [post(run, delays[number], args=(number, 1)) for number in range(COUNT)]
        order = list(range(COUNT))
        choose.shuffle(order)
        assert all(tasks[number].cancel() for number in order[: COUNT // 2])
        assert pool.stats().pending_timers == COUNT // 2
        left = order[COUNT // 2 :]
        for second in range(1, 4):
            clock.advance(0.999999999, patience=60)
            assert sum(ran) == sum(1 for n in left if delays[n].delay < second)
            clock.advance(0.000000001, patience=60)
            assert sum(ran) == sum(1 for n in left if delays[n].delay <= second)
        assert all(ran[number] for number in left)
        assert sum(task.called_times() for task in tasks) == COUNT // 2
        stats = pool.stats()
        print(stats.submitted, stats.successful, stats.cancelled, stats.pending_timers)
        """
    )
    assert printed.split() == [f"{count}", f"{count // 2}", f"{count // 2}", "0"]
