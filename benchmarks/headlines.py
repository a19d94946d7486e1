"""The few figures that speak for a run: what the documents show, and what two runs are compared by.

Each is our first contestant's figure of a metric that has a target, and the peer that comes nearest
to it, or is ahead; where nothing of a name has a target, of the first that is measured. Nothing is
chosen by how well it went. A peer that comes early is not the one beside us, by `verdicts.judge`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.results import CORE
from benchmarks.verdicts import MET, MISSED, NOTHING, OPEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from benchmarks.results import Interval, Results, RowResult, WorkloadResult

OURS = "ours"
SHORT = (
    ("module", "P1", 0, "ns"),
    ("module", "P1", 3, "ns"),
    ("module", "P2", 0, "p50"),
    ("module", "P2", 0, "p99"),
    ("module", "P3", 0, "ns"),
    ("module", "P8", 0, "p50"),
    ("module", "P10", 0, "bytes"),
    ("core", "POOL", 0, "8"),
)
"""README's, by part, name, place and metric: what a service does all day, and what others do
better. They are the same for every run: none is exchanged for another that looks better."""
IN_ALL = frozenset({"P2", "P4", "P5", "P10", "P12"})
"""Those of which every workload is shown, and whatever of it has a target or peers: of one alone a
reader would have half of it. What a program calls comes before what it is made of, and an idle pool
before a busy one, for so they are measured."""
MOST = 3
"""So many metrics of one workload at most; of a curve its two ends are among them."""


@dataclass(frozen=True)
class Headline:
    """One of them."""

    id: str
    place: int
    """Which of the workloads of that name it is of."""
    workload: str
    metric: str
    title: str
    digits: int
    ours: RowResult
    best: RowResult | None
    """The peer nearest to us, if anyone else does this."""
    held: Sequence[RowResult]
    """The rows that have a target, of us and of peers."""
    rows: Sequence[RowResult]
    """All of them."""

    @property
    def what(self) -> str:
        """Say what it is, and under which condition."""
        return f"{self.workload.removeprefix('core: ')}: {self.title}"

    @property
    def key(self) -> tuple[str, int, str]:
        """What it is known by in other runs, whose scale may be another."""
        return self.id, self.place, self.metric

    @property
    def ratio(self) -> Interval | None:
        """How far we are ahead of the best peer."""
        return None if self.best is None else self.best["ratio"]

    @property
    def controls(self) -> list[RowResult]:
        """What the measurement itself says, where a control does nothing."""
        return [row for row in self.rows if row["is_control"] and row["case"].startswith(NOTHING)]

    @property
    def verdict(self) -> str | None:
        """What may be said of all targets together; ``None`` without one."""
        said = [row.get("verdict", MET if row["met"] else MISSED) for row in self.held]
        return next((word for word in (MISSED, OPEN, MET) if word in said), None)


def headlines(results: Results) -> list[Headline]:
    """Choose them: of each name the first workload that has a target, or else the first.

    Of those `IN_ALL` all workloads; and whatever is in README.
    """
    chosen: dict[str, list[Headline]] = {}
    without: dict[str, list[Headline]] = {}
    for place, workload in _placed(results):
        every = list(_of(workload, place))
        held = [one for one in every if one.held]
        found = held or every
        if workload["id"] in IN_ALL:
            found = [one for one in every if one.held or one.ratio is not None] or every
        shown = _ends(found) if workload["axis"] else found[:MOST]
        if workload["id"] in IN_ALL:
            chosen.setdefault(workload["id"], []).extend(shown)
        else:
            (chosen if held else without).setdefault(workload["id"], shown)
    chosen = without | chosen
    for part, *key in SHORT:
        one = headline(results, (key[0], key[1], key[2])) if part == results["part"] else None
        if one is not None and all(one.key != other.key for other in chosen[one.id]):
            chosen[one.id].append(one)
    return [one for name in sorted(chosen, key=by_number) for one in chosen[name]]


def headline(results: Results, key: tuple[str, int, str]) -> Headline | None:
    """Find one that is a headline elsewhere: a target may be set for some Pythons alone."""
    for place, workload in _placed(results):
        if workload["id"] == key[0]:
            for one in _of(workload, place):
                if one.key == key:
                    return one
    return None


def in_any(found: Sequence[Results]) -> dict[tuple[str, int, str], Headline]:
    """Give what is a headline in any of these runs of one part, as the newest Python has it."""
    # The newest first, for it may have targets that older ones have not.
    keys: dict[tuple[str, int, str], Headline] = {}
    for results in reversed(found):
        for one in headlines(results):
            keys.setdefault(one.key, one)
    return dict(sorted(keys.items(), key=lambda item: by_number(item[0][0])))


def _placed(results: Results) -> Iterator[tuple[int, WorkloadResult]]:
    """Number the workloads of each name."""
    places: dict[str, int] = {}
    for workload in results["workloads"]:
        place = places.setdefault(workload["id"], 0)
        places[workload["id"]] += 1
        yield place, workload


def by_number(name: str) -> tuple[int, str]:
    """Order the names of the design by their numbers, and other names after them."""
    digits = name.removeprefix("P")
    return (int(digits) if digits.isdigit() else 1_000), name


def _ends(found: Sequence[Headline]) -> list[Headline]:
    """Take a curve's ends, and what is in the middle."""
    if len(found) <= MOST:
        return list(found)
    return [found[0], found[len(found) // 2], found[-1]]


def _of(workload: WorkloadResult, place: int) -> Iterator[Headline]:
    for metric, rows in by_metric(workload).items():
        ours = next((row for row in rows if row["ours"]), None)
        if ours is None:
            continue
        yield Headline(
            workload["id"],
            place,
            workload["title"],
            metric,
            rows[0]["metric_title"],
            rows[0]["digits"],
            ours,
            _best(row for row in rows if not row["ours"] and not row["is_control"]),
            [row for row in rows if row["met"] is not None],
            rows,
        )


def by_metric(workload: WorkloadResult) -> dict[str, list[RowResult]]:
    """Give the rows of each metric."""
    found: dict[str, list[RowResult]] = {}
    for row in workload["rows"]:
        found.setdefault(row["metric"], []).append(row)
    return found


def _best(peers: Iterable[RowResult]) -> RowResult | None:
    """Find the nearest; who is early, or has no ratio, only where nobody else is there."""
    found = list(peers)
    found = [row for row in found if not row.get("is_early")] or found
    compared = [row for row in found if row["ratio"] is not None]

    def order(row: RowResult) -> float:
        value = row["figure"]["value"]
        return -value if row["is_more_better"] else value

    return min(compared or found, key=order, default=None)


@dataclass(frozen=True)
class Agreement:
    """A figure of this run beside the published one."""

    headline: Headline
    of: str
    """Which figure it is: ours, or the ratio to the best peer."""
    published: Interval
    here: Interval
    verdict: str

    @property
    def is_ratio(self) -> bool:
        """Whether it is the ratio to a peer."""
        return self.of != OURS


def compare(published: Results, here: Results) -> list[Agreement]:
    """Hold a run against the published one of the same part and Python.

    The ratios always; our own figures on the same kind of processor alone, for they are its own. A
    figure is within the noise if what its rounds span touches what the published rounds span, give
    or take the published run's median noise: a machine is not as quiet every day.
    """
    margin = noise(published).median
    before = {one.key: one for one in headlines(published)}
    is_same = published["machine"]["cpu"] == here["machine"]["cpu"]
    found = []
    for now in headlines(here):
        then = before.get(now.key)
        if then is None:
            continue
        if is_same:
            theirs, mine = then.ours["figure"], now.ours["figure"]
            found.append(Agreement(now, OURS, theirs, mine, _verdict(theirs, mine, margin)))
        peer = None if then.best is None else then.best["case"]
        ratio = _ratio_to(here, now, peer)
        if then.ratio is not None and ratio is not None:
            verdict = _verdict(then.ratio, ratio, margin)
            found.append(Agreement(now, f"times {peer}", then.ratio, ratio, verdict))
    return found


def _ratio_to(results: Results, headline: Headline, peer: str | None) -> Interval | None:
    for place, workload in _placed(results):
        if (workload["id"], place) == (headline.id, headline.place):
            for row in workload["rows"]:
                if row["metric"] == headline.metric and row["case"] == peer:
                    return row["ratio"]
    return None


def _verdict(published: Interval, here: Interval, margin: float) -> str:
    if here["min"] > published["max"] * (1 + margin):
        return "higher"
    if here["max"] < published["min"] * (1 - margin):
        return "lower"
    return "within"


@dataclass(frozen=True)
class Noise:
    """How far the rounds of a figure are apart: half of what they span, as a share of it."""

    median: float
    most: float
    """What nine of ten figures stay below."""


def noise(results: Results) -> Noise:
    """Work out how noisy a run was, by its figures and ratios of more than one round."""
    spreads = sorted(
        (interval["max"] - interval["min"]) / 2 / interval["value"]
        for workload in results["workloads"]
        for row in workload["rows"]
        for interval in (row["figure"], row["ratio"])
        if interval is not None and row["rounds_used"] > 1 and interval["value"] > 0
    )
    if not spreads:
        return Noise(0.0, 0.0)
    return Noise(spreads[len(spreads) // 2], spreads[int(0.9 * (len(spreads) - 1))])


def label(results: Results) -> str:
    """Say what ran: the core, or the module on a Python."""
    machine = results["machine"]
    return "core" if results["part"] == CORE else machine["python"]
