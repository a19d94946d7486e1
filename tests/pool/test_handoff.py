"""Callbacks that other executors run.

Deadlines, handles, cancelling and intervals stay here; the executor sees a callback when it is due.
"""

import asyncio
import concurrent.futures as cf
import contextvars
import gc
import queue
import threading
import weakref

import pytest
from asynctask import AsyncTaskPool, DelayTask, IntervalTask
from helpers.executors import ByHand
from helpers.threads import join, start


@pytest.fixture
def by_hand():
    """Give such an executor."""
    executor = ByHand()
    yield executor
    executor.is_closed = True
    while not executor.submitted.empty():
        executor.submitted.get()[0].cancel()


def test_the_executor_sees_a_task_when_it_is_due(timed, clock, by_hand, until):
    """Before its deadline a task is unknown to the executor, and its handle is pending."""
    task = timed.post_task(pow, DelayTask(5), args=(2, 3), executor=by_hand, name="mine")
    clock.advance(4.9)
    assert by_hand.submitted.empty()
    assert not task.running()
    clock.jump(0.1)  # `advance` would wait for the end of the run
    future, call = by_hand.take()
    until(lambda: timed.stats().running_workers == 0)  # the worker is free meanwhile
    assert task.running()
    assert not task.done()
    future.set_result(call())
    assert task.result(20) == 8
    assert task.called_times() == 1
    assert task.name == "mine"
    assert timed.stats().successful == 1


def test_arguments_and_keywords(pool, by_hand):
    """Arguments go along as they are."""
    task = pool.post_task(dict, args=([("a", 1)],), kwargs={"b": 2}, executor=by_hand)
    future, call = by_hand.take()
    future.set_result(call())
    assert task.result(20) == {"a": 1, "b": 2}


def test_cancel_before_the_deadline(timed, clock, by_hand):
    """A task that is cancelled before it is due never gets to the executor."""
    task = timed.post_task(int, DelayTask(5), executor=by_hand)
    assert task.cancel()
    clock.advance(10)
    assert by_hand.submitted.empty()
    assert task.cancelled()


def test_cancel_of_what_the_executor_has_not_started(pool, by_hand):
    """A task that is queued there is cancelled there."""
    task = pool.post_task(int, executor=by_hand)
    future, *_ = by_hand.submitted.get(timeout=20)
    assert task.running()
    assert task.cancel()
    assert future.cancelled()
    assert task.cancelled()
    with pytest.raises(cf.CancelledError):
        task.result(20)


def test_cancel_of_what_the_executor_runs(pool, by_hand):
    """A task that runs there goes on, and its result stands."""
    task = pool.post_task(int, executor=by_hand)
    future, call = by_hand.take()
    assert not task.cancel()
    assert task.running()
    future.set_result(call())
    assert task.result(20) == 0
    assert not task.cancelled()


def test_a_cancellation_by_the_executor(pool, by_hand):
    """What the executor cancels is cancelled here."""
    task = pool.post_task(int, executor=by_hand)
    future, *_ = by_hand.submitted.get(timeout=20)
    future.cancel()
    assert cf.wait([task], 20).done
    assert task.cancelled()


def test_failures(pool, by_hand, caplog, until):
    """What the callback raises there is in the handle, and logged if nobody looks."""
    task = pool.post_task(int, args=("x",), executor=by_hand)
    future, call = by_hand.take()
    with pytest.raises(ValueError, match="invalid literal") as info:
        call()
    future.set_exception(info.value)
    with pytest.raises(ValueError, match="invalid literal"):
        task.result(20)
    silent = pool.post_task(int, executor=by_hand, name="silent")
    future, _ = by_hand.take()
    assert caplog.records == []
    future.set_exception(ValueError("unseen"))
    cf.wait([silent], 20)
    del silent, future, task
    gc.collect()
    until(lambda: caplog.records)  # another thread logs it
    assert [record.getMessage() for record in caplog.records] == [
        "exception in task 'silent' was never retrieved"
    ]


def test_an_executor_that_refuses(pool, by_hand):
    """What `submit` of the executor raises is in the handle."""
    by_hand.is_closed = True
    task = pool.post_task(int, executor=by_hand)
    with pytest.raises(RuntimeError, match="closed by hand"):
        task.result(20)
    later = pool.post_task(int, DelayTask(0.001), executor=by_hand)
    assert isinstance(later.exception(20), RuntimeError)
    pool.shutdown()


@pytest.mark.parametrize("executor", [3, object(), cf.Future])
def test_what_is_no_executor(pool, executor):
    """It is refused at the call."""
    with pytest.raises(TypeError, match="must be a concurrent"):
        pool.post_task(int, executor=executor)
    with pytest.raises(TypeError, match="must be a concurrent"):
        AsyncTaskPool(executor=executor)


def test_a_series_by_hand(timed, clock, by_hand):
    """A run that is going there makes the next tick skip; the series goes on after it."""
    series = timed.post_task(int, IntervalTask(1), executor=by_hand)
    clock.jump(1)
    future, call = by_hand.take()
    clock.jump(1)
    assert by_hand.submitted.empty()
    future.set_result(call())
    series.wait_for_finished_count(1, 20)
    clock.jump(1)
    future, call = by_hand.take()
    future.set_exception(ValueError("of one run"))
    series.wait_for_finished_count(2, 20)
    assert not series.done()
    clock.jump(1)
    future, _ = by_hand.take()
    series.stop()
    assert not series.done()
    future.set_result(0)
    with pytest.raises(cf.CancelledError):
        series.result(20)
    assert series.called_times() == 3


def test_cancelling_a_series_whose_run_is_queued_there(timed, clock, by_hand):
    """`cancel` of a series also cancels its run there, if that has not started."""
    series = timed.post_task(int, IntervalTask(1), executor=by_hand)
    clock.jump(1)
    future, *_ = by_hand.submitted.get(timeout=20)
    assert series.cancel()
    assert future.cancelled()
    assert cf.wait([series], 20).done
    assert series.cancelled()


@pytest.mark.parametrize("on_error", ["continue", "stop"])
def test_a_run_of_a_series_that_somebody_else_cancels(timed, clock, by_hand, caplog, on_error):
    """To a series it is a failing run: it is logged, and `on_error` says what comes next."""
    option = IntervalTask(1, on_error=on_error)
    series = timed.post_task(int, option, executor=by_hand, name="beat")
    for runs in (1, 2):
        clock.jump(1)
        future, *_ = by_hand.submitted.get(timeout=20)
        future.cancel()
        series.wait_for_finished_count(runs, 20)
        if on_error == "stop":
            break
        assert not series.done()
    assert [record.getMessage() for record in caplog.records] == [
        "exception in a run of task 'beat'"
    ] * runs
    assert all(isinstance(record.exc_info[1], cf.CancelledError) for record in caplog.records)
    if on_error == "stop":
        assert isinstance(series.exception(20), cf.CancelledError)
        assert not series.cancelled()


class GatedSubmit(ByHand):
    """An executor whose `submit` says that it has been entered, and waits to be let through."""

    def __init__(self, gate, *, begins=False, refuses=False):
        super().__init__()
        self.gate = gate
        self.begins = begins
        self.refuses = refuses

    def submit(self, fn, /, *args, **kwargs):
        """Wait at the gate."""
        self.gate()
        if self.refuses:
            raise RuntimeError("refused by hand")
        future = super().submit(fn, *args, **kwargs)
        if self.begins:
            assert future.set_running_or_notify_cancel()
        return future


def test_cancel_while_submit_is_under_way(one, gate, until):
    """The task is cancelled at once, and what `submit` gives afterwards is cancelled too."""
    executor = GatedSubmit(gate)
    called = []
    task = one.post_task(int, executor=executor)
    task.add_done_callback(called.append)
    gate.wait()
    assert task.running()
    assert task.cancel()
    assert (task.cancelled(), task.running(), called) == (True, False, [task])
    assert task.cancel()
    with pytest.raises(cf.CancelledError):
        task.result(0)
    assert one.stats().running_elsewhere == 0
    gate.open()
    future, *_ = executor.submitted.get(timeout=20)
    until(future.cancelled)
    one.submit(int).result(20)  # the worker is through
    assert (called, one.stats().cancelled) == ([task], 1)


@pytest.mark.parametrize("fails", [False, True])
def test_cancel_before_a_submit_that_begins_the_run(one, gate, caplog, fails):
    """What such a run returns is nobody's; that it failed is logged."""
    executor = GatedSubmit(gate, begins=True)
    task = one.post_task(int, executor=executor, name="begun")
    gate.wait()
    assert task.cancel()
    gate.open()
    future, *_ = executor.submitted.get(timeout=20)
    one.submit(int).result(20)
    if fails:
        future.set_exception(ValueError("after all"))
    else:
        future.set_result(1)
    assert task.cancelled()
    assert [record.getMessage() for record in caplog.records] == [
        "exception in a run of task 'begun'"
    ] * fails


def test_cancel_before_a_submit_that_refuses(one, gate, caplog):
    """The task is cancelled, and once only."""
    task = one.post_task(int, executor=GatedSubmit(gate, refuses=True))
    gate.wait()
    assert task.cancel()
    gate.open()
    one.submit(int).result(20)
    assert task.cancelled()
    assert (one.stats().cancelled, one.stats().failed, caplog.records) == (1, 0, [])


def test_cancelling_a_series_while_submit_is_under_way(make_pool, clock, gate, until):
    """The series ends with that run, which is cancelled when `submit` has given it."""
    executor = GatedSubmit(gate)
    series = make_pool(1, clock=clock).post_task(int, IntervalTask(1), executor=executor)
    clock.jump(1)
    gate.wait()
    assert series.cancel()
    assert not series.done()
    gate.open()
    future, *_ = executor.submitted.get(timeout=20)
    until(series.done)
    assert future.cancelled()
    assert series.cancelled()


def test_an_executor_that_runs_callbacks_in_submit(pool):
    """There the callback is running: `cancel` says no, its result stands, and it cannot wait."""

    class OnTheSpot(cf.Executor):
        def submit(self, fn, /, *args, **kwargs):
            future = cf.Future()
            future.set_running_or_notify_cancel()
            future.set_result(fn(*args, **kwargs))
            return future

    posted = queue.Queue()

    def callback():
        task = posted.get(timeout=20)
        with pytest.raises(RuntimeError, match="wait for itself"):
            task.result()
        return task.cancel()

    task = pool.post_task(callback, executor=OnTheSpot())
    posted.put(task)
    assert task.result(20) is False
    assert not task.cancelled()


def test_shutdown_waits_for_what_was_handed_over(one, by_hand):
    """`shutdown` returns when the runs have come back, `wait_and_exit` when the time is up."""
    task = one.post_task(int, executor=by_hand)
    future, call = by_hand.take()
    assert one.wait_and_exit(0.01) is False
    waiter = start(one.shutdown)
    assert waiter.is_alive()
    future.set_result(call())
    join(waiter)
    assert task.result(0) == 0
    assert one.wait_and_exit(0) is True


def test_shutdown_cancels_what_is_not_due(make_pool, by_hand):
    """Tasks that wait for their deadline are cancelled, wherever they were to run."""
    pool = make_pool(1, executor=by_hand)
    later = pool.post_task(int, DelayTask(1000))
    series = pool.post_task(int, IntervalTask(1000))
    pool.shutdown()
    assert later.cancelled()
    assert series.cancelled()
    assert by_hand.submitted.empty()


def test_a_pool_that_hands_everything_over(make_pool, by_hand):
    """With `executor=` no callback of the pool runs on its own workers, unless told otherwise."""
    pool = make_pool(2, executor=by_hand)
    tasks = [pool.submit(int, "1"), pool.post_task(int, args=["2"]), pool.try_submit(int, "3")]
    tasks.append(pool.post_delay_task(lambda: 4, 0.001))
    for _ in tasks:
        future, call = by_hand.take()
        future.set_result(call())
    assert [task.result(20) for task in tasks] == [1, 2, 3, 4]
    with cf.ThreadPoolExecutor(1, "other") as other:
        name = pool.post_task(lambda: threading.current_thread().name, executor=other).result(20)
        assert name.startswith("other")


def test_coroutines_of_a_pool_that_hands_over(make_pool, by_hand):
    """A coroutine function runs on its loop even then."""
    pool = make_pool(1, executor=by_hand)

    async def coroutine():
        return "on the loop"

    async def main():
        return await pool.submit(coroutine)

    assert asyncio.run(main()) == "on the loop"
    assert by_hand.submitted.empty()


def test_context_does_not_follow(pool, by_hand):
    """Another executor has contexts of its own."""
    variable = contextvars.ContextVar("variable", default="its own")
    variable.set("the poster's")
    with cf.ThreadPoolExecutor(1) as executor:
        assert pool.post_task(variable.get, executor=executor).result(20) == "its own"


def test_nothing_is_kept(pool, by_hand):
    """The handle of a task that was handed over keeps neither callback nor executor's future."""

    def call():
        return None

    task = pool.post_task(call, executor=by_hand)
    future, run = by_hand.take()
    future.set_result(run())
    task.result(20)
    gone = [weakref.ref(call), weakref.ref(future)]
    del call, future, run
    gc.collect()
    assert [reference() for reference in gone] == [None, None]


def test_a_group_that_is_handed_over(make_pool):
    """Groups and `map` work on a pool that hands over."""
    with cf.ThreadPoolExecutor(2) as executor:
        pool = make_pool(2, executor=executor)
        with pool.group() as group:
            for n in range(5):
                group.submit(pow, n, 2)
        assert group.results() == [0, 1, 4, 9, 16]
        assert list(pool.map(pow, range(5), [2] * 5)) == [0, 1, 4, 9, 16]
        with pytest.raises(ExceptionGroup), pool.group() as group:
            group.submit(int, "x")


def test_a_task_that_is_awaited(make_pool):
    """A task that was handed over can be awaited."""

    async def main(executor):
        pool = make_pool(1, executor=executor)
        assert await pool.submit(pow, 2, 3) == 8
        tasks = [pool.submit(abs, -n) for n in range(50)]
        assert await asyncio.gather(*tasks) == list(range(50))

    with cf.ThreadPoolExecutor(2) as executor:
        asyncio.run(main(executor))
