"""Everything at once, from many threads: `make stress`, a minute. Free-threaded builds above all.

Each test runs a program of its own, whose threads post, cancel, wait, look, resize, shut down,
collect and fork, each in its own order, for `SECONDS`. What must be so at the end, whatever
happened in between, is checked then: every accepted task has ended exactly once, no one-shot ran
twice, the counts balance, a failure that nobody looked at was logged once, no child hung, no thread
is left.
"""

from __future__ import annotations

import os

import pytest
from helpers.programs import run_program

pytestmark = [pytest.mark.slow, pytest.mark.stress, pytest.mark.timeout(300)]

SECONDS = float(os.environ.get("STRESS_SECONDS", "12"))

PROGRAM = """
import collections, concurrent.futures, contextlib, faulthandler, gc, itertools, logging, os, random
import signal, sys, threading, time, warnings, weakref, zlib
from asynctask import AsyncTaskPool, DelayTask, IntervalTask, QueueFull, PoolShutdown

seconds, keywords, forks = float(sys.argv[1]), eval(sys.argv[2]), hasattr(os, "fork")
patience, CYCLES = 60, True
faulthandler.dump_traceback_later(seconds + 3 * patience, exit=True)
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

logged, errors = collections.deque(), collections.deque()
class Log(logging.Handler):
    def emit(self, record):
        logged.append(record.getMessage() + str(record.exc_info and record.exc_info[1]))
logging.getLogger("asynctask").addHandler(Log())
logging.getLogger("asynctask").propagate = False

class Record:
    "One accepted task: what happened to it. Each list is appended to, which no thread can undo."
    def __init__(self, once):
        self.once, self.task, self.runs, self.ends = once, None, [], []
    def run(self, value=None):
        self.runs.append(1)
        if value == "fail":
            raise ValueError("expected")
        return value

stop = threading.Event()
pool = AsyncTaskPool(4, "stress", **keywords)
# Each thread has a list of its own for what it posted: none is shared without need.
posted, nested, lost, children, threads = [], collections.deque(), [], [], []
recent, places = [None] * 1000, itertools.count()

def accept(records, record, post):
    try:
        record.task = post()
    except QueueFull:
        return None
    record.task.add_done_callback(lambda task: record.ends.append(1))
    records.append(record)
    recent[next(places) % len(recent)] = record
    return record

def poster(seed):
    choose, records = random.Random(seed), []
    posted.append(records)
    def inner(record):
        record.run()
        child = Record(True)
        if accept(nested, child, lambda: pool.submit(child.run, 1)) and choose.random() < 0.5:
            with contextlib.suppress(concurrent.futures.CancelledError):
                assert child.task.result() == 1
    while not stop.is_set():
        for _ in range(20):
            kind, once = choose.randrange(7), Record(True)
            if kind == 0:
                accept(records, once, lambda: pool.submit(once.run, "done"))
            elif kind == 1:
                accept(records, once, lambda: pool.submit(once.run, "fail"))
            elif kind == 2:
                delay = DelayTask(choose.random() * 0.02)
                accept(records, once, lambda: pool.post_task(once.run, delay))
            elif kind == 3:
                series = Record(False)
                every = IntervalTask(0.002, max_runs=choose.randrange(1, 6))
                accept(records, series, lambda: pool.post_task(series.run, every))
            elif kind == 4:
                accept(records, once, lambda: pool.submit(inner, once))
            elif kind == 5:
                data = Record(True)
                accept(records, data, lambda: pool.submit(zlib.compress, b"x" * 10_000))
            else:
                with contextlib.suppress(QueueFull, concurrent.futures.CancelledError):
                    list(pool.map(once.run, range(3), buffersize=choose.choice([None, 2])))
        time.sleep(0.005)

def canceller(seed):
    choose = random.Random(seed)
    while not stop.is_set():
        if record := choose.choice(recent):
            choose.choice([record.task.cancel, record.task.stop, record.task.done,
                           lambda: record.task.reschedule(choose.random() * 0.01)])()
        time.sleep(0.0005)

def waiter(seed):
    choose = random.Random(seed)
    while not stop.is_set():
        if record := choose.choice(recent):
            with contextlib.suppress(TimeoutError, concurrent.futures.CancelledError):
                record.task.exception(choose.choice([0, 0.001, 0.05]))
            with contextlib.suppress(TimeoutError, concurrent.futures.CancelledError):
                record.task.wait_for_finished_count(2, 0.001)
        concurrent.futures.wait([r.task for r in recent[:20] if r], timeout=0.01)

def looker(seed):
    while not stop.is_set():
        stats = pool.stats()
        assert min(stats) >= 0, stats
        assert stats.completed == stats.successful + stats.failed, stats
        ended = stats.completed + stats.cancelled + stats.dropped
        assert ended <= stats.submitted, stats
        repr(pool), [repr(r.task) for r in recent[:20] if r]
        time.sleep(0.001)

def resizer(seed):
    choose = random.Random(seed)
    while not stop.is_set():
        pool.resize(choose.randrange(1, 9))
        time.sleep(0.01)

def collector(seed):
    "Failures that nobody looks at, in a cycle and not, and the collector that finds them."
    choose, count = random.Random(seed), 0
    def fail(text):
        raise KeyError(text)
    while not stop.is_set():
        for _ in range(5):
            with contextlib.suppress(QueueFull):
                text = f"<{seed}:{count}>"
                task = pool.submit(fail, text)
                if CYCLES and choose.random() < 0.5:
                    task.itself = task
                count += 1
                lost.append((text, weakref.ref(task)))
                del task
        gc.collect()
        time.sleep(0.05)

def shutter(seed):
    choose, number = random.Random(seed), itertools.count()
    while not stop.is_set():
        with contextlib.suppress(PoolShutdown):
            other = AsyncTaskPool(3, f"stress-other-{next(number)}", idle_timeout=0.05)
            tasks = [other.submit(pow, 2, n) for n in range(10)]
            later = other.post_task(int, DelayTask(3600))
            how = choose.randrange(4)
            if how == 0:
                other.shutdown(cancel_futures=choose.random() < 0.5)
            elif how == 1:
                threading.Thread(target=other.shutdown).start()
                other.shutdown(wait=False)
            elif how == 2:
                assert not other.wait_and_exit(patience)  # `later` is cut short
            if how < 3:
                assert concurrent.futures.wait([*tasks, later], patience).not_done == set()
                assert later.cancelled()
            else:
                assert [task.result(patience) for task in tasks] == [2 ** n for n in range(10)]
            del other, tasks, later
        time.sleep(0.005)

def forker(seed):
    while not stop.is_set():
        child = os.fork()
        if child == 0:
            code = 9
            try:
                code = pool.submit(pow, 2, 4).result(patience) - 16
            finally:
                os._exit(code)
        end = time.monotonic() + patience
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() > end:
                os.kill(child, signal.SIGABRT)  # a core tells where it stands
                break
            time.sleep(0.001)
        children.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        time.sleep(0.05)

def guarded(actor, seed):
    try:
        actor(seed)
    except BaseException as error:
        errors.append((actor.__name__, repr(error)))
        stop.set()
        raise

actors = [poster, poster, poster, canceller, waiter, waiter, looker, resizer, collector, shutter]
actors += [forker] * forks
threads = [threading.Thread(target=guarded, args=(actor, seed), name=f"actor-{actor.__name__}")
           for seed, actor in enumerate(actors)]
for thread in threads: thread.start()
stop.wait(seconds)
stop.set()
for thread in threads:
    thread.join(patience)
    assert not thread.is_alive(), f"{thread.name} hangs"
assert not errors, list(errors)

pool.resize(4)
records = [*itertools.chain.from_iterable(posted), *nested]
assert concurrent.futures.wait([record.task for record in records], patience).not_done == set()
pool.shutdown()
records = [*itertools.chain.from_iterable(posted), *nested]

def until(condition, what):
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, what()
        gc.collect()
        time.sleep(0.01)

until(lambda: all(len(record.ends) >= 1 for record in records), lambda: "a task has not ended")
wrong = [record for record in records if len(record.ends) != 1]
assert not wrong, f"{len(wrong)} tasks ended more than once"
for record in records:
    task = record.task
    assert task.done()
    if record.once and record.runs:
        assert len(record.runs) == 1, "a one-shot ran twice"
        assert not task.cancelled(), "what ran was not cancelled"
    if not task.cancelled() and task.exception() is not None:
        assert isinstance(task.exception(), ValueError), task.exception()
stats = pool.stats()
assert stats.submitted == stats.completed + stats.cancelled + stats.dropped, stats
assert stats.submitted >= len(records) + len(lost), (stats, len(records), len(lost))
assert (stats.waiting, stats.pending_timers, stats.running_workers) == (0, 0, 0), stats

until(lambda: not any(ref() for text, ref in lost), lambda: "a handle in a cycle is kept")
failed = stats.failed - sum(
    not r.task.cancelled() and r.task.exception() is not None for r in records)
until(lambda: len(logged) >= failed, lambda: f"{len(logged)} of {failed} failures were logged")
counts = collections.Counter(logged)
assert len(logged) == failed and all(n == 1 for n in counts.values()), counts.most_common(3)

assert not any(children), f"children ended with {collections.Counter(children)}"
left = lambda: [t.name for t in threading.enumerate() if t is not threading.main_thread()]
until(lambda: not left(), lambda: f"left: {left()}")
assert len(records) > 100 and (not forks or children), "nothing happened"
print(len(records), "tasks,", len(lost), "lost failures,", len(children), "children")
"""


@pytest.mark.parametrize(
    "keywords",
    [
        pytest.param({}, id="as it is"),
        pytest.param({"idle_timeout": 0}, id="workers come and go"),
        pytest.param({"queue_size": 20, "on_full": "raise"}, id="full, and refused"),
        pytest.param({"queue_size": 20, "on_full": "drop_oldest"}, id="full, and dropped"),
        pytest.param({"nudge": True, "min_workers": 2}, id="nudge"),
    ],
)
def test_everything_at_once(keywords: dict[str, object]) -> None:
    """Whatever twelve threads do to a pool at once, each task ends once and the counts balance."""
    run_program(PROGRAM, SECONDS, repr(keywords), timeout=280)
