"""P10: the memory that a pending timer takes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.harness import Case, Metric, Sample, Scale, Workload
from benchmarks.process import child

if TYPE_CHECKING:
    from collections.abc import Sequence


def pending(peer: str, count: int) -> Sample:
    """Set up so many timers in a fresh process, and see by how much its resident memory grew.

    Checked: all of them wait.
    """
    with child(peer, count) as process:
        return {"bytes": process.bytes / count}


def workloads(scale: Scale) -> Sequence[Workload]:
    """P10, of the module; the core's half is in `core`."""
    count = scale.pick(1_000_000, 100_000)
    jobs = scale.pick(5_000, 1_000)
    threads = scale.pick(1_000, 200)

    def case(name: str, peer: str, count: int, needs: str | None = None) -> Case:
        return Case(
            f"{name}, {count:,}",
            functools.partial(pending, peer, count),
            ours=peer == "asynctask",
            needs=needs,
            at_least={"bytes": 1} if peer == "asyncio" else {},
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
                case("sched enter", "sched", count),
                case("threading.Timer", "thread_timer", threads),
                case("APScheduler", "apscheduler", jobs, peers.APSCHEDULER),
            ],
            scale.turns(1, 1),
        ),
    ]
