"""The bounded queue and its five policies."""

import concurrent.futures as cf
import threading

import asynctask
import pytest
from asynctask import DelayTask, IntervalTask, PoolShutdown, QueueFull
from helpers.threads import join, start


@pytest.fixture
def full(make_pool, gate):
    """Make a pool of one held worker whose queue of `size` is full of tasks that note their run."""

    def make(on_full, size=2):
        pool = make_pool(1, queue_size=size, on_full=on_full)
        gate.hold(pool)
        ran = []
        queued = [pool.submit(ran.append, n) for n in range(size)]
        assert pool.stats().waiting == size
        return pool, ran, queued

    return make


def test_raise_refuses_the_new_task(full, gate):
    """`QueueFull`, and the task was never there."""
    pool, ran, queued = full("raise")
    for post in (pool.submit, pool.post_task, pool.post_async_task, pool.group().submit):
        with pytest.raises(QueueFull):
            post(int)
    stats = pool.stats()
    assert (stats.submitted, stats.dropped, stats.waiting) == (3, 0, 2)
    gate.open()
    queued[-1].result(20)
    assert ran == [0, 1]
    assert pool.submit(lambda: "room").result(20) == "room"


def test_drop_newest_cancels_the_new_task(full, gate):
    """The new task's handle is cancelled at once; the queued ones run."""
    pool, ran, queued = full("drop_newest")
    told = []
    newest = pool.submit(ran.append, "newest")
    newest.add_done_callback(told.append)
    assert newest.cancelled()
    assert told == [newest]
    assert newest.called_times() == 0
    gate.open()
    queued[-1].result(20)
    pool.submit(int).result(20)
    assert ran == [0, 1]
    stats = pool.stats()
    assert (stats.dropped, stats.cancelled, stats.submitted) == (1, 0, 5)
    assert stats.submitted == stats.completed + stats.cancelled + stats.dropped


def test_drop_oldest_cancels_the_oldest_task(full, gate):
    """The task that waited longest is cancelled, and done-callbacks hear of it."""
    pool, ran, queued = full("drop_oldest")
    told = []
    queued[0].add_done_callback(told.append)
    newer = [pool.submit(ran.append, n) for n in (2, 3, 4)]
    assert [task.cancelled() for task in queued + newer] == [True, True, True, False, False]
    assert told == [queued[0]]
    gate.open()
    newer[-1].result(20)
    assert ran == [3, 4]
    assert pool.stats().dropped == 3


def test_drop_oldest_skips_what_was_cancelled(full, gate):
    """A cancelled task in the queue makes room; no live one is dropped for it."""
    pool, ran, queued = full("drop_oldest", size=3)
    queued[0].cancel()
    fourth = pool.submit(ran.append, "fourth")
    assert pool.stats().dropped == 0
    fifth = pool.submit(ran.append, "fifth")
    assert queued[1].cancelled()
    assert pool.stats().dropped == 1
    gate.open()
    fourth.result(20)
    fifth.result(20)
    assert ran == [2, "fourth", "fifth"]


def test_drop_oldest_drops_runs_and_neither_series_nor_what_is_due(make_pool, gate, clock, until):
    """An overload costs a series a run, which is counted, and what is due nothing."""
    pool = make_pool(1, queue_size=4, on_full="drop_oldest", clock=clock)
    gate.hold(pool)
    series = pool.post_task(int, IntervalTask(1))
    delayed = [pool.post_task(lambda: "ran", DelayTask(0.5)) for _ in range(3)]
    clock.jump(1)
    until(lambda: pool.stats().waiting == 4)
    burst = [pool.submit(int) for _ in range(50)]
    assert [task.cancelled() for task in burst] == [True] * 49 + [False]
    gate.open()
    clock.advance(9)
    assert [task.result(0) for task in delayed] == ["ran"] * 3
    stats = pool.stats()
    assert (series.done(), series.called_times()) == (False, 9)
    assert (stats.dropped, stats.missed_runs, stats.skipped_runs) == (49, 1, 0)


def test_drop_oldest_drops_the_newest_where_all_that_waits_is_due(make_pool, gate, clock, until):
    """What was accepted with a delay stays; the new task is dropped."""
    pool = make_pool(1, queue_size=2, on_full="drop_oldest", clock=clock)
    gate.hold(pool)
    delayed = [pool.post_task(lambda: "ran", DelayTask(0.5)) for _ in range(5)]
    clock.jump(1)
    until(lambda: pool.stats().waiting == 5)
    assert pool.submit(int).cancelled()
    gate.open()
    clock.advance(0)
    assert [task.result(0) for task in delayed] == ["ran"] * 5


def test_caller_runs_runs_it_here(full, gate):
    """The poster's thread runs the task before the post returns, as a task in every respect."""
    pool, ran, queued = full("caller_runs")
    seen = []

    def run():
        seen.append((threading.current_thread(), asynctask.current_task()))
        return "here"

    task = pool.submit(run)
    assert task.done()
    assert task.result(0) == "here"
    assert seen == [(threading.current_thread(), task)]
    failing = pool.submit(int, "x")
    assert isinstance(failing.exception(0), ValueError)
    gate.open()
    queued[-1].result(20)
    assert ran == [0, 1]
    stats = pool.stats()
    assert (stats.submitted, stats.dropped, stats.failed) == (5, 0, 1)


def test_block_waits_for_room(full, gate):
    """The poster waits until a worker has taken a task from the queue."""
    pool, ran, _ = full("block")
    posted = threading.Event()
    tasks = []

    def post():
        tasks.append(pool.submit(ran.append, "late"))
        posted.set()

    thread = start(post)
    assert not posted.wait(0.02)
    assert pool.stats().waiting == 2
    gate.open()
    assert posted.wait(20)
    thread.join(20)
    tasks[0].result(20)
    assert ran == [0, 1, "late"]


def test_a_finalizer_can_post_inside_a_wait(full, gate):
    """`try_submit` never waits, also when its thread holds the lock that a worker needs."""
    pool, _, queued = full("block")
    posted = []

    class Finalized:
        def __del__(self):
            posted.append(pool.try_submit(int))

    with cf._base._AcquireFutures(queued):  # what `concurrent.futures.wait` holds
        gate.open()  # whoever waited for room now would wait for ever
        Finalized()
    assert len(posted) == 1
    assert all(task.result(20) is None for task in queued)


def test_block_is_the_default(make_pool, gate):
    """Without a policy a full queue makes the poster wait."""
    pool = make_pool(1, queue_size=1)
    gate.hold(pool)
    pool.submit(int)
    timer = threading.Timer(0.02, gate.open)
    timer.start()
    assert pool.submit(lambda: "after all").result(20) == "after all"
    assert gate.opened.is_set()
    timer.join(20)


def test_a_cancel_makes_room_for_who_waits(full):
    """Cancelling a queued task lets the next poster in."""
    pool, _, queued = full("block")
    posted = threading.Event()
    thread = start(lambda: (pool.submit(int), posted.set()))
    assert not posted.wait(0.02)
    queued[0].cancel()
    assert posted.wait(20)
    thread.join(20)
    assert pool.stats().waiting == 2


def test_shutdown_frees_who_waits_for_room(full):
    """A poster that waits for room is refused when the pool is shut down."""
    pool, _, _ = full("block")
    caught = []

    def post():
        try:
            pool.submit(int)
        except PoolShutdown as error:
            caught.append(error)

    threads = [start(post) for _ in range(3)]
    pool.shutdown(wait=False)
    join(*threads)
    assert len(caught) == 3


def test_many_posters_wait_for_room_and_all_get_in(make_pool):
    """With many posters and a tiny queue every task runs once."""
    pool = make_pool(2, queue_size=1)
    ran = []

    def post(thread):
        for n in range(200):
            pool.submit(ran.append, (thread, n))

    threads = [start(post, n) for n in range(8)]
    join(*threads)
    pool.shutdown()
    assert len(ran) == len(set(ran)) == 1600


def test_a_worker_does_not_wait_for_itself(make_pool):
    """A callback's posts go in beyond the bound, instead of waiting for its own end."""
    pool = make_pool(1, queue_size=1)

    def post():
        return [pool.submit(int) for _ in range(10)]

    assert [task.result(20) for task in pool.submit(post).result(20)] == [0] * 10


def test_a_worker_waits_inside_its_callback_on_a_full_queue(make_pool):
    """A callback on a full queue may post and wait for its task."""
    pool = make_pool(2, queue_size=1)

    def nest(depth):
        return depth and 1 + pool.submit(nest, depth - 1).result(20)

    assert pool.submit(nest, 30).result(20) == 30


@pytest.mark.parametrize("on_full", ["raise", "drop_newest", "drop_oldest", "caller_runs"])
def test_a_queue_of_none_hands_over_to_a_free_worker(make_pool, make_gate, on_full):
    """With `queue_size=0` a task is taken by a worker that is free, or the queue is full."""
    pool = make_pool(2, queue_size=0, on_full=on_full)
    gates = [make_gate(), make_gate()]
    running = [pool.submit(gate) for gate in gates]
    for gate in gates:
        gate.wait()
    if on_full == "raise":
        with pytest.raises(QueueFull):
            pool.submit(int)
    else:
        task = pool.submit(lambda: "ran")
        assert task.cancelled() == (on_full != "caller_runs")
        if on_full == "caller_runs":
            assert task.result(0) == "ran"
    assert pool.try_submit(int) is None
    assert pool.stats().waiting == 0
    for gate in gates:
        gate.open()
    assert [task.result(20) for task in running] == ["through"] * 2


def test_a_queue_of_none_takes_one_after_the_other(make_pool):
    """With `queue_size=0` and `"block"` a poster waits for a free worker each time."""
    pool = make_pool(1, queue_size=0)
    ran = []
    for n in range(300):
        pool.submit(ran.append, n)
    pool.shutdown()
    assert ran == list(range(300))


@pytest.mark.parametrize("on_full", ["block", "raise", "drop_newest", "drop_oldest", "caller_runs"])
def test_what_is_due_is_never_refused(make_pool, clock, gate, on_full):
    """Delays and series were accepted when posted; a full queue neither drops nor refuses them."""
    pool = make_pool(1, queue_size=1, on_full=on_full, clock=clock)
    gate.hold(pool)
    queued = pool.submit(int)
    later = [pool.post_task(lambda: "due", DelayTask(1)) for _ in range(10)]
    series = pool.post_task(int, IntervalTask(1))
    clock.jump(1)
    gate.open()
    assert [task.result(20) for task in later] == ["due"] * 10
    series.wait_for_finished(20)
    assert queued.result(20) == 0
    assert pool.stats().dropped == 0


def test_the_bound_is_exact(make_pool, make_gate):
    """Exactly `queue_size` tasks wait, and one more is refused."""
    for size in (1, 5, 100):
        pool = make_pool(1, queue_size=size, on_full="raise")
        gate = make_gate()
        gate.hold(pool)
        for _ in range(size):
            pool.submit(int)
        with pytest.raises(QueueFull):
            pool.submit(int)
        assert pool.stats().waiting == size
        pool.shutdown(wait=False, cancel_futures=True)


def test_no_bound_takes_everything(make_pool, gate):
    """Without `queue_size` a queue grows as long as one posts."""
    pool = make_pool(1, on_full="raise")
    gate.hold(pool)
    tasks = [pool.submit(int) for _ in range(50_000)]
    assert pool.stats().waiting == 50_000
    gate.open()
    assert tasks[-1].result(20) == 0


def test_a_map_longer_than_the_queue_waits_for_room(make_pool):
    """More than a batch, through a queue of two: all of it, in order."""
    pool = make_pool(1, queue_size=2, on_full="block")
    assert list(pool.map(abs, range(200))) == list(range(200))
    stats = pool.stats()
    assert (stats.submitted, stats.completed, stats.waiting) == (200, 200, 0)


def test_a_map_that_is_refused_has_posted_what_there_was_room_for(full, gate):
    """With ``"raise"`` the first that does not fit is refused, and those before it run."""
    pool, ran, queued = full("raise")
    gate.open()
    queued[-1].result(20)
    pool.submit(int).result(20)
    held = threading.Event()
    blocked = pool.submit(held.wait, 20)
    with pytest.raises(QueueFull):
        pool.map(ran.append, range(10, 200))
    held.set()
    blocked.result(20)
    pool.shutdown()
    assert ran == [0, 1, *range(10, 10 + len(ran) - 2)]
    assert len(ran) >= 4
    stats = pool.stats()
    assert stats.submitted == stats.completed == 3 + 1 + 1 + len(ran) - 2
