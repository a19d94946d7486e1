"""What the operations cost, in instructions: the one measure of speed that a test can have."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_COMPARED = 77


@pytest.mark.slow
@pytest.mark.timeout(400)  # the core's program may have to be built first
@pytest.mark.filterwarnings("default:better than its bounds")
@pytest.mark.parametrize("section", ["core", "binding"])
def test_no_operation_takes_more_instructions_than_its_bound(section):
    """No operation of the core or of the binding has become more expensive."""
    counted = subprocess.run(
        [sys.executable, "-m", "benchmarks.instructions", section],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if counted.returncode == NOT_COMPARED:
        pytest.skip(counted.stdout.splitlines()[-1].strip())
    assert counted.returncode == 0, "\n" + counted.stdout
    if "better" in counted.stdout:
        message = f"better than its bounds, which should follow:\n{counted.stdout}"
        warnings.warn(message, stacklevel=1)
