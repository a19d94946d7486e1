"""What counts as a coroutine function, and runs as a task of its loop."""

import asyncio
import concurrent.futures as cf
import contextvars
import functools
import inspect
import queue
import sys
import threading
from unittest.mock import AsyncMock, MagicMock, create_autospec

import asynctask
import asynctask.aio
import pytest
from asynctask import DelayTask, IntervalTask
from helpers.coroutines import eventually, fail, mark
from helpers.threads import start

PATIENCE = 30


def test_a_coroutine_function_runs_on_the_loop(run, pool):
    """Posted from a coroutine, a coroutine function runs as a task of the running loop."""

    async def coroutine(*args, **kwargs):
        await asyncio.sleep(0)
        task = asyncio.current_task()
        return asyncio.get_running_loop(), threading.get_ident(), task.get_name(), args, kwargs

    async def main():
        here = (asyncio.get_running_loop(), threading.get_ident())
        task = pool.post_task(coroutine, args=(1,), kwargs={"a": 2}, name="mine")
        assert isinstance(task, asynctask.AsyncTask)
        assert await task == (*here, "mine", (1,), {"a": 2})
        assert (await pool.submit(coroutine, 3))[3:] == ((3,), {})
        assert (await pool.post_async_task(coroutine))[:2] == here
        assert (await pool.post_delay_task(coroutine, 0.005))[:2] == here
        assert task.called_times() == 1

    run(main())


def test_a_coroutine_function_from_another_thread(new_loop, pool):
    """With `loop=` any thread may post to a loop, and wait."""
    loops = queue.Queue()
    over = threading.Event()

    def serve():
        async def main():
            loops.put(asyncio.get_running_loop())
            await eventually(over.is_set)

        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())

    async def coroutine():
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    async def failing():
        fail()

    thread = start(serve)
    loop = loops.get(timeout=PATIENCE)
    try:
        assert pool.post_task(coroutine, loop=loop).result(PATIENCE) is loop
        assert pool.post_task(coroutine, DelayTask(0.005), loop=loop).result(PATIENCE) is loop
        with pytest.raises(ValueError, match="failed"):
            pool.post_task(failing, loop=loop).result(PATIENCE)
        series = pool.post_task(coroutine, IntervalTask(0.002), loop=loop)
        series.wait_for_finished_count(3, PATIENCE)
        series.stop_and_wait(PATIENCE)
        assert series.cancelled()
        times = series.called_times()
        assert pool.post_task(coroutine, loop=loop).result(PATIENCE) is loop
        assert series.called_times() == times >= 3
    finally:
        over.set()
        thread.join(PATIENCE)


def test_what_is_refused(run, pool):
    """A coroutine function needs a loop, and only such a function takes one."""

    async def coroutine():
        pass

    for post in (pool.post_task, pool.submit, pool.try_submit, asynctask.post_task):
        with pytest.raises(TypeError, match="post it from a running event loop, or pass loop="):
            post(coroutine)
    with pytest.raises(TypeError, match="loop must be an event loop, not 3"):
        pool.post_task(coroutine, loop=3)

    async def main():
        loop = asyncio.get_running_loop()
        with pytest.raises(TypeError, match="loop is for coroutine functions"):
            pool.post_task(int, loop=loop)
        with cf.ThreadPoolExecutor(1) as executor:
            with pytest.raises(TypeError, match="executor must not be given"):
                pool.post_task(coroutine, executor=executor)
            with pytest.raises(TypeError, match="executor must not be given"):
                pool.post_task(int, executor=executor, loop=loop)

    run(main())
    assert pool.stats().submitted == 0


def test_what_counts_as_a_coroutine_function(run, pool):
    """Methods, partials, callable objects and wrappers are seen through."""

    class Owner:
        async def method(self, value):
            return value

        @staticmethod
        async def static(value):
            return value

        @classmethod
        async def of_class(cls, value):
            return value

        async def __call__(self, value):
            return value

    async def plain(value):
        return value

    @functools.wraps(plain)
    async def wrapped(value):
        return await plain(value)

    class Delegate:
        __call__ = Owner()

    class Static:
        __call__ = staticmethod(plain)

    owner = Owner()
    callbacks = [
        plain,
        wrapped,
        owner,
        owner.method,
        Owner.static,
        Owner.of_class,
        functools.partial(plain),
        functools.partial(functools.partial(owner.method)),
        functools.partial(owner),
        Owner.__dict__["static"],
        functools.partial(staticmethod(functools.partial(plain))),
        Delegate(),
        Static(),
    ]

    async def main():
        tasks = [pool.submit(callback, n) for n, callback in enumerate(callbacks)]
        assert await asyncio.gather(*tasks) == list(range(len(callbacks)))

    run(main())


def test_what_was_posted_before_does_not_tell_what_a_coroutine_function_is(run, pool):
    """A plain object does not speak for another class, nor one partial for the next."""

    class Partial(functools.partial):
        pass

    class Plain:
        def __call__(self, value):
            return value

    class Awaited:
        async def __call__(self, value):
            return value

    def plain(value):
        return value

    async def awaited(value):
        return value

    kinds = [
        (Plain(), Awaited()),
        (plain, awaited),
        (Partial(plain), Partial(awaited)),
        (functools.partial(plain), functools.partial(awaited)),
        (Plain().__call__, Awaited().__call__),
        (staticmethod(plain), staticmethod(awaited)),
    ]

    async def main():
        for pair in kinds:
            for callback in pair * 2:
                assert await pool.submit(callback, 7) == 7

    run(main())


def test_mocks_are_what_they_stand_for(run, pool):
    """An `AsyncMock` is awaited on the loop, however it was made; a `MagicMock` is called."""

    class Client:
        async def fetch(self, value):
            return value

        def sum(self, value):
            return value

    async def fetch(value):
        return value

    client = AsyncMock(Client, **{"fetch.return_value": 7, "sum.return_value": 7})
    spied = AsyncMock(side_effect=lambda _: threading.get_ident())
    callbacks = [
        AsyncMock(return_value=7),
        functools.partial(AsyncMock(return_value=7)),
        client.fetch,
        client.sum,
        create_autospec(fetch, return_value=7),
        MagicMock(return_value=7),
        create_autospec(Client.sum, return_value=7).__get__(Client()),
    ]

    async def main():
        for callback in callbacks * 2:
            assert await pool.submit(callback, 7) == 7
        assert await pool.submit(spied, 7) == threading.get_ident()
        spied.assert_awaited_once_with(7)

    run(main())


def markers():
    """Give the ways to say of a function that it gives a coroutine, and to take it back."""

    def mark(function):
        function._is_coroutine = asyncio.coroutines._is_coroutine

    def unmark(function):
        del function._is_coroutine

    yield pytest.param(mark, unmark, id="asyncio")
    if hasattr(inspect, "markcoroutinefunction"):

        def unmark(function):
            del function._is_coroutine_marker

        yield pytest.param(inspect.markcoroutinefunction, unmark, id="inspect")


@pytest.mark.parametrize(("mark", "unmark"), list(markers()))
def test_a_function_can_be_marked_as_a_coroutine_function(run, pool, mark, unmark):
    """The mark counts on functions, methods and objects, also on those that were posted before."""

    async def awaited():
        return threading.get_ident()

    class Object:
        def __call__(self):
            return awaited()

        def method(self):
            return awaited()

    def function():
        return awaited()

    def decorated():
        return awaited()

    decorated.attribute = "of no matter"

    async def main():
        here = threading.get_ident()
        of_class, one, other = Object.method, Object(), Object()
        for marked, callback in [
            (function, function),
            (function, functools.partial(function)),
            (decorated, decorated),
            (of_class, one.method),
            (one, one),
        ]:
            (await pool.submit(callback)).close()
            mark(marked)
            assert await pool.submit(callback) == here
            unmark(marked)
            (await pool.submit(callback)).close()
        mark(one)
        (await pool.submit(other)).close()
        function._is_coroutine = function._is_coroutine_marker = "something else"
        (await pool.submit(function)).close()

    run(main())


def test_a_call_that_is_made_a_coroutine_later(run, pool):
    """What a class or its base has as `__call__` at the time of the post is what counts."""

    class Base:
        def __call__(self):
            return 1

    class Derived(Base):
        pass

    async def call(_self):
        return 2

    async def main():
        assert await pool.submit(Derived()) == 1
        plain, Base.__call__ = Base.__call__, call
        assert await pool.submit(Derived()) == 2
        Base.__call__ = plain
        assert await pool.submit(Derived()) == 1
        Derived.__call__ = call
        assert await pool.submit(Derived()) == 2
        assert await pool.submit(Base()) == 1

    run(main())


def test_a_compiled_function_is_known_by_its_own_code(run, pool):
    """Of objects that look like functions, as Cython's do, each says what it is."""

    class Compiled:
        __defaults__ = __kwdefaults__ = __annotations__ = None

        def __init__(self, function):
            self.__name__, self.__code__, self.function = "compiled", function.__code__, function

        def __call__(self):
            return self.function()

    async def awaited():
        return 2

    async def main():
        assert await pool.submit(Compiled(lambda: 1)) == 1
        assert await pool.submit(Compiled(awaited)) == 2
        assert await pool.submit(Compiled(lambda: 1)) == 1

    run(main())


def test_a_coroutine_that_a_plain_function_returns_is_its_result(run, pool):
    """As with every executor: nobody awaits it but the caller."""

    async def awaited():
        return 7

    async def main():
        assert await (await pool.submit(lambda: awaited())) == 7  # noqa: PLW0108  # a plain function

    run(main())


@pytest.mark.parametrize("error", [asyncio.CancelledError, ValueError, GeneratorExit])
def test_a_marked_function_that_raises_when_it_is_called(run, pool, error):
    """What is called on the loop and gives no coroutine ends its handle, whatever it raises."""

    @mark
    def call():
        raise error("when called")

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # a `BaseException` goes on its way
        task = pool.submit(call)
        await eventually(task.done)
        if error is asyncio.CancelledError:
            assert task.cancelled()
        else:
            assert isinstance(task.exception(), error)
        assert pool.stats().running_elsewhere == 0

    run(main())


def test_context_of_coroutines(run, pool):
    """A coroutine sees the poster's context variables, or those of `context=`."""
    variable = contextvars.ContextVar("variable", default="nothing")

    async def look():
        await asyncio.sleep(0)
        seen = variable.get()
        variable.set("changed")
        return seen

    async def main():
        variable.set("the poster's")
        assert await pool.submit(look) == "the poster's"
        assert variable.get() == "the poster's"
        own = contextvars.copy_context()
        own.run(variable.set, "own")
        assert await pool.post_task(look, context=own) == "own"
        assert own[variable] == "changed"
        assert await pool.post_task(look, DelayTask(0.005)) == "the poster's"

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks before 3.12")
def test_eager_tasks(pool):
    """A loop that starts tasks eagerly runs coroutine functions as others do."""

    async def coroutine(value):
        return value

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        assert await pool.submit(coroutine, 3) == 3
        with pytest.raises(ValueError, match="failed"):
            await pool.submit(failing)

    async def failing():
        fail()

    asyncio.run(main())
