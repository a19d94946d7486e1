"""What the tests share: pools that end with their test, gates to hold a worker at, interpreters.

No test waits for time to pass. It waits for an event, a barrier or a handle, with a timeout that
only a hang reaches, or it moves the manual clock. Where real time is the subject, a lower bound is
exact, for nothing is ever early, and an upper bound leaves a noisy machine whole seconds.
"""

from __future__ import annotations

import gc
import os
import signal
import sysconfig
import time
from typing import TYPE_CHECKING, Any

import pytest
from asynctask import AsyncTaskPool
from asynctask.testing import ManualClock, reset_default_pool
from helpers.programs import run_program
from helpers.threads import PATIENCE, Gate

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Iterator

# Programs that the tests run find what a user's would: an unbuffered stdout hides a missing flush.
os.environ.pop("PYTHONUNBUFFERED", None)
# And Ctrl-C, which a shell has what it starts in the background ignore.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def make_pool() -> Iterator[Callable[..., AsyncTaskPool]]:
    """Make pools as `AsyncTaskPool` does; they are shut down, and must end, with the test."""
    pools = []

    def make(*args: object, **keywords: object) -> AsyncTaskPool:
        pool = AsyncTaskPool(*args, **keywords)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.shutdown(wait=False, cancel_futures=True)
    for pool in pools:
        pool.wait_and_exit(PATIENCE)
        stats = pool.stats()
        assert stats.running_workers + stats.idle_workers == 0, "a worker did not end"


@pytest.fixture
def pool(make_pool: Callable[..., AsyncTaskPool]) -> AsyncTaskPool:
    """Give a pool of four workers."""
    return make_pool(4)


@pytest.fixture
def one(make_pool: Callable[..., AsyncTaskPool]) -> AsyncTaskPool:
    """Give a pool of one worker."""
    return make_pool(1)


@pytest.fixture
def clock() -> ManualClock:
    """Give the clock of `timed`."""
    return ManualClock()


@pytest.fixture
def timed(make_pool: Callable[..., AsyncTaskPool], clock: ManualClock) -> AsyncTaskPool:
    """Give a pool of four workers whose time stands still until `clock` is moved."""
    return make_pool(4, clock=clock)


@pytest.fixture
def make_gate(make_pool: object) -> Iterator[Callable[[], Gate]]:
    """Make gates; whatever a test left closed is opened before its pools are shut down."""
    gates = []

    def make() -> Gate:
        gates.append(Gate())
        return gates[-1]

    yield make
    for gate in gates:
        gate.open()


@pytest.fixture
def gate(make_gate: Callable[[], Gate]) -> Gate:
    """Give one gate."""
    return make_gate()


@pytest.fixture
def default_pool() -> Iterator[None]:
    """Let the test find a default pool that nobody has used, and leave none behind."""
    assert reset_default_pool(PATIENCE)
    yield
    assert reset_default_pool(PATIENCE)


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait for a condition that nothing announces, such as a thread's end."""

    def wait(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        end = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < end, "the condition never came true"
            time.sleep(0.002)

    return wait


@pytest.fixture
def gone() -> Callable[..., bool]:
    """Tell whether objects have gone, by reference count alone where there is a GIL.

    A free-threaded build leaves functions and classes to the collector, and what another thread has
    dropped last to the next bytecode of the thread that made it.
    """

    def tell(*references: weakref.ref[Any]) -> bool:
        end = time.monotonic() + PATIENCE
        while sysconfig.get_config_var("Py_GIL_DISABLED") and time.monotonic() < end:
            gc.collect()
            if not any(reference() for reference in references):
                break
            time.sleep(0.001)
        return not any(reference() for reference in references)

    return tell


@pytest.fixture
def run_python() -> Callable[..., str]:
    """Run a program in an interpreter of its own and give what it printed.

    It must exit with code 0 and leave stderr empty unless told otherwise.
    """

    def run(program: str, **options: Any) -> str:
        return run_program(program, **options).stdout

    return run
