"""Arguments that are refused at the call, where they would be missed later.

For what the package takes itself; arguments that go on to the native module are checked there.
"""

from __future__ import annotations

from asynctask._asynctask import PoolBase

__all__ = ["check_pool"]


def check_pool(pool: object) -> None:
    """Refuse what is no pool of ours."""
    if not isinstance(pool, PoolBase):
        message = f"pool must be an asynctask.AsyncTaskPool, not {pool!r}"
        raise TypeError(message)
