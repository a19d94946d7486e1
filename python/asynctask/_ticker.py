"""A clock's tick as an iterator.

A ticker is its user's, and owns a series that has no callback: the series counts ticks, and
whoever loops over the ticker takes them. No worker runs for it, and nothing is kept of a tick but
its count.
"""

from __future__ import annotations

import contextlib
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from asynctask._asynctask import IntervalTask, Ticks, get_async_task
from asynctask._checks import check_pool, not_pickled

if TYPE_CHECKING:
    from typing import Unpack

    from asynctask._asynctask import _IntervalKeywords
    from asynctask._pool import AsyncTaskPool
    from asynctask._types import Duration
    from asynctask._waiting import Sleepers

__all__ = ["Ticker", "ticker"]

MANUAL_CLOCK_POLL = 0.001
"""How often a coroutine looks at a clock that is moved by hand: no timer of its loop knows it."""


class Ticker:
    """Ticks at a fixed rate, one for each turn of a ``for`` loop.

    No worker and no GIL are spent on a tick that nobody waits for. A loop that is slower
    than the ticks gets the latest one and skips the others, or gets them all one by one
    with ``missed="catch_up"``. Thread-safe: several loops over one ticker, ``for`` and
    ``async for``, share its ticks, each of which goes to one of them. The ticks end when
    nobody refers to the ticker any more, as after a loop that was left by ``break``.
    """

    def __init__(
        self,
        interval: Duration,
        *,
        pool: AsyncTaskPool | None = None,
        **keywords: Unpack[_IntervalKeywords],
    ) -> None:
        option = IntervalTask(interval, **keywords)
        pool = get_async_task() if pool is None else pool
        check_pool(pool)
        self._ticks = Ticks(option.missed == "catch_up")
        self._is_manual = pool._deadline(0).is_manual
        self._sleepers: Sleepers | None = None
        self._task = pool._post_ticks(option)

    def __del__(self) -> None:
        task = getattr(self, "_task", None)
        if task is not None:  # there is none if the constructor has raised
            task.stop()

    def __repr__(self) -> str:
        state = "over" if self._task.done() else "ticking"
        ticks = self._task.called_times()
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        return f"<{name} at {id(self):#x}: {state}, {ticks} ticks, {self._ticks.given} seen>"

    def __reduce__(self) -> Any:
        """Refused, always: two tickers would share the ticks."""
        raise not_pickled(self, "a ticker stays in its process")

    def __iter__(self) -> Ticker:
        return self

    def __next__(self) -> int:
        """Wait for the next tick and give its number, the first being 1."""
        while True:
            is_over = self._task.done()  # before the look: what has been is had
            tick = self._ticks.take(self._task)
            if tick is not None:
                return tick
            if is_over:
                raise StopIteration
            # The end of the series also ends the wait.
            with contextlib.suppress(CancelledError):
                self._task.wait_for_finished_count(self._ticks.given + 1)

    def __aiter__(self) -> Ticker:
        return self

    async def __anext__(self) -> int:
        """Like `__next__`, for ``async for``: the loop's own timer wakes it."""
        while True:
            is_over = self._task.done()
            tick = self._ticks.take(self._task)
            if tick is not None:
                return tick
            if is_over:
                raise StopAsyncIteration
            if self._sleepers is None:
                # Imports asyncio, which whoever awaits has.
                from asynctask._waiting import Sleepers  # noqa: PLC0415

                self._sleepers = Sleepers(self._task)
            # The loop may round to its own clock, so look again. A tick that is due has a
            # moment between leaving the wheel and being counted.
            await self._sleepers.sleep(self._left())

    def _left(self) -> float:
        """Give the time that the loop sleeps until it looks again."""
        left = self._task._remaining() or 0
        return min(left, MANUAL_CLOCK_POLL) if self._is_manual else left

    def stop(self) -> None:
        """End the ticks, and every loop over them."""
        self._task.stop()


def ticker(
    interval: Duration,
    *,
    pool: AsyncTaskPool | None = None,
    **keywords: Unpack[_IntervalKeywords],
) -> Ticker:
    """Tick every *interval*; takes the keywords of `IntervalTask`.

    >>> import asynctask
    >>> list(asynctask.ticker(0.001, max_runs=2, missed="catch_up"))
    [1, 2]
    """
    return Ticker(interval, pool=pool, **keywords)
