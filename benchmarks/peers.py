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
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
