"""Programs that gevent has monkey-patched: a wait in a greenlet lets the other greenlets run.

Each in an interpreter of its own, for the patches are for good.
"""

import pytest

HEAD = """
from gevent import monkey
monkey.patch_all()
import threading, time
import gevent, gevent.event
import asynctask
from asynctask import AsyncTaskPool, DelayTask, IntervalTask

turns = 0
def others():
    global turns
    while True:
        turns += 1
        gevent.sleep(0)
spinner = gevent.spawn(others)

def going(wait):
    # Calls `wait`, and makes sure that the other greenlet had turns meanwhile.
    before = turns
    result = wait()
    assert turns - before > 1, "the hub was blocked"
    return result

native = monkey.get_original("time", "sleep")
pool = AsyncTaskPool(2)
"""

BODIES = {
    "result": """
        task = pool.submit(lambda: native(0.02) or 7)
        assert going(task.result) == 7
        assert task.result() == 7
        task = pool.submit(lambda: native(0.02) or 1 / 0)
        assert isinstance(going(lambda: task.exception(20)), ZeroDivisionError)
        task = pool.submit(native, 0.02)
        assert going(lambda: task.wait_for_finished(20)) is None
    """,
    "timeout": """
        task = pool.post_task(int, DelayTask(1000))
        began = time.monotonic()
        try:
            going(lambda: task.result(0.03))
        except TimeoutError:
            assert time.monotonic() - began >= 0.03
        else:
            raise AssertionError
        try:
            task.result(0)
        except TimeoutError:
            pass
        gevent.spawn_later(0.01, task.cancel)
        try:
            going(task.result)
        except asynctask.CancelledError:
            pass
    """,
    "series": """
        series = pool.post_task(int, IntervalTask(0.005))
        going(lambda: series.wait_for_finished_count(4, 20))
        going(lambda: series.stop_and_wait(20)) if series.running() else series.stop_and_wait(20)
        assert series.called_times() >= 4
        ticker = asynctask.ticker(0.005, max_runs=3, missed="catch_up")
        assert going(lambda: list(ticker)) == [1, 2, 3]
        try:
            going(lambda: pool.post_task(int, DelayTask(1000)).wait_for_finished_count(2, 0.02))
        except TimeoutError:
            pass
    """,
    "sleep": """
        began = time.monotonic()
        going(lambda: asynctask.sleep(0.02))
        assert time.monotonic() - began >= 0.02
        going(pool.after(0.02).result)
    """,
    "shutdown": """
        tasks = [pool.submit(native, 0.01) for _ in range(4)]
        going(pool.shutdown)
        assert all(task.done() for task in tasks)
        other = AsyncTaskPool(1)
        other.submit(native, 0.05)
        assert going(lambda: other.wait_and_exit(0.01)) is False
        assert going(lambda: other.wait_and_exit(20)) is True
        with AsyncTaskPool(1) as third:
            task = third.submit(native, 0.01)
        assert task.done()
    """,
    "full queue": """
        full = AsyncTaskPool(1, queue_size=1)
        tasks = []
        def fill():
            tasks.extend(full.submit(native, 0.01) for _ in range(5))
        going(fill)
        going(tasks[-1].result)
        going(full.shutdown)
    """,
    "groups": """
        with pool.group() as group:
            for n in range(4):
                group.submit(lambda n=n: native(0.01) or n)
            going(lambda: group.wait(20))
        assert group.results() == [0, 1, 2, 3]
        assert going(lambda: list(pool.map(lambda n: native(0.01) or n, range(4)))) == [0, 1, 2, 3]
    """,
    "the library": """
        import concurrent.futures as cf
        tasks = [pool.submit(lambda n=n: native(0.01) or n) for n in range(4)]
        assert going(lambda: len(cf.wait(tasks, 20).done)) == 4
        tasks = [pool.submit(lambda n=n: native(0.01) or n) for n in range(4)]
        assert going(lambda: len(list(cf.as_completed(tasks, 20)))) == 4
    """,
    "many greenlets": """
        gate = monkey.get_original("threading", "Event")()
        task = pool.submit(lambda: native(0.03) or "one")
        waiting = [gevent.spawn(task.result, 20) for _ in range(50)]
        waiting += [gevent.spawn(lambda n=n: pool.submit(int, n).result(20)) for n in range(50)]
        going(lambda: gevent.joinall(waiting))
        assert [g.get() for g in waiting] == ["one"] * 50 + list(range(50))
    """,
    "killed greenlet": """
        task = pool.submit(lambda: native(0.05) or "end")
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
        def nest(depth):
            return depth and 1 + one.submit(nest, depth - 1).result(20)
        assert going(lambda: one.submit(nest, 50).result(20)) == 50
        later = lambda: one.post_task(int, DelayTask(0.01)).result(20)
        assert going(one.submit(later).result) == 0
        going(one.shutdown)
    """,
    "a real thread": """
        # Whoever is no greenlet waits as ever.
        start = monkey.get_original("_thread", "start_new_thread")
        seen = []
        def wait():
            seen.append(pool.submit(lambda: native(0.02) or 3).result(20))
        start(wait, ())
        going(lambda: gevent.sleep(0.05))
        while not seen:
            gevent.sleep(0.001)
        assert seen == [3]
    """,
    "caller runs": """
        full = AsyncTaskPool(1, queue_size=0, on_full="caller_runs")
        held = full.submit(native, 0.1)
        native(0.02)
        def call(first, second):
            name = asynctask.current_task().name
            gevent.sleep(first)
            gevent.sleep(second)
            return name
        # Two greenlets are in a callback on one thread, and end in the order in which they began.
        def post(name, *args):
            return full.post_task(call, args=args, name=name)
        first = gevent.spawn(post, "first", 0.001, 0.002)
        second = gevent.spawn(post, "second", 0.002, 0.004)
        gevent.joinall([first, second])
        assert [g.get().result(20) for g in (first, second)] == ["first", "second"]
        del first, second
        asynctask.check_cancelled()
        assert asynctask.current_task() is None
        going(held.result) if not held.done() else None
        full.shutdown()
    """,
}


@pytest.mark.parametrize("body", BODIES)
def test_a_wait_lets_the_hub_run(run_python, body):
    """Other greenlets run during the wait, which ends as it should."""
    pytest.importorskip("gevent", reason="the group test of pyproject.toml has it")
    import textwrap  # noqa: PLC0415  # of this test only

    tail = "\nspinner.kill()\npool.shutdown()\nprint('end')\n"
    assert run_python(HEAD + textwrap.dedent(BODIES[body]) + tail) == "end\n"


def test_a_program_that_only_has_gevent(run_python):
    """Without patches gevent changes nothing, and `asynctask` does not import it."""
    pytest.importorskip("gevent", reason="the group test of pyproject.toml has it")
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
