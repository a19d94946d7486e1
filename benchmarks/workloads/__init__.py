"""One module for each workload; `ALL` has them by the name that the design gives them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.workloads import cancel, core, lateness, memory, post, round_trip, wakeups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.harness import Scale, Workload

ALL: dict[str, Callable[[Scale], Sequence[Workload]]] = {
    "P1": post.workloads,
    "P2": round_trip.workloads,
    "P3": cancel.workloads,
    "P4": core.workloads,
    "P5": core.workloads,
    "P6": core.workloads,
    "P7": lateness.workloads,
    "P10": memory.workloads,
    "P11": wakeups.workloads,
}
