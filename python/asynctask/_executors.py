"""Callbacks that somebody else's executor runs: how a program outgrows one process."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Executor, Future
    from contextvars import Context

    from asynctask._task import AsyncTask

__all__ = ["end", "on_executor"]


class _OnExecutor:
    """The place of callbacks that somebody else's executor runs."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def start(
        self,
        task: AsyncTask[Any],
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        _context: Context | None,
    ) -> None:
        """Have the executor run it. The context stays here: it cannot follow to a process."""
        run = self._executor.submit(callback, *args, **(kwargs or {}))
        if not task._set_remote(run):
            run.cancel()
        run.add_done_callback(functools.partial(end, task))


def end(task: AsyncTask[Any], run: Future[Any] | asyncio.Future[Any]) -> None:
    """End the run of *task* that went on elsewhere as *run* has ended there."""
    if run.cancelled():
        task._complete_cancelled()
        return
    error = run.exception()
    if error is None:
        task._complete(run.result())
    else:
        task._fail(error)


def on_executor(executor: Executor) -> _OnExecutor:
    """Give the place for callbacks that *executor* runs."""
    if not callable(getattr(executor, "submit", None)):
        message = f"executor must be a concurrent.futures.Executor, not {executor!r}"
        raise TypeError(message)
    return _OnExecutor(executor)
