"""What may be said of a target: met, missed, or open; and which peers are none where time counts.

The rules are the same for every Python, and know nothing of who is ahead:

- A run in which more than a third of the rounds were noisy has no verdicts: all are open.
- A verdict that the run that was published before does not share is open: its own is kept in the
  row, as `before`.
- A target that a control which does nothing misses as well, in any round, cannot be told: it is
  open.
- A peer that runs anything early, on any Python, is not the best peer of that name: a timer that
  does not wait is no faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.results import rows_with_targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.results import Results, RowResult, WorkloadResult

MET, MISSED, OPEN = "yes", "no", "open"
NOISY = "the run was noisy"
NOT_SHARED = "the run before says otherwise"
NOT_TOLD = "the control that does nothing misses it"
EARLY = "early"
"""The metric that counts early runs."""
NOTHING = "nothing"
"""How the name of a control begins that does nothing."""


def judge(found: Sequence[Results]) -> None:
    """Write into each row what may be said of its target, and whether the contestant is early.

    Runs that are shown together are judged together: who is early in one is early in all.
    """
    early = {
        (workload["id"], row["case"])
        for results in found
        for workload in results["workloads"]
        for row in workload["rows"]
        if row["metric"] == EARLY and row["figure"]["value"] > 0 and not row["ours"]
    }
    for results in found:
        for workload in results["workloads"]:
            for row in workload["rows"]:
                row["is_early"] = (workload["id"], row["case"]) in early
                if row["met"] is None:
                    continue
                reason = None
                if is_noisy(results):
                    reason = NOISY
                elif row.get("before", row["met"]) != row["met"]:
                    reason = NOT_SHARED
                elif _is_missed_by_nothing(workload, row):
                    reason = NOT_TOLD
                row["verdict"] = OPEN if reason else MET if row["met"] else MISSED
                row["reason"] = reason


def noisy_rounds(results: Results) -> tuple[int, int]:
    """Give how many rounds found the machine busy with something else, and how many there were."""
    workloads = results["workloads"]
    return (
        sum(workload["noisy_rounds"] for workload in workloads),
        sum(workload["rounds"] for workload in workloads),
    )


def is_noisy(results: Results) -> bool:
    """Whether a run says nothing of targets."""
    noisy, rounds = noisy_rounds(results)
    return noisy * 3 > rounds


def _is_missed_by_nothing(workload: WorkloadResult, row: RowResult) -> bool:
    """Whether a control that does nothing misses our target in one of its rounds."""
    if not row["ours"] or row["target"] is None:
        return False
    sign, _, bound = row["target"].partition(" ")
    for control in workload["rows"]:
        is_nothing = control["is_control"] and control["case"].startswith(NOTHING)
        if is_nothing and control["metric"] == row["metric"]:
            figure = control["figure"]
            if figure["max"] > float(bound) if sign == "<=" else figure["min"] < float(bound):
                return True
    return False


def remember(results: Results, replaced: Results) -> None:
    """Keep in each row of a run what the run that it replaces found of the same target.

    A run that is published once more is held against what it was held against before.
    """
    is_same = results["machine"]["date"] == replaced["machine"]["date"]
    then = {
        _key(workload, row): row.get("before") if is_same else row["met"]
        for workload, row in rows_with_targets(replaced)
    }
    for workload, row in rows_with_targets(results):
        met = then.get(_key(workload, row))
        if met is not None:
            row["before"] = met


def _key(workload: WorkloadResult, row: RowResult) -> tuple[str, ...]:
    return workload["id"], workload["title"], row["metric"], row["case"]
