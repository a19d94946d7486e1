"""Whatever a callback does, the pool stays healthy."""

import gc
import logging
import sys
import threading
import weakref

import asynctask
import pytest
from asynctask import CancelledError, DelayTask, IntervalTask, PoolShutdown
from asynctask.testing import reset_default_pool

WORKERS = 4


@pytest.fixture
def healthy(until):
    """Check that a pool has all its workers, in working order, and true counts."""

    def check(pool):
        barrier = threading.Barrier(WORKERS)
        tasks = [pool.submit(barrier.wait, 20) for _ in range(WORKERS)]
        assert sorted(task.result(20) for task in tasks) == list(range(WORKERS))
        assert pool.post_task(lambda: "later", DelayTask(0.001)).result(20) == "later"
        until(lambda: pool.stats().running_workers == 0)
        stats = pool.stats()
        assert stats.waiting == stats.pending_timers == 0
        assert stats.submitted == stats.completed + stats.cancelled + stats.dropped
        assert stats.completed == stats.successful + stats.failed

    return check


class Oops(Exception):
    pass


class Base(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [Oops("x"), Base("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(5)],
    ids=lambda error: type(error).__name__,
)
def test_one_that_raises(pool, healthy, error):
    """Any exception, and any `BaseException`, is kept in the handle and ends no worker."""

    def fail():
        raise error

    tasks = [pool.submit(fail) for _ in range(3 * WORKERS)]
    tasks.append(pool.post_task(fail, DelayTask(0.001)))
    for task in tasks:
        assert task.exception(20) is error
        with pytest.raises(type(error)) as caught:
            task.result(0)
        assert caught.value is error
    healthy(pool)
    assert pool.stats().failed == len(tasks)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, Oops])
def test_one_that_raises_in_a_series(pool, healthy, caplog, error):
    """A run that raises ends neither the series nor a worker."""
    runs = []

    def fail():
        runs.append(None)
        raise error

    with caplog.at_level(logging.CRITICAL + 1, "asynctask"):
        series = pool.post_task(fail, IntervalTask(0.001))
        series.wait_for_finished_count(5, 20)
        series.stop_and_wait(20)
    assert series.called_times() == len(runs) >= 5
    healthy(pool)


def test_one_that_calls_sys_exit(pool, healthy):
    """`sys.exit` in a callback exits nothing."""
    task = pool.submit(sys.exit, "bye")
    assert task.exception(20).code == "bye"
    healthy(pool)


def test_one_that_returns_itself(pool, healthy):
    """A callback may be its own result, and is freed with the handle."""

    def make():
        def callback():
            return callback

        return callback

    callback = make()
    task = pool.submit(callback)
    assert task.result(20) is callback
    gone = weakref.ref(callback)
    healthy(pool)
    del task, callback
    gc.collect()
    assert gone() is None


def test_one_that_returns_its_own_handle(pool, healthy):
    """A handle may be its own result, and that cycle is collected."""
    handles = []
    handed = threading.Event()

    def callback():
        assert handed.wait(20)
        return handles.pop()

    task = pool.submit(callback)
    handles.append(task)
    handed.set()
    assert task.result(20) is task
    gone = weakref.ref(task)
    healthy(pool)
    del task
    gc.collect()
    assert gone() is None


def repost(post, count):
    """Post a callback that posts itself again, `count` times in all, and wait for the last."""
    over = threading.Event()
    runs = []

    def callback():
        runs.append(None)
        if len(runs) < count:
            post(callback)
        else:
            over.set()

    post(callback)
    assert over.wait(40)
    assert len(runs) == count


def test_one_that_posts_itself_10000_times(pool, healthy):
    """A callback may post itself over and over."""
    repost(pool.submit, 10_000)
    healthy(pool)


def test_one_that_posts_itself_with_a_delay(pool, healthy):
    """A callback may post itself for later, over and over."""
    repost(lambda callback: pool.post_task(callback, DelayTask(0)), 1_000)
    repost(lambda callback: pool.post_task(callback, DelayTask(0.000_001)), 1_000)
    healthy(pool)


def test_one_that_posts_itself_on_the_default_pool(default_pool, healthy):
    """On the default pool, which has a bound, a callback may post itself over and over."""
    asynctask.set_work_pool_options(WORKERS)
    repost(asynctask.post_task, 10_000)
    healthy(asynctask.get_async_task())


def test_one_that_posts_10000_at_once_on_the_default_pool(default_pool):
    """A worker's posts go in beyond the bound of 10,000 rather than wait for themselves."""
    asynctask.set_work_pool_options(1)
    ran = []

    def flood():
        return [asynctask.post_task(ran.append, args=(n,)) for n in range(10_050)]

    tasks = asynctask.post_task(flood).result(40)
    tasks[-1].result(40)
    assert ran == list(range(10_050))


def test_one_that_cancels_itself(pool, healthy):
    """A one-shot that cancels itself is told that it runs, sees the wish, and can give up."""
    handles = []
    handed = threading.Event()

    def callback():
        assert handed.wait(20)
        cancelled = handles[0].cancel()
        with pytest.raises(CancelledError):
            asynctask.check_cancelled()
        return cancelled

    handles.append(pool.submit(callback))
    handed.set()
    assert handles[0].result(20) is False
    assert not handles[0].cancelled()
    healthy(pool)


@pytest.mark.parametrize("method", ["cancel", "stop", "stop_and_wait"])
def test_a_series_that_ends_itself(pool, healthy, method):
    """A series may end itself from its own run, which is then its last."""
    returned = []

    def callback():
        returned.append(getattr(asynctask.current_task(), method)())

    series = pool.post_task(callback, IntervalTask(0.001))
    with pytest.raises(CancelledError):
        series.result(20)
    assert len(returned) == series.called_times() == 1
    assert returned == [True if method == "cancel" else None]
    assert series.cancelled()
    healthy(pool)


@pytest.mark.parametrize("method", ["stop", "stop_and_wait"])
def test_a_one_shot_that_stops_itself(pool, healthy, method):
    """A one-shot that stops itself goes on, and its result stays."""

    def callback():
        getattr(asynctask.current_task(), method)()
        return "done"

    assert pool.submit(callback).result(20) == "done"
    healthy(pool)


def test_one_that_waits_for_itself(pool, healthy):
    """A callback that waits for its own end is told that it cannot."""

    def callback():
        task = asynctask.current_task()
        for wait in (task.result, task.exception, task.wait_for_finished):
            with pytest.raises(RuntimeError, match="wait for itself"):
                wait(20)
        return "fine"

    assert pool.submit(callback).result(20) == "fine"
    healthy(pool)


def test_one_that_drops_the_last_reference_to_its_handle(pool, healthy, make_gate):
    """A task whose handle is dropped while it runs runs on, and is freed when it is over."""
    gate = make_gate()
    handles = []
    over = threading.Event()

    def callback():
        gate()
        handles.clear()
        gc.collect()
        over.set()

    handles.append(pool.submit(callback))
    gone = weakref.ref(handles[0])
    gate.open()
    assert over.wait(20)
    healthy(pool)
    assert gone() is None


def test_a_series_that_drops_the_last_reference_to_its_handle(pool, healthy):
    """A series whose handle is dropped goes on, and can still stop itself."""
    handles = []
    over = threading.Event()
    handed = threading.Event()

    def callback():
        assert handed.wait(20)
        handles.clear()
        task = asynctask.current_task()
        if task.called_times() == 3:
            task.stop()
            over.set()

    handles.append(pool.post_task(callback, IntervalTask(0.001)))
    handed.set()
    assert over.wait(20)
    healthy(pool)


@pytest.mark.parametrize("cancel_futures", [False, True])
@pytest.mark.parametrize("wait", [False, True])
def test_one_that_shuts_the_pool_down(one, make_gate, wait, cancel_futures):
    """A callback may shut its own pool down; nothing is lost, and it does not wait for itself."""
    gate = make_gate()

    def callback():
        gate()
        one.shutdown(wait=wait, cancel_futures=cancel_futures)
        with pytest.raises(PoolShutdown):
            one.submit(print)
        return "down"

    task = one.submit(callback)
    queued = [one.submit(int) for _ in range(100)]
    later = one.post_task(int, DelayTask(1000))
    gate.open()
    assert task.result(20) == "down"
    assert one.wait_and_exit(20)
    assert later.cancelled()
    if cancel_futures:
        assert all(task.cancelled() for task in queued)
    else:
        assert [task.result(0) for task in queued] == [0] * 100
    stats = one.stats()
    assert stats.submitted == 102
    assert stats.completed + stats.cancelled == 102
    assert stats.running_workers == stats.idle_workers == 0


def test_a_series_that_shuts_the_pool_down(one):
    """A series may shut its own pool down, which ends the series."""
    series = one.post_task(one.shutdown, IntervalTask(0.001))
    with pytest.raises(CancelledError):
        series.result(20)
    assert series.called_times() == 1
    assert one.wait_and_exit(20) is True


def test_one_that_calls_wait_and_exit(make_pool):
    """`wait_and_exit` in a callback says True at once; who waits outside learns the truth."""
    pool = make_pool(2)
    assert pool.submit(pool.wait_and_exit, 20).result(20) is True
    assert pool.wait_and_exit(20) is True


def test_one_that_resets_the_default_pool(default_pool):
    """Even the default pool may be shut down from one of its callbacks."""
    assert asynctask.post_task(asynctask.wait_and_exit, args=(20,)).result(20) is True
    with pytest.raises(PoolShutdown):
        asynctask.post_task(print)
    reset_default_pool()
    assert asynctask.post_task(lambda: 1).result(20) == 1


def test_one_whose_objects_post_when_they_die(pool, healthy):
    """A finalizer of an argument, of a result or of a callback may post."""
    ran = []

    class Poster:
        def __call__(self):
            return Poster.result()

        @staticmethod
        def result():
            return type("Result", (), {"__del__": lambda _: pool.submit(ran.append, "result")})()

        def __del__(self):
            pool.submit(ran.append, "callback")

    class Argument:
        def __del__(self):
            pool.submit(ran.append, "argument")

    pool.submit(Poster()).result(20)
    pool.post_task(lambda _: None, DelayTask(0.001), args=(Argument(),)).result(20)
    pool.post_task(lambda _: None, DelayTask(1000), args=(Argument(),)).cancel()
    gc.collect()
    healthy(pool)
    assert sorted(ran) == ["argument", "argument", "callback", "result"]


def test_one_whose_finalizer_raises(pool, healthy, monkeypatch):
    """An exception from a finalizer goes where Python sends it, and harms nothing."""
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hook: unraisable.append(hook.exc_value))

    class Argument:
        def __del__(self):
            raise Oops

    pool.submit(lambda _: None, Argument()).result(20)
    healthy(pool)
    assert [type(error) for error in unraisable] == [Oops]


def test_one_that_is_a_generator_or_a_class(pool, healthy):
    """Whatever can be called is a callback: classes, builtins, partials, bound methods."""
    assert pool.submit(dict, a=1).result(20) == {"a": 1}
    assert list(pool.submit(iter, [1, 2]).result(20)) == [1, 2]
    assert pool.submit("a-b".split, "-").result(20) == ["a", "b"]
    healthy(pool)


def test_one_that_recurses_too_deep(pool, healthy):
    """`RecursionError` in a callback is an error like any other."""

    def deep():
        deep()

    assert isinstance(pool.submit(deep).exception(20), RecursionError)
    healthy(pool)


def test_one_that_wants_too_much_memory(pool, healthy):
    """`MemoryError` in a callback is an error like any other."""
    assert isinstance(pool.submit(lambda: b"x" * (1 << 60)).exception(20), MemoryError)
    healthy(pool)
