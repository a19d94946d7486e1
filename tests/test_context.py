"""`contextvars`: inherited from the poster, and kept apart between tasks."""

import contextvars
import decimal
import threading

import asynctask
import pytest
from asynctask import DelayTask, IntervalTask

var = contextvars.ContextVar("var", default="unset")


@pytest.fixture
def one(make_pool):
    """Give a pool of one worker, which is where leaks would show."""
    return make_pool(1)


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
def test_a_callback_sees_the_posters_values(one, post):
    """A callback runs in a copy of the context in which it was posted."""
    var.set("at posting")
    task = post(one, var.get)
    var.set("after posting")
    assert task.result(20) == "at posting"


def test_a_callbacks_values_are_its_own(one):
    """What a callback sets is seen by nobody else, not even by the next on the same worker."""
    var.set("poster")

    def change():
        before = var.get()
        var.set("callback")
        return before, var.get()

    assert [one.submit(change).result(20) for _ in range(3)] == [("poster", "callback")] * 3
    assert var.get() == "poster"


def test_nothing_leaks_out_of_an_empty_context(one):
    """Even if the poster had no values, each callback starts without any."""

    def main():
        def change():
            before = var.get("nothing")
            var.set("leak")
            return before

        return [one.submit(change).result(20) for _ in range(3)]

    assert contextvars.Context().run(main) == ["nothing"] * 3


def test_the_runs_of_a_series_see_the_posters_values(make_pool, clock):
    """What is set after the posting does not reach the runs of a series."""
    pool = make_pool(1, clock=clock)
    seen = []
    var.set("posted")
    pool.post_task(lambda: seen.append(var.get()), IntervalTask(1, max_runs=3))
    var.set("later")
    clock.advance(10)
    assert seen == ["posted"] * 3


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
            pool = make_pool(1, clock=clock)
            pool.post_task(run, IntervalTask(1, max_runs=3))
            clock.advance(10)

        contextvars.Context().run(main)
        return seen

    assert count(lambda: None) == count(lambda: other.set(1))


def test_a_tasks_own_posts_inherit_from_it(one):
    """A callback that posts passes its values on."""

    def outer():
        var.set("outer")
        return one.submit(var.get).result(20)

    assert one.submit(outer).result(20) == "outer"


def test_a_task_run_by_who_waits_for_it_has_its_own_context(one):
    """A task that a waiting worker runs sees its poster's values, and leaves no others behind."""

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
    pool = make_pool(1, queue_size=0, on_full="caller_runs")
    pool.submit(gate)
    gate.wait()
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


def test_without_propagation_a_callback_sees_nothing(make_pool):
    """With `propagate_context=False` callbacks run in an empty context, each in its own."""
    pool = make_pool(1, propagate_context=False)
    var.set("poster")

    def change():
        before = var.get("nothing")
        var.set("leak")
        return before

    assert [pool.submit(change).result(20) for _ in range(3)] == ["nothing"] * 3
    assert pool.post_task(change, DelayTask(0.001)).result(20) == "nothing"


def test_without_propagation_a_context_can_still_be_given(make_pool):
    """`context=` is heeded whatever the pool does by default."""
    pool = make_pool(1, propagate_context=False)
    context = contextvars.copy_context()
    context.run(var.set, "given")
    assert pool.post_task(var.get, context=context).result(20) == "given"


def test_decimal_contexts_are_inherited_and_kept_apart(one):
    """The context of `decimal` is a context variable, and behaves like one."""
    with decimal.localcontext() as local:
        local.prec = 5
        task = one.submit(lambda: decimal.Decimal(1) / 3)

    def change():
        decimal.getcontext().prec = 3
        return decimal.Decimal(1) / 3

    assert task.result(20) == decimal.Decimal("0.33333")
    assert one.submit(change).result(20) == decimal.Decimal("0.333")
    assert one.submit(lambda: decimal.Decimal(1) / 3).result(20) == decimal.Decimal(1) / 3


def test_contexts_are_freed_with_their_tasks(one):
    """A value that only a task's context had goes with the task."""
    import weakref  # noqa: PLC0415

    class Value:
        pass

    value = Value()
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


def test_many_threads_keep_their_values_apart(pool):
    """Each poster's values go to its own tasks."""
    wrong = []

    def post(value):
        var.set(value)
        for _ in range(200):
            seen = pool.submit(var.get).result(20)
            if seen != value:
                wrong.append((seen, value))

    threads = [threading.Thread(target=post, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []
