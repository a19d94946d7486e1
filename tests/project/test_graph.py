"""The import graphs: who may use whom, and how long a file may be."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "scripts").exists():
    pytest.skip("the repository alone has the script", allow_module_level=True)

_spec = importlib.util.spec_from_file_location("graph", ROOT / "scripts" / "graph.py")
graph = importlib.util.module_from_spec(_spec)
sys.modules["graph"] = graph
_spec.loader.exec_module(graph)

# A job is made for a handle, which is made with it: neither is anything alone.
CIRCLES = {"binding/src": [frozenset({"task::job", "task"})]}


@pytest.mark.parametrize("tree", graph.TREES)
def test_no_new_circle(tree):
    """Files use each other in one direction only, but for the one pair that is written down."""
    assert graph.read(ROOT / tree).circles() == CIRCLES.get(tree, [])


@pytest.mark.parametrize("tree", graph.TREES)
def test_no_file_is_too_long(tree):
    """A file can be read in one go."""
    files = graph.read(ROOT / tree).files
    assert {name: file.lines for name, file in files.items() if file.lines > graph.LONGEST} == {}


@pytest.mark.parametrize("tree", graph.TREES)
def test_the_map_has_every_file(tree):
    """Whoever looks for a file's purpose finds a line of it in ARCHITECTURE.md."""
    page = (ROOT / "ARCHITECTURE.md").read_text()
    begin = page.index(f"`{tree}/`\n")
    section = page[begin : page.index("\n## ", begin)]
    rows = "\n".join(row.split("|")[1] for row in section.splitlines() if row.startswith("| `"))
    files = [file.path.relative_to(ROOT / tree) for file in graph.read(ROOT / tree).files.values()]
    # Beside the path of its folder's first file, or any folder's `options.rs`.
    named = {path for path in files if f"`{path}`" in rows or f"`*/{path.name}`" in rows}
    beside = {path for path in files for other in named if path.parent == other.parent}
    missing = {
        path
        for path in files
        if path not in named and (path not in beside or f"`{path.name}`" not in rows)
    }
    assert missing <= {Path("lib.rs"), Path("__init__.py")}


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return graph.read(folder)


def test_rust_is_read_as_it_is_compiled(tmp_path):
    """Uses count through facades, braces and paths; comments, strings and tests do not."""
    read = write(
        tmp_path,
        {
            "lib.rs": "mod a;\nmod b;\nmod c;\npub use a::inner::Deep;\n",
            "a.rs": "mod inner;\npub use self::inner::Deep;\nfn f() { crate::b::g() }\n",
            "a/inner.rs": 'pub struct Deep;\n// crate::c::no\nconst S: &str = "crate::c::no";\n',
            "b.rs": "use crate::{c::{self, Thing as Other}, Deep};\npub fn g() {}\n"
            "#[cfg(test)]\nmod tests {\n    use crate::a::f;\n}\n",
            "c.rs": "pub struct Thing;\nfn h<'a>(x: &'a str) { super::a::Deep; 'x'; }\n",
        },
    )
    assert read.uses == {
        "lib": {"a::inner"},
        "a": {"a::inner", "b"},
        "a::inner": set(),
        "b": {"c", "a::inner"},
        "c": {"a::inner"},
    }
    assert read.circles() == []
    assert read.files["b"].lines == 2
    assert read.layers() == [["a::inner"], ["c", "lib"], ["b"], ["a"]]


def test_a_circle_of_rust_is_found(tmp_path):
    """A child that uses its facade, which uses the child, is a circle; so is a long way around."""
    read = write(
        tmp_path,
        {
            "lib.rs": "mod a;\nmod b;\nmod c;\n",
            "a.rs": "mod inner;\nuse inner::Deep;\npub struct Top;\n",
            "a/inner.rs": "use super::Top;\npub struct Deep(Top);\n",
            "b.rs": "use crate::c::C;\npub struct B;\n",
            "c.rs": "pub struct C;\nfn f() { mod x { use super::super::b::B; } }\n",
        },
    )
    assert read.circles() == [frozenset({"a", "a::inner"}), frozenset({"b", "c"})]


def test_a_circle_of_python_is_found(tmp_path):
    """An import inside a function counts, one for the type checker does not."""
    read = write(
        tmp_path / "asynctask",
        {
            "__init__.py": "from asynctask._a import A\n",
            "_a.py": "def f():\n    from asynctask._b import B\n",
            "_b.py": "import asynctask._a\nfrom . import _c\n",
            "_c.py": "import typing\nif typing.TYPE_CHECKING:\n    from asynctask import A\n",
        },
    )
    assert read.uses == {"__init__": {"_a"}, "_a": {"_b"}, "_b": {"_a", "_c"}, "_c": set()}
    assert read.circles() == [frozenset({"_a", "_b"})]
