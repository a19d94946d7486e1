"""`Executor`: the same bodies on both sides."""

import asyncio
import concurrent.futures as cf
import contextlib
import contextvars
import gc
import inspect
import itertools
import logging
import pathlib
import re
import threading
import time
import weakref

import pytest

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "futures.md"


def fail(text="failed"):
    """Raise."""
    raise ValueError(text)


# submit.


def test_is_an_executor(column):
    """Both are executors, and a `with` block gives the executor itself."""
    executor = column.make(1)
    assert isinstance(executor, cf.Executor)
    assert issubclass(column.executor, cf.Executor)
    with executor as inner:
        assert inner is executor


def test_arguments_are_passed_on(one):
    """Positional and keyword arguments arrive, `self` and `fn` among them."""
    take = lambda *args, **kwargs: (args, kwargs)  # noqa: E731  # any name is allowed
    future = one.submit(take, 1, 2, self=3, fn=4, timeout=5, name=6)
    assert future.result(20) == ((1, 2), {"self": 3, "fn": 4, "timeout": 5, "name": 6})
    with pytest.raises(TypeError):
        one.submit()
    with pytest.raises(TypeError):
        one.submit(fn=int)


def test_a_callback_that_is_not_callable(column, one):
    """It is refused at the call here, and fails there."""
    if column.differs("fn that is not callable") == "at the call":
        with pytest.raises(TypeError, match="fn must be callable"):
            one.submit(3)
    else:
        assert isinstance(one.submit(3).exception(20), TypeError)


def test_wrong_arguments_are_the_callbacks_failure(one):
    """A call that does not fit fails in the future."""
    with pytest.raises(TypeError):
        one.submit(len, 1, 2).result(20)


def test_tasks_start_in_order(one, running, gate):
    """One worker takes its tasks first in, first out."""
    seen = []
    futures = [one.submit(seen.append, n) for n in range(100)]
    gate.open()
    assert cf.wait(futures, 20).not_done == set()
    assert seen == list(range(100))


def test_as_many_at_a_time_as_asked_for(column):
    """`max_workers` tasks run at the same time, on threads of their own."""
    executor = column.make(3)
    barrier = threading.Barrier(4)

    def meet():
        barrier.wait(20)
        return threading.get_ident()

    futures = [executor.submit(meet) for _ in range(3)]
    barrier.wait(20)
    threads = {future.result(20) for future in futures}
    assert len(threads) == 3
    assert threading.get_ident() not in threads


def test_an_idle_worker_is_used_again(column):
    """Tasks one after the other run on one thread."""
    executor = column.make(8)
    threads = set()
    for _ in range(5):
        threads.add(executor.submit(threading.get_ident).result(20))
        time.sleep(0.01)  # the worker gets time to sit down; without it another may start
    assert len(threads) == 1


def test_worker_threads_have_a_name(column):
    """`thread_name_prefix` is what the names of the workers begin with."""
    executor = column.make(1, "cook")
    name = executor.submit(lambda: threading.current_thread().name).result(20)
    assert name == column.differs("name of the first worker").format("cook")
    keyword = column.make(max_workers=1, thread_name_prefix="waiter")
    assert keyword.submit(lambda: threading.current_thread().name).result(20)[:6] == "waiter"
    default = column.make(1, "")
    assert default.submit(lambda: threading.current_thread().name).result(20)[0] in "Ta"


def test_context(column):
    """A callback has a context of its own here, and changes neither the poster's nor the next's."""
    executor = column.make(1)
    variable = contextvars.ContextVar("variable", default="its own")
    executor.submit(variable.set, "the worker's").result(20)
    assert executor.submit(variable.get).result(20) == column.differs("context of a callback")
    assert variable.get() == "its own"


def test_a_coroutine_function(column, one):
    """What it gives is nobody's there; here it wants a loop."""

    async def coroutine():
        return 1

    if column.differs("coroutine function") is TypeError:
        with pytest.raises(TypeError, match="running event loop, or pass loop="):
            one.submit(coroutine)
    else:
        one.submit(coroutine).result(20).close()


def test_run_in_executor(one):
    """`loop.run_in_executor` takes either."""

    async def main():
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(one, pow, 2, 5) == 32
        with pytest.raises(ValueError, match="failed"):
            await loop.run_in_executor(one, fail)
        return await asyncio.gather(*(loop.run_in_executor(one, abs, -n) for n in range(100)))

    assert asyncio.run(main()) == list(range(100))


def test_a_wait_in_a_callback(column, one):
    """A callback that waits for a task behind it deadlocks there."""

    def outer():
        inner = one.submit(lambda: "result")
        try:
            return inner.result(0.05)
        except TimeoutError:
            return TimeoutError

    assert one.submit(outer).result(20) == column.differs("wait in a callback for a task behind it")


# Constructor.


@pytest.mark.parametrize("workers", [0, -1])
def test_too_few_workers(column, workers):
    """A pool needs a worker."""
    with pytest.raises(ValueError, match="max_workers must be"):
        column.make(workers)


@pytest.mark.parametrize("workers", ["1", (), {}])
def test_workers_that_are_no_number(column, workers):
    """`max_workers` is a number."""
    with pytest.raises(TypeError):
        column.make(workers)


def test_unknown_arguments(column):
    """There are no other arguments."""
    with pytest.raises(TypeError):
        column.make(workers=3)


def test_an_initializer_that_is_not_callable(column):
    """It is refused at once, whatever its truth value."""
    for initializer in (3, 0, "", ()):
        with pytest.raises(TypeError, match="initializer must be"):
            column.make(1, initializer=initializer)


def test_initializer(column):
    """Each worker calls `initializer(*initargs)` once, before its first task."""
    local = threading.local()
    calls = []

    def initialize(*args):
        local.args = args
        calls.append(threading.get_ident())

    executor = column.make(2, "x", initialize, (1, 2))
    barrier = threading.Barrier(2)

    def look(meet):
        if meet:
            barrier.wait(20)
        return local.args

    futures = [executor.submit(look, meet) for meet in (True, True, False, False)]
    assert [future.result(20) for future in futures] == [(1, 2)] * 4
    assert len(calls) == len(set(calls)) == 2


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_a_failing_initializer(column, caplog, kind):
    """Queued and later tasks fail with `BrokenExecutor`, and the reason is logged."""
    held = threading.Event()

    def initialize():
        assert held.wait(20)
        raise kind("reason")

    executor = column.make(1, initializer=initialize)
    futures = [executor.submit(int) for _ in range(3)]
    held.set()
    for future in futures:
        error = future.exception(20)
        assert isinstance(error, cf.BrokenExecutor)
        assert type(error) is column.differs("class after a failed initializer")
        assert "initializer failed" in str(error)
    with pytest.raises(cf.BrokenExecutor, match="initializer failed"):
        executor.submit(int)
    with pytest.raises(cf.BrokenExecutor):
        executor.map(int, [1])
    (record,) = caplog.records
    assert (record.name, record.levelno) == (column.logger, logging.CRITICAL)
    assert record.getMessage() == "Exception in initializer:"
    assert record.exc_info[0] is kind
    executor.shutdown()


# map.


def test_map_in_order(column):
    """`map` gives results in the order of the arguments, the shortest iterable deciding."""
    executor = column.make(4)
    assert list(executor.map(pow, range(10), range(10))) == [n**n for n in range(10)]
    assert list(executor.map(pow, range(3), itertools.repeat(2))) == [0, 1, 4]
    assert list(executor.map(pow, [], [1])) == []


def test_map_posts_before_it_is_asked(one, gate):
    """The tasks of a `map` run whether or not anybody takes their results."""
    seen = threading.Event()
    results = one.map(lambda n: seen.set() if n == 2 else n, range(3))
    assert seen.wait(20)
    assert list(results) == [0, 1, None]


def test_map_raises_in_the_place_of_a_result(one):
    """Results before a failure come out, the failure in its place, and that is the end."""
    results = one.map(lambda n: 1 // n, [1, -1, 0, 1])
    assert (next(results), next(results)) == (1, -1)
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_times_out(column, gate):
    """The timeout counts from the call of `map`; what was there before comes out."""
    executor = column.make(2)
    results = executor.map(lambda wait: gate() if wait else "quick", [False, True], timeout=0.2)
    got = []
    with pytest.raises(TimeoutError):
        got.extend(itertools.islice(results, 1))
        got.extend(results)
    assert got in ([], ["quick"])
    gate.open()


@pytest.mark.parametrize("timeout", [0, -1])
def test_map_without_time(one, running, timeout):
    """A timeout that is over from the start raises for what is not done."""
    results = one.map(int, [1], timeout=timeout)
    with pytest.raises(TimeoutError):
        next(results)


def test_a_map_that_is_left_early(one, make_gate):
    """Closing the iterator cancels what has not started."""
    gate = make_gate()
    seen = []

    def call(n):
        if n == 1:
            gate()
        seen.append(n)

    results = one.map(call, range(10))
    assert next(results) is None
    gate.wait()
    results.close()
    gate.open()
    one.submit(int).result(20)
    assert seen == [0, 1]


def test_a_failing_map_cancels_the_rest(one, gate):
    """After a failure what has not started is cancelled."""
    seen = []

    def call(n):
        if n == 0:
            raise ValueError("first")
        gate()
        seen.append(n)

    results = one.map(call, range(5))
    gate.wait()
    with pytest.raises(ValueError, match="first"):
        next(results)
    gate.open()
    one.submit(int).result(20)
    assert seen == [1]


def test_map_of_something_that_fails_itself(one):
    """An iterable that raises does so at the call."""

    def numbers():
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        one.map(int, numbers())


def test_map_chunksize(column, one):
    """`chunksize` changes nothing for threads."""
    for size in (1, 3, 100):
        assert list(one.map(int, range(10), chunksize=size)) == list(range(10))
    expected = column.differs("chunksize of 0")
    with pytest.raises(expected) if expected else contextlib.nullcontext():
        one.map(int, range(3), chunksize=0)


def test_map_buffersize(column):
    """With `buffersize` an endless iterable is read as results are taken."""
    executor = column.make(2)
    read = []

    def numbers():
        for n in itertools.count():
            read.append(n)
            yield n

    try:
        results = executor.map(int, numbers(), buffersize=3)
    except TypeError:
        assert not column.is_ours
        pytest.skip("this Python's library has no buffersize")
    assert len(read) == 3
    assert list(itertools.islice(results, 5)) == list(range(5))
    assert len(read) <= 8
    results.close()
    with pytest.raises(ValueError, match="buffersize must be"):
        executor.map(int, [1], buffersize=0)


def test_map_lets_go_of_results(one, gone):
    """`map` keeps no reference to a result that was taken."""

    class Thing:
        pass

    gc.disable()
    try:
        results = one.map(lambda _: Thing(), range(2))
        first = next(results)
        taken = weakref.ref(first)
        del first
        one.submit(int).result(20)
        assert gone(taken)
        results.close()
    finally:
        gc.enable()


# shutdown.


def test_shutdown_waits_for_everything(one, running, queued, gate):
    """`shutdown` returns when what was queued has run."""
    opener = threading.Timer(0.02, gate.open)
    opener.start()
    assert one.shutdown() is None
    assert (running.result(0), queued.result(0)) == ("through", 7)
    opener.join(20)


def test_shutdown_without_wait(one, running, queued, gate):
    """`shutdown(wait=False)` returns at once; what was queued still runs."""
    one.shutdown(wait=False)
    assert not running.done()
    gate.open()
    assert queued.result(20) == 7


def test_shutdown_that_cancels(one, running, gate):
    """With `cancel_futures` what is queued is cancelled, what runs goes on."""
    futures = [one.submit(int) for _ in range(10)]
    one.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert not running.done()
    gate.open()
    one.shutdown()
    assert running.result(0) == "through"


def test_shutdown_twice(one):
    """A second `shutdown`, in whatever way, changes nothing."""
    assert one.submit(int).result(20) == 0
    for wait, cancel in ((True, False), (True, True), (False, False), (True, False)):
        one.shutdown(wait, cancel_futures=cancel)
    with pytest.raises(TypeError):
        one.shutdown(True, True)


def test_shutdown_of_what_was_never_used(column):
    """A pool without a task is shut down at once."""
    column.make(3).shutdown()


def test_after_shutdown(column, one):
    """A submit says that there is no more, in the same words."""
    one.shutdown()
    text = re.escape("cannot schedule new futures after shutdown")
    for call in (lambda: one.submit(int), lambda: one.map(int, [1])):
        with pytest.raises(RuntimeError, match=f"^{text}") as info:
            call()
        assert info.type is column.differs("class after shutdown")


def test_the_block_waits(column):
    """Leaving a `with` block waits, and ends the pool, whether or not it raised."""
    for error in (None, KeyError):
        executor = column.make(2)
        with pytest.raises(error) if error else contextlib.nullcontext(), executor:
            futures = [executor.submit(time.sleep, 0.001) for _ in range(5)]
            if error:
                raise error
        assert all(future.done() and not future.cancelled() for future in futures)
        with pytest.raises(RuntimeError):
            executor.submit(int)


def test_workers_end_with_a_shutdown(column):
    """After `shutdown` no worker is left."""
    executor = column.make(3, "leaves")
    barrier = threading.Barrier(3)
    for future in [executor.submit(barrier.wait, 20) for _ in range(3)]:
        future.result(20)
    executor.shutdown()
    assert [thread for thread in threading.enumerate() if thread.name.startswith("leaves")] == []


def test_workers_end_with_the_pool(column, until):
    """A pool that nobody has any more runs what it was given, and its workers end."""
    executor = column.executor(2, "orphan", **({"idle_timeout": 0.01} if column.is_ours else {}))
    futures = [executor.submit(time.sleep, 0.001) for _ in range(10)]
    del executor
    assert cf.wait(futures, 20).not_done == set()
    until(lambda: not any(t.name.startswith("orphan") for t in threading.enumerate()))


def test_shutdown_from_a_callback(column, one):
    """A worker cannot wait for itself: an error there, no wait here."""
    error = one.submit(one.shutdown).exception(20)
    expected = column.differs("shutdown from a callback")
    assert error is None if expected is None else isinstance(error, expected)


def test_shutdown_while_others_submit(column):
    """Whatever was accepted runs, whatever was not was refused."""
    executor = column.make(2)
    accepted = []
    start = threading.Barrier(4)

    def submit():
        start.wait(20)
        with contextlib.suppress(RuntimeError):
            accepted.extend(executor.submit(int) for _ in range(1000))

    threads = [threading.Thread(target=submit) for _ in range(3)]
    for thread in threads:
        thread.start()
    start.wait(20)
    executor.shutdown()
    for thread in threads:
        thread.join(20)
    assert cf.wait(accepted, 20).not_done == set()
    assert [future.result(0) for future in accepted] == [0] * len(accepted)


# The docs.


def test_every_difference_is_in_the_docs(request):
    """`docs/futures.md` names each difference, so that none is a surprise."""
    table = request.config.pluginmanager
    differences = next(
        plugin.DIFFERENCES for plugin in table.get_plugins() if hasattr(plugin, "DIFFERENCES")
    )
    page = PAGE.read_text(encoding="utf-8").replace("`", "").lower()
    missing = [name for name in differences if f"| {name.lower()} |" not in page]
    assert missing == []


def test_bad_numbers_are_refused_in_the_same_words(column, one):
    """What both take is refused by both with the same class and the same text."""
    for number in (0, -1):
        with pytest.raises(ValueError, match="max_workers must be greater than 0"):
            column.make(number)
    if "buffersize" not in inspect.signature(one.map).parameters:
        return  # the library's has it from 3.14 on
    for wrong in ("foo", 2.0):
        with pytest.raises(TypeError, match="buffersize must be an integer or None"):
            one.map(str, range(4), buffersize=wrong)
    for number in (0, -1):
        with pytest.raises(ValueError, match="buffersize must be None or > 0"):
            one.map(str, range(4), buffersize=number)
