"""One module for each workload; `ALL` has them by the name that the design gives them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, TypeAlias

from benchmarks.workloads import (
    awaiting,
    blocking,
    burst,
    busy_main,
    cancel,
    core,
    interval,
    lateness,
    memory,
    nested,
    post,
    round_trip,
    scaling,
    wakeups,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.harness import Scale, Workload

Make: TypeAlias = "Callable[[Scale], Sequence[Workload]]"

MAKERS: dict[str, tuple[Make, ...]] = {
    "P1": (post.workloads, scaling.workloads),
    "P2": (round_trip.workloads,),
    "P3": (cancel.workloads,),
    "P4": (core.workloads,),
    "P5": (core.workloads,),
    "P6": (core.workloads,),
    "P7": (lateness.workloads,),
    "P8": (lateness.workloads,),
    "P9": (busy_main.workloads,),
    "P10": (memory.workloads, core.workloads),
    "P11": (wakeups.workloads,),
    "P12": (burst.workloads, core.workloads),
    "P13": (blocking.workloads,),
    "P14": (nested.workloads,),
    "P15": (interval.workloads,),
    "P16": (busy_main.workloads,),
    "P17": (awaiting.workloads,),
    "POOL": (core.workloads,),
}


def _made(name: str, scale: Scale) -> list[Workload]:
    """Make the workloads of that name: a module may have several."""
    return [workload for make in MAKERS[name] for workload in make(scale) if workload.id == name]


ALL: dict[str, Make] = {name: functools.partial(_made, name) for name in MAKERS}
