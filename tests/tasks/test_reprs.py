"""What is shown of things, where they say they come from, and what is refused to be pickled."""

import copy
import itertools
import pickle
import re

import asynctask
import asynctask.testing
import pytest
from asynctask import AsyncTask, AsyncTaskPool, DelayTask, IntervalTask, IntervalWithDelayTask

ADDRESS = r"at 0x[0-9a-f]+"


OURS = [name for name in asynctask.__all__ if name != "CancelledError"]


@pytest.mark.parametrize("name", OURS)
def test_what_is_public_says_where_it_is_found(name):
    """Classes and functions say `asynctask`, not the file that they are written in."""
    thing = getattr(asynctask, name)
    assert (thing.__module__, thing.__qualname__) == ("asynctask", name)
    assert pickle.loads(pickle.dumps(thing)) is thing  # noqa: S301
    for base in getattr(thing, "__mro__", ()):
        assert "._" not in base.__module__.replace("concurrent.futures._base", "")
    if isinstance(thing, type):
        assert repr(thing) == f"<class 'asynctask.{name}'>"


def test_generic_classes_say_it_too():
    """So do their aliases, and methods that are inherited."""
    assert repr(AsyncTask[int]) == "asynctask.AsyncTask[int]"
    assert repr(asynctask.TaskGroup[int]) == "asynctask.TaskGroup[int]"
    assert repr(AsyncTaskPool.submit) == "<method 'submit' of 'asynctask.AsyncTaskPool' objects>"
    assert repr(AsyncTask.result) == "<method 'result' of 'asynctask.AsyncTask' objects>"


def test_reprs_of_one_task(make_pool, clock, gate):
    """A handle shows name and state, and its deadline while it waits for it."""
    pool = make_pool(2, clock=clock)
    running = pool.post_task(gate, name="mail:7")
    gate.wait()
    waiting = pool.post_task(int, DelayTask(1000), name="mail:7")
    assert re.fullmatch(rf"<AsyncTask 'mail:7' {ADDRESS} state=running>", repr(running))
    due = rf"<AsyncTask 'mail:7' {ADDRESS} state=pending due in (\S+) s>"
    assert re.fullmatch(due, repr(waiting))[1] == "1000.000"
    clock.jump(0.5)
    assert re.fullmatch(due, repr(waiting))[1] == "999.500"
    waiting.cancel()
    assert re.fullmatch(rf"<AsyncTask 'mail:7' {ADDRESS} state=cancelled>", repr(waiting))
    over = pool.post_task(int, name="it's")
    over.result(20)
    assert re.fullmatch(rf"<AsyncTask \"it's\" {ADDRESS} state=finished returned int>", repr(over))


def test_reprs_of_a_series(make_pool, clock):
    """A series shows how often it has run as well."""
    pool = make_pool(1, clock=clock)
    series = pool.post_task(int, IntervalTask(2, max_runs=3), name="beat")
    clock.advance(5)
    shown = rf"<AsyncTask 'beat' {ADDRESS} state=pending due in 1.000 s runs=2>"
    assert re.fullmatch(shown, repr(series))
    clock.advance(5)
    shown = rf"<AsyncTask 'beat' {ADDRESS} state=finished returned int runs=3>"
    assert re.fullmatch(shown, repr(series))


def test_reprs_of_a_pool(make_gate):
    """A pool shows name, state, workers, queue and timers; a subclass its own name."""

    class Mail(AsyncTaskPool):
        pass

    head = r"<(?:asynctask\.AsyncTaskPool|.*Mail) 'mail' "
    gate = make_gate()
    with Mail(2, "mail", queue_size=9) as pool:
        gate.hold(pool)
        pool.after(1000)
        shown = "1 of 2 workers, 1 running, 0/9 in the queue, 1 timers>"
        assert re.fullmatch(rf"{head}{ADDRESS}: open, {shown}", repr(pool)), repr(pool)
        gate.open()
    assert ": shut down, 0 of 2 workers" in repr(pool)
    assert repr(AsyncTaskPool(1)).startswith("<asynctask.AsyncTaskPool 'asynctask' at 0x")
    assert " 0 in the queue" in repr(AsyncTaskPool(1))


def test_reprs_of_a_pool_that_is_broken(make_pool):
    """A pool whose initializer has failed says so."""
    pool = make_pool(1, initializer=int, initargs=("x",))
    pool.submit(int).exception(20)
    assert ": broken, " in repr(pool)


def test_reprs_of_groups_and_tickers(make_pool, clock):
    """Groups show how many of their tasks are over, tickers their ticks."""
    pool = make_pool(1, clock=clock)
    group = pool.group()
    group.submit(int).result(20)
    group.post_task(int, DelayTask(1))
    shown = rf"<asynctask\.TaskGroup {ADDRESS}: {{}}, {{}} of 2 tasks over>"
    assert re.fullmatch(shown.format("open", 1), repr(group))
    group.cancel()
    assert re.fullmatch(shown.format("cancelled", 2), repr(group))
    ticker = asynctask.Ticker(1, pool=pool)
    clock.advance(3)
    next(ticker)
    shown = rf"<asynctask\.Ticker {ADDRESS}: {{}}, 3 ticks, 3 seen>"
    assert re.fullmatch(shown.format("ticking"), repr(ticker))
    ticker.stop()
    assert re.fullmatch(shown.format("over"), repr(ticker))


@pytest.mark.parametrize(
    ("made", "how"),
    [
        *itertools.product(
            ("task", "pool", "subclass", "group", "ticker"),
            (pickle.dumps, copy.copy, copy.deepcopy),
        )
    ],
)
def test_what_stays_in_its_process_is_not_pickled(make_pool, made, how):
    """Neither pickle nor copy takes a handle or a pool, nor what has one; the error says why."""

    class Mine(AsyncTaskPool):
        pass

    pool = make_pool(1)
    thing = {
        "task": lambda: pool.after(1000),
        "pool": lambda: pool,
        "subclass": lambda: Mine(1),
        "group": pool.group,
        "ticker": lambda: asynctask.Ticker(1000, pool=pool),
    }[made]()
    name = type(thing).__name__
    with pytest.raises(TypeError, match=rf"^cannot pickle '.*{name}' object: .* process"):
        how(thing)


@pytest.mark.parametrize(
    "option", [DelayTask(1), IntervalTask(1, max_runs=2), IntervalWithDelayTask(1, 2, jitter=1)]
)
def test_options_are_pickled_by_their_public_names(option):
    """A pickled option does not depend on which file its class is written in."""
    data = pickle.dumps(option)
    assert b"asynctask._pool" not in data
    assert pickle.loads(data) == option  # noqa: S301
