"""CPython's own tests of its thread pool, run on ours: `make test-cpython`.

The tests are those of the interpreter that runs this file, in `test.test_concurrent_futures`; some
packagers ship them apart, and `make pythons` gets them. `ThreadPoolExecutor` is replaced before
they are loaded, and in the programs that they start. What fails must be in `DIFFERENCES`, which
names the row of the table in `docs/futures.md` that says why.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
import unittest
from concurrent import futures
from typing import Any

from asynctask import AsyncTaskPool

MODULES = ["thread_pool", "shutdown", "init", "wait", "as_completed"]
CHILD = """\
import asynctask, concurrent.futures
concurrent.futures.ThreadPoolExecutor = asynctask.AsyncTaskPool
"""
POOL, SHUTDOWN = "test_thread_pool.ThreadPoolExecutorTest", "test_shutdown.ThreadPoolShutdownTest"
DIFFERENCES = {
    f"{SHUTDOWN}.test_cancel_futures": "start of a worker",
    f"{SHUTDOWN}.test_submit_after_interpreter_shutdown": "class after shutdown",
    f"{SHUTDOWN}.test_thread_names_assigned": "name of the first worker",
    f"{SHUTDOWN}.test_thread_names_default": "name of the first worker",
    "test_init.ThreadPoolFailingInitializerTest.test_initializer": "log of a failed initializer",
    f"{SHUTDOWN}.test_threads_terminate": "`join` of a worker's `Thread`",
    f"{SHUTDOWN}.test_context_manager_shutdown": "`join` of a worker's `Thread`",
    f"{SHUTDOWN}.test_del_shutdown": "`join` of a worker's `Thread`",
    f"{SHUTDOWN}.test_shutdown_no_wait": "`join` of a worker's `Thread`",
}
"""Tests that may fail, and the row that says why. Some fail only as the timing is."""


class ThreadPoolExecutor(AsyncTaskPool):
    """The pool, with the private attributes that the tests look at."""

    _numbers = itertools.count()

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Any = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        """Make a pool whose threads can be told from others'."""
        prefix = thread_name_prefix or f"ThreadPoolExecutor-{next(self._numbers)}"
        self._prefix = f"{prefix}-"
        super().__init__(max_workers, prefix, initializer, initargs)

    @property
    def _broken(self) -> bool:
        try:
            self.submit(int)
        except futures.BrokenExecutor:
            return True
        return False

    @property
    def _threads(self) -> set[threading.Thread]:
        """Workers start one another, so what is asked for here may be a moment away."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            stats = self.stats()
            started = stats.running_workers + stats.idle_workers
            if stats.waiting == 0 or started == stats.max_workers:
                break
            time.sleep(0.001)
        return {thread for thread in threading.enumerate() if thread.name.startswith(self._prefix)}


def load() -> unittest.TestSuite:
    """Give the tests of thread pools, with ours in the place of the library's."""
    futures.ThreadPoolExecutor = ThreadPoolExecutor  # type: ignore[misc]
    from test.support import script_helper  # noqa: PLC0415  # after the replacement
    from test.test_concurrent_futures import util  # noqa: PLC0415

    def run(*args: str, **keywords: Any) -> Any:
        return original(*args[:-1], CHILD + args[-1], **keywords)

    original, script_helper.assert_python_ok = script_helper.assert_python_ok, run
    assert util.ThreadPoolMixin.executor_type is ThreadPoolExecutor
    names = [f"test.test_concurrent_futures.test_{module}" for module in MODULES]
    suite = unittest.TestSuite()
    for case in flat(unittest.defaultTestLoader.loadTestsFromNames(names)):
        if type(case).__name__.startswith("ThreadPool"):
            suite.addTest(case)
    return suite


def flat(suite: unittest.TestSuite) -> list[unittest.TestCase]:
    """Give the tests of a suite of suites."""
    return [
        case
        for item in suite
        for case in (flat(item) if isinstance(item, unittest.TestSuite) else [item])
    ]


def main() -> int:
    """Run them, and say what differs."""
    try:
        suite = load()
    except ModuleNotFoundError as error:
        print(f"== NOT TESTED: this interpreter comes without its tests: {error}")
        return 0
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    failed = {
        case.id().rpartition("test_concurrent_futures.")[2]
        for case, _ in result.failures + result.errors
    }
    for name in sorted(failed & DIFFERENCES.keys()):
        print(f"== differs on purpose: {name}: {DIFFERENCES[name]}")
    for name in sorted(failed - DIFFERENCES.keys()):
        print(f"== FAILED: {name}")
    # What a failed test has left running must not hold the exit up.
    sys.stdout.flush()
    os._exit(bool(failed - DIFFERENCES.keys()))


if __name__ == "__main__":
    sys.exit(main())
