"""Every supported interpreter: what is claimed, what is run, what an import leaves alone."""

from __future__ import annotations

import collections
import gc
import re
import sys
import sysconfig
import threading
import tomllib
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from asynctask import AsyncTaskPool

ROOT = Path(__file__).parents[2]
FREE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_what_is_claimed_is_what_is_tested() -> None:
    """The versions that the package claims are those that `make test-all` runs."""
    makefile, project = ROOT / "Makefile", ROOT / "pyproject.toml"
    if not makefile.exists():
        pytest.skip("not in a source tree")
    claimed = tomllib.loads(project.read_text())["project"]["classifiers"]
    run = re.search(r"^VERSIONS \?= (.*)$", makefile.read_text(), re.MULTILINE)
    assert run
    versions = run[1].split()
    assert [v for v in versions if not v.endswith("t")] == [
        name.rpartition(" ")[2] for name in claimed if re.search(r"Python :: 3\.\d+$", name)
    ]
    assert any(v.endswith("t") for v in versions)
    assert "Programming Language :: Python :: Free Threading" in claimed


@pytest.mark.skipif(not FREE, reason="this interpreter has a GIL")
def test_the_gil_stays_off(run_python: Callable[..., str]) -> None:
    """On a free-threaded build neither an import nor a task switches the GIL on."""
    assert run_python(
        """
        import sys, asynctask
        assert asynctask.post_task(sys._is_gil_enabled).result() is False
        print(sys._is_gil_enabled())
        """
    ) == ("False\n")


@pytest.mark.skipif(sys.version_info < (3, 13), reason="3.13 is the first that can tell")
def test_a_gil_stays_on(run_python: Callable[..., str]) -> None:
    """`sys._is_gil_enabled` says of a task what it says of the main thread."""
    program = "import sys, asynctask; print(asynctask.post_task(sys._is_gil_enabled).result())"
    assert run_python(program) == f"{not FREE}\n"


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Leave objects to their reference counts: the collector looks after those of all threads."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
def test_results_of_callables_in_c_go_after_the_next_batch(
    make_pool: Callable[..., AsyncTaskPool], until: Callable[[Callable[[], bool]], None]
) -> None:
    """What a worker has made and others let go of is freed, though the worker runs no Python."""
    pool = make_pool(1, min_workers=1)  # one that leaves frees everything
    result = weakref.ref(pool.submit(collections.deque).result(20))
    pool.submit(int).result(20)
    until(lambda: result() is None)


@pytest.mark.usefixtures("without_collector")
def test_results_of_callables_in_c_go_while_the_queue_is_never_empty(
    one: Callable[..., AsyncTaskPool], until: Callable[[Callable[[], bool]], None]
) -> None:
    """A worker that always finds another task frees what others have let go of meanwhile."""
    locks = [threading.Lock() for _ in range(3)]
    for lock in locks:
        lock.acquire()
    before, made, between = map(one.submit, [locks[0].acquire, collections.deque, locks[1].acquire])
    many = [one.submit(int) for _ in range(100)]
    after = one.submit(locks[2].acquire)
    until(before.running)
    locks[0].release()
    result = weakref.ref(made.result(20))
    until(between.running)
    del made
    locks[1].release()
    until(after.running)
    is_gone = result() is None
    locks[2].release()
    assert is_gone
    assert after.result(20)
    assert all(task.done() for task in many)


@pytest.mark.parametrize("gil", ["0", "1"])
@pytest.mark.parametrize("how", ["submit", "map"])
def test_memory_of_results_of_callables_in_c(
    run_python: Callable[..., str], monkeypatch: pytest.MonkeyPatch, how: str, gil: str
) -> None:
    """6,000 results of 100 kB, each dropped as it is looked at, need no more memory than a few."""
    if gil == "0" and not FREE:
        pytest.skip("this interpreter has a GIL")
    monkeypatch.setenv("PYTHON_GIL", gil)
    printed = run_python(
        f"""
        from collections import deque
        from asynctask import AsyncTaskPool

        pool, text = AsyncTaskPool(2), "x" * 100_000

        def resident():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[1]) * 4096

        def look_at(count):
            if {how!r} == "map":
                for result in pool.map(text.encode, ["ascii"] * count, buffersize=50):
                    assert len(result) == 100_000
            else:
                tasks = deque()
                for _ in range(count):
                    tasks.append(pool.submit(text.encode))
                    if len(tasks) > 50:
                        assert len(tasks.popleft().result(20)) == 100_000

        look_at(200)
        before = resident()
        look_at(6_000)
        print(resident() - before)
        """
    )
    assert int(printed) < 100_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="it asks Linux for a thread's switches")
@pytest.mark.skipif(
    getattr(sys, "_is_gil_enabled", lambda: True)(), reason="this interpreter has a GIL"
)
def test_workers_do_not_pause_without_a_gil(run_python: Callable[..., str]) -> None:
    """A worker that need not offer the interpreter to anybody goes from task to task."""
    # In a program of its own: whatever another test has imported may have switched the GIL on.
    printed = run_python(
        """
        import resource, threading
        from asynctask import AsyncTaskPool

        pool = AsyncTaskPool(1)
        pool.submit(int).result(20)
        locked = threading.Lock()
        locked.acquire()
        pool.submit(locked.acquire)  # so that all is queued before the first is run
        before = pool.submit(resource.getrusage, resource.RUSAGE_THREAD)
        tasks = [pool.submit(sum, range(20_000)) for _ in range(1_600)]
        after = pool.submit(resource.getrusage, resource.RUSAGE_THREAD)
        locked.release()
        print(after.result(30).ru_nvcsw - before.result(0).ru_nvcsw)
        assert all(task.done() for task in tasks)
        """
    )
    assert int(printed) < 50  # one in each of the 100 slices would be a pause
