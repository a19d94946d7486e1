"""Programs that a test runs in an interpreter of their own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def run_command(
    *command: object, code: int | None = 0, stderr: str | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; with `code` and `stderr`, it must give just these."""
    options = {"capture_output": True, "timeout": 50} | options
    done = subprocess.run([*map(str, command)], text=True, check=False, **options)
    said = (done.stdout or "")[-20_000:], (done.stderr or "")[-20_000:]
    assert code is None or done.returncode == code, (done.returncode, *said)
    assert stderr is None or done.stderr == stderr, said
    return done


def run_program(
    program: str,
    *arguments: object,
    flags: tuple[str, ...] = ("-X", "faulthandler"),
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a program; it must exit with code 0 and leave stderr empty unless told otherwise."""
    options = {"stderr": ""} | options
    return run_command(
        sys.executable, *flags, "-c", textwrap.dedent(program), *arguments, **options
    )


def environment_with(folder: Path, *packages: str) -> Path:
    """Make a virtual environment with packages, or skip; give the folder of its programs."""
    python = folder / "venv" / "bin" / "python"
    run_command(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "-q")
    installed = run_command(*pip, *packages, code=None, timeout=None)
    if installed.returncode:
        pytest.skip(f"{packages[0]} cannot be had here: {installed.stderr.strip()[-200:]}")
    return python.parent
