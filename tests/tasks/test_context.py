"""`contextvars`: each run has a context of its own, empty or with what its poster's has."""

import asyncio
import contextvars
import decimal
import gc
import weakref

import asynctask
import pytest
from asynctask import DelayTask, IntervalTask
from helpers.threads import join, start

var = contextvars.ContextVar("var", default="unset")


@pytest.fixture
def heir(make_pool):
    """Give such a pool whose callbacks see their posters' values."""
    return make_pool(1, propagate_context=True)


@pytest.fixture(autouse=True)
def own_context(request):
    """Let no test's values into another."""
    token = var.set("unset")
    yield
    var.reset(token)


POSTS = {
    "submit": lambda pool, callback: pool.submit(callback),
    "try_submit": lambda pool, callback: pool.try_submit(callback),
    "post_task": lambda pool, callback: pool.post_task(callback),
    "post_async_task": lambda pool, callback: pool.post_async_task(callback),
    "delay": lambda pool, callback: pool.post_task(callback, DelayTask(0.001)),
    "post_delay_task": lambda pool, callback: pool.post_delay_task(callback, 0.001),
    "post_interval_task": lambda pool, callback: pool.post_task(
        callback, IntervalTask(0.001, max_runs=1)
    ),
    "group": lambda pool, callback: pool.group().submit(callback),
    "module": lambda _, callback: asynctask.post_task(callback),
}


@pytest.mark.usefixtures("default_pool")
@pytest.mark.parametrize("post", POSTS.values(), ids=POSTS)
def test_a_callback_sees_nothing_of_its_posters(one, post):
    """By default a callback runs in a context in which nothing is set."""
    var.set("poster")
    assert post(one, lambda: (var.get("nothing"), list(contextvars.copy_context()))).result(20) == (
        "nothing",
        [],
    )


@pytest.mark.usefixtures("default_pool")
@pytest.mark.parametrize("post", POSTS.values(), ids=POSTS)
def test_a_callback_sees_the_posters_values(heir, post):
    """With `propagate_context=True` it runs in a copy of the context in which it was posted."""
    asynctask.set_work_pool_options(propagate_context=True)
    var.set("at posting")
    task = post(heir, var.get)
    var.set("after posting")
    assert task.result(20) == "at posting"


def test_a_callbacks_values_are_its_own(heir):
    """What a callback sets is seen by nobody else, not even by the next on the same worker."""
    one = heir
    var.set("poster")

    def change():
        before = var.get()
        var.set("callback")
        return before, var.get()

    assert [one.submit(change).result(20) for _ in range(3)] == [("poster", "callback")] * 3
    assert var.get() == "poster"


@pytest.mark.parametrize("propagates", [False, True])
def test_nothing_leaks_out_of_an_empty_context(make_pool, propagates):
    """If the poster had no values, each callback starts without any, too."""
    pool = make_pool(1, propagate_context=propagates)

    def main():
        def change():
            before = var.get("nothing")
            var.set("leak")
            return before

        return [pool.submit(change).result(20) for _ in range(3)]

    assert contextvars.Context().run(main) == ["nothing"] * 3


@pytest.mark.parametrize(
    ("propagates", "seen"), [(False, "nothing"), (True, "posted")], ids=["empty", "propagates"]
)
def test_each_run_of_a_series_has_a_context_of_its_own(make_pool, clock, propagates, seen):
    """What one run sets, and what is set after the posting, does not reach the next."""
    pool = make_pool(1, clock=clock, propagate_context=propagates)
    runs = []

    def run():
        runs.append(var.get("nothing"))
        var.set("left behind")

    var.set("posted")
    pool.post_task(run, IntervalTask(1, max_runs=3))
    var.set("later")
    clock.advance(10)
    assert runs == [seen] * 3


def test_the_runs_of_a_series_do_not_depend_on_other_variables(make_pool, clock):
    """Whether a run sees what the one before has set does not hang on the poster's other values."""
    other = contextvars.ContextVar("other")
    mine = contextvars.ContextVar("mine", default=0)

    def count(prepare):
        seen = []

        def run():
            seen.append(mine.get())
            mine.set(mine.get() + 1)

        def main():
            prepare()
            pool = make_pool(1, clock=clock, propagate_context=True)
            pool.post_task(run, IntervalTask(1, max_runs=3))
            clock.advance(10)

        contextvars.Context().run(main)
        return seen

    assert count(lambda: None) == count(lambda: other.set(1)) == [0, 0, 0]


def test_a_tasks_own_posts_inherit_from_it(heir):
    """A callback that posts passes its values on."""

    def outer():
        var.set("outer")
        return heir.submit(var.get).result(20)

    assert heir.submit(outer).result(20) == "outer"


def test_a_task_run_by_who_waits_for_it_has_its_own_context(heir):
    """A task that a waiting worker runs sees its poster's values, and leaves no others behind."""
    one = heir

    def inner():
        before = var.get()
        var.set("inner")
        return before

    def outer():
        var.set("first")
        task = one.submit(inner)
        var.set("second")
        return task.result(20), var.get()

    assert one.submit(outer).result(20) == ("first", "second")


def test_a_task_run_by_the_caller_has_its_own_context(make_pool, gate):
    """With `on_full="caller_runs"` a task's values do not leak into the poster's."""
    pool = make_pool(1, queue_size=0, on_full="caller_runs", propagate_context=True)
    gate.hold(pool)
    var.set("poster")

    def change():
        before = var.get()
        var.set("callback")
        return before

    assert pool.submit(change).result(0) == "poster"
    assert var.get() == "poster"


def test_another_context_can_be_given(one, make_pool, clock):
    """`context=` is entered itself, so that what a callback sets can be read from it."""
    context = contextvars.copy_context()
    context.run(var.set, "given")

    def change():
        before = var.get()
        var.set("callback")
        return before

    assert one.post_task(change, context=context).result(20) == "given"
    assert context[var] == "callback"
    assert one.post_task(var.get, DelayTask(0.001), context=context).result(20) == "callback"
    assert var.get() == "unset"


def test_a_given_context_is_used_by_each_run(make_pool, clock):
    """The runs of a series with `context=` share it, one after the other."""
    pool = make_pool(1, clock=clock)
    context = contextvars.copy_context()
    context.run(var.set, 0)
    pool.post_task(lambda: var.set(var.get() + 1), IntervalTask(1, max_runs=5), context=context)
    clock.advance(10)
    assert context[var] == 5


def test_a_context_that_is_in_use_is_the_tasks_error(one, gate):
    """A context can be entered once at a time, as Python says; the handle has the error."""
    context = contextvars.copy_context()
    first = one.post_task(gate, context=context)
    gate.wait()

    def enter():
        return one.post_task(int, context=context)

    task = context.copy().run(enter)
    gate.open()
    first.result(20)
    assert task.result(20) == 0  # it came after
    assert isinstance(
        context.run(lambda: one.post_task(int, context=context).exception(20)), RuntimeError
    )


def test_a_task_run_by_the_caller_sees_nothing_of_his(make_pool, gate):
    """That the poster's own thread runs a task does not make a difference to what it sees."""
    pool = make_pool(1, queue_size=0, on_full="caller_runs")
    gate.hold(pool)
    var.set("poster")
    assert pool.submit(lambda: (var.get("nothing"), var.set("leak"))[0]).result(0) == "nothing"
    assert var.get() == "poster"


@pytest.mark.parametrize("executor", ["the task's", "the pool's"])
def test_a_context_and_an_executor(make_pool, executor):
    """A context cannot follow to another executor, and is not silently left behind."""
    with asynctask.AsyncTaskPool(1) as other:
        pool = make_pool(1, executor=other if executor == "the pool's" else None)
        keywords = {"executor": other} if executor == "the task's" else {}
        with pytest.raises(TypeError, match=r"context must not be given with an executor.*Context"):
            pool.post_task(int, context=contextvars.copy_context(), **keywords)
        assert pool.post_task(int, **keywords).result(20) == 0


class Request:
    """Something that a poster has in its context, and that can be seen to go away."""


KINDS = {
    "delay": [DelayTask(1000)],
    "series": [IntervalTask(1000)],
    "series that has run": [IntervalTask(0.001)],
}


@pytest.mark.usefixtures("default_pool")
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("by", ["pool", "module", "group", "ticker"])
def test_a_task_does_not_keep_the_request_that_posted_it(one, options, by):
    """What outlives a request keeps nothing of the request's context."""

    def handle():
        request = Request()
        var.set(request)
        post = {
            "pool": lambda: one.post_task(int, *options),
            "module": lambda: asynctask.post_task(int, *options),
            "group": lambda: one.group(timeout=1000).post_task(int, *options),
            "ticker": lambda: asynctask.Ticker(1000, pool=one),
        }[by]
        return weakref.ref(request), post()

    request, task = contextvars.Context().run(handle)
    if options == KINDS["series that has run"] and by != "ticker":
        task.wait_for_finished_count(2, 20)
    gc.collect()
    assert request() is None
    getattr(task, "cancel", task._task.cancel if by == "ticker" else None)()


def test_a_coroutine_inherits_as_in_asyncio(one):
    """A coroutine function sees a copy of the poster's context, as from `create_task`."""

    async def see():
        before = var.get()
        var.set("left behind")
        await asyncio.sleep(0)
        return before

    async def main():
        var.set("poster")
        tasks = [
            one.submit(see),
            one.post_task(see, DelayTask(0.001)),
            one.post_async_task(see),
            one.post_delay_task(see, 0.001),
            one.post_task(see, IntervalTask(0.001, max_runs=3)),
            one.group().submit(see),
        ]
        seen = [await task for task in tasks]
        assert await asyncio.create_task(see()) == "poster"
        return seen, var.get()

    assert asyncio.run(main()) == (["poster"] * 6, "poster")


def test_a_loop_keeps_no_context_but_its_tasks(one):
    """Who wakes a loop, with a request in his context, leaves nothing of it there."""

    async def last(started, gate):
        started.set()
        await gate.wait()

    def handle(task):
        request = Request()
        var.set(request)
        task.cancel()  # wakes the loop, on which the next coroutine begins in the same breath
        return weakref.ref(request)

    async def main():
        started, gate = asyncio.Event(), asyncio.Event()
        waiting = one.post_task(int, DelayTask(1000))
        waiter = asyncio.ensure_future(asyncio.wait_for(asyncio.shield(waits_for(waiting)), 20))
        await asyncio.sleep(0)
        request = contextvars.Context().run(handle, waiting)
        task = one.submit(last, started, gate)
        while not task.running():  # so that it is on the loop's list
            pass
        await started.wait()
        gc.collect()
        gone = request() is None
        gate.set()
        await task
        await asyncio.gather(waiter, return_exceptions=True)
        return gone

    async def waits_for(task):
        await task

    assert asyncio.run(main())


def test_with_an_empty_default_a_context_can_still_be_given(one):
    """`context=` is heeded whatever the pool does by default."""
    context = contextvars.copy_context()
    context.run(var.set, "given")
    assert one.post_task(var.get, context=context).result(20) == "given"


def test_decimal_contexts_are_kept_apart(one, heir):
    """The context of `decimal` is a context variable, and behaves like one."""

    def third():
        return decimal.Decimal(1) / 3

    def change():
        decimal.getcontext().prec = 3
        return third()

    with decimal.localcontext() as local:
        local.prec = 5
        tasks = heir.submit(third), one.submit(third)
    assert [task.result(20) for task in tasks] == [decimal.Decimal("0.33333"), third()]
    for pool in one, heir:
        assert pool.submit(change).result(20) == decimal.Decimal("0.333")
        assert pool.submit(third).result(20) == third()


def test_contexts_are_freed_with_their_tasks(heir):
    """A value that only a task's context had goes with the task."""
    one = heir
    value = Request()
    gone = weakref.ref(value)
    token = var.set(value)
    task = one.submit(lambda: None)
    waiting = one.post_task(int, DelayTask(1000))
    var.reset(token)
    del token, value
    task.result(20)
    assert gone() is not None  # the one that waits still has it
    waiting.cancel()
    one.submit(int).result(20)
    assert gone() is None


def test_many_threads_keep_their_values_apart(make_pool):
    """Each poster's values go to its own tasks."""
    pool = make_pool(4, propagate_context=True)
    wrong = []

    def post(value):
        var.set(value)
        for _ in range(200):
            seen = pool.submit(var.get).result(20)
            if seen != value:
                wrong.append((seen, value))

    threads = [start(post, n) for n in range(8)]
    join(*threads)
    assert wrong == []
