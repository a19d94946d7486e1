"""A million delays at once."""

import json

import pytest


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_million_delays_half_of_them_cancelled(run_python):
    """Each delay that was not cancelled runs exactly once, none early, and the memory comes back."""
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
            tasks = []
            for number in range(count):
                delay = 1 + choose.random() * 3
                deadlines[number] = time.monotonic() + delay
                tasks.append(pool.post_task(run, DelayTask(delay), args=(number,)))
            peak = resident()
            order = list(range(count))
            choose.shuffle(order)
            cancelled = {number for number in order[: count // 2] if tasks[number].cancel()}
            for number, task in enumerate(tasks):
                if number not in cancelled:
                    task.wait_for_finished(60)
            return cancelled, peak

        round_of(10_000)  # what is made once is made now
        ran[:] = bytes(COUNT)
        early = 0
        gc.collect()
        before = resident()
        cancelled, peak = round_of(COUNT)
        stats = pool.stats()
        print(json.dumps({
            "cancelled": len(cancelled),
            "cancelled_and_ran": sum(1 for number in cancelled if ran[number]),
            "ran_once": ran.count(1),
            "ran_more": COUNT - ran.count(0) - ran.count(1),
            "early": early,
            "pending": stats.pending_timers,
            "waiting": stats.waiting,
            "sum": [stats.submitted, stats.completed + stats.cancelled],
        }))
        del cancelled
        gc.collect()
        assert pool.wait_and_exit(30)
        print(before, peak, resident())
        """
    )
    counts, memory = printed.splitlines()
    counts = json.loads(counts)
    # Posting takes seconds on a slow machine, and a delay that has passed cannot be cancelled.
    assert counts["cancelled"] > 100_000
    assert counts["ran_once"] == 1_000_000 - counts["cancelled"]
    assert counts["ran_more"] == counts["cancelled_and_ran"] == counts["early"] == 0
    assert counts["pending"] == counts["waiting"] == 0
    assert counts["sum"] == [1_010_000, 1_010_000]
    before, peak, after = map(int, memory.split())
    assert peak - before > 100_000_000  # there was something to give back
    assert after - before < (peak - before) / 4


@pytest.mark.timeout(120)
def test_a_million_delays_on_the_manual_clock(run_python):
    """In exact time too: half are cancelled, the others run once each, and never early."""
    printed = run_python(
        """
        import random
        from asynctask import AsyncTaskPool, DelayTask
        from asynctask.testing import ManualClock

        COUNT = 1_000_000
        clock = ManualClock()
        pool = AsyncTaskPool(2, clock=clock)
        choose = random.Random(1)
        ran = bytearray(COUNT)
        run = ran.__setitem__
        post = pool.post_task
        delays = [DelayTask(choose.randrange(1, 11)) for _ in range(COUNT)]
        tasks = [post(run, delays[number], args=(number, 1)) for number in range(COUNT)]
        order = list(range(COUNT))
        choose.shuffle(order)
        assert all(tasks[number].cancel() for number in order[: COUNT // 2])
        assert pool.stats().pending_timers == COUNT // 2
        left = order[COUNT // 2 :]
        for second in range(1, 11):
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
    assert printed.split() == ["1000000", "500000", "500000", "0"]
