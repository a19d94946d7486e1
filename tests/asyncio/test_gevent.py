"""Programs that gevent has monkey-patched: a wait in a greenlet lets the other greenlets run.

Each in an interpreter of its own, for the patches are for good.
"""

import importlib.util
import sysconfig
import textwrap

import pytest

# Not `importorskip`, for gevent is not to be imported here.
pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("gevent") is None,
        reason="the group `test` of pyproject.toml has it",
    ),
    pytest.mark.skipif(
        bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        reason="gevent switches the GIL on, and greenlet crashes betas of 3.14t by itself",
    ),
]

HEAD = """
from gevent import monkey
monkey.patch_all()
import threading, time
import gevent
import asynctask
from asynctask import AsyncTaskPool, DelayTask, IntervalTask

new_lock = monkey.get_original("_thread", "allocate_lock")

def closed():
    lock = new_lock()
    lock.acquire()
    return lock

turns = 0
opens_at = None
gate = closed()

def others():
    # The other greenlet. It opens the gate, so a blocked hub keeps the gate shut. It sleeps for a
    # moment in between: a hub that only spins takes the GIL back before any other thread has it.
    global turns, opens_at
    while True:
        turns += 1
        if opens_at is not None and turns >= opens_at:
            opens_at = None
            gate.release()
        gevent.sleep(0.001)

spinner = gevent.spawn(others)

def held(value=None):
    # A callback that returns when the gate of this round is open.
    lock = gate
    def call(*args):
        assert lock.acquire(True, 20), "the hub was blocked"
        lock.release()
        return value() if callable(value) else value
    return call

def going(wait):
    # Calls `wait`, during which the other greenlet must have turns.
    global opens_at, gate
    before = turns
    opens_at = turns + 3
    result = wait()
    assert turns - before > 1, "the hub was blocked"
    while opens_at is not None:
        gevent.sleep(0.001)
    gate = closed()
    return result

pool = AsyncTaskPool(2)
"""

BODIES = {
    "result": """
        task = pool.submit(held(7))
        assert going(task.result) == 7
        assert task.result() == 7
        task = pool.submit(held(lambda: 1 / 0))
        assert isinstance(going(lambda: task.exception(20)), ZeroDivisionError)
        task = pool.submit(held())
        assert going(lambda: task.wait_for_finished(20)) is None
    """,
    "timeout": """
        task = pool.post_task(int, DelayTask(1000))
        began = time.monotonic()
        try:
            going(lambda: task.result(0.1))
        except TimeoutError:
            assert time.monotonic() - began >= 0.1
        else:
            raise AssertionError
        try:
            task.result(0)
        except TimeoutError:
            pass
        gevent.spawn_later(0.01, task.cancel)
        try:
            task.result()
        except asynctask.CancelledError:
            pass
        else:
            raise AssertionError
    """,
    "series": """
        series = pool.post_task(held(), IntervalTask(0.005))
        going(lambda: series.wait_for_finished_count(4, 20))
        series.stop_and_wait(20)
        assert series.called_times() >= 4
        series = pool.post_task(held(), IntervalTask(0.005))
        while not series.running():
            gevent.sleep(0.001)
        going(lambda: series.stop_and_wait(20))
        assert series.cancelled()
        ticker = asynctask.ticker(0.05, max_runs=3, missed="catch_up")
        assert going(lambda: list(ticker)) == [1, 2, 3]
        try:
            going(lambda: pool.post_task(int, DelayTask(1000)).wait_for_finished_count(2, 0.1))
        except TimeoutError:
            pass
    """,
    "sleep": """
        began = time.monotonic()
        going(lambda: asynctask.sleep(0.1))
        assert time.monotonic() - began >= 0.1
        going(pool.after(0.1).result)
    """,
    "shutdown": """
        tasks = [pool.submit(held()) for _ in range(4)]
        going(pool.shutdown)
        assert all(task.done() for task in tasks)
        other = AsyncTaskPool(1)
        stuck = closed()
        other.submit(stuck.acquire, True, 20)
        assert going(lambda: other.wait_and_exit(0.1)) is False
        gevent.spawn_later(0.05, stuck.release)
        assert going(lambda: other.wait_and_exit(20)) is True
        third = AsyncTaskPool(1)
        task = third.submit(held())
        with third:
            opens_at = turns + 3
        assert task.done()
    """,
    "full queue": """
        full = AsyncTaskPool(1, queue_size=1)
        tasks = []
        call = held()
        def fill():
            tasks.extend(full.submit(call) for _ in range(5))
        going(fill)
        tasks.append(full.submit(held()))
        going(tasks[-1].result)
        full.submit(held())
        going(full.shutdown)
        assert all(task.done() for task in tasks)
    """,
    "groups": """
        with pool.group() as group:
            for n in range(4):
                group.submit(held(n))
            going(lambda: group.wait(20))
        assert group.results() == [0, 1, 2, 3]
        assert going(lambda: list(pool.map(held(5), range(4)))) == [5] * 4
    """,
    "the library": """
        import concurrent.futures as cf
        tasks = [pool.submit(held(n)) for n in range(4)]
        assert going(lambda: len(cf.wait(tasks, 20).done)) == 4
        tasks = [pool.submit(held(n)) for n in range(4)]
        assert going(lambda: len(list(cf.as_completed(tasks, 20)))) == 4
    """,
    "many greenlets": """
        task = pool.submit(held("one"))
        waiting = [gevent.spawn(task.result, 20) for _ in range(50)]
        waiting += [gevent.spawn(lambda n=n: pool.submit(int, n).result(20)) for n in range(50)]
        going(lambda: gevent.joinall(waiting))
        assert [g.get() for g in waiting] == ["one"] * 50 + list(range(50))
    """,
    "killed greenlet": """
        task = pool.submit(held("end"))
        waiting = gevent.spawn(task.result)
        gevent.sleep(0.01)
        waiting.kill()
        assert waiting.dead
        assert going(task.result) == "end"
        late = pool.post_task(int, DelayTask(1000))
        with gevent.Timeout(0.02, False):
            late.result()
            raise AssertionError
        late.cancel()
    """,
    "nested": """
        one = AsyncTaskPool(1)
        end = held(0)
        def nest(depth):
            return 1 + one.submit(nest, depth - 1).result(20) if depth else end()
        assert going(lambda: one.submit(nest, 50).result(20)) == 50
        end = held(0)
        later = lambda: one.post_task(end, DelayTask(0.01)).result(20)
        assert going(one.submit(later).result) == 0
        one.submit(held())
        going(one.shutdown)
    """,
    "a real thread": """
        # Whoever is no greenlet waits as ever.
        start = monkey.get_original("_thread", "start_new_thread")
        seen = []
        task = pool.submit(held(3))
        start(lambda: seen.append(task.result(20)), ())
        def wait():
            while not seen:
                gevent.sleep(0.001)
        going(wait)
        assert seen == [3]
    """,
    "caller runs": """
        full = AsyncTaskPool(1, queue_size=0, on_full="caller_runs")
        stuck = closed()
        occupied = full.submit(stuck.acquire, True, 20)
        while not occupied.running():
            gevent.sleep(0.001)
        def call(first, second):
            name = asynctask.current_task().name
            gevent.sleep(first)
            gevent.sleep(second)
            return name
        # Two greenlets are in a callback on one thread, and end in the order in which they began.
        def post(name, *args):
            return full.post_task(call, args=args, name=name)
        first = gevent.spawn(post, "first", 0.001, 0.002)
        second = gevent.spawn(post, "second", 0.01, 0.02)
        gevent.joinall([first, second])
        assert [g.get().result(20) for g in (first, second)] == ["first", "second"]
        del first, second
        asynctask.check_cancelled()
        assert asynctask.current_task() is None
        stuck.release()
        full.shutdown()
    """,
}


@pytest.mark.parametrize("body", BODIES)
def test_a_wait_lets_the_hub_run(run_python, body):
    """Other greenlets run during the wait, which ends as it should."""
    tail = "\nspinner.kill()\npool.shutdown()\nprint('end')\n"
    assert run_python(HEAD + textwrap.dedent(BODIES[body]) + tail) == "end\n"


def test_a_program_that_only_has_gevent(run_python):
    """Without patches gevent changes nothing, and `asynctask` does not import it."""
    program = """
        import sys
        import asynctask
        assert "gevent" not in sys.modules
        import gevent, gevent.monkey
        assert asynctask.post_task(int).result(20) == 0
        hub = gevent.get_hub()
        assert asynctask.post_task(int).result(20) == 0
        print("end")
    """
    assert run_python(program) == "end\n"
