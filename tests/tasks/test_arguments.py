"""Bad input is refused at the call, by its name and value, and nothing was posted."""

import asyncio
import contextvars
import datetime as dt
import math
import re
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from threading import TIMEOUT_MAX

import asynctask
import pytest
from asynctask import AsyncTaskPool, DelayTask, IntervalTask, IntervalWithDelayTask, TaskGroup
from asynctask.testing import ManualClock, reset_default_pool


@pytest.fixture
def waiting(timed):
    """Give a task that waits on the manual clock."""
    return timed.post_task(print, DelayTask(1000))


@pytest.fixture(autouse=True)
def nothing_posted(timed, waiting, default_pool):
    """Check after each test that nothing was posted but `waiting`."""
    before = timed.stats()
    yield
    assert timed.stats() == before
    assert asynctask.get_async_task().stats().submitted == 0


class Scalar:
    """What numpy's scalars are to who asks: a number, of a kind that its dtype tells."""

    def __init__(self, kind):
        self.dtype = types.SimpleNamespace(kind=kind)

    def __float__(self):
        return 1.0

    def __index__(self):
        return 1

    def __repr__(self):
        return f"Scalar({self.dtype.kind!r})"


try:
    import numpy as np
except ImportError:  # the group `test` of pyproject.toml has it; a Python may be too new for it
    NUMPY = [Scalar(kind) for kind in "bmMcUSO"]
else:
    UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")
    NUMPY = [np.timedelta64(1, unit) for unit in UNITS]
    NUMPY += [np.timedelta64("NaT", "s"), np.datetime64(1, "s")]
    NUMPY += [np.bool_(True), np.bool_(False), np.complex128(1), np.str_("1"), np.void(b"1")]
    NUMPY += [np.array(1, "m8[ns]"), np.array(True), Scalar("m")]


def refused(error, argument, value, call):
    """Check that `call` raises `error` and says of which argument and value."""
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    text = str(caught.value)
    assert re.search(rf"\b{argument}\b", text), text
    assert repr(value) in text


# Each entry: where a duration goes in, its name there, and the call.
DURATIONS = {
    "DelayTask": ("delay", lambda _, __, value: DelayTask(value)),
    "IntervalTask": ("interval", lambda _, __, value: IntervalTask(value)),
    "IntervalTask-jitter": ("jitter", lambda _, __, value: IntervalTask(1, jitter=value)),
    "IntervalTask-until": ("until", lambda _, __, value: IntervalTask(1, until=value)),
    "WithDelay-start": ("start_delay", lambda _, __, value: IntervalWithDelayTask(value, 1)),
    "WithDelay-interval": ("interval", lambda _, __, value: IntervalWithDelayTask(1, value)),
    "WithDelay-jitter": ("jitter", lambda _, __, value: IntervalWithDelayTask(1, 1, jitter=value)),
    "post_delay_task": ("delay", lambda pool, _, value: pool.post_delay_task(print, value)),
    "post_interval_task": (
        "interval",
        lambda pool, _, value: pool.post_interval_task(print, value),
    ),
    "pool.after": ("delay", lambda pool, _, value: pool.after(value)),
    "after": ("delay", lambda _, __, value: asynctask.after(value)),
    "sleep": ("delay", lambda _, __, value: asynctask.sleep(value)),
    "ticker": ("interval", lambda _, __, value: asynctask.ticker(value)),
    "reschedule": ("delay", lambda _, task, value: task.reschedule(value)),
    "idle_timeout": ("idle_timeout", lambda _, __, value: AsyncTaskPool(idle_timeout=value)),
    "tiers": ("tiers", lambda _, __, value: AsyncTaskPool(tiers=[(value, 10)])),
    "advance": ("by", lambda _, __, value: ManualClock().advance(value)),
    "jump": ("by", lambda _, __, value: ManualClock().jump(value)),
}
DURATION = pytest.mark.parametrize(("argument", "call"), DURATIONS.values(), ids=DURATIONS)


@DURATION
@pytest.mark.parametrize(
    "value",
    [
        -math.inf,
        math.nan,
        math.inf,
        3.2e9,
        10**10,
        10**400,
        dt.timedelta(days=36_600),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_duration_that_is_none_is_refused(timed, waiting, argument, call, value):
    """NaN, infinite, and longer than 100 years: `ValueError`."""
    if argument == "idle_timeout" and math.isfinite(_float(value)) and _float(value) < TIMEOUT_MAX:
        return  # it is a timeout
    refused(ValueError, argument, value, lambda: call(timed, waiting, value))


def _float(value):
    """Give a duration in seconds; a number that is no float is infinite."""
    try:
        return float(value.total_seconds() if isinstance(value, dt.timedelta) else value)
    except OverflowError:
        return math.inf


# A delay may be computed a moment late; nothing else may be negative.
MAY_PASS = {"delay", "start_delay"}


@pytest.mark.parametrize(
    "name", [name for name, (argument, _) in DURATIONS.items() if argument not in MAY_PASS]
)
@pytest.mark.parametrize(
    "value",
    [-1, -0.001, -(10**400), dt.timedelta(microseconds=-1), dt.timedelta(days=-1)],
    ids=lambda value: str(value)[:12],
)
def test_a_negative_duration_that_is_no_delay_is_refused(timed, waiting, name, value):
    """An interval is longer than 0, and jitter and the like are not less."""
    argument, call = DURATIONS[name]
    refused(ValueError, argument, value, lambda: call(timed, waiting, value))


@DURATION
@pytest.mark.parametrize("value", [True, False, "1", b"1", [1], 1j, object(), *NUMPY], ids=repr)
def test_a_duration_of_another_type_is_refused(timed, waiting, argument, call, value):
    """Booleans, strings and whatever else is no number of seconds: `TypeError`."""
    refused(TypeError, argument, value, lambda: call(timed, waiting, value))


@pytest.mark.parametrize(
    "name", [name for name, (argument, _) in DURATIONS.items() if argument in {"interval", "until"}]
)
@pytest.mark.parametrize("value", [0, 0.0, -0.0, dt.timedelta()], ids=repr)
def test_an_interval_of_nothing_is_refused(timed, waiting, name, value):
    """An interval must be longer than 0."""
    argument, call = DURATIONS[name]
    refused(ValueError, argument, value, lambda: call(timed, waiting, value))


# Negative timeouts are what is left of a deadline, and have passed.
TIMEOUTS = {
    "result": lambda _, task, value: task.result(value),
    "exception": lambda _, task, value: task.exception(value),
    "wait_for_finished": lambda _, task, value: task.wait_for_finished(value),
    "wait_for_finished_count": lambda _, task, value: task.wait_for_finished_count(1, value),
    "stop_and_wait": lambda _, task, value: task.stop_and_wait(value),
    "pool.wait_and_exit": lambda pool, _, value: pool.wait_and_exit(value),
    "wait_and_exit": lambda _, __, value: asynctask.wait_and_exit(value),
    "group": lambda pool, _, value: pool.group(timeout=value),
    "group_context": lambda pool, _, value: pool.group_context(value),
    "TaskGroup": lambda pool, _, value: TaskGroup(pool, timeout=value),
    "group.wait": lambda pool, _, value: pool.group().wait(value),
    "map": lambda pool, _, value: pool.map(print, [], timeout=value),
    "reset_default_pool": lambda _, __, value: reset_default_pool(timeout=value),
}


@pytest.mark.parametrize("call", TIMEOUTS.values(), ids=TIMEOUTS)
@pytest.mark.parametrize(
    ("error", "value"),
    [
        (ValueError, math.nan),
        (ValueError, math.inf),
        (ValueError, -math.inf),
        (ValueError, 10**10),
        (ValueError, 10**400),
        (ValueError, dt.timedelta(days=366 * 300)),
        (TypeError, True),
        (TypeError, "1"),
        (TypeError, object()),
        *((TypeError, value) for value in NUMPY),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_timeout_that_is_none_is_refused(timed, waiting, call, error, value):
    """A timeout is a duration too, and a refused wait has neither stopped nor cancelled."""
    refused(error, "timeout", value, lambda: call(timed, waiting, value))
    assert not waiting.done()


CALLABLES = {
    "post_task": ("callback", lambda pool, _, value: pool.post_task(value)),
    "post_task-later": ("callback", lambda pool, _, value: pool.post_task(value, DelayTask(1))),
    "module.post_task": ("callback", lambda _, __, value: asynctask.post_task(value)),
    "post_async_task": ("callback", lambda pool, _, value: pool.post_async_task(value)),
    "post_delay_task": ("callback", lambda pool, _, value: pool.post_delay_task(value, 1)),
    "post_interval_task": ("callback", lambda pool, _, value: pool.post_interval_task(value, 1)),
    "submit": ("fn", lambda pool, _, value: pool.submit(value)),
    "try_submit": ("fn", lambda pool, _, value: pool.try_submit(value)),
    "group.submit": ("fn", lambda pool, _, value: pool.group().submit(value)),
    "group.post_task": ("callback", lambda pool, _, value: pool.group().post_task(value)),
    "add_done_callback": ("fn", lambda _, task, value: task.add_done_callback(value)),
    "initializer": ("initializer", lambda _, __, value: AsyncTaskPool(initializer=value)),
}


@pytest.mark.parametrize(("argument", "call"), CALLABLES.values(), ids=CALLABLES)
@pytest.mark.parametrize("value", [5, "print", DelayTask(1)], ids=repr)
def test_what_cannot_be_called_is_refused(timed, waiting, argument, call, value):
    """A callback must be callable."""
    refused(TypeError, argument, value, lambda: call(timed, waiting, value))


@pytest.mark.parametrize("name", [name for name in CALLABLES if name != "initializer"])
def test_none_is_no_callback(timed, waiting, name):
    """None is no callback, though it is no initializer either."""
    argument, call = CALLABLES[name]
    refused(TypeError, argument, None, lambda: call(timed, waiting, None))


@pytest.mark.parametrize(
    "value", [5, None, "DelayTask(1)", 0.5, DelayTask, dt.timedelta(seconds=1)], ids=str
)
def test_what_is_no_option_is_refused(timed, value):
    """Options are instances of the three option classes."""
    refused(TypeError, "options", value, lambda: timed.post_task(print, value))
    refused(TypeError, "options", value, lambda: timed.post_task(print, DelayTask(1), value))


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("delay", (DelayTask(1), DelayTask(2))),
        ("delay", (DelayTask(1), IntervalWithDelayTask(2, 3))),
        ("delay", (IntervalWithDelayTask(2, 3), DelayTask(1))),
        ("interval", (IntervalTask(1), IntervalTask(1))),
        ("interval", (IntervalTask(1), IntervalWithDelayTask(2, 3))),
        ("delay", (IntervalWithDelayTask(2, 3), IntervalWithDelayTask(2, 3))),
    ],
    ids=str,
)
def test_the_same_option_twice_is_refused(timed, what, options):
    """A delay or an interval given twice has no meaning."""
    for post in (timed.post_task, asynctask.post_task, timed.group().post_task):
        with pytest.raises(ValueError, match=rf"{what} twice") as caught:
            post(print, *options)
        assert repr(options) in str(caught.value)


WORDS = {
    "timing": lambda value: IntervalTask(1, timing=value),
    "overlap": lambda value: IntervalTask(1, overlap=value),
    "missed": lambda value: IntervalTask(1, missed=value),
    "on_error": lambda value: IntervalTask(1, on_error=value),
    "on_full": lambda value: AsyncTaskPool(on_full=value),
}


@pytest.mark.parametrize(("argument", "call"), WORDS.items(), ids=WORDS)
@pytest.mark.parametrize("value", ["nonsense", "", "SKIP", "skip ", 1, True, ["skip"]], ids=repr)
def test_an_unknown_policy_is_refused(argument, call, value):
    """A policy is one of a few words, all of which the message names."""
    refused(ValueError, argument, value, lambda: call(value))


@pytest.mark.parametrize("value", ["nonsense", "", "continue", 1, None, ["cancel"]], ids=repr)
@pytest.mark.parametrize("how", ["group", "group_context", "TaskGroup"])
def test_an_unknown_policy_of_a_group_is_refused(timed, how, value):
    """A group knows its policies as well."""
    make = {
        "group": lambda: timed.group(on_error=value),
        "group_context": lambda: timed.group_context(1, on_error=value),
        "TaskGroup": lambda: TaskGroup(timed, on_error=value),
    }
    refused(ValueError, "on_error", value, make[how])


def test_the_message_names_the_known_policies():
    """Who has misspelt a policy is told how to spell it."""
    with pytest.raises(ValueError, match="on_full") as caught:
        AsyncTaskPool(on_full="drop")
    for word in ("block", "raise", "drop_newest", "drop_oldest", "caller_runs"):
        assert repr(word) in str(caught.value)


COUNTS = {
    "max_workers": (1, lambda _, __, value: AsyncTaskPool(value)),
    "min_workers": (0, lambda _, __, value: AsyncTaskPool(min_workers=value)),
    "queue_size": (0, lambda _, __, value: AsyncTaskPool(queue_size=value)),
    "resize:max_workers": (1, lambda pool, _, value: pool.resize(value)),
    "max_runs": (1, lambda _, __, value: IntervalTask(1, max_runs=value)),
    "options:max_workers": (1, lambda _, __, value: asynctask.set_work_pool_options(value)),
    "options:max_capacity": (
        0,
        lambda _, __, value: asynctask.set_work_pool_options(max_capacity=value),
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_number_that_is_too_small_is_refused(timed, waiting, name):
    """`max_workers=0` and its like are refused, negative numbers too."""
    least, call = COUNTS[name]
    for value in (least - 1, -5):
        refused(ValueError, name.split(":")[-1], value, lambda: call(timed, waiting, value))  # noqa: B023


@pytest.mark.parametrize("value", [True, 1.0, 2.5, "4", [4], math.nan, *NUMPY], ids=repr)
@pytest.mark.parametrize("name", COUNTS)
def test_a_number_that_is_not_whole_is_refused(timed, waiting, name, value):
    """A number of workers, tasks or runs is an `int`."""
    _, call = COUNTS[name]
    refused(TypeError, name.split(":")[-1], value, lambda: call(timed, waiting, value))


@pytest.mark.parametrize("value", [True, 1.0, "4", None], ids=repr)
def test_a_count_of_runs_that_is_not_whole_is_refused(waiting, value):
    """The count of `wait_for_finished_count` is an `int`."""
    refused(TypeError, "count", value, lambda: waiting.wait_for_finished_count(value, 0))


@pytest.mark.parametrize("value", [0, 1.0, "yes", None, [True]], ids=repr)
@pytest.mark.parametrize("argument", ["propagate_context", "nudge"])
def test_a_flag_that_is_no_bool_is_refused(argument, value):
    """The error names the flag, and shows what was given."""
    expected = f"{argument} must be a bool, not {value!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):
        AsyncTaskPool(**{argument: value})


@pytest.mark.parametrize("value", [0, "clock", time.monotonic, asynctask], ids=repr)
def test_a_clock_that_is_none_is_refused(value):
    """Only a `ManualClock` can be given in place of the system's."""
    expected = f"clock must be an asynctask.testing.ManualClock, not {value!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):
        AsyncTaskPool(clock=value)


POOLS = {
    "ticker": lambda value: asynctask.ticker(1, pool=value),
    "TaskGroup": asynctask.TaskGroup,
    "aio.install": lambda value: asynctask.aio.install(asyncio.AbstractEventLoop(), value),
}


@pytest.mark.parametrize("value", [0, "pool", AsyncTaskPool, ThreadPoolExecutor(1)], ids=repr)
@pytest.mark.parametrize("call", POOLS.values(), ids=POOLS)
def test_a_pool_that_is_none_is_refused(call, value):
    """Where a pool is expected, the error says so at once."""
    expected = f"pool must be an asynctask.AsyncTaskPool, not {value!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):
        call(value)


@pytest.mark.parametrize("value", [0, "loop", asyncio.AbstractEventLoop], ids=repr)
def test_a_loop_that_is_none_is_refused(value):
    """So does the one about a loop."""
    expected = f"loop must be an event loop, not {value!r}"
    with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):
        asynctask.aio.install(loop=value)


def test_more_workers_at_least_than_at_most_are_refused():
    """`min_workers` must not be more than `max_workers`."""
    refused(ValueError, "min_workers", 3, lambda: AsyncTaskPool(2, min_workers=3))


@pytest.mark.parametrize(
    ("error", "value"),
    [
        (ValueError, ((0.005, 200), (2.0, 60))),  # 1 s does not make a tick of 2 s
        (ValueError, ((0.005, 200), (0.5, 60))),
        (ValueError, ((1.0, 60), (0.005, 200))),
        (ValueError, ((0.005, 0),)),
        (ValueError, ((0.005, -1),)),
        (ValueError, ((0.005, 2**40),)),
        (ValueError, ((0, 10),)),
        (ValueError, ((-1, 10),)),
        (ValueError, ()),
        (TypeError, 5),
        (TypeError, (0.005, 200)),
        (TypeError, ((0.005, 200, 1),)),
        (TypeError, ((0.005, 2.5),)),
        (TypeError, ((0.005, True),)),
        (TypeError, (("0.005", 200),)),
        (TypeError, "tiers"),
    ],
    ids=str,
)
def test_tiers_that_do_not_nest_are_refused(error, value):
    """A tier's span is the next one's tick, or there is no wheel."""
    with pytest.raises(error, match=r"\btiers\b") as caught:
        AsyncTaskPool(tiers=value)
    assert type(caught.value) is error


def test_a_message_about_tiers_says_which_do_not_fit():
    """The message has the two numbers that do not fit together."""
    with pytest.raises(ValueError, match=r"tiers.*1000000000 ns.*2000000000 ns"):
        AsyncTaskPool(tiers=((0.005, 200), (2.0, 60)))


def test_a_datetime_without_a_time_zone_is_refused():
    """`until` is an instant, and a naive datetime is none."""
    naive = dt.datetime(2100, 1, 1)  # noqa: DTZ001
    refused(ValueError, "until", naive, lambda: IntervalTask(1, until=naive))
    refused(ValueError, "until", naive, lambda: IntervalWithDelayTask(1, 1, until=naive))


@pytest.mark.parametrize("value", ["tomorrow", dt.date(2100, 1, 1), dt.time(12)], ids=str)
def test_other_ends_are_refused(value):
    """`until` is a duration or a datetime."""
    refused(TypeError, "until", value, lambda: IntervalTask(1, until=value))


def test_an_end_in_the_past_is_refused(timed):
    """`until` an instant that has passed is refused when the task is posted."""
    past = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
    with pytest.raises(ValueError, match="until"):
        timed.post_task(print, IntervalTask(1, until=past))


def test_an_end_before_the_first_run_is_refused(timed):
    """A series that would have no run at all is refused when it is posted."""
    with pytest.raises(ValueError, match=r"until .*1s.*2s"):
        timed.post_task(print, IntervalTask(2, until=1))
    with pytest.raises(ValueError, match="until"):
        timed.post_task(print, IntervalWithDelayTask(5, 1, until=4))
    with pytest.raises(ValueError, match="until"):
        timed.post_task(print, DelayTask(5), IntervalTask(1, until=4))


def test_jitter_of_more_than_an_interval_is_refused():
    """Jitter may make runs late by up to one interval, so that their order stays."""
    refused(ValueError, "jitter", 1.5, lambda: IntervalTask(1, jitter=1.5))


POSTS = {
    "pool": lambda pool, keywords: pool.post_task(print, **keywords),
    "module": lambda _, keywords: asynctask.post_task(print, **keywords),
    "group": lambda pool, keywords: pool.group().post_task(print, **keywords),
    "later": lambda pool, keywords: pool.post_task(print, DelayTask(1), **keywords),
}


@pytest.mark.parametrize("post", POSTS.values(), ids=POSTS)
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("args", 5),
        ("args", "abc"),
        ("kwargs", 5),
        ("kwargs", [("a", 1)]),
        ("kwargs", "abc"),
        ("name", 5),
        ("name", b"name"),
        ("context", {}),
        ("context", contextvars.Context),
    ],
    ids=str,
)
def test_keywords_of_the_wrong_type_are_refused(timed, post, argument, value):
    """What `post_task` takes besides options is checked at the call as well."""
    refused(TypeError, argument, value, lambda: post(timed, {argument: value}))


def test_keywords_that_are_no_strings_are_refused(timed):
    """The keys of `kwargs` must be strings."""
    refused(TypeError, "kwargs", 1, lambda: timed.post_task(print, kwargs={1: 2}))


def test_arguments_whose_iteration_raises_are_refused_with_what_it_raised(timed):
    """`args` is iterated at the call, and its own error comes out."""

    def broken():
        yield 1
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        timed.post_task(print, args=broken())


@pytest.mark.parametrize(
    ("argument", "error", "value"),
    [
        ("thread_name_prefix", TypeError, 5),
        ("thread_name_prefix", ValueError, "a\0b"),
        ("propagate_context", TypeError, "yes"),
        ("nudge", TypeError, 1),
        ("clock", TypeError, 5),
        ("nonsense", TypeError, 5),
    ],
    ids=str,
)
def test_other_options_of_a_pool_are_checked(argument, error, value):
    """Every option of a pool is checked when it is made."""
    with pytest.raises(error, match=argument):
        AsyncTaskPool(**{argument: value})


@pytest.mark.parametrize("value", [5, "abc"], ids=repr)
def test_arguments_of_the_initializer_are_checked(value):
    """`initargs` is an iterable of arguments."""
    refused(TypeError, "initargs", value, lambda: AsyncTaskPool(initializer=print, initargs=value))


@pytest.mark.parametrize("make", [IntervalTask, lambda *a, **k: IntervalWithDelayTask(1, *a, **k)])
def test_what_an_interval_does_not_know_is_refused(make):
    """Keywords are keywords only, and no others."""
    with pytest.raises(TypeError, match="nonsense"):
        make(1, nonsense=2)
    with pytest.raises(TypeError, match="positional"):
        make(1, "fixed_rate")


def test_refused_options_of_the_default_pool_change_nothing():
    """A refused `set_work_pool_options` leaves the next one free to succeed."""
    with pytest.raises(TypeError, match="nonsense"):
        asynctask.set_work_pool_options(nonsense=1)
    with pytest.raises(ValueError, match="on_full"):
        asynctask.set_work_pool_options(2, on_full="nonsense")
    asynctask.set_work_pool_options(3, 7)
    assert asynctask.get_async_task().stats().max_workers == 3


def test_a_handle_is_not_made_by_hand():
    """`AsyncTask` is made by posting."""
    with pytest.raises(TypeError, match="by posting"):
        asynctask.AsyncTask()


@pytest.mark.parametrize(
    "value",
    [0, 0.0, 1e-12, 5, 0.5, dt.timedelta(milliseconds=5), 100 * 365.25 * 86_400],
    ids=str,
)
def test_durations_that_are_some_are_accepted(value):
    """Zero, fractions of a nanosecond, `timedelta` and a hundred years are delays."""
    assert DelayTask(value).delay == value


def test_numbers_of_other_libraries_are_durations():
    """Whatever has `__float__`, and is no string, is a number of seconds."""
    from decimal import Decimal  # noqa: PLC0415
    from fractions import Fraction  # noqa: PLC0415

    assert DelayTask(Decimal("0.5")) == DelayTask(Fraction(1, 2)) == DelayTask(0.5)
    assert DelayTask(Fraction(-(10**400), 3)) == DelayTask(-(10**400)) == DelayTask(0)


def test_numbers_of_numpy_are_numbers():
    """Numpy's integers and floats are durations and counts; the former have no fraction to lose."""
    np = pytest.importorskip("numpy")
    half = np.float64(0.5)
    for number in (half, np.float32(0.5), np.float16(0.5), np.array(0.5)):
        assert DelayTask(number) == DelayTask(0.5)
    for number in (np.int64(3), np.uint8(3), np.array(3)):
        assert DelayTask(number) == DelayTask(3)
        assert IntervalTask(1, max_runs=number) == IntervalTask(1, max_runs=3)


def test_nanoseconds_of_a_timedelta_count():
    """A subclass of `timedelta` may have nanoseconds too, as pandas has it, and none is early."""

    class Timedelta(dt.timedelta):
        nanoseconds = 7

    assert DelayTask(Timedelta(seconds=1)) == DelayTask(1.000000007)
    assert DelayTask(Timedelta()) != DelayTask(0)


def test_what_is_raised_on_the_way_to_a_number_comes_out():
    """Ctrl-C while an argument says which number it is, is no word about the argument."""

    class Interrupted:
        def __float__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DelayTask(Interrupted())


@pytest.mark.parametrize("value", [TIMEOUT_MAX, dt.timedelta(days=36_600)], ids=str)
def test_the_longest_timeout_is_a_timeout(pool, value):
    """`threading.TIMEOUT_MAX` is a timeout wherever one is taken."""
    task = pool.submit(int)
    assert task.result(value) == 0
    assert task.exception(value) is None
    task.wait_for_finished(value)
    task.wait_for_finished_count(1, value)
    pool.post_task(int, IntervalTask(0.001)).stop_and_wait(value)
    assert list(pool.map(int, ["7"], timeout=value)) == [7]
    with pool.group(timeout=value) as group:
        group.submit(int)
    group.wait(value)
    with AsyncTaskPool(1, idle_timeout=value) as other:
        other.submit(int)
    assert other.wait_and_exit(value)
    assert reset_default_pool(timeout=value)
    ManualClock().advance(1, patience=value)


@pytest.mark.parametrize("value", [2.0, "foo", True, [1]], ids=repr)
@pytest.mark.parametrize("argument", ["chunksize", "buffersize"])
def test_sizes_of_a_map_are_whole(timed, argument, value):
    """The sizes that `map` takes are checked at the call, before anything is posted."""
    refused(TypeError, argument, value, lambda: timed.map(print, [1], **{argument: value}))


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("argument", ["chunksize", "buffersize"])
def test_sizes_of_a_map_are_positive(timed, argument, value):
    """A `map` of no tasks at a time would never end."""
    refused(ValueError, argument, value, lambda: timed.map(print, [1], **{argument: value}))


def test_what_the_library_refuses_is_refused_in_its_words():
    """What `ThreadPoolExecutor` takes too is refused as it does, and the value is added."""
    for keywords in ({"max_workers": 0}, {"max_workers": -1}, {"initializer": 5}):
        with pytest.raises((TypeError, ValueError)) as library:
            ThreadPoolExecutor(**keywords)
        (value,) = keywords.values()
        with pytest.raises(type(library.value)) as ours:
            AsyncTaskPool(**keywords)
        assert str(ours.value) == f"{library.value}, not {value}"


def test_flags_of_a_shutdown_are_conditions():
    """As with the library, what is true enough for an `if` is true enough for `shutdown`."""
    for flag in (1, "yes", [0]):
        pool = AsyncTaskPool(1)
        started, opened = threading.Event(), threading.Event()
        running = pool.submit(lambda: (started.set(), opened.wait(20)))  # noqa: B023
        assert started.wait(20)
        queued = pool.submit(int)
        pool.shutdown(None, cancel_futures=flag)  # which does not wait
        assert not running.done()
        assert queued.cancelled()
        opened.set()
        pool.shutdown(flag, cancel_futures=0)
        assert running.done()


def test_a_flag_that_does_not_say_is_refused_with_what_it_raised():
    """What a flag raises when it is asked comes out, and nothing was shut down."""

    class Mute:
        def __bool__(self):
            raise LookupError("mute")

    with AsyncTaskPool(1) as pool:
        with pytest.raises(LookupError, match="mute"):
            pool.shutdown(Mute())
        assert pool.submit(int).result(20) == 0
