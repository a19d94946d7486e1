"""Delays: never early, exact on the manual clock, of any length."""

import datetime as dt
import random
import threading
import time

import asynctask
import pytest
from asynctask import DelayTask, IntervalTask, IntervalWithDelayTask
from asynctask.testing import ManualClock

SECOND = 1_000_000_000  # in nanoseconds
DAY = 86_400


@pytest.mark.parametrize(
    "nanos",
    [
        1,
        1_000_000,
        5_000_000,
        5_000_001,
        999_999_999,
        SECOND,
        SECOND + 1,
        1_500_000_000,
        120 * SECOND - 1,
        120 * SECOND,
        120 * SECOND + 1,
        239 * SECOND,  # up to 119 s early in the ancestor
        DAY * SECOND - 1,
        DAY * SECOND,
        DAY * SECOND + 1,
        365 * DAY * SECOND,
        10 * 365 * DAY * SECOND,
    ],
)
@pytest.mark.parametrize("post", ["post_task", "post_delay_task"])
def test_a_delay_ends_at_its_deadline_and_not_before(timed, clock, post, nanos):
    """A task is pending until its deadline and over from then on, to the nanosecond."""
    seconds = nanos / SECOND
    delay = DelayTask(seconds) if post == "post_task" else seconds
    task = getattr(timed, post)(int, delay)
    clock.advance(dt.timedelta(microseconds=(nanos - 1) // 1000))
    clock.advance((nanos - 1) % 1000 / SECOND)
    assert not task.done()
    clock.advance(1 / SECOND)
    assert task.result(0) == 0


@pytest.mark.parametrize("days", [0, 1, 400])
def test_a_delay_may_be_a_timedelta(timed, clock, days):
    """`timedelta` is as good as seconds."""
    delay = dt.timedelta(days=days, seconds=1, microseconds=1)
    task = timed.post_task(int, DelayTask(delay))
    clock.advance(delay - dt.timedelta(microseconds=1))
    assert not task.done()
    clock.advance(dt.timedelta(microseconds=1))
    assert task.done()


@pytest.mark.parametrize("delay", [0.3, 1.1, 0.1 + 0.2, 1 / 3, 2 / 3, 123.456789012])
def test_a_delay_is_as_long_as_the_same_duration_of_the_clock(timed, clock, delay):
    """A float becomes the same number of nanoseconds for a delay and for the clock."""
    task = timed.post_task(int, DelayTask(delay))
    clock.advance(delay)
    assert task.done()


def test_fractions_of_a_nanosecond_are_rounded_up(timed, clock):
    """A delay is never shorter than what was asked for."""
    task = timed.post_task(int, DelayTask(0.1e-9))
    clock.advance(0)
    assert not task.done()
    clock.advance(1e-9)
    assert task.done()


def test_many_delays_run_in_the_order_of_their_deadlines(make_pool, clock):
    """Tasks become due in the order of their deadlines, whatever the order of posting."""
    pool = make_pool(1, clock=clock)
    choose = random.Random(7)  # noqa: S311
    delays = [choose.choice([0.003, 0.7, 50, 5_000, 100_000]) * choose.random() for _ in range(500)]
    ran = []
    for delay in delays:
        pool.post_task(
            lambda delay: ran.append((delay, clock.now())), DelayTask(delay), args=(delay,)
        )
    clock.advance(100_000)
    assert [delay for delay, _ in ran] == sorted(delays)
    assert all(0 <= now - delay < 1e-6 for delay, now in ran)


def test_a_delay_of_nothing_runs_now(pool):
    """A delay of 0 is no delay."""
    assert pool.post_task(lambda: 5, DelayTask(0)).result(20) == 5
    assert pool.post_delay_task(lambda: 5, dt.timedelta()).result(20) == 5


def test_a_delay_of_nothing_does_not_need_the_clock_to_move(timed):
    """A delay of 0 is due at once, even if time stands still."""
    assert timed.post_task(lambda: 5, DelayTask(0)).result(20) == 5
    assert timed.post_delay_task(lambda: 5, 0).result(20) == 5


@pytest.mark.parametrize("delay", [0.001, 0.004, 0.005, 0.02, 0.1])
def test_no_delay_is_early_really(pool, delay):
    """On the real clock a delay is never early."""
    posted, tasks = [], []
    for _ in range(10):
        posted.append(time.monotonic())
        tasks.append(pool.post_task(time.monotonic, DelayTask(delay)))
    late = [task.result(20) - at - delay for task, at in zip(tasks, posted, strict=True)]
    assert min(late) >= 0, late


def test_an_earlier_delay_overtakes_a_later_one(pool):
    """The timer thread is woken by a deadline before the one it sleeps for."""
    later = pool.post_task(int, DelayTask(1000))
    assert pool.post_task(lambda: "first", DelayTask(0.005)).result(20) == "first"
    assert not later.done()


def test_a_long_delay_holds_nothing_up(pool):
    """A century is a delay, and cancelling it takes it off the wheel."""
    task = pool.post_task(int, DelayTask(100 * 365.25 * DAY))
    assert pool.stats().pending_timers == 1
    assert task.cancel()
    assert pool.stats().pending_timers == 0


@pytest.mark.parametrize("tiers", [((0.001, 10),), ((0.5, 2), (1, 60), (60, 60)), [(3600, 24)]])
def test_custom_tiers_keep_exact_deadlines(make_pool, clock, tiers):
    """The tiers bound the work, not the accuracy."""
    pool = make_pool(1, clock=clock, tiers=tiers)
    delays = [0.000_7, 0.01, 0.75, 59.5, 3601, 90_000]
    tasks = [pool.post_task(clock.now, DelayTask(delay)) for delay in delays]
    clock.advance(100_000)
    assert [task.result(0) for task in tasks] == delays


@pytest.mark.parametrize("delay", [0.5, 5, 500, 50_000, 5_000_000])
def test_reschedule_moves_a_delay(timed, clock, delay):
    """A new delay counts from the call, be it longer or shorter."""
    longer = timed.post_task(clock.now, DelayTask(1))
    shorter = timed.post_task(clock.now, DelayTask(9_000_000))
    clock.advance(0.25)
    assert longer.reschedule(delay) is True
    assert shorter.reschedule(delay) is True
    clock.advance(delay)
    assert longer.result(0) == shorter.result(0) == 0.25 + delay
    assert timed.stats().submitted == 2


def test_reschedule_again_and_again_keeps_a_session_alive(timed, clock):
    """An idle timeout that traffic moves fires once, after the traffic has ended."""
    expired = []
    task = timed.post_task(lambda: expired.append(clock.now()), DelayTask(30))
    for _ in range(1000):
        clock.advance(29)
        assert task.reschedule(30)
    assert expired == []
    clock.advance(30)
    assert expired == [29_030]
    assert not task.reschedule(30)


def test_reschedule_says_when_it_is_too_late(make_pool, clock, gate):
    """A task that runs, is queued, is over or was cancelled cannot be moved."""
    pool = make_pool(1, clock=clock)
    running = pool.post_task(gate, DelayTask(1))
    queued = pool.post_task(int, DelayTask(1))
    cancelled = pool.post_task(int, DelayTask(1))
    cancelled.cancel()
    clock.jump(1)
    gate.wait()
    assert running.reschedule(5) is False
    assert queued.reschedule(5) is False
    assert cancelled.reschedule(5) is False
    gate.open()
    assert queued.result(20) == 0
    assert running.reschedule(5) is False
    assert pool.submit(int).reschedule(5) is False


def test_reschedule_really(pool):
    """On the real clock a moved task is not early either."""
    task = pool.post_task(time.monotonic, DelayTask(1000))
    moved = time.monotonic()
    assert task.reschedule(0.01)
    assert task.result(20) - moved >= 0.01


def test_reschedule_to_nothing_runs_now(timed, clock):
    """A delay of 0 makes a waiting task due."""
    task = timed.post_task(lambda: 5, DelayTask(1000))
    assert task.reschedule(0)
    assert task.result(20) == 5


def test_a_jump_of_the_clock_runs_everything_once(make_pool, clock):
    """After a jump, such as a suspend, what was due runs, in order and once."""
    pool = make_pool(1, clock=clock)
    ran = []
    tasks = [pool.post_task(ran.append, DelayTask(n), args=(n,)) for n in range(1, 101)]
    clock.jump(1000)
    for task in tasks:
        task.result(20)
    assert ran == list(range(1, 101))


@pytest.mark.parametrize("count", [10_000])
def test_many_due_at_once_all_run(timed, clock, count):
    """A crowd that is due in the same instant runs to the last."""
    ran = []
    for n in range(count):
        timed.post_task(ran.append, DelayTask(60), args=(n,))
    clock.advance(60)
    assert sorted(ran) == list(range(count))


def test_after_is_over_when_its_time_has_passed(timed, clock):
    """`after` is a task without a callback: None, once the time has passed."""
    task = timed.after(2)
    clock.advance(1.999)
    assert not task.done()
    clock.advance(0.001)
    assert task.result(0) is None
    assert (task.called_times(), task.finished()) == (1, True)
    assert timed.stats().idle_workers == 0  # no worker was made for it
    assert timed.stats().successful == 1


def test_after_calls_done_callbacks(timed, clock):
    """Who is to be told of the end of `after` is told."""
    told = []
    task = timed.after(2)
    task.add_done_callback(told.append)
    clock.advance(2)
    assert told == [task]


def test_after_tells_its_watchers_while_every_worker_is_busy(make_pool, gate, clock):
    """Even with a done-callback `after` is over on time, whatever the workers do."""
    pool = make_pool(1, clock=clock)
    gate.hold(pool)
    task = pool.after(2)
    told = threading.Event()
    task.add_done_callback(lambda _: told.set())
    clock.jump(2)
    assert told.wait(20)


def test_after_can_be_cancelled_and_moved(timed, clock):
    """`after` is a task like any other."""
    cancelled, moved = timed.after(1), timed.after(1)
    assert cancelled.cancel()
    assert moved.reschedule(5)
    clock.advance(4)
    assert (cancelled.cancelled(), moved.done()) == (True, False)
    clock.advance(1)
    assert moved.done()


@pytest.mark.usefixtures("default_pool")
@pytest.mark.parametrize("delay", [0.01, dt.timedelta(milliseconds=10)], ids=str)
def test_after_and_sleep_are_not_early_really(delay):
    """`after` and `sleep` of the module last at least as long as they say."""
    began = time.monotonic()
    asynctask.after(delay).result(20)
    assert time.monotonic() - began >= 0.01
    began = time.monotonic()
    assert asynctask.sleep(delay) is None
    assert time.monotonic() - began >= 0.01


def test_sleep_of_nothing_returns():
    """`sleep(0)` returns."""
    assert asynctask.sleep(0) is None


def test_sleep_lets_other_threads_run(pool, until):
    """`sleep` does not hold the GIL."""
    over = threading.Event()
    ticks = []

    def tick():
        while not over.wait(0.001):
            ticks.append(None)

    task = pool.submit(tick)
    until(lambda: ticks)
    before = len(ticks)
    asynctask.sleep(0.2)
    assert len(ticks) > before
    over.set()
    task.result(20)


def test_the_clock_says_what_time_it_is():
    """A manual clock starts at 0 and is moved by hand only."""
    clock = ManualClock()
    assert clock.now() == 0
    clock.advance(1.5)
    clock.jump(dt.timedelta(seconds=1))
    assert clock.now() == 2.5
    assert repr(clock) == "<ManualClock at 2.5 s>"


def test_the_clock_says_when_a_run_does_not_end(make_pool, clock, gate):
    """`advance` gives up after its patience, and says where it stood."""
    pool = make_pool(1, clock=clock)
    pool.post_task(gate, DelayTask(3))
    with pytest.raises(TimeoutError, match="3 s"):
        clock.advance(5, patience=0.5)
    gate.open()
    clock.advance(2)


def test_one_clock_serves_two_pools(make_pool, clock):
    """A clock moves every pool that was given to it."""
    tasks = [make_pool(1, clock=clock).post_task(int, DelayTask(1)) for _ in range(2)]
    clock.advance(1)
    assert all(task.done() for task in tasks)


PASSED = [-1, -1e-9, -1e300, -(10**400), -0.0, dt.timedelta(microseconds=-1), dt.timedelta.min]


@pytest.mark.parametrize("late", PASSED, ids=lambda value: str(value)[:12])
def test_a_delay_that_has_passed_is_none(timed, clock, late):
    """A delay that was computed a moment late is negative, and its task runs now."""
    moved = timed.post_task(int, DelayTask(900))
    series = timed.post_task(int, IntervalWithDelayTask(late, 900))
    tasks = [
        timed.post_task(int, DelayTask(late)),
        timed.post_delay_task(int, late),
        timed.after(late),
        timed.post_task(int, DelayTask(late) + IntervalTask(1, max_runs=1)),
    ]
    assert moved.reschedule(late)
    clock.advance(0)
    assert [task.result(20) for task in tasks] == [0, 0, None, 0]
    assert moved.result(20) == 0
    assert series.called_times() == 1
    asynctask.sleep(late)
    assert DelayTask(late) == DelayTask(0)
    assert DelayTask(late).delay is late
