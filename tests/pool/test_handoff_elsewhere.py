"""Executors of other processes, and programs that ask for an executor.

Callbacks are functions of the standard library: another process could not import this file.
"""

import asyncio
import concurrent.futures as cf
import contextlib
import os
import pickle
import queue
import threading
import time

import pytest
from asynctask import DelayTask, IntervalTask
from helpers.executors import GROUP, PATIENCE, loky_pool, process_pool


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
    while not (task.running() or task.done()):  # it may be over before this thread runs again
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
