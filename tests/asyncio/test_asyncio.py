"""Tasks in coroutines, and coroutines as tasks, on asyncio's own loop and on uvloop's."""

import asyncio
import concurrent.futures as cf
import contextvars
import functools
import gc
import inspect
import logging
import queue
import sys
import threading
import traceback as tb
import weakref
from unittest.mock import AsyncMock, MagicMock, create_autospec

import asynctask
import asynctask.aio
import pytest
from asynctask import DelayTask, IntervalTask

try:
    import uvloop
except ImportError:  # the group `test` of pyproject.toml has it; a Python may be too new for it
    uvloop = None

LOOPS = {"asyncio": asyncio.new_event_loop}
if uvloop is not None:
    LOOPS["uvloop"] = uvloop.new_event_loop

PATIENCE = 30


async def eventually(condition):
    """Wait for a condition that nothing announces, such as another thread's progress."""
    while not condition():  # noqa: ASYNC110  # see above
        await asyncio.sleep(0.001)


@pytest.fixture(params=LOOPS)
def new_loop(request):
    """Give the function that makes a loop."""
    return LOOPS[request.param]


@pytest.fixture
def run(new_loop):
    """Run a coroutine to its end, in debug mode so that calls from wrong threads raise."""

    def run(coroutine, *, debug=True):
        with asyncio.Runner(debug=debug, loop_factory=new_loop) as runner:
            # What coroutine functions take in debug mode is not the subject.
            runner.get_loop().slow_callback_duration = PATIENCE
            return runner.run(asyncio.wait_for(coroutine, PATIENCE))

    return run


@pytest.fixture
def collected(until):
    """Wait until the collector finds an object: a worker that has just handed over may have it."""

    def wait(reference):
        until(lambda: gc.collect() is not None and reference() is None)

    return wait


@pytest.fixture
def one(make_pool):
    """Give a pool of one worker."""
    return make_pool(1)


def fail():
    """Raise."""
    raise ValueError("failed")


def counting_loop():
    """Make a loop that counts what is given to it."""

    class Loop(asyncio.SelectorEventLoop):
        soon = 0
        threadsafe = 0
        armed = False

        def call_soon(self, *args, **kwargs):
            if self.armed:
                self.soon += 1
            return super().call_soon(*args, **kwargs)

        def call_soon_threadsafe(self, *args, **kwargs):
            if self.armed:
                self.threadsafe += 1
            return super().call_soon_threadsafe(*args, **kwargs)

    return Loop()


# Waiting for tasks.


def test_await(run, pool):
    """`await task` gives the result, raises the failure, or the cancellation."""

    async def main():
        assert await pool.submit(pow, 2, 5) == 32
        with pytest.raises(ValueError, match="failed") as info:
            await pool.submit(fail)
        assert info.traceback[-1].name == "fail"
        cancelled = pool.post_task(int, DelayTask(1000))
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert await pool.post_task(lambda: "later", DelayTask(0.005)) == "later"
        assert await pool.after(0.005) is None
        assert await pool.post_task(lambda: 5, IntervalTask(0.001, max_runs=3)) == 5
        return "done"

    assert run(main()) == "done"


def test_await_of_what_is_over_does_not_touch_the_loop(pool):
    """A finished task is awaited without a turn of the loop."""
    finished, failed = pool.submit(lambda: 1), pool.submit(fail)
    cancelled = pool.post_task(int, DelayTask(1000))
    cancelled.cancel()
    cf.wait([finished, failed])

    async def main():
        loop = asyncio.get_running_loop()
        loop.armed = True
        for _ in range(10):
            assert await finished == 1
            with pytest.raises(ValueError, match="failed"):
                await failed
            with pytest.raises(asyncio.CancelledError):
                await cancelled
        loop.armed = False
        return loop.soon, loop.threadsafe

    with asyncio.Runner(loop_factory=counting_loop) as runner:
        assert runner.run(main()) == (0, 0)


def test_awaiting_outside_of_a_loop(one, gate):
    """A finished task needs no loop to be awaited; another one says that there is none."""
    held = one.submit(gate)
    with pytest.raises(RuntimeError, match="no running event loop"):
        held.__await__().send(None)
    gate.open()
    held.result(20)
    with pytest.raises(StopIteration) as info:
        held.__await__().send(None)
    assert info.value.value == "through"


def test_other_coroutines_run_meanwhile(run, one, gate):
    """An await does not block the loop."""

    async def opener():
        gate.open()

    async def main():
        task = one.submit(gate)
        other = asyncio.create_task(opener())
        assert await task == "through"
        await other

    run(main())


def test_gather_and_task_groups(run, pool):
    """`gather`, `TaskGroup`, `wait_for` and `timeout` take tasks as they take awaitables."""

    async def main():
        tasks = [pool.submit(int, n) for n in range(200)]
        assert await asyncio.gather(*tasks) == list(range(200))
        results = await asyncio.gather(pool.submit(fail), pool.submit(int), return_exceptions=True)
        assert isinstance(results[0], ValueError)
        assert results[1] == 0

        async def one(n):
            return await pool.submit(int, n)

        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(one(n)) for n in range(20)]
        assert [run.result() for run in runs] == list(range(20))
        assert await asyncio.wait_for(pool.submit(int, 3), PATIENCE) == 3
        async with asyncio.timeout(PATIENCE):
            assert await pool.submit(int, 4) == 4
        done, _ = await asyncio.wait([asyncio.ensure_future(pool.submit(int, 5))])
        assert done.pop().result() == 5
        assert await asyncio.shield(pool.submit(int, 6)) == 6
        assert [await it for it in asyncio.as_completed([pool.submit(int, 7)])] == [7]

    run(main())


@pytest.mark.parametrize("how", ["wait_for", "timeout", "cancel"])
def test_giving_up_cancels_what_has_not_started(run, one, gate, how):
    """A coroutine that stops waiting cancels a queued task."""

    async def wait(task):
        return await task

    async def main():
        held = one.submit(gate)
        queued = one.submit(int)
        if how == "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(queued, 0.01)
        elif how == "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await queued
        else:
            waiting = asyncio.create_task(wait(queued))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert queued.cancelled()
        gate.open()
        assert await held == "through"

    run(main())


def test_giving_up_leaves_what_runs(run, one, gate):
    """A coroutine that stops waiting does not stop what runs; the callback can ask."""

    def call():
        gate()
        try:
            asynctask.check_cancelled()
        except cf.CancelledError:
            return "told"

    async def main():
        held = one.submit(call)
        await eventually(held.running)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(held, 0.01)
        assert held.running()
        gate.open()
        assert await held == "told"

    run(main())


def test_several_await_one_task(run, one, gate):
    """Several coroutines of one loop may await the same task."""

    async def wait(task):
        return await task

    async def main():
        held = one.submit(gate)
        waiting = [asyncio.create_task(wait(held)) for _ in range(10)]
        await asyncio.sleep(0)
        gate.open()
        assert await asyncio.gather(*waiting) == ["through"] * 10

    run(main())


def test_loops_of_several_threads_await_one_task(new_loop, one, gate):
    """Coroutines of several loops may await the same task, and threads wait for it."""
    held = one.submit(gate)
    results = queue.Queue()
    ready = threading.Barrier(4)

    async def wait():
        ready.wait(PATIENCE)
        results.put(await held)

    def start():
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(wait())

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    ready.wait(PATIENCE)
    gate.open()
    assert held.result(PATIENCE) == "through"
    for thread in threads:
        thread.join(PATIENCE)
    assert [results.get(timeout=1) for _ in threads] == ["through"] * 3


def test_one_wake_up_for_a_burst(one, gate):
    """Ten thousand tasks that end while the loop is busy wake it once."""
    count = 10_000

    async def wait(task):
        return await task

    async def main():
        loop = asyncio.get_running_loop()
        one.submit(gate)
        tasks = [one.submit(int, n) for n in range(count)]
        waiting = [asyncio.ensure_future(wait(task)) for task in tasks]
        await asyncio.sleep(0)
        loop.armed = True
        gate.open()
        one.submit(int).result(PATIENCE)  # the loop is blocked while they end
        results = await asyncio.gather(*waiting)
        loop.armed = False
        assert results == list(range(count))
        return loop.threadsafe

    with asyncio.Runner(loop_factory=counting_loop) as runner:
        # A second one, for the last of the first lot may come when the loop has looked.
        assert runner.run(main()) <= 2


def test_others_get_their_turn_in_a_burst(one, gate):
    """A loop that has a burst of ends to take takes it in portions."""
    count = 5000

    async def wait(task):
        return await task

    async def main():
        loop = asyncio.get_running_loop()
        one.submit(gate)
        tasks = [one.submit(int, n) for n in range(count)]
        waiting = [asyncio.ensure_future(wait(task)) for task in tasks]
        await asyncio.sleep(0)
        gate.open()
        one.submit(int).result(PATIENCE)
        seen = []

        def look():
            seen.append(sum(run.done() for run in waiting))
            if seen[-1] < count:
                loop.call_soon(look)

        look()
        await asyncio.gather(*waiting)
        return seen

    seen = asyncio.run(main())
    assert len({portion for portion in seen if 0 < portion < count}) >= 2


def test_ctrl_c_in_a_burst_loses_nothing(run, one, gate):
    """An exception in the middle of a portion does not strand the rest."""

    async def main():
        loop = asyncio.get_running_loop()
        bridge = asynctask._loops.bridge_of(loop)
        seen = []

        def interrupt():
            raise RuntimeError("in between")

        loop.set_exception_handler(lambda _loop, context: seen.append(context["exception"]))
        for item in (lambda: seen.append(1), interrupt, lambda: seen.append(2)):
            bridge.call(item)
        await eventually(lambda: 2 in seen)
        return [str(item) for item in seen]

    assert run(main()) == ["1", "in between", "2"]


def test_a_loop_that_goes_away_is_not_missed(new_loop, one, gate, caplog):
    """A task that is over after the loop which awaited it is closed ends as ever."""
    held = one.submit(gate)
    loop = new_loop()

    async def wait():
        await held

    waiting = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gate.open()
    assert held.result(20) == "through"
    assert one.submit(int).result(20) == 0
    waiting._log_destroy_pending = False
    assert caplog.records == []


def test_run_in_executor(run, pool):
    """`loop.run_in_executor` takes the pool."""

    async def main():
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(pool, pow, 2, 5) == 32
        with pytest.raises(ValueError, match="failed"):
            await loop.run_in_executor(pool, fail)
        assert await asyncio.wrap_future(pool.submit(int)) == 0

    run(main())


# Coroutine functions.


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

    thread = threading.Thread(target=serve)
    thread.start()
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


def test_failures_of_coroutines(run, pool, caplog, until):
    """What a coroutine raises is in its handle, and logged if nobody looks."""

    async def failing():
        await asyncio.sleep(0)
        fail()

    async def main():
        task = pool.submit(failing)
        with pytest.raises(ValueError, match="failed") as info:
            await task
        assert [frame.name for frame in info.traceback][-2:] == ["failing", "fail"]
        wrong = pool.submit(failing, 1, 2)
        with pytest.raises(TypeError):
            await wrong
        assert caplog.records == []
        silent = pool.post_task(failing, name="silent")
        await eventually(silent.done)
        silent = task = None

    run(main())
    until(lambda: gc.collect() is not None and caplog.records)  # which threads may do by themselves
    names = {(record.name, record.levelno) for record in caplog.records}
    assert names == {("asynctask", logging.ERROR)}
    assert "'silent'" in caplog.text


def test_cancelling_the_handle_cancels_the_coroutine(run, pool):
    """`cancel` of a running coroutine works, unlike that of a running function."""

    async def main():
        started = asyncio.Event()
        seen = []

        async def wait():
            started.set()
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                seen.append("told")
                raise

        task = pool.submit(wait)
        await started.wait()
        assert task.running()
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (task.cancelled(), seen) == (True, ["told"])
        assert not task.running()

    run(main())


def test_cancelling_a_coroutine_that_its_loop_has_not_begun(run, pool, until):
    """`cancel` says so when a coroutine is on its way to a loop that is busy."""

    async def main():
        ran = []

        async def note():
            ran.append(1)

        task = pool.submit(note)
        until(task.running)  # the worker has passed it on, and the loop, which waits here, has not
        assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (task.cancelled(), ran) == (True, [])

    run(main())


def mark(function):
    """Mark a plain function as a coroutine function, by the mark that each Python knows."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine
    return function


def test_what_is_cancelled_before_its_loop_has_begun_it_is_not_called(run, pool, until):
    """Not even the function that would make the coroutine."""

    async def main():
        called = []

        @mark
        def call():
            called.append(1)
            fail()

        task = pool.submit(call)
        until(task.running)  # the worker has passed it on, and the loop, which waits here, has not
        assert task.cancel()
        await eventually(task.done)
        assert (task.cancelled(), called) == (True, [])

    run(main())


def test_cancelling_the_handle_from_a_thread(run, pool):
    """`cancel` reaches a coroutine from any thread, and wakes a thread that waits."""

    async def main():
        started = asyncio.Event()

        async def wait():
            started.set()
            await asyncio.sleep(PATIENCE)

        task = pool.submit(wait)
        await started.wait()

        def from_thread():
            assert task.cancel()
            try:
                task.result(PATIENCE)
            except cf.CancelledError:
                return "cancelled"

        assert await asyncio.to_thread(from_thread) == "cancelled"

    run(main())


def test_a_coroutine_that_is_cancelled_from_inside(run, pool):
    """A coroutine whose asyncio task is cancelled ends its handle as cancelled."""

    async def main():
        started = queue.SimpleQueue()

        async def wait():
            started.put(asyncio.current_task())
            await asyncio.sleep(PATIENCE)

        task = pool.submit(wait)
        await eventually(lambda: not started.empty())
        started.get().cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main())


def test_a_coroutine_that_shrugs_a_cancel_off(run, pool):
    """A coroutine that catches its cancellation has a result."""

    async def main():
        started = asyncio.Event()

        async def wait():
            started.set()
            try:
                await asyncio.sleep(PATIENCE)
            except asyncio.CancelledError:
                return "stays"

        task = pool.submit(wait)
        await started.wait()
        task.cancel()
        assert await task == "stays"

    run(main())


def test_giving_up_on_a_coroutine_cancels_it(run, pool):
    """A timeout around the await of a coroutine's handle ends the coroutine."""

    async def main():
        task = pool.submit(asyncio.sleep, PATIENCE)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(task, 0.01)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main())


def test_a_series_of_coroutines(run, pool):
    """Each run of a series is a task of the loop; runs do not overlap; stopping ends it."""

    async def main():
        going = 0
        most = 0

        async def beat():
            nonlocal going, most
            going += 1
            most = max(most, going)
            await asyncio.sleep(0.005)
            going -= 1

        series = pool.post_task(beat, IntervalTask(0.002))
        await eventually(lambda: series.called_times() >= 3)
        series.stop()
        with pytest.raises(asyncio.CancelledError):
            await series
        assert (going, most) == (0, 1)
        limited = pool.post_task(beat, IntervalTask(0.001, max_runs=2), name="limited")
        assert await limited is None
        assert limited.called_times() == 2

    run(main())


def test_a_series_goes_on_after_a_failing_coroutine(run, pool, caplog):
    """A failing run of a series of coroutines is logged, and the next one comes."""

    async def main():
        runs = []

        async def beat():
            runs.append(1)
            if len(runs) == 1:
                fail()

        series = pool.post_task(beat, IntervalTask(0.001), name="beat")
        await eventually(lambda: len(runs) >= 3)
        series.cancel()

    run(main())
    assert [record.getMessage() for record in caplog.records] == [
        "exception in a run of task 'beat'"
    ]


@pytest.mark.parametrize("on_error", ["continue", "stop"])
@pytest.mark.parametrize("how", ["what it awaits", "its asyncio task"])
def test_a_run_of_a_series_that_somebody_else_cancels(run, pool, caplog, how, on_error):
    """It is a failing run: logged with its place, and `on_error` says what comes next."""

    async def main():
        runs = []
        awaited = asyncio.get_running_loop().create_future()
        awaited.cancel()

        async def beat():
            runs.append(1)
            if how == "what it awaits":
                await awaited
            asyncio.current_task().cancel()
            await asyncio.sleep(PATIENCE)

        series = pool.post_task(beat, IntervalTask(0.001, on_error=on_error), name="beat")
        if on_error == "stop":
            await eventually(series.done)
            assert isinstance(series.exception(), asyncio.CancelledError)
            assert not series.cancelled()
            return 1
        await eventually(lambda: len(caplog.records) >= 3)
        assert not series.done()
        series.stop()
        await eventually(series.done)
        assert series.cancelled()
        return len(runs)

    logged = run(main())
    assert [record.getMessage() for record in caplog.records] == [
        "exception in a run of task 'beat'"
    ] * logged
    for record in caplog.records:
        kind, _, traceback = record.exc_info
        assert kind is asyncio.CancelledError
        names = [frame.name for frame in tb.extract_tb(traceback)]
        assert "beat" in names
        assert "end" not in names


def test_the_error_of_a_cancelled_run_holds_no_handle(run, pool, gone, until):
    """A series that ended with it goes by reference count."""

    async def main():
        async def beat():
            asyncio.current_task().cancel()
            await asyncio.sleep(PATIENCE)

        series = pool.post_task(beat, IntervalTask(0.001, on_error="stop"))
        await eventually(series.done)
        series.exception()
        return weakref.ref(series)

    gc.collect()
    gc.disable()
    try:
        reference = run(main())
        until(lambda: gone(reference))  # the worker that began the run may still have it
    finally:
        gc.enable()


def test_a_series_that_its_handle_has_cancelled_logs_nothing(run, pool, caplog):
    """`cancel` is what the run is cancelled by, though it takes the loop a moment."""

    async def main():
        started = asyncio.Event()

        async def beat():
            started.set()
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                await asyncio.sleep(0)

        series = pool.post_task(beat, IntervalTask(0.001))
        await started.wait()
        assert series.cancel()
        await eventually(series.done)
        assert series.cancelled()

    run(main())
    assert caplog.records == []


def test_cancelling_twice_says_the_same(run, pool):
    """Also between the end of the coroutine and that of its handle."""

    async def main():
        started = asyncio.Event()
        told = []

        async def wait():
            started.set()
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                me = asyncio.current_task()
                asyncio.get_running_loop().call_soon(
                    lambda: told.append((me.done(), task.cancel()))
                )

        task = pool.submit(wait)
        await started.wait()
        assert task.cancel()
        await eventually(task.done)
        assert told == [(True, True)]
        assert task.cancelled()

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


def test_a_coroutine_that_has_ended_is_not_kept(run, pool):
    """What a coroutine returned goes with its handle, though its loop runs on."""

    class Value:
        pass

    async def coroutine():
        return Value()

    async def main():
        task = pool.post_task(coroutine)
        gone = weakref.ref(await task)
        del task
        await eventually(lambda: gc.collect() is not None and gone() is None)

    run(main())


def test_cancelling_what_is_on_a_closed_loop(new_loop, pool, collected):
    """A coroutine whose loop is closed cannot be cancelled, and the handle says so."""
    loop = new_loop()
    begun = []

    async def coroutine(loop):
        begun.append(asyncio.current_task())
        await loop.create_future()

    task = pool.post_task(coroutine, args=(loop,), loop=loop)
    while not begun:
        loop.run_until_complete(asyncio.sleep(0.001))
    begun.pop()._log_destroy_pending = False
    loop.close()
    assert task.cancel() is False
    assert not task.cancelled()
    reference = weakref.ref(loop)
    del loop
    collected(reference)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        task.result(20)


def test_a_cancelled_series_of_coroutines(run, pool):
    """`cancel` of a series cancels the coroutine that is going, and ends the series."""

    async def main():
        started = asyncio.Event()

        async def beat():
            started.set()
            await asyncio.sleep(PATIENCE)

        series = pool.post_task(beat, IntervalTask(0.001))
        await started.wait()
        assert series.cancel()
        with pytest.raises(asyncio.CancelledError):
            await series
        assert series.cancelled()

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


def test_many_coroutines_wake_the_loop_once(make_pool):
    """Ten thousand coroutines that fall due together are one wake-up of the loop."""
    clock = asynctask.testing.ManualClock()
    pool = make_pool(2, clock=clock)
    count = 10_000

    async def coroutine(n):
        return n

    async def main():
        loop = asyncio.get_running_loop()
        tasks = [pool.post_task(coroutine, DelayTask(1), args=(n,)) for n in range(count)]
        loop.armed = True
        clock.advance(1)  # the loop is blocked until all have been handed over
        results = await asyncio.gather(*tasks)
        loop.armed = False
        assert results == list(range(count))
        return loop.threadsafe

    with asyncio.Runner(loop_factory=counting_loop) as runner:
        # One for the start of all, and at most a few for their ends, which come on the loop itself.
        assert runner.run(main()) <= 2 * count // 1000


def test_shutdown_does_not_wait_for_coroutines(run, one):
    """A shutdown on the loop's own thread returns; the coroutine goes on."""

    async def main():
        started = asyncio.Event()
        go = asyncio.Event()

        async def wait():
            started.set()
            await go.wait()
            return "went on"

        task = one.submit(wait)
        await started.wait()
        one.shutdown()
        go.set()
        assert await task == "went on"

    run(main())


def test_a_loop_that_is_closed_before_the_task_is_due(new_loop, make_pool, clock):
    """The handle of a coroutine that was to run on a closed loop fails and says why."""
    pool = make_pool(1, clock=clock)
    loop = new_loop()

    async def coroutine():
        pass

    later = pool.post_task(coroutine, DelayTask(1), loop=loop)
    series = pool.post_task(coroutine, IntervalTask(1, on_error="stop"), loop=loop)
    loop.close()
    clock.advance(1)
    for task in (later, series, pool.post_task(coroutine, loop=loop)):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            task.result(20)


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_series_whose_loop_is_closed(new_loop, make_pool, clock, caplog, is_gone):
    """It ends as failed, and says so once; its ticks add up."""
    pool = make_pool(1, clock=clock)
    loop = new_loop()

    async def beat():
        pass

    series = pool.post_task(beat, IntervalTask(1), loop=loop, name="beat")
    loop.close()
    if is_gone:
        reference = weakref.ref(loop)
        del loop
        gc.collect()
        assert reference() is None, "a series keeps its loop alive"
    clock.advance(5)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        series.result(20)
    clock.advance(5)
    assert [record.getMessage() for record in caplog.records] == [
        "exception in a run of task 'beat'"
    ]
    stats = pool.stats()
    assert (series.called_times(), stats.skipped_runs, stats.missed_runs) == (1, 0, 0)
    assert (stats.failed, stats.pending_timers, stats.running_elsewhere) == (1, 0, 0)


def test_a_loop_that_refuses_a_run(new_loop, make_pool, clock, caplog):
    """Whatever else goes wrong there is a failing run, and the series goes on."""
    pool = make_pool(1, clock=clock)
    plain = new_loop()

    class Stubborn(type(plain)):
        is_stubborn = True

        def call_soon_threadsafe(self, *args, **keywords):
            if self.is_stubborn:
                raise RuntimeError("by hand")
            return super().call_soon_threadsafe(*args, **keywords)

    plain.close()
    loop = Stubborn()

    runs = []

    async def beat():
        runs.append(1)

    series = pool.post_task(beat, IntervalTask(1), loop=loop)
    clock.advance(2)
    series.wait_for_finished_count(2, 20)
    assert (series.done(), len(caplog.records)) == (False, 2)
    loop.is_stubborn = False  # what it has refused does not come back
    clock.jump(1)
    while series.called_times() < 3:
        loop.run_until_complete(asyncio.sleep(0.001))
    assert (series.done(), len(caplog.records), runs) == (False, 2, [1])
    series.cancel()
    loop.close()


def test_a_loop_that_is_closed_under_the_run_of_a_series(new_loop, one, caplog, collected):
    """When the loop is gone, the series ends as failed, and says so once."""
    loop = new_loop()
    started = []

    async def beat(loop):
        started.append(asyncio.current_task())
        await loop.create_future()

    series = one.post_task(beat, IntervalTask(0.001), args=(weakref.proxy(loop),), loop=loop)
    while not started:
        loop.run_until_complete(asyncio.sleep(0.001))
    started.pop()._log_destroy_pending = False
    loop.close()
    reference = weakref.ref(loop)
    del loop
    collected(reference)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        series.result(PATIENCE)
    assert [record.name for record in caplog.records] == ["asynctask"]


def test_a_loop_that_is_gone_before_the_task_is_due(new_loop, make_pool, clock):
    """A task that waits for its deadline does not keep its loop alive, and fails without it."""
    pool = make_pool(1, clock=clock)
    loop = new_loop()

    async def coroutine():
        pass

    async def wait(task):
        await task

    task = pool.post_task(coroutine, DelayTask(1), loop=loop)
    waiting = loop.create_task(wait(task))
    loop.run_until_complete(asyncio.sleep(0))
    waiting._log_destroy_pending = False
    loop.close()
    reference = weakref.ref(loop)
    del loop, waiting
    gc.collect()
    assert reference() is None, "a task keeps its loop alive"
    clock.advance(1)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        task.result(20)


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize("begun", [True, False])
def test_a_loop_that_is_closed_under_a_task(  # noqa: PLR0917  # they are fixtures
    new_loop, one, begun, caplog, until, collected
):
    """Who waits for a coroutine whose loop is closed and gone is told so."""
    loop = new_loop()
    started = []

    class Owner:
        """Holds the loop, as objects of asynchronous programs do."""

        def __init__(self, loop):
            self.loop = loop

        async def wait(self):
            started.append(self)
            await self.loop.create_future()

    task = one.post_task(Owner(loop).wait, loop=loop)
    until(task.running)
    if begun:
        while not started:
            loop.run_until_complete(asyncio.sleep(0.001))
    assert task.running()
    caught = queue.Queue()

    def wait():
        try:
            task.result(PATIENCE)
        except BaseException as error:
            caught.put(error)

    thread = threading.Thread(target=wait)
    thread.start()
    loop.close()
    reference = weakref.ref(loop)
    started.clear()
    del loop
    collected(reference)
    error = caught.get(timeout=PATIENCE)
    assert isinstance(error, RuntimeError)
    assert str(error) == "Event loop is closed"
    thread.join(PATIENCE)
    # That a coroutine was pending is asyncio's to say.
    assert {record.name for record in caplog.records} <= {"asyncio"}


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


# Groups and tickers.


def test_async_group(run, pool):
    """`async with` waits without blocking the loop, and functions and coroutines go together."""

    async def coroutine(n):
        await asyncio.sleep(0.001)
        return n

    async def main():
        async with pool.group() as group:
            for n in range(3):
                group.submit(int, n)
                group.submit(coroutine, n)
            group.post_task(int, DelayTask(0.002))
        assert group.results() == [0, 0, 1, 1, 2, 2, 0]

    run(main())


def test_async_group_with_failures(run, pool):
    """Failures come out as an `ExceptionGroup`, and cancel what has not started."""

    async def main():
        with pytest.raises(ExceptionGroup, match="1 of 2 tasks failed") as info:
            async with pool.group() as group:
                later = group.post_task(int, DelayTask(1000))
                group.submit(fail)
        assert [type(error) for error in info.value.exceptions] == [ValueError]
        assert later.cancelled()
        with pytest.raises(ExceptionGroup, match="2 of 3 tasks failed"):
            async with pool.group(on_error="collect") as group:
                for callback in (fail, int, fail):
                    group.submit(callback)

    run(main())


def test_async_group_whose_block_raises(run, pool):
    """An exception of the block cancels the tasks, waits for them, and comes out."""

    async def main():
        with pytest.raises(KeyError):
            async with pool.group() as group:
                later = group.post_task(int, DelayTask(1000))
                raise KeyError
        assert later.cancelled()

    run(main())


def test_async_group_that_is_cancelled(run, one, gate):
    """Cancelling the block cancels its tasks, waits for what runs, and goes on its way."""

    async def main():
        ready = asyncio.Event()
        tasks = []

        async def block():
            async with one.group() as group:
                tasks.extend([group.submit(gate), group.submit(int)])
                ready.set()

        waiting = asyncio.create_task(block())
        await ready.wait()
        await eventually(tasks[0].running)
        waiting.cancel()
        await eventually(tasks[1].cancelled)
        assert not waiting.done()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert tasks[0].result(0) == "through"

    run(main())


def test_async_group_in_a_timeout(run, pool):
    """`asyncio.timeout` around a group ends the group and raises `TimeoutError`."""

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), pool.group() as group:
                later = group.post_task(int, DelayTask(1000))
        assert later.cancelled()

    run(main())


def test_async_group_whose_time_is_up(run, pool):
    """A group's own timeout cancels what is left and raises `TimeoutError`."""

    async def main():
        with pytest.raises(TimeoutError):
            async with pool.group(timeout=0.01) as group:
                later = group.post_task(int, DelayTask(1000))
        assert later.cancelled()

    run(main())


def test_async_group_of_coroutines_that_fails(run, pool):
    """A failure cancels coroutines of the group that are going."""

    async def main():
        seen = []

        async def wait():
            try:
                await asyncio.sleep(PATIENCE)
            finally:
                seen.append("over")

        with pytest.raises(ExceptionGroup):
            async with pool.group() as group:
                waiting = group.submit(wait)
                await eventually(waiting.running)
                await asyncio.sleep(0.005)
                group.submit(fail)
        assert seen == ["over"]

    run(main())


def test_async_ticker(run):
    """`async for` over a ticker counts, and the loop goes on meanwhile."""

    async def main():
        turns = 0

        async def others():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(others())
        ticks = []
        ticker = asynctask.ticker(0.002, missed="catch_up")
        async for tick in ticker:
            ticks.append(tick)
            if len(ticks) >= 5 and turns > 5:
                ticker.stop()
        other.cancel()
        assert ticks == list(range(1, len(ticks) + 1))
        ticker = asynctask.ticker(0.002)
        seen = []
        async for tick in ticker:
            seen.append(tick)
            if len(seen) == 3:
                ticker.stop()
        assert seen == sorted(set(seen))
        assert len(seen) in {3, 4}  # the next tick may have been before the stop

    run(main())


def test_async_ticker_that_is_cancelled(run):
    """A coroutine that waits for a tick can be cancelled."""

    async def main():
        ticker = asynctask.ticker(1000)

        async def loop():
            async for _ in ticker:
                pass

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop(), 0.01)
        ticker.stop()
        assert [tick async for tick in ticker] == []

    run(main())


# aio.install.


def test_install(run, pool):
    """After `aio.install` `to_thread` and `run_in_executor` run on the pool."""

    async def main():
        asynctask.aio.install(pool=pool)
        loop = asyncio.get_running_loop()
        name = await asyncio.to_thread(lambda: threading.current_thread().name)
        assert name.startswith("asynctask-")
        assert await loop.run_in_executor(None, pow, 2, 3) == 8
        variable = contextvars.ContextVar("variable")
        variable.set("seen")
        assert await asyncio.to_thread(variable.get) == "seen"
        with pytest.raises(ValueError, match="failed"):
            await asyncio.to_thread(fail)

    run(main())
    # The end of the loop is not the end of the pool.
    assert pool.submit(int).result(20) == 0
    assert not [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


@pytest.mark.usefixtures("default_pool")
def test_install_of_the_default_pool(run):
    """Without a pool it is the default one."""

    async def main():
        asynctask.aio.install()
        await asyncio.to_thread(int)
        return asynctask.get_async_task().stats().submitted

    assert run(main()) == 1


def test_install_on_a_loop_that_does_not_run(new_loop, pool):
    """With `loop=` it can be done before the loop runs; without one it says so."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        asynctask.aio.install()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        asynctask.aio.install(runner.get_loop(), pool)

        async def main():
            return await asyncio.to_thread(lambda: threading.current_thread().name)

        assert runner.run(main()).startswith("asynctask-")


def test_the_end_of_the_loop_waits_for_its_own_tasks(new_loop, make_pool, make_gate, until):
    """`asyncio.run` waits for what was posted by way of its default executor, and nothing else."""
    pool = make_pool(2)
    foreign, own = make_gate(), make_gate()
    other = pool.submit(foreign)
    posted = []
    ended = threading.Event()

    class Recorder(asynctask.AsyncTaskPool):
        def submit(self, *call):
            posted.append(pool.submit(*call))
            return posted[-1]

    async def main():
        asynctask.aio.install(pool=Recorder())
        asyncio.get_running_loop().run_in_executor(None, own)
        await eventually(own.started.is_set)

    def let_go_on():
        # Not before somebody waits for it, as the library's `wait` shows, or nobody did.
        until(lambda: posted and (posted[0]._waiters or ended.is_set()))
        own.open()

    opener = threading.Thread(target=let_go_on)
    opener.start()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    waited = posted[0].done()
    ended.set()
    opener.join(20)
    assert waited
    assert not other.done()
    foreign.open()
    assert other.result(20) == "through"


def test_the_executor_of_an_installed_pool_is_shut_down_with_the_loop(pool):
    """The bridge refuses tasks after its shutdown, and can cancel what has not started."""

    async def main():
        asynctask.aio.install(pool=pool)
        loop = asyncio.get_running_loop()
        executor = loop._default_executor
        assert isinstance(executor, cf.ThreadPoolExecutor)
        later = executor.submit(int)
        assert isinstance(later, asynctask.AsyncTask)
        assert list(executor.map(int, "123")) == [1, 2, 3]
        executor.shutdown(wait=True, cancel_futures=True)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            executor.submit(int)

    asyncio.run(main())
