"""`Future`: the same bodies on both sides."""

import asyncio
import concurrent.futures as cf
import copy
import gc
import logging
import pickle
import queue
import re
import sys
import threading
import time
import traceback
import types
import weakref

import pytest


def fail(text="failed"):
    """Raise."""
    raise ValueError(text)


class Thing:
    """Something that can be seen to go away."""

    def __call__(self):
        """Do nothing."""


# What it is.


def test_is_a_future(column, one):
    """A submit gives a `concurrent.futures.Future`."""
    future = one.submit(int)
    assert isinstance(future, cf.Future)
    assert isinstance(future, column.future)
    assert issubclass(column.future, cf.Future)
    assert future.result(20) == 0


def test_can_be_subscripted(column):
    """`Future[int]` is an alias for annotations."""
    alias = column.future[int]
    assert isinstance(alias, types.GenericAlias)
    assert alias.__origin__ is column.future
    assert alias.__args__ == (int,)


def test_calling_the_class(column):
    """Only a library's own futures are made by calling the class."""
    expected = column.differs("made by calling the class")
    if expected is None:
        assert not column.future().done()
    else:
        with pytest.raises(expected, match="made by posting"):
            column.future()


def test_takes_attributes(one):
    """Libraries note things on futures."""
    future = one.submit(int)
    future.tag = "mine"
    assert future.tag == "mine"
    assert vars(future)["tag"] == "mine"


def test_identity(one):
    """A future equals itself only, can be hashed and weakly referenced, not pickled."""
    first, second = one.submit(int), one.submit(int)
    assert first == first  # noqa: PLR0124  # that is the question
    assert first != second
    assert len({first, second, first}) == 2
    assert weakref.ref(first)() is first
    for attempt in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            attempt(first)


# States.


def test_a_life(one, running, queued, gate):
    """Pending, running, finished, in methods and in `_state`."""
    assert (queued._state, queued.running(), queued.done()) == ("PENDING", False, False)
    assert (running._state, running.running(), running.done()) == ("RUNNING", True, False)
    gate.open()
    assert running.result(20) == "through"
    assert queued.result(20) == 7
    for future in (running, queued):
        assert future._state == "FINISHED"
        assert (future.running(), future.done(), future.cancelled()) == (False, True, False)


@pytest.mark.parametrize(
    ("callback", "tail"), [(int, "returned int"), (fail, "raised ValueError"), (None, "cancelled")]
)
def test_repr_of_what_is_over(column, one, running, gate, callback, tail):  # noqa: PLR0917
    """The repr tells class, address, state and the kind of result."""
    future = one.submit(callback or int)
    if callback is None:
        future.cancel()
        expected = "state=cancelled"
    else:
        gate.open()
        future.exception(20)
        expected = f"state=finished {tail}"
    name = column.future.__name__ + column.differs("name in the repr")
    assert re.fullmatch(rf"<{name} at 0x[0-9a-f]+ {expected}>", repr(future))


def test_repr_of_what_is_not_over(column, running, queued):
    """The repr of a pending and of a running future has no result."""
    name = column.future.__name__ + column.differs("name in the repr")
    assert re.fullmatch(rf"<{name} at 0x[0-9a-f]+ state=running>", repr(running))
    assert re.fullmatch(rf"<{name} at 0x[0-9a-f]+ state=pending>", repr(queued))


# Results.


def test_result_and_exception(one):
    """A future that returned has a result and no exception, again and again."""
    value = object()
    future = one.submit(lambda: value)
    for timeout in (20, 0, None, -1):
        assert future.result(timeout) is value
        assert future.exception(timeout) is None
    assert future.result(timeout=1) is value
    assert future.exception(timeout=1) is None


def test_a_failure_keeps_its_traceback(one):
    """The same exception comes out each time, and its traceback names the callback's frame."""
    future = one.submit(fail)
    caught = []
    for _ in range(3):
        with pytest.raises(ValueError, match="failed") as info:
            future.result(20)
        caught.append(info.value)
        frames = [frame.name for frame in traceback.extract_tb(info.value.__traceback__)]
        assert frames[0].startswith("test_a_failure")
        assert frames[-1] == "fail"
    assert caught[0] is caught[1] is caught[2] is future.exception()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_base_exceptions_are_kept(one, kind):
    """A `BaseException` ends up in the future, and the worker lives on."""

    def leave():
        raise kind("x")

    future = one.submit(leave)
    assert type(future.exception(20)) is kind
    with pytest.raises(kind):
        future.result()
    assert one.submit(int).result(20) == 0


def test_cancelled_error_of_a_callback(one):
    """A callback that raises `CancelledError` has failed; it is not cancelled."""

    def give_up():
        raise cf.CancelledError("mine")

    future = one.submit(give_up)
    with pytest.raises(cf.CancelledError, match="mine"):
        future.result(20)
    assert not future.cancelled()


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
@pytest.mark.parametrize("wait", ["result", "exception"])
def test_timeouts(running, wait, timeout):
    """A wait that takes too long raises `TimeoutError`; a negative timeout has passed already."""
    began = time.monotonic()
    with pytest.raises(TimeoutError) as info:
        getattr(running, wait)(timeout)
    assert type(info.value) is cf.TimeoutError is TimeoutError
    assert time.monotonic() - began >= timeout
    assert running.running()


def test_a_timeout_that_is_no_number(column, one):
    """A timeout that is no number is refused, whether or not there is something to wait for."""
    future = one.submit(int)
    assert cf.wait([future], 20).done
    if column.differs("timeout that is no number") is TypeError:
        with pytest.raises(TypeError, match="timeout must be"):
            future.result("1")
    else:
        assert future.result("1") == 0


def test_many_threads_wait(running, gate):
    """Every waiter is woken, with the same object."""
    results = queue.Queue()
    threads = [threading.Thread(target=lambda: results.put(running.result(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.open()
    assert [results.get(timeout=20) for _ in threads] == ["through"] * 8
    for thread in threads:
        thread.join(20)


# Cancelling.


def test_cancel_of_what_is_queued(column, one, queued, gate):
    """A queued future is cancelled, for good, and says so everywhere."""
    assert queued.cancel()
    assert queued.cancel()
    assert queued.cancelled()
    assert queued.done()
    assert not queued.running()
    assert queued._state == column.differs("state after cancel")
    for wait in (queued.result, queued.exception):
        with pytest.raises(cf.CancelledError):
            wait(20)
    gate.open()
    assert one.submit(int).result(20) == 0
    assert queued._state == "CANCELLED_AND_NOTIFIED"


def test_cancel_of_what_runs_or_is_over(running, gate):
    """A running or finished future cannot be cancelled."""
    assert not running.cancel()
    assert running.running()
    gate.open()
    assert running.result(20) == "through"
    assert not running.cancel()
    assert not running.cancelled()


def test_a_cancel_wakes_who_waits(queued):
    """A thread in `result` is told of the cancellation."""
    caught = queue.Queue()

    def wait():
        try:
            queued.result(20)
        except BaseException as error:
            caught.put(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    queued.cancel()
    assert caught.get(timeout=20) is cf.CancelledError
    thread.join(20)


# What the owner of a future may do.


def test_a_finished_future_cannot_be_set(one):
    """`set_result` and `set_exception` of a finished future raise `InvalidStateError`."""
    future = one.submit(lambda: "own")
    assert future.result(20) == "own"
    with pytest.raises(cf.InvalidStateError):
        future.set_result("other")
    with pytest.raises(cf.InvalidStateError):
        future.set_exception(ValueError())
    assert future.result() == "own"


def test_an_unfinished_future_can_be_set_by_its_owner_only(column, running, gate):
    """Whoever sets the result of a running task is refused."""
    expected = column.differs("set_result on an unfinished future")
    if expected is None:
        bare = column.future()
        bare.set_result(1)
        assert bare.result() == 1
        return
    for attempt in (running.set_result, running.set_exception):
        with pytest.raises(expected):
            attempt(None)
    with pytest.raises(expected):
        running.set_running_or_notify_cancel()
    gate.open()
    assert running.result(20) == "through"


# Done-callbacks.


def test_done_callbacks_in_order(running, gate):
    """Done-callbacks get the future, in the order they were added, duplicates included."""
    seen = queue.Queue()
    again = lambda future: seen.put(("again", future))  # noqa: E731  # the same one twice
    for n in range(3):
        running.add_done_callback(lambda future, n=n: seen.put((n, future)))
    running.add_done_callback(again)
    running.add_done_callback(again)
    gate.open()
    expected = [(0, running), (1, running), (2, running), ("again", running), ("again", running)]
    assert [seen.get(timeout=20) for _ in expected] == expected


@pytest.mark.parametrize("end", ["returned", "raised", "cancelled"])
def test_done_callback_of_what_is_over(one, running, gate, end):
    """A done-callback that comes late is called at once, by who adds it."""
    future = one.submit(fail if end == "raised" else int)
    if end == "cancelled":
        future.cancel()
    gate.open()
    assert cf.wait([future], 20).done
    seen = []
    assert future.add_done_callback(lambda done: seen.append((done, threading.get_ident()))) is None
    assert seen == [(future, threading.get_ident())]
    assert future.done()
    if end == "raised":
        future.exception()


def test_done_callback_of_a_cancel(queued):
    """Who cancels calls the done-callbacks, which find the future done."""
    seen = []
    queued.add_done_callback(lambda done: seen.append((done.done(), done.cancelled())))
    queued.cancel()
    queued.cancel()
    assert seen == [(True, True)]


@pytest.mark.parametrize("late", [False, True])
def test_a_failing_done_callback_is_logged(  # noqa: PLR0917  # they are fixtures
    column, one, running, gate, caplog, late
):
    """A done-callback that raises is logged with its traceback; the others are called."""
    seen = queue.Queue()

    def bad(_):
        raise ValueError("from the callback")

    if late:
        gate.open()
        running.result(20)
    with caplog.at_level(logging.ERROR):
        running.add_done_callback(bad)
        running.add_done_callback(lambda _: seen.put("called"))
        gate.open()
        assert seen.get(timeout=20) == "called"
        assert one.submit(int).result(20) == 0
    (record,) = [record for record in caplog.records if record.name == column.logger]
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("exception calling callback for <")
    assert str(record.exc_info[1]) == "from the callback"
    assert running.result() == "through"


def test_a_done_callback_that_leaves(  # noqa: PLR0917  # they are fixtures
    column, running, gate, caplog, one, until
):
    """`SystemExit` of a done-callback does not end a worker of ours."""

    def leave(_):
        raise SystemExit(3)

    running.add_done_callback(leave)
    gate.open()
    if column.differs("done-callback that raises SystemExit") == "logged":
        assert one.submit(int).result(20) == 0  # the worker lives
    else:
        until(lambda: caplog.records)
    (record,) = caplog.records
    assert record.name == column.logger
    assert record.exc_info[0] is SystemExit
    assert record.getMessage().startswith(
        "exception calling callback" if column.is_ours else "Exception in worker"
    )


def test_a_done_callback_that_is_not_callable(column, running, gate, one, caplog):
    """It is refused at once here, and found out later there."""
    expected = column.differs("done-callback that is not callable")
    if expected is None:
        running.add_done_callback(3)
    else:
        with pytest.raises(expected, match="fn must be callable"):
            running.add_done_callback(3)
    gate.open()
    assert one.submit(int).result(20) == 0
    assert len(caplog.records) == (0 if expected else 1)


def test_a_done_callback_may_wait_and_add(running, gate):
    """In a done-callback the future is over: its result is there, and more callbacks may come."""
    seen = queue.Queue()

    def first(future):
        seen.put(future.result(0))
        future.add_done_callback(lambda _: seen.put("second"))

    running.add_done_callback(first)
    gate.open()
    assert [seen.get(timeout=20), seen.get(timeout=20)] == ["through", "second"]


# wait and as_completed.


@pytest.mark.parametrize("condition", [cf.FIRST_COMPLETED, cf.FIRST_EXCEPTION, cf.ALL_COMPLETED])
def test_wait_conditions(column, gate, condition):
    """`wait` returns on the first end, the first exception, or the last end."""
    executor = column.make(2)
    held = executor.submit(gate)
    quick = executor.submit(fail if condition == cf.FIRST_EXCEPTION else int)
    if condition == cf.ALL_COMPLETED:
        gate.open()
    done, not_done = cf.wait([held, quick], timeout=20, return_when=condition)
    if condition == cf.ALL_COMPLETED:
        assert (done, not_done) == ({held, quick}, set())
    else:
        assert (done, not_done) == ({quick}, {held})
    quick.exception()


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_wait_gives_up(running, queued, timeout):
    """`wait` with a timeout says what is over and what is not, and leaves no waiter behind."""
    began = time.monotonic()
    assert cf.wait([running, queued], timeout) == (set(), {running, queued})
    assert time.monotonic() - began >= timeout
    assert (running._waiters, queued._waiters) == ([], [])


def test_wait_is_told_of_a_cancellation(one, running, queued, gate, until):
    """A cancelled future is done for `wait`, whenever it was cancelled."""
    done = queue.Queue()
    other = one.submit(int)
    thread = threading.Thread(target=lambda: done.put(cf.wait([queued, other], 20)))
    thread.start()
    until(lambda: queued._waiters)
    queued.cancel()
    other.cancel()
    gate.open()
    assert done.get(timeout=20).done == {queued, other}
    thread.join(20)
    assert cf.wait([queued, other], 0.0).done == {queued, other}


def test_as_completed(column, make_gate):
    """Futures come out in the order in which they end, each once, finished ones first."""
    executor = column.make(3)
    gates = [make_gate() for _ in range(3)]
    futures = [executor.submit(gate) for gate in gates]
    gates[1].open()
    futures[1].result(20)
    ended = cf.as_completed([*futures, futures[1], futures[0]], timeout=20)
    assert next(ended) is futures[1]
    gates[2].open()
    assert next(ended) is futures[2]
    gates[0].open()
    assert next(ended) is futures[0]
    assert list(ended) == []


def test_as_completed_gives_up(running, queued):
    """`as_completed` with a timeout raises `TimeoutError` that counts what is left."""
    with pytest.raises(TimeoutError, match=re.escape("2 (of 2) futures unfinished")):
        list(cf.as_completed([running, queued], timeout=0.01))
    assert (running._waiters, queued._waiters) == ([], [])


def test_as_completed_lets_go(one):
    """`as_completed` keeps no reference to what it has given out."""
    futures = [one.submit(Thing) for _ in range(3)]
    assert len(cf.wait(futures, 20).done) == 3
    ended = cf.as_completed(futures)
    del futures
    future = next(ended)
    gone = weakref.ref(future)
    del future
    assert gone() is None


def test_mixed_with_a_future_of_the_library(running, gate):
    """`wait` and `as_completed` take both kinds at once."""
    bare = cf.Future()
    assert cf.wait([running, bare], 0.0).not_done == {running, bare}
    bare.set_result("bare")
    assert cf.wait([running, bare], 20, return_when=cf.FIRST_COMPLETED).done == {bare}
    gate.open()
    assert set(cf.as_completed([running, bare], 20)) == {running, bare}


@pytest.fixture
def _busy_switching():
    """Have threads take turns at nearly every instruction, so that races happen."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("_busy_switching")
@pytest.mark.parametrize("condition", [cf.FIRST_COMPLETED, cf.FIRST_EXCEPTION, cf.ALL_COMPLETED])
def test_wait_while_many_end(column, condition):
    """No end is missed or counted twice by a `wait` that starts in the middle of them."""
    executor = column.make(4)
    for _ in range(30):
        futures = [executor.submit(int) for _ in range(30)]
        left = set(futures)
        while left:
            done, left = cf.wait(left, 20, return_when=condition)
            assert done
            assert condition == cf.FIRST_COMPLETED or not left
        assert cf.wait(futures, 0).not_done == set()


@pytest.mark.usefixtures("_busy_switching")
def test_as_completed_while_many_end(column):
    """`as_completed` gives each future once, whenever it ends."""
    executor = column.make(4)
    for _ in range(30):
        futures = [executor.submit(int) for _ in range(30)]
        assert sorted(map(id, cf.as_completed(futures, 20))) == sorted(map(id, futures))


def test_result_of_the_base_class(running, gate):
    """Even `Future.result` itself, which waits on the condition, works."""
    with pytest.raises(TimeoutError):
        cf.Future.result(running, 0.01)
    result = queue.Queue()
    thread = threading.Thread(target=lambda: result.put(cf.Future.result(running, 20)))
    thread.start()
    gate.open()
    assert result.get(timeout=20) == "through"
    thread.join(20)


def test_wait_after_a_result(running, gate):
    """Who has the result finds the future done in a `wait` without time."""
    assert cf.wait([running], 0.0).done == set()
    gate.open()
    assert running.result(20) == "through"
    assert cf.wait([running], 0.0).done == {running}


def test_wait_from_many_threads(column, gate):
    """Several threads may wait for the same futures."""
    executor = column.make(4)
    futures = [executor.submit(gate, n) for n in range(8)]
    seen = queue.Queue()

    def look():
        seen.put(len(cf.wait(futures, 20).done))
        seen.put(len(set(cf.as_completed(futures, 20))))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    gate.open()
    assert [seen.get(timeout=20) for _ in range(8)] == [8] * 8
    for thread in threads:
        thread.join(20)


# asyncio.


def test_wrap_future(one, gate):
    """`asyncio.wrap_future` gives results, failures and cancellations on to a loop."""

    async def main():
        assert await asyncio.wrap_future(one.submit(lambda: 3)) == 3
        with pytest.raises(ValueError, match="failed"):
            await asyncio.wrap_future(one.submit(fail))
        held = one.submit(gate)
        future = one.submit(int)
        wrapped = asyncio.wrap_future(future)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped
        # The loop hands the cancellation on by a callback of its own.
        while not future.cancelled():  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0)
        other = one.submit(int)
        wrapped = asyncio.wrap_future(other)
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped
        gate.open()
        assert await asyncio.wrap_future(held) == "through"

    asyncio.run(main())


# References.


def test_nothing_is_kept_of_what_is_over(one, gone):
    """Callback, argument and result go with the last reference, without the collector."""

    class Result:
        pass

    def call(_argument):
        return Result()

    gc.disable()
    try:
        argument = Thing()
        future = one.submit(call, argument)
        result = weakref.ref(future.result(20))
        one.submit(int).result(20)  # the worker has let go of the first
        passed = weakref.ref(argument), weakref.ref(call)
        del argument, call
        assert gone(*passed)
        assert result() is not None
        handle = weakref.ref(future)
        del future
        assert gone(handle, result)
    finally:
        gc.enable()


def test_nothing_is_kept_of_a_done_callback(one):
    """A done-callback goes when it has been called."""
    gc.disable()
    try:
        callback = lambda _: None  # noqa: E731  # it is to be referenced weakly
        future = one.submit(int)
        future.add_done_callback(callback)
        future.result(20)
        one.submit(int).result(20)
        gone = weakref.ref(callback)
        if future._done_callbacks:
            future._done_callbacks.clear()  # the library keeps them as long as the future
        del callback
        assert gone() is None
    finally:
        gc.enable()


def test_a_cancelled_future_and_its_arguments(column, one, running):
    """A cancelled task of ours lets go of its arguments before a worker comes to it."""
    argument = Thing()
    future = one.submit(print, argument)
    gone = weakref.ref(argument)
    del argument
    future.cancel()
    kept = gone() is not None
    assert kept == (column.differs("arguments after cancel") == "kept")


def test_a_failure_goes_with_its_future(one):
    """Nor is an exception kept once its future is gone."""

    class OwnError(Exception):
        pass

    def raise_own():
        raise OwnError

    future = one.submit(raise_own)
    gone = weakref.ref(future.exception(20))
    one.submit(int).result(20)
    del future
    gc.collect()  # a traceback may hold the frame that holds the exception
    assert gone() is None


def test_a_failure_that_nobody_looks_at(column, one, caplog):
    """Such a failure is logged here, and lost there."""
    one.submit(fail)
    one.submit(int).result(20)
    one.submit(int).result(20)
    names = [record.name for record in caplog.records]
    assert names == column.differs("failure that nobody looks at")
