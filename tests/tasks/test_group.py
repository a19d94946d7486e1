"""Groups: waited for together, in order, and given up together."""

import asyncio
import gc
import threading
import time
import weakref
from threading import Event

import asynctask
import pytest
from asynctask import CancelledError, DelayTask, IntervalTask, PoolShutdown, TaskGroup
from helpers.threads import join, start


def guilty(text="guilty"):
    """Raise."""
    raise LookupError(text)


def test_results_come_in_the_order_of_posting(pool):
    """`results` waits, and gives the results in the order of posting."""
    group = pool.group()
    for n in range(50):
        group.submit(pow, n, 2)
    group.post_task(lambda: "late", DelayTask(0.005))
    group.submit(lambda: "last")
    assert group.results() == [*[n**2 for n in range(50)], "late", "last"]


def test_leaving_the_block_waits(pool):
    """A group's block ends when its tasks are over."""
    ran = []
    with pool.group() as group:
        assert isinstance(group, TaskGroup)
        for n in range(100):
            group.submit(ran.append, n)
        group.post_task(ran.append, DelayTask(0.005), args=("late",))
    assert sorted(ran[:-1]) == list(range(100))
    assert ran[-1] == "late"


def test_an_empty_group_is_over(pool):
    """A group without tasks has nothing to wait for."""
    with pool.group() as group:
        pass
    assert group.results() == []
    assert pool.group().wait(0) is None


def test_a_group_gives_handles(pool):
    """`submit` and `post_task` of a group give the tasks' handles."""
    with pool.group() as group:
        tasks = [
            group.submit(int, "7"),
            group.post_task(int, args=("8",), name="eight"),
            group.post_task(int, DelayTask(0), kwargs={}, context=None),
        ]
    assert [task.result(0) for task in tasks] == [7, 8, 0]
    assert tasks[1].name == "eight"


def test_wait_raises_the_first_failure_as_it_is(one, gate):
    """`wait` raises the first failure in the order of posting, not wrapped."""
    one.submit(gate)
    group = one.group()
    group.submit(int)
    group.submit(guilty, "first")
    group.submit(guilty, "second")
    gate.open()
    for wait in (lambda: group.wait(20), group.results):
        with pytest.raises(LookupError, match="first"):
            wait()


@pytest.mark.parametrize("failures", [["first"], ["first", "second"]], ids=len)
def test_what_was_collected_comes_out_together(one, failures):
    """With `on_error="collect"` `wait` and `results` raise all failures, as the block does."""
    with pytest.raises(ExceptionGroup) as left, one.group(on_error="collect") as group:
        group.submit(int)
        for text in failures:
            group.submit(guilty, text)
    for wait in (group.wait, lambda: group.wait(20), group.results):
        with pytest.raises(ExceptionGroup) as caught:
            wait()
        assert str(caught.value) == str(left.value)
        assert [str(error) for error in caught.value.exceptions] == failures


def test_the_first_failure_cancels_the_rest(one, gate):
    """What has not started when a task fails is cancelled, and the block raises the failure."""
    ran = []
    with pytest.raises(ExceptionGroup) as caught, one.group() as group:
        gate.hold(group)
        group.submit(guilty)
        tasks = [group.submit(ran.append, n) for n in range(10)]
        tasks.append(group.post_task(ran.append, DelayTask(1000), args=("later",)))
        tasks.append(group.post_task(ran.append, IntervalTask(1000), args=("series",)))
        gate.open()
    assert ran == []
    assert all(task.cancelled() for task in tasks)
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    assert "1 of 14" in str(caught.value)


def test_the_first_failure_asks_running_tasks_to_give_up(make_pool, make_gate):
    """`check_cancelled` in a task raises once another task of the group has failed."""
    pool = make_pool(2)
    gate = make_gate()

    def patient():
        gate()
        asynctask.check_cancelled()

    with pytest.raises(ExceptionGroup) as caught, pool.group() as group:
        running = group.submit(patient)
        gate.wait()
        failing = group.submit(guilty)
        failing.wait_for_finished(20)
        pool.submit(int).result(20)  # the worker has told the group
        gate.open()
    assert isinstance(running.exception(0), CancelledError)
    assert LookupError in [type(error) for error in caught.value.exceptions]


def test_collect_runs_everything_and_raises_everything(one):
    """With `on_error="collect"` all tasks run, and all failures come out together, in order."""
    ran = []
    with pytest.raises(ExceptionGroup) as caught, one.group(on_error="collect") as group:
        group.submit(guilty, "a")
        group.submit(ran.append, 1)
        group.submit(guilty, "b")
        group.submit(ran.append, 2)
    assert ran == [1, 2]
    assert [str(error) for error in caught.value.exceptions] == ["a", "b"]


def test_failures_can_be_caught_by_kind(one):
    """`except*` takes a group's failures apart."""
    seen = []
    try:
        with one.group(on_error="collect") as group:
            group.submit(guilty)
            group.submit(int, "x")
    except* LookupError as errors:
        seen.append(len(errors.exceptions))
    except* ValueError as errors:
        seen.append(len(errors.exceptions))
    assert seen == [1, 1]


def test_a_base_exception_makes_a_base_exception_group(one):
    """`SystemExit` of a task is in a `BaseExceptionGroup`."""

    def leave():
        raise SystemExit(3)

    with pytest.raises(BaseExceptionGroup) as caught, one.group() as group:
        group.submit(leave)
    assert not isinstance(caught.value, ExceptionGroup)
    assert [type(error) for error in caught.value.exceptions] == [SystemExit]


def test_an_exception_in_the_block_cancels_the_group(one, gate):
    """If the block itself raises, its tasks are cancelled and waited for, and it comes out."""
    gate.hold(one)
    ran = []
    with pytest.raises(KeyError, match="mine"), one.group() as group:
        tasks = [group.submit(ran.append, n) for n in range(3)]
        raise KeyError("mine")
    assert all(task.cancelled() for task in tasks)
    gate.open()
    one.submit(int).result(20)
    assert ran == []


def test_an_exception_in_the_block_waits_for_what_runs(one, gate):
    """Even then the block does not end before what had started is over."""
    with pytest.raises(KeyError), one.group() as group:
        task = gate.hold(group)
        threading.Timer(0.01, gate.open).start()
        raise KeyError
    assert task.result(0) == "through"


def test_cancel_takes_out_what_has_not_started(one, gate):
    """A cancelled group runs nothing more, and its wait says so."""
    group = one.group()
    running = group.submit(lambda: (gate(), asynctask.check_cancelled()))
    gate.wait()
    queued, later = group.submit(int), group.post_task(int, DelayTask(1000))
    group.cancel()
    assert (queued.cancelled(), later.cancelled(), running.done()) == (True, True, False)
    gate.open()
    assert isinstance(running.exception(20), CancelledError)
    with pytest.raises(CancelledError):
        group.wait(20)
    with pytest.raises(CancelledError):
        group.results()


def test_a_task_added_to_a_cancelled_group_is_cancelled(one, gate):
    """A cancelled group stays cancelled."""
    gate.hold(one)
    group = one.group()
    group.cancel()
    assert group.submit(int).cancelled()
    assert group.post_task(int, DelayTask(1)).cancelled()
    with pytest.raises(CancelledError), group:
        pass


def test_a_task_cancelled_by_itself_is_no_failure(one, gate):
    """One cancelled task does not make a group fail, nor cancel the others."""
    gate.hold(one)
    with one.group() as group:
        cancelled, other = group.submit(int), group.submit(lambda: 5)
        cancelled.cancel()
        gate.open()
    assert other.result(0) == 5
    with pytest.raises(CancelledError):
        group.results()


def test_the_deadline_is_no_earlier_than_asked(one):
    """When the group's time is up, and not before, the wait times out."""
    began = time.monotonic()
    group = one.group(timeout=0.02)
    task = group.post_task(int, DelayTask(1000))
    with pytest.raises(TimeoutError):
        group.wait()
    assert time.monotonic() - began >= 0.02
    assert task.cancelled()


def test_the_deadline_cancels_what_is_left(make_pool, clock, make_gate, until):
    """What has not started is cancelled, what runs is asked to give up, though nobody waits."""
    pool = make_pool(2, clock=clock)
    busy, gate = make_gate(), make_gate()
    group = pool.group(timeout=1000)
    running = group.submit(lambda: (gate(), asynctask.check_cancelled()))
    gate.wait()
    later = group.post_task(int, DelayTask(2000))
    clock.jump(1000)
    until(later.cancelled)
    pool.submit(busy)
    assert group.submit(int).cancelled()
    gate.open()
    assert isinstance(running.exception(20), CancelledError)
    with pytest.raises(TimeoutError):
        group.wait()


def test_a_group_that_was_over_in_time_stays_so(timed, clock):
    """A deadline that passes when everything is over changes nothing."""
    group = timed.group(timeout=1000)
    group.submit(lambda: 5).result(20)
    clock.advance(1000)
    assert timed.stats().pending_timers == 0
    assert group.results() == [5]


def test_a_task_added_after_the_deadline_is_cancelled(make_pool, gate, until):
    """Whatever is added too late does not run."""
    pool = make_pool(2)
    gate.hold(pool)
    group = pool.group(timeout=0.01)
    until(lambda: pool.stats().pending_timers == 0)
    late = group.post_task(int, DelayTask(1000))
    assert late.cancelled()
    with pytest.raises(TimeoutError):
        group.wait(20)


def test_the_deadline_of_a_group_that_has_gone_holds(timed, clock):
    """Its tasks are cancelled at the time that was given, as if somebody had kept the group."""
    group = timed.group(timeout=5, on_error="collect")
    early, late = (group.post_task(int, DelayTask(delay)) for delay in (1, 10))
    reference = weakref.ref(group)
    del group
    gc.collect()
    assert reference() is None
    clock.advance(4)
    assert (early.result(20), late.done()) == (0, False)
    clock.advance(1)
    assert late.cancelled()


@pytest.mark.parametrize("on_error", ["cancel", "collect"])
def test_a_deadline_does_not_keep_a_group_whose_tasks_are_over(timed, until, on_error):
    """Nobody waits for such a group, and nothing is left of it."""
    group = timed.group(timeout=1000, on_error=on_error)
    group.submit(int).result(20)
    reference = weakref.ref(group)
    del group
    until(lambda: gc.collect() >= 0 and reference() is None)
    until(lambda: timed.stats().pending_timers == 0)


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_deadline_may_have_passed(pool, timeout):
    """A group whose time is up from the start waits for nothing."""
    group = pool.group(timeout=timeout)
    task = group.post_task(int, DelayTask(1000))
    with pytest.raises(TimeoutError):
        group.wait()
    assert task.cancelled()


@pytest.mark.parametrize("on_error", ["cancel", "collect"])
def test_the_deadline_comes_before_what_it_made_fail(make_pool, clock, gate, until, on_error):
    """Whether the tasks that gave up are over or not, the wait times out."""
    pool = make_pool(2, clock=clock)

    def patient():
        gate()
        asynctask.check_cancelled()

    group = pool.group(timeout=1000, on_error=on_error)
    task = group.submit(patient)
    gate.wait()
    clock.jump(1000)
    until(lambda: pool.stats().successful == 1)  # the alarm
    gate.open()
    assert isinstance(task.exception(20), CancelledError)
    for wait in (group.wait, group.results, lambda: group.__exit__(None, None, None)):
        with pytest.raises(TimeoutError):
            wait()


def test_the_deadline_ends_the_block(one, gate):
    """A block whose group's time is up raises `TimeoutError`."""
    with pytest.raises(TimeoutError), one.group(timeout=0.02) as group:
        task = group.post_task(int, DelayTask(1000))
    assert task.cancelled()


def test_the_deadline_does_not_wait_for_a_free_worker(make_pool, gate, clock, until):
    """A group's time is up on time, though its pool's only worker is busy and nobody waits."""
    pool = make_pool(1, clock=clock)
    gate.hold(pool)
    task = pool.group(timeout=1000).submit(int)
    clock.jump(1000)
    until(task.cancelled)


def test_nothing_outlives_the_block(make_pool, gate, clock, until):
    """After the deadline the end of the block waits for what runs, and then times out."""
    pool = make_pool(2, clock=clock)
    left, done = Event(), []

    def block():
        with pytest.raises(TimeoutError), pool.group(timeout=1000) as group:
            task = gate.hold(group)
            clock.jump(1000)
            until(lambda: pool.stats().successful == 1)  # the alarm
        done.append(task.done())
        left.set()

    thread = start(block)
    gate.wait()
    until(lambda: pool.stats().successful == 1)
    assert not left.wait(0.2)
    gate.open()
    thread.join(20)
    assert done == [True]


def test_nothing_outlives_an_async_block(make_pool, gate, clock, until):
    """Nor does a run outlive an `async with`."""
    pool = make_pool(2, clock=clock)

    async def main():
        async def block():
            async with pool.group(timeout=1000) as group:
                tasks.append(group.submit(gate))

        tasks = []
        waiting = asyncio.ensure_future(block())
        await asyncio.to_thread(gate.wait)
        clock.jump(1000)
        await asyncio.to_thread(until, lambda: pool.stats().successful == 1)  # the alarm
        for _ in range(20):  # the loop has heard of it
            await asyncio.sleep(0.001)
        assert not waiting.done()
        gate.open()
        with pytest.raises(TimeoutError):
            await waiting
        assert tasks[0].done()

    asyncio.run(main())


def test_the_deadline_is_on_the_clock_of_the_pool(make_pool, clock, gate):
    """Moving the clock of the pool ends a wait, though hardly any time has passed."""
    pool = make_pool(2, clock=clock)
    group = pool.group(timeout=1000)
    gate.hold(group)
    later = group.post_task(int, DelayTask(2000))
    ended = start(pytest.raises, TimeoutError, group.wait)
    clock.jump(999)
    assert not later.cancelled()
    clock.jump(1)
    ended.join(20)
    assert later.cancelled()
    with pytest.raises(TimeoutError):
        group.wait()
    gate.open()


def test_time_that_passes_elsewhere_is_not_the_group_s(make_pool, clock, gate, monkeypatch):
    """As long as the clock of the pool stands still, so does the group's time."""
    pool = make_pool(2, clock=clock)
    group = pool.group(timeout=1)
    gate.hold(group)
    monkeypatch.setattr("time.monotonic", lambda now=time.monotonic: now() + 5000)
    assert not group.submit(int).cancelled()
    gate.open()
    assert group.results() == ["through", 0]


def test_a_deadline_stands_without_its_alarm(make_pool, gate):
    """Who waits keeps the deadline, though the pool was shut down and with it the alarm."""
    pool = make_pool(2)
    began = time.monotonic()
    group = pool.group(timeout=1)  # a busy machine has a worker at the gate by then
    gate.hold(group)
    pool.shutdown(wait=False)
    with pytest.raises(TimeoutError):
        group.wait()
    assert time.monotonic() - began >= 1
    gate.open()


def test_a_wait_by_hand_has_a_timeout_in_real_time(make_pool, clock, gate):
    """The timeout of `wait` is how long the caller waits, whatever the clock of the pool."""
    pool = make_pool(2, clock=clock)
    group = pool.group(timeout=1000)
    queued = group.post_task(int, DelayTask(1))
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        group.wait(0.02)
    assert time.monotonic() - began >= 0.02
    assert not queued.done()
    clock.advance(1)
    group.wait(20)


def test_a_group_in_time_leaves_nothing_behind(pool):
    """A group that is over before its deadline takes its alarm off the wheel."""
    with pool.group(timeout=1000) as group:
        group.submit(int)
    assert pool.stats().pending_timers == 0
    group = pool.group_context(1000)
    group.submit(int)
    group.wait(20)
    assert pool.stats().pending_timers == 0


def test_a_failed_group_leaves_nothing_behind(pool):
    """Nor does a group that failed."""
    with pytest.raises(ExceptionGroup), pool.group(timeout=1000) as group:
        group.submit(guilty)
    assert pool.stats().pending_timers == 0


def test_a_group_with_a_deadline_may_collect(one):
    """`group_context` hands `on_error` on."""
    ran = []
    with pytest.raises(ExceptionGroup), one.group_context(1000, on_error="collect") as group:
        group.submit(guilty)
        group.submit(ran.append, "all the same")
    assert ran == ["all the same"]


def test_the_timeout_of_a_wait_cancels_nothing(one, gate):
    """`wait(timeout)` gives up the wait only."""
    group = one.group()
    task = gate.hold(group)
    queued = group.submit(int)
    with pytest.raises(TimeoutError):
        group.wait(0.01)
    assert not queued.done()
    gate.open()
    group.wait(20)
    assert (task.result(0), queued.result(0)) == ("through", 0)


def test_tasks_may_add_tasks(pool):
    """A task of a group may add tasks to it, which are waited for as well."""
    ran = []
    with pool.group() as group:

        def grow(depth):
            ran.append(depth)
            if depth:
                group.submit(grow, depth - 1)
                group.submit(grow, depth - 1)

        group.submit(grow, 6)
    assert len(ran) == 2**7 - 1


def test_groups_in_groups_on_one_worker(one):
    """A task of a group may open a group of its own, on a single worker."""

    def nest(depth):
        if depth == 0:
            return 1
        with one.group() as group:
            group.submit(nest, depth - 1)
            group.submit(nest, depth - 1)
        return sum(group.results())

    assert one.submit(nest, 5).result(20) == 32


def test_a_failure_climbs_through_nested_groups(one):
    """A failure of an inner group fails its task, and with it the outer group."""

    def inner():
        with one.group() as group:
            group.submit(guilty)

    with pytest.raises(ExceptionGroup) as caught, one.group() as group:
        group.submit(inner)
    (error,) = caught.value.exceptions
    assert isinstance(error, ExceptionGroup)
    assert isinstance(error.exceptions[0], LookupError)


def test_a_series_keeps_its_group_waiting(pool):
    """A group with a series waits for the series to end."""
    with pool.group() as group:
        series = group.post_task(lambda: "beat", IntervalTask(0.001, max_runs=3))
    assert series.called_times() == 3
    assert group.results() == ["beat"]


def test_cancel_from_inside_a_task(one):
    """A task may cancel its own group, and finishes itself."""
    group = one.group()
    ran = []

    def quit_all():
        group.cancel()
        return "finished"

    task = group.submit(quit_all)
    group.submit(ran.append, 1)
    with pytest.raises(CancelledError):
        group.wait(20)
    assert task.result(0) == "finished"


def test_many_threads_share_a_group(pool):
    """A group may be filled and waited for from any thread."""
    group = pool.group()
    barrier = threading.Barrier(4)

    def fill():
        barrier.wait(20)
        for _ in range(100):
            group.submit(int)

    threads = [start(fill) for _ in range(4)]
    join(*threads)
    assert group.results() == [0] * 400


def test_a_group_of_a_pool_that_is_shut_down(one):
    """A group refuses what its pool refuses."""
    group = one.group()
    task = group.submit(int)
    one.shutdown()
    with pytest.raises(PoolShutdown):
        group.submit(int)
    assert group.results() == [0]
    assert task.done()


def test_a_group_is_freed(pool):
    """A group that is over keeps nothing alive."""
    group = pool.group(timeout=1000)
    for _ in range(3):
        group.submit(int)
    group.wait(20)
    gone = weakref.ref(group)
    del group
    gc.collect()
    assert gone() is None


def test_a_group_can_be_used_from_a_coroutine(pool, gate):
    """`async with` waits for the group without blocking the loop."""

    async def main():
        asyncio.get_running_loop().call_later(0.01, gate.open)
        async with pool.group() as group:
            task = group.submit(gate)
        assert task.result(0) == "through"
        with pytest.raises(ExceptionGroup):
            async with pool.group() as group:
                group.submit(guilty)
        with pytest.raises(KeyError):
            async with pool.group() as group:
                task = group.post_task(int, DelayTask(1000))
                raise KeyError
        assert task.cancelled()
        with pytest.raises(TimeoutError):
            async with pool.group(timeout=0.01) as group:
                task = group.post_task(int, DelayTask(1000))
        assert task.cancelled()

    asyncio.run(main())
