"""What calling a callback gives: a result, or a coroutine.

Asked by the native module when something is posted whose kind it does not know. Nothing is called
here that was posted, and nothing imported but `inspect`.
"""

from __future__ import annotations

import functools
from typing import Any

from asynctask._cpython import COROUTINE_MARKS, is_marked_by_asyncio

__all__ = ["is_coroutine_function", "is_plain_class"]


def is_coroutine_function(callback: Any) -> bool:
    """Tell whether calling *callback* gives a coroutine, whatever it is wrapped in."""
    import inspect  # noqa: PLC0415  # plain functions, which most callbacks are, never come here

    if inspect.iscoroutinefunction(callback):
        return True
    # `staticmethod` objects as well: in the body of their class, that is what the name means.
    while isinstance(callback, (functools.partial, staticmethod)):
        callback = callback.func if isinstance(callback, functools.partial) else callback.__func__
    # Of an object that can be called, it is the class that has the function.
    kind = callback if inspect.isroutine(callback) else type(callback).__call__
    if not inspect.isroutine(kind):
        return is_coroutine_function(kind)  # or another such object in its place
    return inspect.iscoroutinefunction(kind) or is_marked_by_asyncio(callback)


def is_plain_class(kind: Any) -> bool:
    """Tell whether calling an instance gives no coroutine, unless its `__dict__` has a mark."""
    return not (
        issubclass(kind, (functools.partial, staticmethod))
        or is_coroutine_function(kind.__call__)
        or hasattr(kind, "__getattr__")
        or kind.__getattribute__ is not object.__getattribute__
        or any(hasattr(kind, mark) for mark in COROUTINE_MARKS)
    )
