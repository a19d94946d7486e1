"""What the documentation shows is run."""

import doctest
import importlib
import inspect
import pkgutil
import re
import sysconfig
from pathlib import Path

import asynctask
import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
MODULES = sorted(
    [
        "asynctask",
        *(f"asynctask.{module.name}" for module in pkgutil.iter_modules(asynctask.__path__)),
    ]
)
pytestmark = pytest.mark.usefixtures("default_pool")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_work(name):
    """Every example in a docstring gives what it shows."""
    if name == "asynctask._gevent" and sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("gevent switches the GIL on, with a warning")
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    output = []
    finder = doctest.DocTestFinder(exclude_empty=True)
    tests = finder.find(module, name)
    if name == "asynctask":
        # What the public classes inherit is not looked at by itself.
        for base in (asynctask._asynctask.PoolBase, asynctask._asynctask.TaskBase):
            tests += finder.find(base, base.__name__, module=False)
        assert any("submit" in test.name for test in tests)
    for test in tests:
        asynctask.testing.reset_default_pool()
        runner.run(test, out=output.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(output)


def test_there_are_examples_in_docstrings():
    """The classes one makes, and the functions one calls first, show how."""
    for thing in (
        asynctask,
        asynctask.AsyncTask,
        asynctask.AsyncTaskPool,
        asynctask.TaskGroup,
        asynctask.ticker,
    ):
        assert ">>> " in thing.__doc__


@pytest.mark.parametrize("name", asynctask.__all__)
def test_everything_public_has_a_docstring(name):
    """Every public name, and each of its public methods, says what it is for."""
    thing = getattr(asynctask, name)
    assert (thing.__doc__ or "").strip() or name == "CancelledError"
    if inspect.isclass(thing) and thing.__module__.startswith("asynctask"):
        for base in thing.__mro__:
            if not base.__module__.startswith("asynctask"):
                continue
            for member, value in vars(base).items():
                if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                    assert (getattr(value, "__doc__", "") or "").strip(), f"{name}.{member}"


def test_all_names_are_there():
    """`__all__` is sorted and complete: no public name is left out."""
    assert asynctask.__all__ == sorted(asynctask.__all__)
    public = {
        name
        for name, value in vars(asynctask).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert public == set(asynctask.__all__)


PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an sdist has not all of it")
@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_what_a_page_links_to_is_there(page):
    """Each file that a page links to, or shows, is in the repository; so is the heading."""
    for link in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert heading in {
                re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings
            }


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an sdist has not all of it")
def test_the_index_of_what_was_measured_is_complete():
    """Each page of `docs/design` has a line in its README."""
    pages = {page.name for page in (ROOT / "docs" / "design").glob("*.md")} - {"README.md"}
    index = (ROOT / "docs" / "design" / "README.md").read_text()
    assert set(re.findall(r"^- \[.*?\]\((.*?)\):", index, re.MULTILINE)) == pages


def blocks(page=README):
    """Give a page's blocks of Python."""
    text = page.read_text() if page.exists() else ""
    return re.findall(r"^```(?:python|pycon)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_readme_has_examples():
    """A README that is there shows some Python."""
    if README.exists() and README.read_text().strip():
        assert blocks()


def test_the_readmes_examples_work(run_python):
    """The Python blocks of the README run as they stand, one after the other in one program."""
    run_python("\n".join(block for block in blocks() if ">>> " not in block))
    session = "\n".join(block for block in blocks() if ">>> " in block)
    test = doctest.DocTestParser().get_doctest(session, {}, "README", str(README), 0)
    assert doctest.DocTestRunner().run(test).failed == 0


def test_the_examples_beside_the_library_work(run_python):
    """So do those of the page that compares with `concurrent.futures`."""
    pytest.importorskip("sentry_sdk")
    page = README.parent / "docs" / "futures.md"
    if page.exists():
        assert blocks(page)
        # The SDK imports gevent if it is there, which switches the GIL of a free build on.
        quiet = "import warnings; warnings.filterwarnings('ignore', 'The global interpreter lock')"
        run_python("\n".join([quiet, *blocks(page)]))
