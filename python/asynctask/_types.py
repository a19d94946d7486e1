"""Types that more than one module names."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeAlias

__all__ = ["Duration"]

Duration: TypeAlias = float | timedelta
"""Seconds, or a `timedelta`. Negative, NaN and `bool` are refused, and past 100 years."""
