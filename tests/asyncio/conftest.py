"""The loops that the tests of this folder run on."""

import asyncio
import gc

import pytest

try:
    import uvloop
except ImportError:  # the group `test` of pyproject.toml has it; a Python may be too new for it
    uvloop = None

LOOPS = {"asyncio": asyncio.new_event_loop}
if uvloop is not None:
    LOOPS["uvloop"] = uvloop.new_event_loop

PATIENCE = 30


@pytest.fixture(params=LOOPS)
def new_loop(request):
    """Give the function that makes a loop."""
    return LOOPS[request.param]


@pytest.fixture
def run(new_loop):
    """Run a coroutine to its end, in debug mode so that calls from wrong threads raise."""

    def run(coroutine):
        with asyncio.Runner(debug=True, loop_factory=new_loop) as runner:
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
