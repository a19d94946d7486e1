"""The examples run as they stand, and say that all was well."""

import re
import sys
from pathlib import Path

import pytest
from helpers.programs import run_command

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(script, *options):
    """Run an example to its end, give its lines, and see that it has nothing to complain of."""
    done = run_command(sys.executable, EXAMPLES / script, *options, stderr="", timeout=55)
    return done.stdout.splitlines()


def test_every_example_has_its_test():
    """An example that is added is run here, too."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "session_load.py",  # is started by the server
        "session_server.py",
        "usages.py",
    }


def test_the_three_usages():
    """The table has a line for each run, and no run was early."""
    title, *lines = run("usages.py")
    assert title.split() == ["milliseconds", "posted", "started", "lateness"]
    table = [re.split(r"\s{2,}", line) for line in lines[:9]]
    assert [row[0] for row in table] == [
        "now (starts a worker)",
        "now (has a worker)",
        "in 10 ms",
        *(f"every 20 ms: beat {number}" for number in range(1, 7)),
    ]
    assert all(float(row[3]) >= 0 for row in table)
    assert all(float(row[2]) >= float(row[1]) for row in table)
    assert lines[-1].startswith("The interval's drift from beat 1 to beat 6: ")


@pytest.mark.skipif(sys.platform == "win32", reason="the example is for POSIX")
def test_the_session_server():
    """A small load, with timeouts that a busy machine keeps: every check of the example holds."""
    lines = run("session_server.py", "--clients=40", "--idle=2", "--period=0.25")
    checks = [line for line in lines if line.startswith(("ok ", "FAILED"))]
    assert len(checks) == 8
    assert all(line.startswith("ok ") for line in checks), "\n".join(lines)
    counts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines if "   " in line)
    assert counts["sessions"] == "40 opened, 20 expired, 20 left by the client"
    assert counts["early runs"] == "0"
    beats = [line for line in lines if re.match(r" +\d+ +\d+ +\d", line)]
    assert len(beats) >= 2
