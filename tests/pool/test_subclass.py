"""Subclasses of the pool, which may have an `__init__` of their own."""

import functools
import gc
import inspect
import re
import weakref
from concurrent.futures import Executor, ThreadPoolExecutor

import asynctask
import pytest
from asynctask import AsyncTaskPool, DelayTask


class Labelled:
    """A mixin that takes an argument and hands on the rest."""

    def __init__(self, *args, label="none", **kwargs):
        super().__init__(*args, **kwargs)
        self.label = label


def subclasses(base):
    """Give subclasses that take other arguments than their base, with some that suit them."""

    class Named(base):
        def __init__(self, label):
            super().__init__(max_workers=2, thread_name_prefix=label)
            self.label = label

    class Prepared(base):
        def __init__(self, label, initializer=None):
            self.ready = []
            super().__init__(2, initializer=self.ready.append, initargs=(label,))
            self.label = label

    class Mixed(Labelled, base):
        pass

    class Behind(base, Labelled):
        def __init__(self, label):
            base.__init__(self, 2)
            self.label = label

    class New(base):
        def __new__(cls, label):
            self = super().__new__(cls)
            self.label = label
            return self

        def __init__(self, label):
            super().__init__(2, initargs=(label,))

    return {
        "named": lambda: Named("io"),
        "prepared": lambda: Prepared(label="io"),
        "mixed": lambda: Mixed(2, label="io"),
        "behind": lambda: Behind("io"),
        "new": lambda: New("io"),
    }


@pytest.mark.parametrize("kind", subclasses(AsyncTaskPool))
@pytest.mark.parametrize("base", [ThreadPoolExecutor, AsyncTaskPool])
def test_a_subclass_has_an_init_of_its_own(base, kind):
    """Whatever a subclass of the library's pool may do, a subclass of ours may."""
    with subclasses(base)[kind]() as pool:
        assert isinstance(pool, Executor)
        assert (pool.submit(pow, 2, 5).result(20), pool.label, pool._max_workers) == (32, "io", 2)
        assert getattr(pool, "ready", ["io"]) == ["io"]


CALLS = {
    "submit": lambda pool: pool.submit(int),
    "try_submit": lambda pool: pool.try_submit(int),
    "map": lambda pool: pool.map(int, [1]),
    "post_task": lambda pool: pool.post_task(int, DelayTask(1)),
    "post_async_task": lambda pool: pool.post_async_task(int),
    "post_delay_task": lambda pool: pool.post_delay_task(int, 1),
    "post_interval_task": lambda pool: pool.post_interval_task(int, 1),
    "after": lambda pool: pool.after(1),
    "ticker": lambda pool: asynctask.Ticker(1, pool=pool),
    "group": lambda pool: pool.group(timeout=1),
    "resize": lambda pool: pool.resize(1),
    "stats": lambda pool: pool.stats(),
    "shutdown": lambda pool: pool.shutdown(),
    "wait_and_exit": lambda pool: pool.wait_and_exit(),
    "with": lambda pool: pool.__exit__(None, None, None),
}


@pytest.mark.parametrize("where", ["class", "object"])
@pytest.mark.parametrize("keywords", [{}, {"timeout": 30}], ids=["plain", "timed"])
@pytest.mark.parametrize("base", [ThreadPoolExecutor, AsyncTaskPool])
def test_map_goes_by_way_of_a_submit_of_ones_own(base, keywords, where):
    """Who counts or wraps what is submitted sees what `map` submits, as with the library's pool."""
    submitted = []

    def submit(pool, fn, /, *args):
        submitted.append(args)
        return base.submit(pool, lambda: -fn(*args))

    with base(2) as pool:
        if where == "class":
            pool.__class__ = type("Counting", (base,), {"submit": submit})
        else:
            pool.submit = functools.partial(submit, pool)
        assert list(pool.map(int, "123", **keywords)) == [-1, -2, -3]
    assert submitted == [("1",), ("2",), ("3",)]


@pytest.mark.parametrize("buffersize", [1, 2, 2**80])
def test_a_buffered_map_goes_by_way_of_a_submit_of_ones_own(buffersize):
    """Both for what is submitted at once and for what comes later."""
    submitted = []

    class Counting(AsyncTaskPool):
        def submit(self, fn, /, *args):
            submitted.append(args)
            return super().submit(fn, *args)

    with Counting(2) as pool:
        assert list(pool.map(int, "123", buffersize=buffersize)) == [1, 2, 3]
    assert submitted == [("1",), ("2",), ("3",)]


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_pool_whose_init_was_not_called(call):
    """A subclass that has forgotten to call `__init__` is told so, in the words of a `Thread`."""

    class Forgetful(AsyncTaskPool):
        def __init__(self):
            pass

    pool = Forgetful()
    with pytest.raises(RuntimeError, match=r"^AsyncTaskPool.__init__\(\) not called$"):
        call(pool)
    assert "Forgetful at 0x" in repr(pool)
    assert "not called" in repr(pool)
    gone = weakref.ref(pool)
    pool.me = pool
    del pool
    gc.collect()
    assert gone() is None


def test_init_is_called_once(one):
    """A second call is refused: the tasks of the first would be left without a pool."""
    task = one.post_task(int, DelayTask(0.001))
    with pytest.raises(RuntimeError, match=r"^AsyncTaskPool.__init__\(\) called twice$"):
        one.__init__(7)
    assert one.stats().max_workers == 1
    assert task.result(20) == 0


def test_init_that_failed_can_be_called_again():
    """What was refused has made nothing."""

    class Patient(AsyncTaskPool):
        def __init__(self, *tries):
            for workers in tries:
                try:
                    super().__init__(workers)
                except ValueError:
                    continue

    with Patient(0, 3) as pool:
        assert pool.stats().max_workers == 3


def test_the_signature_is_shown():
    """`inspect`, and with it `help` and editors, know the arguments; a subclass shows its own."""

    class Named(AsyncTaskPool):
        def __init__(self, label):
            super().__init__()

    shown = inspect.signature(AsyncTaskPool).parameters
    assert list(shown)[:4] == ["max_workers", "thread_name_prefix", "initializer", "initargs"]
    assert shown["propagate_context"].default is False
    assert shown["propagate_context"].kind is inspect.Parameter.KEYWORD_ONLY
    assert set(shown) == set(
        re.findall(r"^(?: {4}){1,2}([a-z_]+): [A-Z]", AsyncTaskPool.__doc__, re.MULTILINE)
    )
    AsyncTaskPool(**{name: parameter.default for name, parameter in shown.items()})
    assert list(inspect.signature(Named).parameters) == ["label"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: AsyncTaskPool(workers=1), "AsyncTaskPool.__init__() got an unexpected keyword"),
        (lambda: AsyncTaskPool(1, "", None, (), 5), "AsyncTaskPool.__init__() takes from 0 to 4"),
        (AsyncTaskPool.submit, "unbound method AsyncTaskPool.submit()"),
        (lambda: asynctask.get_async_task().submit(), "AsyncTaskPool.submit() missing 1 required"),
        (lambda: asynctask.after(0).result(1, 2), "AsyncTask.result() takes from 0 to 1"),
    ],
)
def test_messages_show_the_public_names(call, text):
    """An error of a call names the class that was called, not the one behind it."""
    with pytest.raises(TypeError) as caught:
        call()
    assert text in str(caught.value)
