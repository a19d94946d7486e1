"""Writes the tables and plots of a run: ``python -m benchmarks.render``.

It reads the results in a folder, the run that was saved last unless told otherwise, writes
``benchmarks.md`` and the plots beside them, and prints the headlines next to the published ones,
each with whether it is within the noise. With ``--publish`` the run becomes the published one: it
goes to ``benchmarks/results/published.json``, and ``docs/benchmarks.md`` and README are written
anew, between their markers. With ``--tables`` every published figure is written, to a folder that
is not kept.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import markdown, plots, results, verdicts
from benchmarks.headlines import compare, label, noise
from benchmarks.report import number, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.headlines import Agreement
    from benchmarks.results import Results

DOCS = results.ROOT / "docs"
README = results.ROOT / "README.md"
TABLES = results.ROOT / "target" / "benchmarks"


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
    parser.add_argument(
        "--tables", action="store_true", help="write every published figure and plot to target"
    )
    return parser.parse_args()


def publish(found: Sequence[Results]) -> None:
    """Make these results the published ones, in the place of earlier ones of the same part."""
    published = {results.file_name(one): one for one in results.read_all(results.PUBLISHED)}
    for one in found:
        name = results.file_name(one)
        if name in published:
            verdicts.remember(one, published[name])
        published[name] = one
    everything = results.in_order(published.values())
    results.write(everything, results.PUBLISHED)
    verdicts.judge(everything)
    plots.draw_published(plots.for_drawing(everything), DOCS / "plots")
    parts = markdown.sections(everything)
    for document in (DOCS / "benchmarks.md", README):
        markdown.fill(document, parts)


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
    if arguments.tables:
        print(f"written to {write_beside(results.read_all(results.PUBLISHED), TABLES)}")
        return 0
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
        publish(found)
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
