"""Callbacks that other executors run, and programs that ask for an executor.

Deadlines, handles, cancelling and intervals stay here; the executor sees a callback when it is due.
Callbacks are functions of the standard library: another process could not import this file.
"""

import asyncio
import concurrent.futures as cf
import contextlib
import contextvars
import gc
import multiprocessing
import os
import pickle
import queue
import threading
import time
import weakref

import asynctask
import pytest
from asynctask import AsyncTaskPool, DelayTask, IntervalTask

PATIENCE = 60
GROUP = "the group `handoff` of pyproject.toml has it; `make test-slow` installs that"


class ByHand(cf.Executor):
    """An executor whose tasks the test runs, one by one."""

    def __init__(self):
        self.submitted = queue.Queue()
        self.is_closed = False

    def submit(self, fn, /, *args, **kwargs):
        """Put it where the test finds it."""
        if self.is_closed:
            raise RuntimeError("closed by hand")
        future = cf.Future()
        self.submitted.put((future, fn, args, kwargs))
        return future

    def take(self):
        """Take the next one; it is running."""
        future, fn, args, kwargs = self.submitted.get(timeout=20)
        assert future.set_running_or_notify_cancel()
        return future, lambda: fn(*args, **kwargs)


@pytest.fixture
def by_hand():
    """Give such an executor."""
    executor = ByHand()
    yield executor
    executor.is_closed = True
    while not executor.submitted.empty():
        executor.submitted.get()[0].cancel()


# What stays here, in detail.


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


# A series whose executor takes nothing any more.


def initializer_that_fails():
    """Fail."""
    raise LookupError("of the initializer")


def fail_a_worker(executor):
    """Have the executor find out that it is broken."""
    with pytest.raises(cf.BrokenExecutor):
        executor.submit(int).result(20)


def kill_a_worker(executor):
    """Have a process of the executor die."""
    with pytest.raises(cf.BrokenExecutor):
        executor.submit(os._exit, 3).result(PATIENCE)


class SaysSo(ByHand):
    """An executor that says nothing of itself but what `submit` raises."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def submit(self, fn, /, *args, **kwargs):
        """Refuse."""
        raise self.error


@contextlib.contextmanager
def process_pool():
    """Make a process pool of the standard library."""
    context = multiprocessing.get_context("spawn")
    with cf.ProcessPoolExecutor(2, mp_context=context) as executor:
        yield executor


@contextlib.contextmanager
def loky_pool():
    """Make loky's."""
    loky = pytest.importorskip("loky", reason=GROUP)
    executor = loky.get_reusable_executor(max_workers=2, timeout=PATIENCE)
    yield executor
    executor.shutdown(wait=True, kill_workers=True)


AFTER_SHUTDOWN = "cannot schedule new futures after shutdown"

ENDS = {
    "threads": (lambda: cf.ThreadPoolExecutor(1), lambda executor: executor.shutdown()),
    "processes": (process_pool, lambda executor: executor.shutdown()),
    "ours": (lambda: AsyncTaskPool(1), lambda executor: executor.shutdown()),
    "broken threads": (
        lambda: cf.ThreadPoolExecutor(1, initializer=initializer_that_fails),
        fail_a_worker,
    ),
    "ours, broken": (lambda: AsyncTaskPool(1, initializer=initializer_that_fails), fail_a_worker),
    "another": (lambda: SaysSo(RuntimeError(AFTER_SHUTDOWN)), lambda _: None),
    "another, broken": (lambda: SaysSo(cf.BrokenExecutor("by hand")), lambda _: None),
    "at the program's end": (
        lambda: SaysSo(RuntimeError(AFTER_SHUTDOWN.replace("after", "after interpreter"))),
        lambda _: None,
    ),
}


OTHER_PROCESSES = {
    "loky": (loky_pool, lambda executor: executor.shutdown()),
    "processes that die": (process_pool, kill_a_worker),
}


@pytest.mark.filterwarnings("ignore")  # processes and threads together are others' to warn of
@pytest.mark.parametrize(
    "kind", [*ENDS, pytest.param("loky", marks=pytest.mark.slow), "processes that die"]
)
@pytest.mark.parametrize("max_runs", [None, 1])
def test_a_series_whose_executor_is_gone(timed, clock, caplog, kind, max_runs):
    """It ends as failed, and says so once; its ticks add up, and the pool goes on."""
    make, end = (ENDS | OTHER_PROCESSES)[kind]
    option = IntervalTask(1, max_runs=max_runs)
    with make() as executor:
        series = timed.post_task(int, option, executor=executor, name="beat")
        end(executor)
        caplog.clear()
        clock.advance(5)
        assert isinstance(series.exception(20), RuntimeError)
        clock.advance(5)
    assert not series.cancelled()
    assert [record.getMessage() for record in caplog.records] == [
        "exception in a run of task 'beat'"
    ]
    stats = timed.stats()
    assert (stats.failed, stats.pending_timers, stats.running_elsewhere) == (1, 0, 0)
    assert (series.called_times(), stats.skipped_runs, stats.missed_runs) == (1, 0, 0)
    assert timed.submit(abs, -1).result(20) == 1


def executor_of_busy_threads(error):
    """Make a `ThreadPoolExecutor` whose `submit` raises."""

    class Busy(cf.ThreadPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            raise error

    return Busy(1)


NO_ENDS = {
    "another error": lambda: SaysSo(OSError("too many open files")),
    "busy": lambda: SaysSo(RuntimeError("can't start new thread")),
    "no thread": lambda: SaysSo(asynctask.BrokenPool("cannot start a thread: by hand")),
    "full": lambda: SaysSo(asynctask.QueueFull("by hand")),
    "what another one says": lambda: executor_of_busy_threads(RuntimeError(AFTER_SHUTDOWN)),
    "another one is broken": lambda: executor_of_busy_threads(cf.BrokenExecutor("by hand")),
}


@pytest.mark.parametrize("kind", NO_ENDS)
def test_a_series_whose_executor_refuses_a_run(timed, clock, caplog, kind):
    """That is one failing run: it is logged, and the series goes on."""
    with NO_ENDS[kind]() as executor:
        series = timed.post_task(int, IntervalTask(1), executor=executor)
        clock.advance(3)
        series.wait_for_finished_count(3, 20)
        assert (series.done(), len(caplog.records)) == (False, 3)
        series.cancel()


def test_a_series_whose_executor_is_full(timed, clock, make_pool, make_gate, caplog):
    """A run that finds no room there fails, and later ones find it."""
    busy, queued = make_gate(), make_gate()
    full = make_pool(1, queue_size=1, on_full="raise")
    full.submit(busy)
    busy.wait()
    full.submit(queued)
    series = timed.post_task(int, IntervalTask(1), executor=full)
    clock.advance(2)
    series.wait_for_finished_count(2, 20)
    assert (series.done(), len(caplog.records)) == (False, 2)
    busy.open()
    queued.wait()  # there is room
    clock.jump(1)
    queued.open()
    series.wait_for_finished_count(3, 20)
    assert (series.done(), len(caplog.records)) == (False, 2)
    series.cancel()


def test_a_shutdown_that_cancels_the_run_of_a_series(timed, clock, gate, caplog):
    """The series ends with it, as failed, and says so once."""
    with cf.ThreadPoolExecutor(1) as executor:
        executor.submit(gate)
        gate.wait()
        series = timed.post_task(int, IntervalTask(1), executor=executor)
        clock.jump(1)
        while not executor._work_queue.qsize():
            time.sleep(0.001)
        executor.shutdown(wait=False, cancel_futures=True)
        assert isinstance(series.exception(20), cf.CancelledError)
        gate.open()
    assert not series.cancelled()
    assert len(caplog.records) == 1


def test_a_shutdown_lets_the_run_of_a_series_end(timed, clock, gate, caplog):
    """What is running there ends as it would have, and the next run is the one that fails."""
    with cf.ThreadPoolExecutor(1) as executor:
        series = timed.post_task(gate, IntervalTask(1), executor=executor)
        clock.jump(1)
        gate.wait()
        executor.shutdown(wait=False)
        gate.open()
        series.wait_for_finished_count(1, 20)
        assert (series.done(), caplog.records) == (False, [])
        clock.advance(1)
        assert isinstance(series.exception(20), RuntimeError)
    assert len(caplog.records) == 1


def test_shutdown_waits_for_what_was_handed_over(make_pool, by_hand):
    """`shutdown` returns when the runs have come back, `wait_and_exit` when the time is up."""
    pool = make_pool(1)
    task = pool.post_task(int, executor=by_hand)
    future, call = by_hand.take()
    assert pool.wait_and_exit(0.01) is False
    waiter = threading.Thread(target=pool.shutdown)
    waiter.start()
    assert waiter.is_alive()
    future.set_result(call())
    waiter.join(20)
    assert not waiter.is_alive()
    assert task.result(0) == 0
    assert pool.wait_and_exit(0) is True


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


# Real executors of other processes.


@contextlib.contextmanager
def dask_cluster():
    """Make a cluster of one worker process on this machine, and its executor."""
    distributed = pytest.importorskip("distributed", reason=GROUP)
    with (
        distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            host="127.0.0.1",
            dashboard_address=None,
            scheduler_port=0,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        # Without `pure=False` the cluster takes each run of a series for the same task.
        yield client.get_executor(pure=False)


@pytest.fixture(
    scope="module",
    params=[
        "processes",
        pytest.param("loky", marks=pytest.mark.slow),
        pytest.param("dask", marks=pytest.mark.slow),
    ],
)
def executor(request):
    """Give an executor that runs callbacks in other processes."""
    make = {"processes": process_pool, "loky": loky_pool, "dask": dask_cluster}[request.param]
    with make() as executor:
        yield executor


# What these libraries and their processes warn of is theirs.
away = pytest.mark.filterwarnings("ignore")


@away
def test_results_from_elsewhere(pool, executor):
    """Callbacks run in another process, and results and failures come back."""
    assert pool.post_task(pow, args=(2, 10), executor=executor).result(PATIENCE) == 1024
    assert pool.post_task(os.getpid, executor=executor).result(PATIENCE) != os.getpid()
    task = pool.post_task(int, args=("x",), kwargs={"base": 10}, executor=executor)
    with pytest.raises(ValueError, match="invalid literal"):
        task.result(PATIENCE)


@away
def test_a_delay_elsewhere(pool, executor):
    """A delay is counted here; what is cancelled before never goes there."""
    began = time.monotonic()
    task = pool.post_task(time.time, DelayTask(0.05), executor=executor)
    cancelled = pool.post_task(time.time, DelayTask(0.01), executor=executor)
    assert cancelled.cancel()
    task.result(PATIENCE)
    assert time.monotonic() - began >= 0.05
    assert cancelled.cancelled()
    assert cancelled.called_times() == 0


@away
def test_a_series_elsewhere(pool, executor):
    """The runs of a series happen there, its ticks here."""
    series = pool.post_task(os.getpid, IntervalTask(0.01, max_runs=3), executor=executor)
    assert series.result(PATIENCE) != os.getpid()
    assert series.called_times() == 3
    endless = pool.post_task(os.getpid, IntervalTask(0.01), executor=executor)
    endless.wait_for_finished_count(2, PATIENCE)
    endless.stop_and_wait(PATIENCE)
    assert endless.cancelled()
    assert not endless.running()


@away
def test_cancel_elsewhere(pool, executor):
    """Cancelling a task that is there is whatever the executor makes of it."""
    task = pool.post_task(time.sleep, args=(0.2,), executor=executor)
    while not task.running():
        time.sleep(0.001)
    told = task.cancel()
    if told:
        with pytest.raises(cf.CancelledError):
            task.result(PATIENCE)
    else:
        assert task.result(PATIENCE) is None
    assert task.cancelled() == told


@away
def test_a_pool_on_another_executor(make_pool, executor):
    """A pool on such an executor serves as one; its shutdown waits, and leaves it alone."""
    own = make_pool(2, executor=executor)
    assert list(own.map(abs, range(-3, 0))) == [3, 2, 1]
    tasks = [own.submit(time.sleep, 0.01) for _ in range(5)]
    own.shutdown()
    assert all(task.done() and not task.cancelled() for task in tasks)
    assert executor.submit(abs, -1).result(PATIENCE) == 1


@away
def test_many_elsewhere(make_pool, executor):
    """A few hundred callbacks make the way there and back."""
    own = make_pool(4, executor=executor)
    tasks = [own.submit(abs, -n) for n in range(300)]
    assert [task.result(PATIENCE) for task in tasks] == list(range(300))


@away
def test_a_process_that_dies(pool):
    """The death of the process is in the handle, and of later ones, and ends nothing here."""
    with process_pool() as executor:
        task = pool.post_task(os._exit, args=(3,), executor=executor)
        assert isinstance(task.exception(PATIENCE), cf.BrokenExecutor)
        later = pool.post_task(abs, args=(-1,), executor=executor)
        assert isinstance(later.exception(PATIENCE), cf.BrokenExecutor)
    assert pool.submit(abs, -1).result(20) == 1


@away
def test_a_callback_that_cannot_be_sent(pool):
    """What cannot be pickled is the handle's failure."""
    with process_pool() as executor:
        task = pool.post_task(lambda: None, executor=executor)
        assert isinstance(task.exception(PATIENCE), (AttributeError, pickle.PicklingError))


# Who asks for an executor.


@pytest.mark.slow
@away
def test_dasks_threaded_scheduler(make_pool):
    """`dask.config.set(pool=…)` takes the pool, also from a callback of the pool itself."""
    pytest.importorskip("dask", reason=GROUP)
    import dask  # noqa: PLC0415  # may be missing

    pool = make_pool(3)

    def total():
        parts = [dask.delayed(pow)(n, 2) for n in range(20)]
        return dask.delayed(sum)(parts)

    with dask.config.set(scheduler="threads", pool=pool):
        assert total().compute() == sum(n**2 for n in range(20))
        assert pool.stats().submitted >= 20
        with pytest.raises(ZeroDivisionError):
            dask.delayed(divmod)(1, 0).compute()
    pool.resize(2)
    assert pool._max_workers == 2


@pytest.mark.slow
@away
def test_an_executor_of_apscheduler(make_pool):
    """APScheduler's jobs run on the pool by way of its own adapter for pools."""
    pytest.importorskip("apscheduler", reason=GROUP)
    from apscheduler.events import (  # noqa: PLC0415  # may be missing
        EVENT_JOB_ERROR,
        EVENT_JOB_EXECUTED,
    )
    from apscheduler.executors.pool import BasePoolExecutor  # noqa: PLC0415
    from apscheduler.schedulers.background import BackgroundScheduler  # noqa: PLC0415

    class Executor(BasePoolExecutor):
        def __init__(self, pool):
            super().__init__(pool)

    pool = make_pool(2)
    events = queue.Queue()
    names = queue.Queue()
    scheduler = BackgroundScheduler(executors={"default": Executor(pool)}, timezone="UTC")
    scheduler.add_listener(events.put, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)
    scheduler.start()
    try:
        scheduler.add_job(lambda: names.put(threading.current_thread().name), id="good")
        assert events.get(timeout=PATIENCE).job_id == "good"
        assert names.get(timeout=PATIENCE).startswith("asynctask-")
        scheduler.add_job(int, args=["x"], id="bad")
        event = events.get(timeout=PATIENCE)
        assert event.job_id == "bad"
        assert isinstance(event.exception, ValueError)
    finally:
        scheduler.shutdown(wait=True)
    assert pool.stats().waiting == 0


@pytest.mark.slow
@away
def test_tornado(make_pool):
    """Tornado's `run_on_executor` and `IOLoop.run_in_executor` take the pool."""
    pytest.importorskip("tornado", reason=GROUP)
    from tornado.concurrent import run_on_executor  # noqa: PLC0415  # may be missing
    from tornado.ioloop import IOLoop  # noqa: PLC0415

    class Service:
        executor = make_pool(2)

        @run_on_executor
        def work(self, n):
            return n * 2, threading.current_thread().name

        @run_on_executor
        def fail(self):
            raise ValueError("failed")

    async def main():
        service = Service()
        doubled, name = await service.work(3)
        assert doubled == 6
        assert name.startswith("asynctask-")
        with pytest.raises(ValueError, match="failed"):
            await service.fail()
        return await IOLoop.current().run_in_executor(service.executor, abs, -7)

    assert asyncio.run(main()) == 7
