"""The private parts of CPython that `asynctask._threading` uses are what it takes them for."""

import _thread
import ast
import sys
import threading
from pathlib import Path

import asynctask
import pytest
from asynctask import AsyncTaskPool, _threading

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
        if frame.f_code.co_filename == _threading.__file__:
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
    assert {"register_thread", "_settle", "trace_thread"} <= {name for name, _ in lines}
    assert len(set(map(id, seen))) == 1


def test_no_other_file_uses_private_parts_of_threading():
    """What is private stands in one file."""
    folder = Path(asynctask.__file__).parent
    found = [
        f"{path.name}:{node.lineno}: {node.attr}"
        for path in folder.rglob("*.py")
        if path.name != "_threading.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "threading"
        and node.attr.startswith("_")
    ]
    assert found == []
