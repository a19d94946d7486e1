"""Workers have the stack that a `threading.Thread` would have, so what runs there runs here."""

import resource
import sys
import threading

import asynctask
import pytest
from helpers.programs import run_program

KIB = 1024

# Runs in an interpreter of its own: what overflows a stack ends the process.
REPORT = """
import re, sys, threading
import asynctask
from asynctask import AsyncTaskPool

def stack():
    # The mapping of the thread's stack, by the address of something on it: as the system has it.
    import ctypes, threading
    libc = ctypes.CDLL(None)
    attr = ctypes.create_string_buffer(64)
    libc.pthread_self.restype = ctypes.c_ulong
    assert libc.pthread_getattr_np(ctypes.c_ulong(libc.pthread_self()), attr) == 0
    address, size = ctypes.c_void_p(), ctypes.c_size_t()
    libc.pthread_attr_getstack(attr, ctypes.byref(address), ctypes.byref(size))
    libc.pthread_attr_destroy(attr)
    return size.value

def of_thread():
    sizes = []
    thread = threading.Thread(target=lambda: sizes.append(stack()))
    thread.start()
    thread.join()
    return sizes[0]
"""


def run(body, limit=None):
    """Run *body* after `REPORT`, under a limit of the stack in bytes; give what it printed."""

    def lower():
        hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
        resource.setrlimit(resource.RLIMIT_STACK, (limit, hard))

    # No thread of ours runs here, before the program's own start.
    return run_program(
        REPORT + body, flags=(), stderr=None, preexec_fn=lower if limit else None
    ).stdout


linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the GNU C library")


@linux
@pytest.mark.parametrize("limit", [None, 3 * KIB * KIB, 24 * KIB * KIB])
def test_a_worker_has_the_stack_of_a_thread(limit):
    """Under whatever limit the program is started, a worker has as much as a thread of Python's."""
    said = run("print(AsyncTaskPool(1).submit(stack).result(), of_thread())", limit)
    worker, thread = map(int, said.split())
    assert abs(worker - thread) <= 64 * KIB
    if limit:
        assert abs(worker - limit) <= 64 * KIB


@linux
def test_a_worker_heeds_what_threading_was_told():
    """`threading.stack_size` counts for pools that are made after it, the default one as well."""
    said = run(
        "old = AsyncTaskPool(1)\n"
        "threading.stack_size(20 << 20)\n"
        "first = old.submit(stack).result()\n"  # glibc keeps larger stacks of threads that ended
        "print(asynctask.post_task(stack).result(), AsyncTaskPool(1).submit(stack).result())\n"
        "print(of_thread(), first)"
    )
    default, new, thread, old = map(int, said.split())
    assert default == new
    assert abs(new - thread) <= 64 * KIB
    assert new - old > 8 * KIB * KIB


@linux
def test_a_pool_may_have_stacks_of_its_own(make_pool):
    """`stack_size` is what each worker of the pool gets, and beats `threading.stack_size`."""
    said = run(
        "threading.stack_size(1 << 20)\n"
        "print(AsyncTaskPool(1, stack_size=33 << 20).submit(stack).result())"
    )
    assert abs(int(said) - 33 * KIB * KIB) <= 64 * KIB


def test_a_recursion_through_c_ends_in_an_error():
    """A recursion by way of C functions ends in `RecursionError`, as on a thread of Python's."""
    said = run(
        "def deep(n):\n"
        "    return sorted([n], key=lambda m: deep(m + 1))\n"
        "def outcome():\n"
        "    try:\n"
        "        return deep(0)\n"
        "    except RecursionError:\n"
        "        return 'RecursionError'\n"
        "print(asynctask.post_task(outcome).result())"
    )
    assert said.strip() == "RecursionError"


def test_numpy_factorises_on_a_worker():
    """What OpenBLAS puts on the stack has room there."""
    pytest.importorskip("numpy")
    said = run(
        "import numpy\n"
        "matrix = numpy.random.default_rng(1).random((100, 100))\n"
        "inverse = asynctask.post_task(numpy.linalg.inv, args=(matrix,)).result()\n"
        "print(numpy.allclose(matrix @ inverse, numpy.eye(100)))"
    )
    assert said.strip() == "True"


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (0, ValueError, "stack_size must be at least 32768, not 0"),
        (32767, ValueError, "stack_size must be at least 32768, not 32767"),
        (-1, ValueError, "stack_size must be at least 32768, not -1"),
        (1e6, TypeError, "stack_size must be a whole number, not 1000000.0"),
        (True, TypeError, "stack_size must be a whole number, not True"),
        ("8M", TypeError, "stack_size must be a whole number, not '8M'"),
    ],
)
def test_no_stack_at_all_is_refused(size, error, message):
    """A stack that no thread can have is refused when the pool is made."""
    with pytest.raises(error, match=f"^{message}$"):
        asynctask.AsyncTaskPool(1, stack_size=size)
    assert threading.stack_size() == 0


def test_a_stack_that_the_system_has_not_is_refused_at_the_post(make_pool):
    """Where the system refuses such a stack, the post says so, and nothing is accepted."""
    pool = make_pool(1, stack_size=1 << 46)
    with pytest.raises(asynctask.BrokenPool, match="cannot start a worker"):
        pool.submit(int)
    assert pool.stats().submitted == 0
