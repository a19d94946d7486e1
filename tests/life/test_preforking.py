"""Servers that load an application, use its pools, and then fork their workers."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import asynctask
import pytest
from helpers.programs import environment_with
from helpers.threads import join, start

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")


# A module-level pool, used before the workers are forked, and the default pool: both as people
# write them.
APPLICATION = """
import os, threading
import asynctask
from asynctask import DelayTask, IntervalTask

pool = asynctask.AsyncTaskPool(4, thread_name_prefix="app")
loaded = pool.submit(os.getpid).result(20)
beat = asynctask.post_task(int, IntervalTask(0.005))
mine = None

def application(environ, start_response):
    global mine
    if mine is None:
        assert beat.cancelled()  # the beat of the process that loaded the application
        mine = asynctask.post_task(int, IntervalTask(0.005))
        mine.wait_for_finished_count(2, 20)
    total = sum(pool.map(abs, range(-10, 0)))
    pid = asynctask.post_task(os.getpid, DelayTask(0.001)).result(20)
    with pool.group() as group:
        for n in range(5):
            group.submit(pow, n, 2)
    answer = f"{pid} {loaded} {total} {sum(group.results())} {mine.called_times() > 0}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
"""


@contextlib.contextmanager
def serving(command, folder, log):
    """Run a server, in a process group of its own, and see that it ends well when it is told to."""
    (folder / "app.py").write_text(APPLICATION)
    output = log.open("wb")
    with (
        output,
        subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        ) as server,
    ):
        try:
            yield server
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0, log.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture
def port():
    """Give a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_listening(port):
    """Tell whether a server takes connections."""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def words_of(port, log):
    """Ask the application once, and give the words of its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/")
    response = connection.getresponse()
    words = response.read().decode().split()
    connection.close()
    assert response.status == 200, log.read_text()
    return words


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_gunicorn_with_preload(tmp_path, port, until):
    """Two workers, forked from a process that has used its pools, serve requests that use them."""
    pytest.importorskip("gunicorn", reason="gunicorn is not installed")
    log = tmp_path / "log"
    command = [
        *(sys.executable, "-W", "ignore::DeprecationWarning", "-m", "gunicorn", "--preload"),
        *("--workers", "2", "--bind", f"127.0.0.1:{port}", "--timeout", "60"),
        *("--worker-tmp-dir", str(tmp_path), "--no-control-socket", "app:application"),
    ]
    answers = []

    def ask():
        answers.extend(words_of(port, log) for _ in range(50))

    with serving(command, tmp_path, log) as server:
        until(lambda: server.poll() is not None or is_listening(port), 60)
        assert server.poll() is None, log.read_text()
        clients = [start(ask) for _ in range(6)]
        join(*clients, patience=120)
        assert len(answers) == 300, log.read_text()
        assert {tuple(words[1:]) for words in answers} == {(str(server.pid), "55", "30", "True")}
        pids = {words[0] for words in answers}
        assert str(server.pid) not in pids
        assert 1 <= len(pids) <= 2  # which of the two accepts is the kernel's choice
    text = log.read_text()
    for word in ("Traceback", "panicked", "SIGABRT", "SIGKILL", "Fatal"):
        assert word not in text, text
    # Each worker has said once that the beat of the arbiter is not its own.
    assert text.count("1 series posted before the fork are cancelled in this process") == 2, text


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_uwsgi(tmp_path, port, until):
    """Workers of uWSGI, which forks without Python's hooks, use pools that were used before."""
    log = tmp_path / "log"
    command = [
        *(environment_with(tmp_path, "uwsgi>=2.0.28") / "uwsgi", "--http-socket"),
        *(f"127.0.0.1:{port}", "--master", "--processes", "2", "--enable-threads"),
        *("--die-on-term", "--need-app", "--module", "app"),
        *("--pythonpath", Path(asynctask.__file__).parents[1]),
        # Without a GIL it must tell Python: docs/design/free-threading.md.
        *(["--py-call-uwsgi-fork-hooks"] if sysconfig.get_config_var("Py_GIL_DISABLED") else []),
    ]
    with serving(command, tmp_path, log) as server:
        until(lambda: server.poll() is not None or "spawned uWSGI worker 2" in log.read_text(), 60)
        assert server.poll() is None, log.read_text()
        pids = set()
        for _ in range(40):
            words = words_of(port, log)
            assert words[2:] == ["55", "30", "True"], log.read_text()
            pids.add(words[0])
        assert str(server.pid) not in pids
    text = log.read_text()
    assert "Traceback" not in text, text
    assert text.count("1 series posted before the fork") == len(pids), text
