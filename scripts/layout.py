"""How the source tree is laid out: its rooms, imports upwards, circles, long files, names that stand twice.

    python scripts/layout.py [--list]

Reads ``src/graftrec`` without importing it and prints a table: the figure, its limit, and with ``--list`` each place
that counts. The exit code is 1 if a figure is above its limit. The last line is JSON.

names at the top      modules and packages directly in ``graftrec``
floors                the longest chain of imports over these names
imports upwards       imports from a package that stands above its importer in ``ORDER``, inside functions as well
circles               groups of modules that import each other, or name each other in strings such as ``"graftrec.cli"``
long files            files of more than 300 lines
names that stand twice  public classes and functions that two modules or more define
raw configuration     reads of a key of the composed dict (``cfg[...]``, ``cfg.get(...)``) outside ``config/``
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"
ROOT = "graftrec"
ORDER = {
    "utils": 0, "config": 1, "data": 1, "models": 2, "tasks": 3, "transfer": 4, "evaluation": 4, "training": 5,
    "runs": 6, "cli": 7, "__main__": 8, "__init__": -1,
}  # fmt: skip
MODULE_NAME = re.compile(r"graftrec(\.[A-Za-z_]\w*)+")
RAW = {"cfg", "tree"}  # what the composed dict is called
LIMITS = {  # no figure may rise above what it is today; the aim, where it is another one, stands behind it
    "names_at_the_top": 12,
    "floors": 9,
    "imports_upwards": 0,
    "circles": 0,
    "long_files": 16,  # aim: 0
    "names_that_stand_twice": 64,  # aim: 10
    "raw_configuration": 152,  # aim: 0
}


@dataclass(frozen=True)
class Module:
    """A source file: its dotted name and syntax tree."""

    name: str
    path: Path
    tree: ast.Module
    lines: int

    @property
    def top(self) -> str:
        """The name directly below ``graftrec`` that it belongs to."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else "__init__"


def modules(source: Path = SOURCE) -> dict[str, Module]:
    """All modules of the package by dotted name."""
    found = {}
    for path in sorted((source / ROOT).rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found[name] = Module(name, path, ast.parse(text), text.count("\n"))
    return found


def imported(module: Module, known: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Modules of the package that ``module`` imports anywhere, with the line."""
    names = set(known)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name in names)
        elif isinstance(node, ast.ImportFrom) and node.module in names:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & names
            yield from ((name, node.lineno) for name in inner or {node.module})


def named(module: Module, known: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Modules of the package that ``module`` names in a string, docstrings aside."""
    names = set(known)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and MODULE_NAME.fullmatch(node.value):
            target = node.value
            while target not in names and "." in target:
                target = target.rpartition(".")[0]
            if target != ROOT and target in names:
                yield target, node.lineno


def floors(edges: dict[str, set[str]]) -> int:
    """Number of names on the longest chain of imports; -1 where they go in a circle."""
    try:
        order = list(TopologicalSorter(edges).static_order())
    except CycleError:
        return -1
    height: dict[str, int] = {}
    for name in order:
        height[name] = 1 + max((height[below] for below in edges.get(name, ())), default=0)
    return max(height.values(), default=0)


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which reaches the others (Tarjan's strongly connected components, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for below in edges.get(name, ()):
            if below not in index:
                visit(below)
                low[name] = min(low[name], low[below])
            elif below in stack:
                low[name] = min(low[name], index[below])
        if low[name] == index[name]:
            place = stack.index(name)
            group = stack[place:]
            del stack[place:]
            if len(group) > 1:
                groups.append(sorted(group))

    for name in edges:
        if name not in index:
            visit(name)
    return groups


def public_names(module: Module) -> Iterator[str]:
    """Classes and functions that the module defines for others."""
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name


def raw_reads(module: Module) -> Iterator[int]:
    """Lines on which a key of the composed dict is read."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Subscript):
            value: ast.expr = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            value = node.func.value
        else:
            continue
        if isinstance(value, ast.Name) and value.id in RAW:
            yield node.lineno


def measure(source: Path = SOURCE) -> dict[str, list[str]]:
    """Each figure's places, a line for each."""
    tree = modules(source)
    by_import = {name: {below for below, _ in imported(module, tree)} - {name} for name, module in tree.items()}
    by_text = {name: {below for below, _ in named(module, tree)} - {name} for name, module in tree.items()}
    tops: dict[str, set[str]] = defaultdict(set)
    for name, module in tree.items():
        tops[module.top] |= {tree[below].top for below in by_import[name]} - {module.top}
    defined = defaultdict(list)
    for name, module in tree.items():
        for public in set(public_names(module)):
            defined[public].append(name)
    top = {m.top for m in tree.values()}
    return {
        "names_at_the_top": sorted(top),
        "floors": [str(floor + 1) for floor in range(floors(tops))],
        "imports_upwards": [
            f"{name}:{line} imports {below}"
            for name, module in tree.items()
            for below, line in imported(module, tree)
            if ORDER.get(tree[below].top, 99) > ORDER.get(module.top, 99)
            or (ORDER.get(tree[below].top) == ORDER.get(module.top) and tree[below].top != module.top)
        ],
        "circles": [" ".join(group) for group in circles({name: by_import[name] | by_text[name] for name in tree})],
        "long_files": [f"{name} {m.lines}" for name, m in tree.items() if m.lines > 300],
        "names_that_stand_twice": [f"{key}: {' '.join(at)}" for key, at in sorted(defined.items()) if len(at) > 1],
        "raw_configuration": [
            f"{name}:{line}" for name, m in tree.items() if m.top != "config" for line in raw_reads(m)
        ],
    }  # fmt: skip


def main() -> int:
    """Print the table, and its JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print each place that counts")
    parser.add_argument("--source", type=Path, default=SOURCE, help="the folder that holds graftrec")
    asked = parser.parse_args()
    places = measure(asked.source)
    figures = {name: len(lines) for name, lines in places.items()}
    for name, figure in figures.items():
        print(f"{name.replace('_', ' '):24} {figure:5}   at most {LIMITS[name]}")
        if asked.list and name != "floors":
            print(*(f"    {line}" for line in places[name]), sep="\n")
    lines = [module.lines for module in modules(asked.source).values()]
    print(f"{'median lines of a file':24} {statistics.median(lines):5.0f}   of {len(lines)} files")
    print(json.dumps(figures | {"median_lines": statistics.median(lines), "files": len(lines)}))
    return int(any(figure > LIMITS[name] for name, figure in figures.items()))


if __name__ == "__main__":
    sys.exit(main())
