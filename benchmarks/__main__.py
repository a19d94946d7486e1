"""The command: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import report, results, verdicts, workloads
from benchmarks.harness import Runner, Scale
from benchmarks.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.harness import Outcome, Workload


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(workloads.ALL)
    parser.add_argument("--only", metavar="P1,P3", help=f"workloads to run, of {names}")
    parser.add_argument(
        "--part",
        choices=(results.MODULE, results.CORE),
        help="the module beside Python's, or the Rust core beside Rust, Go and Java; else both",
    )
    parser.add_argument("--rounds", metavar="N", type=int, help="rounds of each workload")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--quick", action="store_true", help="less of everything: a minute or two")
    scale.add_argument("--full", action="store_true", help="everything: some 20 minutes a part")
    scale.add_argument(
        "--smoke", action="store_true", help="one round of less of everything: does it work?"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="where to write one part")
    parser.add_argument(
        "--save",
        metavar="FOLDER",
        type=Path,
        nargs="?",
        const=results.LOCAL,
        help="where to write each part by its own name (default: %(const)s)",
    )
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if arguments.json and not arguments.part:
        parser.error("--json takes one part: say which --part")
    chosen = arguments.only.upper().split(",") if arguments.only else list(workloads.ALL)
    unknown = [name for name in chosen if name not in workloads.ALL]
    if unknown:
        parser.error(f"no such workload: {', '.join(unknown)}; there are {names}")
    arguments.chosen = [name for name in workloads.ALL if name in chosen]
    return arguments


def choose(arguments: argparse.Namespace, scale: Scale) -> Sequence[Workload]:
    """Make the workloads that were asked for."""
    made: list[Workload] = []
    for make in dict.fromkeys(workloads.ALL[name] for name in arguments.chosen):
        made.extend(workload for workload in make(scale) if workload.id in arguments.chosen)
    return made


def run(part: str, scale: str, chosen: Sequence[Workload]) -> results.Results:
    """Run them all, and collect what they found."""
    # How long each took in an earlier run, for the estimate of what is left.
    seconds = {
        (workload["id"], workload["title"]): workload["seconds"]
        for earlier in results.read_all(results.PUBLISHED)
        if earlier["scale"] == scale
        for workload in earlier["workloads"]
    }
    progress = Progress(chosen, seconds)
    runner = Runner(progress)
    outcomes: list[Outcome] = []
    failed: dict[str, str] = {}
    for workload in chosen:
        try:
            outcomes.append(runner.run(workload))
        except Exception as error:  # noqa: BLE001  # the others have figures all the same
            failed[f"{workload.id} {workload.title}"] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
    progress.end()
    return results.collect(part, scale, outcomes, failed)


def main() -> int:
    """Run what was asked for, and print it; fail if a workload did."""
    arguments = parse()
    quick = arguments.quick or arguments.smoke
    rounds = 1 if arguments.smoke and not arguments.rounds else arguments.rounds
    scale = Scale(quick=quick, rounds=rounds, full=arguments.full)
    name = "quick" if quick else "full" if arguments.full else "normal"
    workloads_of = choose(arguments, scale)
    has_failed = False
    for part in (results.MODULE, results.CORE):
        chosen = [workload for workload in workloads_of if workload.is_core == (part == "core")]
        if not chosen or part != (arguments.part or part):
            continue
        found = run(part, name, chosen)
        has_failed |= bool(found["failed"])
        saved = [arguments.json] if arguments.json else []
        if arguments.save:
            saved.append(arguments.save / results.file_name(found))
        for path in saved:
            results.write([found], path)
            print(f"written to {path}", file=sys.stderr)
        verdicts.judge([found])  # last: what is said of a figure is in no file
        print(report.table(found), flush=True)
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
