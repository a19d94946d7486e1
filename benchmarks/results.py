"""What a run found, as plain data: made of outcomes, written to JSON, and read back.

The tables, the plots and the comparison of two runs are all made of this, never of a run itself, so
that what is published can be drawn again without measuring again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypeAlias, TypedDict

from benchmarks.machine import Machine, describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from benchmarks.harness import Figure, Outcome, Row

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT / "benchmarks" / "results" / "published.json"
"""The runs that the documents show, every figure of them."""
LOCAL = PUBLISHED.parent / "local"
"""Where a run is saved; nothing there is in the repository."""

MODULE, CORE = "module", "core"

Quantiles: TypeAlias = "list[tuple[float, float]]"
"""Pairs of a share of the observations and the value that so many do not exceed."""


class Interval(TypedDict):
    """A figure, and the least and the greatest of the rounds."""

    value: float
    min: float
    max: float


class RowResult(TypedDict):
    """One contestant's figure."""

    metric: str
    metric_title: str
    at: float | None
    digits: int
    is_compared: bool
    """Whether peers have ratios here, if their figures allow it."""
    is_more_better: bool
    case: str
    ours: bool
    is_control: bool
    figure: Interval
    ratio: Interval | None
    rounds_used: int
    target: str | None
    met: bool | None
    """Whether the figure meets the target; what may be said of it is in `verdict`."""
    before: NotRequired[bool]
    """Whether the run that was published before met it: see `verdicts.remember`."""
    each: NotRequired[list[float]]
    """The figures of the rounds that were used, in their order: ratios are made of these."""
    verdict: NotRequired[str]
    reason: NotRequired[str | None]
    """Why the verdict is open. These three are `verdicts.judge`'s, and in no file."""
    is_early: NotRequired[bool]
    quantiles: NotRequired[Quantiles]


class WorkloadResult(TypedDict):
    """What one workload found."""

    id: str
    title: str
    note: str
    axis: str | None
    is_core: bool
    rounds: int
    noisy_rounds: int
    kept_rounds: int
    seconds: float
    skipped: dict[str, str]
    rows: list[RowResult]


class Results(TypedDict):
    """A whole run."""

    part: str
    scale: str
    machine: Machine
    workloads: list[WorkloadResult]
    failed: dict[str, str]
    """Workloads that did not do their work, and why; they have no figures."""


def collect(part: str, scale: str, outcomes: Iterable[Outcome], failed: dict[str, str]) -> Results:
    """Make the results of a run."""
    return {
        "part": part,
        "scale": scale,
        "machine": describe(part == CORE),
        "workloads": [_workload(outcome) for outcome in outcomes],
        "failed": failed,
    }


def _workload(outcome: Outcome) -> WorkloadResult:
    workload = outcome.workload
    return {
        "id": workload.id,
        "title": workload.title,
        "note": workload.note,
        "axis": workload.axis,
        "is_core": workload.is_core,
        "rounds": workload.rounds,
        "noisy_rounds": outcome.noisy,
        "kept_rounds": outcome.kept,
        "seconds": round(outcome.seconds, 1),
        "skipped": dict(outcome.skipped),
        "rows": [_row(row) for row in outcome.rows],
    }


def _row(row: Row) -> RowResult:
    bound = row.bound
    metric = row.metric
    made: RowResult = {
        "metric": metric.key,
        "metric_title": metric.title,
        "at": metric.at,
        "digits": metric.digits,
        "is_compared": metric.compared,
        "is_more_better": metric.is_better_with_more,
        "case": row.case.name,
        "ours": row.case.ours,
        "is_control": row.case.is_control,
        "figure": _interval(row.figure),
        "ratio": None if row.ratio is None else _interval(row.ratio),
        "rounds_used": row.rounds,
        "target": None if bound is None else _target(row.case.ours, *bound),
        "met": row.met,
        "each": [rounded(value) for value in row.each],
    }
    if metric.is_drawn:
        made["quantiles"] = quantiles(row.observed)
    return made


def _target(is_ours: bool, sign: str, bound: float) -> str:
    return f"{sign} {bound:g}" + ("" if is_ours else " x")


def _interval(figure: Figure) -> Interval:
    return {
        "value": rounded(figure.value),
        "min": rounded(figure.low),
        "max": rounded(figure.high),
    }


def rounded(value: float) -> float:
    """Keep six digits that say something: more are noise, and long."""
    return float(f"{value:.6g}")


def quantiles(observed: Sequence[float]) -> Quantiles:
    """Thin observations out to some three hundred; the rare ones at the top all the same.

    A fifth of a hundredth apart up to 99 %, and from there on twenty for each further nine.
    """
    ordered = sorted(observed)
    if not ordered:
        return []
    shares = [step / 200 for step in range(199)]
    shares.extend(1 - 10 ** -(2 + step / 20) for step in range(81))
    # Where there are fewer observations than shares each is given once.
    chosen = dict.fromkeys(min(len(ordered) - 1, int(share * len(ordered))) for share in shares)
    pairs = [((at + 1) / len(ordered), rounded(ordered[at])) for at in chosen]
    if pairs[-1][0] < 1:
        pairs.append((1.0, rounded(ordered[-1])))
    return [(float(f"{share:.7g}"), value) for share, value in pairs]


def file_name(results: Results) -> str:
    """Name the file of a run: ``core.json``, ``module-3.13.json``, ``module-3.13-full.json``."""
    name = results["part"]
    if name == MODULE:
        name += f"-{python_minor(results)}"
    if results["scale"] != "normal":
        name += f"-{results['scale']}"
    return f"{name}.json"


def python_minor(results: Results) -> str:
    """Give the Python's version as people say it: 3.13."""
    version = results["machine"]["python"].split()[-1]
    return ".".join(version.split(".")[:2])


def write(found: Iterable[Results], path: Path) -> None:
    """Write runs: a line for each row, and one for each run and workload around them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"[\n{_lines(found, 'workloads', 'rows')}]\n", encoding="utf-8")


def _lines(things: Iterable[Mapping[str, Any]], *inner: str) -> str:
    """Write things, each on a line; what `inner` names of them follows it on lines of its own."""
    made = []
    for thing in things:
        rest = {name: value for name, value in thing.items() if name not in inner[:1]}
        line = json.dumps(rest, separators=(",", ":"), ensure_ascii=False)
        if inner:
            line = f'{line[:-1]},"{inner[0]}":[\n{_lines(thing[inner[0]], *inner[1:])}]}}'
        made.append(line)
    return ",\n".join(made) + "\n" * bool(made)


def read_all(path: Path) -> list[Results]:
    """Read the runs of a file or a folder: the modules by their Python, then the core."""
    files = path.glob("*.json") if path.is_dir() else [path] if path.exists() else []
    found: list[Results] = []
    for file in files:
        found.extend(json.loads(file.read_text(encoding="utf-8")))
    return in_order(found)


def in_order(found: Iterable[Results]) -> list[Results]:
    """Order runs as they are shown."""

    def order(results: Results) -> tuple[Any, ...]:
        minor = [int(number) for number in python_minor(results).split(".")]
        return results["part"] == CORE, minor, results["scale"]

    return sorted(found, key=order)


def rows_with_targets(results: Results) -> Iterator[tuple[WorkloadResult, RowResult]]:
    """Give every row that a target is set for."""
    for workload in results["workloads"]:
        for row in workload["rows"]:
            if row["met"] is not None:
                yield workload, row
