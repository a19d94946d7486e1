"""The benchmarks' arithmetic, their documents, and one small run of them all; never a speed."""

import json
import re
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
from helpers.programs import run_command

from benchmarks import harness, headlines, markdown, report, results, verdicts
from benchmarks.harness import Case, Metric, Runner, Workload, percentile

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _quiet_machine(monkeypatch):
    """No round is noisy, however busy the machine is."""
    monkeypatch.setattr(harness, "calibrate", lambda: 1.0)
    monkeypatch.setattr(harness, "stolen", lambda: 0)


def turns(*samples):
    """Make a contestant's run that gives these, one a round."""
    left = iter(samples)
    return lambda: next(left)


def workload(*cases, metric, rounds=3, name="P1", **others):
    return Workload(name, "post", [metric], cases, rounds, **others)


def run(*workloads):
    runner = Runner(Mock(["turn", "advance"]))
    return results.collect(results.MODULE, "normal", [runner.run(one) for one in workloads], {})


def ns(*values):
    return turns(*({"ns": value} for value in values))


TIME = Metric("ns", "ns each", at_most=20)


def test_a_figure_is_the_median_of_the_rounds_and_a_ratio_is_made_within_a_round():
    """Ours and theirs of one round are divided, and the median of that is taken."""
    found = run(
        workload(
            Case("ours", ns(10, 20, 40), ours=True),
            Case("theirs", ns(100, 100, 100), at_least={"ns": 6}),
            metric=TIME,
        )
    )
    ours, theirs = found["workloads"][0]["rows"]
    assert ours["figure"] == {"value": 20, "min": 10, "max": 40}
    assert ours["ratio"] is None
    assert ours["met"]
    assert theirs["ratio"] == {"value": 5, "min": 2.5, "max": 10}
    assert theirs["target"] == ">= 6 x"
    assert theirs["met"] is False


def test_where_more_is_better_a_ratio_above_one_is_still_a_win():
    """A speed or a share is divided the other way round."""
    found = run(
        workload(
            Case("ours", ns(90), ours=True),
            Case("theirs", ns(45)),
            metric=Metric("ns", "%", at_least=80),
            rounds=1,
        )
    )
    ours, theirs = found["workloads"][0]["rows"]
    assert ours["target"] == ">= 80"
    assert ours["met"]
    assert theirs["ratio"]["value"] == 2


def test_what_is_early_or_nothing_has_no_ratio_and_is_not_the_best():
    """A negative lateness is no speed: the table says so, and another peer is the one beside us."""
    found = run(
        workload(
            Case("ours", ns(10, 10, 10), ours=True),
            Case("early", ns(-5, 4, 3)),
            Case("none", ns(0, 1, 1)),
            Case("late", ns(40, 40, 40)),
            metric=TIME,
        )
    )
    _, early, none, late = found["workloads"][0]["rows"]
    assert (early["ratio"], none["ratio"]) == (None, None)
    assert late["ratio"]["value"] == 4
    assert report.table(found).count("no ratio") == 3  # and what it means
    (one,) = headlines.headlines(found)
    assert one.best["case"] == "late"


def test_what_has_no_target_is_a_headline_where_nothing_of_its_name_has_one():
    """The first that is measured stands for the name, unless a later one is held to something."""
    found = run(
        workload(
            Case("ours", ns(1), ours=True), metric=Metric("ns", "first"), rounds=1, name="P17"
        ),
        workload(
            Case("ours", ns(1), ours=True), metric=Metric("ns", "second"), rounds=1, name="P17"
        ),
    )
    assert [one.title for one in headlines.headlines(found)] == ["first"]
    found = run(
        workload(
            Case("ours", ns(1), ours=True), metric=Metric("ns", "first"), rounds=1, name="P17"
        ),
        workload(Case("ours", ns(1), ours=True), metric=TIME, rounds=1, name="P17"),
    )
    assert [one.title for one in headlines.headlines(found)] == [TIME.title]


def test_the_readmes_table_is_short_and_has_losses():
    """At most eight rows; in some of them a peer is ahead, as one is in the whole table."""
    found = results.read_all(results.PUBLISHED)
    verdicts.judge(found)
    parts = markdown.sections(found)
    _, _, *rows = parts["short"].splitlines()
    assert len(rows) <= 8
    assert sum("**0." in row for row in rows) >= 3
    for _, name, place, metric in headlines.SHORT:
        assert any(headlines.headline(one, (name, place, metric)) for one in found)
    for row in rows:
        what = row.split(" | ")[1].removeprefix("core: ")
        assert what in parts["headlines"], "what README shows is on the page, with its rounds"


def test_a_peer_that_is_not_installed_is_skipped_and_named():
    """What is missing has no row, and the reason is told."""
    found = run(
        workload(
            Case("ours", ns(1), ours=True),
            Case("theirs", ns(1), needs="no_such_package"),
            Case("slow", ns(1), skip="too slow"),
            metric=TIME,
            rounds=1,
        )
    )
    one = found["workloads"][0]
    assert [row["case"] for row in one["rows"]] == ["ours"]
    assert one["skipped"] == {"theirs": "no_such_package is not installed", "slow": "too slow"}
    assert "theirs: skipped, no_such_package is not installed" in report.table(found)
    assert "`slow`: skipped, too slow." in markdown.sections([found])["tables"]


def test_observations_of_all_rounds_are_pooled_and_thinned_out():
    """A percentile is of all of them, and so is the curve, which ends at the greatest."""
    metric = Metric("ns", "p50, us", reduce=percentile(0.5), is_drawn=True)
    rounds = [{"ns": list(range(at, 30_000, 3))} for at in range(3)]
    found = run(workload(Case("ours", turns(*rounds), ours=True), metric=metric))
    row = found["workloads"][0]["rows"][0]
    assert row["figure"]["value"] == 15_000
    assert len(row["quantiles"]) < 400
    assert row["quantiles"][-1] == (1.0, 29_999.0)


@pytest.mark.parametrize("count", [1, 2, 3, 100, 5_000])
def test_quantiles_are_shares_that_do_not_exceed_a_value(count):
    """Of numbers from 1 on, so many are at most that number."""
    pairs = results.quantiles(range(1, count + 1))
    assert pairs[-1] == (1.0, count)
    for share, value in pairs:
        assert share == pytest.approx(value / count, rel=1e-6)


def test_results_are_read_as_they_were_written(tmp_path):
    """JSON and back, with a line for each row."""
    metric = Metric("ns", "p50, us", reduce=percentile(0.5), is_drawn=True)
    made = run(workload(Case("ours", turns({"ns": [1, 2.5]}), ours=True), metric=metric, rounds=1))
    path = tmp_path / results.file_name(made)
    results.write([made], path)
    assert len(path.read_text().splitlines()) == 7  # brackets, the run, the workload, the row
    assert results.read_all(path) == json.loads(json.dumps([made]))
    assert results.read_all(tmp_path) == results.read_all(path)
    assert results.read_all(tmp_path / "none") == []


def published(ours, theirs):
    """Make results with one headline."""
    return run(
        workload(Case("ours", ns(*ours), ours=True), Case("theirs", ns(*theirs)), metric=TIME)
    )


def test_the_headline_is_beside_the_best_peer():
    """Of several peers the nearest one counts, or the one that is ahead."""
    found = run(
        workload(
            Case("ours", ns(10), ours=True),
            Case("slow", ns(100)),
            Case("fast", ns(5)),
            metric=TIME,
            rounds=1,
        )
    )
    (one,) = headlines.headlines(found)
    assert one.best["case"] == "fast"
    assert one.ratio["value"] == 0.5
    assert "fast: 0.50 x" in markdown.sections([found])["lost"]


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [((10, 11, 12), "within"), ((12.1, 13, 14), "within"), ((20, 21, 22), "higher")],
)
def test_a_run_agrees_if_it_touches_the_published_one(ours, verdict):
    """What the rounds span is compared, give or take the published noise."""
    before = published((10, 11, 12), (100, 110, 120))
    now = published(ours, (100, 110, 120))
    assert next(one.verdict for one in headlines.compare(before, now)) == verdict


def test_ratios_alone_are_compared_on_another_processor():
    """Nanoseconds are a machine's own."""
    before = published((10, 11, 12), (100, 110, 120))
    now = published((20, 22, 24), (200, 220, 240))
    now["machine"]["cpu"] = "another"
    (one,) = headlines.compare(before, now)
    assert one.is_ratio
    assert one.verdict == "within"


def test_noise_is_half_of_what_the_rounds_span():
    """10 to 12 around 11 is a noise of a eleventh."""
    level = headlines.noise(published((10, 11, 12), (100, 100, 100)))
    assert level.median == pytest.approx(1 / 11, rel=0.02)


def test_what_is_between_markers_is_replaced_and_nothing_else(tmp_path):
    """A part goes where its marker is, however often it is written."""
    path = tmp_path / "page.md"
    path.write_text("by hand\n<!-- benchmarks:one -->\nold\n<!-- end -->\nby hand as well\n")
    for _ in range(2):
        markdown.fill(path, {"one": "new", "two": "elsewhere"})
    assert path.read_text() == (
        "by hand\n<!-- benchmarks:one -->\nnew\n<!-- end -->\nby hand as well\n"
    )


def judged(found):
    """Judge a run, and give what is said of its first target."""
    verdicts.judge([found])
    row = found["workloads"][0]["rows"][0]
    return row["verdict"], row["reason"]


@pytest.mark.parametrize(("noisy", "verdict"), [(1, "yes"), (2, "open")])
def test_a_run_with_more_than_a_third_of_its_rounds_noisy_has_no_verdicts(noisy, verdict):
    """One of three is a verdict; with two every target is open, and the page says why."""
    found = published((10, 10, 10), (50, 50, 50))
    found["workloads"][0]["noisy_rounds"] = noisy
    assert judged(found)[0] == verdict
    summary = markdown.sections([found])["summary"]
    assert f"{noisy} of 3 rounds noisy" in summary
    assert ("1 targets open, for the run was noisy" in summary) == (verdict == "open")
    assert f"| {verdict} |" in markdown.sections([found])["headlines"]


@pytest.mark.parametrize("ours", [10, 30])
def test_a_verdict_that_the_run_before_does_not_share_is_open(ours):
    """Met then and missed now, or the other way round: nobody knows."""
    found = published((ours,) * 3, (50, 50, 50))
    then = published((40 - ours,) * 3, (50, 50, 50))
    then["machine"]["date"] = "earlier"
    verdicts.remember(found, then)
    assert judged(found) == (verdicts.OPEN, verdicts.NOT_SHARED)
    again = published((ours,) * 3, (50, 50, 50))
    again["machine"]["date"] = found["machine"]["date"]
    verdicts.remember(again, found)
    assert judged(again)[1] == verdicts.NOT_SHARED, "published once more it is the same run"
    again["machine"]["date"] = "later"
    verdicts.remember(again, found)
    assert judged(again)[1] is None


@pytest.mark.parametrize(
    ("of_nothing", "reason"), [((99, 96, 99), "control"), ((98, 99, 98), None)]
)
def test_a_target_that_doing_nothing_misses_is_open(of_nothing, reason):
    """A measure that cannot tell has no verdict, and the control's figure is shown."""
    speed = Metric("ns", "%", at_least=97, compared=False)
    found = run(
        workload(
            Case("ours", ns(100, 100, 100), ours=True),
            Case("theirs", ns(90, 90, 90)),
            Case("nothing: what is there", ns(*of_nothing), is_control=True),
            metric=speed,
        )
    )
    assert judged(found)[1] == (verdicts.NOT_TOLD if reason else None)
    assert "a control that does nothing" in markdown.sections([found])["headlines"]


def test_who_is_early_on_one_python_is_the_best_peer_on_none():
    """A timer that does not wait is no faster, whatever its median is elsewhere."""
    late, early = Metric("ns", "p50"), Metric("early", "early runs", at_most=0, compared=False)

    def lateness(count):
        contestants = [
            Case("ours", turns({"ns": 50, "early": 0}), ours=True),
            Case("hasty", turns({"ns": 20, "early": count})),
            Case("patient", turns({"ns": 90, "early": 0})),
        ]
        return run(Workload("P7", "late", [late, early], contestants, 1))

    both = [lateness(0), lateness(3)]
    verdicts.judge(both)
    for found in both:
        best = headlines.headline(found, ("P7", 0, "ns")).best
        assert best["case"] == "patient"


def test_every_comparison_that_a_peer_wins_is_listed():
    """Also by a hair, in some rounds only, or in what is not compared by ratios."""
    found = run(
        workload(
            Case("ours", ns(10, 10, 10), ours=True),
            Case("close", ns(9, 9, 11)),
            Case("behind", ns(20, 20, 20)),
            metric=TIME,
        ),
        workload(
            Case("ours", ns(70), ours=True),
            Case("rival", ns(98)),
            Case("slower", ns(40)),
            metric=Metric("ns", "% of alone", at_least=40, compared=False),
            rounds=1,
        ),
    )
    verdicts.judge([found])
    parts = markdown.sections([found])
    assert "close: 0.90 x (0.90 - 1.1) ~" in parts["lost"]
    assert "rival: 98 : 70" in parts["lost"]
    assert "behind" not in parts["lost"]
    assert "slower" not in parts["lost"]
    assert "2 of 4; `rival`, % of alone, 98 : 70" in parts["losses"]
    assert "behind" not in parts["losses"]


def test_idle_comes_before_back_to_back_and_both_are_shown():
    """Of a name that is shown whole no workload is left out, and their order is the workloads'."""
    metric = Metric("ns", "p50", digits=1)
    found = run(
        *(
            Workload("P2", title, [metric], [Case("ours", ns(1), ours=True)], 1)
            for title in ("1 ms apart", "back to back")
        )
    )
    assert [one.workload for one in headlines.headlines(found)] == ["1 ms apart", "back to back"]


def test_a_reader_can_derive_the_ratios():
    """The figures of the rounds are in the file, and so is the commit that was measured."""
    found = published((10, 20, 40), (100, 100, 100))
    ours, theirs = found["workloads"][0]["rows"]
    ratios = sorted(b / a for a, b in zip(ours["each"], theirs["each"], strict=True))
    assert theirs["ratio"] == {"value": ratios[1], "min": ratios[0], "max": ratios[2]}
    assert "commit" in found["machine"]


def test_what_is_published_keeps_the_verdicts_that_it_replaces(tmp_path, monkeypatch):
    """A run takes the place of an earlier one of its part, and remembers what that one found."""
    pytest.importorskip("matplotlib")
    from benchmarks import render  # noqa: PLC0415  # draws

    monkeypatch.setattr(results, "PUBLISHED", tmp_path / "published.json")
    monkeypatch.setattr(render, "DOCS", tmp_path)
    monkeypatch.setattr(render, "README", tmp_path / "README.md")
    for page in ("README.md", "benchmarks.md"):
        (tmp_path / page).write_text("<!-- benchmarks:missed -->\n<!-- end -->\n")
    for day, ours in (("1", 30), ("2", 10)):
        one = published((ours,) * 3, (50, 50, 50))
        one["machine"]["date"] = day
        render.publish([one])
    (kept,) = results.read_all(results.PUBLISHED)
    row = kept["workloads"][0]["rows"][0]
    assert (row["met"], row["before"]) == (True, False)
    assert "verdict" not in row, "what is said of a figure is in no file"
    assert verdicts.NOT_SHARED in (tmp_path / "README.md").read_text()
    assert (tmp_path / "plots" / "headlines.svg").exists()


@pytest.mark.parametrize("document", ["README.md", "docs/benchmarks.md"])
def test_what_is_published_is_what_the_rules_say(document):
    """The tables of the documents are those of the published results, judged."""
    found = results.read_all(results.PUBLISHED)
    verdicts.judge(found)
    parts = markdown.sections(found)
    for match in markdown.MARKED.finditer((ROOT / document).read_text()):
        assert match["old"].strip() == parts[match["name"]].strip(), match["name"]


def test_plots_are_kept_once_and_all_of_them_are_shown():
    """No plot is in the repository that no page shows, and each that a page shows is there."""
    shown = set()
    for page in (ROOT / "README.md", ROOT / "docs" / "benchmarks.md"):
        for link in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page.read_text()):
            shown.add((page.parent / link).resolve())
    assert shown == set((ROOT / "docs" / "plots").iterdir())


@pytest.mark.parametrize("document", ["README.md", "docs/benchmarks.md"])
def test_every_marker_of_the_documents_is_known(document):
    """A part that is asked for is made."""
    parts = markdown.sections([published((1, 1, 1), (2, 2, 2))])
    names = [match["name"] for match in markdown.MARKED.finditer((ROOT / document).read_text())]
    assert names
    assert set(names) <= set(parts)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_workload_runs_and_is_drawn(tmp_path):
    """A small round of everything gives rows for each workload, tables and plots."""
    for command in (
        ["benchmarks", "--smoke", "--part", "module", "--save", tmp_path],
        ["benchmarks.render", tmp_path],
    ):
        done = run_command(sys.executable, "-m", *command, code=None, cwd=ROOT, timeout=290)
        # Without the core's results the second one says that they are missing.
        assert "Traceback" not in done.stderr, done.stderr
    (found,) = results.read_all(tmp_path)
    assert found["failed"] == {}
    assert all(one["rows"] for one in found["workloads"])
    assert (tmp_path / "benchmarks.md").read_text().count("\n#### ") == len(found["workloads"])
    for name in ("headlines", f"lateness-{results.python_minor(found)}"):
        assert (tmp_path / "plots" / f"{name}.svg").stat().st_size > 1_000
