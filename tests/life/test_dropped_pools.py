"""A pool that nobody has any more: what was posted runs, and then its threads leave at once."""

import concurrent.futures as cf
import gc
import threading

import pytest
from asynctask import AsyncTaskPool, DelayTask, IntervalTask

FOREVER = 10_000
"""Nobody waits for this idle timeout."""


@pytest.fixture
def threads(run_python):
    """Count, in a program of its own, the threads that a dropped pool leaves behind."""

    def count(use, keywords="max_workers=4", **printed):
        return run_python(
            f"""
            import gc, os, time
            from asynctask import AsyncTaskPool, DelayTask, IntervalTask, Ticker, current_task

            def use_and_drop():
                pool = AsyncTaskPool(idle_timeout={FOREVER}, {keywords})
                kept = []
                {use}
                return kept

            def threads():
                return len(os.listdir("/proc/self/task"))

            before = threads()
            kept = [use_and_drop() for _ in range(5)]
            end = time.monotonic() + 30
            while threads() > before and time.monotonic() < end:
                time.sleep(0.002)
            print(threads() - before)
            """,
            **printed,
        )

    return count


USES = {
    "new": "pass",
    "used": "[task.result(20) for task in [pool.submit(time.sleep, 0.001) for _ in range(9)]]",
    "still running": "[pool.submit(time.sleep, 0.05) for _ in range(9)]",
    "delayed": "kept.append(pool.post_task(int, DelayTask(0.05)))",
    "used, and delayed": "[pool.submit(time.sleep, 0.01) for _ in range(9)]; "
    "pool.post_task(int, DelayTask(0.05))",
    "delayed and cancelled": "pool.post_task(int, DelayTask(1000)).cancel()",
    "series": "pool.post_task(int, IntervalTask(0.005, max_runs=5))",
    "series that stops": "kept.append(pool.post_task("
    "lambda: current_task().stop(), IntervalTask(0.005)))",
    "after": "pool.after(0.01)",
    "after, waited for": "pool.after(0.001).result(20)",
    "ticker": "next(t := Ticker(0.001, pool=pool)); t.stop()",
    "failed": "pool.submit(int, 'x').exception(20)",
    "waits in a callback": "pool.submit(lambda: pool.submit(int).result(20)).result(20)",
    "initializer fails": "pool.submit(int).exception(20)",
    "handed over": "pool.submit(int).result(20)",
    "cycle": "pool.me = pool; pool.submit(int).result(20); del pool; gc.collect()",
}
KEYWORDS = {
    "initializer fails": "initializer=int, initargs=('x',)",
    "handed over": "executor=__import__('asynctask').get_async_task()",
}


@pytest.mark.parametrize("use", USES)
def test_the_threads_of_a_dropped_pool_leave(threads, use):
    """Workers and timer thread leave when the last task is over, not after `idle_timeout`."""
    left = {"handed over": 2}.get(use, 0)  # the default pool's own
    printed = {"stderr": None} if use == "initializer fails" else {}  # that it has failed
    assert int(threads(USES[use], KEYWORDS.get(use, "max_workers=4"), **printed)) <= left


def test_min_workers_do_not_stay(threads):
    """`min_workers` are for who may still post."""
    use = "pool.submit(int).result(20)"
    assert int(threads(use, "max_workers=4, min_workers=3")) == 0


def test_a_series_keeps_its_worker():
    """While a task is left one idle worker stays: a series is not a new thread for each run."""
    prepared = []
    pool = AsyncTaskPool(4, initializer=prepared.append, initargs=(1,), idle_timeout=FOREVER)
    names = set()
    series = pool.post_task(
        lambda: names.add(threading.current_thread().name), IntervalTask(0.002, max_runs=20)
    )
    del pool
    series.result(20)
    assert (len(names), prepared) == (1, [1])


def test_what_was_posted_runs():
    """Queued, delayed and periodic tasks of a pool that is gone run as they would have."""
    gate = threading.Event()
    pool = AsyncTaskPool(2, idle_timeout=FOREVER)
    tasks = [pool.submit(gate.wait, 20) for _ in range(2)]
    tasks += [pool.submit(int) for _ in range(10)]
    tasks += [pool.post_task(int, DelayTask(0.01)), pool.post_task(int, DelayTask(0))]
    tasks += [pool.post_task(int, IntervalTask(0.001, max_runs=3))]
    del pool
    gc.collect()
    gate.set()
    cf.wait(tasks, 20)
    assert [task.result(0) for task in tasks] == [True] * 2 + [0] * 13
