"""For tests of programs that use asynctask: a clock to be moved by hand, and a fresh default pool.

Public as `asynctask.testing`, and imported when somebody first names it. The package itself never
uses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asynctask import _asynctask
from asynctask._asynctask import ManualClock

if TYPE_CHECKING:
    from asynctask._types import Duration

__all__ = ["ManualClock", "reset_default_pool"]


def reset_default_pool(timeout: Duration | None = 10.0) -> bool:
    """End the default pool, and forget it: the next use makes a new one.

    Tasks that wait for their deadline are cancelled, queued ones get *timeout* to finish, and
    what is left then is cancelled. A callback that is stuck even so goes on, in a pool that is
    nobody's any more.

    Args:
        timeout: Real time, whatever the pool's clock. ``None`` waits as long as it takes.

    Returns:
        Whether everything ended in time; ``True`` if there was no default pool.

    >>> import asynctask
    >>> from asynctask.testing import reset_default_pool
    >>> task = asynctask.post_task(lambda: "done")
    >>> reset_default_pool(timeout=5)
    True
    >>> task.result()
    'done'
    """
    return _asynctask._reset_default_pool(timeout)
