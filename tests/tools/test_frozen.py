"""Programs that are frozen into one folder have all of the package in it."""

import ast
import re
import sys
from pathlib import Path

import asynctask
import pytest
from helpers.programs import environment_with, run_command

PACKAGE = Path(asynctask.__file__).parent
SOURCES = Path(__file__).parents[2] / "binding" / "src"


def imported_by_python():
    """Give the modules of the package that an import statement in one of its files names."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "asynctask":
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("asynctask."):
                found.add(node.module.split(".")[1])
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
                found |= {name.split(".")[1] for name in names if name.startswith("asynctask.")}
    return found


def test_every_module_is_found_by_an_import_in_python():
    """Freezers follow the imports that they see: each module of the package is in one of them."""
    modules = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__"}
    assert modules <= imported_by_python()


def test_the_native_module_imports_none_of_the_package():
    """What it imports by name no freezer would see, so that is the standard library alone."""
    if not SOURCES.exists():
        pytest.skip("the sources are not here")
    named = {
        name
        for file in SOURCES.rglob("*.rs")
        for name in re.findall(
            r'\b(?:import|of_module)\((?:intern!\(py, )?"([\w.]+)"',
            file.read_text(encoding="utf-8"),
        )
    }
    assert named
    named -= {"asynctask._asynctask"}  # itself
    assert {name.partition(".")[0] for name in named} <= sys.stdlib_module_names


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_pyinstaller(tmp_path):
    """A program that PyInstaller has frozen runs: tasks, series, coroutines, and under gevent."""
    python = environment_with(tmp_path, "pyinstaller>=6.15", "gevent>=25") / "python"
    (tmp_path / "program.py").write_text(
        "import sys\n"
        "if 'gevent' in sys.argv:\n"
        "    from gevent import monkey\n"
        "    monkey.patch_all()\n"
        "import asyncio\n"
        "import asynctask\n"
        "from asynctask import DelayTask, IntervalTask\n"
        "assert asynctask.post_task(pow, args=(2, 10)).result(30) == 1024\n"
        "assert asynctask.post_task(int, DelayTask(0.01)).result(30) == 0\n"
        "asynctask.post_task(int, IntervalTask(0.001)).wait_for_finished_count(3, 30)\n"
        "async def main():\n"
        "    asynctask.aio.install()\n"
        "    return await asynctask.post_task(asyncio.sleep, args=(0.01, 'slept'))\n"
        "if 'gevent' not in sys.argv:\n"
        "    assert asyncio.run(main()) == 'slept'\n"
        "print('frozen' if getattr(sys, 'frozen', False) else 'not frozen')\n"
    )
    frozen = (python, "-m", "PyInstaller", "--log-level", "ERROR", "--noconfirm", "--paths")
    run_command(*frozen, PACKAGE.parent, "program.py", cwd=tmp_path, timeout=250)
    for argument in ([], ["gevent"]):
        program = tmp_path / "dist" / "program" / "program"
        assert run_command(program, *argument, stderr="").stdout == "frozen\n"
