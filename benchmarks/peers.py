"""What several workloads need of the peers."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

APSCHEDULER = "apscheduler"
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
