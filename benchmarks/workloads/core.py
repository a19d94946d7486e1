"""P4, P5, P6, P10, P12 and POOL of the core: beside its peers in Rust, Go and Java.

What is done stands in ``benchmarks/native``, once for each language; each turn there checks its own
result. The core is compared with these only, never with a figure of a Python workload.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import native
from benchmarks.harness import Case, Metric, Sample, Scale, Workload
from benchmarks.native import GO, JVM, RUST, Program
from benchmarks.workloads.burst import post_metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Run = Callable[["Contestant"], Sample]

MILLION = 1_000_000


@dataclass(frozen=True)
class Contestant:
    """Who takes part.

    Args:
        name: What the table calls it.
        program: Who runs it.
        word: What that program calls it.
        ours: Whether it is ours.
        is_wheel: Whether it does what our wheel does, so that we are to be ahead of it.
        most: The most timers it can be given before the first are due.
    """

    name: str
    program: Program
    word: str
    ours: bool = False
    is_wheel: bool = False
    most: int = 10 * MILLION


CONTAINERS = (
    Contestant("Wheel", RUST, "Wheel", ours=True),
    Contestant("Rust: tokio-util DelayQueue", RUST, "DelayQueue", is_wheel=True),
    Contestant("Rust: hierarchical_hash_wheel_timer", RUST, "hash-wheel", is_wheel=True),
    Contestant("Rust: BTreeMap", RUST, "BTreeMap"),
    Contestant("Rust: BinaryHeap", RUST, "BinaryHeap"),
)
SERVICES = (
    Contestant("Scheduler.post_after", RUST, "Scheduler", ours=True),
    Contestant("Rust: tokio sleep", RUST, "tokio", is_wheel=True),
    Contestant(
        "Rust: hierarchical_hash_wheel_timer, its thread",
        RUST,
        "hash-wheel-thread",
        is_wheel=True,
    ),
    Contestant("Go: time.AfterFunc", GO, "AfterFunc"),
    Contestant("Go: go-timewheel, 5 ms", GO, "go-timewheel", is_wheel=True, most=MILLION),
    Contestant("Go: RussellLuo/timingwheel, 1 ms", GO, "timingwheel", is_wheel=True),
    Contestant(
        "Java: Netty HashedWheelTimer, 5 ms",
        JVM,
        "HashedWheelTimer",
        is_wheel=True,
    ),
    Contestant("Java: ScheduledThreadPoolExecutor", JVM, "ScheduledThreadPoolExecutor"),
)
POOLS = (
    Contestant("Scheduler.post", RUST, "Scheduler", ours=True),
    Contestant("Rust: rayon spawn", RUST, "rayon"),
    Contestant("Rust: threadpool", RUST, "threadpool"),
    Contestant("Go: pond v1.9.1", GO, "pond1"),
    Contestant("Go: pond v2, Go", GO, "pond2"),
    Contestant("Go: ants", GO, "ants"),
    Contestant("Java: ThreadPoolExecutor", JVM, "ThreadPoolExecutor"),
)
RUNTIMES = (
    "Go and Java are given one closure for all; GOMAXPROCS and GOGC as they come; a JVM with 4 GiB "
    "of heap and G1, warmed up with 5 rounds; garbage is collected before each turn"
)
SHARED = (
    "the call reads the clock, may come from any thread, and will have a closure run; Netty and "
    "hierarchical_hash_wheel_timer only put it in a queue; that their thread inserts it later is "
    "not in their figure; of tokio it is a boxed Sleep and its first poll; removeOnCancel is on; "
)


def _cases(
    contestants: Iterable[Contestant], run: Run, ahead: Sequence[str] = (), without: str = ""
) -> list[Case]:
    """Let them run it; `ahead`: the metrics in which we are to be ahead of wheels and pools."""
    return [
        Case(
            one.name,
            functools.partial(run, one),
            ours=one.ours,
            at_least=dict.fromkeys(
                ahead if one.is_wheel or (contestants is POOLS and not one.ours) else (), 1.0
            ),
            skip=one.program.missing,
        )
        for one in contestants
        if one.word != without
    ]


def _inserts(scale: Scale) -> Iterable[Workload]:
    """P4; at full scale also the curve from 1 to ten million."""
    few, many = (1, 10, 100, 10_000), (10 * MILLION,)
    sizes = [1_000, 100_000, *([MILLION] if not scale.quick else [])]
    if scale.full:
        sizes = sorted([*few, *sizes, *many])

    def run(one: Contestant) -> Sample:
        return {
            f"{pending}": one.program.ask("insert", one.word, pending, 100_000)["ns"][0]
            for pending in sizes
            if pending <= one.most
        }

    def metrics(most: float | None) -> list[Metric]:
        return [
            Metric(
                f"{pending}", f"ns, {pending:,} pending", at_most=most, digits=1, at=float(pending)
            )
            for pending in sizes
        ]

    keys = [f"{pending}" for pending in sizes]
    for title, contestants, most, note in (
        ("insert by the call of a program", SERVICES, None, SHARED + RUNTIMES),
        ("insert into a container", CONTAINERS, 45, "used by one thread, deadlines given"),
    ):
        yield Workload(
            "P4",
            f"core: {title}; due in one to two minutes",
            metrics(most),
            _cases(contestants, run, ahead=keys),
            scale.turns(5, 2, 3),
            note=note,
            axis="timers pending",
            is_core=True,
        )


def _churn(scale: Scale) -> Iterable[Workload]:
    """P5."""
    pending = scale.pick(MILLION, 100_000)
    count = scale.pick(300_000, 50_000)

    def run(one: Contestant) -> Sample:
        answer = one.program.ask("churn", one.word, pending, count)
        return {order: values[0] for order, values in answer.items()}

    for title, contestants, fifo, random, note in (
        ("the calls of a program", SERVICES, None, None, SHARED + RUNTIMES),
        ("a container", CONTAINERS, 60, 130, "used by one thread; a heap cannot cancel"),
    ):
        yield Workload(
            "P5",
            f"core: insert and cancel over {pending:,} pending, {title}",
            [
                Metric("fifo", "ns for both, the oldest cancelled", at_most=fifo, digits=1),
                Metric("random", "ns for both, any cancelled", at_most=random, digits=1),
            ],
            _cases(contestants, run, without="BinaryHeap"),
            scale.turns(3, 1, 5),
            note=note,
            is_core=True,
        )


def _expiry(scale: Scale) -> Iterable[Workload]:
    """P6."""
    count = scale.pick(MILLION, 100_000)

    def run(one: Contestant) -> Sample:
        return {"ns": one.program.ask("expire", one.word, count)["ns"][0]}

    tokio = [one for one in SERVICES if one.word == "tokio"]
    live = [one for one in SERVICES if one.program is not RUST]
    no_clock = "its clock cannot be moved by hand"
    yield Workload(
        "P6",
        f"core: expire {count:,} spread over a minute",
        [Metric("ns", "ns each", at_most=40, digits=1)],
        [
            *_cases([*CONTAINERS, *tokio], run),
            *(Case(one.name, functools.partial(run, one), skip=no_clock) for one in live),
        ],
        scale.turns(3, 1, 5),
        note="time moves by the millisecond; of tokio it is a waker that counts; none is early",
        is_core=True,
    )


def _memory(scale: Scale) -> Iterable[Workload]:
    """P10."""
    count = scale.pick(MILLION, 100_000)

    def run(one: Contestant) -> Sample:
        return {"bytes": native.memory(one.word, count) / count}

    # Of the other its queue would be measured, in whatever state.
    services = [one for one in SERVICES if one.program is RUST and "thread" not in one.word]
    for title, contestants, most in (
        ("of a program, with their closures or wakers", services, None),
        ("in a container", CONTAINERS, 64),
    ):
        yield Workload(
            "P10",
            f"core: memory of {count:,} pending timers {title}",
            [Metric("bytes", "bytes each", at_most=most, digits=1)],
            _cases(contestants, run),
            rounds=1,
            note="the allocator counts; what the user keeps of a timer by value is not part of it",
            is_core=True,
        )


def _bursts(scale: Scale) -> Iterable[Workload]:
    """P12."""
    count = scale.pick(MILLION, 100_000)

    def run(workload: str, one: Contestant) -> Sample:
        answer = one.program.ask(workload, one.word, count)
        stalls = [stall / 1e3 for stall in answer["stall"]]
        figures = {"p50": stalls, "p99.9": stalls, "max": stalls}
        return {**figures, **{key: answer[key][0] for key in ("ns", "early") if key in answer}}

    metrics = functools.partial(post_metrics, is_longest_compared=False)
    rounds = scale.turns(3, 1, 5)
    yield Workload(
        "P12",
        f"core: posts while {count:,} timers come due at once; nothing runs",
        metrics(100),
        _cases(SERVICES[:1], functools.partial(run, "held")),
        rounds,
        note="the one worker is held: what is left is the timer thread; a post every 20 us",
        is_core=True,
    )
    yield Workload(
        "P12",
        f"core: posts while {count:,} timers come due at once, and they run",
        [
            *metrics(None),
            Metric("ns", "until all have run, ns each", digits=1),
            Metric("early", "ran early", at_most=0, compared=False),
        ],
        _cases(SERVICES, functools.partial(run, "storm")),
        rounds,
        note="8 workers; Netty and hierarchical_hash_wheel_timer run them on the timer's thread, "
        "Go in a goroutine each; where the machine has fewer processors, a post may wait for one",
        is_core=True,
    )


def _pools(scale: Scale) -> Iterable[Workload]:
    """POOL."""
    count = scale.pick(300_000, 50_000)
    producers = (1, 2, 4, 8)

    def run(one: Contestant) -> Sample:
        return {
            f"{number}": one.program.ask("pool", one.word, number, count)["ns"][0]
            for number in producers
        }

    yield Workload(
        "POOL",
        f"core: have 8 workers run {count:,} closures; fire and forget",
        [
            Metric(f"{number}", f"ns each, {number} producers", digits=1, at=float(number))
            for number in producers
        ],
        _cases(POOLS, run, ahead=[f"{number}" for number in producers]),
        scale.turns(5, 2, 7),
        note="from the first post until all have run; queues are unbounded, but ants has none, and "
        "who posts waits for a worker; " + RUNTIMES,
        axis="producers",
        is_core=True,
    )


def workloads(scale: Scale) -> Sequence[Workload]:
    """All of the core."""
    return [
        *_inserts(scale),
        *_churn(scale),
        *_expiry(scale),
        *_memory(scale),
        *_bursts(scale),
        *_pools(scale),
    ]
