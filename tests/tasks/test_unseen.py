"""Failures that nobody has looked at when their handles end: logged once, and harming nobody."""

import gc
import logging
import os
import queue
import textwrap
import threading

import pytest
from asynctask import DelayTask
from helpers.programs import run_program

PATIENCE = 30  # seconds that only a hang takes


@pytest.fixture
def lines(monkeypatch):
    """Give what is logged, a message at a time."""
    lines = queue.Queue()
    handler = logging.Handler()
    handler.emit = lambda record: lines.put((record.getMessage(), record.exc_info, record))
    logger = logging.getLogger("asynctask")
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.fixture
def _no_collector():
    """Have cycles end where the test says."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Owner:
    def __init__(self, pool):
        self.task = pool.post_task(self.fail, DelayTask(0.0001), name="owned")

    def fail(self):
        raise LookupError("lost")


@pytest.mark.usefixtures("_no_collector")
def test_a_failure_in_a_cycle_of_owner_and_handle_is_logged_once(one, lines):
    """An object that keeps the handle of its own method loses no failure."""
    owner = Owner(one)
    owner.task.wait_for_finished(PATIENCE)
    one.submit(int).result(PATIENCE)
    del owner
    gc.collect()
    message, exc_info, _ = lines.get(timeout=PATIENCE)
    assert message == "exception in task 'owned' was never retrieved"
    assert str(exc_info[1]) == "lost"
    gc.collect()
    one.submit(int).result(PATIENCE)
    assert lines.empty()


@pytest.mark.usefixtures("_no_collector")
def test_a_failure_whose_traceback_refers_to_its_handle_is_logged_whole(one, lines):
    """The collector has not emptied the exception by the time it is logged."""
    box, filled = [], threading.Event()

    def fail():
        filled.wait(PATIENCE)
        task = box.pop()
        raise LookupError("lost", task.name)

    box.append(one.post_task(fail, name="cycle"))
    waiter = box[0]
    filled.set()
    waiter.wait_for_finished(PATIENCE)
    one.submit(int).result(PATIENCE)
    del waiter
    gc.collect()
    message, exc_info, _ = lines.get(timeout=PATIENCE)
    assert message == "exception in task 'cycle' was never retrieved"
    assert exc_info[1].args == ("lost", "cycle")
    assert exc_info[1].__traceback__ is not None


def test_a_dropped_failure_is_logged_elsewhere(one, lines, until):
    """The thread that drops a handle does not run a log handler, and need not run anything else."""
    task = one.post_task(divmod, args=(1, 0), name="dropped")
    task.wait_for_finished(PATIENCE)
    until(lambda: one.stats().running_workers == 0)
    del task
    message, _, record = lines.get(timeout=PATIENCE)
    assert message == "exception in task 'dropped' was never retrieved"
    assert record.thread != threading.get_ident()


def test_a_failure_dropped_in_a_callback_that_goes_on_is_logged(one, lines, gate):
    """It does not wait until the callback returns, which may take for ever."""
    task = one.post_task(divmod, args=(1, 0), name="inside")
    task.wait_for_finished(PATIENCE)
    box = [task]
    del task

    goes_on = threading.Event()

    def drop():
        box.clear()
        goes_on.set()
        gate()
        goes_on.clear()

    dropping = one.submit(drop)
    gate.wait()
    assert "inside" in lines.get(timeout=PATIENCE / 2)[0]
    assert goes_on.is_set()
    gate.open()
    dropping.result(PATIENCE)


def test_a_failure_that_was_looked_at_is_not_logged(one, lines):
    """Neither when its handle goes, nor when a cycle of it is collected."""
    owner = Owner(one)
    assert isinstance(owner.task.exception(PATIENCE), LookupError)
    del owner
    gc.collect()
    one.submit(divmod, 1, 0)  # logged after what would have been before it
    assert "owned" not in lines.get(timeout=PATIENCE)[0]
    assert lines.empty()


def test_a_collection_inside_a_queue_handler_does_not_hang_the_program(run_python):
    """A failure whose handle ends inside a log handler is logged, and logging goes on."""
    run_python(
        """
        import gc, logging, logging.handlers, queue, threading
        from asynctask import AsyncTaskPool

        class Collecting(queue.Queue):
            # As when the collector happens to run while the queue is locked.
            def _put(self, item):
                gc.collect()
                super()._put(item)

        records = Collecting()
        logging.getLogger().addHandler(logging.handlers.QueueHandler(records))
        pool = AsyncTaskPool(1)

        class Owner:
            def fail(self):
                raise ValueError("lost")

        gc.disable()
        owner = Owner()
        owner.task = pool.post_task(owner.fail, name="cycle")
        owner.task.wait_for_finished(20)
        pool.submit(int).result(20)
        del owner
        writer = threading.Thread(target=logging.warning, args=("first",), daemon=True)
        writer.start()
        writer.join(20)
        assert not writer.is_alive(), "logging hangs"
        seen = {records.get(timeout=20).getMessage().split("\\n")[0] for _ in range(2)}
        assert seen == {"first", "exception in task 'cycle' was never retrieved"}
        """
    )


def run(program, code=0):
    """Run a program and give its stderr."""
    done = run_program(program, code=code, stderr=None, flags=())
    assert done.stdout == ""
    return done.stderr


def test_many_failures_that_are_alive_at_the_end_are_each_logged_once():
    """The exit logs what nobody will look at any more, in cycles or not, with tracebacks."""
    stderr = run(
        """
        import asynctask
        class Cycle:
            pass
        def fail():
            1 / 0
        tasks = []
        for number in range(20):
            cycle = Cycle()
            cycle.itself = cycle
            cycle.task = asynctask.post_task(fail, name=f"lost {number}")
            tasks.append(cycle if number % 2 else cycle.task)
        looked_at = asynctask.post_task(divmod, args=(1, 0), name="seen")
        looked_at.exception(20)
        """
    )
    for number in range(20):
        assert stderr.count(f"'lost {number}'") == 1
    assert stderr.count("ZeroDivisionError") == 20
    assert "seen" not in stderr
    assert stderr.count("in fail\n") == 20


@pytest.mark.parametrize("how", ["alive", "in a cycle"])
def test_a_frozen_failure_is_logged_at_the_end(how):
    """What `gc.freeze` hides from the collector is not hidden from the exit."""
    stderr = run(
        f"""
        import asynctask, gc
        task = asynctask.post_task(divmod, args=(1, 0), name="frozen")
        task.wait_for_finished(20)
        cycle = [task]
        cycle.append(cycle)
        gc.collect()
        gc.freeze()
        if {how != "alive"}:
            del task, cycle
        """
    )
    assert stderr.count("'frozen'") == 1


CHILDREN = {
    "multiprocessing": """
        child = multiprocessing.get_context("fork").Process(target=fail)
        child.start()
        child.join(20)
        assert child.exitcode == 0
    """,
    "fork in a callback": """
        def fork():
            pid = os.fork()
            if pid == 0:
                return fail()
            assert os.waitpid(pid, 0)[1] == 0
        asynctask.post_task(fork).result(20)
    """,
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("child", CHILDREN.values(), ids=CHILDREN)
def test_a_child_that_calls_no_exit_hook_logs_what_is_alive(child):
    """A child of `multiprocessing`, or of a fork in a callback, ends without `atexit`."""
    stderr = run(
        f"""
        import asynctask, multiprocessing, os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        kept = [asynctask.post_task(divmod, args=(1, 0), name="the parent's")]
        def fail():
            kept.append(asynctask.post_task(divmod, args=(1, 0), name="the child's"))
            kept[-1].wait_for_finished(20)
            kept.append(asynctask.post_task(divmod, args=(1, 0), name="seen"))
            kept[-1].exception(20)
        kept[0].wait_for_finished(20)
        {textwrap.indent(textwrap.dedent(child), " " * 8).strip()}
        """
    )
    assert stderr.count("the child's") == 1
    assert stderr.count("the parent's") == 1
    assert "seen" not in stderr


def test_a_failure_dropped_by_another_exit_hook_is_logged():
    """What a program lets go of in an exit hook of its own is noted in time."""
    stderr = run(
        """
        import asynctask, atexit
        tasks = [asynctask.post_task(divmod, args=(1, 0), name="late")]
        tasks[0].wait_for_finished(20)
        atexit.register(tasks.clear)
        """
    )
    assert stderr.count("'late'") == 1


def test_the_end_of_the_program_waits_for_a_slow_log_handler():
    """A failure that is being logged when the last exit hook has run is logged to its end."""
    stderr = run(
        """
        import asynctask, atexit, logging, sys, threading, time
        begun = threading.Event()
        class Slow(logging.Handler):
            def handle(self, record):  # without its lock: logging's own exit hook waits for that
                self.emit(record)
            def emit(self, record):
                begun.set()
                time.sleep(0.5)
                sys.stderr.write(record.getMessage() + "\\n")
        logging.getLogger().addHandler(Slow())
        tasks = [asynctask.post_task(divmod, args=(1, 0), name="slow")]
        tasks[0].wait_for_finished(20)
        def drop():
            tasks.clear()
            assert begun.wait(20)
        atexit.register(drop)
        """
    )
    assert stderr == "exception in task 'slow' was never retrieved\n"


def test_a_fork_while_failures_wait_for_a_log_handler(run_python):
    """The child logs its own failures, and not what its parent's thread had not come to."""
    run_python(
        """
        import os, logging, queue, threading, warnings
        from asynctask import AsyncTaskPool
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads

        lines, go, begun = queue.SimpleQueue(), threading.Event(), threading.Event()
        class Handler(logging.Handler):
            def handle(self, record):  # without its lock, which the child would have to renew
                self.emit(record)
            def emit(self, record):
                lines.put(record.getMessage())
                begun.set()
                go.wait(20)
        logger = logging.getLogger("asynctask")
        logger.propagate = False
        logger.addHandler(Handler())

        pool = AsyncTaskPool(1)
        box = [pool.post_task(divmod, args=(1, 0), name=name) for name in ("first", "second")]
        for task in box:
            task.wait_for_finished(20)
        del task
        box.pop(0)
        assert begun.wait(20)
        box.clear()
        pid = os.fork()
        if pid == 0:
            go.set()
            while not lines.empty():
                lines.get()
            own = pool.post_task(divmod, args=(1, 0), name="child's")
            own.wait_for_finished(20)
            del own
            ok = "child's" in lines.get(timeout=20)
            os._exit(0 if ok and lines.empty() else 1)
        assert os.waitpid(pid, 0)[1] == 0
        go.set()
        assert "first" in lines.get(timeout=20)
        assert "second" in lines.get(timeout=20)
        """
    )


def test_a_forked_child_does_not_log_its_parents_failures(run_python):
    """A failure that is noted, or whose handle is alive, is logged by the process it belongs to."""
    run_python(
        """
        import os, warnings, asynctask
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        def fail():
            raise ValueError("the parent's")
        task = asynctask.post_task(fail)
        task.wait_for_finished(20)
        pid = os.fork()
        if pid == 0:
            del task
            asynctask.post_task(int).result(20)
            import sys
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert isinstance(task.exception(), ValueError)
        """
    )


FINALIZERS = [
    "pool.submit(print)",
    "pool.try_submit(print)",
    "pool.post_task(print)",
    "pool.post_task(print, DelayTask('x'))",
    "pool.post_task(print, kwargs=3)",
    # Not with a time zone: its `timestamp` crashes CPython 3.13 and 3.14 at this point by itself.
    "pool.post_task(print, IntervalTask(1, until=datetime.datetime.now()))",
    "list(pool.map(print, [1]))",
    "pool.shutdown()",
    "pool.wait_and_exit(0)",
    "pool.stats()",
    "pool.resize(0)",
    "pool.after(0)",
    "AsyncTaskPool(1).submit(print)",
    "AsyncTaskPool(0)",
    "asynctask.post_task(print)",
    "asynctask.wait_and_exit(0)",
    "asynctask.set_work_pool_options(1)",
    "asynctask.sleep(0)",
    "asynctask.check_cancelled()",
    "task.result(0)",
    "task.exception(0)",
    "task.result(float('nan'))",
    "task.wait_for_finished(0)",
    "task.wait_for_finished_count(2, 0)",
    "task.stop_and_wait(0)",
    "task.cancel()",
    "task.reschedule(1)",
    "task.set_result(1)",
    "task.set_exception(ValueError())",
    "task.set_running_or_notify_cancel()",
    "task.add_done_callback(print)",
    "task.add_done_callback(1)",
    "waiting.result(0)",
    "type(task)[int]",
    "type(task)()",
    "repr(task)",
    "failed.result(0)",
    "task._condition",
    "task._waiters",
]


@pytest.mark.parametrize("keeper", ["owner = Owner()", "asynctask.owner = Owner()"])
def test_whatever_a_finalizer_calls_at_the_end_of_the_program_it_can_catch(run_python, keeper):
    """A finalizer that runs when nothing can be imported any more never ends the process."""
    calls = "\n".join(f"            lambda: {call}," for call in FINALIZERS)
    program = f"""
import asynctask, datetime
from asynctask import AsyncTaskPool, DelayTask, IntervalTask
class Owner:
    def __init__(self):
        self.pool = AsyncTaskPool(1)
        self.task = self.pool.post_task(print, DelayTask(60))
        self.waiting = self.pool.post_task(print, DelayTask(60))
        self.failed = self.pool.post_task(divmod, args=(1, 0))
        self.failed.exception(20)
    def __del__(self, asynctask=asynctask, AsyncTaskPool=AsyncTaskPool, DelayTask=DelayTask,
                IntervalTask=IntervalTask, datetime=datetime, Exception=Exception, print=print,
                type=type, int=int, list=list, repr=repr, float=float, ValueError=ValueError):
        pool, task, waiting, failed = self.pool, self.task, self.waiting, self.failed
        for call in (
{calls}
        ):
            try:
                call()
            except Exception:
                pass
{keeper}
"""
    run_python(program)
