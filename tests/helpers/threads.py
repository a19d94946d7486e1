"""Threads of a test, and a gate to hold a worker at."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 30  # seconds that only a hang takes


def start(call: Callable[..., object], *args: object) -> threading.Thread:
    """Start a thread that calls."""
    thread = threading.Thread(target=call, args=args)
    thread.start()
    return thread


def join(*threads: threading.Thread, patience: float = PATIENCE) -> None:
    """Wait until threads have ended, which they must."""
    for thread in threads:
        thread.join(patience)
        assert not thread.is_alive(), "a thread did not end"


class Gate:
    """A callback that says when it has started, and returns when it is told to."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.opened = threading.Event()

    def __call__(self, *args: object) -> str:
        """Wait to be opened."""
        self.started.set()
        assert self.opened.wait(PATIENCE), "the gate was never opened"
        return "through"

    def wait(self) -> None:
        """Wait until a worker stands at the gate."""
        assert self.started.wait(PATIENCE), "nobody came to the gate"

    def hold(self, executor: Any) -> Any:
        """Have a worker of an executor stand at the gate; give what was submitted."""
        task = executor.submit(self)
        self.wait()
        return task

    def open(self) -> None:
        """Let the worker go on."""
        self.opened.set()
