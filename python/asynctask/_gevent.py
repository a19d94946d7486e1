"""Waits in a program that gevent has monkey-patched: the greenlet waits, its hub does not.

Imported only in such a program; the native module calls it, on the thread that waits, which owns
the hub. Never on a worker: workers are real threads, and a wait there is the ordinary one, which
lends the pool another worker, as no hub would.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event
from gevent import monkey
from gevent._hub_local import get_hub_if_exists

if TYPE_CHECKING:
    from asynctask._task import AsyncTask

__all__ = ["is_cooperative", "pause", "wait_until_done"]

POLL_INTERVAL = 0.002
"""Between two looks at what has no callback to tell that it has come about, in seconds."""


def is_cooperative() -> bool:
    """Tell whether a wait on this thread must let other greenlets run."""
    return bool(monkey.is_module_patched("threading")) and get_hub_if_exists() is not None


def pause(longest: float | None = None) -> None:
    """Let other greenlets run for a moment."""
    gevent.sleep(POLL_INTERVAL if longest is None else min(POLL_INTERVAL, longest))


def wait_until_done(task: AsyncTask[Any], timeout: float | None) -> bool:
    """Wait until *task* is over; ``False`` if *timeout* passes first."""
    end = None if timeout is None else time.monotonic() + timeout
    hub = gevent.get_hub()
    # The only kind of watcher that another thread may send to.
    watcher = hub.loop.async_()
    try:
        waiter = gevent.event.Event()
        watcher.start(waiter.set)
        task.add_done_callback(lambda _: watcher.send())
        while not task.done():
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return False
            waiter.wait(left)
    finally:
        watcher.stop()
        # Closed by its own finalizer: the done-callback may still send to it.
    return True
