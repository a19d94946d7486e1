"""Tools that look at threads from outside see workers as they see any thread of Python's."""

import ctypes
import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from asynctask import DelayTask
from helpers.programs import run_command, run_program

TASKS = Path("/proc/self/task")

PROGRAM = """\
import asynctask

def callback(n):
    total = 0
    for k in range(n):
        total += k
    if total < 0:
        total = 1
    return total

async def coroutine():
    return callback(3)

print(asynctask.post_task(callback, args=(10,)).result(20))
print(asynctask.post_task(callback, asynctask.DelayTask(0.001), args=(5,)).result(20))
"""


@pytest.mark.parametrize(
    "core",
    [
        "ctrace",
        pytest.param(
            "sysmon",
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="came with 3.12"),
        ),
    ],
)
def test_coverage_measures_callbacks(tmp_path, core):
    """coverage.py sees each line of a callback that ran on a worker, and none that did not."""
    pytest.importorskip("coverage", reason="coverage is not installed")
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / ".coveragerc").write_text(f"[run]\ncore = {core}\n")
    for command in (["run", "program.py"], ["json", "-q"]):
        run_command(sys.executable, "-m", "coverage", *command, cwd=tmp_path)
    measured = json.loads((tmp_path / "coverage.json").read_text())["files"]["program.py"]
    assert measured["missing_lines"] == [8, 12]


def test_py_spy_shows_callbacks(tmp_path):
    """py-spy prints a worker's name and the line of the callback it is in."""
    spy = shutil.which("py-spy", path=Path(sys.executable).parent) or shutil.which("py-spy")
    if spy is None:
        pytest.skip("py-spy is not installed")
    program = (
        "import asynctask, sys\n"
        "def a_callback_that_waits():\n"
        "    print('here', flush=True)\n"
        "    sys.stdin.read()\n"
        "pool = asynctask.AsyncTaskPool(1, 'spied')\n"
        "pool.submit(a_callback_that_waits).result(50)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "here\n"
        dump = run_command(spy, "dump", "--pid", process.pid, code=None)
        process.stdin.close()
        assert process.wait(50) == 0
    if dump.returncode != 0:
        pytest.skip(f"py-spy cannot look: {dump.stderr.strip().splitlines()[-1:]}")
    assert "a_callback_that_waits" in dump.stdout
    assert "spied-0" in dump.stdout


@pytest.mark.skipif(not TASKS.is_dir(), reason="reads /proc")
def test_the_system_knows_a_workers_name(make_pool):
    """What `top -H` and gdb show is the worker's name, as far as the system takes it."""

    def name():
        return (TASKS / str(threading.get_native_id()) / "comm").read_text().strip()

    assert make_pool(1, "web").submit(name).result(20) == "web-0"


def test_the_initializer_sees_the_worker(make_pool):
    """An initializer runs on the worker, which is registered by then."""
    seen = []
    pool = make_pool(1, "init", lambda: seen.append(threading.current_thread()))
    worker = pool.submit(threading.current_thread).result(20)
    assert seen == [worker]
    assert worker.name == "init-0"
    assert worker in threading.enumerate()


def test_the_initializer_is_traced(make_pool):
    """`threading.settrace` reaches the initializer as well."""
    if sys.gettrace() is not None:
        pytest.skip("something traces already")
    events = []

    def initializer():
        pass

    def trace(frame, event, _):
        if frame.f_code is initializer.__code__:
            events.append(event)

    threading.settrace(trace)
    try:
        make_pool(1, initializer=initializer).submit(int).result(20)
    finally:
        threading.settrace(None)
    assert events == ["call"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="came with 3.12")
def test_settrace_all_threads_reaches_running_workers(run_python):
    """`threading.settrace_all_threads` traces workers that run already."""
    run_python(
        """
        import threading, asynctask
        pool = asynctask.AsyncTaskPool(1, min_workers=1)
        pool.submit(int).result(20)
        events = []
        def callback():
            return 1
        def trace(frame, event, _):
            if frame.f_code is callback.__code__:
                events.append(event)
        threading.settrace_all_threads(trace)
        assert pool.submit(callback).result(20) == 1
        threading.settrace_all_threads(None)
        assert events == ["call"], events
        """
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="came with 3.12")
def test_sys_monitoring_sees_callbacks(run_python):
    """`sys.monitoring` reports what happens on workers."""
    run_python(
        """
        import sys, threading, asynctask
        monitoring = sys.monitoring
        pool = asynctask.AsyncTaskPool(1, "seen", min_workers=1)
        pool.submit(int).result(20)
        def callback():
            return 1
        seen = []
        monitoring.use_tool_id(3, "test")
        monitoring.register_callback(
            3, monitoring.events.PY_START,
            lambda code, _: seen.append(threading.current_thread().name)
            if code is callback.__code__ else None,
        )
        monitoring.set_events(3, monitoring.events.PY_START)
        assert pool.submit(callback).result(20) == 1
        monitoring.set_events(3, 0)
        monitoring.free_tool_id(3)
        assert seen == ["seen-0"], seen
        """
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="came with 3.12")
def test_sys_monitoring_sees_one_thread_all_along(run_python):
    """Whoever asks for the current thread at every event of a worker's life is given one thread.

    When the worker has ended, no other is left of it on `threading`'s list.
    """
    run_python(
        """
        import sys, threading, asynctask
        monitoring, events = sys.monitoring, sys.monitoring.events
        seen, names, codes = {}, {}, set()
        def note(code, *_):
            thread = threading.current_thread()
            seen.setdefault(thread.ident, set()).add(id(thread))
            names[thread] = thread.name
            codes.add(code)
        kinds = (events.PY_START, events.PY_RETURN, events.LINE, events.CALL, events.RAISE)
        monitoring.use_tool_id(3, "test")
        for kind in kinds:
            monitoring.register_callback(3, kind, note)
        def callback():
            return 1
        with asynctask.AsyncTaskPool(1, "seen") as pool:
            monitoring.set_events(3, sum(kinds))
            assert pool.submit(callback).result(20) == 1
        monitoring.set_events(3, 0)
        assert {len(threads) for threads in seen.values()} == {1}, seen
        assert set(names.values()) == {"MainThread", "seen-0"}, names
        assert {callback.__code__, asynctask._threading.register_thread.__code__} <= codes
        assert list(threading._active.values()) == [threading.main_thread()]
        """
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="came with 3.12")
def test_setprofile_all_threads_reaches_running_workers(run_python):
    """`threading.setprofile_all_threads` profiles workers that run already."""
    run_python(
        """
        import threading, asynctask
        pool = asynctask.AsyncTaskPool(1, "seen", min_workers=1)
        pool.submit(int).result(20)
        seen = []
        def callback():
            return 1
        def profile(frame, event, _):
            if frame.f_code is callback.__code__:
                seen.append((event, threading.current_thread().name))
        threading.setprofile_all_threads(profile)
        assert pool.submit(callback).result(20) == 1
        threading.setprofile_all_threads(None)
        assert seen == [("call", "seen-0"), ("return", "seen-0")], seen
        """
    )


def test_cprofile_profiles_inside_of_a_callback(run_python):
    """What a callback calls is in a profile that the callback itself takes."""
    run_python(
        """
        import cProfile, pstats, asynctask
        def called():
            return 1
        def callback():
            profile = cProfile.Profile()
            profile.runcall(called)
            return [name for _, _, name in pstats.Stats(profile).stats]
        assert "called" in asynctask.AsyncTaskPool(1).submit(callback).result(20)
        """
    )


def test_pdb_stops_in_a_callback():
    """`breakpoint` in a callback gives a prompt, in the callback's frame."""
    program = (
        "import asynctask\n"
        "def callback(number):\n"
        "    total = number * 2\n"
        "    breakpoint()\n"
        "    return total + 1\n"
        "print(asynctask.AsyncTaskPool(1).submit(callback, 20).result(50))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONBREAKPOINT"}
    done = run_program(program, input="p total + number\nwhere\ncontinue\n", env=environment)
    assert "60\n" in done.stdout
    assert "callback()" in done.stdout
    assert done.stdout.endswith("41\n")


def test_an_exception_can_be_sent_to_a_worker(one, until):
    """`PyThreadState_SetAsyncExc`, which tools that limit time use, ends a worker's callback."""
    worker = one.submit(threading.current_thread).result(20)
    started = threading.Event()

    def callback():
        started.set()
        until(lambda: False)

    task = one.submit(callback)
    assert started.wait(20)
    send = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert send(ctypes.c_ulong(worker.ident), ctypes.py_object(KeyError)) == 1
    assert isinstance(task.exception(20), KeyError)
    assert one.submit(threading.current_thread).result(20) is worker


def test_development_mode_has_nothing_to_say():
    """`-X dev` and every warning turned into an error: still silence."""
    program = (
        "import asynctask\n"
        "with asynctask.AsyncTaskPool(2) as pool:\n"
        "    assert list(pool.map(abs, range(-3, 0))) == [3, 2, 1]\n"
        "    beat = pool.post_task(int, asynctask.IntervalTask(0.001))\n"
        "    beat.wait_for_finished_count(3, 20)\n"
        "assert asynctask.post_task(int, asynctask.DelayTask(0.001)).result(20) == 0\n"
    )
    assert run_program(program, flags=("-X", "dev", "-W", "error")).stdout == ""


def test_the_stacks_of_workers_can_be_read(one, gate):
    """`sys._current_frames` has a callback's frame under its worker's identity."""
    worker = one.submit(threading.current_thread).result(20)

    def a_callback_that_waits():
        gate()

    running = one.submit(a_callback_that_waits)
    gate.wait()
    frame, names = sys._current_frames()[worker.ident], []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    assert names[-1] == "a_callback_that_waits"  # and nothing of ours below it
    gate.open()
    assert running.result(20) is None


def test_tracebacks_begin_with_the_callback(make_pool):
    """The traceback of a failing callback has the callback's own frames and no others."""

    def inner():
        raise ValueError

    def callback():
        inner()

    error = make_pool(1).submit(callback).exception(20)
    names, traceback = [], error.__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert names == ["callback", "inner"]


def test_failures_are_logged_by_the_workers_name(make_pool, caplog):
    """A log record of the library's own has the name of the worker it comes from."""
    pool = make_pool(1, "named")
    with caplog.at_level(logging.ERROR, "asynctask"):
        pool.post_task(divmod, DelayTask(0), args=(1, 0))
        pool.submit(int).result(20)
        pool.shutdown()
    assert [record.threadName for record in caplog.records] == ["named-0"]


LIVES = """
import gc, os, sys, threading, time
import asynctask

def settled(pool):
    end = time.monotonic() + 30
    while pool.stats().idle_workers or pool.stats().running_workers:
        assert time.monotonic() < end
        time.sleep(0.0005)

def count():
    end = time.monotonic() + 30
    while threading.active_count() > 1 or len(sys._current_frames()) > 1:
        assert time.monotonic() < end, (threading.enumerate(), sys._current_frames())
        time.sleep(0.001)
    while len(os.listdir("/proc/self/task")) > base:
        assert time.monotonic() < end, os.listdir("/proc/self/task")
        time.sleep(0.001)
    return len(threading._active), len(list(threading._dangling))

class Value:
    made, ended = [], []  # appended to, which no other thread can undo
    def __init__(self):
        Value.made.append(1)
    def __del__(self):
        Value.ended.append(1)

local = threading.local()
names = set()
def fill():
    assert not hasattr(local, "value")
    local.value = Value()
    names.add(threading.current_thread().name)

def live(lives):
    for _ in range(lives // 4):
        tasks = [pool.submit(one) for _ in range(4)]
        for task in tasks:
            task.result(30)
        settled(pool)

def one():
    barrier.wait(30)
    fill()

base = len(os.listdir("/proc/self/task"))
barrier = threading.Barrier(4)
pool = asynctask.AsyncTaskPool(4, idle_timeout=0)
live(400)
before = count()
live({lives})
assert count() == before, (count(), before)
assert len(names) == 400 + {lives}
values = len(Value.made), len(Value.ended)
assert values == (400 + {lives}, 400 + {lives}), values
"""


@pytest.mark.skipif(not TASKS.is_dir(), reason="reads /proc")
@pytest.mark.parametrize(
    "lives",
    [400, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(300)])],
)
def test_worker_lives_leave_nothing_behind(lives):
    """Threads, thread states and `threading`'s lists are as before, each `local` ended once."""
    assert run_program(LIVES.replace("{lives}", str(lives)), timeout=290).stdout == ""
