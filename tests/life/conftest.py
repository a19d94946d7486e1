"""Programs that fork: every child is forked in a program of its own."""

import pytest
from helpers.programs import run_program

PREAMBLE = """
import logging, os, sys, threading, time, traceback, warnings
import asynctask
from asynctask import AsyncTaskPool, DelayTask, IntervalTask
# Of CPython 3.12 and later, for every fork of a process with threads; it has a test of its own.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
# That the parent's series are cancelled has tests of its own.
logging.getLogger("asynctask").addFilter(lambda record: "before the fork" not in record.msg)

def fork(child, patience=30):
    "Run `child` in a fork of this thread; give its exit code, 99 for an exception."
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            child()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return wait_for(pid, patience)

def wait_for(pid, patience=30):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    raise AssertionError("the child hangs")
"""


@pytest.fixture
def run_forking():
    """Run a program that has `fork` and `wait_for`, after what comes `first`; give its output."""

    def run(program, *, first="", **options):
        return run_program(first + PREAMBLE + program, **options).stdout

    return run
