"""Failures: seen by who looks, logged once when nobody does."""

import gc
import logging
import pickle
import queue
import sys
from concurrent.futures import BrokenExecutor

import asynctask
import pytest
from asynctask import BrokenPool, DelayTask, IntervalTask, PoolShutdown, QueueFull
from helpers.programs import run_program


def guilty(text="nobody looked"):
    """Raise."""
    raise LookupError(text)


def settle(pool):
    """Wait until the worker has let go of what it ran before."""
    pool.submit(int).result(20)
    gc.collect()


def test_the_exceptions_are_what_the_library_expects():
    """Who catches the standard library's exceptions catches ours."""
    assert issubclass(QueueFull, queue.Full)
    assert issubclass(PoolShutdown, RuntimeError)
    assert issubclass(BrokenPool, BrokenExecutor)
    for error in (QueueFull, PoolShutdown, BrokenPool):
        assert isinstance(pickle.loads(pickle.dumps(error("text"))), error)  # noqa: S301
        assert error.__module__.startswith("asynctask")


@pytest.mark.parametrize("options", [[], [DelayTask(0.001)]], ids=["now", "later"])
def test_a_failure_that_nobody_looked_at_is_logged_once(one, caplog, until, options):
    """When the handle goes, its failure is logged with the task's name and traceback."""
    task = one.post_task(guilty, *options, name="forgotten")
    task.wait_for_finished(20)
    settle(one)
    assert caplog.records == []  # somebody may still look
    del task
    until(lambda: caplog.records)
    settle(one)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("asynctask", logging.ERROR)
    assert "forgotten" in record.getMessage()
    kind, error, traceback = record.exc_info
    assert (kind, str(error)) == (LookupError, "nobody looked")
    while traceback.tb_next:
        traceback = traceback.tb_next
    assert traceback.tb_frame.f_code.co_name == "guilty"
    assert "guilty" in caplog.text


def test_a_failure_without_a_handle_is_logged(one, caplog, until):
    """Fire and forget does not mean forgotten."""
    one.post_task(guilty, name="fired")
    settle(one)
    until(lambda: caplog.records)  # another thread may log it
    assert ["fired" in record.getMessage() for record in caplog.records] == [True]


def raises(task):
    """Look at the result."""
    with pytest.raises(LookupError):
        task.result(20)


LOOKS = {
    "result": raises,
    "exception": lambda task: task.exception(20),
    "done_callback": lambda task: task.add_done_callback(lambda task: task.exception()),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_failure_that_somebody_looked_at_is_not_logged(one, caplog, look):
    """Whoever asked for the result or the exception has seen it."""
    task = one.submit(guilty)
    task.wait_for_finished(20)
    LOOKS[look](task)
    del task
    settle(one)
    assert caplog.records == []


def test_a_failure_that_a_group_raised_is_not_logged(one, caplog):
    """A group looks at the failures of its tasks."""
    with pytest.raises(ExceptionGroup), one.group(on_error="collect") as group:
        group.submit(guilty)
        group.submit(guilty)
    del group
    settle(one)
    assert caplog.records == []


def test_waiting_is_not_looking(one, caplog, until):
    """`wait_for_finished`, `done` and `repr` say nothing of a failure, so it is still logged."""
    task = one.submit(guilty)
    task.wait_for_finished(20)
    assert task.done()
    assert "LookupError" in repr(task)
    del task
    settle(one)
    until(lambda: caplog.records)  # another thread may log it
    assert len(caplog.records) == 1


def test_a_failure_whose_handle_goes_with_an_exception(one, caplog, until):
    """A handle that goes while another exception is on its way does not touch that one."""

    def leave():
        task = one.submit(guilty)
        task.wait_for_finished(20)
        raise KeyError("on its way")

    def without_a_trace():
        try:
            leave()
        except KeyError as error:
            raise error.with_traceback(None) from None

    with pytest.raises(KeyError, match="on its way"):
        without_a_trace()
    settle(one)
    until(lambda: caplog.records)  # another thread may log it
    assert len(caplog.records) == 1


def test_success_and_cancellation_are_not_logged(one, caplog, gate):
    """Only failures are news."""
    one.submit(int)
    gate.hold(one)
    one.submit(guilty).cancel()
    gate.open()
    settle(one)
    assert caplog.records == []


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_base_exceptions_are_kept_and_logged_too(one, caplog, error):
    """`SystemExit` and `KeyboardInterrupt` of a callback are failures like others."""

    def fail():
        raise error

    one.post_task(fail, name="base")
    settle(one)
    (record,) = caplog.records
    assert record.exc_info[1] is error
    error.__traceback__ = None


def test_a_series_logs_every_failing_run(make_pool, clock, caplog):
    """Each failing run of a series is logged, with the name, and its end is not logged again."""
    pool = make_pool(1, clock=clock)
    series = pool.post_task(guilty, IntervalTask(1, max_runs=3), name="beat")
    clock.advance(10)
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3
    assert all("beat" in record.getMessage() for record in caplog.records)
    assert all(record.exc_info[0] is LookupError for record in caplog.records)
    del series
    settle(pool)
    assert len(caplog.records) == 3


def test_a_stopped_series_logs_its_last_failing_run(make_pool, clock, gate, caplog):
    """What the last run of a stopped series raised is logged, for the handle says cancelled."""
    pool = make_pool(1, clock=clock)

    def fail():
        gate()
        guilty()

    series = pool.post_task(fail, IntervalTask(1), name="stopped")
    clock.jump(1)
    gate.wait()
    series.stop()
    gate.open()
    series.stop_and_wait(20)
    settle(pool)
    assert ["stopped" in record.getMessage() for record in caplog.records] == [True]


def test_without_logging_set_up_a_failure_goes_to_stderr(run_python):
    """A program without a logging configuration sees the traceback on stderr."""
    program = """
        import asynctask
        def guilty():
            raise LookupError("nobody looked")
        asynctask.post_task(guilty, name="forgotten")
        assert asynctask.wait_and_exit(20)
        import sys
        print("after", file=sys.stderr)
    """
    done = run_program(program, stderr=None)
    lines = done.stderr.splitlines()
    assert lines[0] == "exception in task 'forgotten' was never retrieved"
    assert lines[-2:] == ["LookupError: nobody looked", "after"]
    assert any("in guilty" in line for line in lines)


def test_a_broken_logger_harms_nothing(one, monkeypatch):
    """A handler that raises goes to `sys.unraisablehook`, and the worker goes on."""
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda hook: unraisable.append(hook.exc_type))
    monkeypatch.setattr(
        logging.getLogger("asynctask"), "error", lambda *_, **__: [].pop(), raising=True
    )
    one.submit(guilty)
    settle(one)
    assert one.submit(lambda: 1).result(20) == 1
    assert unraisable == [IndexError]


def test_an_initializer_that_fails_breaks_the_pool(make_pool, caplog):
    """Waiting tasks fail with `BrokenPool`, and so do later posts; the reason is logged."""

    def initializer():
        raise LookupError("no database")

    pool = make_pool(2, initializer=initializer)
    tasks = [pool.post_task(int, DelayTask(1000)), pool.post_task(int, IntervalTask(1000))]
    try:
        tasks.append(pool.submit(int))
    except BrokenPool:
        pytest.fail("the pool cannot know yet")
    for task in tasks:
        with pytest.raises(BrokenPool, match="initializer"):
            task.result(20)
    for post in (pool.submit, pool.post_task, pool.try_submit, pool.post_async_task):
        with pytest.raises(BrokenPool, match="initializer"):
            post(int)
    with pytest.raises(BrokenPool):
        pool.post_task(int, DelayTask(1))
    record = caplog.records[0]
    assert (record.name, record.levelno) == ("asynctask", logging.CRITICAL)
    assert str(record.exc_info[1]) == "no database"
    pool.shutdown()
    stats = pool.stats()
    assert stats.failed == stats.submitted == 3


def test_the_exceptions_are_in_the_package():
    """The exceptions are exported where one looks for them."""
    assert asynctask.QueueFull is QueueFull
    assert asynctask.exceptions.BrokenPool is BrokenPool
