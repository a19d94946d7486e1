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
    counts,
    missed_target,
    number,
    on_what,
    rounds,
    said_of,
    span,
    versions,
    with_micro,
)
from benchmarks.results import CORE, python_minor, rows_with_targets
from benchmarks.verdicts import (
    MISSED,
    NOISY,
    NOT_SHARED,
    NOT_TOLD,
    OPEN,
    is_noisy,
    noisy_rounds,
)

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
        "plots": with_micro(_plots(drawn, shown if names is NAMES else ())),
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
            f"of ten; {noisy} rounds were noisy{_consequence(one)}"
            for one, (name, level, noisy) in zip(found, levels, strict=True)
        ),
    ]
    return "\n".join(lines)


def _noisy(results: Results) -> str:
    """Say how many rounds found the machine busy with something else."""
    noisy, rounds = noisy_rounds(results)
    return f"{noisy} of {rounds}"


def _consequence(results: Results) -> str:
    return ", so that it has no verdicts" if is_noisy(results) else ""


def _summary(found: Sequence[Results]) -> str:
    """Say where it was measured, how noisy that was, and what became of the targets."""
    where = _each(on_what(one["machine"]) for one in found)
    runs = [
        f"{label(one)}: ±{level.median:.0%} for the median figure, ±{level.most:.0%} for nine of "
        f"ten, {_noisy(one)} rounds noisy; {counts(one)}"
        for one, level in ((one, noise(one)) for one in found)
    ]
    return f"{where}. Noise, as half of what the rounds of a figure span, and targets:\n\n" + (
        "\n".join(f"- {run}." for run in runs)
    )


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
    keys: dict[tuple[str, int, str], Headline] = {}
    for one in newest:
        keys.setdefault(one.key, one)
    lines = []
    for key, last in sorted(keys.items(), key=lambda item: by_number(item[0][0])):
        every = [headline(results, key) for results in found]
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
        nothing = "".join(
            f"; {number(_value(row), headline.digits)}: a control that does nothing"
            for row in headline.controls
        )
        return f"{number(_value(headline.best), headline.digits)}: {name}{nothing}"
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
    said = [None if one is None else one.verdict for one in every]
    words = [
        "no target" if word is None else f"**{word}**" if word == MISSED else word for word in said
    ]
    return words[0] if len(set(words)) == 1 else ", ".join(words)


def _missed(found: Sequence[Results]) -> str:
    """List every target that is missed, and every comparison that is lost."""
    lines = []
    for results in found:
        lines.append(f"- **{label(results)}**: {counts(results)}.")
        for word, reason, what in (
            (MISSED, None, "missed"),
            (OPEN, NOISY, "open, for the run was noisy, and missed in it"),
            (OPEN, NOT_SHARED, "open, for the run before says otherwise"),
            (OPEN, NOT_TOLD, "open, for a control that does nothing misses it as well"),
        ):
            those = [
                missed_target(workload, row)
                for workload, row in rows_with_targets(results)
                if said_of(row) == word
                and row.get("reason") == reason
                and not (reason == NOISY and row["met"])
            ]
            if those:
                lines.append(f"  - {what}:")
                lines.extend(f"    - {one}" for one in those)
        lost = list(_lost(results))
        if lost:
            lines.append(
                "  - a peer is ahead in (~: not in every round; !: the peer comes early; without a "
                "ratio: the peer's figure and ours):"
            )
            lines.extend(f"    - {one}" for one in lost)
        for name, reason in results["failed"].items():
            lines.append(f"  - failed, and without figures: {name}: {reason}")
    return "\n".join(lines)


def _lost(results: Results) -> Iterable[str]:
    """Find where a peer does better, in whatever it is measured, by however little."""
    for workload in results["workloads"]:
        for rows in by_metric(workload).values():
            ours = next((row for row in rows if row["ours"]), None)
            for row in rows:
                if ours is None or row["ours"] or row["is_control"] or not _is_ahead(row, ours):
                    continue
                ratio = row["ratio"]
                marks = "!" if row.get("is_early") else ""
                if ratio is not None:
                    marks += "~" if ratio["max"] >= 1 else ""
                    text = _times(ratio, row["rounds_used"])
                else:
                    figures = (number(_value(one), row["digits"]) for one in (row, ours))
                    text = " : ".join(figures)
                yield (
                    f"{workload['id']} {workload['title']}: "
                    f"{row['metric_title']}, {row['case']}: {text}{' ' if marks else ''}{marks}"
                )


def _is_ahead(peer: RowResult, ours: RowResult) -> bool:
    if peer["ratio"] is not None:
        return peer["ratio"]["value"] < 1
    if peer["is_more_better"]:
        return _value(peer) > _value(ours)
    return _value(peer) < _value(ours)


def _plots(drawn: Sequence[str], found: Sequence[Results]) -> str:
    lines = []
    absent = [
        f"{one.id} {one.title} ({label(results)})"
        for results in found
        for one in headlines(results)
        if one.ratio is None
    ]
    if absent:
        lines.append(
            "The first has no bar for what has no ratio to a peer: "
            f"{_each(absent, '; ')}. Their figures are in the tables."
        )
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
