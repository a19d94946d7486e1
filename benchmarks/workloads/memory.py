"""P10: the memory that a pending timer takes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.harness import Case, Metric, Sample, Scale, Workload
from benchmarks.process import child
from benchmarks.workloads import core

if TYPE_CHECKING:
    from collections.abc import Sequence


def pending(peer: str, count: int) -> Sample:
    """Set up so many timers in a fresh process, and see by how much its resident memory grew.

    Checked: all of them wait.
    """
    with child(peer, count) as process:
        return {"bytes": process.bytes / count}


def in_rust(quick: bool) -> Sample:
    """Ask the core's own benchmark, which counts in the allocator; handles are not part of it."""
    return {"bytes": core.figures(quick)["memory/1M pending"]}


def workloads(scale: Scale) -> Sequence[Workload]:
    """P10, Python and core."""
    count = scale.pick(1_000_000, 100_000)
    jobs = scale.pick(5_000, 1_000)
    threads = scale.pick(1_000, 200)

    def case(name: str, peer: str, count: int, needs: str | None = None) -> Case:
        return Case(
            f"{name}, {count:,}",
            functools.partial(pending, peer, count),
            ours=peer == "asynctask",
            needs=needs,
        )

    return [
        Workload(
            "P10",
            "memory of pending timers, handles dropped, each in a fresh process",
            [Metric("bytes", "bytes each", at_most=250)],
            [
                case("post_delay_task", "asynctask", count),
                case("asyncio call_later", "asyncio", count),
                case("uvloop call_later", "uvloop", count, peers.UVLOOP),
                case("threading.Timer", "thread_timer", threads),
                case("APScheduler", "apscheduler", jobs, peers.APSCHEDULER),
            ],
            scale.turns(2, 1),
        ),
        Workload(
            "P10",
            "core: memory of 1M pending timers",
            [Metric("bytes", "bytes each", at_most=64, digits=1)],
            [
                Case(
                    "wheel", functools.partial(in_rust, scale.quick), ours=True, skip=core.missing()
                )
            ],
            rounds=1,
        ),
    ]
