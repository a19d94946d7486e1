"""P17: what an event loop pays to await what a pool runs."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from asynctask import AsyncTaskPool

from benchmarks import peers
from benchmarks.harness import Case, Metric, Sample, Scale, Workload, check, undisturbed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

ANSWER = 42
WARM_UP = 200


def answer() -> int:
    """Give what each await must bring back."""
    return ANSWER


async def gathered(post: Callable[[], Awaitable[int]], count: int) -> list[int]:
    """Post all of them, and await them by `asyncio.gather`."""
    return await asyncio.gather(*[post() for _ in range(count)])


async def in_turn(post: Callable[[], Awaitable[int]], count: int) -> list[int]:
    """Post all of them, and await each."""
    posted = [post() for _ in range(count)]
    return [await one for one in posted]


def awaited(
    peer: str,
    make: Callable[[], Any],
    how: Callable[[Callable[[], Awaitable[int]], int], Coroutine[Any, Any, list[int]]],
    count: int,
) -> Sample:
    """Post so many from a coroutine and await their results. Checked: every result."""

    async def measure(post: Callable[[], Awaitable[int]]) -> float:
        await how(post, WARM_UP)
        with undisturbed():
            start = time.perf_counter()
            results = await how(post, count)
            elapsed = time.perf_counter() - start
        check(results == [ANSWER] * count, "a result is wrong")
        return elapsed

    with peers.event_loop(peer) as loop, make() as pool:
        if isinstance(pool, AsyncTaskPool):
            elapsed = loop.run_until_complete(measure(lambda: pool.post_task(answer)))
        else:
            elapsed = loop.run_until_complete(measure(lambda: loop.run_in_executor(pool, answer)))
    return {"us": elapsed / count * 1e6}


def workloads(scale: Scale) -> Sequence[Workload]:
    """P17, on asyncio's loop and on uvloop's."""
    count = scale.pick(10_000, 2_000)

    def workload(peer: str, needs: str | None = None) -> Workload:
        def case(name: str, make: Callable[[], Any], how: Any, **keywords: Any) -> Case:
            return Case(name, lambda: awaited(peer, make, how, count), needs=needs, **keywords)

        least = {"us": 2.5}
        return Workload(
            "P17",
            f"post {count:,} from a coroutine and await them; {peer}'s loop",
            [Metric("us", "us each", digits=2)],
            [
                case("post_task, gather", AsyncTaskPool, gathered, ours=True),
                case("post_task, await each", AsyncTaskPool, in_turn, ours=True),
                case("run_in_executor, gather", ThreadPoolExecutor, gathered, at_least=least),
                case("run_in_executor, await each", ThreadPoolExecutor, in_turn),
            ],
            scale.turns(5, 2, 9),
        )

    return [workload("asyncio"), workload(peers.UVLOOP, peers.UVLOOP)]
