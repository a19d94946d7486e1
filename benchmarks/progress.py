"""The progress bar, on stderr; on what is no terminal a plain line for each round."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.harness import Case, Workload

FORMAT = "{percentage:3.0f}% |{bar}| {elapsed}{postfix}"
FORMAT_WITH_ESTIMATE = "{percentage:3.0f}% |{bar}| {elapsed}, about {remaining} left{postfix}"

# No thread of its own: it would take the GIL from what is measured.
tqdm.monitor_interval = 0


class Progress:
    """Counts turns, each as long as it took in an earlier run, if there was one.

    Args:
        workloads: All that will run.
        seconds: What each took, by its id and title, in an earlier run of the same scale.
    """

    def __init__(
        self, workloads: Sequence[Workload], seconds: Mapping[tuple[str, str], float]
    ) -> None:
        self._start = time.monotonic()
        self._said = ""
        # What no earlier run knows is taken to be as long as the others on average.
        known = [seconds[workload.key] for workload in workloads if workload.key in seconds]
        average = sum(known) / len(known) if known else 1.0
        self._seconds = {workload.key: seconds.get(workload.key, average) for workload in workloads}
        is_known = len(known) > len(workloads) / 2
        self._bar: tqdm[None] | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=sum(self._seconds.values()),
                bar_format=FORMAT_WITH_ESTIMATE if is_known else FORMAT,
                leave=False,
                miniters=0,
                mininterval=0,
            )

    def turn(self, workload: Workload, turn: int, case: Case) -> None:
        """Announce a turn."""
        where = f"{workload.id} round {turn + 1} of {workload.rounds}"
        if self._bar is not None:
            self._bar.set_postfix_str(f"{where}: {case.name}")
        elif (said := f"{where}, {workload.title}") != self._said:
            elapsed = time.monotonic() - self._start
            print(f"[{elapsed:4.0f} s] {said}", file=sys.stderr, flush=True)
            self._said = said

    def advance(self, workload: Workload, share: float) -> None:
        """Count a share of a workload as done."""
        if self._bar is not None:
            self._bar.update(self._seconds[workload.key] * share)

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
