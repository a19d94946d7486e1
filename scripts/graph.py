"""Prints which file of the core, the binding and the package uses which, and how long each is.

Run by `make graph`, and by a test that fails when a circle appears or a file grows too long. It
reads sources alone: nothing is imported or compiled. Code of tests is left out, on both counts.

A file uses another if it names something that the other one defines. A name that a third file only
passes on (`pub use`, `from … import`) counts for the file that it comes from.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREES = ("src", "binding/src", "python/asynctask")
# The most lines of a file, tests inside it not counted.
LONGEST = 600

# Comments, strings and characters, in which nothing is code; a lifetime is none of them.
RUST_NO_CODE = re.compile(
    r"""//[^\n]*
    | /\*.*?\*/
    | \bb?r(?P<hashes>\#*)"(?:.|\n)*?"(?P=hashes)
    | b?"(?:\\.|[^"\\])*"
    | b?'(?:\\(?:x..|u\{[^}]*\}|.)|[^'\\\n])'
    """,
    re.VERBOSE | re.DOTALL,
)
RUST_CFG = re.compile(r"#!?\[cfg\(")
RUST_ITEM = re.compile(
    r"\s*(?:pub(?:\([^)]*\))?\s+)?(?:fn|impl|mod|use|struct|enum|const|static|trait)\b"
)
RUST_USE = re.compile(r"(?P<pub>\bpub(?:\([^)]*\))?\s+)?\buse\s+(?P<tree>[^;]+);")
# A path of one step is a name of another crate, or of this file.
RUST_PATH = re.compile(r"(?<![\w:])[a-z_]\w*(?:::\w+)+")
RUST_INLINE_MOD = re.compile(r"\bmod\s+(\w+)\s*\{")
RUST_MOD = re.compile(r"\bmod\s+(\w+)\s*;")


@dataclass
class File:
    """What was read of one file."""

    path: Path
    lines: int = 0
    is_test: bool = False
    # What it names: each a path of modules, the item's own name last.
    named: set[tuple[str, ...]] = field(default_factory=set)
    # Names that it only passes on, and where they come from.
    passed_on: dict[str, tuple[str, ...]] = field(default_factory=dict)


def spaces(text: str) -> str:
    """So many spaces, and lines."""
    return re.sub(r"[^\n]", " ", text)


def end_of_item(text: str, start: int) -> int:
    """The end of the item, field or statement that follows an attribute."""
    is_item = RUST_ITEM.match(text, start) is not None
    depth = 0
    for at in range(start, len(text)):
        character = text[at]
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth < 0:
                return at
            if depth == 0 and character == "}":
                return at + 1
        elif depth == 0 and (character == ";" or (character == "," and not is_item)):
            return at + 1
    return len(text)


def without_tests(text: str) -> tuple[str, set[str]]:
    """The code that is compiled outside tests, and the modules that are not."""
    modules = set()
    at = 0
    while cfg := RUST_CFG.search(text, at):
        close = end_of_brackets(text, cfg.end() - 1)
        condition = text[cfg.end() : close]
        at = close
        if not re.search(r"\btest\b", condition) or re.search(r"\b(?:not|any)\(test", condition):
            continue
        start = text.index("]", close) + 1
        while (attribute := re.compile(r"\s*#\[").match(text, start)) is not None:
            start = end_of_brackets(text, attribute.end() - 1) + 1
        end = end_of_item(text, start)
        modules.update(RUST_MOD.findall(text[start:end]))
        text = text[: cfg.start()] + spaces(text[cfg.start() : end]) + text[end:]
        at = end
    return text, modules


def end_of_brackets(text: str, start: int) -> int:
    """Where the bracket at `start` is closed."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] in "([{":
            depth += 1
        elif text[at] in ")]}":
            depth -= 1
            if depth == 0:
                return at
    return len(text)


def leaves(tree: str) -> list[tuple[tuple[str, ...], str]]:
    """The paths of a `use`, each with the name that it gets here."""
    tree = tree.strip()
    if "{" in tree:
        stem, _, rest = tree.partition("{")
        inner = rest[: rest.rindex("}")]
        before = tuple(part for part in stem.strip().split("::") if part)
        parts, depth, start = [], 0, 0
        for at, character in enumerate(inner + ","):
            depth += (character == "{") - (character == "}")
            if character == "," and depth == 0:
                parts.append(inner[start:at])
                start = at + 1
        return [
            (
                (*before, *(() if path == ("self",) else path)),
                name if path != ("self",) else before[-1],
            )
            for part in parts
            if part.strip()
            for path, name in leaves(part)
        ]
    path, _, name = (part.strip() for part in tree.partition(" as "))
    steps = tuple(path.split("::"))
    return [(steps, name or steps[-1])]


def read_rust(tree: Path) -> dict[str, File]:
    """Every module of a crate, by its path (`pool::queue`; the root is `lib`)."""
    files = {}
    for path in sorted(tree.rglob("*.rs")):
        steps = path.relative_to(tree).with_suffix("").parts
        files["::".join(steps[:-1] if steps[-1] == "mod" else steps)] = File(path)
    for module, file in files.items():
        read_rust_file(module, file, files)
    return files


def read_rust_file(module: str, file: File, files: dict[str, File]) -> None:
    """Fills in what one module names; marks those of its children that are tests'."""
    bare = RUST_NO_CODE.sub(lambda part: spaces(part[0]), file.path.read_text())
    code, tests = without_tests(bare)
    file.lines = count_lines(bare, code)
    here = () if module == "lib" else tuple(module.split("::"))
    for name in tests:
        if test := files.get("::".join((*here, name))):
            test.is_test = True
    inline = [
        (part.end(), end_of_brackets(code, part.end() - 1), part[1])
        for part in RUST_INLINE_MOD.finditer(code)
    ]
    for use in RUST_USE.finditer(code):
        inner = tuple(name for start, end, name in inline if start <= use.start() < end)
        for path, name in leaves(use["tree"]):
            if absolute := absolute_rust(path, (*here, *inner), files):
                file.named.add(absolute)
                if not inner:
                    file.passed_on[name] = absolute
    outside = RUST_USE.sub(lambda part: spaces(part[0]), code)
    for path in RUST_PATH.finditer(outside):
        inner = tuple(name for start, end, name in inline if start <= path.start() < end)
        file.named.add(absolute_rust(tuple(path[0].split("::")), (*here, *inner), files))
    file.named.discard(())


def count_lines(bare: str, code: str) -> int:
    """Lines outside tests; one without code belongs to what stands before it."""
    count = 0
    is_test = False
    for before, after in zip(bare.splitlines(), code.splitlines(), strict=True):
        is_test = before != after if before.strip() else is_test
        count += not is_test
    return count


def absolute_rust(
    path: tuple[str, ...], here: tuple[str, ...], files: dict[str, File]
) -> tuple[str, ...]:
    """A path from the root of its crate; empty where it leads out of the crate."""
    if path[0] == "crate":
        return path[1:]
    if path[0] == "self":
        return (*here, *path[1:])
    if path[0] == "super":
        while path and path[0] == "super":
            here, path = here[:-1], path[1:]
        return (*here, *path)
    return (*here, *path) if "::".join((*here, path[0])) in files else ()


def file_of(
    path: tuple[str, ...], files: dict[str, File], seen: frozenset[str] = frozenset()
) -> str:
    """The module that defines what a path names."""
    for length in range(len(path), -1, -1):
        module = "::".join(path[:length]) or "lib"
        if module not in files:
            continue
        rest = path[length:]
        onwards = files[module].passed_on.get(rest[0]) if rest else None
        if onwards and module not in seen:
            return file_of((*onwards, *rest[1:]), files, seen | {module})
        return module
    return ""


class Imports(ast.NodeVisitor):
    """What a Python file imports, inside functions too, but for the sake of types alone."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.found: list[tuple[tuple[str, ...], str]] = []

    def visit_If(self, node: ast.If) -> None:
        """Passes over what only a type checker sees."""
        if ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                self.visit(other)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        """`import asynctask.x`."""
        for alias in node.names:
            steps = tuple(alias.name.split("."))
            if steps[0] == self.package:
                self.found.append((steps[1:], alias.asname or steps[-1]))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """`from asynctask.x import y`."""
        steps = tuple((node.module or "").split(".")) if node.module else ()
        if node.level == 0 and steps[:1] != (self.package,):
            return
        base = steps if node.level else steps[1:]
        for alias in node.names:
            self.found.append(((*base, alias.name), alias.asname or alias.name))


def read_python(tree: Path) -> dict[str, File]:
    """Every module of the package, by its name; the package itself is `__init__`."""
    files = {
        ".".join(path.relative_to(tree).with_suffix("").parts): File(path)
        for path in sorted(tree.rglob("*.py"))
    }
    for file in files.values():
        text = file.path.read_text()
        file.lines = len(text.splitlines())
        imports = Imports(tree.name)
        imports.visit(ast.parse(text))
        for path, name in imports.found:
            file.named.add(path)
            file.passed_on[name] = path
    return files


def file_of_python(path: tuple[str, ...], files: dict[str, File], depth: int = 0) -> str:
    """The module that defines what a path names; the native one is in none of these files."""
    for length in range(len(path), 0, -1):
        for module in (".".join(path[:length]), ".".join((*path[:length], "__init__"))):
            if module in files:
                rest = path[length:]
                onwards = files[module].passed_on.get(rest[0]) if rest else None
                if onwards and depth < len(files):
                    return file_of_python(onwards, files, depth + 1)
                return module
    if path and path[0] in files["__init__"].passed_on and depth < len(files):
        return file_of_python(files["__init__"].passed_on[path[0]], files, depth + 1)
    return "" if path[:1] == ("_asynctask",) else "__init__"


@dataclass
class Graph:
    """Which file uses which, in one tree."""

    files: dict[str, File]
    uses: dict[str, set[str]]

    def circles(self) -> list[frozenset[str]]:
        """Files that use each other, by whatever way around."""
        reach = {module: set(uses) for module, uses in self.uses.items()}
        for through, further in reach.items():
            for reached in reach.values():
                if through in reached:
                    reached.update(further)
        found = {
            frozenset(other for other in reach if other in reach[module] and module in reach[other])
            for module in reach
        }
        return sorted((circle for circle in found if circle), key=sorted)

    def layers(self) -> list[list[str]]:
        """Files in the order in which they can be read: each uses only those of layers above it."""
        circle_of = {module: circle for circle in self.circles() for module in circle}
        left = dict(self.uses)
        layers = []
        while left:
            layer = sorted(
                module
                for module, uses in left.items()
                if all(
                    other not in left or other in circle_of.get(module, ())
                    for member in circle_of.get(module, (module,))
                    for other in self.uses[member]
                )
            )
            layers.append(layer)
            for module in layer:
                del left[module]
        return layers


def read(folder: Path) -> Graph:
    """The graph of a crate's sources, or of a package's if it has an `__init__.py`."""
    is_python = (folder / "__init__.py").exists()
    files = read_python(folder) if is_python else read_rust(folder)
    find = file_of_python if is_python else file_of
    files_outside_tests = {
        module: file for module, file in files.items() if not is_in_test(module, files)
    }
    uses = {
        module: {find(path, files) for path in file.named if path} - {module, ""}
        for module, file in files_outside_tests.items()
    }
    return Graph(files_outside_tests, {module: used & set(uses) for module, used in uses.items()})


def is_in_test(module: str, files: dict[str, File]) -> bool:
    """Whether a module, or one around it, is a test's."""
    steps = module.split("::")
    return any(
        outer in files and files[outer].is_test
        for outer in ("::".join(steps[:length]) for length in range(1, len(steps) + 1))
    )


def main() -> None:
    """A line a file: its lines, and what it uses, which stands further up."""
    for tree in TREES:
        graph = read(ROOT / tree)
        print(f"{tree}\n")
        for layer in graph.layers():
            for module in layer:
                uses = ", ".join(sorted(graph.uses[module]))
                print(f"  {module:<24} {graph.files[module].lines:>4}  {uses}")
            print()
        for circle in graph.circles():
            print("  circle:", ", ".join(sorted(circle)), "\n")


if __name__ == "__main__":
    main()
