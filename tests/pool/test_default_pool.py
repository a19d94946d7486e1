"""The default pool: one per process, made at first use."""

import threading
import time
from pathlib import Path

import asynctask
import pytest
from asynctask import AsyncTaskPool, DelayTask, IntervalTask, PoolShutdown
from asynctask.testing import reset_default_pool
from helpers.threads import join, start

pytestmark = pytest.mark.usefixtures("default_pool")


def test_there_is_one_default_pool():
    """Whoever asks gets the same pool, which is an `AsyncTaskPool`."""
    pool = asynctask.get_async_task()
    assert type(pool) is AsyncTaskPool
    assert asynctask.get_async_task() is pool
    before = pool.stats().submitted
    asynctask.post_task(int).result(20)
    assert pool.stats().submitted == before + 1


def test_many_threads_make_one_default_pool():
    """A race for the first use makes one pool."""
    pools = []
    barrier = threading.Barrier(8)

    def get():
        barrier.wait(20)
        pools.append(asynctask.get_async_task())

    threads = [start(get) for _ in range(8)]
    join(*threads)
    assert len(set(map(id, pools))) == 1


def test_the_three_usages():
    """Now, later, and every so often: the three usages of the front page."""
    ran = []
    asynctask.post_task(lambda: ran.append("now")).wait_for_finished(20)
    later = asynctask.post_task(lambda: ran.append("later"), DelayTask(0.010))
    later.wait_for_finished(20)
    beat = asynctask.post_task(lambda: ran.append("beat"), IntervalTask(0.002))
    beat.wait_for_finished_count(3, 20)
    beat.stop_and_wait(20)
    assert ran[:2] == ["now", "later"]
    assert ran[2:] == ["beat"] * beat.called_times()


def test_its_options_can_be_set_before_its_first_use():
    """`set_work_pool_options` takes workers, capacity, and the options of a pool."""
    asynctask.set_work_pool_options(
        max_workers=1, max_capacity=1, on_full="raise", thread_name_prefix="set"
    )
    entered, leave = threading.Event(), threading.Event()
    task = asynctask.post_task(lambda: (entered.set(), leave.wait(20)))
    assert entered.wait(20)
    queued = asynctask.post_task(lambda: threading.current_thread().name)
    with pytest.raises(asynctask.QueueFull):
        asynctask.post_task(int)
    leave.set()
    assert task.result(20)
    assert queued.result(20) == "set-0"
    assert asynctask.get_async_task().stats().max_workers == 1


def test_the_stub_has_each_option_of_a_pool_and_no_other(run_python):
    """A type checker knows every keyword of `AsyncTaskPool` here too, and finds a wrong one."""
    # In a process of its own: CPython 3.11 takes a parse that runs meanwhile, to print a
    # traceback for one, for an error of this one.
    stub = Path(asynctask.__file__).with_name("_asynctask.pyi")
    program = f"""
    import ast
    from pathlib import Path

    stub = ast.parse(Path({str(stub)!r}).read_text())
    named = {{node.name: node for node in stub.body if hasattr(node, "name")}}
    methods = {{node.name: node for node in named["PoolBase"].body if hasattr(node, "args")}}
    pool = methods.get("__init__", methods.get("__new__")).args
    here = named["set_work_pool_options"].args
    assert here.kwarg is None
    options = {{argument.arg for argument in pool.args[1:] + pool.kwonlyargs}}
    taken = {{argument.arg for argument in here.args + here.kwonlyargs}}
    assert taken == options | {{"max_capacity"}}, taken ^ options
    """
    run_python(program)


def test_the_last_options_count():
    """Options may be set again as long as nobody has used the pool."""
    asynctask.set_work_pool_options(3)
    asynctask.set_work_pool_options(2)
    assert asynctask.get_async_task().stats().max_workers == 2


@pytest.mark.parametrize("use", ["post_task", "get_async_task", "after"])
def test_its_options_cannot_be_set_afterwards(use):
    """Once the pool is used, its options are refused."""
    calls = {
        "post_task": lambda: asynctask.post_task(int).result(20),
        "get_async_task": asynctask.get_async_task,
        "after": lambda: asynctask.after(0.001).result(20),
    }
    calls[use]()
    with pytest.raises(RuntimeError, match="default pool"):
        asynctask.set_work_pool_options(2)


def test_it_is_bounded_at_10000_by_default():
    """A program that posts faster than it works feels it: the queue has 10,000 places."""
    asynctask.set_work_pool_options(1)
    pool = asynctask.get_async_task()
    entered, leave = threading.Event(), threading.Event()
    asynctask.post_task(lambda: (entered.set(), leave.wait(20)))
    assert entered.wait(20)
    for _ in range(10_000):
        assert pool.try_submit(int) is not None
    assert pool.try_submit(int) is None
    leave.set()


def test_it_may_have_no_queue():
    """With `max_capacity=0` a task is handed to a free worker or treated as one too many."""
    asynctask.set_work_pool_options(1, 0, on_full="raise", min_workers=0)
    leave, entered = threading.Event(), threading.Event()
    task = asynctask.post_task(lambda: (entered.set(), leave.wait(20)))
    assert entered.wait(20)
    with pytest.raises(asynctask.QueueFull):
        asynctask.post_task(int)
    leave.set()
    assert task.result(20)


def test_wait_and_exit_ends_it():
    """`wait_and_exit` runs what is queued, cancels what waits, and the pool takes no more."""
    tasks = [asynctask.post_task(int) for _ in range(100)]
    later = asynctask.post_task(int, DelayTask(1000))
    assert asynctask.wait_and_exit(20) is False  # what waited was cut short
    assert [task.result(0) for task in tasks] == [0] * 100
    assert later.cancelled()
    with pytest.raises(PoolShutdown):
        asynctask.post_task(int)
    assert asynctask.wait_and_exit(20) is True


def test_wait_and_exit_gives_up_after_a_second_by_default():
    """Without a timeout, a callback that blocks is waited for one second, and no longer."""
    leave = threading.Event()
    entered = threading.Event()
    asynctask.post_task(lambda: (entered.set(), leave.wait(20)))
    assert entered.wait(20)
    began = time.monotonic()
    assert asynctask.wait_and_exit() is False
    assert 1 <= time.monotonic() - began < 15
    leave.set()
    assert asynctask.wait_and_exit(None) is True


def test_after_reset_there_is_a_new_one():
    """`testing.reset_default_pool` shuts the pool down and forgets it."""
    old = asynctask.get_async_task()
    task = asynctask.post_task(lambda: 1)
    reset_default_pool()
    assert task.result(0) == 1
    with pytest.raises(PoolShutdown):
        old.submit(int)
    assert asynctask.get_async_task() is not old
    assert asynctask.post_task(lambda: 2).result(20) == 2


def test_a_reset_does_not_wait_for_ever(gate):
    """`reset_default_pool` gives a stuck task up when the time is up, and says so."""
    stuck, started = asynctask.post_task(gate), asynctask.get_async_task()
    gate.wait()
    queued = [asynctask.post_task(int) for _ in range(50)]
    later = asynctask.post_task(int, DelayTask(1000))
    assert reset_default_pool(timeout=0.01) is False
    assert asynctask.get_async_task() is not started
    assert asynctask.post_task(int).result(20) == 0
    assert later.cancelled()
    assert not stuck.done()
    gate.open()
    assert stuck.result(20) == "through"
    assert all(task.done() for task in queued)
    assert reset_default_pool(timeout=None) is True
    assert reset_default_pool(timeout=-1) is True


def test_importing_starts_no_thread(run_python):
    """`import asynctask` starts no thread, and makes no pool."""
    printed = run_python(
        """
        import os, threading
        import asynctask
        from asynctask import AsyncTaskPool, DelayTask
        pool = AsyncTaskPool(4)
        print(len(os.listdir("/proc/self/task")), threading.active_count())
        """
    )
    assert printed.split() == ["1", "1"]


def test_modules_of_the_package_are_there_when_asked_for(run_python):
    """`asynctask.aio` and `asynctask.testing` need no import of their own, and cost it none."""
    run_python(
        """
        import sys
        import asynctask

        assert not {"asyncio", "asynctask.aio", "asynctask.testing"} & set(sys.modules)
        assert {"aio", "testing", "post_task"} <= set(dir(asynctask))
        assert callable(asynctask.aio.install)
        assert asynctask.testing.ManualClock is asynctask._asynctask.ManualClock
        assert asynctask.aio is sys.modules["asynctask.aio"]
        from asynctask import aio, testing

        try:
            asynctask.no_such_name
        except AttributeError as error:
            assert str(error) == "module 'asynctask' has no attribute 'no_such_name'", error
            assert (error.name, error.obj) == ("no_such_name", asynctask)
        else:
            raise AssertionError
        """
    )
