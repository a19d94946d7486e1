"""The command: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import report, workloads
from benchmarks.harness import Outcome, Progress, Runner, Scale


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(workloads.ALL)
    parser.add_argument("--only", metavar="P1,P3", help=f"workloads to run, of {names}")
    parser.add_argument("--rounds", metavar="N", type=int, help="rounds of each workload")
    parser.add_argument("--quick", action="store_true", help="less of everything: a minute")
    parser.add_argument("--json", metavar="FILE", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    chosen = arguments.only.upper().split(",") if arguments.only else list(workloads.ALL)
    unknown = [name for name in chosen if name not in workloads.ALL]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {names}")
    arguments.chosen = [name for name in workloads.ALL if name in chosen]
    return arguments


def main() -> None:
    """Run what was asked for, and print it."""
    arguments = parse()
    scale = Scale(arguments.quick, arguments.rounds)
    progress = Progress()
    runner = Runner(progress)
    makers = dict.fromkeys(workloads.ALL[name] for name in arguments.chosen)
    outcomes: list[Outcome] = []
    for make in makers:
        outcomes.extend(
            runner.run(workload) for workload in make(scale) if workload.id in arguments.chosen
        )
    progress.end()
    described = report.machine()
    print(report.table(outcomes, described))
    if arguments.json:
        text = json.dumps(report.as_json(outcomes, described), indent=1)
        arguments.json.write_text(text + "\n", encoding="utf-8")
        print(f"written to {arguments.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
