"""The private parts of CPython that `asynctask._threading` uses are what it takes them for."""

import ast
import sys
import threading
from pathlib import Path

import asynctask
from asynctask import AsyncTaskPool

PRIVATE = {
    "_DummyThread",
    "_MainThread",
    "_active",
    "_active_limbo_lock",
    "_register_atexit",
    "_shutdown",
}


def test_the_parts_are_there():
    """`threading` has every private part that is used of it."""
    assert [name for name in PRIVATE if not hasattr(threading, name)] == []
    assert issubclass(threading._DummyThread, threading.Thread)
    assert threading._active[threading.get_ident()] is threading.current_thread()
    with threading._active_limbo_lock, threading._active_limbo_lock:
        pass  # it can be taken twice
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
