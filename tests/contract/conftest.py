"""The two columns of the contract suite: `ThreadPoolExecutor` and `AsyncTaskPool`.

Every test of this folder runs once on either side. Where the sides differ on purpose, the test asks
the column for the entry of `DIFFERENCES`, which is what `docs/futures.md` tells the user.
"""

from __future__ import annotations

import concurrent.futures as cf
import concurrent.futures.thread
from typing import TYPE_CHECKING, Any, NamedTuple

import asynctask
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Difference(NamedTuple):
    """What is so in one column and otherwise in the other, and why."""

    theirs: Any
    ours: Any
    why: str


DIFFERENCES: dict[str, Difference] = {
    # Futures.
    "made by calling the class": Difference(
        None, TypeError, "a handle without a task behind it would never end"
    ),
    "set_result on an unfinished future": Difference(
        None, cf.InvalidStateError, "a task's result is what its callback returns"
    ),
    "state after cancel": Difference(
        "CANCELLED",
        "CANCELLED_AND_NOTIFIED",
        "whoever waits is told in the same breath, not when a worker comes across the task",
    ),
    "arguments after cancel": Difference(
        "kept", "freed", "a cancelled task lets go of its callback and arguments at once"
    ),
    "done-callback that is not callable": Difference(
        None, TypeError, "refused where it is wrong, not logged where nobody looks"
    ),
    "done-callback that raises SystemExit": Difference(
        "worker ends", "logged", "nothing that a callback raises ends a worker"
    ),
    "timeout that is no number": Difference(
        "waits or TypeError", TypeError, "refused at the call, whatever the task's state"
    ),
    "failure that nobody looks at": Difference(
        [], ["asynctask"], "logged when the handle goes: it would be lost otherwise"
    ),
    "name in the repr": Difference("", r" 'task-\d+'", "it is what logs show, too"),
    # Executors.
    "fn that is not callable": Difference(
        "in the future", "at the call", "refused where it is wrong"
    ),
    "class after a failed initializer": Difference(
        concurrent.futures.thread.BrokenThreadPool,
        asynctask.BrokenPool,
        "both are BrokenExecutor; the pool's own is not about threads only",
    ),
    "class after shutdown": Difference(
        RuntimeError, asynctask.PoolShutdown, "a RuntimeError that can be told from others"
    ),
    "name of the first worker": Difference(
        "{}_0", "{}-0", "a dash; a number is never used again by the same pool"
    ),
    "chunksize of 0": Difference(None, ValueError, "refused, as by ProcessPoolExecutor"),
    "context of a callback": Difference(
        "the worker's", "its own", "what one callback sets is not seen by the next"
    ),
    "wait in a callback for a task behind it": Difference(
        TimeoutError, "result", "a wait in a callback never deadlocks the pool"
    ),
    "shutdown from a callback": Difference(
        RuntimeError, None, "a worker cannot wait for its own end, so it does not"
    ),
    "coroutine function": Difference(
        "returned as a coroutine", TypeError, "it needs a loop: the running one, or loop="
    ),
}
"""Every difference on purpose; what is not here is the same in both columns."""


class Column:
    """One side: how its executors are made, and what its differences are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_ours = name == "AsyncTaskPool"
        self.logger = "asynctask" if self.is_ours else "concurrent.futures"
        self.future: type[cf.Future[Any]] = asynctask.AsyncTask if self.is_ours else cf.Future
        self.executor: type[cf.Executor] = (
            asynctask.AsyncTaskPool if self.is_ours else cf.ThreadPoolExecutor
        )
        self._made: list[cf.Executor] = []

    def make(self, *args: object, **keywords: object) -> Any:
        """Make an executor that is shut down after the test."""
        executor = self.executor(*args, **keywords)
        self._made.append(executor)
        return executor

    def differs(self, key: str) -> Any:
        """Give this column's entry of a difference."""
        difference = DIFFERENCES[key]
        return difference.ours if self.is_ours else difference.theirs

    def end(self) -> None:
        """Shut down what was made."""
        for executor in self._made:
            executor.shutdown(wait=True, cancel_futures=True)


@pytest.fixture(params=["ThreadPoolExecutor", "AsyncTaskPool"])
def column(request: pytest.FixtureRequest) -> Iterator[Column]:
    """Give one side, whose executors are shut down after the test."""
    column = Column(request.param)
    yield column
    column.end()


@pytest.fixture
def make_pool(column: Column) -> Callable[..., Any]:
    """Make executors of the column; gates are opened before they are shut down."""
    return column.make


@pytest.fixture
def running(one: Any, gate: Any) -> cf.Future[str]:
    """Give a future that runs until the gate opens."""
    return gate.hold(one)


@pytest.fixture
def queued(one: Any, running: cf.Future[str]) -> cf.Future[int]:
    """Give a future that waits behind the running one."""
    return one.submit(int, "7")
