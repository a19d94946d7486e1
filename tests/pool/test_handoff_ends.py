"""A series whose executor takes nothing any more, or for the moment."""

import concurrent.futures as cf
import os
import time

import asynctask
import pytest
from asynctask import AsyncTaskPool, IntervalTask
from helpers.executors import PATIENCE, ByHand, loky_pool, process_pool


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
    busy.hold(full)
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
        gate.hold(executor)
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
