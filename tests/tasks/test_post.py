"""Posting: what a callback is called with, and in what order."""

import collections
import functools
import sysconfig
import threading

import asynctask
import pytest
from asynctask import AsyncTask, DelayTask, IntervalTask
from helpers.threads import join, start


def collect(*args, **kwargs):
    """Give back what it was called with."""
    return args, kwargs


POSTS = {
    "pool": lambda pool: pool.post_task,
    "group": lambda pool: pool.group().post_task,
    "module": lambda _: asynctask.post_task,
}


@pytest.fixture(params=POSTS)
def post(request, pool, default_pool):
    """Give every function that takes what `post_task` takes."""
    return POSTS[request.param](pool)


def test_a_callback_is_called_with_nothing(post):
    """Without `args` and `kwargs` a callback gets none."""
    assert post(collect).result(20) == ((), {})


def test_a_callback_is_called_with_args_and_kwargs(post):
    """A callback gets the arguments it was posted with."""
    assert post(collect, args=(1, 2), kwargs={"a": 3}).result(20) == ((1, 2), {"a": 3})


@pytest.mark.parametrize("args", [[1, 2], iter([1, 2]), {1: "a", 2: "b"}, range(1, 3)])
def test_args_is_any_iterable(post, args):
    """`args` may be a list, an iterator, whatever can be iterated."""
    args = [1, 2] if iter(args) is args else args  # an iterator serves one test only
    assert post(collect, args=args).result(20) == ((1, 2), {})
    assert post(collect, args=iter(args)).result(20) == ((1, 2), {})


def test_kwargs_is_any_mapping(post):
    """`kwargs` may be any mapping."""
    mapping = collections.ChainMap({"a": 1}, {"b": 2})
    assert post(collect, kwargs=mapping).result(20) == ((), {"a": 1, "b": 2})
    assert post(collect, kwargs={}).result(20) == ((), {})


def test_later_changes_to_the_arguments_do_not_show(timed, clock):
    """What the caller does to his list and dict after posting is his own business."""
    args, kwargs = [1], {"a": 2}
    task = timed.post_task(collect, DelayTask(1), args=args, kwargs=kwargs)
    args.append(3)
    kwargs["b"] = 4
    clock.advance(1)
    assert task.result(0) == ((1,), {"a": 2})


def test_every_run_of_a_series_gets_the_arguments(timed, clock):
    """The arguments are kept for each run."""
    calls = []
    timed.post_task(
        lambda *args, **kwargs: calls.append((args, kwargs)),
        IntervalTask(1, max_runs=3),
        args=(1,),
        kwargs={"a": 2},
    )
    clock.advance(10)
    assert calls == [((1,), {"a": 2})] * 3


def test_submit_passes_everything_on(pool):
    """`submit` passes on positional and keyword arguments, whatever they are called."""
    task = pool.submit(collect, 1, fn=2, func=3, self=4, args=5, timeout=6, callback=7)
    assert task.result(20) == (
        (1,),
        {"fn": 2, "func": 3, "self": 4, "args": 5, "timeout": 6, "callback": 7},
    )
    task = pool.try_submit(collect, 1, fn=2, func=3, self=4)
    assert task.result(20) == ((1,), {"fn": 2, "func": 3, "self": 4})
    task = pool.group().submit(collect, 1, fn=2, func=3, self=4)
    assert task.result(20) == ((1,), {"fn": 2, "func": 3, "self": 4})


def test_the_wrong_arguments_are_the_callbacks_error(post):
    """Arguments that the callback does not take are its own `TypeError`, in the handle."""
    assert isinstance(post(lambda: None, args=(1,)).exception(20), TypeError)


@pytest.mark.parametrize(
    "callback",
    [
        functools.partial(int, "7"),
        (7).conjugate,
        type("C", (), {"__call__": lambda _: 7})(),
        lambda: 7,
    ],
    ids=["partial", "method", "object", "lambda"],
)
def test_anything_that_can_be_called_is_a_callback(post, callback):
    """Partials, bound methods, objects and functions are callbacks."""
    assert post(callback).result(20) == 7


def test_one_worker_runs_in_the_order_of_posting(one, gate):
    """A queue is first in, first out."""
    one.submit(gate)
    ran = []
    tasks = [one.submit(ran.append, n) for n in range(1000)]
    gate.open()
    tasks[-1].result(20)
    assert ran == list(range(1000))


def test_workers_run_side_by_side(make_pool):
    """As many callbacks run at a time as there are workers."""
    pool = make_pool(8)
    barrier = threading.Barrier(8)
    tasks = [pool.submit(barrier.wait, 20) for _ in range(8)]
    assert sorted(task.result(20) for task in tasks) == list(range(8))


def test_posting_from_many_threads_loses_nothing(pool):
    """Every task that was posted runs once, whoever posted it."""
    counts = collections.Counter()
    barrier = threading.Barrier(8)

    def post_many(thread):
        barrier.wait(20)
        for n in range(500):
            tasks.append(pool.submit(counts.update, [(thread, n)]))
            tasks.append(pool.post_task(counts.update, DelayTask(0.001), args=([(-thread, n)],)))

    tasks = []
    threads = [start(post_many, n) for n in range(1, 9)]
    join(*threads)
    for task in tasks:
        task.result(20)
    assert len(counts) == 8000
    assert set(counts.values()) == {1}


def test_a_task_has_the_name_it_was_given(post):
    """`name` is the task's name, and need not be its own."""
    tasks = [post(int, name="session 7 ✓") for _ in range(2)]
    assert [task.name for task in tasks] == ["session 7 ✓"] * 2


def test_a_task_without_a_name_has_one_of_its_own(post):
    """Unnamed tasks are told apart by a number."""
    names = [post(int).name for _ in range(3)]
    assert len(set(names)) == 3
    assert all(name.startswith("task-") for name in names)


def test_the_name_cannot_be_changed(pool):
    """A name is read-only."""
    with pytest.raises(AttributeError):
        pool.submit(int).name = "other"


def test_posting_gives_a_handle(post):
    """Every post gives an `AsyncTask`."""
    assert type(post(int)) is AsyncTask


def test_the_current_task_is_the_one_whose_callback_runs(pool):
    """Inside a callback `current_task` is its handle; outside it is None."""
    assert asynctask.current_task() is None
    seen = []
    task = pool.submit(lambda: seen.append(asynctask.current_task()))
    task.result(20)
    assert seen == [task]
    assert asynctask.current_task() is None


def test_the_current_task_of_a_nested_wait_is_the_inner_one(one):
    """A task that is run by a worker that waits for it is the current one meanwhile."""

    def outer():
        before = asynctask.current_task()
        inner = one.submit(asynctask.current_task)
        seen = inner.result(20)
        return before is asynctask.current_task(), seen is inner

    assert one.submit(outer).result(20) == (True, True)


def test_check_cancelled_outside_of_a_callback_says_nothing():
    """Nobody cancels what is no task."""
    assert asynctask.check_cancelled() is None


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="nobody can, with a GIL"
)
def test_the_code_of_what_is_posted_may_be_assigned_meanwhile(run_python):
    """Threads post a function whose `__code__` another one replaces, while codes are collected."""
    run_python(
        """
        import gc, threading
        from asynctask import AsyncTaskPool
        def function():
            return 41
        stop, failures = threading.Event(), []
        def repeat(call, times):
            try:
                while times > 0 and not stop.is_set():
                    call()
                    times -= 1
            except BaseException as error:
                failures.append(error)
        def assign():
            for _ in range(50):
                function.__code__ = function.__code__.replace()
            gc.collect()
        def forget_attributes():
            # What looks for an attribute now has to wait for the lock of the types.
            for number in range(50):
                type("Class", (), {}).number = number
        def post():
            tasks = [pool.submit(function) for _ in range(100)]
            assert {task.result(30) for task in tasks} == {41}
        with AsyncTaskPool(2) as pool:
            calls = [(post, 200)] * 3 + [(assign, 10**9), (forget_attributes, 10**9)]
            threads = [threading.Thread(target=repeat, args=call) for call in calls]
            for thread in threads:
                thread.start()
            for thread in threads[:3]:
                thread.join(30)
            stop.set()
            for thread in threads[3:]:
                thread.join(30)
            assert not any(thread.is_alive() for thread in threads)
        assert failures == [], failures
        """
    )
