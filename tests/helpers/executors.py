"""Executors that the tests of handing over run callbacks on."""

import concurrent.futures as cf
import contextlib
import multiprocessing
import queue

import pytest

PATIENCE = 60
GROUP = "the group `handoff` of pyproject.toml has it; `make test-slow` installs that"


class ByHand(cf.Executor):
    """An executor whose tasks the test runs, one by one."""

    def __init__(self):
        self.submitted = queue.Queue()
        self.is_closed = False

    def submit(self, fn, /, *args, **kwargs):
        """Put it where the test finds it."""
        if self.is_closed:
            raise RuntimeError("closed by hand")
        future = cf.Future()
        self.submitted.put((future, fn, args, kwargs))
        return future

    def take(self):
        """Take the next one; it is running."""
        future, fn, args, kwargs = self.submitted.get(timeout=20)
        assert future.set_running_or_notify_cancel()
        return future, lambda: fn(*args, **kwargs)


@contextlib.contextmanager
def process_pool():
    """Make a process pool of the standard library."""
    context = multiprocessing.get_context("spawn")
    with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
        yield executor


@contextlib.contextmanager
def loky_pool():
    """Make loky's."""
    loky = pytest.importorskip("loky", reason=GROUP)
    executor = loky.get_reusable_executor(max_workers=2, timeout=PATIENCE)
    yield executor
    executor.shutdown(wait=True, kill_workers=True)
