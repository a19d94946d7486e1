"""Garbage: nothing is kept that nobody can reach, and nothing leaks."""

import concurrent.futures as cf
import contextvars
import gc
import weakref

import asynctask
import pytest
from asynctask import AsyncTask, AsyncTaskPool, DelayTask, IntervalTask


class Node:
    """Something that can be in a cycle, and can be seen to go away."""


def gone_after_collect(*references):
    """Collect, and say whether all of the weakly referenced went."""
    gc.collect()
    return [reference() is None for reference in references] == [True] * len(references)


def test_handles_are_collected_objects(one):
    """The collector knows handles, and what they refer to."""
    argument = Node()
    task = one.post_task(int, DelayTask(1000), args=(argument,))
    assert gc.is_tracked(task)
    assert any(argument in refs for refs in gc.get_referents(task) if isinstance(refs, tuple))
    task.cancel()
    assert not any(isinstance(refs, tuple) for refs in gc.get_referents(task))


def test_the_collector_knows_what_a_pending_task_is_to_call(one):
    """Callback, keyword arguments and context are the task's to visit."""
    callback, keyword, context = Node().__repr__, Node(), contextvars.copy_context()
    task = one.post_task(callback, DelayTask(1000), kwargs={"k": keyword}, context=context)
    referents = gc.get_referents(task)
    assert any(callback is one for one in referents)
    assert any(context is one for one in referents)
    assert {"k": keyword} in [one for one in referents if isinstance(one, dict)]
    task.cancel()


def test_a_cycle_through_a_result_is_collected(one):
    """A result that refers to its own handle goes with it."""
    node = Node()
    task = one.submit(lambda node: node, node)
    task.result(20).task = task
    references = weakref.ref(task), weakref.ref(node)
    one.submit(int).result(20)
    del task, node
    assert gone_after_collect(*references)


def test_a_cycle_through_a_failure_is_collected(one):
    """An exception whose traceback refers to its own handle goes with it."""
    holder = Node()

    def fail(holder):
        raise LookupError(holder)

    holder.task = one.submit(fail, holder)
    assert isinstance(holder.task.exception(20), LookupError)
    references = weakref.ref(holder.task), weakref.ref(holder)
    one.submit(int).result(20)
    del holder
    assert gone_after_collect(*references)


def test_a_cycle_through_done_callbacks_is_collected(one):
    """A done-callback that refers to its own handle goes with it, pool and all."""
    task = one.post_task(int, DelayTask(1000))
    node = Node()
    node.task = task
    task.add_done_callback(lambda _, node=node: node)
    reference = weakref.ref(node)
    task.cancel()
    del task, node
    assert gone_after_collect(reference)


def test_a_cycle_through_what_the_library_adds_is_collected(one):
    """Condition and waiters of `concurrent.futures` are part of what is collected."""
    task = one.submit(int)
    task.result(20)
    node = Node()
    node.task = task
    task._waiters.append(node)
    assert task._condition
    reference = weakref.ref(node)
    one.submit(int).result(20)
    del task, node
    assert gone_after_collect(reference)


def test_a_callback_that_refers_to_its_pool_does_not_keep_it():
    """A task that is over holds neither its callback nor what that refers to."""
    pool = AsyncTaskPool(1)
    node = Node()
    node.pool = pool
    task = pool.submit(lambda node: node.pool.stats(), node)
    task.result(20)
    reference = weakref.ref(pool), weakref.ref(node)
    del pool, node
    assert gone_after_collect(*reference)


class Service(cf.Executor):
    """Owns a pool that refers back to it."""

    def __init__(self):
        self.prepared = 0

    def prepare(self):
        """Be the pool's initializer."""
        self.prepared += 1

    def submit(self, fn, /, *args, **kwargs):
        """Be the pool's executor."""
        future = cf.Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Mine(AsyncTaskPool):
    """A subclass with an attribute of its own."""

    def __init__(self, service):
        self.service = service
        super().__init__(1, initializer=self.prepare)

    def prepare(self):
        """Be the pool's own initializer."""


CYCLES = {
    "initializer": lambda service: AsyncTaskPool(1, initializer=service.prepare),
    "initargs": lambda service: AsyncTaskPool(1, initializer=repr, initargs=(service,)),
    "executor": lambda service: AsyncTaskPool(1, executor=service),
    "attribute": Mine,
}
USES = {
    "new": lambda pool: None,
    "used": lambda pool: pool.submit(int).result(20),
    "failed": lambda pool: pool.submit(int, "x").exception(20),
    "delayed": lambda pool: pool.post_task(int, DelayTask(0.001)).result(20),
    "cancelled": lambda pool: pool.post_task(int, DelayTask(1000)).cancel(),
    "series": lambda pool: pool.post_task(int, IntervalTask(0.001, max_runs=3)).result(20),
    "stopped": lambda pool: pool.post_task(int, IntervalTask(1000)).stop(),
    "after": lambda pool: pool.after(0.001).result(20),
    "ticker": lambda pool: list(asynctask.Ticker(0.001, pool=pool, max_runs=2)),
    "map": lambda pool: list(pool.map(int, range(100))),
    "group": lambda pool: pool.group(timeout=1000).submit(int).result(20),
    "collecting": lambda pool: pool.group(timeout=1000, on_error="collect").submit(int).result(20),
    "shut down": lambda pool: (pool.submit(int), pool.shutdown()),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("make", CYCLES.values(), ids=CYCLES)
def test_a_cycle_through_a_pool_is_collected(make, use, until):
    """What refers to its own pool by what it gave to the pool goes, the pool with it."""
    service = Service()
    service.pool = make(service)
    use(service.pool)
    gone = weakref.ref(service), weakref.ref(service.pool)
    del service
    until(lambda: gone_after_collect(*gone))  # a worker may still be at the end of its task


@pytest.mark.parametrize("use", ["used", "failed", "cancelled", "stopped", "after"])
@pytest.mark.parametrize("make", [CYCLES["initializer"], CYCLES["executor"]])
def test_a_cycle_through_a_handle_is_collected(make, use, until):
    """What a handle keeps of a pool that is gone does not keep the pool's initializer."""
    service = Service()
    service.task = {
        "used": lambda pool: pool.submit(int),
        "failed": lambda pool: pool.submit(int, "x"),
        "cancelled": lambda pool: pool.post_task(int, DelayTask(1000)),
        "stopped": lambda pool: pool.post_task(int, IntervalTask(1000)),
        "after": lambda pool: pool.after(0.001),
    }[use](make(service))  # which is gone before it is over
    if use in {"cancelled", "stopped"}:
        assert service.task.cancel()
    else:
        service.task.exception(20)
    gone = weakref.ref(service)
    del service
    until(lambda: gone_after_collect(gone))


def test_an_initializer_is_kept_while_a_task_may_need_it(until):
    """A pool that is collected before its last task is due prepares the worker for it."""
    clock = asynctask.testing.ManualClock()
    service = Service()
    service.pool = AsyncTaskPool(1, initializer=service.prepare, clock=clock, idle_timeout=0)
    counts = vars(service)
    task = service.pool.post_task(lambda: counts["prepared"], DelayTask(1))
    del service
    gc.collect()
    clock.advance(1)
    assert task.result(20) == 1


def test_a_finalizer_that_posts_to_its_pool(until):
    """A pool that a finalizer still uses is as good as ever, and goes later."""
    seen = []

    class Last(Service):
        def __del__(self):
            seen.append(self.pool.submit(lambda: self.prepared).result(20))

    service = Last()
    service.pool = AsyncTaskPool(1, initializer=service.prepare)
    gone = weakref.ref(service.pool)
    del service
    until(lambda: gone_after_collect(gone))
    assert seen == [1]


def test_ticks_of_a_pool_that_is_gone_leave_nothing(until):
    """What the timer thread ends by itself, with nobody there any more, is freed all the same."""
    pool = AsyncTaskPool(1)
    gone = [weakref.ref(pool.after(0.001)) for _ in range(10)]
    gone.append(weakref.ref(pool._post_ticks(IntervalTask(0.001, max_runs=2))))
    del pool
    until(lambda: gone_after_collect(*gone))


@pytest.mark.parametrize("options", [[DelayTask(1000)], [IntervalTask(1000)]], ids=repr)
def test_shutdown_frees_what_waits(options):
    """A pool that is shut down holds nothing of the tasks that it cancelled."""
    pool = AsyncTaskPool(1)
    argument = Node()
    gone = weakref.ref(argument)
    task = pool.post_task(print, *options, args=(argument,))
    del argument
    pool.shutdown()
    assert task.cancelled()
    assert gone() is None


def test_every_run_frees_its_result(make_pool, clock):
    """A series keeps the result of its last run only, and that only when it is over."""
    pool = make_pool(1, clock=clock)
    results = []

    def run():
        node = Node()
        results.append(weakref.ref(node))
        return node

    series = pool.post_task(run, IntervalTask(1, max_runs=3))
    clock.advance(2)
    assert [result() for result in results] == [None, None]
    clock.advance(1)
    assert series.result(0) is results[2]()
    assert results[:2] != results[2:]


def count_handles():
    """Count the handles that are alive."""
    gc.collect()
    return sum(type(thing) is AsyncTask for thing in gc.get_objects())


def test_tasks_of_every_kind_leave_no_handle_behind(make_pool):
    """After a thousand tasks of every kind there are as many handles as before."""
    pool = make_pool(2)
    before = count_handles()
    for _ in range(200):
        pool.submit(int).result(20)
        pool.submit(int, "x").exception(20)
        pool.post_task(int, DelayTask(0.0001)).result(20)
        pool.post_task(int, DelayTask(1000)).cancel()
        pool.post_task(int, IntervalTask(1000)).stop()
        pool.after(0.0001).result(20)
        with pool.group(timeout=1000) as group:
            group.submit(int)
        series = pool.post_task(int, IntervalTask(0.0001, max_runs=2))
        series.result(20)
        next(asynctask.Ticker(0.0001, pool=pool, max_runs=1))
    del series, group
    pool.shutdown()
    assert count_handles() == before


@pytest.mark.parametrize("kind", ["posted", "cancelled", "delayed", "failed", "watched"])
def test_memory_does_not_grow(run_python, kind):
    """A hundred thousand tasks of a kind leave the process as large as it was."""
    printed = run_python(
        f"""
        import gc
        from asynctask import AsyncTaskPool, DelayTask

        pool = AsyncTaskPool(2)

        def resident():
            gc.collect()
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * 4096

        def batch(kind):
            for _ in range(100):
                if kind == "posted":
                    tasks = [pool.submit(int) for _ in range(200)]
                elif kind == "failed":
                    tasks = [pool.submit(int, "x") for _ in range(200)]
                elif kind == "delayed":
                    tasks = [pool.post_task(int, DelayTask(0.0001)) for _ in range(200)]
                elif kind == "cancelled":
                    tasks = [pool.post_task(int, DelayTask(1000)) for _ in range(200)]
                    for task in tasks:
                        assert task.cancel()
                else:
                    tasks = [pool.submit(int) for _ in range(200)]
                    for task in tasks:
                        task.add_done_callback(id)
                for task in tasks:
                    if not task.cancelled():
                        task.exception(20)

        batch({kind!r})
        before = resident()
        for _ in range(5):
            batch({kind!r})
        print(resident() - before)
        """
    )
    assert int(printed) < 8_000_000  # 80 bytes for each of them would be more
