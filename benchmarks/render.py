"""Writes the tables and plots of a run: ``python -m benchmarks.render``.

It reads the JSON of a folder, the run that was saved last unless told otherwise, writes
``benchmarks.md`` and the plots beside it, and prints the headlines next to the published ones, each
with whether it is within the noise. With ``--publish`` the run becomes the published one: its JSON
is copied to ``benchmarks/results``, and ``docs/benchmarks.md`` and README are written anew, between
their markers.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import markdown, plots, results, verdicts
from benchmarks.headlines import IN_README, NAMES, compare, label, noise
from benchmarks.report import number, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.headlines import Agreement
    from benchmarks.results import Results

DOCS = results.ROOT / "docs"
README = results.ROOT / "README.md"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.render", description=__doc__)
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=results.LOCAL,
        help="where the results are (default: %(default)s)",
    )
    parser.add_argument(
        "--publish", action="store_true", help="make it what the documentation shows"
    )
    return parser.parse_args()


def publish(found: Sequence[Results], folder: Path) -> None:
    """Make these results the published ones."""
    results.PUBLISHED.mkdir(exist_ok=True)
    before = {results.file_name(one): one for one in results.read_all(results.PUBLISHED)}
    replaced = [
        before[name]
        for name, one in ((results.file_name(one), one) for one in found)
        if name in before and before[name]["machine"]["date"] != one["machine"]["date"]
    ]
    if replaced:
        verdicts.write(results.BEFORE, replaced)
    for one in found:
        path = folder / results.file_name(one)
        if path.parent != results.PUBLISHED:
            shutil.copyfile(path, results.PUBLISHED / path.name)
    everything = results.read_all(results.PUBLISHED)
    verdicts.judge(everything, verdicts.read(results.BEFORE))
    drawn = plots.draw_all(plots.for_drawing(everything), DOCS / "plots")
    for document, shown, names in (
        (DOCS / "benchmarks.md", drawn, NAMES),
        (README, _for_readme(drawn), IN_README),
    ):
        relative = [str(path.relative_to(document.parent)) for path in shown]
        markdown.fill(document, markdown.sections(everything, relative, names))


def _for_readme(drawn: Sequence[Path]) -> list[Path]:
    """Choose two: the headlines, and how late timers are on the newest Python."""
    lateness = [path for path in drawn if path.name.startswith("lateness")]
    return [*(path for path in drawn if path.stem == "headlines"), *lateness[-1:]]


def write_beside(found: Sequence[Results], folder: Path) -> Path:
    """Write the tables and plots of a run into its own folder."""
    verdicts.judge(found)
    drawn = plots.draw_all(plots.for_drawing(found), folder / "plots")
    parts = markdown.sections(found, [str(path.relative_to(folder)) for path in drawn])
    path = folder / "benchmarks.md"
    path.write_text("\n\n".join(parts[name] for name in markdown.PAGE) + "\n", encoding="utf-8")
    return path


def comparison(published: Results, here: Results) -> str:
    """Say for each headline what was published, what this run found, and whether they agree."""
    agreements = compare(published, here)
    if not agreements:
        return f"{label(here)}: nothing to compare"
    held = noise(published).median
    lines = [f"{label(here)}: published, and this run; within means give or take {held:.0%}"]
    grid = [_cells(agreement) for agreement in agreements]
    widths = [max(len(row[at]) for row in grid) for at in range(len(grid[0]))]
    for row in grid:
        aligned = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  " + "  ".join(aligned).rstrip())
    within = sum(agreement.verdict == "within" for agreement in agreements)
    lines.append(f"  {within} of {len(agreements)} within the noise")
    if published["machine"]["cpu"] != here["machine"]["cpu"]:
        lines.append(
            f"  published on another processor, {published['machine']['cpu']}: ratios only"
        )
    return "\n".join(lines)


def _cells(agreement: Agreement) -> list[str]:
    digits = 1 if agreement.is_ratio else agreement.headline.digits
    return [
        agreement.headline.id,
        agreement.headline.what,
        agreement.of,
        *(
            f"{number(interval['value'], digits)} ({span(interval, digits)})"
            for interval in (agreement.published, agreement.here)
        ),
        agreement.verdict,
    ]


def main() -> int:
    """Write, and compare or publish."""
    arguments = parse()
    folder: Path = arguments.folder.resolve()
    found = results.read_all(folder)
    if not found:
        print(f"no results in {folder}", file=sys.stderr)
        return 1
    failed = [name for one in found for name in one["failed"]]
    if arguments.publish:
        if failed:
            print(f"not published, for these failed: {'; '.join(failed)}", file=sys.stderr)
            return 1
        publish(found, folder)
        return 0
    before = {results.file_name(one): one for one in results.read_all(results.PUBLISHED)}
    for one in found:
        published = before.get(results.file_name(one))
        if published is None:
            print(f"{label(one)}: nothing is published to compare with")
        else:
            print(comparison(published, one))
    missing = {results.MODULE, results.CORE} - {one["part"] for one in found}
    for part in sorted(missing):
        print(f"there are no figures of the {part}", file=sys.stderr)
    print(f"the tables and plots of this run are in {write_beside(found, folder)}")
    return int(bool(failed or missing))


if __name__ == "__main__":
    sys.exit(main())
