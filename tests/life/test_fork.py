"""A forked child starts fresh, and its parent does not notice.

Every child is forked in a program of its own, never in the process of the tests.
"""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import asynctask
import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")

PREAMBLE = """
import logging, os, sys, threading, time, traceback, warnings
import asynctask
from asynctask import AsyncTaskPool, DelayTask, IntervalTask
# Of CPython 3.12 and later, for every fork of a process with threads; it has a test of its own.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
# That the parent's series are cancelled has tests of its own.
logging.getLogger("asynctask").addFilter(lambda record: "before the fork" not in record.msg)

def fork(child, patience=30):
    "Run `child` in a fork of this thread; give its exit code, 99 for an exception."
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            child()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return wait_for(pid, patience)

def wait_for(pid, patience=30):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    raise AssertionError("the child hangs")
"""

BUSY = """
pool = AsyncTaskPool(3, thread_name_prefix="mine", min_workers=1, idle_timeout=0.5)
started, leave = threading.Event(), threading.Event()
finished = pool.submit(lambda: "value")
failed = pool.submit(divmod, 1, 0)
failed.exception(20), finished.result(20)
running = pool.submit(lambda: (started.set(), leave.wait(30)))
assert started.wait(20)
timer = pool.post_task(int, DelayTask(1000))
series = pool.post_task(int, IntervalTask(0.002))
after = pool.after(1000)
series.wait_for_finished_count(3, 20)
"""


def test_a_child_of_a_busy_parent_starts_fresh(run_python):
    """In the child what is unfinished is cancelled, what is finished readable, and pools work."""
    printed = run_python(
        PREAMBLE
        + BUSY
        + """
def child():
    assert threading.active_count() == 1
    assert pool.stats()[3:] == (0,) * 11, pool.stats()
    assert finished.result(0) == "value"
    assert isinstance(failed.exception(0), ZeroDivisionError)
    began = time.monotonic()
    for task in (running, timer, series, after):
        assert task.cancelled() and task.done() and not task.running(), task
        assert task.cancel(), task
        task.stop()
        task.stop_and_wait()
        for wait in (task.result, task.exception):
            try:
                wait()
            except asynctask.CancelledError:
                pass
            else:
                raise AssertionError(task)
        assert not task.reschedule(1)
        assert "cancelled" in repr(task)
        called = []
        task.add_done_callback(called.append)
        assert called == [task]
    series.wait_for_finished_count(3)
    try:
        series.wait_for_finished_count(10**9)
    except asynctask.CancelledError:
        pass
    # The pools of the parent, anew, with their options.
    names = {pool.submit(lambda: threading.current_thread().name).result(20) for _ in range(3)}
    assert all(name.startswith("mine-") for name in names), names
    assert pool.stats().max_workers == 3
    assert pool.post_task(lambda: 1, DelayTask(0.001)).result(20) == 1
    beat = pool.post_task(int, IntervalTask(0.001))
    beat.wait_for_finished_count(3, 20)
    assert asynctask.post_task(lambda: 2).result(20) == 2
    with pool:
        late = pool.submit(lambda: 3)
    assert late.result(0) == 3

assert fork(child) == 0
# The parent is as it was.
runs = series.called_times()
assert runs >= 3
series.wait_for_finished_count(runs + 5, 20)
assert not running.done() and not timer.done() and not after.done()
assert pool.submit(lambda: 4).result(20) == 4
leave.set()
assert running.result(20)
print("well")
"""
    )
    assert printed == "well\n"


def test_the_parents_workers_are_not_alive_in_the_child(run_python):
    """The thread object of a worker says in the child that the thread is not there."""
    run_python(
        PREAMBLE
        + """
pool = AsyncTaskPool(1, min_workers=1)
worker = pool.submit(threading.current_thread).result(20)
def child():
    assert not worker.is_alive()
    assert threading.enumerate() == [threading.main_thread()]
assert fork(child) == 0
assert worker.is_alive()
"""
    )


def test_a_child_of_an_unused_package(run_python):
    """A fork before the first use leaves both sides usable."""
    run_python(
        PREAMBLE
        + """
def child():
    assert asynctask.post_task(lambda: 1).result(20) == 1
assert fork(child) == 0
assert asynctask.post_task(lambda: 2).result(20) == 2
"""
    )


def test_a_child_may_choose_the_default_pools_options(run_python):
    """The child's default pool is unused, and may be given options of its own."""
    run_python(
        PREAMBLE
        + """
asynctask.set_work_pool_options(2)
assert asynctask.post_task(int).result(20) == 0
def child():
    assert asynctask.wait_and_exit() is True  # unused
    asynctask.set_work_pool_options(5)
    assert asynctask.get_async_task().stats().max_workers == 5
    assert asynctask.post_task(lambda: 1).result(20) == 1
    assert asynctask.wait_and_exit(20) is True
assert fork(child) == 0
assert asynctask.get_async_task().stats().max_workers == 2
"""
    )


def test_children_of_children(run_python):
    """Each fork starts fresh, however deep, and every parent goes on."""
    run_python(
        PREAMBLE
        + """
def nest(depth):
    task = asynctask.post_task(int, IntervalTask(0.001))
    task.wait_for_finished_count(2, 20)
    if depth:
        def child():
            assert task.cancelled()
            nest(depth - 1)
        assert fork(child) == 0
    task.wait_for_finished_count(task.called_times() + 2, 20)
    assert asynctask.post_task(lambda: depth).result(20) == depth
nest(4)
"""
    )


FROM_WORKERS = {
    "returning": ("return", 0),
    "an exit code": ("sys.exit(5)", 5),
    "an exit message": ("sys.stderr = sys.stdout; sys.exit('told')", 1),
    "a failure": ("sys.stderr = sys.stdout; raise ValueError('told')", 1),
    "an exit message on a stderr of its own": (
        "sys.stderr = os.fdopen(os.dup(1), 'w', 10**6); sys.exit('told')",
        1,
    ),
    "a closed stdout": ("sys.stdout.close()", 0),
    "os._exit": ("os._exit(6)", 6),
    "with tasks of its own": ("asynctask.post_task(lambda: os.write(1, b'ran'))", 0),
    "with a series of its own": ("asynctask.post_task(int, IntervalTask(0.001))", 0),
    "with a pool of its own": ("AsyncTaskPool(2, min_workers=2).submit(int).result(20)", 0),
    "with a thread": ("threading.Thread(target=lambda: os.write(1, b'ran')).start()", 0),
    "waiting for a parent's task": ("timer.cancelled() or os._exit(9)", 0),
}


@pytest.mark.parametrize(("end", "code"), FROM_WORKERS.values(), ids=FROM_WORKERS)
def test_a_fork_in_a_callback(run_python, end, code):
    """A callback may fork; the child ends with it, as a child of `multiprocessing` does."""
    printed = run_python(
        PREAMBLE
        + f"""
timer = asynctask.post_task(int, DelayTask(1000))
beat = asynctask.post_task(int, IntervalTask(0.001))
def callback():
    pid = os.fork()
    if pid == 0:
        assert threading.current_thread() is threading.main_thread()
        {end}
        return
    return wait_for(pid)
for _ in range(3):
    code = asynctask.post_task(callback).result(40)
    assert code == {code}, code
beat.wait_for_finished_count(beat.called_times() + 3, 20)
assert not timer.done()
"""
    )
    if "ran" in end:
        assert printed == "ran" * 3
    elif "told" in end:
        assert printed.count("told") >= 3


def test_a_fork_in_a_callback_of_a_callback(run_python):
    """A fork in a task that another callback waits for, which runs it itself, ends well too."""
    run_python(
        PREAMBLE
        + """
pool = AsyncTaskPool(1)
def inner():
    pid = os.fork()
    return pid and wait_for(pid)
def outer():
    task = pool.submit(inner)
    try:
        return task.result()
    except asynctask.CancelledError:
        os._exit(3)  # the child: to it the task is the parent's
assert pool.submit(outer).result(40) == 3
def outer():
    pool.submit(inner).cancelled()
    try:
        return pool.submit(inner).result()
    except asynctask.CancelledError:
        return 7
assert pool.submit(outer).result(40) == 0
"""
    )


def test_a_fork_in_a_done_callback(run_python):
    """A done-callback that forks and returns leaves no child behind that hangs."""
    run_python(
        PREAMBLE
        + """
codes, told = [], threading.Event()
def done(task):
    pid = os.fork()
    if pid:
        codes.append(wait_for(pid))
        told.set()
leave = threading.Event()
task = asynctask.post_task(leave.wait)
task.add_done_callback(done)
leave.set()
assert told.wait(40)
assert codes == [0], codes
"""
    )


@pytest.mark.parametrize("where", ["main", "worker"])
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(run_python, tmp_path, method, where):
    """Every start method gives children that can use the package, from any thread."""
    (tmp_path / "children.py").write_text(
        "import asynctask\n"
        "pool = asynctask.AsyncTaskPool(2)\n"
        "def work(n):\n"
        "    assert asynctask.post_task(abs, args=(-n,)).result(20) == n\n"
        "    return pool.submit(pow, n, 2).result(20)\n"
    )
    run_python(
        PREAMBLE
        + f"""
import multiprocessing
sys.path.insert(0, {str(tmp_path)!r})
import children
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    assert children.work(3) == 9
    beat = children.pool.post_task(int, IntervalTask(0.001))
    def start():
        process = context.Process(target=children.work, args=(4,))
        process.start()
        process.join(40)
        return process.exitcode
    code = start() if {where!r} == "main" else children.pool.submit(start).result(45)
    assert code == 0, code
    if {where!r} == "main":
        with context.Pool(2) as processes:
            assert processes.map(children.work, range(8)) == [n * n for n in range(8)]
    beat.wait_for_finished_count(beat.called_times() + 3, 20)
""",
    )


def test_a_child_that_ends_as_programs_do(run_python):
    """A child that leaves by `sys.exit` runs what it has queued, and exits with 0."""
    printed = run_python(
        PREAMBLE
        + BUSY
        + """
pid = os.fork()
if pid == 0:
    for n in range(10):
        pool.submit(lambda n: (time.sleep(0.002), os.write(1, b"ran ")), n)
    asynctask.post_task(print, DelayTask(1000))
    sys.exit(0)
leave_by = wait_for(pid)
leave.set()
print(leave_by)
"""
    )
    assert printed == "ran " * 10 + "0\n"


def test_a_pool_that_was_shut_down_is_so_in_the_child(run_python):
    """A pool that is shut down is born shut down; one that broke may work again."""
    run_python(
        PREAMBLE
        + """
pool = AsyncTaskPool(1)
pool.submit(int).result(20)
pool.shutdown()
def child():
    try:
        pool.submit(int)
    except asynctask.PoolShutdown:
        pass
    else:
        raise AssertionError
assert fork(child) == 0
"""
    )


def test_an_initializer_runs_anew_in_the_child(run_python):
    """A pool's initializer is called on the workers of the child as well."""
    run_python(
        PREAMBLE
        + """
calls = []
pool = AsyncTaskPool(1, initializer=lambda: calls.append(os.getpid()))
pool.submit(int).result(20)
def child():
    pool.submit(int).result(20)
    assert calls == [os.getppid(), os.getpid()], calls
assert fork(child) == 0
"""
    )


def test_a_subpool_in_the_child(run_python):
    """Dropping inherited pools and handles in the child is harmless."""
    run_python(
        PREAMBLE
        + BUSY
        + """
def child():
    global pool, running, timer, series, after, finished, failed
    import gc
    del pool, running, timer, series, after, finished, failed
    gc.collect()
    assert asynctask.post_task(lambda: 1).result(20) == 1
assert fork(child) == 0
leave.set()
"""
    )


def test_the_warning_comes_with_the_threads(run_python):
    """CPython 3.12 and later warn of a fork with threads: not before there are any."""
    run_python(
        """
        import os, sys, warnings
        import asynctask
        pool = asynctask.AsyncTaskPool(4, min_workers=2)

        def fork():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                pid = os.fork()
                if pid == 0:
                    os._exit(0)
                os.waitpid(pid, 0)
            return [warning.category for warning in caught]

        assert fork() == []
        asynctask.post_task(int).result(20)
        assert fork() == ([DeprecationWarning] if sys.version_info >= (3, 12) else [])
        """
    )


TOLD = """
told = []
logger = logging.getLogger("asynctask")
logger.filters.clear()
logger.addHandler(logging.NullHandler())
logger.addFilter(lambda record: told.append(record.getMessage()))
"""


def test_a_child_is_told_once_that_series_are_cancelled(run_python):
    """A child whose parent has series hears of it at the fork, how many, and what to do instead."""
    run_python(
        PREAMBLE
        + TOLD
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


def test_a_second_import_counts_no_fork_twice(run_python):
    """A program that imports the package anew is told of lost series as any other is."""
    run_python(
        PREAMBLE
        + TOLD
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
def test_a_fork_that_python_does_not_know_of(run_python):
    """A program with Python inside may fork by itself: the child starts fresh all the same."""
    run_python(
        PREAMBLE
        + TOLD
        + """
import ctypes
os.fork = ctypes.PyDLL(None).fork  # no hooks, and the interpreter stays with this thread
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
def test_a_fork_waits_for_a_worker_that_comes_or_goes(run_python, way):
    """No fork comes while a worker enters `threading`'s list, or is on its way out from there."""
    run_python(
        PREAMBLE
        + f"""
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


def test_forks_at_the_end_of_a_threads_locals(run_python):
    """What ends with a worker's `threading.local` may fork, and does not wait for itself."""
    run_python(
        PREAMBLE
        + """
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


def test_a_hook_that_waits_for_workers_before_a_fork(run_python):
    """Who shuts a pool down before each fork may have said so before the package was imported."""
    run_python(
        """
import os
pools = []
os.register_at_fork(before=lambda: [pool.shutdown() for pool in pools])  # called after ours
"""
        + PREAMBLE
        + """
pools.append(AsyncTaskPool(2, min_workers=1))
assert pools[0].submit(lambda: 1).result(20) == 1
def child():
    assert asynctask.post_task(lambda: 2).result(20) == 2
assert fork(child) == 0
"""
    )


def run_long(program: str) -> None:
    """Run a program that may take minutes."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", program],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_thousand_forks_under_load():
    """1,000 forks while threads post, workers come and go and timers fire: none deadlocks."""
    run_long(
        PREAMBLE
        + """
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
"""
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_forks_in_callbacks_under_load():
    """200 forks by four workers at a time: every child runs tasks of its own, and ends."""
    run_long(
        PREAMBLE
        + """
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
"""
    )


# A module-level pool, used before the workers are forked, and the default pool: both as people
# write them.
APPLICATION = """
import os, threading
import asynctask
from asynctask import DelayTask, IntervalTask

pool = asynctask.AsyncTaskPool(4, thread_name_prefix="app")
loaded = pool.submit(os.getpid).result(20)
beat = asynctask.post_task(int, IntervalTask(0.005))
mine = None

def application(environ, start_response):
    global mine
    if mine is None:
        assert beat.cancelled()  # the beat of the process that loaded the application
        mine = asynctask.post_task(int, IntervalTask(0.005))
        mine.wait_for_finished_count(2, 20)
    total = sum(pool.map(abs, range(-10, 0)))
    pid = asynctask.post_task(os.getpid, DelayTask(0.001)).result(20)
    with pool.group() as group:
        for n in range(5):
            group.submit(pow, n, 2)
    answer = f"{pid} {loaded} {total} {sum(group.results())} {mine.called_times() > 0}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_gunicorn_with_preload(tmp_path):
    """Two workers, forked from a process that has used its pools, serve requests that use them."""
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    (tmp_path / "app.py").write_text(APPLICATION)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [
                sys.executable,
                *("-W", "ignore::DeprecationWarning", "-m", "gunicorn", "--preload"),
                *("--workers", "2", "--bind", f"127.0.0.1:{port}", "--timeout", "60"),
                *("--worker-tmp-dir", str(tmp_path), "--no-control-socket", "app:application"),
            ],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as server,
    ):
        try:
            end = time.monotonic() + 60
            while True:
                assert server.poll() is None, log.read_text()
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
            answers = []

            def ask():
                for _ in range(50):
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                    connection.request("GET", "/")
                    response = connection.getresponse()
                    answers.append((response.status, response.read().decode().split()))
                    connection.close()

            clients = [threading.Thread(target=ask) for _ in range(6)]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            assert len(answers) == 300, log.read_text()
            assert {status for status, _ in answers} == {200}, log.read_text()
            assert {tuple(words[1:]) for _, words in answers} == {
                (str(server.pid), "55", "30", "True")
            }
            pids = {words[0] for _, words in answers}
            assert str(server.pid) not in pids
            assert 1 <= len(pids) <= 2  # which of the two accepts is the kernel's choice
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0, log.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
    text = log.read_text()
    for word in ("Traceback", "panicked", "SIGABRT", "SIGKILL", "Fatal"):
        assert word not in text, text
    # Each worker has said once that the beat of the arbiter is not its own.
    assert text.count("1 series posted before the fork are cancelled in this process") == 2, text


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_uwsgi(tmp_path):
    """Workers of uWSGI, which forks without Python's hooks, use pools that were used before."""
    environment = tmp_path / "venv"
    uwsgi = environment / "bin" / "uwsgi"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    built = subprocess.run(
        [sys.executable, "-m", "pip", "--python", environment, "install", "-q", "uwsgi>=2.0.28"],
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        pytest.skip(f"uwsgi cannot be built here: {built.stderr.strip()[-200:]}")
    (tmp_path / "app.py").write_text(APPLICATION)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [
                *(uwsgi, "--http-socket", f"127.0.0.1:{port}", "--master", "--processes", "2"),
                *("--enable-threads", "--die-on-term", "--need-app", "--module", "app"),
                *("--pythonpath", Path(asynctask.__file__).parents[1]),
            ],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as server,
    ):
        try:
            end = time.monotonic() + 60
            while "spawned uWSGI worker 2" not in log.read_text():
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.05)
            pids = set()
            for _ in range(40):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request("GET", "/")
                response = connection.getresponse()
                words = response.read().decode().split()
                connection.close()
                assert response.status == 200, log.read_text()
                assert words[2:] == ["55", "30", "True"], log.read_text()
                pids.add(words[0])
            assert str(server.pid) not in pids
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0, log.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
    text = log.read_text()
    assert "Traceback" not in text, text
    assert text.count("1 series posted before the fork") == len(pids), text
