"""For tests of programs that use asynctask."""

from __future__ import annotations

from asynctask._asynctask import ManualClock, reset_default_pool

__all__ = ["ManualClock", "reset_default_pool"]
