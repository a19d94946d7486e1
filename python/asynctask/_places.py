"""Callbacks that somebody else's executor runs: how a program outgrows one process."""

from __future__ import annotations

import functools
from concurrent.futures import BrokenExecutor, CancelledError
from typing import TYPE_CHECKING, Any

from asynctask._asynctask import PoolBase
from asynctask.exceptions import BrokenPool

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Executor, Future
    from contextvars import Context

    from asynctask._task import AsyncTask

__all__ = ["check_pool", "end", "on_executor"]

INTERPRETER_REFUSAL = "cannot schedule new futures after interpreter shutdown"

STATES = ("_shutdown", "_shutdown_thread", "_broken")
"""Where the executors of the library say that they take no more: `False`, `True`, or why."""

REFUSALS = ("cannot schedule new futures after shutdown", INTERPRETER_REFUSAL)
"""What executors say that were shut down, the library's and others that follow it."""


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
        run.add_done_callback(functools.partial(self._end, task))

    def is_gone(self, error: BaseException) -> bool:
        """Tell whether `submit`, which has raised *error*, will never take anything again.

        What the executor says of itself comes first, for its `submit` may pass on what another
        one has raised. Of one that says nothing, all that there is to go by is the error.
        """
        if not isinstance(error, RuntimeError):  # which a `BrokenExecutor` is
            return False
        if str(error) == INTERPRETER_REFUSAL:
            return True
        states = self._states()
        if states:
            return any(states)
        if isinstance(error, BrokenPool):
            return False  # a pool of ours that could not start a thread
        return isinstance(error, BrokenExecutor) or str(error) in REFUSALS

    def _states(self) -> list[bool]:
        executor = self._executor
        if isinstance(executor, PoolBase):
            return [True] if executor._is_over() else []
        found = [getattr(executor, name, None) for name in STATES]
        return [bool(state) for state in found if isinstance(state, (bool, str))]

    def _end(self, task: AsyncTask[Any], run: Future[Any]) -> None:
        # A shutdown cancels runs, and a broken executor fails them: then there is no further one.
        is_cut_short = run.cancelled() or isinstance(run.exception(), BrokenExecutor)
        end(task, run, CancelledError, is_cut_short and any(self._states()))


def end(
    task: AsyncTask[Any],
    run: Future[Any] | asyncio.Future[Any],
    cancelled: type[BaseException],
    is_gone: bool = False,
) -> None:
    """End the run of *task* that went on elsewhere as *run* has ended there."""
    if run.cancelled():
        task._complete_cancelled(_cancellation(run, cancelled), is_gone)
        return
    error = run.exception()
    if error is None:
        task._complete(run.result())
    else:
        task._fail(error, is_gone)


def _cancellation(
    run: Future[Any] | asyncio.Future[Any], cancelled: type[BaseException]
) -> BaseException:
    """Give what the cancelled *run* raises, with the traceback that it has there."""
    try:
        run.result()
    except cancelled as error:
        # Without this frame, below which is the task that is to keep the error. No name is given to
        # the traceback here: the frame would keep it, and it keeps the frame.
        return error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    return cancelled()


def on_executor(executor: Executor) -> _OnExecutor:
    """Give the place for callbacks that *executor* runs."""
    if not callable(getattr(executor, "submit", None)):
        message = f"executor must be a concurrent.futures.Executor, not {executor!r}"
        raise TypeError(message)
    return _OnExecutor(executor)


def check_pool(pool: object) -> None:
    """Refuse what is no pool of ours, where it would be missed later."""
    if not isinstance(pool, PoolBase):
        message = f"pool must be an asynctask.AsyncTaskPool, not {pool!r}"
        raise TypeError(message)
