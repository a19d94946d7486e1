"""What figures were measured on, and beside which versions of the peers."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

import asynctask

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NATIVE = Path(__file__).resolve().parent / "native"
PACKAGES = ("apscheduler", "gevent", "uvloop")
TOOLCHAINS = (("rustc", "--version"), ("go", "version"), ("java", "--version"))
GO_MODULE = re.compile(r"^\s*(?P<path>[\w./-]+/[\w./-]+) (?P<version>v[\w.+-]+)$", re.MULTILINE)
MAVEN_ARTIFACT = re.compile(
    r"<dependency>.*?<artifactId>(?P<name>.*?)</artifactId>\s*<version>(?P<version>.*?)</version>",
    re.DOTALL,
)


class Machine(TypedDict):
    """What the figures were measured on, and with."""

    cpu: str
    cores: int | None
    kernel: str
    python: str
    switch_interval: float
    asynctask: str
    commit: NotRequired[str | None]
    """What was measured, as git calls it; with a plus if something was not committed."""
    peers: dict[str, str | None]
    garbage_collector: str
    date: str


def describe(is_core: bool) -> Machine:
    """Describe what the figures are measured on, and the peers of the core or of the module."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "switch_interval": sys.getswitchinterval(),
        "asynctask": asynctask.__version__,
        "commit": _commit(),
        "peers": dict(_native() if is_core else _packages()),
        "garbage_collector": "collected before each measurement, off during it",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=NATIVE.parent)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _packages() -> Iterator[tuple[str, str | None]]:
    for package in PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield package, None


def _native() -> Iterator[tuple[str, str | None]]:
    """Give the compilers, and what the files that pin the peers say."""
    for command in TOOLCHAINS:
        yield command[0], _toolchain(command)
    manifest, lock = (NATIVE / "rust" / name for name in ("Cargo.toml", "Cargo.lock"))
    if manifest.is_file():
        wanted = tomllib.loads(manifest.read_text(encoding="utf-8"))["dependencies"]
        locked = tomllib.loads(lock.read_text(encoding="utf-8"))["package"]
        for package in locked:
            if package["name"] in wanted and package["name"] != "asynctask":
                yield package["name"], package["version"]
    for file, pattern in (("go/go.mod", GO_MODULE), ("java/pom.xml", MAVEN_ARTIFACT)):
        path = NATIVE / file
        if path.is_file():
            for found in pattern.findall(path.read_text(encoding="utf-8")):
                name, version = found
                yield name.removeprefix("github.com/"), version


def _toolchain(command: Sequence[str]) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    version = re.search(r"\d+(\.\d+)+", run.stdout)
    return version[0] if version else None
