"""The exceptions of asynctask that the standard library has no class for.

Each is a kind of what the library raises in its place, so that who catches that needs no change.
The native module raises them; nothing else is here.
"""

from __future__ import annotations

import queue
from concurrent.futures import BrokenExecutor

__all__ = ["BrokenPool", "PoolShutdown", "QueueFull"]


class QueueFull(queue.Full):
    """The pool's queue is at its bound, and ``on_full`` is ``"raise"``."""


class PoolShutdown(RuntimeError):
    """The pool takes no more tasks.

    A `RuntimeError`, and with the same text, because that is what the executors of
    the standard library raise.
    """


class BrokenPool(BrokenExecutor):
    """The pool cannot run tasks any more, or could not run this one."""
