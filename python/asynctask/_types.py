"""Types that more than one module names. Nothing here is called."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

__all__ = ["Duration"]

Duration: TypeAlias = float | timedelta
"""Seconds, or a `timedelta`. Refused are NaN, infinities, `bool`, and past 100 years.

A negative delay or timeout is one that has passed; an interval must be longer than 0, and a timeout
may be as long as `threading.TIMEOUT_MAX`.
"""
