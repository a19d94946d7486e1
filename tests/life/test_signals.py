"""Signals: Ctrl-C gets out of every wait at once, and nothing else notices that there was one."""

import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these signals are POSIX's")

PREAMBLE = """
import os, signal, sys, threading, time
from concurrent import futures
import asynctask
from asynctask import AsyncTaskPool, DelayTask, IntervalTask

held, leave = threading.Event(), threading.Event()
def hold():
    held.set()
    leave.wait(60)

class Stop(Exception):
    pass

times = []
def handler(*_):
    times.append(time.monotonic())
    raise Stop

def interrupted(wait, delay=0.1):
    "Send a signal while the main thread is in `wait`; give how long it took to get out."
    sent = []
    def send():
        time.sleep(delay)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        wait()
    except Stop:
        out = time.monotonic()
    else:
        raise AssertionError("it was not interrupted")
    finally:
        thread.join()
    return max(times[-1] - sent[0], out - sent[0])
"""

# Each waits for what does not come. `pool` has one worker.
WAITS = {
    "result": "pool.post_task(int, DelayTask(1000)).result()",
    "result with a timeout": "pool.post_task(int, DelayTask(1000)).result(900)",
    "result of a running task": "pool.submit(hold).result()",
    "exception": "pool.post_task(int, DelayTask(1000)).exception()",
    "wait_for_finished": "pool.post_task(int, DelayTask(1000)).wait_for_finished(900)",
    "wait_for_finished_count": "pool.post_task(int, IntervalTask(900)).wait_for_finished_count(2)",
    "stop_and_wait": "task = pool.submit(hold); held.wait(20); task.stop_and_wait()",
    "group.wait": "group.post_task(int, DelayTask(1000)); group.wait()",
    "group.wait with a timeout": "group.post_task(int, DelayTask(1000)); group.wait(900)",
    "shutdown": "pool.submit(hold); pool.shutdown()",
    "pool.wait_and_exit": "pool.submit(hold); pool.wait_and_exit(900)",
    "wait_and_exit": "asynctask.post_task(hold); asynctask.wait_and_exit(900)",
    "sleep": "asynctask.sleep(900)",
    "after": "asynctask.after(900).result()",
    "a full queue": "[full.submit(hold) for _ in range(3)]",
    "ticker": "next(asynctask.ticker(900))",
    "map": "list(pool.map(lambda _: hold(), range(2)))",
    "as_completed": "next(futures.as_completed([pool.submit(hold)]))",
    "futures.wait": "futures.wait([pool.submit(hold)])",
    "with pool": "\n    with pool:\n        pool.submit(hold)",
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_handlers_exception_gets_out_of_every_wait(run_python, wait):
    """What a signal handler raises comes out of the wait at once, and the pool stays healthy."""
    printed = run_python(
        PREAMBLE
        + f"""
pool, full = AsyncTaskPool(1), AsyncTaskPool(1, queue_size=1)
group = pool.group()
def wait():
    {wait}
took = interrupted(wait)
leave.set()
group.cancel()
# Healthy: what was interrupted is usable, unless it was to end.
if {"shutdown" not in wait and "exit" not in wait and "with pool" not in wait}:
    assert pool.submit(lambda: 1).result(20) == 1
    assert full.submit(lambda: 2).result(20) == 2
    assert asynctask.post_task(lambda: 3, DelayTask(0.001)).result(20) == 3
for ended in (pool, full):
    ended.wait_and_exit(20)  # False where it cancels what the wait was for
    assert ended.stats()[1:4] == (0, 0, 0)
print(took)
"""
    )
    # 0.1 to 1 ms on an idle machine.
    assert float(printed) < 2


@pytest.mark.parametrize("wait", ["result", "sleep", "a full queue", "shutdown"])
def test_ctrl_c(wait):
    """Ctrl-C during a wait is a `KeyboardInterrupt`, and the exit code is that of an interrupt."""
    program = (
        PREAMBLE
        + f"""
pool, full = AsyncTaskPool(1), AsyncTaskPool(1, queue_size=1)
def wait():
    {WAITS[wait]}
print("ready", flush=True)
try:
    wait()
finally:
    print(time.monotonic(), flush=True)
    leave.set()
"""
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.1)
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=50)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGINT, stderr
    assert float(stdout) - sent < 2
    assert stderr.rstrip().endswith("KeyboardInterrupt")


STORM = """
hits = 0
def count(*_):
    global hits
    hits += 1
signal.signal(signal.SIGALRM, count)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
def calm():
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert hits > 5, hits
def out_of_time(wait, *args):
    began = time.monotonic()
    try:
        wait(*args)
    except TimeoutError:
        took = time.monotonic() - began
        assert 0.1 <= took < 10, took
    else:
        raise AssertionError(wait)
"""


def test_a_storm_does_not_stretch_or_shorten_timeouts(run_python):
    """A signal every millisecond: no wait ends early, none goes on for ever."""
    run_python(
        PREAMBLE
        + STORM
        + """
pool, full = AsyncTaskPool(1), AsyncTaskPool(1, queue_size=1)
timer = pool.post_task(int, DelayTask(1000))
out_of_time(timer.result, 0.1)
out_of_time(timer.exception, 0.1)
out_of_time(timer.wait_for_finished, 0.1)
out_of_time(pool.post_task(int, IntervalTask(900)).wait_for_finished_count, 2, 0.1)
group = pool.group()
group.post_task(int, DelayTask(1000))
out_of_time(group.wait, 0.1)
group.cancel()
running = pool.submit(hold)
held.wait(20)
out_of_time(running.stop_and_wait, 0.1)
began = time.monotonic()
assert pool.wait_and_exit(0.1) is False
assert 0.1 <= time.monotonic() - began < 10
began = time.monotonic()
asynctask.sleep(0.1)
assert 0.1 <= time.monotonic() - began < 10
began = time.monotonic()
asynctask.after(0.1).result()
assert 0.1 <= time.monotonic() - began < 10
calm()
leave.set()
"""
    )


def test_a_storm_does_not_break_a_wait(run_python):
    """A signal every millisecond: results, rooms in a queue and shutdowns come all the same."""
    run_python(
        PREAMBLE
        + STORM
        + """
pool, full = AsyncTaskPool(2), AsyncTaskPool(1, queue_size=1)
for n in range(30):
    assert pool.submit(lambda: (time.sleep(0.002), n)[1]).result() == n
    began = time.monotonic()
    at = pool.post_task(time.monotonic, DelayTask(0.002)).result(20)
    assert at - began >= 0.002
beat = pool.post_task(int, IntervalTask(0.002))
beat.wait_for_finished_count(20, 20)
beat.stop_and_wait(20)
tasks = [full.submit(time.sleep, 0.002) for _ in range(20)]
assert [task.result(20) for task in tasks] == [None] * 20
assert sum(pool.map(lambda n: (time.sleep(0.001), n)[1], range(50))) == 1225
ticks = asynctask.ticker(0.002)
assert [next(ticks) for _ in range(5)][0] == 1
for _ in range(100):
    pool.submit(time.sleep, 0.001)
pool.shutdown()
stats = pool.stats()
assert stats.successful + stats.cancelled == stats.submitted
calm()
"""
    )


def test_signals_do_not_disturb_workers(run_python):
    """A signal that a worker's thread receives changes nothing for it, nor for its callback."""
    run_python(
        PREAMBLE
        + """
hits = []
signal.signal(signal.SIGUSR1, lambda *_: hits.append(threading.current_thread()))
pool = AsyncTaskPool(2, min_workers=2, idle_timeout=0.05)
idents = set()
def note(barrier=threading.Barrier(2)):
    idents.add(threading.get_ident())
    barrier.wait(20)
for task in [pool.submit(note) for _ in range(2)]:
    task.result(20)
assert len(idents) == 2
def wait():
    began = time.monotonic()
    try:
        pool.post_task(int, DelayTask(1000)).result(0.2)
    except TimeoutError:
        return time.monotonic() - began
waiting = pool.submit(wait)
end = time.monotonic() + 0.15
while time.monotonic() < end:
    for ident in idents:  # one waits in a callback, one is idle
        signal.pthread_kill(ident, signal.SIGUSR1)
    time.sleep(0.001)
assert waiting.result(20) >= 0.2
assert pool.stats().failed == 0
ran = {pool.submit(threading.get_ident).result(20) for _ in range(5)}
assert ran <= idents, "a worker has left"
assert hits and set(hits) == {threading.main_thread()}
"""
    )


def test_a_handler_may_use_the_pool(run_python):
    """A signal handler may post, wait and cancel, also while the main thread waits."""
    run_python(
        PREAMBLE
        + """
pool = AsyncTaskPool(1)
timer = pool.post_task(int, DelayTask(1000))
def handler(*_):
    assert pool.submit(lambda: 1).result(20) == 1
    assert asynctask.post_task(lambda: 2, DelayTask(0.001)).result(20) == 2
    timer.cancel()
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    timer.result(40)
except asynctask.CancelledError:
    pass
else:
    raise AssertionError
"""
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_interrupting_at_any_instant(run_python):
    """A handler that raises at 2,000 odd instants never leaves a pool that has lost something."""
    run_python(
        PREAMBLE
        + """
import random
armed = False
def handler(*_):
    if armed:
        raise Stop
signal.signal(signal.SIGALRM, handler)
pool = AsyncTaskPool(2, queue_size=4, idle_timeout=0.001)
interrupts = 0
for n in range(2000):
    signal.setitimer(signal.ITIMER_REAL, random.random() / 1000 + 1e-6)
    try:
        armed = True
        for _ in range(10):
            task = pool.submit(time.sleep, 0.0001)
            pool.post_task(int, DelayTask(0.0001)).result(20)
            task.result(20)
            asynctask.sleep(0.0001)
        armed = False
    except Stop:
        armed = False
        interrupts += 1
signal.setitimer(signal.ITIMER_REAL, 0)
assert interrupts > 100, interrupts
assert pool.submit(lambda: 1).result(20) == 1
assert pool.wait_and_exit(20)
stats = pool.stats()
assert stats.submitted == stats.successful + stats.cancelled, stats
""",
        timeout=250,
    )
