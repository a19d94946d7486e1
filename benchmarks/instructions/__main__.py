"""The command: ``python -m benchmarks.instructions``.

It prints the instructions of each operation beside their bounds. Exits with 0 if all are within
them, 1 if one takes more, 77 if they could not be compared: no callgrind, or another compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BOUNDS = Path(__file__).with_name("bounds.toml")
SECTIONS = ("core", "binding")
NOT_COMPARED = 77  # what test runners take for "skipped"
MARK = "getppid"  # what the programs call where counting begins and ends
# One arena and no fast bins: where a block comes from must not depend on which thread was faster.
# And no copying by `rep movsb`, which some processors have, and which counts as 4 % of a post.
LIBC = "glibc.malloc.arena_max=1:glibc.malloc.mxfast=0:glibc.cpu.hwcaps=-ERMS,-FSRM"
CALLS = 3  # of each operation: to warm up, with `count`, with three times as many

HEAD = """\
# Instructions for one operation, as callgrind counts them, and how many parts more are let through.
# Written by `make instructions-update`; CONTRIBUTING.md says when.

# They depend on what compiled the program, and are compared with nothing else.
"""


class CannotCountError(Exception):
    """What is missing, or differs."""


@dataclass(frozen=True)
class Counted:
    """One operation."""

    name: str
    instructions: float
    bound: float | None
    tolerance: float

    @property
    def change(self) -> float:
        """In parts of the bound; 0 without one."""
        return self.instructions / self.bound - 1 if self.bound else 0.0

    @property
    def verdict(self) -> str:
        """What is to be said of it."""
        if self.bound is None:
            return "WORSE: has no bound"
        if self.change > self.tolerance:
            return "WORSE"
        return "better" if self.change < -self.tolerance else ""

    def __str__(self) -> str:
        bound = "" if self.bound is None else f"{self.bound:.1f}"
        line = f"  {self.name:32}{self.instructions:10.1f}{bound:>10}{self.change:+8.1%}"
        return f"{line}  {self.verdict}".rstrip()


def run(command: list[str | Path], **keywords: Any) -> str:
    """Run a command and give what it printed."""
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False, **keywords
    )
    if done.returncode != 0:
        message = f"exit code {done.returncode} from {' '.join(map(str, command))}"
        raise SystemExit(message)
    return done.stdout


def environment(section: str) -> dict[str, str]:
    """Describe what the counts of a section depend on, besides the code."""
    words = run(["rustc", "--version"]).split()
    core = {
        "machine": f"{platform.system()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "rustc": words[1],
    }
    if section == "core":
        return core
    version = f"{platform.python_implementation()} {platform.python_version()}"
    return core | {"python": f"{version}, {platform.python_compiler()}"}


def core_program() -> list[str | Path]:
    """Build the core's program as it is released; give its command."""
    build = ["cargo", "bench", "--bench", "instructions", "--no-run", "--locked"]
    printed = run([*build, "--message-format", "json-render-diagnostics"])
    for line in printed.splitlines():
        built = json.loads(line)
        if built.get("executable") and built["target"]["name"] == "instructions":
            return [built["executable"]]
    message = "cargo has built no benches/instructions.rs"
    raise SystemExit(message)


def command(section: str) -> list[str | Path]:
    """Give the command whose operations are counted."""
    if section == "core":
        return core_program()
    return [sys.executable, Path(__file__).with_name("binding.py")]


def count(section: str) -> dict[str, float]:
    """Count the instructions of each operation of a section."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        message = "valgrind is not installed"
        raise CannotCountError(message)
    program = command(section)
    # Nothing else, for what is in the environment is read, and moves the stack.
    variables = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    variables |= {"GLIBC_TUNABLES": LIBC, "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        out = Path(folder, "out")
        tool = [valgrind, "--quiet", "--tool=callgrind", f"--dump-before={MARK}"]
        printed = run([*tool, f"--callgrind-out-file={out}", *program], env=variables)
        operations = [line.split() for line in printed.splitlines()]
        # The last one goes without a number: from the last mark to the end.
        dumps = len(list(Path(folder).iterdir())) - 1
        if dumps != len(operations) * CALLS * 2:
            message = f"{dumps} marks of {len(operations)} operations: is {MARK} called elsewhere?"
            raise SystemExit(message)
        counts = {}
        for at, (name, repeat) in enumerate(operations):
            last = (at + 1) * CALLS * 2
            once, thrice = total(out, last - 2), total(out, last)
            counts[name] = (thrice - once) / (2 * int(repeat))
    return counts


def total(out: Path, number: int) -> int:
    """Give the instructions that were counted before a mark and after the one before it."""
    text = Path(f"{out}.{number}").read_text(encoding="utf-8", errors="replace")
    found = re.search(r"^(?:totals|summary): (\d+)$", text, re.MULTILINE)
    if found is None:
        message = f"callgrind has written no total for mark {number}"
        raise SystemExit(message)
    return int(found[1])


def compare(section: str, bounds: dict[str, Any]) -> list[Counted]:
    """Count a section, and put each operation beside its bound."""
    here, there = environment(section), bounds["environment"]
    for name, value in here.items():
        if value != there[name]:
            message = f"the bounds are for {there[name]} as {name}, and this is {value}"
            raise CannotCountError(message)
    mine = bounds[section]
    tolerance = mine.pop("tolerance")
    counts = count(section)
    gone = mine.keys() - counts.keys()
    if gone:
        message = f"bounds without an operation: {', '.join(sorted(gone))}"
        raise SystemExit(message)
    return [Counted(name, counts[name], mine.get(name), tolerance) for name in counts]


def check(sections: list[str]) -> int:
    """Print the table; give the exit code."""
    bounds = tomllib.loads(BOUNDS.read_text(encoding="utf-8"))
    code = 0
    for section in sections:
        print(f"{section:34}{'counted':>10}{'bound':>10}{'change':>8}", flush=True)
        try:
            operations = compare(section, bounds)
        except CannotCountError as reason:
            print(f"  not compared: {reason}")
            code = code or NOT_COMPARED
            continue
        for operation in operations:
            print(operation)
        if any(operation.verdict.startswith("WORSE") for operation in operations):
            code = 1
        if any(operation.verdict for operation in operations):
            print("Look why; if it is as it should be: make instructions-update")
    return code


def update(sections: list[str]) -> None:
    """Write what is counted into the file of bounds."""
    bounds = tomllib.loads(BOUNDS.read_text(encoding="utf-8"))
    for section in sections:
        counts = {name: round(value, 1) for name, value in count(section).items()}
        bounds[section] = {"tolerance": bounds[section]["tolerance"]} | counts
        bounds["environment"] |= environment(section)
    tables = [
        f"[{table}]\n" + "".join(f"{name} = {json.dumps(at[name])}\n" for name in at)
        for table, at in bounds.items()
    ]
    BOUNDS.write_text(HEAD + "\n".join(tables), encoding="utf-8")
    print(f"written to {BOUNDS.relative_to(ROOT)}")


def main() -> int:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=" or ".join(SECTIONS))
    parser.add_argument("--update", action="store_true", help="write the bounds anew")
    arguments = parser.parse_args()
    sections = arguments.sections or list(SECTIONS)
    unknown = [section for section in sections if section not in SECTIONS]
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}")
    if arguments.update:
        if arguments.sections:
            parser.error("bounds are written for all sections, as they share an environment")
        update(sections)
    return check(sections)


if __name__ == "__main__":
    sys.exit(main())
