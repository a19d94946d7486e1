"""Runs `child` and looks at it from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import check

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Child:
    """A process in which so many timers wait."""

    process: subprocess.Popen[str]
    count: int
    bytes: int

    def switches(self) -> tuple[int, int]:
        """Count how often its threads were taken off or left a processor, and the threads."""
        total = threads = 0
        for status in Path(f"/proc/{self.process.pid}/task").glob("*/status"):
            threads += 1
            for line in status.read_text(encoding="utf-8").splitlines():
                if "ctxt_switches" in line:
                    total += int(line.split(":")[1])
        return total, threads


@contextmanager
def child(peer: str, count: int) -> Iterator[Child]:
    """Start one, wait until it has set up, and end it afterwards. Checked: all timers wait."""
    command = [sys.executable, "-m", "benchmarks.child", peer, str(count)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        check(process.stdin is not None and process.stdout is not None, "no pipes")
        assert process.stdin is not None  # noqa: S101  # for the type checker
        assert process.stdout is not None  # noqa: S101  # for the type checker
        line = process.stdout.readline()
        check(line, f"{peer} did not set up")
        told = json.loads(line)
        check(told["waiting"] == count, f"{peer}: {told['waiting']} wait of {count}")
        try:
            yield Child(process, count, told["bytes"])
        finally:
            process.stdin.close()
            process.wait(60)
