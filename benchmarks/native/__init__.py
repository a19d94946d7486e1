"""The core and its peers in Rust, Go and Java: builds one program for each, and asks them.

A program lives as long as this process, so that no turn pays for the start of a runtime, and is
idle while others have their turn. A language whose tools are missing, or whose packages cannot be
had, takes no part; that is a reason, not an error.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import check

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).resolve().parent
BUILT = HERE.parents[1] / "target" / "native"
JAVA = BUILT / "java"


@dataclass(frozen=True)
class Program:
    """One of them.

    Args:
        name: Its language, and its folder.
        tools: What must be installed.
        build: The command that builds it, in its folder.
        run: The command that runs it.
    """

    name: str
    tools: tuple[str, ...]
    build: tuple[str, ...]
    run: tuple[str, ...]

    @functools.cache  # noqa: B019  # there are three of them
    def missing(self) -> str | None:
        """Build it, the first time; say why there is none, if so."""
        for tool in self.tools:
            if shutil.which(tool) is None:
                return f"{tool} is not installed"
        environment = {**os.environ, "CARGO_TARGET_DIR": str(BUILT / "rust")}
        built = subprocess.run(
            self.build,
            cwd=HERE / self.name.lower(),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if built.returncode != 0:
            print(f"{' '.join(self.build)}:\n{built.stdout}", file=sys.stderr)
            return f"{self.tools[0]} could not build it"
        return None

    def ask(self, *words: str | int) -> Mapping[str, list[float]]:
        """Have it do something: a workload, a contestant, and numbers."""
        process = _running.get(self.name)
        if process is None or process.poll() is not None:  # one that failed has said why
            process = subprocess.Popen(
                self.run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            _running[self.name] = process
        assert process.stdin is not None  # noqa: S101  # for the type checker
        assert process.stdout is not None  # noqa: S101  # for the type checker
        request = " ".join(map(str, words))
        print(request, file=process.stdin, flush=True)
        line = process.stdout.readline()
        if not line:
            process.wait()
        check(line, f"{self.name} failed at {request!r}")
        answer: Mapping[str, list[float]] = json.loads(line)
        return answer


_running: dict[str, subprocess.Popen[str]] = {}


@atexit.register
def _end() -> None:
    """Close their inputs, which ends them."""
    for process in _running.values():
        process.communicate()


RUST = Program(
    "Rust",
    tools=("cargo",),
    # Not --locked: the lock file has the version of asynctask, too, which is that of its sources.
    build=("cargo", "build", "--quiet", "--release"),
    run=(str(BUILT / "rust" / "release" / "asynctask-benchmarks"),),
)
GO = Program(
    "Go",
    tools=("go",),
    build=("go", "build", "-o", str(BUILT / "go" / "native"), "."),
    run=(str(BUILT / "go" / "native"),),
)
JVM = Program(
    "Java",
    tools=("mvn", "java"),
    build=("mvn", "--quiet", "--batch-mode", "compile"),
    run=(
        "java",
        *("-Xms4g", "-Xmx4g", "-XX:+AlwaysPreTouch"),
        *("-cp", f"{JAVA / 'classes'}:{JAVA / 'dependency'}/*"),
        "asynctask.benchmarks.Main",
    ),
)


def memory(contestant: str, count: int) -> float:
    """Ask the Rust program whose allocator counts: bytes of so many pending timers."""
    command = [str(BUILT / "rust" / "release" / "memory"), contestant, str(count)]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    bytes_in_use: float = json.loads(run.stdout)["bytes"][0]
    return bytes_in_use
