"""What a million tasks leave behind: nothing.

Each way to post and to wait is a program of its own. It runs a batch until memory no longer grows,
which is the warm-up, and then many more batches, after which all is as it was: references, objects,
threads, file descriptors exactly, and memory but for the noise of allocators.
"""

import textwrap
from pathlib import Path

import pytest
from helpers.programs import run_program

STATUS = Path("/proc/self/status")

pytestmark = pytest.mark.skipif(not STATUS.is_file(), reason="reads /proc")

# One batch of each way posts and settles `N` tasks.
WAYS = {
    "submit and result": """
        for _ in range(N):
            assert pool.submit(callback, argument).result(30) is result
    """,
    "submit many, then result": """
        for task in [pool.submit(callback, argument) for _ in range(N)]:
            assert task.result(30) is result
    """,
    "fire and forget": """
        for _ in range(N):
            pool.post_task(callback, args=arguments)
    """,
    "keywords, name and context": """
        for _ in range(N):
            pool.post_task(
                callback, args=arguments, kwargs={"key": argument}, name="named", context=context
            )
    """,
    "delay and cancel": """
        for task in [pool.post_task(callback, DelayTask(1000), args=arguments) for _ in range(N)]:
            assert task.cancel()
    """,
    "delay and drop": """
        for _ in range(N):
            pool.post_task(callback, DelayTask(1000), args=arguments).stop()
    """,
    "delay and run": """
        for task in [pool.post_task(callback, DelayTask(0.001), args=arguments) for _ in range(N)]:
            assert task.result(30) is result
    """,
    "reschedule": """
        tasks = [pool.post_task(callback, DelayTask(1000), args=arguments) for _ in range(N)]
        for task in tasks:
            task.reschedule(0)
        for task in tasks:
            assert task.result(30) is result
    """,
    "series": """
        tasks = [
            pool.post_task(callback, IntervalTask(0.001, max_runs=4), args=arguments)
            for _ in range(N // 4)
        ]
        for task in tasks:
            task.wait_for_finished_count(2, 30)
            task.stop_and_wait(30)
        del task, tasks
    """,
    "group": """
        for _ in range(N // 50):
            with pool.group() as group:
                for _ in range(50):
                    group.submit(callback, argument)
            assert group.results()[0] is result
    """,
    "group that fails": """
        for _ in range(N // 10):
            try:
                with pool.group() as group:
                    group.submit(fail, argument)
                    for _ in range(9):
                        group.post_task(callback, DelayTask(1000), args=arguments)
            except (ZeroDivisionError, ExceptionGroup):
                pass
    """,
    "map": """
        for one in pool.map(callback, [argument] * N):
            assert one is result
        for one in pool.map(callback, [argument] * N, buffersize=10):
            break
    """,
    "await": """
        async def main():
            for task in [pool.submit(callback, argument) for _ in range(N)]:
                assert await task is result
            await asyncio.gather(*[pool.submit(callback, argument) for _ in range(100)])
        asyncio.run(main())
    """,
    "coroutine functions": """
        async def coroutine(argument):
            return callback(argument)
        async def main():
            for task in [pool.submit(coroutine, argument) for _ in range(N // 4)]:
                assert await task is result
        asyncio.run(main())
        del coroutine, main
    """,
    "done-callbacks": """
        for _ in range(N):
            pool.submit(callback, argument).add_done_callback(done)
    """,
    "as_completed": """
        for task in as_completed([pool.submit(callback, argument) for _ in range(N)], 30):
            assert task.result(0) is result
        wait([pool.submit(callback, argument) for _ in range(N // 10)], 30)
    """,
    "failures": """
        for task in [pool.submit(fail, argument) for _ in range(N)]:
            assert type(task.exception(30)) is ZeroDivisionError
        for task in [pool.submit(fail, argument) for _ in range(N // 10)]:
            try:
                task.result(30)
            except ZeroDivisionError:
                pass
    """,
    "failures that nobody looks at": """
        for _ in range(N):
            pool.submit(fail, argument)
    """,
    "waits that time out": """
        task = pool.post_task(callback, DelayTask(1000), args=arguments)
        for _ in range(N // 20):
            try:
                task.result(0)
            except TimeoutError:
                pass
        task.cancel()
    """,
    "after": """
        for task in [asynctask.after(0.001) for _ in range(N)]:
            task.result(30)
    """,
    "a full queue": """
        for policy in policies:
            for _ in range(N // 4):
                try:
                    policy.submit(callback, argument)
                except asynctask.QueueFull:
                    pass
    """,
    "nested waits": """
        def outer():
            return pool.submit(callback, argument).result(30)
        # Each wait lends a worker. A few at a time, for threads are slow to start by the thousand;
        # and once many.
        for wave in [5] * (N // 20) + [100]:
            for task in [pool.submit(outer) for _ in range(wave)]:
                assert task.result(30) is result
        del outer, task
    """,
    "an executor": """
        post = functools.partial(pool.post_task, executor=stdlib, args=arguments)
        for task in [post(callback) for _ in range(N // 4)]:
            assert task.result(30) is result
    """,
    "pools": """
        for _ in range(N // 200):
            with AsyncTaskPool(2, initializer=initializer, initargs=arguments) as one:
                one.submit(callback, argument)
                one.post_task(callback, DelayTask(1000), args=arguments)
                one.post_task(callback, IntervalTask(0.001), args=arguments)
            one = AsyncTaskPool(2, initializer=initializer, initargs=arguments, idle_timeout=0)
            one.submit(callback, argument)
            one.post_task(callback, DelayTask(0.001), args=arguments)
            del one
    """,
    "tickers": """
        for _ in range(N // 100):
            ticker = asynctask.ticker(0.0001)
            next(ticker)
            ticker.stop()
            del ticker
    """,
    "cycles": """
        for _ in range(N):
            cycle = []
            cycle.append(pool.submit(callback, argument, cycle))
        del cycle
        gc.collect()
    """,
}

PROGRAM = """
import asyncio, contextvars, functools, gc, logging, os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
import asynctask
from asynctask import AsyncTaskPool, DelayTask, IntervalTask

logging.disable(logging.CRITICAL)
N, BATCHES = {number}, {batches}

class Thing:
    pass

argument, result = Thing(), Thing()
arguments = (argument,)
context = None

def callback(argument, *_, key=None):
    return result

def fail(argument):
    1 / 0

def done(task):
    assert task.result(0) is result

def initializer(argument):
    pass

pool = AsyncTaskPool(4)
stdlib = ThreadPoolExecutor(2)
policies = [
    AsyncTaskPool(1, queue_size=2, on_full=policy)
    for policy in ("block", "raise", "drop_newest", "drop_oldest", "caller_runs")
]
asynctask.after(0).result(30)

def batch():
    {way}

def settle():
    "Let go of what is still on its way: workers and timers that hold a task for a moment more."
    # What the timer thread has done with is dropped by the next who waits: it cannot itself.
    asynctask.post_task(int).result(30)
    end = time.monotonic() + 60
    for one in (pool, asynctask.get_async_task(), *policies):
        while True:
            stats = one.stats()
            if not (stats.running_workers or stats.waiting or stats.pending_timers):
                break
            assert time.monotonic() < end, stats
            time.sleep(0.001)

def references():
    watched = (argument, result, arguments, callback, fail, done, initializer, None, context)
    return [sys.getrefcount(thing) for thing in watched]

OURS = {
    Thing, asynctask.AsyncTask, AsyncTaskPool, asynctask.TaskGroup, asynctask.Ticker,
}

def exact():
    gc.collect()
    return {
        # Immortal from 3.12 on; before, other parts of the program use it too.
        **{f"reference {k}": n for k, n in enumerate(references()) if k not in (7, 8)},
        "ours": sum(type(thing) in OURS for thing in gc.get_objects()),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }

def rough():
    return {
        "None": sys.getrefcount(None) if sys.version_info < (3, 12) else 0,
        "objects": len(gc.get_objects()),
    }

def threads():
    "Those that are there; the pools that stay may still have a few to start."
    return {"threads": len(os.listdir("/proc/self/task"))}

def memory():
    "Resident memory that is nobody else's, in KiB."
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

def same(look, before, above, below=10**9):
    "What is on its way has a moment to arrive; some of it may have been there before as well."
    end = time.monotonic() + 30
    while True:
        settle()
        now = look()
        if all(before[key] - below <= now[key] <= before[key] + above for key in before):
            return
        assert time.monotonic() < end, (before, now)
        time.sleep(0.01)

batch()
settle()
time.sleep(0.05)
first, second, third = exact(), rough(), threads()
# Warm-up: until two batches in a row have not needed more.
high, calm = memory(), 0
for _ in range(30):
    batch()
    settle()
    calm = calm + 1 if memory() <= high else 0
    high = max(high, memory())
    if calm == 2:
        break
# A leak of one pointer for each task would be 8 bytes for each.
most = 1024 + N * BATCHES * 4 / 1024
for _ in range(3):
    for _ in range(BATCHES):
        batch()
        settle()
    grown = memory() - high
    if grown <= most:
        break
    # A queue was longer than ever, or a thread had an arena made: that has an end, and a leak none.
    high = memory()
same(exact, first, 0, 10)
same(rough, second, 100)
same(threads, third, 10)
assert grown <= most, (grown, high, most)
"""


def run(way: str, number: int, batches: int, timeout: int) -> None:
    program = (
        PROGRAM.replace("{number}", str(number))
        .replace("{batches}", str(batches))
        .replace("    {way}", textwrap.indent(textwrap.dedent(way).strip(), "    "))
    )
    assert run_program(program, timeout=timeout).stdout == ""


@pytest.mark.timeout(160)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_ten_thousand_tasks(way):
    """No way to post and to wait leaves a reference, an object or a descriptor behind."""
    run(way, 1_000, 10, 150)  # nested waits start a thread each, for 30 s on a busy machine


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_million_tasks(way):
    """Nor do a million of them, and memory stays where it was."""
    run(way, 10_000, 100, 580)
