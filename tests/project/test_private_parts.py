"""The private parts of CPython that `asynctask._cpython` uses are what it takes them for."""

import _thread
import ast
import asyncio
import concurrent.futures
import re
import sys
import threading
from concurrent.futures.process import ProcessPoolExecutor
from pathlib import Path

import asynctask
import pytest
from asynctask import AsyncTaskPool, _cpython, _threading

PACKAGE = Path(asynctask.__file__).parent
PRIVATE = {
    "_DummyThread",
    "_MainThread",
    "_active",
    "_register_atexit",
    "_shutdown",
}


def test_the_parts_are_there():
    """`threading` has every private part that is used of it."""
    assert [name for name in PRIVATE if not hasattr(threading, name)] == []
    assert issubclass(threading._DummyThread, threading.Thread)
    assert threading._active[threading.get_ident()] is threading.current_thread()
    if sys.version_info < (3, 13):
        assert hasattr(threading.Thread, "_set_tstate_lock")
        assert not hasattr(threading, "_thread_local_info")
    else:
        assert not hasattr(threading.Thread, "_set_tstate_lock")
        assert hasattr(threading, "_thread_local_info")


def test_executors_say_that_they_take_no_more():
    """The library's executors have the attributes that tell whether they were shut down."""
    with concurrent.futures.ThreadPoolExecutor(1) as threads, ProcessPoolExecutor(1) as processes:
        assert not any(_cpython.executor_states(threads))
        assert not any(_cpython.executor_states(processes))
        assert len(_cpython.executor_states(threads)) == 2
        assert len(_cpython.executor_states(processes)) == 2
    assert any(_cpython.executor_states(threads))
    assert any(_cpython.executor_states(processes))
    assert _cpython.executor_states(object()) == []


def test_a_running_loop_is_seen():
    """Whether a loop runs on the calling thread is known without an exception."""

    async def look():
        return _cpython.is_on_loop()

    assert asyncio.run(look())
    assert not _cpython.is_on_loop()


def test_who_waits_by_way_of_the_library_is_noticed():
    """`wait` and `as_completed` put what they wait by on a task's list, and take it off."""
    seen = []

    class Waiters(list):
        def append(self, waiter):
            seen.append(waiter)
            super().append(waiter)

    future = concurrent.futures.Future()
    future._waiters = Waiters()
    concurrent.futures.wait([future], 0)
    with pytest.raises(TimeoutError):
        next(concurrent.futures.as_completed([future], 0))
    assert len(seen) == 2
    assert future._waiters == []


def test_a_worker_is_entered_once_and_nothing_else_keeps_track_of_it():
    """A worker is on `threading`'s list, by the class of ours, until its pool has ended."""

    def look():
        worker = threading.current_thread()
        info = getattr(threading, "_thread_local_info", None)
        return worker, hasattr(info, "_track_dummy_thread_ref")

    with AsyncTaskPool(1) as pool:
        worker, is_tracked = pool.submit(look).result(30)
        assert type(worker).__name__ == "_WorkerThread"
        assert isinstance(worker, threading._DummyThread)
        assert not is_tracked
        assert threading._active[worker.ident] is worker
        assert worker.is_alive()
    assert worker.ident not in threading._active
    assert not worker.is_alive()


@pytest.mark.parametrize("is_seen", [False, True], ids=["unseen", "seen"])
@pytest.mark.skipif(sys.gettrace() is not None, reason="something traces already")
def test_a_debugger_may_stop_a_worker_anywhere(is_seen):
    """On each line that enters a worker, and takes it off, the lock of `threading`'s list is free.

    A debugger that stops all threads there needs the list, to tell which threads there are. And
    whoever asks meanwhile what the current thread is, is told of one and the same.
    """
    lines, seen, failures = [], [], []
    over = threading.Event()

    def look(frame, event, _):
        if frame.f_code.co_filename in {_threading.__file__, _cpython.__file__}:
            lines.append((frame.f_code.co_name, event))
            if threading._active_limbo_lock._is_owned():
                failures.append((frame.f_code.co_name, frame.f_lineno))
            if is_seen:
                seen.append(threading.current_thread())
        return look

    def worker():
        sys.settrace(look)
        try:
            unregister = _threading.register_thread("entered")
            thread = threading.current_thread()
            _threading.trace_thread()
            failures.append((thread.name, thread.is_alive(), threading._active[thread.ident]))
            assert failures.pop() == ("entered", True, thread)
            unregister()
            sys.settrace(None)
            assert not thread.is_alive()
            assert thread.ident not in threading._active
            seen.append(thread)
        except BaseException as error:
            failures.append(error)
        finally:
            sys.settrace(None)
            over.set()

    _thread.start_new_thread(worker, ())
    assert over.wait(30)
    assert failures == []
    assert {"register_thread", "adopt_dummy", "trace_thread"} <= {name for name, _ in lines}
    assert len(set(map(id, seen))) == 1


def imported(tree):
    """Give what a file imports of other packages: whole names, by what each is called in it."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = {alias: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {alias.asname or alias.name: name for alias, name in whole.items()}
    return {known: name for known, name in names.items() if not name.startswith("asynctask")}


def private_uses(path):
    """Give what a file uses of the standard library whose name begins with an underscore."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = imported(tree)
    found = {name for name in names.values() if re.search(r"(^|\.)_(?!_)", name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            if ast.unparse(node.value) in names:
                found.add(f"{names[ast.unparse(node.value)]}.{node.attr}")
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "hasattr"}:
            thing, name = (ast.unparse(argument) for argument in node.args[:2])
            # Of `self` it is our own.
            if re.match("'_(?!_)", name) and thing != "self":
                found.add(f"{thing}.{name}")
    return found - {"os._exit", "gevent._hub_local.get_hub_if_exists"}


def test_no_other_file_uses_private_parts():
    """What is private of the standard library stands in one file, and there is something of it."""
    found = {path.name: private_uses(path) for path in PACKAGE.rglob("*.py")}
    assert len(found.pop("_cpython.py")) >= 10
    assert {name: uses for name, uses in found.items() if uses} == {}
