"""How a run that went on elsewhere has ended, told to its task.

Called where the run has ended: on its loop, or on whatever thread ends an executor's future. It
knows neither loops nor executors, only that both give futures, and imports neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from asynctask._asynctask import TaskBase

__all__ = ["copy_outcome"]


def copy_outcome(
    run: Future[Any] | asyncio.Future[Any],
    task: TaskBase[Any],
    cancelled: type[BaseException],
    is_gone: bool = False,
) -> None:
    """End the run of *task* that went on elsewhere as *run* has ended there.

    Args:
        run: What has ended.
        task: Whose run it was.
        cancelled: What *run* raises if it was cancelled.
        is_gone: Whether there will never be a further run there.
    """
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
