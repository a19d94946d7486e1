"""What tests of coroutines share, beside the fixtures of `tests/asyncio/conftest.py`."""

import asyncio
import inspect
import sys


async def eventually(condition):
    """Wait for a condition that nothing announces, such as another thread's progress."""
    while not condition():  # noqa: ASYNC110  # see above
        await asyncio.sleep(0.001)


def fail():
    """Raise."""
    raise ValueError("failed")


def mark(function):
    """Mark a plain function as a coroutine function, by the mark that each Python knows."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine
    return function


class CountingLoop(asyncio.SelectorEventLoop):
    """A loop that counts what is given to it while it is armed."""

    soon = 0
    threadsafe = 0
    armed = False

    def call_soon(self, *args, **kwargs):
        """Count, and call."""
        self.soon += self.armed
        return super().call_soon(*args, **kwargs)

    def call_soon_threadsafe(self, *args, **kwargs):
        """Count, and call."""
        self.threadsafe += self.armed
        return super().call_soon_threadsafe(*args, **kwargs)
