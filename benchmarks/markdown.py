"""The tables in Markdown, and how they get between the markers of a document."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from benchmarks.headlines import (
    SHORT,
    by_metric,
    headline,
    headlines,
    in_any,
    label,
    noise,
)
from benchmarks.report import (
    cells,
    counts,
    missed_by,
    number,
    on_what,
    rounds,
    said_of,
    span,
    versions,
    with_micro,
)
from benchmarks.results import CORE, MODULE, python_minor, rows_with_targets
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
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.headlines import Headline
    from benchmarks.results import Interval, Results, RowResult, WorkloadResult

PAGE = ("machine", "headlines", "missed", "lost", "plots", "tables")
"""What a page with everything has, in this order."""
MARKED = re.compile(
    r"(?P<begin><!-- benchmarks:(?P<name>[a-z]+) -->\n)(?P<old>.*?)(?P<end><!-- end -->)", re.DOTALL
)


def fill(path: Path, parts: Mapping[str, str]) -> None:
    """Put each part between its markers, if the document has them; the rest is left as it is."""

    def replace(match: re.Match[str]) -> str:
        return f"{match['begin']}{parts[match['name']]}\n{match['end']}"

    text = path.read_text(encoding="utf-8")
    path.write_text(MARKED.sub(replace, text), encoding="utf-8")


def sections(found: Sequence[Results], drawn: Sequence[str] = ()) -> dict[str, str]:
    """Make all parts of a document.

    Args:
        found: Results of every part and Python.
        drawn: The plots, by their paths from the document.
    """
    modules = [one for one in found if one["part"] != CORE and one["scale"] != "full"]
    cores = [one for one in found if one["part"] == CORE and one["scale"] != "full"]
    # Without a run of the normal scale, the full one speaks.
    modules = modules or [one for one in found if one["part"] != CORE]
    cores = cores or [one for one in found if one["part"] == CORE]
    shown = [*modules, *cores]
    made = {
        "machine": _machine(shown),
        "summary": _summary(shown),
        "short": _short(modules, cores),
        "headlines": _headlines(modules, cores),
        "missed": _missed(shown),
        "losses": _losses(shown),
        "lost": _lost(shown),
        "absent": _absent(shown),
        "plots": "\n\n".join(f"![{path}]({path})" for path in drawn),
        "tables": "\n\n".join(_tables(one) for one in (*shown, *_others(found, shown))),
    }
    return {name: with_micro(text) for name, text in made.items()}


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


def _short(modules: Sequence[Results], cores: Sequence[Results]) -> str:
    """Make README's table: what `SHORT` names, without the rounds."""
    versions_of = " / ".join(python_minor(one) for one in modules)
    lines = []
    for found, part in ((modules, MODULE), (cores, CORE)):
        keys = [key for where, *key in SHORT if where == part]
        for key, line in _headline_lines(found, has_spans=False).items():
            if list(key) in keys:
                lines.append([line[0], "core: " * (part == CORE) + line[1], *line[2:4], line[5]])
    head = ["", "what, and when", f"asynctask, {versions_of}", "ahead of the best peer", "met"]
    return _table(head, lines, left=2)


def _headlines(modules: Sequence[Results], cores: Sequence[Results]) -> str:
    """Make the tables of the module beside Python, and the core beside Rust, Go and Java."""
    parts = []
    versions_of = " / ".join(python_minor(one) for one in modules)
    for found, beside in (
        (modules, f"the module beside Python's, on {versions_of}"),
        (cores, "the core beside Rust, Go and Java"),
    ):
        if found:
            head = ["", beside, "asynctask", "ahead of the best peer", "targets", "met"]
            parts.append(_table(head, _headline_lines(found).values(), left=2))
    return "\n\n".join(parts)


def _headline_lines(
    found: Sequence[Results], *, has_spans: bool = True
) -> dict[tuple[int | str, ...], list[str]]:
    lines: dict[tuple[int | str, ...], list[str]] = {}
    for key, last in in_any(found).items():
        every = [headline(results, key) for results in found]
        lines[key] = [
            last.id,
            last.what,
            " / ".join(
                "-" if one is None else number(_value(one.ours), one.digits) for one in every
            ),
            _ahead([one for one in every if one is not None], has_spans=has_spans),
            _targets(last),
            _met(every),
        ]
    return lines


def _value(row: RowResult) -> float:
    return row["figure"]["value"]


def _ahead(every: Sequence[Headline], *, has_spans: bool) -> str:
    """Write the ratios to the best peer, or its own figures where no ratio makes sense."""
    pairs = [_beside(one, has_spans=has_spans) for one in every]
    if len({peer for _, peer in pairs}) == 1:
        texts = [text for text, _ in pairs if text]
        pairs = [(" / ".join(texts), pairs[0][1])]
    return " / ".join(f"{text} {peer}".strip() for text, peer in pairs)


def _beside(headline: Headline, *, has_spans: bool) -> tuple[str, str]:
    best = headline.best
    if best is None:
        return "", "no peer"
    if headline.ratio is not None:
        return f"**{_times(headline.ratio, best['rounds_used'] * has_spans)}**", f"`{best['case']}`"
    nothing = "".join(
        f" ({number(_value(row), headline.digits)} with a control that does nothing)"
        for row in headline.controls
    )
    return f"{number(_value(best), headline.digits)}{nothing}", f"with `{best['case']}`"


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
    """List every target that is missed, or was missed where nobody can tell."""
    lines = []
    for results in found:
        lines.append(f"- **{label(results)}**: {counts(results)}.")
        for word, reason, what in (
            (MISSED, None, "missed"),
            (OPEN, NOISY, "open, for the run was noisy, and missed in it"),
            (OPEN, NOT_SHARED, "open, for the run before says otherwise"),
            (OPEN, NOT_TOLD, "open, for a control that does nothing misses it as well"),
        ):
            those: dict[str, list[str]] = {}
            for workload, row in rows_with_targets(results):
                if said_of(row) != word or row.get("reason") != reason:
                    continue
                if not (reason == NOISY and row["met"]):
                    where = f"{workload['id']} {workload['title']}: {row['metric_title']}"
                    those.setdefault(where, []).append(missed_by(row))
            if those:
                lines.append(f"  - {what}:")
                lines.extend(f"    - {where}. {'; '.join(each)}" for where, each in those.items())
        for name, reason in results["failed"].items():
            lines.append(f"  - failed, and without figures: {name}: {reason}")
    return "\n".join(lines)


def _losses(found: Sequence[Results]) -> str:
    """Make a table of the workloads in which a peer is ahead: how often, and how far at most."""
    lines: dict[tuple[str, str], list[str]] = {}
    for results in found:
        of_workload: dict[tuple[str, str], list[tuple[RowResult, RowResult]]] = {}
        for workload, row, ours in _compared(results):
            of_workload.setdefault((workload["id"], workload["title"]), []).append((row, ours))
        for (name, title), pairs in of_workload.items():
            ahead = [pair for pair in pairs if _is_ahead(*pair)]
            if ahead:
                where = (name, title.removeprefix("core: "))
                which = f"{label(results)}: {len(ahead)} of {len(pairs)}"
                lines.setdefault(where, []).append(f"{which}; {_furthest(ahead)}")
    head = ["", "a peer is ahead in", "comparisons lost, and the furthest"]
    return _table(head, ([*where, "<br>".join(each)] for where, each in lines.items()), left=3)


def _furthest(ahead: Sequence[tuple[RowResult, RowResult]]) -> str:
    def order(pair: tuple[RowResult, RowResult]) -> float:
        row, ours = pair
        if row["ratio"] is not None:
            return row["ratio"]["value"]
        better, worse = sorted((_value(row), _value(ours)))
        return better / worse if better > 0 else 0.0

    row, ours = min(ahead, key=order)
    return f"`{row['case']}`, {row['metric_title']}, {_lead(row, ours)}"


def _lost(found: Sequence[Results]) -> str:
    """List every comparison in which a peer does better, by however little."""
    marks = "~: not in every round; !: the peer comes early"
    lines = [f"A peer is ahead in ({marks}; without a ratio: the peer's figure and ours):", ""]
    for results in found:
        lines.append(f"- **{label(results)}**")
        lines.extend(
            f"  - {workload['id']} {workload['title']}: {row['metric_title']}, {row['case']}: "
            f"{_lead(row, ours)}"
            for workload, row, ours in _compared(results)
            if _is_ahead(row, ours)
        )
    return "\n".join(lines)


def _compared(results: Results) -> Iterable[tuple[WorkloadResult, RowResult, RowResult]]:
    """Give every row of a peer, beside ours."""
    for workload in results["workloads"]:
        for rows in by_metric(workload).values():
            ours = next((row for row in rows if row["ours"]), None)
            for row in rows:
                if ours is not None and not row["ours"] and not row["is_control"]:
                    yield workload, row, ours


def _lead(row: RowResult, ours: RowResult) -> str:
    ratio = row["ratio"]
    marks = "!" if row.get("is_early") else ""
    if ratio is not None:
        marks += "~" if ratio["max"] >= 1 else ""
        text = _times(ratio, row["rounds_used"])
    else:
        text = " : ".join(number(_value(one), row["digits"]) for one in (row, ours))
    return f"{text} {marks}".rstrip()


def _is_ahead(peer: RowResult, ours: RowResult) -> bool:
    if peer["ratio"] is not None:
        return peer["ratio"]["value"] < 1
    if peer["is_more_better"]:
        return _value(peer) > _value(ours)
    return _value(peer) < _value(ours)


def _absent(found: Sequence[Results]) -> str:
    """Name the headlines that have no bar, for they have no ratio to a peer."""
    return "No bar, for want of a ratio: " + _each(
        f"{one.id} {one.title}"
        for results in found
        for one in headlines(results)
        if one.ratio is None
    )


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
