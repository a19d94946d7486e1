"""A breakpoint in a callback stops debugpy, which VS Code debugs with, as any other one does."""

import contextlib
import json
import os
import socket
import subprocess
import sys

import pytest

pytest.importorskip("debugpy", reason="debugpy is not installed")

PATIENCE = 30  # seconds that only a hang takes

# The adapter is in the process, so that there is no other for a failing test to leave behind. What
# stands before a `yield` runs before the debugger has come.
PROGRAM = """\
import sys, time
import debugpy
from asynctask import AsyncTaskPool, DelayTask, IntervalTask

def callback(number):
    total = number * 2
    return total + 1  # the breakpoint

def first_task():
    yield
    pool = AsyncTaskPool(1, "stops")
    assert pool.submit(callback, 20).result(30) == 41

def worker_that_was_there():
    pool = AsyncTaskPool(1, "stops")
    pool.submit(int).result(30)
    yield
    assert list(pool.map(callback, [20, 20])) == [41, 41]

def delayed_task():
    yield
    pool = AsyncTaskPool(1, "stops")
    assert pool.post_task(callback, DelayTask(0.001), args=(20,)).result(30) == 41

def runs_of_a_series():
    yield
    pool = AsyncTaskPool(1, "stops")
    series = pool.post_task(callback, IntervalTask(0.001, max_runs=2), args=(20,))
    series.wait_for_finished_count(2, 30)

def initializer():
    yield
    pool = AsyncTaskPool(1, "stops", callback, (20,))
    pool.submit(int).result(30)

def one_worker_after_the_other():
    yield
    pool = AsyncTaskPool(1, "stops", idle_timeout=0)
    for _ in range(3):
        assert pool.submit(callback, 20).result(30) == 41
        while pool.stats().idle_workers or pool.stats().running_workers:
            time.sleep(0.001)

steps = globals()[sys.argv[1]]()
next(steps)
_, port = debugpy.listen(("127.0.0.1", 0), in_process_debug_adapter=True)
print(port, flush=True)
debugpy.wait_for_client()
next(steps, None)
"""
LINE = 1 + PROGRAM.splitlines().index("    return total + 1  # the breakpoint")

# How often the callback runs in each.
STOPS = {
    "first_task": 1,
    "worker_that_was_there": 2,
    "delayed_task": 1,
    "runs_of_a_series": 2,
    "initializer": 1,
    "one_worker_after_the_other": 3,
}


class Client:
    """Just enough of the Debug Adapter Protocol to stop somewhere, look around and go on."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.stream = self.socket.makefile("rwb")
        self.sent = 0
        self.come = []  # messages that nobody has waited for so far

    def close(self):
        self.stream.close()
        self.socket.close()

    def send(self, command, **arguments):
        """Ask for something, and give the number by which the answer is known."""
        self.sent += 1
        request = {"type": "request", "command": command, "arguments": arguments}
        body = json.dumps({**request, "seq": self.sent}).encode()
        self.stream.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self.stream.flush()
        return self.sent

    def answer(self, number):
        """Wait for an answer."""
        message = self._wait("request_seq", number)
        assert message["success"], message
        return message.get("body")

    def ask(self, command, **arguments):
        """Ask for something, and wait for the answer."""
        return self.answer(self.send(command, **arguments))

    def event(self, name):
        """Wait for an event."""
        return self._wait("event", name).get("body")

    def _wait(self, key, value):
        while True:
            for message in self.come:
                if message.get(key) == value:
                    self.come.remove(message)
                    return message
            self.come.append(self._read())

    def _read(self):
        length = None
        while (line := self.stream.readline()) != b"\r\n":
            assert line, f"the program has closed the connection after {self.come}"
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return json.loads(self.stream.read(length))


@pytest.fixture
def debug(tmp_path):
    """Start a program that waits for a debugger, and give it and a client that has connected."""
    with contextlib.ExitStack() as stack:

        def start(way, **environment):
            program = tmp_path / "program.py"
            program.write_text(PROGRAM)
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-X", "frozen_modules=off", program, way],
                    env=os.environ | environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            client = Client(int(process.stdout.readline()))
            stack.callback(client.close)
            client.ask("initialize", adapterID="debugpy")
            attached = client.send("attach")
            client.event("initialized")
            breakpoints = {"source": {"path": str(program)}, "breakpoints": [{"line": LINE}]}
            (found,) = client.ask("setBreakpoints", **breakpoints)["breakpoints"]
            assert found["verified"]
            client.ask("configurationDone")
            client.answer(attached)
            return process, client

        yield start


def look_and_go_on(client):
    """Wait for the breakpoint, see where the program stands, and let it go on."""
    stopped = client.event("stopped")
    assert stopped["reason"] == "breakpoint"
    thread = stopped["threadId"]
    threads = client.ask("threads")["threads"]
    (name,) = [it["name"] for it in threads if it["id"] == thread]
    assert name.startswith("stops-")
    frames = client.ask("stackTrace", threadId=thread)["stackFrames"]
    assert [(frame["name"], frame["line"]) for frame in frames] == [("callback", LINE)]
    total = client.ask("evaluate", expression="total + number", frameId=frames[0]["id"])
    assert total["result"] == "60"
    client.ask("continue", threadId=thread)


def stop_and_go_on(debug, way, **environment):
    """Stop as often as the callback runs, and see the program end well and say nothing."""
    process, client = debug(way, **environment)
    for _ in range(STOPS[way]):
        look_and_go_on(client)
    client.event("terminated")
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors) == (0, "", "")


@pytest.mark.parametrize("way", STOPS)
def test_a_breakpoint_stops(debug, way):
    """A breakpoint stops the worker, which goes by its name, in the callback's frame, each time."""
    stop_and_go_on(debug, way)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`sys.monitoring` came with 3.12")
def test_a_breakpoint_stops_without_monitoring(debug):
    """The same with what debugpy has for older interpreters, a trace function."""
    stop_and_go_on(debug, "first_task", PYDEVD_USE_SYS_MONITORING="0")
