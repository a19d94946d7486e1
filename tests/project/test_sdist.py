"""What a distributor gets: sources that can be built, and tested, by themselves."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MATURIN = Path(sys.executable).with_name("maturin")
FOLDERS = {"benches", "binding", "docs", "examples", "python", "scripts", "src", "tests"}


def run(*command, **options):
    """Run a command, and show what it said if it fails."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not MATURIN.is_file(), reason="maturin is not installed")
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout")
def test_the_source_distribution_is_built_and_tested_by_itself(tmp_path):
    """The sdist has the sources, the examples and the tests, nothing else, and its tests pass."""
    run(str(MATURIN), "sdist", "--out", str(tmp_path), cwd=ROOT)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    top = tmp_path / archive.name.removesuffix(".tar.gz")
    assert {path.name for path in top.iterdir() if path.is_dir()} == FOLDERS
    for folder in ("docs", "examples", "python", "scripts", "tests"):
        tracked = run("git", "ls-files", folder, cwd=ROOT).split()
        left_out = {
            f"tests/project/test_{name}.py" for name in ("benchmarks", "instructions", "sdist")
        }
        packed = {str(path.relative_to(top)) for path in (top / folder).rglob("*.*")}
        assert packed == set(tracked) - left_out

    site = tmp_path / "site"
    build = os.environ | {
        "CARGO_TARGET_DIR": str(ROOT / "target" / "sdist"),
        "CARGO_PROFILE_RELEASE_LTO": "off",
        "PATH": f"{MATURIN.parent}{os.pathsep}{os.environ['PATH']}",
    }
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    run(*pip, "--target", str(site), str(archive), env=build)
    test = os.environ | {"PYTHONPATH": str(site)}
    found = run(sys.executable, "-c", "import asynctask; print(asynctask.__file__)", env=test)
    assert found.startswith(str(site))
    tests = ["contract", "tasks/test_options.py", "tasks/test_post.py", "project/test_docs.py"]
    tests = [f"tests/{name}" for name in tests]
    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=top, env=test)
