"""Every supported interpreter: what is claimed, what is run, what an import leaves alone."""

from __future__ import annotations

import re
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
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
