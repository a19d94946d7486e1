"""A system that has no thread to give: what was accepted waits for one."""

import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="threads are made scarce by a limit"
)

SCARCE = """
    import ctypes, os, resource, threading, time
    from asynctask import AsyncTaskPool, DelayTask, IntervalTask

    if os.getuid() == 0:  # root has no limit; its files stay readable
        os.setresuid(65534, 65534, 0)
        ctypes.CDLL(None).setfsuid(0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)

    def until(condition):
        end = time.monotonic() + 40
        while not condition() and time.monotonic() < end:
            time.sleep(0.005)
        return condition()

    def forbid():
        resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
        try:
            threading.Thread(target=int).start()
        except RuntimeError:
            return
        print("threads cannot be made scarce")
        os._exit(0)

    def allow():
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))

    def alone():
        return len(os.listdir("/proc/self/task")) == 1
"""


def check(said):
    """Give up where the limit does not limit."""
    if said == "threads cannot be made scarce\n":
        pytest.skip(said)
    assert said == "ok\n"


def test_a_series_outlives_a_moment_without_threads(run_python):
    """The timer keeps its thread while a run goes, so the series finds it when the run ends."""
    check(
        run_python(
            SCARCE
            + """
    pool = AsyncTaskPool(2, min_workers=1, idle_timeout=0.05)
    go, started = threading.Event(), threading.Event()
    series = pool.post_task(lambda: (started.set(), go.wait(30)), IntervalTask(0.01))
    started.wait(30)
    time.sleep(0.3)  # six times what makes an idle thread leave
    forbid()
    go.set()
    lives = until(lambda: series.called_times() >= 3)
    allow()
    assert lives and not series.done(), series
    pool.shutdown(cancel_futures=True)
    assert until(alone)  # and it leaves with the series
    print("ok")
    """
        )
    )


def test_what_is_due_without_a_worker_waits_for_one(run_python):
    """A due task for which no worker can be started is tried again in a moment, not lost."""
    check(
        run_python(
            SCARCE
            + """
    pool = AsyncTaskPool(2, idle_timeout=0.05)
    series = pool.post_task(int, IntervalTask(0.3))
    delayed = pool.post_task(lambda: "ran", DelayTask(0.6))
    assert until(lambda: series.called_times() and pool.stats().idle_workers == 0)
    forbid()
    time.sleep(1)  # both are due meanwhile
    assert not delayed.done() and not series.done()
    runs = series.called_times()
    allow()
    assert delayed.result(30) == "ran"
    assert until(lambda: series.called_times() > runs + 1)
    pool.shutdown(cancel_futures=True)
    print("ok")
    """
        )
    )


def test_a_post_that_finds_no_thread_is_refused(run_python):
    """Nothing is accepted that has no thread to wait with, and the error says why."""
    check(
        run_python(
            SCARCE
            + """
    from asynctask import BrokenPool

    pool = AsyncTaskPool(2)
    forbid()
    for options in ((), (DelayTask(1),), (IntervalTask(1),)):
        try:
            pool.post_task(int, *options)
        except BrokenPool as error:
            assert "cannot start a worker" in str(error), error
        else:
            raise AssertionError(options)
    allow()
    assert pool.stats().submitted == 0
    assert pool.post_task(lambda: "ran", DelayTask(0.01)).result(30) == "ran"
    pool.shutdown()
    print("ok")
    """
        )
    )


def test_groups_keep_their_deadlines_without_threads(run_python):
    """With one worker and no thread to be had, groups give results, failures and timeouts."""
    check(
        run_python(
            SCARCE
            + """
    import asyncio

    def fail():
        raise ValueError

    pool = AsyncTaskPool(4, idle_timeout=60)
    pool.post_task(int, DelayTask(0.001)).result(20)  # there is a worker, and the timer's thread
    forbid()
    go = threading.Event()

    async def main():
        async with pool.group() as group:
            for n in range(5):
                group.submit(int, n)
            group.post_task(int, DelayTask(0.002))
        assert group.results() == [0, 1, 2, 3, 4, 0]
        try:
            async with pool.group() as group:
                later = group.post_task(int, DelayTask(1000))
                group.submit(fail)
        except* ValueError:
            assert later.cancelled()
        else:
            raise AssertionError("no failure")
        asyncio.get_running_loop().call_later(0.2, go.set)
        try:
            async with pool.group(timeout=0.02) as group:
                busy, queued = group.submit(go.wait, 20), group.submit(int)
        except TimeoutError:
            assert (busy.result(0), queued.cancelled()) == (True, True)
        else:
            raise AssertionError("no timeout")

    asyncio.run(asyncio.wait_for(main(), 30))
    go.clear()
    group = pool.group(timeout=0.02)  # its alarm finds no thread: who waits keeps the deadline
    busy, queued = group.submit(go.wait, 20), group.submit(int)
    try:
        group.wait()
    except TimeoutError:
        assert (busy.done(), queued.cancelled()) == (False, True)
    else:
        raise AssertionError("no timeout")
    go.set()
    assert busy.result(20)
    allow()
    print("ok")
    """
        )
    )


def test_a_failure_is_logged_as_soon_as_there_is_a_thread_for_it(run_python):
    """One whose handle ends while the system has no thread is logged after a later post."""
    check(
        run_python(
            SCARCE
            + """
    import logging
    seen = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    logging.getLogger("asynctask").addHandler(handler)
    logging.getLogger("asynctask").propagate = False

    pool = AsyncTaskPool(1, idle_timeout=0.05)
    later = pool.post_task(int, DelayTask(600))  # the timer has its thread
    task = pool.post_task(divmod, args=(1, 0), name="lost")
    task.wait_for_finished(30)
    assert until(lambda: pool.stats().idle_workers == 0)
    forbid()
    del task
    time.sleep(0.1)
    assert seen == []
    allow()
    pool.post_task(int, DelayTask(600))
    assert until(lambda: seen == ["exception in task 'lost' was never retrieved"]), seen
    pool.shutdown(delayed="cancel")
    print("ok")
    """
        )
    )


HUNG = """
    pool = AsyncTaskPool(3, min_workers=1, idle_timeout=0.05, queue_size=QUEUE_SIZE)
    go = threading.Event()
    EARLY
    hung = pool.submit(go.wait)
    assert until(hung.running) and until(lambda: pool.stats().idle_workers == 0)
    forbid()
    LATE
    assert until(lambda: pool.stats().waiting)
    allow()
    THEN
    assert hung.running()
    go.set()
    pool.shutdown(cancel_futures=True)
    print("ok")
    """


@pytest.mark.parametrize(
    ("early", "late", "then"),
    [
        (
            # Seldom enough for its worker to leave meanwhile.
            "series = pool.post_task(int, IntervalTask(0.3))",
            "",
            "runs = series.called_times(); assert until(lambda: series.called_times() > runs)",
        ),
        ("task = pool.post_task(int, DelayTask(1.5))", "", "assert until(task.done), task"),
        ("pool.submit(int).result(30)", "task = pool.submit(int)", "assert task.result(30) == 0"),
        (
            "pool.submit(int).result(30)",
            "task = pool.submit(int)",
            "assert not pool.wait_and_exit(2) and task.result(0) == 0",
        ),
        (
            "pool.submit(int).result(30)",
            "tasks = [pool.submit(int) for _ in range(4)]",
            "assert pool.submit(int).result(30) == 0",  # there is no room, so it waits for some
        ),
    ],
    ids=["series", "delayed", "queued", "closed", "room"],
)
def test_a_worker_that_hangs_does_not_keep_the_others_out(run_python, early, late, then):
    """What found no thread runs when there are some again, though a worker hangs."""
    queue_size = "2" if "range(4)" in late else "None"
    program = HUNG.replace("QUEUE_SIZE", queue_size).replace("EARLY", early)
    check(run_python(SCARCE + program.replace("LATE", late).replace("THEN", then)))
