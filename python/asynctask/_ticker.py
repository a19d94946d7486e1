"""A clock's tick as an iterator."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from asynctask._asynctask import IntervalTask, get_async_task

if TYPE_CHECKING:
    from asynctask._pool import AsyncTaskPool
    from asynctask._types import Duration

__all__ = ["Ticker", "ticker"]


class Ticker:
    """Ticks at a fixed rate, one for each turn of a ``for`` loop.

    No worker and no GIL are spent on a tick that nobody waits for. A loop that is slower
    than the ticks gets the latest one and skips the others, or gets them all one by one
    with ``missed="catch_up"``. Thread-safe; two loops over one ticker share its ticks.
    """

    def __init__(
        self, interval: Duration, *, pool: AsyncTaskPool | None = None, **keywords: Any
    ) -> None:
        option = IntervalTask(interval, **keywords)
        self._catches_up = option.missed == "catch_up"
        self._task = (pool or get_async_task())._post_ticks(option)
        self._seen = 0

    def __repr__(self) -> str:
        state = "over" if self._task.done() else "ticking"
        ticks = self._task.called_times()
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        return f"<{name} at {id(self):#x}: {state}, {ticks} ticks, {self._seen} seen>"

    def __iter__(self) -> Ticker:
        return self

    def __next__(self) -> int:
        """Wait for the next tick and give its number, the first being 1."""
        wanted = self._seen + 1
        task = self._task
        if task.called_times() < wanted:
            if task.done():
                raise StopIteration
            # The end of the series also ends the wait.
            try:
                task.wait_for_finished_count(wanted)
            except CancelledError:
                raise StopIteration from None
        self._seen = wanted if self._catches_up else max(wanted, task.called_times())
        return self._seen

    def __aiter__(self) -> Ticker:
        return self

    async def __anext__(self) -> int:
        """Like `__next__`, for ``async for``: the loop's own timer wakes it."""
        import asyncio  # noqa: PLC0415  # for the sake of programs without it

        wanted = self._seen + 1
        task = self._task
        while task.called_times() < wanted:
            if task.done():
                raise StopAsyncIteration
            # The loop may round to its own clock, so look again. A tick that is due has a
            # moment between leaving the wheel and being counted.
            await asyncio.sleep(task._remaining() or 0)
        self._seen = wanted if self._catches_up else max(wanted, task.called_times())
        return self._seen

    def stop(self) -> None:
        """End the ticks, and every loop over them."""
        self._task.stop()


def ticker(interval: Duration, **keywords: Any) -> Ticker:
    """Tick every *interval*; takes the keywords of `IntervalTask`.

    >>> import asynctask
    >>> list(asynctask.ticker(0.001, max_runs=2, missed="catch_up"))
    [1, 2]
    """
    return Ticker(interval, **keywords)
