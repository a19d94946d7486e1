"""Refusals: of arguments at the call, where they would be missed later, and of copies.

For what the package takes itself; arguments that go on to the native module are checked there.
"""

from __future__ import annotations

from asynctask._asynctask import PoolBase

__all__ = ["check_pool", "not_pickled"]


def check_pool(pool: object) -> None:
    """Refuse what is no pool of ours."""
    if not isinstance(pool, PoolBase):
        message = f"pool must be an asynctask.AsyncTaskPool, not {pool!r}"
        raise TypeError(message)


def not_pickled(thing: object, why: str) -> TypeError:
    """Give the refusal to pickle or to copy, in the words of CPython, and why."""
    name = f"{type(thing).__module__}.{type(thing).__qualname__}"
    return TypeError(f"cannot pickle '{name}' object: {why}")
