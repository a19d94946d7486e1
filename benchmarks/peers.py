"""What several workloads need of the peers."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import sched
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from benchmarks.harness import Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Sample

Enter: TypeAlias = "Callable[[float, Callable[[], object]], object]"
"""Posts a timer: in how many seconds, and what is called then; from any thread."""

APSCHEDULER = "apscheduler"
GEVENT = "gevent"
UVLOOP = "uvloop"


def is_installed(package: str) -> bool:
    """Whether a peer can take part."""
    return importlib.util.find_spec(package) is not None


def new_loop(peer: str) -> asyncio.AbstractEventLoop:
    """Make an event loop, of `asyncio` or of `uvloop`."""
    if peer == UVLOOP:
        loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
        return loop
    return asyncio.new_event_loop()


@contextmanager
def event_loop(peer: str) -> Iterator[asyncio.AbstractEventLoop]:
    """Make an event loop, and close it."""
    loop = new_loop(peer)
    try:
        yield loop
    finally:
        loop.close()


@contextmanager
def loop_thread(peer: str) -> Iterator[asyncio.AbstractEventLoop]:
    """Make an event loop that runs in a thread of its own, stop it, and close it."""
    with event_loop(peer) as loop:
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield loop
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def loops(title: str, run: Callable[[str], Sample]) -> list[Case]:
    """Let both loops take part; *title* has a place for their names."""
    return [
        Case(title.format("asyncio"), partial(run, "asyncio")),
        Case(title.format("uvloop"), partial(run, UVLOOP), needs=UVLOOP),
    ]


def new_scheduler() -> Any:
    """Make an APScheduler that drops nothing; by default it drops what is 1 s late."""
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    background = importlib.import_module("apscheduler.schedulers.background")
    defaults = {"misfire_grace_time": None, "coalesce": False, "max_instances": 1_000_000}
    return background.BackgroundScheduler(job_defaults=defaults)


@contextmanager
def scheduler() -> Iterator[Any]:
    """Make an APScheduler, start it, and shut it down."""
    made = new_scheduler()
    made.start()
    try:
        yield made
    finally:
        made.shutdown()


@contextmanager
def gevent_pool(workers: int) -> Iterator[Any]:
    """Make a `gevent.threadpool.ThreadPool`, and end its threads. Nothing is patched."""
    pool = importlib.import_module("gevent.threadpool").ThreadPool(workers)
    try:
        yield pool
    finally:
        pool.kill()


class SchedThread:
    """A `sched.scheduler` that a thread of its own runs, and that a new timer wakes."""

    def __init__(self) -> None:
        self._news = threading.Event()
        self._is_over = False
        self._scheduler = sched.scheduler(time.monotonic, self._sleep)
        self._thread = threading.Thread(target=self._run)

    def enter(self, delay: float, callback: Callable[[], object]) -> None:
        """Post a timer."""
        self._scheduler.enter(delay, 0, callback)
        self._news.set()

    def enter_at(self, deadline: float, callback: Callable[[], object]) -> None:
        """Post a timer for an instant of the monotonic clock."""
        self._scheduler.enterabs(deadline, 0, callback)
        self._news.set()

    def _sleep(self, seconds: float) -> None:
        if self._is_over:
            raise SystemExit
        self._news.wait(seconds)
        self._news.clear()

    def _run(self) -> None:
        while not self._is_over:
            self._scheduler.run()
            self._news.wait()
            self._news.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._news.set()
        self._thread.join()


@contextmanager
def sched_timers() -> Iterator[Enter]:
    """`sched`, in a thread of its own."""
    with SchedThread() as scheduler:
        yield scheduler.enter


@contextmanager
def thread_timers() -> Iterator[Enter]:
    """`threading.Timer`, a thread for each."""
    yield lambda delay, callback: threading.Timer(delay, callback).start()


@contextmanager
def job_timers() -> Iterator[Enter]:
    """`add_job` with a date, which is of the wall clock: rounded up, so that it is not early."""
    with scheduler() as made:

        def enter(delay: float, callback: Callable[[], object]) -> None:
            date = datetime.fromtimestamp(time.time() + delay + 1e-6, UTC)
            made.add_job(callback, "date", run_date=date)

        yield enter
