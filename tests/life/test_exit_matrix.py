"""The end of the program at its worst: threads in every state when the interpreter goes away.

Up to CPython 3.13 a thread that wants the interpreter after its end is ended by `pthread_exit`,
whose unwinding through a Rust frame aborts the process: exit code 134. Most programs below bring
a thread to that point on purpose.
"""

import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from helpers.programs import run_program

PATIENCE = 50
"""Seconds that only a hang takes."""

# Keeps the interpreter going away for a while: long enough for whoever sleeps in it to wake up and
# ask for it. Not a variable: a module's are not cleared when a thread still runs in it.
LINGER = """
import os, signal, sys, threading, time
class Linger:
    def __del__(self, sleep=time.sleep):
        sleep(0.5)
sys.modules["linger"] = Linger()
del Linger
import asynctask
from asynctask import AsyncTaskPool, DelayTask, IntervalTask
started = threading.Event()
def interrupt_the_exit():
    "Ctrl-C, as soon as the exit has begun."
    def interrupt(PoolShutdown=asynctask.PoolShutdown):
        try:
            while True:
                asynctask.after(0)
                time.sleep(0.002)
        except PoolShutdown:
            time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
    # A daemon, so that it is the pool that is waited for.
    threading.Thread(target=interrupt, daemon=True).start()
"""


def start(program: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen) -> tuple[int, str, str]:
    """Give exit code, stdout and stderr; a process that hangs is killed."""
    with process:
        try:
            stdout, stderr = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, stdout, stderr


def calm(stderr: str) -> str:
    """Leave out of stderr what CPython itself says of a Ctrl-C while it waits for threads.

    In its words it is ignored: an exit that was waiting goes on.
    """
    return "".join(
        line
        for line in stderr.splitlines(keepends=True)
        if not line.startswith(("Exception ignored", "Traceback", "  ", "KeyboardInterrupt"))
    )


# What a worker is in when the interpreter goes away.
BLOCKERS = {
    "time.sleep": "time.sleep(0.3)",
    "a lock": "lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=0.3)",
    "a loop in Python": "while True: pass",
    "a loop in C": "sum(range(10**7))",
    "Python below C": "[1].sort(key=lambda _: time.sleep(0.3))",
    "input and output": "import select; select.select([os.pipe()[0]], [], [], 0.3)",
}


@pytest.mark.parametrize("blocker", BLOCKERS.values(), ids=BLOCKERS)
def test_a_callback_outlives_wait_and_exit(blocker):
    """After a `wait_and_exit` that timed out, the program ends at once, with code 0, silently."""
    program = LINGER + textwrap.dedent(
        f"""
        is_over = threading.Event()
        def block():
            started.set()
            {blocker}
            is_over.set()
        asynctask.post_task(block)
        started.wait(20)
        # It may be over before this thread runs again.
        assert not asynctask.wait_and_exit(0.01) or is_over.is_set()
        """
    )
    assert end(start(program)) == (0, "", "")


def test_wait_and_exit_has_the_last_word(run_python):
    """The exit of the program does not wait again for what `wait_and_exit` has given up on."""
    printed = run_python(
        """
        import asynctask, atexit, threading, time
        leave, started = threading.Event(), threading.Event()
        def block():
            started.set()
            leave.wait(20)
            print("late")
        asynctask.post_task(block)
        started.wait(20)
        assert asynctask.wait_and_exit(0.01) is False
        atexit.register(print, "over")
        """
    )
    assert printed == "over\n"


# What a worker of ours calls for itself, not for a callback: each of these blocks for 0.3 s.
INNER = {
    "an initializer": """
        def initializer():
            started.set()
            time.sleep(0.3)
        pool = AsyncTaskPool(1, initializer=initializer)
        pool.submit(int)
    """,
    "a done-callback": """
        leave = threading.Event()
        task = asynctask.post_task(leave.wait)
        task.add_done_callback(lambda _: (started.set(), time.sleep(0.3)))
        leave.set()
    """,
    "a waiter of concurrent.futures": """
        class Waiter:
            def add_result(self, _):
                started.set()
                time.sleep(0.3)
        leave = threading.Event()
        task = asynctask.post_task(leave.wait)
        task._waiters.append(Waiter())
        task._condition
        leave.set()
    """,
    "the end of a result": """
        asynctask.post_task(Slow)
    """,
    "the end of a series' result": """
        asynctask.post_task(Slow, IntervalTask(0.01))
    """,
    "the end of an argument": """
        asynctask.post_task(print, args=(Slow(), ), kwargs={"file": open(os.devnull, "w")})
    """,
    "the end of a callback": """
        class Callback(Slow):
            def __call__(self):
                pass
        asynctask.post_task(Callback())
    """,
    "the end of an exception": """
        def fail():
            slow = Slow()
            raise ValueError
        task = asynctask.post_task(fail)
        try:
            task.result(20)
        except ValueError:
            pass
        asynctask.post_task(lambda task: None, args=(task,))
        del task
    """,
    "the end of a threading.local": """
        local = threading.local()
        def fill():
            local.slow = Slow()
        pool = AsyncTaskPool(1, idle_timeout=0)
        pool.submit(fill)
    """,
    "a log filter": """
        import logging
        class Filter(logging.Filter):
            def filter(self, _):
                started.set()
                time.sleep(0.3)
                return False
        logging.getLogger("asynctask").addFilter(Filter())
        asynctask.post_task(divmod, IntervalTask(0.01), args=(1, 0))
    """,
    "sys.unraisablehook": """
        def hook(_):
            started.set()
            time.sleep(0.3)
        sys.unraisablehook = hook
        class Waiter:
            def add_result(self, _):
                raise ValueError
        leave = threading.Event()
        task = asynctask.post_task(leave.wait)
        task._waiters.append(Waiter())
        task._condition
        leave.set()
    """,
}


@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
def test_ctrl_c_ends_the_exit_whatever_a_worker_is_in(inner):
    """A worker that wakes up in an interpreter that has gone away aborts nothing."""
    program = (
        LINGER
        + textwrap.dedent(
            """
            class Slow:
                def __del__(self, sleep=time.sleep, started=started):
                    started.set()
                    sleep(0.3)
            """
        )
        + textwrap.dedent(inner)
        # A build without a GIL leaves the end of an object to the thread that made it.
        + "\nwhile not started.wait(0.02):\n    asynctask.post_task(int)\ninterrupt_the_exit()\n"
    )
    code, stdout, stderr = end(start(program))
    assert (code, stdout, calm(stderr)) == (0, "", "")


@pytest.mark.parametrize("blocker", BLOCKERS.values(), ids=BLOCKERS)
def test_ctrl_c_ends_the_wait_at_exit(blocker):
    """Ctrl-C while the exit waits for a callback: the exit goes on, as with a pool of the library.

    The exit code is that of the program, which had ended well before.
    """
    program = LINGER + textwrap.dedent(
        f"""
        def block():
            started.set()
            {blocker}
        asynctask.post_task(block)
        started.wait(20)
        interrupt_the_exit()
        """
    )
    code, stdout, stderr = end(start(program))
    assert (code, stdout, calm(stderr)) == (0, "", "")


def test_ctrl_c_twice():
    """One Ctrl-C ends `result()`, the next one the exit; the exit code is that of an interrupt."""
    process = start(
        """
        import asynctask, sys, threading, time
        leave = threading.Event()
        def block():
            try:
                leave.wait(40)
            finally:
                sys.stdout.flush()
        hook = sys.excepthook
        def excepthook(*args):
            print("interrupted", flush=True)
            hook(*args)
        sys.excepthook = excepthook
        task = asynctask.post_task(block)
        print("waiting", flush=True)
        task.result()
        """
    )
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    time.sleep(0.2)  # now it waits for the callback
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, _, stderr = end(process)
    assert code == -signal.SIGINT
    assert "KeyboardInterrupt" in stderr
    assert "Fatal" not in stderr
    assert "panicked" not in stderr


DAEMONS = {
    "post": "asynctask.post_task(int)",
    "post and look": "asynctask.post_task(int).done()",
    "post what has to be looked at": "asynctask.post_task(partial)",
    "wait": "asynctask.post_task(int).result()",
    "wait for ever": "asynctask.post_task(int, DelayTask(1000)).result(0.001)",
    "delay and cancel": "asynctask.post_task(int, DelayTask(1)).cancel()",
    "done-callbacks": "asynctask.post_task(int).add_done_callback(lambda _: None)",
    "sleep": "asynctask.sleep(0.0001)",
    "pools": "AsyncTaskPool(1).submit(int).result()",
    "stats": "asynctask.get_async_task().stats()",
    "map": "list(asynctask.get_async_task().map(abs, range(3)))",
    "the caller runs": "caller_runs.submit(time.sleep, 0.001)",
    "wait as the library does": "futures.wait([asynctask.post_task(int)], 1)",
    "failures": "asynctask.post_task(divmod, args=(1, 0)).exception()",
}


@pytest.mark.parametrize("body", DAEMONS.values(), ids=DAEMONS)
def test_daemon_threads_use_the_pool_during_exit(body):
    """Whatever a daemon thread is in when the program ends, it ends well."""
    program = LINGER + textwrap.dedent(
        f"""
        import functools
        from concurrent import futures
        class Callable:
            def __call__(self):
                pass
        partial = functools.partial(Callable())
        caller_runs = AsyncTaskPool(1, queue_size=0, on_full="caller_runs")
        def work(TimeoutError=TimeoutError, Exception=Exception):
            while True:
                try:
                    {body}
                    started.set()
                except TimeoutError:
                    started.set()
                except Exception:
                    pass
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        assert started.wait(20)
        """
    )
    assert end(start(program)) == (0, "", "")


def test_a_thread_that_is_no_daemon_waits_while_the_program_ends(run_python):
    """A user's thread that waits for a queued task gets its result after the main thread's end."""
    printed = run_python(
        """
        import asynctask, threading, time
        asynctask.set_work_pool_options(1)
        asynctask.post_task(time.sleep, args=(0.05,))
        task = asynctask.post_task(lambda: "queued")
        timer = asynctask.post_task(int, asynctask.DelayTask(1000))
        def wait():
            print(task.result(20))
            try:
                timer.result(20)
            except asynctask.CancelledError:
                print("cancelled")
        threading.Thread(target=wait).start()
        """
    )
    assert printed == "queued\ncancelled\n"


def test_a_poster_blocked_on_a_full_queue_is_let_go(run_python):
    """A thread that waits for room when the program ends is told so, and ends."""
    printed = run_python(
        """
        import asynctask, threading
        pool = asynctask.AsyncTaskPool(1, queue_size=1, on_full="block")
        leave, full = threading.Event(), threading.Event()
        pool.submit(leave.wait, 20)
        pool.submit(int)
        def post():
            full.set()
            try:
                while True:
                    pool.submit(int)
            except asynctask.PoolShutdown as error:
                print(error)
            leave.set()
        threading.Thread(target=post).start()
        full.wait(20)
        """
    )
    assert printed == "cannot schedule new futures after interpreter shutdown\n"


def test_a_daemon_poster_blocked_on_a_full_queue(run_python):
    """A daemon thread that waits for room does not hold the program up."""
    run_python(
        """
        import asynctask, threading
        pool = asynctask.AsyncTaskPool(1, queue_size=1, on_full="block")
        leave, full = threading.Event(), threading.Event()
        pool.submit(leave.wait, 20)
        pool.submit(int)
        def post():
            full.set()
            try:
                while True:
                    pool.submit(int)
            except asynctask.PoolShutdown:
                pass
        threading.Thread(target=post, daemon=True).start()
        full.wait(20)
        threading.Timer(0.05, leave.set).start()
        """
    )


def test_a_pool_in_a_thread_that_is_no_daemon(run_python):
    """A pool that a thread uses while the main thread ends runs what it had accepted."""
    printed = run_python(
        """
        import asynctask, threading, time
        accepted, ran, started = [], [], threading.Event()
        def work():
            with asynctask.AsyncTaskPool(2) as pool:
                try:
                    while True:
                        accepted.append(pool.submit(ran.append, 1))
                        if len(accepted) > 100:
                            started.set()
                            time.sleep(0.001)
                except asynctask.PoolShutdown:
                    pass
            print(len(accepted) == len(ran))
        threading.Thread(target=work).start()
        started.wait(20)
        """
    )
    assert printed == "True\n"


def test_an_exception_in_an_exit_hook(run_python):
    """Another's exit hook that raises does not keep ours from running."""
    program = """
        import atexit, sys
        sys.stderr = None
        def fail():
            raise ValueError
        atexit.register(fail)
        import asynctask
        atexit.register(fail)
        asynctask.post_task(int).result(20)
        asynctask.post_task(int, asynctask.IntervalTask(0.001)).wait_for_finished(20)
    """
    run_python(program, stderr=None)


@pytest.mark.parametrize("code", [0, 7])
def test_os_exit(run_python, code):
    """`os._exit` in the midst of everything is obeyed at once."""
    run_python(
        f"""
        import asynctask, os, threading, time
        started = threading.Event()
        asynctask.post_task(lambda: (started.set(), time.sleep(20)))
        asynctask.post_task(int, asynctask.IntervalTask(0.001))
        started.wait(20)
        os._exit({code})
        """,
        code=code,
    )


def test_os_exit_in_a_callback(run_python):
    """`os._exit` in a callback ends the program with its code."""
    run_python("import asynctask, os; asynctask.post_task(os._exit, args=(7,)).result(20)", code=7)


def test_an_import_starts_nothing(run_python):
    """A program that only imports the package has one thread."""
    printed = run_python(
        """
        import asynctask, os, threading
        print(threading.active_count(), len(os.listdir("/proc/self/task")))
        """
    )
    assert printed == "1 1\n"


def test_a_failure_that_nobody_looked_at(run_python):
    """A failing task whose handle lives to the end of the program is reported in one line."""
    program = """
        import asynctask
        task = asynctask.post_task(divmod, args=(1, 0), name="lost")
        task.wait_for_finished(20)
    """
    done = run_program(program, stderr=None)
    assert done.stdout == ""
    assert done.stderr.startswith("exception in task 'lost' was never retrieved")
    assert done.stderr.count("ZeroDivisionError") == 1
    assert "Logging error" not in done.stderr
    assert "ignored" not in done.stderr


def test_a_failure_in_a_cycle_that_nobody_looked_at():
    """So is one whose handle is part of a cycle that only the end of the program breaks."""
    program = """
        import asynctask, gc
        gc.disable()
        class Cycle:
            pass
        cycle = Cycle()
        cycle.task = asynctask.post_task(divmod, args=(1, 0), name="lost")
        cycle.itself = cycle
        cycle.task.wait_for_finished(20)
        del cycle
    """
    code, stdout, stderr = end(start(program))
    assert (code, stdout) == (0, "")
    assert stderr.count("ZeroDivisionError") == 1
    assert "Logging error" not in stderr
    assert "ignored" not in stderr


def test_shutdown_in_an_exit_hook_that_runs_after_ours(run_python):
    """A program may shut its pool down in an exit hook of its own, before or after ours."""
    printed = run_python(
        """
        import atexit
        def late():
            pool.shutdown()
            print(pool.wait_and_exit(1))
        atexit.register(late)  # the last to run
        import asynctask
        atexit.register(late)  # the first to run
        pool = asynctask.AsyncTaskPool(2)
        pool.submit(int).result(20)
        """
    )
    assert printed == "True\nTrue\n"


def test_a_sub_interpreter_is_refused(run_python):
    """Importing the package in a sub-interpreter is an `ImportError`, and harms nobody."""
    run_python(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import asynctask
        assert asynctask.post_task(int).result(20) == 0
        inner = interpreters.create()
        program = (
            "try:\\n"
            "    import asynctask\\n"
            "except ImportError:\\n"
            "    pass\\n"
            "else:\\n"
            "    raise AssertionError('it was imported')\\n"
        )
        try:
            failed = interpreters.run_string(inner, program)
        except Exception as error:
            raise SystemExit(f"{error}")
        assert failed is None, failed
        interpreters.destroy(inner)
        assert asynctask.post_task(int).result(20) == 0
        """
    )


def many(program: str, times: int, at_once: int = 4) -> list[tuple[int, str, str]]:
    """Run a program again and again, a few at a time."""
    results = []

    def run():
        results.extend(end(start(program)) for _ in range(times // at_once))

    threads = [threading.Thread(target=run) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


EVERYTHING = textwrap.dedent(
    """
    import functools, random
    class Callable:
        def __call__(self):
            pass
    pool = AsyncTaskPool(8, idle_timeout=0, queue_size=50)
    partial = functools.partial(Callable())
    def post():
        try:
            while True:
                task = pool.submit(time.sleep, random.random() / 100)
                task.add_done_callback(lambda _: None)
                pool.post_task(partial, DelayTask(random.random() / 100))
                asynctask.post_task(partial)
        except asynctask.PoolShutdown:
            pass
    threads = [threading.Thread(target=post, daemon=daemon) for daemon in (True, True, False)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        pool.post_task(int, IntervalTask(0.001))
    for n in range(1000):
        pool.post_task(int, DelayTask(n))
    time.sleep(random.random() / 5)
    """
)


def test_what_an_interrupted_exit_leaves_in_the_queue_is_cancelled():
    """After a Ctrl-C at the exit what had not begun is cancelled, and never begins."""
    program = (
        "import atexit\natexit.register(lambda: look())  # after those of the package\n"
        + LINGER
        + textwrap.dedent(
            """
            pool = AsyncTaskPool(1)
            go = threading.Event()
            def block():
                started.set()
                go.wait(20)
            pool.submit(block)
            queued = [pool.submit(print, "ran") for _ in range(3)]
            assert started.wait(20)
            def look():
                print([task.cancelled() for task in queued])
                go.set()
            interrupt_the_exit()
            """
        )
    )
    code, stdout, stderr = end(start(program))
    assert (code, stdout, calm(stderr)) == (0, "[True, True, True]\n", "")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["end", "interrupt", "wait_and_exit"])
def test_many_ends_in_the_midst_of_everything(how):
    """Posters, workers that come and go, timers and series: 60 ends, none of which aborts."""
    last = {
        "end": "",
        "interrupt": "interrupt_the_exit()\n",
        "wait_and_exit": "asynctask.wait_and_exit(0.001)\npool.wait_and_exit(0.001)\n",
    }[how]
    for code, stdout, stderr in many(LINGER + EVERYTHING + last, 60):
        assert (code, stdout, calm(stderr)) == (0, "", "")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_ends_with_daemon_threads():
    """Daemon threads that post, wait and cancel: 60 ends, none of which aborts."""
    bodies = "\n".join(
        textwrap.dedent(
            f"""
            def work_{n}(Exception=Exception):
                while True:
                    try:
                        {body}
                    except Exception:
                        pass
            threading.Thread(target=work_{n}, daemon=True).start()
            """
        )
        for n, body in enumerate(DAEMONS.values())
        if "caller_runs" not in body
    )
    program = (
        LINGER
        + "import functools, random\nfrom concurrent import futures\n"
        + "partial = functools.partial(functools.partial(int))\n"
        + bodies
        + "\ntime.sleep(random.random() / 5)\n"
    )
    for result in many(program, 60):
        assert result == (0, "", "")
