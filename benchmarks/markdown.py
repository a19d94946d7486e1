"""The tables in Markdown, and how they get between the markers of a document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from benchmarks.headlines import (
    NAMES,
    by_metric,
    by_number,
    headline,
    headlines,
    label,
    noise,
)
from benchmarks.report import (
    cells,
    missed_target,
    number,
    on_what,
    rounds,
    span,
    versions,
    with_micro,
)
from benchmarks.results import CORE, python_minor, rows_with_targets

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.headlines import Headline
    from benchmarks.results import Interval, Results, RowResult, WorkloadResult

PAGE = ("machine", "headlines", "missed", "plots", "tables")
"""What a page of its own has, in this order."""
MARKED = re.compile(
    r"(?P<begin><!-- benchmarks:(?P<name>[a-z]+) -->\n)(?P<old>.*?)(?P<end><!-- end -->)", re.DOTALL
)
PLOTS = {
    "headlines": "How far ahead of the best peer",
    "lateness": "How late a timer's callback starts",
    "main-thread": "What is left to the main thread",
    "scaling": "How the cost grows",
}


def fill(path: Path, parts: Mapping[str, str]) -> None:
    """Put each part between its markers, if the document has them; the rest is left as it is."""

    def replace(match: re.Match[str]) -> str:
        return f"{match['begin']}{parts[match['name']]}\n{match['end']}"

    text = path.read_text(encoding="utf-8")
    path.write_text(MARKED.sub(replace, text), encoding="utf-8")


def sections(
    found: Sequence[Results], drawn: Sequence[str], names: Container[str] = NAMES
) -> dict[str, str]:
    """Make all parts of a document.

    Args:
        found: Results of every part and Python.
        drawn: The PNGs, by their paths from the document.
        names: Whose headlines it has.
    """
    modules = [one for one in found if one["part"] != CORE and one["scale"] != "full"]
    cores = [one for one in found if one["part"] == CORE and one["scale"] != "full"]
    # Without a run of the normal scale, the full one speaks.
    modules = modules or [one for one in found if one["part"] != CORE]
    cores = cores or [one for one in found if one["part"] == CORE]
    shown = [*modules, *cores]
    return {
        "machine": _machine(shown),
        "summary": _summary(shown),
        "headlines": with_micro(_headlines(modules, cores, names)),
        "missed": with_micro(_missed(shown)),
        "plots": _plots(drawn),
        "tables": with_micro("\n\n".join(_tables(one) for one in (*shown, *_others(found, shown)))),
    }


def _others(found: Sequence[Results], shown: Sequence[Results]) -> list[Results]:
    return [one for one in found if all(one is not other for other in shown)]


def _machine(found: Sequence[Results]) -> str:
    """Describe the machine, and how noisy the runs on it were."""
    machines = [one["machine"] for one in found]
    days = sorted({machine["date"][:10] for machine in machines})
    levels = [(label(one), noise(one), _noisy(one)) for one in found]
    lines = [
        f"- Machine: {_each(on_what(machine) for machine in machines)}",
        f"- Date: {_each((days[0], days[-1]), ' to ')}",
        f"- Python: {_each(one['machine']['python'] for one in found if one['part'] != CORE)}",
        f"- asynctask: {_each(machine['asynctask'] for machine in machines)}",
        f"- Peers: {_each(versions(machine) for machine in machines)}",
        "- Noise, as half of what the rounds of a figure span:",
        *(
            f"  - {name}: ±{level.median:.0%} for the median figure, ±{level.most:.0%} for nine "
            f"of ten; {noisy} rounds were noisy"
            for name, level, noisy in levels
        ),
    ]
    return "\n".join(lines)


def _noisy(results: Results) -> str:
    """Say how many rounds found the machine busy with something else."""
    workloads = results["workloads"]
    noisy = sum(workload["noisy_rounds"] for workload in workloads)
    return f"{noisy} of {sum(workload['rounds'] for workload in workloads)}"


def _summary(found: Sequence[Results]) -> str:
    """Say in a sentence where it was measured, how noisy that was, and how many targets are met."""
    verdicts = [(label(one), [row["met"] for _, row in rows_with_targets(one)]) for one in found]
    met = "; ".join(f"{sum(map(bool, held))} of {len(held)} on {name}" for name, held in verdicts)
    levels = _each(f"±{noise(one).median:.0%}" for one in found)
    where = _each(on_what(one["machine"]) for one in found)
    return f"{where}. Noise of the median figure: {levels}. Targets met: {met}."


def _each(texts: Iterable[str], between: str = "; ") -> str:
    """Name each once."""
    return between.join(dict.fromkeys(text for text in texts if text))


def _table(head: Sequence[str], lines: Iterable[Sequence[str]], left: int = 1) -> str:
    """Lay out a table; the first columns to the left, the others to the right."""
    rule = ["---" if at < left else "---:" for at in range(len(head))]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
        for line in (head, rule, *lines)
    )


def _headlines(modules: Sequence[Results], cores: Sequence[Results], names: Container[str]) -> str:
    """Make the short tables: the module beside Python, and the core beside Rust, Go and Java."""
    parts = []
    if modules:
        versions_of = [python_minor(one) for one in modules]
        head = ["", "the module beside Python's"]
        head += [f"asynctask, {version}" for version in versions_of]
        head += [f"ahead of the best peer, {version}" for version in versions_of]
        head += ["targets", "met"]
        parts.append(_table(head, _headline_lines(modules, names), left=2))
    if cores:
        head = ["", "the core beside Rust, Go and Java", "asynctask", "ahead of the best peer"]
        head += ["targets", "met"]
        parts.append(_table(head, _headline_lines(cores, names), left=2))
    return "\n\n".join(parts)


def _headline_lines(found: Sequence[Results], names: Container[str]) -> list[list[str]]:
    # The newest Python first, for it may have targets that older ones have not.
    newest = [one for results in reversed(found) for one in headlines(results) if one.id in names]
    keys: dict[tuple[str, str], Headline] = {}
    for one in newest:
        keys.setdefault((one.id, one.metric), one)
    lines = []
    for key, last in sorted(keys.items(), key=lambda item: by_number(item[0][0])):
        every = [headline(results, *key) for results in found]
        lines.append(
            [
                last.id,
                last.what,
                *("" if one is None else number(_value(one.ours), one.digits) for one in every),
                *("" if one is None else _ahead(one) for one in every),
                _targets(last),
                _met(every),
            ]
        )
    return lines


def _value(row: RowResult) -> float:
    return row["figure"]["value"]


def _ahead(headline: Headline) -> str:
    """Write the ratio to the best peer, or the peer's own figure where no ratio makes sense."""
    if headline.best is None:
        return "no peer"
    name = f"`{headline.best['case']}`"
    if headline.ratio is None:
        return f"{number(_value(headline.best), headline.digits)}: {name}"
    return f"**{_times(headline.ratio, headline.best['rounds_used'])}** {name}"


def _times(ratio: Interval, count: int) -> str:
    text = f"{number(ratio['value'], 1)} x"
    return f"{text} ({span(ratio, 1)})" if count > 1 else text


def _targets(headline: Headline) -> str:
    """Write the targets: of our figure, and of the ratio to peers."""
    found: dict[str, None] = {}
    for row in headline.held:
        target = (row["target"] or "").replace("<=", "≤").replace(">=", "≥")
        found[target if row["ours"] else f"{target} `{row['case']}`"] = None
    return "; ".join(found)


def _met(every: Sequence[Headline | None]) -> str:
    """Say for each Python whether all targets are met, and once if they agree."""
    verdicts = [None if one is None else one.is_met for one in every]
    words = ["no target" if met is None else "yes" if met else "**no**" for met in verdicts]
    return words[0] if len(set(words)) == 1 else ", ".join(words)


def _missed(found: Sequence[Results]) -> str:
    """List every target that is missed, and every comparison that is lost."""
    lines = []
    for results in found:
        held = list(rows_with_targets(results))
        missed = [missed_target(*pair) for pair in held if not pair[1]["met"]]
        lines.append(
            f"- **{label(results)}**: {len(held) - len(missed)} of {len(held)} targets met"
            + (", and missed:" if missed else ".")
        )
        lines.extend(f"  - {one}" for one in missed)
        lost = list(_lost(results))
        if lost:
            lines.append("  - a peer is ahead in:")
            lines.extend(f"    - {one}" for one in lost)
        for name, reason in results["failed"].items():
            lines.append(f"  - failed, and without figures: {name}: {reason}")
    return "\n".join(lines)


def _lost(results: Results) -> Iterable[str]:
    """Find where a peer does better, by more than what the rounds span."""
    for workload in results["workloads"]:
        for row in workload["rows"]:
            ratio = row["ratio"]
            if ratio is not None and ratio["max"] < 1:
                times = _times(ratio, row["rounds_used"])
                yield (
                    f"{workload['id']} {workload['title']}: "
                    f"{row['metric_title']}, {row['case']}: {times}"
                )


def _plots(drawn: Sequence[str]) -> str:
    lines = []
    for path in drawn:
        stem = path.rpartition("/")[2].removesuffix(".png")
        kind = next((kind for kind in PLOTS if stem.startswith(kind)), stem)
        what = PLOTS.get(kind, kind)
        which = stem.removeprefix(kind).removeprefix("-")
        title = f"{what}, {which}" if which else what
        svg = f"{path.removesuffix('.png')}.svg"
        lines.append(f"[![{title}]({path})]({svg})")
    return "\n\n".join(lines)


def _tables(results: Results) -> str:
    """Make the tables of a whole run."""
    scale = "" if results["scale"] == "normal" else f", {results['scale']} scale"
    what = "The core" if results["part"] == CORE else f"The module on {label(results)}"
    parts = [f"### {what}{scale}"]
    parts.extend(_workload(workload) for workload in results["workloads"])
    return "\n\n".join(parts)


def _workload(workload: WorkloadResult) -> str:
    head = ["", "median", "min - max", "ahead", "min - max", "target", "met"]
    lines: list[list[str]] = []
    for rows in by_metric(workload).values():
        lines.append([f"*{rows[0]['metric_title']}*", *[""] * (len(head) - 1)])
        lines.extend([f"`{row['case']}`", *cells(row)] for row in rows)
    note = f"\n\n{workload['note']}." if workload["note"] else ""
    skipped = "".join(
        f"\n\n`{name}`: skipped, {reason}." for name, reason in workload["skipped"].items()
    )
    title = f"#### {workload['id']}: {workload['title']}\n\n{rounds(workload)}."
    return f"{title}{note}\n\n{_table(head, lines)}{skipped}"
