"""The end of the program: it never hangs, never crashes, and prints nothing."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest

PROGRAMS = {
    "nothing posted": "asynctask.get_async_task()",
    "idle": "asynctask.post_task(int).result(20)",
    "queued": """
        ran = set()  # in no order: it has more than one worker
        for n in range(100):
            asynctask.post_task(ran.add, args=(n,))
        expected = set(range(100))
    """,
    "queue of one worker": """
        asynctask.set_work_pool_options(1)
        def slow(n):
            time.sleep(0.005)
            ran.append(n)
        for n in range(10):
            asynctask.post_task(slow, args=(n,))
        expected = list(range(10))
    """,
    "sleeping callback": """
        asynctask.post_task(lambda: (time.sleep(0.1), ran.append(1)))
        expected = [1]
    """,
    "loop in python": """
        def loop():
            end = time.monotonic() + 0.1
            while time.monotonic() < end:
                pass
            ran.append(1)
        asynctask.post_task(loop)
        expected = [1]
    """,
    "pending timers": """
        for n in range(10_000):
            asynctask.post_task(ran.append, DelayTask(1000 + n), args=(n,))
    """,
    "running series": """
        started = threading.Event()
        asynctask.post_task(started.set, IntervalTask(0.001))
        started.wait(20)
    """,
    "sys.exit in a callback": """
        task = asynctask.post_task(sys.exit, args=(3,))
        task.exception(20)
    """,
    "own pool, never shut down": """
        pool = AsyncTaskPool(2, min_workers=2)
        pool.submit(ran.append, 1).result(20)
        pool.post_task(print, IntervalTask(1000))
        expected = [1]
    """,
    "own pool, collected": """
        AsyncTaskPool(2, min_workers=1).submit(int).result(20)
    """,
    "after wait_and_exit": """
        asynctask.post_task(ran.append, args=(1,))
        assert asynctask.wait_and_exit(20)
        expected = [1]
    """,
    "callback that posts during exit": """
        def again(n):
            ran.append(n)
            try:
                asynctask.post_task(again, args=(n + 1,))
            except asynctask.PoolShutdown:
                pass
            else:
                assert n < 100_000, "the exit never came"
        asynctask.post_task(again, args=(0,))
        expected = None
    """,
    "callback that waits during exit": """
        asynctask.set_work_pool_options(1)
        def outer():
            time.sleep(0.05)
            inner = asynctask.post_task(lambda: 1) if False else None
            ran.append(1)
        asynctask.post_task(outer)
        expected = [1]
    """,
    "thread that waits for a task": """
        gate = threading.Event()
        task = asynctask.post_task(lambda: gate.wait(20) and "done")
        thread = threading.Thread(target=lambda: ran.append(task.result(20)))
        thread.start()
        threading.Timer(0.05, gate.set).start()
        expected = ["done"]
    """,
    "waiting with after": "asynctask.after(1000)",
    "ticker": "ticks = asynctask.ticker(0.001); next(ticks)",
    "group": """
        group = asynctask.get_async_task().group(timeout=1000)
        group.submit(ran.append, 1)
        expected = [1]
    """,
    "full queue": """
        asynctask.set_work_pool_options(1, 5)
        asynctask.post_task(time.sleep, args=(0.05,))
        for n in range(20):
            asynctask.post_task(ran.append, args=(n,))
        expected = list(range(20))
    """,
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_ends_well(run_python, program):
    """Queued tasks run, timers and series are cancelled, and the program exits with 0, silently."""
    printed = run_python(
        "import asynctask, sys, threading, time\n"
        "from asynctask import AsyncTaskPool, DelayTask, IntervalTask\n"
        "ran = []\n"
        "expected = []\n" + textwrap.dedent(program) + "\n"
        # Registered last, so it runs first of the hooks, and after the workers are through.
        "import atexit\n"
        "atexit.register(lambda: print(expected is None or ran == expected))\n"
    )
    assert printed == "True\n"


def test_posting_from_an_exit_hook_is_refused_clearly(run_python):
    """A post from `atexit` says that the interpreter is shutting down."""
    printed = run_python(
        """
        import asynctask, atexit

        def late():
            for post in (lambda: asynctask.post_task(int),
                         lambda: asynctask.AsyncTaskPool(1).submit(int),
                         lambda: asynctask.after(1)):
                try:
                    post()
                except asynctask.PoolShutdown as error:
                    print(error)

        atexit.register(late)
        asynctask.post_task(int).result(20)
        """
    )
    assert printed == "cannot schedule new futures after interpreter shutdown\n" * 3


@pytest.mark.parametrize("how", ["time.sleep(1)", "[x for x in range(10**7)]", "sum(range(10**8))"])
def test_a_callback_that_outlives_the_program_does_not_crash_it(run_python, how):
    """After a `wait_and_exit` that timed out, a callback may still run when the program ends."""
    printed = run_python(
        f"""
        import asynctask, threading, time
        started = threading.Event()
        def block():
            started.set()
            {how}
        asynctask.post_task(block)
        started.wait(20)
        print(asynctask.wait_and_exit(0.01))
        """
    )
    # A loop in C holds the GIL, so nobody gets to ask before it is over.
    assert printed in ("False\n", "True\n" if "sum" in how else "False\n")


def test_the_exit_does_not_wait_again_for_a_pool_that_had_its_wait(run_python):
    """After a `wait_and_exit` that timed out, the program ends without another."""
    run_python(
        """
        import asynctask, threading, time
        pool, started = asynctask.AsyncTaskPool(1), threading.Event()
        pool.post_task(lambda: (started.set(), time.sleep(3600)))
        assert started.wait(20)
        assert not pool.wait_and_exit(0.01)
        """
    )


def test_an_uncaught_exception_still_runs_what_is_queued(run_python):
    """A main thread that ends with an exception does not take the queue with it."""
    program = """
        import asynctask
        asynctask.set_work_pool_options(1)
        for n in range(10):
            asynctask.post_task(print, args=(n,), kwargs={"flush": True})
        raise SystemExit(3)
    """
    assert run_python(program, code=3).split() == [str(n) for n in range(10)]


WAITS = {
    "result": "asynctask.post_task(int, DelayTask(1000)).result()",
    "result with a timeout": "asynctask.post_task(int, DelayTask(1000)).result(1000)",
    "exception": "asynctask.post_task(int, DelayTask(1000)).exception()",
    "count": "asynctask.post_task(int, IntervalTask(500)).wait_for_finished_count(3)",
    "after": "asynctask.after(1000).wait_for_finished()",
    "sleep": "asynctask.sleep(1000)",
    "ticker": "next(asynctask.ticker(1000))",
    "group": """
        group = asynctask.get_async_task().group()
        group.post_task(int, DelayTask(1000))
        group.wait()
    """,
    "room": """
        asynctask.set_work_pool_options(1, 1)
        for _ in range(3):
            asynctask.post_task(hold)
    """,
    "stop_and_wait": """
        task = asynctask.post_task(hold)
        held.wait(20)
        task.stop_and_wait()
    """,
    "shutdown": """
        pool = AsyncTaskPool(1)
        pool.submit(hold)
        pool.shutdown()
    """,
    "wait_and_exit": """
        asynctask.post_task(hold)
        asynctask.wait_and_exit(1000)
    """,
    "clock": """
        clock = ManualClock()
        AsyncTaskPool(1, clock=clock).post_task(hold, DelayTask(1))
        clock.advance(1, patience=1000)
    """,
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_ctrl_c_ends_every_wait(wait):
    """Ctrl-C during a wait of the main thread raises `KeyboardInterrupt` there."""
    program = (
        textwrap.dedent(
            """
            import sys, threading
            import asynctask
            from asynctask import AsyncTaskPool, DelayTask, IntervalTask
            from asynctask.testing import ManualClock

            held, leave = threading.Event(), threading.Event()
            def hold():
                held.set()
                leave.wait(40)
            try:
                print("ready", flush=True)
            """
        )
        + textwrap.indent(textwrap.dedent(wait).strip(), "    ")
        + textwrap.dedent(
            """
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            else:
                print("not interrupted", flush=True)
            leave.set()
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        # The wait begins somewhen after the line was written; a signal before is as good.
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=40)
    assert (process.returncode, stdout, stderr) == (0, "interrupted\n", "")


def test_ctrl_c_ends_the_wait_at_exit():
    """Ctrl-C while the program waits for its queue to finish ends it, without a crash."""
    program = """
        import asynctask, threading
        started = threading.Event()
        def hold():
            started.set()
            threading.Event().wait(40)
        asynctask.post_task(hold)
        started.wait(20)
        print("ready", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode in {0, 1, -signal.SIGINT, 130}
    assert "Fatal" not in stderr
    assert "panicked" not in stderr


def test_a_stopped_process_misses_ticks_and_keeps_the_phase():
    """After SIGSTOP a series goes on in phase, and counts what it missed."""
    program = """
        import sys, time
        import asynctask
        from asynctask import AsyncTaskPool, IntervalTask

        times = []
        pool = AsyncTaskPool(1)
        posted = time.monotonic()
        series = pool.post_task(lambda: times.append(time.monotonic() - posted), IntervalTask(0.01))
        series.wait_for_finished_count(3, 20)
        print("ready", flush=True)
        sys.stdin.readline()
        series.wait_for_finished_count(series.called_times() + 3, 20)
        series.stop_and_wait(20)
        ended = time.monotonic() - posted
        stats = pool.stats()
        ticks = series.called_times() + stats.missed_runs + stats.skipped_runs
        assert stats.missed_runs + stats.skipped_runs >= 20, stats
        assert all(at >= n * 0.01 for n, at in enumerate(times, 1))
        assert ticks * 0.01 <= ended  # no more than have passed
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)
        process.send_signal(signal.SIGCONT)
        _, stderr = process.communicate("go\n", timeout=40)
    assert (process.returncode, stderr) == (0, "")


def test_an_idle_pool_wakes_nothing(run_python):
    """Neither workers nor timer thread of an idle pool, timers an hour ahead or not, ever wake."""
    printed = run_python(
        """
        import datetime as dt, os, threading, time
        from asynctask import AsyncTaskPool, DelayTask, IntervalTask

        pool = AsyncTaskPool(3, min_workers=3, idle_timeout=1000)
        barrier = threading.Barrier(3)
        for task in [pool.submit(barrier.wait, 20) for _ in range(3)]:
            task.result(20)
        timers = [pool.post_task(int, DelayTask(3600)) for _ in range(1000)]
        timers.append(pool.post_task(int, IntervalTask(3600)))
        # One on the wall clock has one thread more, which the kernel wakes when that is set.
        end = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1)
        timers.append(pool.post_task(int, IntervalTask(3600, until=end)))

        def switches():
            main = str(threading.get_native_id())
            counts = {}
            for thread in os.listdir("/proc/self/task"):
                if thread != main:
                    with open(f"/proc/self/task/{thread}/status") as status:
                        lines = dict(line.split(":") for line in status)
                    counts[thread] = int(lines["voluntary_ctxt_switches"])
            return counts

        for _ in range(10):  # whoever is still on his way to sleep gets there
            before = switches()
            time.sleep(0.5)
            if switches() == before:
                print(len(before))
                break
        """
    )
    assert printed == "5\n"


def test_a_signal_handler_that_does_not_raise_prolongs_nothing(run_python):
    """A storm of signals neither ends a wait nor stretches its timeout."""
    printed = run_python(
        """
        import signal, time
        import asynctask
        from asynctask import DelayTask

        hits = []
        signal.signal(signal.SIGALRM, lambda *_: hits.append(None))
        signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
        task = asynctask.post_task(int, DelayTask(1000))
        for wait in (task.result, task.wait_for_finished):
            began = time.monotonic()
            try:
                wait(0.2)
            except TimeoutError:
                took = time.monotonic() - began
                assert 0.2 <= took < 5, took
            else:
                raise AssertionError("no timeout")
        began = time.monotonic()
        asynctask.sleep(0.1)
        assert 0.1 <= time.monotonic() - began < 5
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert len(hits) > 5, hits
        """
    )
    assert printed == ""
