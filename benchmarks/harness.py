"""Turns, rounds, medians and ratios; knows nothing of what is measured."""

from __future__ import annotations

import faulthandler
import gc
import importlib.util
import statistics
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks.progress import Progress

Sample: TypeAlias = "Mapping[str, float | Sequence[float]]"
"""What one turn of one contestant measured, by metric: a figure, or all its observations."""

Size = TypeVar("Size", int, float)

PATIENCE = 1_200.0
"""Seconds after which a turn has hung: twice the longest one there is."""

NOISE = 0.10
"""A round counts as noisy when the calibration loop took so much longer than at its best."""


@dataclass(frozen=True)
class Scale:
    """How much of everything is done.

    Args:
        quick: To see that it works, in a minute: the figures say little.
        rounds: Rounds of every workload, instead of its own number.
        full: Everything, however long it takes.
    """

    quick: bool = False
    rounds: int | None = None
    full: bool = False

    def pick(self, normal: Size, quick: Size, full: Size | None = None) -> Size:
        """Choose a size; the normal one at full scale too, unless there is one for it."""
        if self.quick:
            return quick
        return full if self.full and full is not None else normal

    def turns(self, normal: int, quick: int, full: int | None = None) -> int:
        """Choose a number of rounds, unless the user has."""
        return self.rounds or self.pick(normal, quick, full)


@dataclass(frozen=True)
class Metric:
    """One figure of a workload.

    Args:
        key: Its key in a `Sample`.
        title: What it says, with its unit.
        at_most: The target for our figures, where less is better.
        at_least: The target for our figures, where more is better.
        reduce: Makes the figure from all observations. Without it a turn gives the figure itself,
            and the median over the rounds counts.
        compared: Whether peers are given as ratios.
        digits: Digits after the point.
        at: Its place on the workload's axis: the metrics that have one make a curve.
        is_drawn: Whether all the observations are kept and drawn, and not the figure alone.
        is_more_better: Whether more is better, as it is where there is a target `at_least`.
    """

    key: str
    title: str
    at_most: float | None = None
    at_least: float | None = None
    reduce: Callable[[Sequence[float]], float] | None = None
    compared: bool = True
    digits: int = 0
    at: float | None = None
    is_drawn: bool = False
    is_more_better: bool = False

    @property
    def is_better_with_more(self) -> bool:
        """Whether a peer that has more is ahead of us."""
        return self.is_more_better or self.at_least is not None


@dataclass(frozen=True)
class Case:
    """One contestant.

    Args:
        name: What the table calls it.
        run: One turn; checks its own result.
        ours: Whether the targets are for it.
        needs: The package of a peer that may not be installed.
        at_least: The ratio to us that is the target, by metric.
        skip: Why it does not take part, if it does not; asked just before the first turn.
        is_control: Whether it is no peer, but shows what the measurement itself does, or ours
            without something: it is never the best one.
    """

    name: str
    run: Callable[[], Sample]
    ours: bool = False
    needs: str | None = None
    at_least: Mapping[str, float] = field(default_factory=dict)
    skip: Callable[[], str | None] | str | None = None
    is_control: bool = False


@dataclass(frozen=True)
class Workload:
    """Contestants and metrics; peers are compared with the first contestant.

    Args:
        axis: What the places of the metrics on a curve are, such as "timers pending".
        is_core: Whether it compares the Rust core with Rust, Go and Java; otherwise the module with
            Python. The two are never mixed.
    """

    id: str
    title: str
    metrics: Sequence[Metric]
    cases: Sequence[Case]
    rounds: int
    note: str = ""
    axis: str | None = None
    is_core: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What it is known by in other runs."""
        return self.id, self.title


@dataclass(frozen=True)
class Figure:
    """A figure with the interval that the rounds span."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """What the table has in one line."""

    workload: str
    title: str
    metric: Metric
    case: Case
    figure: Figure
    ratio: Figure | None
    """How many times ahead of this peer we are; less than 1 is a loss. None of what is not
    positive."""
    rounds: int
    """Rounds that were used."""
    each: Sequence[float]
    """The figure of each of these."""
    observed: Sequence[float] = ()
    """All that the figure was made of, if it is to be drawn."""

    @property
    def bound(self) -> tuple[str, float] | None:
        """The target: `"<="` a figure or `">="` a ratio."""
        key = self.metric.key
        if self.case.ours and self.metric.at_most is not None:
            return "<=", self.metric.at_most
        if self.case.ours and self.metric.at_least is not None:
            return ">=", self.metric.at_least
        if key in self.case.at_least:
            return ">=", self.case.at_least[key]
        return None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; ``None`` without one."""
        match self.bound:
            case ("<=", most):
                return self.figure.value <= most
            case (">=", least) if self.case.ours:
                return self.figure.value >= least
            case (">=", least):
                return self.ratio is not None and self.ratio.value >= least
        return None


@dataclass
class Outcome:
    """All that a workload gave."""

    workload: Workload
    rows: list[Row]
    skipped: list[tuple[str, str]]
    noisy: int
    kept: int
    """Rounds that were used: the quiet ones, if they are at least half and two."""
    seconds: float


def percentile(share: float) -> Callable[[Sequence[float]], float]:
    """Make a reducer: the value below which so large a share of the observations is."""

    def reduce(values: Sequence[float]) -> float:
        ordered = sorted(values)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return reduce


def check(condition: object, what: str) -> None:
    """Fail the benchmark: a workload that did not do its work has no figures."""
    if not condition:
        raise AssertionError(what)


class Disturbed(Exception):
    """The machine was too busy to set a turn up in time; it says nothing of the contestant."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Collect garbage now and not in the block: the same for every contestant, as in `timeit`."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def calibrate() -> float:
    """Time a loop that never changes: longer means that the machine was busy with other things."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        total = 0
        for number in range(100_000):
            total += number
        best = min(best, time.perf_counter() - start)
    return best


def stolen() -> int:
    """Give the ticks that the hypervisor took from us, if the system says."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
        return int(first.split()[8])
    except (OSError, IndexError, ValueError):
        return 0


class Runner:
    """Runs workloads, and keeps the best calibration of the whole run."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._best = calibrate()

    def run(self, workload: Workload) -> Outcome:
        """Let the contestants take turns: A B C, A B C, and so on."""
        start = time.monotonic()
        cases: list[Case] = []
        skipped: list[tuple[str, str]] = []
        for case in workload.cases:
            reason = _why_not(case)
            if reason:
                skipped.append((case.name, reason))
            else:
                cases.append(case)
        samples: dict[str, list[Sample]] = {case.name: [] for case in cases}
        pace: list[float] = []
        steal: list[int] = []
        for turn in range(workload.rounds):
            before, stolen_before = calibrate(), stolen()
            for case in cases:
                self._progress.turn(workload, turn, case)
                samples[case.name].append(_within_patience(case))
                self._progress.advance(workload, 1 / (workload.rounds * len(cases)))
            after = calibrate()
            self._best = min(self._best, before, after)
            pace.append(max(before, after))
            steal.append(stolen() - stolen_before)
        # More than a tick or two stolen is more than the calibration's three short loops can see.
        quiet = [
            turn
            for turn in range(workload.rounds)
            if pace[turn] <= self._best * (1 + NOISE) and steal[turn] <= 2
        ]
        # With hardly a quiet round the noisy ones are all there is, and the table says so; and what
        # had two rounds or more shows what two of them span.
        enough = max(2, (workload.rounds + 1) // 2)
        used = quiet if len(quiet) >= enough else list(range(workload.rounds))
        kept = {name: [of_case[turn] for turn in used] for name, of_case in samples.items()}
        return Outcome(
            workload,
            _rows(workload, cases, kept),
            skipped,
            workload.rounds - len(quiet),
            len(used),
            time.monotonic() - start,
        )


def _within_patience(case: Case) -> Sample:
    """Run a turn; one that never ends shows where it stands, and ends the program.

    One that was disturbed is run again, twice if need be.
    """
    faulthandler.dump_traceback_later(PATIENCE, exit=True)  # a thread that never takes the GIL
    try:
        for _ in range(2):
            with suppress(Disturbed):
                return case.run()
        return case.run()
    finally:
        faulthandler.cancel_dump_traceback_later()


def _why_not(case: Case) -> str | None:
    if reason := case.skip() if callable(case.skip) else case.skip:
        return reason
    if case.needs and importlib.util.find_spec(case.needs) is None:
        return f"{case.needs} is not installed"
    return None


def _rows(
    workload: Workload, cases: Sequence[Case], samples: Mapping[str, Sequence[Sample]]
) -> list[Row]:
    rows = []
    for metric in workload.metrics:
        ours: list[float] | None = None
        for case in cases:
            observed = [sample[metric.key] for sample in samples[case.name] if metric.key in sample]
            if not observed:
                continue
            each, pooled, figure = _figure(metric, observed)
            ratio = None
            if ours is None:
                ours = each
            elif metric.compared and not case.ours:
                ratio = _ratio(metric, ours, each)
            rows.append(
                Row(
                    workload.id,
                    workload.title,
                    metric,
                    case,
                    figure,
                    ratio,
                    len(observed),
                    each,
                    pooled if metric.is_drawn else (),
                )
            )
    return rows


def _ratio(metric: Metric, ours: Sequence[float], theirs: Sequence[float]) -> Figure | None:
    """Compare round by round; what is nothing or negative has no ratio, as of a timer too early."""
    more, less = (ours, theirs) if metric.is_better_with_more else (theirs, ours)
    if len(more) != len(less) or min(*more, *less) <= 0:
        return None
    ratios = [one / other for one, other in zip(more, less, strict=True)]
    return Figure(statistics.median(ratios), min(ratios), max(ratios))


def _figure(
    metric: Metric, observed: Sequence[float | Sequence[float]]
) -> tuple[list[float], list[float], Figure]:
    """Give the figure of each round, all observations, and the figure of all rounds."""
    each: list[float] = []
    pooled: list[float] = []
    for one in observed:
        values = [one] if isinstance(one, (int, float)) else list(one)
        each.append(metric.reduce(values) if metric.reduce else statistics.median(values))
        pooled.extend(values)
    value = metric.reduce(pooled) if metric.reduce else statistics.median(each)
    return each, pooled, Figure(value, min(each), max(each))
