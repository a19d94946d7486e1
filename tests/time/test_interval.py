"""Series: their ticks, what becomes of lost ones, and how they end."""

import datetime as dt
import logging
import statistics
import threading
import time

import asynctask
import pytest
from asynctask import CancelledError, DelayTask, IntervalTask, IntervalWithDelayTask
from helpers.threads import start


@pytest.fixture
def one(make_pool, clock):
    """Give a pool of one worker on the manual clock."""
    return make_pool(1, clock=clock)


@pytest.fixture
def record(clock):
    """Give a callback that notes when it runs."""

    def run():
        run.times.append(round(clock.now(), 9))

    run.times = []
    return run


@pytest.fixture
def slow(clock):
    """Make a callback whose runs take time on the manual clock, one length after the other."""

    def make(*lengths):
        def run():
            run.times.append(round(clock.now(), 9))
            length = lengths[min(len(run.times), len(lengths)) - 1]
            if length:
                clock.jump(length)  # what would have passed meanwhile

        run.times = []
        return run

    return make


def lost(pool):
    """Give the runs that were skipped and those that were missed."""
    stats = pool.stats()
    return stats.skipped_runs, stats.missed_runs


# When.


@pytest.mark.parametrize(
    "interval", [0.001, 0.005, 0.0125, 1, 1.5, 119, 150, 86_400, 100_000, dt.timedelta(hours=36)]
)
def test_the_first_run_comes_after_one_interval(one, clock, record, interval):
    """An interval runs after one period, and then after each."""
    one.post_task(record, IntervalTask(interval))
    seconds = interval / dt.timedelta(seconds=1) if isinstance(interval, dt.timedelta) else interval
    clock.advance(interval)
    assert record.times == [round(seconds, 9)]
    clock.advance(9 * seconds)
    assert record.times == [round(n * seconds, 9) for n in range(1, 11)]


@pytest.mark.parametrize("delay", [0, 0.5, 1, 7, 500])
@pytest.mark.parametrize("how", ["one", "two", "sum"])
def test_a_start_delay_replaces_the_first_interval(one, clock, record, how, delay):
    """With a delay the first run comes after it, and the others one interval apart."""
    options = {
        "one": [IntervalWithDelayTask(delay, 2)],
        "two": [IntervalTask(2), DelayTask(delay)],
        "sum": [DelayTask(delay) + IntervalTask(2)],
    }[how]
    one.post_task(record, *options)
    clock.advance(delay + 6)
    assert record.times == [delay, delay + 2, delay + 4, delay + 6]


def test_fixed_rate_never_drifts(one, clock, record):
    """After 10,000 runs the phase is that of the first, to the nanosecond."""
    one.post_task(record, IntervalTask(0.01))
    clock.advance(100)
    assert record.times == [round(n * 0.01, 9) for n in range(1, 10_001)]


def test_a_third_of_a_second_adds_up(one, clock, record):
    """A period that is no whole number of nanoseconds is rounded once, and up."""
    one.post_task(record, IntervalTask(1 / 3))
    clock.advance(0.333_333_334 * 3_000)
    assert len(record.times) == 3_000
    assert record.times[-1] == round(0.333_333_334 * 3_000, 9)


def test_slow_runs_do_not_shift_the_phase(one, clock, slow):
    """At a fixed rate a run that takes less than a period changes nothing for the next."""
    run = slow(0.9, 0.1, 0.5)
    one.post_task(run, IntervalTask(1))
    for _ in range(5):
        clock.advance(1)
    assert [int(at) for at in run.times] == run.times
    assert lost(one) == (0, 0)


def test_fixed_delay_counts_from_the_end_of_a_run(one, clock, slow):
    """With a fixed delay there is one interval between the end of a run and the next."""
    run = slow(0.25, 5, 0)
    one.post_task(run, IntervalTask(1, timing="fixed_delay"))
    clock.advance(1)
    assert (run.times, clock.now()) == ([1], 1.25)
    clock.advance(1)
    assert (run.times, clock.now()) == ([1, 2.25], 7.25)
    clock.advance(0.999)
    assert len(run.times) == 2
    clock.advance(2.001)
    assert run.times == [1, 2.25, 8.25, 9.25, 10.25]
    assert lost(one) == (0, 0)


# What becomes of ticks that find the previous run still going.


def test_an_overlapped_tick_is_skipped_and_counted(one, clock, slow):
    """Ticks during a run are skipped, counted, and the phase stays."""
    run = slow(3.5, 0)
    one.post_task(run, IntervalTask(1))
    clock.advance(1)
    assert clock.now() == 4.5
    clock.advance(1.5)
    assert run.times == [1, 5, 6]
    assert lost(one) == (3, 0)  # 2, 3 and 4


def test_an_overlapped_tick_is_queued_once(one, clock, slow):
    """With `overlap="queue"` one run follows at once, however many ticks went by."""
    run = slow(3.5, 0)
    one.post_task(run, IntervalTask(1, overlap="queue"))
    clock.advance(1)
    clock.advance(1.5)
    assert run.times == [1, 4.5, 5, 6]
    assert lost(one) == (2, 0)


def test_runs_of_one_series_never_overlap(make_pool, gate):
    """However many workers there are, a series runs on one of them at a time."""
    pool = make_pool(4)
    inside = []

    def run():
        inside.append(None)
        assert len(inside) == 1
        gate.started.set()
        gate.opened.wait(0.02)
        inside.pop()

    series = pool.post_task(run, IntervalTask(0.001), name="alone")
    series.wait_for_finished_count(5, 20)
    assert pool.stats().running_workers <= 1
    series.stop_and_wait(20)
    assert pool.stats().skipped_runs > 0
    assert inside == []


# What becomes of periods that went by before a run could start.


def test_missed_periods_are_skipped_and_counted(one, clock, record):
    """After a stall one run makes up for all, the rest is counted, and the phase stays."""
    series = one.post_task(record, IntervalTask(1))
    clock.jump(4.5)
    series.wait_for_finished_count(1, 20)
    clock.advance(1.5)
    assert record.times == [4.5, 5, 6]
    assert lost(one) == (0, 3)


def test_missed_periods_are_caught_up_one_by_one(one, clock, record):
    """With `missed="catch_up"` each period that went by gets its run."""
    series = one.post_task(record, IntervalTask(1, missed="catch_up"))
    clock.jump(4.5)
    series.wait_for_finished_count(4, 20)
    clock.advance(1.5)
    assert record.times == [4.5, 4.5, 4.5, 4.5, 5, 6]
    assert lost(one) == (0, 0)


def test_a_busy_pool_makes_a_series_miss_ticks(one, clock, record, gate):
    """Ticks that go by while no worker is free are missed, not skipped."""
    gate.hold(one)
    series = one.post_task(record, IntervalTask(1))
    clock.jump(1)
    clock.jump(2.5)
    gate.open()
    series.wait_for_finished_count(1, 20)
    clock.advance(0.5)
    assert record.times == [3.5, 4]
    assert lost(one) == (0, 2)


def test_fixed_delay_misses_nothing(one, clock, record):
    """With a fixed delay there are no ticks to be missed."""
    series = one.post_task(record, IntervalTask(1, timing="fixed_delay"))
    clock.jump(4.5)
    series.wait_for_finished_count(1, 20)
    clock.advance(2)
    assert record.times == [4.5, 5.5, 6.5]
    assert lost(one) == (0, 0)


@pytest.mark.parametrize("missed", ["skip", "catch_up"])
@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_every_tick_is_run_or_counted(one, clock, slow, missed, overlap):
    """Whatever is slow and late, runs and losses add up to the ticks that have passed."""
    run = slow(0, 0.4, 1.3, 2.6, 0, 0.2, 3.7, 0, 0.9, 0)
    series = one.post_task(run, IntervalTask(1, missed=missed, overlap=overlap))
    for length in (0.5, 3.25, 1, 7.75, 0.25, 2, 5, 1.5):
        clock.jump(length)
        clock.advance(0)
    clock.advance(30)
    skipped, missed_runs = lost(one)
    assert series.called_times() == len(run.times)
    assert len(run.times) + skipped + missed_runs == int(clock.now())


@pytest.mark.parametrize("ends", [(None, 7), (None, 20), (3, None), (3, 20), (3, 7)])
@pytest.mark.parametrize("missed", ["skip", "catch_up"])
@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_every_tick_of_a_stall_is_accounted_for(one, clock, slow, overlap, missed, ends):  # noqa: PLR0917 - the table's columns
    """However a series ends, the ticks that were due are its runs and its losses."""
    run = slow(0, 2.5, 0)
    max_runs, until = ends
    options = {"overlap": overlap, "missed": missed, "max_runs": max_runs, "until": until}
    series = one.post_task(run, IntervalTask(1, **options))
    clock.jump(12.25)  # a stall: eleven whole periods late
    series.wait_for_finished_count(1, 20)
    clock.advance(30)
    runs, (skipped, missed_runs) = len(run.times), lost(one)
    ended = run.times[-1] if series.done() and max_runs else clock.now()
    if series.done() and max_runs and runs == 2:
        ended += 2.5
    assert runs + skipped + missed_runs == int(min(ended, until or ended))
    if missed == "catch_up" and max_runs is None:
        assert missed_runs == 0


def test_what_a_hung_run_costs_is_counted_while_it_hangs(one, clock, gate, record):
    """The losses of a run that hangs, and of those that wait behind it, need no end of it."""
    hung = one.post_task(gate, IntervalTask(1))
    clock.jump(1)
    gate.wait()
    clock.jump(10)
    assert lost(one) == (10, 0)
    starved = one.post_task(record, IntervalTask(1))
    clock.jump(10)
    assert lost(one) == (20, 9)
    gate.open()
    clock.advance(0)
    assert lost(one) == (20, 9)
    assert hung.called_times() + starved.called_times() == 2


# Jitter.


def test_jitter_makes_runs_late_and_never_accumulates(one, clock, record):
    """Each run comes up to the jitter after its own tick, evenly spread, and never before."""
    one.post_task(record, IntervalTask(1, jitter=0.5))
    clock.advance(1000.5)
    assert len(record.times) == 1000
    shifts = [at - tick for tick, at in enumerate(record.times, 1)]
    assert all(0 <= shift <= 0.5 for shift in shifts)
    # Of 1000 even draws: 12 standard deviations around the mean.
    assert abs(statistics.mean(shifts) - 0.25) < 0.055
    assert len(set(shifts)) > 900


def test_jitter_applies_to_the_first_run_and_to_fixed_delays(one, clock, record):
    """Jitter is added to each deadline, whatever it is counted from."""
    tasks = [one.post_task(record, IntervalWithDelayTask(5, 1, jitter=1)) for _ in range(50)]
    clock.advance(6)
    firsts = record.times[:50]
    assert all(5 <= at <= 6 for at in firsts)
    assert len(set(firsts)) > 10
    for task in tasks:
        task.stop()
    record.times.clear()
    start = clock.now()
    one.post_task(record, IntervalTask(1, jitter=0.5, timing="fixed_delay"))
    clock.advance(100)
    gaps = [b - a for a, b in zip([start, *record.times], record.times, strict=False)]
    assert all(1 <= round(gap, 6) <= 1.5 for gap in gaps)


def test_jitter_of_a_whole_interval_keeps_the_order(one, clock, record):
    """Jitter as long as the interval is allowed, and no tick is lost by it."""
    one.post_task(record, IntervalTask(1, jitter=1))
    clock.advance(201)
    assert record.times == sorted(record.times)
    skipped, missed = lost(one)
    assert 200 <= len(record.times) + skipped + missed <= 201


# How a series ends.


@pytest.mark.parametrize("runs", [1, 2, 7])
def test_max_runs_ends_a_series(one, clock, runs):
    """A series with `max_runs` is over after so many, and its result is the last one's."""
    results = iter(range(1, 100))
    series = one.post_task(lambda: next(results), IntervalTask(1, max_runs=runs))
    clock.advance(runs - 0.5)
    assert not series.done()
    clock.advance(100)
    assert series.result(0) == runs
    assert series.called_times() == runs
    assert not series.cancelled()
    stats = one.stats()
    assert (stats.submitted, stats.successful, stats.pending_timers) == (1, 1, 0)


def test_until_a_duration_ends_a_series(one, clock, record):
    """No run has a deadline later than `until`, counted from posting; one at it has its run."""
    clock.advance(100)
    series = one.post_task(record, IntervalTask(1, until=3))
    clock.advance(10)
    assert record.times == [101, 102, 103]
    assert series.done()
    assert series.result(0) is None
    record.times.clear()
    one.post_task(record, IntervalTask(1, until=dt.timedelta(seconds=2.999)))
    clock.advance(10)
    assert record.times == [111, 112]


NOON = dt.datetime(2030, 6, 1, 12, tzinfo=dt.UTC)


def test_until_an_instant_ends_a_series(one, clock, record):
    """`until` an aware datetime ends the series at that time of the pool's wall clock."""
    clock.set_wall(NOON)
    end = (NOON + dt.timedelta(hours=2)).astimezone(dt.timezone(dt.timedelta(hours=5)))
    series = one.post_task(record, IntervalTask(600, until=end))
    clock.advance(24 * 3600)
    assert len(record.times) == 12
    assert series.done()
    with pytest.raises(ValueError, match="until is in the past, by 79200"):
        one.post_task(record, IntervalTask(600, until=end))


def test_until_an_instant_follows_the_wall_clock_when_it_is_set_back(one, clock, record):
    """A wall clock that is set back an hour makes the series an hour longer."""
    clock.set_wall(NOON)
    series = one.post_task(record, IntervalTask(600, until=NOON + dt.timedelta(hours=1)))
    clock.advance(3000)
    clock.set_wall(NOON - dt.timedelta(seconds=600))
    clock.advance(24 * 3600)
    assert len(record.times) == 12
    assert series.done()


def test_until_an_instant_follows_the_wall_clock_when_it_is_set_forward(one, clock, record):
    """A wall clock that is set past the end ends the series without another run, and at once."""
    clock.set_wall(NOON)
    series = one.post_task(record, IntervalTask(600, until=NOON + dt.timedelta(hours=1)))
    ticker = asynctask.Ticker(600, until=NOON + dt.timedelta(hours=1), pool=one)
    clock.advance(1200)
    assert next(ticker) == 2
    clock.set_wall(NOON + dt.timedelta(hours=2))
    assert series.result(20) is None
    assert list(ticker) == []
    clock.advance(24 * 3600)
    assert record.times == [600, 1200]
    assert lost(one) == (0, 0)
    assert one.stats().successful == 2


def test_until_an_instant_really(pool):
    """`until` is compared with the machine's wall clock, and ends the series by itself."""
    end = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.5)
    late = []
    series = pool.post_task(
        lambda: late.append(dt.datetime.now(dt.UTC)), IntervalTask(0.01, until=end)
    )
    assert series.result(20) is None
    assert 1 <= series.called_times() <= 50


def test_until_is_not_measured_by_a_clock_that_somebody_froze(one, clock, record, monkeypatch):
    """Only the pool's own clock counts, whatever a frozen-time library makes of `datetime`."""
    clock.set_wall(NOON)

    class Frozen(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2036, 1, 1, tzinfo=tz)

    monkeypatch.setattr(dt, "datetime", Frozen)
    monkeypatch.setattr("time.time", lambda: 2e9)
    series = one.post_task(record, IntervalTask(60, until=NOON + dt.timedelta(seconds=330)))
    clock.advance(3600)
    assert (series.called_times(), series.done()) == (5, True)


def test_whatever_comes_first_ends_a_series(one, clock):
    """`max_runs` and `until` together end a series when the first of them says so."""
    runs = one.post_task(int, IntervalTask(1, max_runs=2, until=100))
    time_ = one.post_task(int, IntervalTask(1, max_runs=100, until=3))
    clock.advance(1000)
    assert (runs.called_times(), time_.called_times()) == (2, 3)


def test_a_failing_run_does_not_end_a_series(one, clock, caplog):
    """By default a series goes on, whatever its runs raise, and logs each of them."""
    outcomes = [ValueError("first"), None, ValueError("third"), None]

    def run():
        outcome = outcomes.pop(0)
        if outcome:
            raise outcome
        return len(outcomes)

    series = one.post_task(run, IntervalTask(1, max_runs=4), name="shaky")
    clock.advance(10)
    assert series.result(0) == 0
    assert series.exception(0) is None
    records = [r for r in caplog.records if r.name == "asynctask"]
    assert [str(r.exc_info[1]) for r in records] == ["first", "third"]
    assert all("shaky" in r.getMessage() and r.levelno == logging.ERROR for r in records)


def test_on_error_stop_ends_a_series(one, clock, caplog):
    """With `on_error="stop"` the first failure is the last run, and the handle has it."""
    error = ValueError("enough")
    runs = []

    def run():
        runs.append(None)
        if len(runs) == 3:
            raise error

    series = one.post_task(run, IntervalTask(1, on_error="stop"), name="strict")
    clock.advance(100)
    assert series.exception(0) is error
    assert series.called_times() == 3
    assert one.stats().failed == 1
    assert [r.exc_info[1] for r in caplog.records] == [error]


def test_a_series_whose_last_run_fails_has_failed(one, clock):
    """A series that had all its runs has the outcome of the last."""

    def run():
        raise ValueError("last")

    series = one.post_task(run, IntervalTask(1, max_runs=2))
    clock.advance(100)
    with pytest.raises(ValueError, match="last"):
        series.result(0)
    assert series.called_times() == 2


@pytest.mark.parametrize("method", ["stop", "cancel", "stop_and_wait"])
def test_a_stopped_series_is_cancelled(one, clock, record, method):
    """Between two runs a series ends at once, and its result is `CancelledError`."""
    series = one.post_task(record, IntervalTask(1))
    clock.advance(2)
    getattr(series, method)()
    assert series.done()
    assert series.cancelled()
    clock.advance(100)
    assert len(record.times) == series.called_times() == 2
    for ask in (series.result, series.exception):
        with pytest.raises(CancelledError):
            ask(0)
    stats = one.stats()
    assert (stats.cancelled, stats.successful, stats.pending_timers) == (1, 0, 0)


@pytest.mark.parametrize("method", ["stop", "cancel"])
def test_a_series_stopped_in_a_run_ends_with_it(one, clock, gate, method):
    """During a run a series ends with that run, which is counted."""
    series = one.post_task(gate, IntervalTask(1))
    clock.jump(1)
    gate.wait()
    assert getattr(series, method)() in (None, True)
    assert not series.done()
    assert series.is_running()
    gate.open()
    with pytest.raises(CancelledError):
        series.result(20)
    assert series.called_times() == 1
    clock.advance(100)
    assert series.called_times() == 1


def test_cancel_tells_the_running_run_and_stop_does_not(make_pool, make_gate, clock):
    """`check_cancelled` in a series' run reacts to `cancel`, and not to `stop`."""
    pool = make_pool(2, clock=clock)
    seen = {}

    def run(name, gate):
        gate()
        try:
            asynctask.check_cancelled()
            seen[name] = False
        except CancelledError:
            seen[name] = True
            raise

    gates = {name: make_gate() for name in ("cancel", "stop")}
    tasks = {
        name: pool.post_task(run, IntervalTask(1), args=(name, gate))
        for name, gate in gates.items()
    }
    clock.jump(1)
    for name, gate in gates.items():
        gate.wait()
        getattr(tasks[name], name)()
        gate.open()
    for task in tasks.values():
        with pytest.raises(CancelledError):
            task.result(20)
    assert seen == {"cancel": True, "stop": False}


def test_a_series_is_pending_between_its_runs(one, clock, gate):
    """A series is not done, and not running, between two runs."""
    series = one.post_task(gate, IntervalTask(1))
    assert not series.running()
    assert not series.done()
    assert not series.finished()
    clock.jump(1)
    gate.wait()
    assert series.running()
    assert series.is_running()
    assert series.called_times() == 0  # runs that have ended
    gate.open()
    series.wait_for_finished(20)
    clock.advance(0)
    assert not series.running()
    assert not series.done()
    assert series.finished()
    assert series.called_times() == 1


def test_waiting_for_a_number_of_runs(one, clock):
    """`wait_for_finished_count` returns once so many runs have ended."""
    series = one.post_task(int, IntervalTask(1))
    for count in (1, 2, 3):
        with pytest.raises(TimeoutError):
            series.wait_for_finished_count(count, 0)
        clock.advance(1)
        series.wait_for_finished_count(count, 0)
        series.wait_for_finished_count(1, 0)


@pytest.mark.parametrize("count", [0, -1, -(10**6)])
def test_a_count_below_one_counts_as_one(one, clock, count):
    """Waiting for no run is waiting for the first."""
    series = one.post_task(int, IntervalTask(1))
    with pytest.raises(TimeoutError):
        series.wait_for_finished_count(count, 0)
    clock.advance(1)
    series.wait_for_finished_count(count, 0)


def test_the_count_reached_beats_cancelled(one, clock):
    """A wait whose runs have ended succeeds, even if the series was stopped since."""
    series = one.post_task(int, IntervalTask(1))
    clock.advance(2)
    series.stop()
    series.wait_for_finished_count(2, 0)
    series.wait_for_finished(0)
    with pytest.raises(CancelledError):
        series.wait_for_finished_count(3, 0)


def test_a_wait_for_runs_that_will_never_come_says_so(one, clock):
    """A series that is over with fewer runs ends the wait at once."""
    series = one.post_task(int, IntervalTask(1, max_runs=2))
    clock.advance(10)
    with pytest.raises(CancelledError, match="2 runs"):
        series.wait_for_finished_count(3, 20)


@pytest.mark.parametrize("count", [2**63, 2**64, 2**100])
def test_a_count_that_nobody_reaches_is_not_reached(one, clock, count):
    """However large the number, a wait for so many runs goes on."""
    series = one.post_task(int, IntervalTask(1))
    clock.advance(3)
    with pytest.raises(TimeoutError):
        series.wait_for_finished_count(count, 0)


def test_a_stop_ends_a_wait_for_more_runs(one, clock, until):
    """Who waits for a run that will not come is woken by the stop."""
    series = one.post_task(int, IntervalTask(1000))
    caught = []
    waiting = threading.Event()

    def wait():
        waiting.set()
        try:
            series.wait_for_finished_count(5, 20)
        except CancelledError as error:
            caught.append(error)

    thread = start(wait)
    assert waiting.wait(20)
    series.stop()
    thread.join(20)
    assert len(caught) == 1


def test_stop_and_wait_waits_for_the_current_run(one, clock, gate):
    """`stop_and_wait` returns after the run that is going; `TimeoutError` if that takes longer."""
    series = one.post_task(gate, IntervalTask(1))
    clock.jump(1)
    gate.wait()
    with pytest.raises(TimeoutError):
        series.stop_and_wait(0.01)
    gate.open()
    series.stop_and_wait(20)
    assert series.called_times() == 1
    assert series.done()


def test_reschedule_lays_the_ticks_anew(one, clock, record):
    """A series goes on from its new deadline, one interval apart."""
    series = one.post_task(record, IntervalTask(10))
    clock.advance(10)
    assert series.reschedule(3)
    clock.advance(23)
    assert record.times == [10, 13, 23, 33]
    assert not one.stats().missed_runs


def test_reschedule_during_a_run_is_heeded_when_it_ends(one, clock, gate):
    """The next deadline of a series may be moved while it runs, by its own callback too."""
    series = one.post_task(gate, IntervalTask(10))
    clock.jump(10)
    gate.wait()
    assert series.reschedule(3)
    gate.open()
    series.wait_for_finished(20)
    clock.advance(2.999)
    assert series.called_times() == 1
    clock.advance(0.001)
    assert series.called_times() == 2
    clock.advance(10)
    assert series.called_times() == 3


def test_a_run_may_choose_the_next_one(one, clock):
    """A series that reschedules itself backs off as it likes."""
    times = []

    def run():
        times.append(clock.now())
        assert asynctask.current_task().reschedule(2 ** len(times))

    one.post_task(run, IntervalTask(1))
    clock.advance(63)
    assert times == [1, 3, 7, 15, 31, 63]


def test_many_series_keep_their_ticks(timed, clock):
    """A thousand series of different periods run as often as their periods ask."""
    series = [timed.post_task(int, IntervalTask(0.01 * n)) for n in range(1, 1001)]
    clock.advance(20)
    assert [task.called_times() for task in series] == [2000 // n for n in range(1, 1001)]
    assert lost(timed) == (0, 0)


def test_no_run_is_early_really(pool):
    """On the real clock no run of a series comes before its tick."""
    times = []
    posted = time.monotonic()
    series = pool.post_task(lambda: times.append(time.monotonic()), IntervalTask(0.01))
    series.wait_for_finished_count(20, 20)
    series.stop_and_wait(20)
    assert all(at - posted >= n * 0.01 for n, at in enumerate(times, 1))


def test_a_slow_run_really_skips(pool):
    """On the real clock, too, what a slow run overlaps is skipped and counted."""
    series = pool.post_task(lambda: time.sleep(0.01), IntervalTask(0.002, max_runs=5))
    assert series.result(20) is None
    stats = pool.stats()
    assert stats.skipped_runs >= 4 * 3
