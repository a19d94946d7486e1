"""The handle: states, waits, cancelling, and what frees what."""

import asyncio
import concurrent.futures as cf
import datetime as dt
import gc
import queue
import re
import threading
import time
import traceback
import weakref

import asynctask
import pytest
from asynctask import AsyncTask, CancelledError, DelayTask, IntervalTask
from helpers.threads import join, start


@pytest.fixture
def queued(one, gate):
    """Give a task that is queued behind a gate."""
    gate.hold(one)
    return one.submit(lambda: "result")


class Thing:
    """Something that can be seen to go away."""


# A Future.


def test_a_handle_is_a_future(pool):
    """An `AsyncTask` is a `concurrent.futures.Future`."""
    task = pool.submit(int)
    assert isinstance(task, cf.Future)
    assert isinstance(task, AsyncTask)
    assert issubclass(AsyncTask, cf.Future)
    assert AsyncTask[int]


def test_cancelled_error_and_timeout_error_are_those_of_the_library():
    """There is one `CancelledError` and one `TimeoutError`."""
    assert asynctask.CancelledError is cf.CancelledError
    assert cf.TimeoutError is TimeoutError


def test_the_states_of_a_one_shot(one, gate, queued):
    """A one-shot is pending, then running, then done, as its methods and its repr say."""
    running = one.submit(int)  # a second one that waits
    states = []

    def look(task):
        states.append(
            (task.running(), task.is_running(), task.done(), task.cancelled(), task.finished())
        )

    look(queued)
    assert "state=pending" in repr(queued)
    gate.open()
    assert queued.result(20) == "result"
    look(queued)
    assert re.fullmatch(
        r"<AsyncTask 'task-\d+' at 0x[0-9a-f]+ state=finished returned str>", repr(queued)
    )
    assert states == [(False, False, False, False, False), (False, False, True, False, True)]
    running.result(20)


def test_a_running_one_shot_says_so(one, gate):
    """During its run a task is running and has not been called yet."""
    task = gate.hold(one)
    assert task.running()
    assert task.is_running()
    assert not task.done()
    assert task.called_times() == 0
    assert "state=running" in repr(task)
    gate.open()
    assert task.result(20) == "through"
    assert task.called_times() == 1


def test_the_repr_of_a_failed_and_of_a_cancelled_task(pool, queued):
    """The repr of a handle is that of a `Future`."""
    failed = pool.submit(int, "x")
    failed.exception(20)
    assert re.fullmatch(
        r"<AsyncTask 'task-\d+' at 0x\w+ state=finished raised ValueError>", repr(failed)
    )
    queued.cancel()
    assert re.fullmatch(r"<AsyncTask 'task-\d+' at 0x\w+ state=cancelled>", repr(queued))


def test_result_and_exception_of_a_success(pool):
    """A task that returned has a result and no exception, as often as one asks."""
    task = pool.submit(lambda: [1])
    assert task.result(20) is task.result(timeout=0) is task.result()
    assert task.exception() is None


def test_result_and_exception_of_a_failure(pool):
    """A task that raised raises, with the callback's lines in the traceback, again and again."""

    def guilty():
        raise LookupError("here")

    task = pool.submit(guilty)
    for _ in range(3):
        with pytest.raises(LookupError, match="here") as caught:
            task.result(20)
        assert caught.value is task.exception()
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert names[-1] == "guilty"
        assert names.count("guilty") == 1


@pytest.mark.parametrize("method", ["set_result", "set_exception"])
def test_a_result_cannot_be_set(pool, queued, method):
    """The result is the callback's; nobody else sets it."""
    with pytest.raises(cf.InvalidStateError):
        getattr(queued, method)(ValueError())
    done = pool.submit(lambda: 1)
    done.result(20)
    with pytest.raises(cf.InvalidStateError):
        getattr(done, method)(ValueError())
    with pytest.raises(cf.InvalidStateError):
        done.set_running_or_notify_cancel()
    assert done.result() == 1


# Waiting.


@pytest.mark.parametrize("method", ["result", "exception", "wait_for_finished"])
def test_waits_time_out(queued, method):
    """A wait that takes too long raises `TimeoutError`, not before its timeout."""
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        getattr(queued, method)(0.02)
    assert time.monotonic() - began >= 0.02
    with pytest.raises(TimeoutError):
        getattr(queued, method)(0)
    with pytest.raises(TimeoutError):
        getattr(queued, method)(timeout=-1)


def test_a_timeout_may_be_a_timedelta(queued):
    """Every wait takes `timedelta` for a timeout."""
    timeout = dt.timedelta(milliseconds=10)
    for wait in (queued.result, queued.exception, queued.wait_for_finished):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            wait(timeout)
        assert time.monotonic() - began >= 0.01
    with pytest.raises(TimeoutError):
        queued.wait_for_finished_count(1, timeout)


def test_a_wait_may_have_been_met_before(pool):
    """A wait for what has happened returns, whatever its timeout."""
    task = pool.submit(lambda: 1)
    task.wait_for_finished(20)
    task.wait_for_finished(0)
    task.wait_for_finished(-1)
    assert task.result(0) == 1
    assert task.exception(-5) is None


@pytest.mark.parametrize("method", ["result", "exception", "wait_for_finished", "stop_and_wait"])
def test_waits_are_woken_by_the_end(one, gate, method):
    """Whoever waits is woken when the task is over, however many they are."""
    task = gate.hold(one)
    woken = queue.Queue()
    entered = threading.Barrier(9)

    def wait():
        entered.wait(20)
        getattr(task, method)(20)
        woken.put(None)

    threads = [start(wait) for _ in range(8)]
    entered.wait(20)
    gate.open()
    for _ in threads:
        woken.get(timeout=20)
    join(*threads)


def test_wait_for_finished_raises_nothing_of_the_callbacks(pool):
    """Waiting for the end of a run does not raise what the run raised."""
    task = pool.submit(int, "x")
    assert task.wait_for_finished(20) is None
    assert isinstance(task.exception(0), ValueError)


def test_wait_for_finished_count_of_a_one_shot(pool):
    """A one-shot has one run; waiting for two ends with it."""
    task = pool.submit(int)
    task.wait_for_finished_count(1, 20)
    with pytest.raises(CancelledError):
        task.wait_for_finished_count(2, 20)


def test_a_wait_lets_other_threads_run(one, gate):
    """A wait does not hold the GIL, which the callback needs to end."""
    task = one.submit(lambda: gate() and sum(range(1000)))
    gate.wait()
    timer = threading.Timer(0.01, gate.open)
    timer.start()
    assert task.result(20) == 499_500
    timer.join(20)


# Cancelling.


def test_a_queued_task_can_be_cancelled(one, gate, queued):
    """A task that has not started is cancelled at once, and never runs."""
    assert queued.cancel() is True
    assert queued.cancelled()
    assert queued.done()
    assert queued.cancel() is True
    for ask in (queued.result, queued.exception, queued.wait_for_finished):
        with pytest.raises(CancelledError):
            ask()
    gate.open()
    one.submit(int).result(20)
    assert queued.called_times() == 0
    assert not queued.finished()
    assert one.stats().cancelled == 1


def test_a_waiting_task_can_be_cancelled(timed, clock):
    """A task on the wheel is cancelled at once, and never runs."""
    ran = []
    task = timed.post_task(ran.append, DelayTask(1), args=(1,))
    assert task.cancel() is True
    assert timed.stats().pending_timers == 0
    clock.advance(10)
    assert ran == []
    assert task.called_times() == 0


def test_a_running_task_cannot_be_cancelled(one, gate):
    """A task that runs goes on, and its result stands."""
    task = gate.hold(one)
    assert task.cancel() is False
    assert not task.cancelled()
    gate.open()
    assert task.result(20) == "through"
    assert task.cancel() is False


def test_a_running_task_can_see_that_it_should_give_up(one, gate):
    """`check_cancelled` raises in a callback whose task was cancelled, and not before."""
    steps = []

    def work():
        asynctask.check_cancelled()
        steps.append("before")
        gate()
        steps.append("after")
        asynctask.check_cancelled()
        steps.append("never")

    task = one.submit(work)
    gate.wait()
    task.cancel()
    gate.open()
    # The run was not cancelled by anybody but itself, so its end is what it raised.
    with pytest.raises(CancelledError):
        task.result(20)
    assert steps == ["before", "after"]


def test_the_wish_to_give_up_is_the_tasks_own(make_pool, make_gate):
    """Cancelling one task says nothing to another, nor to the next on the same worker."""
    pool = make_pool(2)
    gates = [make_gate(), make_gate()]
    tasks = [pool.submit(lambda gate: (gate(), asynctask.check_cancelled()), g) for g in gates]
    for gate in gates:
        gate.wait()
    tasks[0].cancel()
    for gate in gates:
        gate.open()
    assert isinstance(tasks[0].exception(20), CancelledError)
    assert tasks[1].exception(20) is None
    assert all(pool.submit(asynctask.check_cancelled).exception(20) is None for _ in range(4))


def test_a_finished_task_cannot_be_cancelled(pool):
    """What is over stays as it was."""
    task = pool.submit(lambda: 1)
    task.result(20)
    assert task.cancel() is False
    task.stop()
    task.stop_and_wait(0)
    assert task.result() == 1
    assert not task.cancelled()


@pytest.mark.parametrize("where", ["queue", "wheel", "series"])
@pytest.mark.parametrize("method", ["cancel", "stop"])
def test_cancel_frees_callback_and_arguments_at_once(one, gate, where, method):
    """Nothing of a cancelled task is kept but its handle, even while it is still in the queue."""

    class Callback(Thing):
        def __call__(self, *args, **kwargs):
            pass

    gate.hold(one)
    callback, argument, keyword = Callback(), Thing(), Thing()
    gone = [weakref.ref(thing) for thing in (callback, argument, keyword)]
    options = {"queue": [], "wheel": [DelayTask(1000)], "series": [IntervalTask(1000)]}[where]
    task = one.post_task(callback, *options, args=(argument,), kwargs={"k": keyword})
    del callback, argument, keyword
    assert all(ref() is not None for ref in gone)
    getattr(task, method)()
    assert [ref() for ref in gone] == [None] * 3
    assert task.cancelled()


def test_a_run_frees_callback_and_arguments_before_it_is_over(pool):
    """Who has waited for a task knows that it holds nothing but its result."""
    for _ in range(100):
        argument = Thing()
        gone = weakref.ref(argument)
        task = pool.submit(lambda _: None, argument)
        del argument
        task.result(20)
        assert gone() is None


def test_a_result_is_freed_with_the_handle(pool, gone):
    """The pool keeps no result."""
    task = pool.submit(Thing)
    result = weakref.ref(task.result(20))
    assert result() is not None
    del task
    assert gone(result)


def test_cancel_against_start(make_pool):
    """Whoever cancels in the very moment of the start is told the truth."""
    pool = make_pool(2)
    for _ in range(2000):
        ran = []
        task = pool.submit(ran.append, 1)
        if task.cancel():
            assert task.cancelled()
        else:
            task.result(20)
            assert ran == [1]
    counts = pool.stats()
    assert counts.cancelled + counts.successful == 2000
    pool.shutdown()
    assert pool.stats().waiting == 0


def test_cancelling_a_crowd_in_the_queue(one, gate):
    """A hundred thousand queued tasks can be cancelled, and the rest run in order."""
    gate.hold(one)
    ran = []
    tasks = [one.submit(ran.append, n) for n in range(100_000)]
    for n, task in enumerate(tasks):
        if n % 100:
            assert task.cancel()
    assert one.stats().waiting == 1000
    gate.open()
    tasks[-100].result(20)
    assert ran == list(range(0, 100_000, 100))


# stop.


def test_stop_takes_out_what_has_not_started(timed, queued):
    """`stop` of a one-shot that waits cancels it."""
    waiting = timed.post_task(int, DelayTask(1))
    for task in (queued, waiting):
        assert task.stop() is None
        assert task.cancelled()


def test_stop_lets_a_run_go_on(one, gate):
    """`stop` of a running one-shot changes nothing, not even for `check_cancelled`."""
    task = one.submit(lambda: (gate(), asynctask.check_cancelled()))
    gate.wait()
    task.stop()
    gate.open()
    assert task.result(20) == ("through", None)


def test_stop_and_wait_of_a_running_one_shot(one, gate):
    """`stop_and_wait` waits for the run, and times out if it takes longer."""
    task = gate.hold(one)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        task.stop_and_wait(0.02)
    assert time.monotonic() - began >= 0.02
    gate.open()
    assert task.stop_and_wait(20) is None
    assert task.result(0) == "through"


# Done-callbacks.


def test_done_callbacks_are_called_in_order(one, gate):
    """Done-callbacks are called with the handle, in the order of adding, when it is done."""
    task = one.submit(gate)
    told = []
    for n in range(5):
        task.add_done_callback(lambda task, n=n: told.append((n, task.done(), task.result(0))))
    gate.open()
    task.result(20)
    one.submit(int).result(20)  # the worker has come back from them
    assert told == [(n, True, "through") for n in range(5)]


def test_a_done_callback_of_a_finished_task_is_called_at_once(pool):
    """Added too late is called by the caller."""
    task = pool.submit(int)
    task.result(20)
    told = []
    task.add_done_callback(lambda _: told.append(threading.current_thread()))
    assert told == [threading.current_thread()]


@pytest.mark.parametrize("method", ["cancel", "stop"])
def test_done_callbacks_of_a_cancelled_task_are_called_at_once(queued, method):
    """Who cancels calls the done-callbacks, before `cancel` returns."""
    told = []
    queued.add_done_callback(told.append)
    getattr(queued, method)()
    assert told == [queued]


def test_done_callbacks_of_a_series_are_called_at_its_end(timed, clock):
    """A series is done once."""
    told = []
    series = timed.post_task(int, IntervalTask(1, max_runs=3))
    series.add_done_callback(told.append)
    clock.advance(2)
    assert told == []
    clock.advance(10)
    assert told == [series]


def test_a_failing_done_callback_is_logged_and_the_others_called(one, gate, caplog):
    """A done-callback that raises is logged, and stops neither the others nor the worker."""
    task = one.submit(gate)
    told = []
    task.add_done_callback(lambda _: 1 / 0)
    task.add_done_callback(told.append)
    gate.open()
    task.result(20)
    one.submit(int).result(20)
    assert told == [task]
    (record,) = caplog.records
    assert record.name == "asynctask"
    assert record.exc_info[0] is ZeroDivisionError


def test_the_same_done_callback_twice_is_called_twice(queued, gate, one):
    """Adding is not a set operation."""
    told = []
    queued.add_done_callback(told.append)
    queued.add_done_callback(told.append)
    gate.open()
    one.submit(int).result(20)
    assert told == [queued, queued]


def test_a_done_callback_may_post_and_wait(one, gate):
    """A done-callback runs on the worker, and may do what a callback may."""
    task = one.submit(gate)
    results = queue.Queue()
    task.add_done_callback(lambda _: results.put(one.submit(lambda: "posted").result(20)))
    gate.open()
    assert results.get(timeout=20) == "posted"


# The rest of the library.


def test_wait_and_as_completed_mix_with_futures_of_the_library(one, gate):
    """`concurrent.futures.wait` and `as_completed` take tasks beside stdlib futures."""
    with cf.ThreadPoolExecutor(1) as executor:
        ours, theirs = one.submit(gate), executor.submit(gate)
        done, not_done = cf.wait([ours, theirs], timeout=0.01)
        assert (done, not_done) == (set(), {ours, theirs})
        with pytest.raises(TimeoutError):
            list(cf.as_completed([ours, theirs], timeout=0.01))
        gate.open()
        assert cf.wait([ours, theirs], timeout=20).done == {ours, theirs}
        assert set(cf.as_completed([ours, theirs, ours], timeout=20)) == {ours, theirs}


def test_wait_is_woken_by_each_kind_of_end(one, make_gate, until):
    """`wait` and `as_completed` see results, exceptions and cancellations."""
    gate = make_gate()
    first = one.submit(gate)
    failing = one.submit(int, "x")
    cancelled = one.submit(int)
    everything = [first, failing, cancelled]
    seen = queue.Queue()

    def watch():
        for task in cf.as_completed(everything, timeout=20):
            seen.put(task)
        seen.put(cf.wait(everything, timeout=20, return_when=cf.FIRST_EXCEPTION))

    thread = start(watch)
    until(lambda: cancelled._waiters)
    cancelled.cancel()
    assert seen.get(timeout=20) is cancelled
    gate.open()
    assert {seen.get(timeout=20), seen.get(timeout=20)} == {first, failing}
    assert seen.get(timeout=20).done == set(everything)
    thread.join(20)


@pytest.mark.parametrize("when", [cf.FIRST_COMPLETED, cf.FIRST_EXCEPTION, cf.ALL_COMPLETED])
def test_wait_returns_when_it_was_asked_to(make_pool, make_gate, when):
    """The three conditions of `wait` work."""
    pool = make_pool(2)
    gate = make_gate()
    held = pool.submit(gate)
    quick = pool.submit(int, "x" if when == cf.FIRST_EXCEPTION else 0)
    if when == cf.ALL_COMPLETED:
        gate.open()
    result = cf.wait([held, quick], timeout=20, return_when=when)
    assert quick in result.done
    assert (held in result.done) == (when == cf.ALL_COMPLETED)
    gate.open()
    quick.exception(20)


def test_a_task_can_be_awaited(pool):
    """`await task` gives the result, or raises."""

    async def main():
        assert await pool.submit(lambda: 1) == 1
        done = pool.submit(lambda: 2)
        done.result(20)
        assert await done == 2
        with pytest.raises(ZeroDivisionError):
            await pool.submit(lambda: 1 / 0)
        assert await asyncio.wrap_future(pool.submit(lambda: 3)) == 3
        assert await asyncio.gather(*(pool.submit(int, n) for n in range(100))) == list(range(100))
        assert await pool.post_task(lambda: 4, DelayTask(0.001)) == 4
        assert await pool.after(0.001) is None
        assert await asyncio.wait_for(pool.submit(lambda: 5), 20) == 5
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(pool, lambda: 6) == 6

    asyncio.run(main())


def test_cancelling_an_await_cancels_the_task(one, gate, queued):
    """A coroutine that stops waiting cancels a task that has not started."""

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(queued, 0.01)
        assert queued.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await queued

    asyncio.run(main())


def test_awaiting_does_not_block_the_loop(one, gate):
    """While one coroutine awaits a task, others run."""
    task = one.submit(gate)

    async def main():
        async def opener():
            gate.open()

        other = asyncio.ensure_future(opener())
        assert await task == "through"
        await other

    asyncio.run(main())


# Weak references and identity.


def test_a_handle_can_be_referenced_weakly(pool):
    """Weak references to a handle work, and die with it."""
    task = pool.submit(int)
    task.result(20)
    told = []
    reference = weakref.ref(task, lambda _: told.append("gone"))
    assert reference() is task
    assert weakref.WeakSet([task])
    del task
    assert reference() is None
    assert told == ["gone"]


def test_a_pending_task_keeps_its_handle_alive(timed, clock):
    """The handle of a task that waits need not be kept."""
    ran = []
    reference = weakref.ref(timed.post_task(ran.append, DelayTask(1), args=(1,)))
    gc.collect()
    assert reference() is not None
    clock.advance(1)
    assert ran == [1]
    timed.shutdown()
    assert reference() is None


def test_handles_are_told_apart(pool):
    """A handle equals itself only, and can be a key."""
    tasks = [pool.submit(int) for _ in range(100)]
    assert len(set(tasks)) == 100
    assert tasks[0] != tasks[1]
