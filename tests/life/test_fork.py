"""A forked child starts fresh, and its parent does not notice.

Every child is forked in a program of its own, never in the process of the tests.
"""

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


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


def test_a_child_of_a_busy_parent_starts_fresh(run_forking):
    """In the child what is unfinished is cancelled, what is finished readable, and pools work."""
    printed = run_forking(
        BUSY
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


def test_the_parents_workers_are_not_alive_in_the_child(run_forking):
    """The thread object of a worker says in the child that the thread is not there."""
    run_forking(
        """
pool = AsyncTaskPool(1, min_workers=1)
worker = pool.submit(threading.current_thread).result(20)
def child():
    assert not worker.is_alive()
    assert threading.enumerate() == [threading.main_thread()]
assert fork(child) == 0
assert worker.is_alive()
"""
    )


def test_a_child_of_an_unused_package(run_forking):
    """A fork before the first use leaves both sides usable."""
    run_forking(
        """
def child():
    assert asynctask.post_task(lambda: 1).result(20) == 1
assert fork(child) == 0
assert asynctask.post_task(lambda: 2).result(20) == 2
"""
    )


def test_a_child_may_choose_the_default_pools_options(run_forking):
    """The child's default pool is unused, and may be given options of its own."""
    run_forking(
        """
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


def test_children_of_children(run_forking):
    """Each fork starts fresh, however deep, and every parent goes on."""
    run_forking(
        """
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
def test_a_fork_in_a_callback(run_forking, end, code):
    """A callback may fork; the child ends with it, as a child of `multiprocessing` does."""
    printed = run_forking(
        f"""
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


def test_a_fork_in_a_callback_of_a_callback(run_forking):
    """A fork in a task that another callback waits for, which runs it itself, ends well too."""
    run_forking(
        """
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


def test_a_fork_in_a_done_callback(run_forking):
    """A done-callback that forks and returns leaves no child behind that hangs."""
    run_forking(
        """
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
def test_multiprocessing(run_forking, tmp_path, method, where):
    """Every start method gives children that can use the package, from any thread."""
    (tmp_path / "children.py").write_text(
        "import asynctask\n"
        "pool = asynctask.AsyncTaskPool(2)\n"
        "def work(n):\n"
        "    assert asynctask.post_task(abs, args=(-n,)).result(20) == n\n"
        "    return pool.submit(pow, n, 2).result(20)\n"
    )
    run_forking(
        f"""
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


def test_a_child_that_ends_as_programs_do(run_forking):
    """A child that leaves by `sys.exit` runs what it has queued, and exits with 0."""
    printed = run_forking(
        BUSY
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


def test_a_pool_that_was_shut_down_is_so_in_the_child(run_forking):
    """A pool that is shut down is born shut down; one that broke may work again."""
    run_forking(
        """
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


def test_an_initializer_runs_anew_in_the_child(run_forking):
    """A pool's initializer is called on the workers of the child as well."""
    run_forking(
        """
calls = []
pool = AsyncTaskPool(1, initializer=lambda: calls.append(os.getpid()))
pool.submit(int).result(20)
def child():
    pool.submit(int).result(20)
    assert calls == [os.getppid(), os.getpid()], calls
assert fork(child) == 0
"""
    )


def test_a_subpool_in_the_child(run_forking):
    """Dropping inherited pools and handles in the child is harmless."""
    run_forking(
        BUSY
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
