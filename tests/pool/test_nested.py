"""Waits inside callbacks: whatever a callback waits for, and with what, the pool goes on."""

import asyncio
import concurrent.futures as cf
import queue
import threading
import time

import asynctask
import pytest
from asynctask import DelayTask, IntervalTask
from helpers.threads import join, start

DEPTH = 50


def settled(pool):
    """Tell whether the pool has no more workers than it may."""
    stats = pool.stats()
    return stats.running_workers + stats.idle_workers <= stats.max_workers


WAITS = {
    "result": lambda task: task.result(20),
    "exception": lambda task: task.exception(20) or task.result(0),
    "wait_for_finished": lambda task: task.wait_for_finished(20) or task.result(0),
    "wait_for_finished_count": lambda task: task.wait_for_finished_count(1, 20) or task.result(0),
    "wait": lambda task: cf.wait([task]).done.pop().result(0),
    "wait with a timeout": lambda task: cf.wait([task], 20).done.pop().result(0),
    "as_completed": lambda task: next(cf.as_completed([task])).result(0),
    "as_completed with a timeout": lambda task: next(cf.as_completed([task], 20)).result(0),
    "Future.result": lambda task: cf.Future.result(task, 20),
}


@pytest.mark.parametrize("how", WAITS.keys() - {"Future.result"})
def test_fifty_deep(one, until, how):
    """A task waits for a task that waits for a task, fifty deep, on one worker."""
    wait = WAITS[how]

    def nest(depth):
        return depth and 1 + wait(one.submit(nest, depth - 1))

    assert one.submit(nest, DEPTH).result(20) == DEPTH
    until(lambda: settled(one))


@pytest.mark.parametrize("how", ["result", "wait", "as_completed"])
def test_fifty_deep_with_delays(one, until, how):
    """Fifty tasks, each of which waits for one that is due later, on one worker."""
    wait = WAITS[how]

    def nest(depth):
        if depth == 0:
            return 0
        return 1 + wait(one.post_task(nest, DelayTask(0.001), args=(depth - 1,)))

    assert one.submit(nest, DEPTH).result(20) == DEPTH
    until(lambda: settled(one))


@pytest.mark.parametrize("workers", [1, 2])
def test_wide_and_deep(make_pool, workers):
    """Every level posts two tasks and waits for both."""
    pool = make_pool(workers)

    def count(depth):
        if depth == 0:
            return 1
        return sum(task.result(20) for task in [pool.submit(count, depth - 1) for _ in range(2)])

    assert pool.submit(count, 8).result(20) == 256


def test_a_wait_for_many_by_the_library(one, until):
    """`wait` for a hundred tasks in a callback borrows one worker, not a hundred."""
    seen = set()
    lock = threading.Lock()

    def note(n):
        with lock:
            seen.add(threading.get_ident())
        return n

    def outer():
        tasks = [one.submit(note, n) for n in range(100)]
        done, left = cf.wait(tasks)
        assert not left
        return sum(task.result(0) for task in done)

    assert one.submit(outer).result(20) == sum(range(100))
    assert len(seen) == 1
    until(lambda: settled(one))


def test_a_wait_by_the_library_that_times_out_gives_the_worker_back(one, gate, until):
    """A loan ends with the wait, however that ends."""
    held = cf.Future()

    def outer():
        later = one.post_task(int, DelayTask(1000))
        for _ in range(3):
            assert cf.wait([later, held], 0.001).not_done == {later, held}
            with pytest.raises(TimeoutError):
                list(cf.as_completed([later, held], 0.001))
        later.cancel()
        return "through"

    assert one.submit(outer).result(20) == "through"
    assert one.submit(gate) is not None
    gate.wait()
    behind = one.submit(int)
    until(lambda: settled(one))
    assert behind.running() is behind.done() is False  # nobody else is there to run it


def test_groups_in_groups(one, until):
    """A task of a group opens a group whose tasks open groups."""

    def nest(depth):
        if depth == 0:
            return 1
        with one.group() as group:
            for _ in range(2):
                group.submit(nest, depth - 1)
        return sum(group.results())

    assert one.submit(nest, 6).result(20) == 64
    until(lambda: settled(one))


def test_deep_groups(one):
    """Groups of one task each, fifty deep."""

    def nest(depth):
        if depth == 0:
            return 0
        with one.group() as group:
            group.submit(nest, depth - 1)
        return 1 + group.results()[0]

    assert one.submit(nest, DEPTH).result(20) == DEPTH


def test_maps_in_maps(one):
    """A task maps over tasks that map."""

    def nest(depth):
        return 1 if depth == 0 else sum(one.map(nest, [depth - 1] * 3))

    assert one.submit(nest, 4).result(20) == 81


@pytest.mark.parametrize("on_full", ["block", "caller_runs"])
@pytest.mark.parametrize("queue_size", [0, 1, 3])
def test_waits_on_a_full_queue(make_pool, until, on_full, queue_size):
    """Callbacks that post to a full queue, and wait for what they posted, finish."""
    pool = make_pool(2, queue_size=queue_size, on_full=on_full)

    def count(depth):
        if depth == 0:
            return 1
        return sum(task.result(20) for task in [pool.submit(count, depth - 1) for _ in range(3)])

    assert sum(task.result(20) for task in [pool.submit(count, 4) for _ in range(4)]) == 4 * 81
    until(lambda: settled(pool))


def test_fifty_deep_on_a_full_queue(make_pool, make_gate):
    """Nested waits do not mind that other threads keep the queue full."""
    pool = make_pool(1, queue_size=2)
    over = threading.Event()

    def fill():
        while not over.is_set():
            pool.submit(int)

    def nest(depth):
        return depth and 1 + pool.submit(nest, depth - 1).result(20)

    threads = [start(fill) for _ in range(2)]
    try:
        assert pool.submit(nest, DEPTH).result(20) == DEPTH
    finally:
        over.set()
        join(*threads)


def test_a_delay_and_a_series_on_the_only_worker(one, until):
    """The only worker may wait for a delayed task, for a series, for a pause and for a tick."""

    def outer():
        later = one.post_task(lambda: "later", DelayTask(0.002))
        series = one.post_task(int, IntervalTask(0.001))
        series.wait_for_finished_count(3, 20)
        series.stop_and_wait(20)
        limited = one.post_task(lambda: "last", IntervalTask(0.001, max_runs=3))
        ticker = asynctask.Ticker(0.001, pool=one, max_runs=3, missed="catch_up")
        return [
            later.result(20),
            series.called_times() >= 3,
            limited.result(20),
            one.after(0.001).result(20),
            list(ticker),
        ]

    assert one.submit(outer).result(20) == ["later", True, "last", None, [1, 2, 3]]
    until(lambda: settled(one))


def test_a_run_of_a_series_waits(one):
    """A run of a series may wait for other tasks, and for another series."""

    def run():
        inner = one.post_task(int, IntervalTask(0.001, max_runs=2))
        return one.submit(int, "3").result(20) + inner.result(20)

    series = one.post_task(run, IntervalTask(0.001, max_runs=3))
    assert series.result(20) == 3
    assert series.called_times() == 3


def test_a_task_cannot_wait_for_itself(one):
    """A wait that could never end is refused."""
    tasks = queue.Queue()
    task = one.submit(lambda: tasks.get(timeout=20).result())
    tasks.put(task)
    with pytest.raises(RuntimeError, match="a task cannot wait for itself"):
        task.result(20)


def test_a_done_callback_waits(one):
    """A done-callback may wait for a task on the only worker."""
    seen = queue.Queue()
    gate = threading.Event()
    task = one.submit(gate.wait, 20)
    task.add_done_callback(lambda _: seen.put(one.submit(lambda: "inner").result(20)))
    task.add_done_callback(
        lambda _: seen.put(one.post_task(lambda: "later", DelayTask(0.001)).result(20))
    )
    gate.set()
    assert [seen.get(timeout=20), seen.get(timeout=20)] == ["inner", "later"]


def test_a_failure_deep_down(one):
    """A failure comes up through all the waits, and so does a cancellation."""

    def nest(depth):
        if depth == 0:
            raise ValueError("deep down")
        return one.submit(nest, depth - 1).result(20)

    with pytest.raises(ValueError, match="deep down"):
        one.submit(nest, 20).result(20)

    def cancelled():
        later = one.post_task(int, DelayTask(1000))
        one.post_task(later.cancel, DelayTask(0.001))
        return later.result(20)

    with pytest.raises(cf.CancelledError):
        one.submit(cancelled).result(20)


def test_the_current_task_is_the_inner_one(one):
    """While a worker runs a task for another that waits, `current_task` is right for both."""

    def inner():
        return asynctask.current_task().name

    def outer():
        before = asynctask.current_task().name
        between = one.post_task(inner, name="inner").result(20)
        return before, between, asynctask.current_task().name

    assert one.post_task(outer, name="outer").result(20) == ("outer", "inner", "outer")


def test_waits_across_pools(make_pool):
    """Callbacks of three pools of one worker wait for each other's tasks in a circle."""
    pools = [make_pool(1) for _ in range(3)]

    def nest(depth):
        return depth and 1 + pools[depth % 3].submit(nest, depth - 1).result(20)

    assert pools[0].submit(nest, DEPTH).result(20) == DEPTH


def test_a_wait_for_a_coroutine(one):
    """The only worker may wait for a coroutine that waits for a task of the same pool."""

    async def coroutine():
        return await one.submit(lambda: "inner")

    async def main():
        loop = asyncio.get_running_loop()
        return await one.submit(lambda: one.post_task(coroutine, loop=loop).result(20))

    assert asyncio.run(main()) == "inner"


def test_a_wait_for_another_executor(one):
    """The only worker may wait for a task that is handed over, and that comes back to the pool."""
    with cf.ThreadPoolExecutor(1) as executor:

        def elsewhere():
            return one.submit(lambda: "inner").result(20)

        def outer():
            return one.post_task(elsewhere, executor=executor).result(20)

        assert one.submit(outer).result(20) == "inner"


def test_a_shutdown_while_callbacks_wait(one):
    """Queued tasks that others wait for run before the end, however deep."""
    gate = threading.Event()

    def nest(depth):
        if depth == 0:
            assert gate.wait(20)
            return 0
        return 1 + one.submit(nest, depth - 1).result(20)

    task = one.submit(nest, 10)
    behind = [one.submit(int) for _ in range(10)]
    while one.stats().submitted < 21:
        assert not task.done()
    one.shutdown(wait=False)
    gate.set()
    one.shutdown()
    assert task.result(0) == 10
    assert all(other.result(0) == 0 for other in behind)


def test_a_task_cannot_wait_for_one_that_waits_for_it(one):
    """A wait that can never end is refused: the task below is the one that waits."""
    handles = []

    def outer():
        inner = one.submit(handles[0].result)
        with pytest.raises(RuntimeError, match="cannot wait for itself"):
            inner.result()
        return "over"

    ready = threading.Event()
    handles.append(one.submit(lambda: ready.wait(20) and outer()))
    ready.set()
    assert handles[0].result(20) == "over"


@pytest.mark.parametrize(
    "how", [how for how in WAITS if how != "Future.result" and "timeout" not in how]
)
@pytest.mark.parametrize("timeout", [0, 0.02])
def test_a_wait_with_a_timeout_runs_nothing_inline(one, gate, how, timeout):
    """In a callback too, a wait with a timeout ends with it, whatever the awaited task takes."""
    waits = {
        "result": lambda task: task.result(timeout),
        "wait_for_finished": lambda task: task.wait_for_finished(timeout),
        "wait_for_finished_count": lambda task: task.wait_for_finished_count(1, timeout),
        "wait": lambda task: cf.wait([task], timeout).done or fail(),
        "as_completed": lambda task: next(cf.as_completed([task], timeout)),
        "exception": lambda task: task.exception(timeout),
    }

    def fail():
        raise TimeoutError

    def outer():
        inner = one.submit(gate)
        # Run inline it would stand at the gate, which is opened afterwards.
        with pytest.raises(TimeoutError):
            waits[how](inner)
        gate.open()
        return inner

    assert one.submit(outer).result(30).result(30) == "through"


def test_a_lock_that_a_waiting_callback_holds_keeps_others_out(one):
    """What a callback waits for, with a timeout, does not slip into the lock that it holds."""
    lock = threading.RLock()
    inside = []

    def inner():
        with lock:
            inside.append("inner")

    def outer():
        with lock:
            task = one.submit(inner)
            with pytest.raises(TimeoutError):
                task.result(0.05)
            inside.append("outer")
        return task

    one.submit(outer).result(30).result(30)
    assert inside == ["outer", "inner"]


def test_a_chain_of_waits_is_as_long_as_it_likes(one, gate, until):
    """Two thousand queued tasks, each of which waits for the next, end on one worker."""
    tasks = []
    longest = 2_000

    def step(number):
        return 1 if number + 1 == longest else tasks[number + 1].result() + 1

    one.submit(gate)
    tasks.extend(one.submit(step, number) for number in range(longest))
    gate.open()
    assert tasks[0].result(30) == longest
    until(lambda: settled(one))


def test_waits_nest_on_one_stack_no_deeper_than_they_may(one, gate):
    """Of a chain of waits a worker runs 32 below its first, and then another worker is lent."""
    tasks = []
    threads = []

    def step(number):
        threads.append(threading.get_ident())
        if number < 50:
            tasks[number + 1].result()

    one.submit(gate)
    tasks.extend(one.submit(step, number) for number in range(51))
    gate.open()
    tasks[0].result(30)
    assert [threads.count(thread) for thread in dict.fromkeys(threads)] == [33, 18]


def test_many_lent_workers_are_said_once(make_pool, caplog, gate):
    """A pool that lends more than 256 workers at a time says so, once, and lends on."""
    pool = make_pool(1, thread_name_prefix="lender")
    deepest = 300

    def nest(depth):
        # By a timeout, so that each waits with a worker lent, rather than run the next inline.
        return pool.submit(nest, depth - 1).result(30) + 1 if depth else gate() and 0

    for _ in range(2):
        gate.opened.clear()
        task = pool.submit(nest, deepest)
        gate.wait()
        gate.open()
        assert task.result(30) == deepest
    said = [record for record in caplog.records if "has lent" in record.getMessage()]
    assert [record.levelname for record in said] == ["WARNING"]
    assert "'lender'" in said[0].getMessage()
    assert "257 at present" in said[0].getMessage()


def test_the_end_of_another_pool_is_waited_for_with_a_worker_lent(one, make_pool, gate):
    """A callback that shuts another pool down lets its own pool go on meanwhile."""
    other = make_pool(1)
    # What the other pool still has to do needs the worker that waits for it.
    helped = threading.Event()
    running = other.submit(lambda: one.submit(helped.set).result(30))

    def end():
        gate()
        other.shutdown()
        return running.done()

    ending = one.submit(end)
    gate.open()
    assert ending.result(30)
    assert helped.is_set()


def test_pools_that_shut_each_other_down_end(make_pool):
    """Two callbacks, each of which shuts the other's pool down and waits, both return."""
    pools = [make_pool(1), make_pool(1)]
    both_run = threading.Barrier(2)

    def end(other):
        both_run.wait(30)
        other.shutdown()
        return True

    tasks = [pools[n].submit(end, pools[1 - n]) for n in range(2)]
    assert [task.result(30) for task in tasks] == [True, True]


def test_a_post_that_waits_for_room_lends_its_own_pool_a_worker(one, make_pool, gate):
    """A callback that waits for room in another pool's queue lets its own pool go on meanwhile."""
    full = make_pool(1, queue_size=1)
    full.submit(lambda: one.submit(gate).result(30))
    full.submit(int)
    waiting = one.submit(lambda: full.submit(pow, 2, 10).result(30))
    one.submit(gate.open)
    assert waiting.result(30) == 1024


def test_a_callback_may_move_the_clock_of_another_pool(one, timed, clock):
    """What is due on the clock that a callback moves may need the callback's own pool."""
    due = timed.post_task(lambda: one.submit(pow, 2, 10).result(), DelayTask(5))
    one.submit(clock.advance, 5).result(30)
    assert due.result(30) == 1024


def test_each_of_a_chain_of_tasks_has_its_own_depth_of_recursion(one):
    """Sixty tasks recurse 150 deep and wait for the next: no task misses the frames of another."""

    def recurse(depth, number):
        return recurse(depth - 1, number) if depth else step(number)

    def step(number):
        return number and one.submit(recurse, 150, number - 1).result()

    assert one.submit(step, 60).result(20) == 0


async def by_await(one, other):
    return await one.submit(abs, -3)


async def by_gather(one, other):
    return max(await asyncio.gather(*(one.submit(abs, -n) for n in range(4))))


async def by_group(one, other):
    async with one.group() as group:
        group.submit(abs, -3)
    return group.results()[0]


async def by_group_in_time(one, other):
    async with one.group(timeout=20) as group:
        group.submit(abs, -3)
    return group.results()[0]


async def by_aclose(one, other):
    task = other.submit(lambda: one.submit(abs, -3).result(20))
    assert await other.aclose(20)
    return task.result(0)


async def by_async_with(one, other):
    async with other:
        task = other.submit(lambda: one.submit(abs, -3).result(20))
    return task.result(0)


@pytest.mark.parametrize(
    "way", [by_await, by_gather, by_group, by_group_in_time, by_aclose, by_async_with]
)
def test_a_loop_in_a_callback_can_await_what_needs_the_worker(one, make_pool, until, way):
    """A callback on the only worker runs a loop, and what it awaits there gets a worker."""
    assert one.submit(lambda: asyncio.run(way(one, make_pool(1)))).result(20) == 3
    until(lambda: settled(one))


def test_a_wait_for_a_delayed_task_on_the_only_worker(one):
    """A callback may wait for a delay, though it holds the only worker."""

    def wait():
        began = time.monotonic()
        at = one.post_task(time.monotonic, DelayTask(0.01)).result(20)
        return at - began

    assert one.submit(wait).result(20) >= 0.01


def test_two_tasks_that_wait_for_a_third(make_pool):
    """A lent worker runs what others wait for, and is taken back."""
    pool = make_pool(2)
    ready = threading.Barrier(3)
    go = threading.Event()
    third = []

    def wait():
        ready.wait(20)
        assert go.wait(20)
        return third[0].result(20)

    waiters = [pool.submit(wait) for _ in range(2)]
    ready.wait(20)
    third.append(pool.post_task(lambda: "third", DelayTask(0.005)))
    go.set()
    assert [task.result(20) for task in waiters] == ["third"] * 2


def test_a_wait_with_a_timeout_in_a_callback(one, gate):
    """A timeout in a callback is kept."""

    def wait():
        task = one.post_task(int, DelayTask(1000))
        began = time.monotonic()
        try:
            task.result(0.02)
        except TimeoutError:
            return time.monotonic() - began

    assert one.submit(wait).result(20) >= 0.02
