"""Workers are threads that Python's tools know."""

import faulthandler
import logging
import sys
import tempfile
import threading
import time

import pytest
from asynctask import AsyncTaskPool, DelayTask


def test_a_worker_has_the_pools_name(make_pool):
    """`current_thread().name` in a callback is the pool's prefix and a number."""
    pool = make_pool(4, "mine")
    barrier = threading.Barrier(4)

    def name():
        barrier.wait(20)
        return threading.current_thread().name

    names = [task.result(20) for task in [pool.submit(name) for _ in range(4)]]
    assert sorted(names) == [f"mine-{n}" for n in range(4)]
    assert (
        make_pool(1)
        .submit(name.__globals__["threading"].current_thread)
        .result(20)
        .name.startswith("asynctask-")
    )


def test_a_worker_is_enumerated(make_pool, gate):
    """`threading.enumerate` lists workers, with their identity, as alive daemon threads."""
    pool = make_pool(1, "listed")
    before = set(threading.enumerate())
    task = pool.submit(lambda: (gate(), threading.get_ident(), threading.get_native_id()))
    gate.wait()
    (worker,) = set(threading.enumerate()) - before
    assert worker.name == "listed-0"
    assert worker.is_alive()
    assert worker.daemon
    gate.open()
    _, ident, native_id = task.result(20)
    assert (worker.ident, worker.native_id) == (ident, native_id)


def test_the_current_thread_is_the_same_for_every_task(one):
    """A worker is one thread object for as long as it lives."""
    threads = {id(one.submit(threading.current_thread).result(20)) for _ in range(10)}
    assert len(threads) == 1


def test_a_worker_that_left_is_forgotten(make_pool, until):
    """When a worker ends, `threading` forgets it, and its thread object knows."""
    pool = make_pool(1, "leaves", idle_timeout=0.005)
    worker = pool.submit(threading.current_thread).result(20)
    until(lambda: worker not in threading.enumerate())
    assert not worker.is_alive()
    assert worker.ident not in threading._active


def test_a_worker_cannot_be_joined(make_pool):
    """A worker ends when its pool says so; joining it is refused instead of hanging."""
    worker = make_pool(1).submit(threading.current_thread).result(20)
    with pytest.raises(RuntimeError, match="shutdown"):
        worker.join()


def test_many_worker_lives_leave_nothing_behind():
    """A thousand workers later `threading` knows of no more threads than before."""
    before = threading.active_count(), len(threading._active), set(threading._dangling)
    for _ in range(250):
        with AsyncTaskPool(4) as pool:
            barrier = threading.Barrier(4)
            for _ in range(4):
                pool.submit(barrier.wait, 20)
    # Workers of other tests may have left meanwhile.
    assert threading.active_count() <= before[0]
    assert len(threading._active) <= before[1]
    assert len(set(threading._dangling) - before[2]) <= 4


def test_the_timer_thread_is_not_pythons(one, clock):
    """The timer thread runs no Python, and is none of `threading`'s."""
    before = set(threading.enumerate())
    task = one.post_task(int, DelayTask(1000))
    assert set(threading.enumerate()) <= before
    task.cancel()


def test_thread_locals_last_as_long_as_the_worker(one):
    """A `threading.local` set by one task is there for the next on the same worker."""
    local = threading.local()

    def count():
        local.count = getattr(local, "count", 0) + 1
        return local.count

    assert [one.submit(count).result(20) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert not hasattr(local, "count")


def test_thread_locals_are_freed_with_the_worker(make_pool):
    """What a worker had in a `threading.local` is freed when it ends, attached."""
    freed = []

    class Value:
        def __del__(self):
            freed.append(threading.get_ident())

    pool = make_pool(1)
    local = threading.local()
    pool.submit(lambda: setattr(local, "value", Value())).result(20)
    assert freed == []
    pool.shutdown()
    assert len(freed) == 1


@pytest.mark.skipif(sys.gettrace() is not None, reason="something traces already")
def test_settrace_traces_callbacks(make_pool):
    """`threading.settrace` reaches workers that start afterwards, as it does any thread."""
    lines = []

    def trace(frame, event, _):
        if frame.f_code is callback.__code__:
            lines.append(event)
        return trace

    def callback():
        x = 1
        return x + 1

    threading.settrace(trace)
    try:
        assert make_pool(1).submit(callback).result(20) == 2
    finally:
        threading.settrace(None)
    assert lines == ["call", "line", "line", "return"]


def test_setprofile_profiles_callbacks(make_pool):
    """`threading.setprofile` reaches workers too."""
    events = []

    def profile(frame, event, _):
        if frame.f_code is callback.__code__:
            events.append(event)

    def callback():
        return 2

    threading.setprofile(profile)
    try:
        assert make_pool(1).submit(callback).result(20) == 2
    finally:
        threading.setprofile(None)
    assert events == ["call", "return"]


def test_logging_knows_the_worker(make_pool, caplog):
    """A log record made in a callback has the worker's name."""
    pool = make_pool(1, "logs")
    with caplog.at_level(logging.INFO):
        pool.submit(logging.getLogger("test").info, "hello").result(20)
    assert [(record.threadName, record.getMessage()) for record in caplog.records] == [
        ("logs-0", "hello")
    ]


def test_faulthandler_shows_callbacks(one, gate):
    """A dump of all threads has the lines of a running callback."""

    def stands_here():
        gate()

    one.submit(stands_here)
    gate.wait()
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        assert "in stands_here" in file.read()
    frames = [frame.f_code.co_name for frame in sys._current_frames().values()]
    assert len(frames) >= 2


def test_callbacks_do_not_hold_the_main_thread_up(one, gate):
    """A queue full of callables written in C lets the main thread run as well."""
    gate.hold(one)
    numbers = range(2_000)
    tasks = [one.submit(sum, numbers) for _ in range(20_000)]
    turns = 0
    gate.open()
    while not tasks[-1].done():
        turns += 1
        time.sleep(0)  # gives the GIL away, and comes back when the worker does
    assert turns > 5
    assert tasks[-1].result(20) == 1_999_000


def test_the_gil_is_free_while_workers_sleep(make_pool):
    """Callbacks that block let each other run."""
    pool = make_pool(8)
    barrier = threading.Barrier(8)
    assert sorted(t.result(20) for t in [pool.submit(barrier.wait, 20) for _ in range(8)]) == list(
        range(8)
    )
    began = time.monotonic()
    for task in [pool.submit(time.sleep, 0.05) for _ in range(8)]:
        task.result(20)
    assert time.monotonic() - began >= 0.05


def test_an_exception_hook_is_not_called(make_pool, monkeypatch):
    """A callback's exception is in its handle; `threading.excepthook` hears nothing."""
    heard = []
    monkeypatch.setattr(threading, "excepthook", heard.append)
    task = make_pool(1).submit(lambda: 1 / 0)
    assert isinstance(task.exception(20), ZeroDivisionError)
    assert heard == []
