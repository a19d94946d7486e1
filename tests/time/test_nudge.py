"""A main thread that computes is asked for the GIL when a task is due.

With a switch interval of a minute nobody gets the GIL from a thread that computes, unless it lets
go by itself. So a callback that is seen from such a thread at all has been nudged for. A nudge may
be in vain, where the machine is busy; so other due tasks follow, each with a nudge of its own.
"""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import time

import asynctask
import pytest
from asynctask import DelayTask, IntervalTask

PATIENCE = 20  # seconds that only a hang takes
A_MINUTE = 60
HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
HAS_NUDGE = HAS_GIL and sys.version_info >= (3, 13)

needs_nudge = pytest.mark.skipif(not HAS_NUDGE, reason="there is no nudge in this Python")


@pytest.fixture
def no_switch():
    """Nobody is made to give the GIL up."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(A_MINUTE)
    yield
    sys.setswitchinterval(before)


def compute_until(condition):
    """Keep the GIL until *condition* holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "nobody has come"


def keep_nudging(pool):
    """Post tasks that are due one after the other, for as long as anybody is patient."""
    for n in range(PATIENCE * 50):
        pool.post_task(int, DelayTask(n / 50))


@needs_nudge
@pytest.mark.usefixtures("no_switch")
def test_a_due_task_runs_beside_a_main_thread_that_computes(make_pool):
    """The main thread lets the worker in."""
    seen = []
    pool = make_pool(1)
    task = pool.post_task(seen.append, DelayTask(0.01), args=("due",))
    keep_nudging(pool)
    compute_until(lambda: seen)
    assert task.result(PATIENCE) is None


@needs_nudge
@pytest.mark.usefixtures("no_switch")
def test_a_series_runs_beside_a_main_thread_that_computes(make_pool):
    """Every run is nudged for, at a rate that is not refused."""
    seen = []
    pool = make_pool(2)
    beat = pool.post_task(lambda: seen.append(1), IntervalTask(0.005))
    keep_nudging(pool)
    compute_until(lambda: len(seen) >= 50)
    beat.stop_and_wait(PATIENCE)


@needs_nudge
@pytest.mark.usefixtures("no_switch")
def test_more_due_tasks_than_are_nudged_for_all_run(make_pool):
    """Tasks that come too fast for a nudge each run with the next."""
    seen = []
    pool = make_pool(2)
    for n in range(2000):
        pool.post_task(seen.append, DelayTask(0.01 + n * 0.0001), args=(n,))
    keep_nudging(pool)
    compute_until(lambda: len(seen) == 2000)
    assert sorted(seen) == list(range(2000))


@needs_nudge
@pytest.mark.usefixtures("no_switch")
def test_several_pools_are_nudged_for(make_pool):
    """Pools share the nudge; each gets its tasks run."""
    pools = [make_pool(1) for _ in range(3)]
    seen = [[] for _ in pools]
    beats = [
        pool.post_task(runs.append, IntervalTask(0.004), args=(1,))
        for pool, runs in zip(pools, seen, strict=True)
    ]
    for pool in pools:
        keep_nudging(pool)
    compute_until(lambda: all(len(runs) >= 10 for runs in seen))
    for beat in beats:
        beat.stop_and_wait(PATIENCE)


@needs_nudge
@pytest.mark.usefixtures("no_switch")
def test_a_worker_that_was_on_its_way_is_nudged_for(make_pool):
    """A task posted to run now waits for the GIL; a due one gets both of them in."""
    seen = []
    pool = make_pool(1)
    pool.submit(int).result(PATIENCE)
    pool.post_task(seen.append, DelayTask(0.01), args=("due",))
    pool.submit(seen.append, "now")
    keep_nudging(pool)
    compute_until(lambda: len(seen) == 2)
    assert seen == ["now", "due"]


@needs_nudge
@pytest.mark.usefixtures("no_switch")
def test_without_the_option_nobody_is_nudged_for(make_pool):
    """With `nudge=False` no due task gets the GIL from a main thread that computes."""
    pool, seen = make_pool(1, nudge=False), []
    pool.submit(int).result(PATIENCE)
    for n in range(100):
        pool.post_task(seen.append, DelayTask(0.05 + n / 200), args=(n,))
    end = time.monotonic() + 0.5
    del seen[:]  # what ran between two posts, if these took longer than the first delay
    while time.monotonic() < end:
        pass
    assert seen == []


@needs_nudge
@pytest.mark.usefixtures("no_switch")
def test_nudges_are_rationed(make_pool):
    """In any time the main thread lets workers in 2,000 times a second, and ten times, at most."""
    pools, came = [make_pool(1) for _ in range(4)], {}
    for pool in pools:
        pool.submit(int).result(PATIENCE)
    number = 0
    for n in range(4_000):  # 20,000 a second, from when they are posted on
        for pool in pools:
            delay = DelayTask(0.2 + n * 0.0002)
            pool.post_task(lambda: came.setdefault(number, time.monotonic()), delay)
    came.clear()
    end = time.monotonic() + 1
    while time.monotonic() < end:
        number += 1  # another number means that the main thread has been back
    assert came
    ahead = [count - at * 2_000 for count, at in enumerate(came.values(), 1)]
    # One more may be granted while the one before it is still to be paid for.
    assert max(now - min(ahead[:count]) for count, now in enumerate(ahead, 1)) < 11


@pytest.mark.parametrize("nudge", [True, False])
def test_due_tasks_run_with_and_without(make_pool, nudge):
    """Whether there is a nudge or not, and on any Python, a busy main thread delays and no more."""
    seen = []
    beat = make_pool(1, nudge=nudge).post_task(lambda: seen.append(1), IntervalTask(0.002))
    compute_until(lambda: len(seen) >= 5)
    beat.stop_and_wait(PATIENCE)


def test_main_threads_that_wait_are_left_alone(make_pool):
    """A call that is left for a main thread in a wait does no harm when it comes out."""
    pool = make_pool(2)
    beat = pool.post_task(int, IntervalTask(0.001))
    for _ in range(20):
        asynctask.sleep(0.002)
        threading.Event().wait(0.002)
        pool.submit(int).result(PATIENCE)
    beat.wait_for_finished_count(20, PATIENCE)
    beat.stop_and_wait(PATIENCE)


def test_signals_come_through(make_pool):
    """Handlers run as they do without a nudge."""
    heard = []
    before = signal.signal(signal.SIGINT, lambda *_: heard.append(1))
    pool = make_pool(1)
    try:
        beat = pool.post_task(signal.raise_signal, IntervalTask(0.002), args=(signal.SIGINT,))
        compute_until(lambda: len(heard) >= 10)
        beat.stop_and_wait(PATIENCE)
    finally:
        signal.signal(signal.SIGINT, before)


@needs_nudge
@pytest.mark.parametrize("nudge", [True, False])
def test_the_default_pool_takes_the_option(run_python, nudge):
    """`set_work_pool_options` hands it on: only with it is the main thread interrupted."""
    script = f"""
        import sys, time
        import asynctask

        asynctask.set_work_pool_options(nudge={nudge})
        assert asynctask.post_task(int).result(20) == 0
        sys.setswitchinterval({A_MINUTE})
        seen, patience = [], {PATIENCE if nudge else 0.5}
        for n in range(int(patience * 50)):
            asynctask.post_task(seen.append, asynctask.DelayTask(0.05 + n / 50), args=(n,))
        del seen[:]
        end = time.monotonic() + patience
        while not seen and time.monotonic() < end:
            pass
        print(bool(seen), flush=True)
        sys.setswitchinterval(0.005)
    """
    assert run_python(script) == f"{nudge}\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_has_its_own(run_python):
    """A fork amid nudges leaves nobody waiting, and the child is nudged as its parent is."""
    script = f"""
        import logging, os, sys, time, warnings
        from asynctask import AsyncTaskPool, DelayTask, IntervalTask

        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
        # That the parent's series is cancelled has tests of its own.
        logging.getLogger("asynctask").addFilter(lambda record: "before the fork" not in record.msg)

        def compute(runs):
            for n in range({PATIENCE * 50}):
                pool.post_task(int, DelayTask(n / 50))
            end = time.monotonic() + {PATIENCE}
            while len(runs) < 20:
                assert time.monotonic() < end, "nobody has come"

        pool, seen = AsyncTaskPool(2), []
        pool.post_task(lambda: seen.append(1), IntervalTask(0.001))
        if {HAS_NUDGE}:
            sys.setswitchinterval({A_MINUTE})
        compute(seen)
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                runs = []
                pool.post_task(lambda: runs.append(1), IntervalTask(0.001))
                compute(runs)
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            del seen[:]
            compute(seen)
        sys.setswitchinterval(0.005)
    """
    run_python(script)


@needs_nudge
def test_a_child_expects_nobody_of_its_parents(run_python):
    """A worker that the parent's main thread has been asked to let in does not come in the child.

    The ask comes after the last bytecode before the fork, so it is the child's main thread that
    answers it.
    """
    script = """
        import functools, os, warnings

        computes = functools.partial(sum, range(2_000_000))
        os.register_at_fork(before=computes)  # the first to be registered is the last to be called

        import sys
        from asynctask import AsyncTaskPool, DelayTask, _asynctask

        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
        pool = AsyncTaskPool(1)
        pool.submit(int).result(20)
        sys.setswitchinterval(60)
        for _ in range(5):
            for n in range(40):
                pool.post_task(int, DelayTask(0.01 + n / 200))
            pid = os.fork()
            if pid == 0:
                os._exit(_asynctask._nudge_state() != (0, False, 0))
            assert os.waitpid(pid, 0)[1] == 0
        sys.setswitchinterval(0.005)
    """
    run_python(script)


@needs_nudge
def test_a_fork_waits_for_a_call_that_is_being_left(run_python):
    """CPython's list is not copied while a thread writes to it."""
    script = """
        import os, threading, time, warnings
        from asynctask import AsyncTaskPool, _asynctask

        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
        AsyncTaskPool(1).shutdown()
        threading.Thread(target=_asynctask._stay_at_list, args=(0.5,)).start()
        while _asynctask._nudge_state()[2] == 0:
            time.sleep(0.001)
        pid = os.fork()
        at_list = _asynctask._nudge_state()[2]
        if pid == 0:
            os._exit(at_list)
        assert at_list == 0
        assert os.waitpid(pid, 0)[1] == 0
    """
    run_python(script)


CALLS = """
    import ctypes, logging, os, time, warnings
    from asynctask import AsyncTaskPool, IntervalTask, _asynctask

    warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
    logging.getLogger("asynctask").addFilter(lambda record: "before the fork" not in record.msg)
    function = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
    called = []
    call = function(lambda _: called.append(1) or 0)

    def calls_are_made():
        assert ctypes.pythonapi.Py_AddPendingCall(call, None) == 0
        for _ in range(100):
            time.sleep(0.001)  # who takes the GIL looks for calls
            if called:
                return True
        return False
"""


@needs_nudge
def test_calls_are_made_in_a_child(run_python):
    """CPython's list works in a child, whatever is asked for while it is forked."""
    script = """
        memory = bytearray(1 << 26)  # makes a fork take its time
        pools = [AsyncTaskPool(1) for _ in range(4)]
        for number, pool in enumerate(pools):
            pool.post_task(int, IntervalTask(0.001 + number / 10_000))
        for _ in range(100):
            end = time.monotonic() + 0.003
            while time.monotonic() < end:
                pass
            pid = os.fork()
            if pid == 0:
                os._exit(not calls_are_made())
            assert os.waitpid(pid, 0)[1] == 0
    """
    run_python(textwrap.dedent(CALLS) + textwrap.dedent(script))


@needs_nudge
def test_calls_are_made_in_a_child_of_a_worker_that_was_let_in(run_python):
    """A fork waits until the main thread is no longer in a call, which would go on for ever."""
    script = """
        def fork():
            if forked or _asynctask._nudge_state()[0] != 2:
                return  # this worker has not been let in
            pid = os.fork()
            if pid == 0:
                os._exit(not calls_are_made())
            forked.append(os.waitpid(pid, 0)[1])

        forked, pool = [], AsyncTaskPool(1)
        beat = pool.post_task(fork, IntervalTask(0.002))
        end = time.monotonic() + 20
        while not forked and time.monotonic() < end:
            pass
        assert forked == [0]
        beat.stop_and_wait(20)
    """
    run_python(textwrap.dedent(CALLS) + textwrap.dedent(script))


def test_a_program_may_end_amid_nudges(run_python):
    """The exit waits for nobody who does not come."""
    script = """
        import asynctask
        for n in range(10):
            asynctask.post_task(int, asynctask.IntervalTask(0.001 + n * 0.0001))
        total = sum(range(300_000))
    """
    run_python(script)
