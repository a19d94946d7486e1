"""Draws what a run found as SVG, the same bytes for the same results.

One colour for each contestant, in every plot.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.headlines import SHORT, by_metric, by_number, headline, in_any, label
from benchmarks.report import number, on_what, with_micro
from benchmarks.results import CORE, python_minor

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.results import Results, RowResult, WorkloadResult

OURS = "#d62728"
COLOURS = (
    (r"uvloop|tokio sleep", "#17becf"),
    (r"asyncio|delayqueue", "#1f77b4"),
    (r"sched\b|scheduledthreadpool", "#8c564b"),
    (r"multiprocessing|timingwheel|pond", "#bcbd22"),
    (r"gevent|netty", "#e377c2"),
    (r"apscheduler|btreemap|ants", "#9467bd"),
    (r"threading\.timer|time\.afterfunc|rayon", "#2ca02c"),
    (r"binaryheap", "#7b4173"),
    (r"hash_wheel|threadpoolexecutor|run_in_executor|to_thread", "#ff7f0e"),
    (r"go-timewheel|threadpool", "#393b79"),
)
"""A contestant's colour, by what is in its name: the first that is found."""
OTHERS = ("#637939", "#843c39", "#5254a3", "#8c6d31")
CONTROL = "#9a9a9a"
STYLES = ("-", "--", "-.", ":")
LONG = re.compile(r"(\.\d\d)\d+")
PANEL = re.compile(r'<g(?= id="axes)')
LOOK: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "figure.dpi": 110,
    "figure.titlesize": 11,
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "asynctask",
}
GROUPS = {"lateness": ("P7", "P8"), "main-thread": ("P9", "P16")}
"""Which drawn workloads are shown together, and what the file is called."""


def draw_all(found: Sequence[Results], folder: Path) -> list[Path]:
    """Draw everything that the results have; give the files."""
    with mpl.rc_context(LOOK):
        drawn = {"headlines": headline_bars(found)}
        for results in found:
            name = _suffix(results)
            drawn[f"scaling-{name}"] = curves(results)
            for group, ids in _groups(results).items():
                drawn[f"{group}-{name}"] = distributions(results, ids)
        paths = []
        for name, figure in drawn.items():
            if figure is not None:
                paths.append(_save(figure, folder / f"{name}.svg"))
        return paths


def draw_published(found: Sequence[Results], folder: Path) -> None:
    """Draw what README and docs/benchmarks.md show: of the distributions the newest Python's."""
    with mpl.rc_context(LOOK):
        drawn = {"short": headline_bars(found, is_short=True), "headlines": headline_bars(found)}
        for results in found:  # the newest Python comes last, and after it the core
            for group, ids in _groups(results).items():
                if group in GROUPS:
                    drawn[group] = distributions(results, ids)
            drawn["scaling"] = curves(results)
        for name, figure in drawn.items():
            if figure is not None:
                _save(figure, folder / f"{name}.svg")


def for_drawing(found: Sequence[Results]) -> list[Results]:
    """Choose one run of each part and Python: of two scales the full one, which reaches further."""
    chosen: dict[str, Results] = {}
    for results in found:
        if _suffix(results) not in chosen or results["scale"] == "full":
            chosen[_suffix(results)] = results
    return list(chosen.values())


def _suffix(results: Results) -> str:
    return CORE if results["part"] == CORE else python_minor(results)


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    text = path.read_text(encoding="utf-8")
    # A hundredth of a point is enough, and a line for each panel: nobody edits this.
    text = re.sub(r'"[^"<>]*"', lambda match: LONG.sub(r"\1", match[0]), text)
    text = re.sub(r"\s*\n\s*(<?)", lambda match: match[1] or " ", text)
    path.write_text(PANEL.sub("\n<g", text).strip() + "\n", encoding="utf-8")
    return path


def _groups(results: Results) -> dict[str, tuple[str, ...]]:
    """Find what is drawn: the groups above, and each other workload for itself."""
    drawn = {
        workload["id"]
        for workload in results["workloads"]
        if any("quantiles" in row for row in workload["rows"])
    }
    grouped = {name: ids for name, ids in GROUPS.items() if drawn & set(ids)}
    alone = drawn.difference(*GROUPS.values())
    return grouped | {name.lower(): (name,) for name in sorted(alone)}


class Palette:
    """Gives each contestant its colour and line, the same wherever the name is the same."""

    def __init__(self) -> None:
        self._used: dict[str, int] = {}
        self._given: dict[str, tuple[str, str]] = {}

    def pick(self, row: RowResult) -> tuple[str, str]:
        """Choose a colour and a line; a second contestant of one colour has another line."""
        name = _name(row)
        if name not in self._given:
            colour = OURS if row["ours"] else self._of_peer(name.lower())
            if row["is_control"]:
                colour = CONTROL
            times = self._used.get(colour, 0)
            self._used[colour] = times + 1
            self._given[name] = colour, STYLES[times % len(STYLES)]
        return self._given[name]

    @staticmethod
    def _of_peer(name: str) -> str:
        for pattern, colour in COLOURS:
            if re.search(pattern, name):
                return colour
        return OTHERS[sum(name.encode()) % len(OTHERS)]


def _name(row: RowResult) -> str:
    """Leave out a count that a contestant's name ends with."""
    return re.sub(r", [\d,]+$", "", row["case"])


def _grid(panels: int, title: str, height: float = 4.1) -> tuple[Figure, list[Axes]]:
    columns = 1 if panels == 1 else 2
    rows = (panels + columns - 1) // columns
    width = 6.5 if columns == 1 else 11.0
    figure = Figure(figsize=(width, height * rows + 0.5), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for unused in axes[panels:]:
        unused.set_axis_off()
    return figure, axes[:panels]


def _where(results: Results) -> str:
    return f"{label(results)}, {on_what(results['machine'])}"


def _title(workload: WorkloadResult) -> str:
    text = f"{workload['id']}  {workload['title']}"
    if len(text) <= 58:
        return text
    cut = text.rfind(" ", 0, 58)
    rest = text[cut + 1 :]
    return f"{text[:cut]}\n{rest if len(rest) <= 62 else rest[:60] + '…'}"


def _plain(value: float, _: object = None) -> str:
    return f"{value:,.12g}"


def distributions(results: Results, ids: Sequence[str]) -> Figure:
    """Draw which share of the observations stays below what, for the drawn metrics of workloads."""
    panels = [
        (workload, rows)
        for workload in results["workloads"]
        if workload["id"] in ids
        for rows in by_metric(workload).values()
        if any(row.get("quantiles") for row in rows)
    ]
    figure, axes = _grid(len(panels), _where(results))
    for ax, (workload, rows) in zip(axes, panels, strict=True):
        least = _least_drawn(rows)
        palette = Palette()
        # Styles in the order of the table; drawn the other way round, for ours to be on top.
        for row in rows:
            palette.pick(row)
        for row in reversed(rows):
            pairs = row.get("quantiles", [])
            if pairs:
                colour, style = palette.pick(row)
                values = [max(value, least) if least else value for _, value in pairs]
                shares = [100 * share for share, _ in pairs]
                ax.plot(
                    values,
                    shares,
                    style,
                    color=colour,
                    drawstyle="steps-post" if len(pairs) < 100 else "default",
                    linewidth=2.2 if row["ours"] else 1.4,
                    label=_name(row),
                )
        if least > 0:
            ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(_plain))
        ax.xaxis.set_minor_formatter(NullFormatter())
        edge = any(value < 0 for row in rows for _, value in row.get("quantiles", []))
        ax.set_xlabel(_distribution_label(rows[0], "; what is early is at the left edge" * edge))
        ax.set_ylabel("% of observations up to it")
        ax.set_ylim(-2, 102)
        ax.set_title(_title(workload))
        _legend(ax)
    return figure


def _distribution_label(row: RowResult, edge: str) -> str:
    """Leave out the word for the one figure, for all of them are drawn; and say what is better."""
    title = re.sub(r"^(.*\b)?(p[\d.]+|median|max|longest|worst),? ", r"\1", row["metric_title"])
    better = "right" if row["is_more_better"] else "left"
    return with_micro(f"{title} ({better} is better{edge})")


def _least_drawn(rows: Iterable[RowResult]) -> float:
    """Find where a logarithmic axis begins; 0 for a linear one, as shares of something are."""
    values = [value for row in rows for _, value in row.get("quantiles", [])]
    positive = [value for value in values if value > 0]
    is_share = any("%" in row["metric_title"] for row in rows)
    if is_share or not positive or max(positive) < 20 * min(positive):
        return 0.0
    # What is early or at once is drawn at the left edge.
    return max(min(positive), max(positive) / 1e8)


def curves(results: Results) -> Figure | None:
    """Draw every workload that has an axis, a panel for each kind of figure."""
    panels: list[tuple[WorkloadResult, str, list[RowResult]]] = []
    for workload in results["workloads"]:
        kinds: dict[str, list[RowResult]] = {}
        for row in workload["rows"]:
            if workload["axis"] and row["at"] is not None:
                kinds.setdefault(_kind(row["metric_title"]), []).append(row)
        panels.extend((workload, kind, rows) for kind, rows in kinds.items())
    if not panels:
        return None
    figure, axes = _grid(len(panels), _where(results))
    for ax, (workload, kind, rows) in zip(axes, panels, strict=True):
        _curve(ax, rows, Palette())
        ax.set_xlabel(workload["axis"] or "")
        ax.set_ylabel(with_micro(kind))
        ax.set_title(_title(workload))
        _legend(ax)
    return figure


def _kind(title: str) -> str:
    """Give what a metric's title says before the place on the axis, such as ``ns each``."""
    return title.partition(",")[0]


def _curve(ax: Axes, rows: Sequence[RowResult], palette: Palette) -> None:
    by_name: dict[str, list[RowResult]] = {}
    for row in rows:
        by_name.setdefault(_name(row), []).append(row)
    for of_one in by_name.values():
        palette.pick(of_one[0])
    for name, of_one in reversed(by_name.items()):
        points = sorted(of_one, key=lambda row: row["at"] or 0.0)
        colour, style = palette.pick(points[0])
        places = [row["at"] or 0.0 for row in points]
        ax.plot(
            places,
            [row["figure"]["value"] for row in points],
            style,
            color=colour,
            marker="o",
            markersize=3.5,
            linewidth=2.2 if points[0]["ours"] else 1.4,
            label=name,
        )
        ax.fill_between(
            places,
            [row["figure"]["min"] for row in points],
            [row["figure"]["max"] for row in points],
            color=colour,
            alpha=0.12,
            linewidth=0,
        )
    _log_axes(ax, rows)


def _log_axes(ax: Axes, rows: Sequence[RowResult]) -> None:
    ax.set_xscale("log")
    places = sorted({row["at"] or 0.0 for row in rows})
    if places[-1] <= 100:  # a few producers or workers, and not powers of ten
        ax.set_xticks(places, labels=[_plain(place) for place in places])
        ax.xaxis.set_minor_formatter(NullFormatter())
    if all(row["figure"]["min"] > 0 for row in rows):
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(_plain))
        low, high = ax.get_ylim()
        # In a decade or two the numbers are between powers of ten.
        few = high < 200 * low
        ax.yaxis.set_minor_formatter(FuncFormatter(_sparse) if few else NullFormatter())
    else:
        ax.set_ylim(bottom=0)


def _sparse(value: float, _: object = None) -> str:
    """Label 2 and 5 between powers of ten."""
    return _plain(value) if f"{value:e}"[0] in "25" else ""


def _legend(ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    longest = max(map(len, labels))
    columns = 3 if longest < 24 else 2 if longest < 36 else 1
    ax.legend(
        handles[::-1],
        labels[::-1],
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        borderaxespad=5,
        ncols=columns,
    )


def headline_bars(found: Sequence[Results], *, is_short: bool = False) -> Figure | None:
    """Draw how far we are ahead of the best peer, for each headline; below 1 is a loss."""
    names: dict[tuple[bool, str], None] = {}
    bars: list[tuple[Results, dict[tuple[bool, str], tuple[float, float, float, str]]]] = []
    for results in found:
        is_core = results["part"] == CORE
        of_one = {}
        for key in in_any([one for one in found if one["part"] == results["part"]]):
            one = headline(results, key)
            if one is None or (is_short and (results["part"], *key) not in SHORT):
                continue
            if one.ratio is not None and one.best is not None and one.ratio["value"] > 0:
                name = is_core, with_micro(f"{one.id}  {one.what}")
                names[name] = None
                low, high = one.ratio["min"], one.ratio["max"]
                of_one[name] = one.ratio["value"], low, high, _name(one.best)
        bars.append((results, of_one))
    if not names:
        return None
    order = sorted(names, key=lambda key: (key[0], by_number(key[1].split()[0])))
    figure = Figure(figsize=(11.0, 1.4 + 0.5 * len(order)), layout="constrained")
    ax = figure.subplots()
    _bars(ax, order, [pair for pair in bars if pair[1]])
    ax.axvline(1, color="black", linewidth=1)
    ax.set_xscale("log")
    left, right = ax.get_xlim()
    ax.set_xlim(min(left, 0.5), right * (6 if is_short else 60))  # room for names
    ax.xaxis.set_major_formatter(FuncFormatter(_plain))
    ax.set_xlabel("times ahead of the best peer; left of 1 the peer is ahead")
    ax.set_yticks(range(len(order)), labels=[_wrapped(name) for _, name in order])
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_title(f"Beside the best peer: {on_what(found[0]['machine'])}")
    ax.legend(loc="lower right")
    return figure


def _wrapped(name: str) -> str:
    head, _, tail = name.rpartition(": ")
    return f"{head}\n{tail}" if head else tail


def _bars(
    ax: Axes,
    order: Sequence[tuple[bool, str]],
    bars: Sequence[tuple[Results, dict[tuple[bool, str], tuple[float, float, float, str]]]],
) -> None:
    modules = [of_one for results, of_one in bars if results["part"] != CORE]
    # The newest Python has our colour, and those before it are paler.
    colours = iter((OURS, "#f1a9a0", "#f8d7d2")[: len(modules)][::-1])
    for results, of_one in bars:
        is_core = results["part"] == CORE
        colour = "#4c566a" if is_core else next(colours, OURS)
        count = 1 if is_core else len(modules)
        place = 0 if is_core else modules.index(of_one)
        height = 0.8 / count
        for number_of, (key, (value, low, high, peer)) in enumerate(of_one.items()):
            at = order.index(key) + (place - (count - 1) / 2) * height
            ax.barh(
                at,
                value - 1,
                height * 0.9,
                left=1,
                color=colour,
                label=label(results) if number_of == 0 else None,
            )
            ax.plot([low, high], [at, at], color="black", linewidth=0.8)
            text = f"{number(value, 1)} x {peer}"
            ax.text(max(value, high, 1) * 1.06, at, text, va="center", fontsize=7.5)
