"""What a child is told of lost series, and forks at odd moments and under load."""

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


TOLD = """
told = []
logger = logging.getLogger("asynctask")
logger.filters.clear()
logger.addHandler(logging.NullHandler())
logger.addFilter(lambda record: told.append(record.getMessage()))
"""


def test_a_child_is_told_once_that_series_are_cancelled(run_forking):
    """A child whose parent has series hears of it at the fork, how many, and what to do instead."""
    run_forking(
        TOLD
        + """
pool = AsyncTaskPool(2)
beats = [pool.post_task(int, IntervalTask(1000)), asynctask.post_task(int, IntervalTask(0.001))]
over = pool.post_task(int, IntervalTask(0.001, max_runs=1))
over.result(20)
delayed = pool.post_task(int, DelayTask(1000))
def child():
    (text,) = told
    assert text.startswith("2 series posted before the fork are cancelled in this process"), text
    assert "post_fork" in text
    assert all(beat.cancelled() for beat in beats)
    assert pool.submit(abs, -1).result(20) == 1
    assert asynctask.post_task(abs, args=(-1,)).result(20) == 1
    assert len(told) == 1
    told.clear()
    def grandchild():
        assert told == [], told
    assert fork(grandchild) == 0
    mine = pool.post_task(int, IntervalTask(1000))
    def grandchild():
        assert told[0].startswith("1 series"), told
    assert fork(grandchild) == 0
assert fork(child) == 0
for beat in beats:
    beat.stop_and_wait()
def child():
    assert told == [], told  # a delayed task runs in the parent, once, as it should
assert fork(child) == 0
assert told == []
"""
    )


def test_a_second_import_counts_no_fork_twice(run_forking):
    """A program that imports the package anew is told of lost series as any other is."""
    run_forking(
        TOLD
        + """
for name in [name for name in sys.modules if name.partition(".")[0] == "asynctask"]:
    del sys.modules[name]
import asynctask
asynctask.post_task(int, asynctask.IntervalTask(1000))
def child():
    (text,) = told
    assert text.startswith("1 series posted before the fork are cancelled in this process"), text
assert fork(child) == 0
"""
    )


def test_a_child_of_a_fork_that_no_python_code_asked_for_is_told(run_forking):
    """C code may fork with the hooks, as uWSGI can: no function of Python's has called them."""
    run_forking(
        TOLD
        + """
beat = asynctask.post_task(int, IntervalTask(1000))
os.register_at_fork(after_in_child=lambda: os._exit(len(told) + 40))  # called after ours
pid = AsyncTaskPool(1).submit(os.fork).result(20)
assert wait_for(pid) == 41
"""
    )


@pytest.mark.parametrize("how", ["multiprocessing", "subprocess"])
def test_a_child_for_one_call_is_not_told(run_python, how):
    """Nobody expects the parent's series in a process of a pool's, or before an `exec`."""
    start = {
        "multiprocessing": "multiprocessing.get_context('fork').Process(target=int)",
        "subprocess": "subprocess.Popen([sys.executable, '-c', ''], preexec_fn=int)",
    }[how]
    run_python(
        f"""
        import multiprocessing, subprocess, sys, warnings
        import asynctask

        warnings.simplefilter("ignore", DeprecationWarning)
        beat = asynctask.post_task(int, asynctask.IntervalTask(1000))
        process = {start}
        if {how!r} == "multiprocessing":
            process.start()
            process.join(40)
            assert process.exitcode == 0
        else:
            assert process.wait(40) == 0
        """
    )


@pytest.mark.skipif(sys.platform != "linux", reason="it calls the C library's fork")
def test_a_fork_that_python_does_not_know_of(run_forking):
    """A program with Python inside may fork by itself: the child starts fresh all the same."""
    run_forking(
        TOLD
        + """
import ctypes, sysconfig
os.fork = ctypes.PyDLL(None).fork  # no hooks, and the interpreter stays with this thread
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    # No other thread may be attached then: docs/design/free-threading.md.
    def is_asleep(thread):
        if int(thread) == threading.get_native_id():
            return True
        try:
            with open(f"/proc/self/task/{thread}/stat") as stat:
                return stat.read().rpartition(")")[2].split()[0] == "S"
        except (FileNotFoundError, ProcessLookupError):
            return True  # it has ended
    def fork_while_others_sleep(fork=os.fork):
        while not all(map(is_asleep, os.listdir("/proc/self/task"))):
            time.sleep(0.001)
        return fork()
    os.fork = fork_while_others_sleep
pool = AsyncTaskPool(2, min_workers=1)
assert pool.submit(lambda: 1).result(20) == 1
assert asynctask.post_task(lambda: 2, DelayTask(0.001)).result(20) == 2
beat = asynctask.post_task(int, IntervalTask(1000))
timer = pool.post_task(int, DelayTask(1000))
def child():
    assert told == []
    assert beat.cancelled() and timer.cancelled()
    assert asynctask.post_task(lambda: 3).result(20) == 3
    (text,) = told  # no hook was called: the first use of a pool is where it can be said
    assert text.startswith("1 series"), text
    assert pool.submit(lambda: 4).result(20) == 4
    assert pool.post_task(lambda: 5, DelayTask(0.001)).result(20) == 5
    mine = pool.post_task(int, IntervalTask(0.001))
    mine.wait_for_finished_count(3, 20)
    mine.stop_and_wait(20)
    mine = pool.post_task(int, IntervalTask(1000))
    assert len(told) == 1
    def grandchild():
        assert mine.cancelled()
        assert pool.submit(lambda: 6).result(20) == 6
    assert fork(grandchild) == 0
for _ in range(20):
    assert fork(child) == 0
assert pool.submit(lambda: 7).result(20) == 7
assert not timer.done()
assert told == []
"""
    )


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_fork_waits_for_a_worker_that_comes_or_goes(run_forking, way):
    """No fork comes while a worker enters `threading`'s list, or is on its way out from there."""
    run_forking(
        f"""
from asynctask import _threading
here, forking, passed = threading.Event(), threading.Event(), []
os.register_at_fork(before=forking.set)  # the last that is registered is the first that is called
def await_fork(call, *args):
    here.set()
    assert forking.wait(20)
    time.sleep(0.05)  # that is when a fork which does not wait is over
    result = call(*args)
    passed.append(1)
    return result
if {way!r} == "in":
    class WorkerThread(_threading._WorkerThread):
        def __init__(self, name):
            await_fork(super().__init__, name)
    _threading._WorkerThread = WorkerThread
else:
    class functools:
        def partial(take_off, *args):  # what a worker calls on its way out
            return lambda: await_fork(take_off, *args)
    _threading.functools = functools
pool = AsyncTaskPool(1, idle_timeout=0)
pool.submit(int)
assert here.wait(20)
def child():
    assert passed == [1]
assert fork(child) == 0
"""
    )


def test_forks_at_the_end_of_a_threads_locals(run_forking):
    """What ends with a worker's `threading.local` may fork, and does not wait for itself."""
    run_forking(
        """
local, codes, over = threading.local(), [], threading.Event()
class Last:
    def __del__(self):
        for _ in range(20):
            codes.append(fork(lambda: None))
        over.set()
def work():
    local.last = Last()
pool = AsyncTaskPool(1, idle_timeout=0)
pool.submit(work).result(20)
assert over.wait(15)  # a second each is what forks wait for others
assert codes == [0] * 20
"""
    )


def test_a_hook_that_waits_for_workers_before_a_fork(run_forking):
    """Who shuts a pool down before each fork may have said so before the package was imported."""
    run_forking(
        """
pools.append(AsyncTaskPool(2, min_workers=1))
assert pools[0].submit(lambda: 1).result(20) == 1
def child():
    assert asynctask.post_task(lambda: 2).result(20) == 2
assert fork(child) == 0
""",
        first="""
import os
pools = []
os.register_at_fork(before=lambda: [pool.shutdown() for pool in pools])  # called after ours
""",
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_thousand_forks_under_load(run_forking):
    """1,000 forks while threads post, workers come and go and timers fire: none deadlocks."""
    run_forking(
        """
pool = AsyncTaskPool(4, idle_timeout=0)
stop = threading.Event()
def post():
    while not stop.is_set():
        tasks = [pool.submit(int), pool.post_task(int, DelayTask(0.0005)), asynctask.post_task(int)]
        pool.post_task(int, DelayTask(100)).cancel()
        for task in tasks:
            task.result(30)
threads = [threading.Thread(target=post) for _ in range(3)]
for thread in threads:
    thread.start()
beats = [pool.post_task(int, IntervalTask(0.001)) for _ in range(5)]
pending = pool.post_task(int, DelayTask(1000))
def child():
    assert pending.cancelled()
    assert pool.submit(lambda: 1).result(30) == 1
    assert asynctask.post_task(lambda: 2, DelayTask(0)).result(30) == 2
for n in range(1000):
    assert fork(child) == 0, n
stop.set()
for thread in threads:
    thread.join(30)
    assert not thread.is_alive()
for beat in beats:
    beat.wait_for_finished_count(beat.called_times() + 3, 30)
assert not pending.done()
""",
        timeout=280,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_forks_in_callbacks_under_load(run_forking):
    """200 forks by four workers at a time: every child runs tasks of its own, and ends."""
    run_forking(
        """
import gc, sysconfig
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    gc.disable()  # betas of 3.14t fork with its lock held: docs/design/free-threading.md
pool = AsyncTaskPool(4)
beat = pool.post_task(int, IntervalTask(0.001))
def callback(n):
    pid = os.fork()
    if pid == 0:
        assert pool.submit(abs, -n).result(30) == n
        pool.submit(int)
        return
    return wait_for(pid)
codes = [task.result(200) for task in [pool.submit(callback, n) for n in range(200)]]
assert codes == [0] * 200, codes
beat.wait_for_finished_count(beat.called_times() + 3, 30)
""",
        timeout=280,
    )
