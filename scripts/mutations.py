"""The mutations of a Python file that `mutation.py` draws from: small changes of its syntax tree, one at a time."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
METHODS = {"sum": "mean", "mean": "sum", "max": "min", "min": "max", "clamp_min": "clamp_max", "clamp_max": "clamp_min",
           "sigmoid": "tanh", "any": "all", "all": "any", "no_grad": "enable_grad"}  # fmt: skip
ALIKE = {"min", "max", "minimum", "maximum", "logaddexp", "allclose", "equal"}  # of arguments in any order
ALIKE |= {"transpose", "swapaxes"}
STOPS = ("detach", "no_grad")
SIGNS = (ast.USub, ast.Not, ast.Invert)


@dataclass(frozen=True)
class Mutation:
    """A changed file: ``path`` from the root, ``line``, the name of what it is ``inside``, and the text as a whole."""

    path: str
    line: int
    inside: str
    before: str
    after: str
    classes: tuple[str, ...]
    source: str

    @property
    def place(self) -> str:
        """Where it is, whatever lines come or go above."""
        return f"{self.path}:{self.inside}"

    @property
    def change(self) -> str:
        return f"{self.before} -> {self.after}"

    def __str__(self) -> str:
        return f"{self.path}:{self.line}  {self.change}"


def mutations_of(path: Path, root: Path) -> Iterator[Mutation]:
    """All of a file, in the order of its lines."""
    text = path.read_text()
    tree = ast.parse(text)
    classes = tuple(node.name for node in tree.body if isinstance(node, ast.ClassDef))
    lines = text.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    whole = text.encode()

    def place(node: ast.expr | ast.stmt) -> tuple[int, int]:
        return starts[node.lineno - 1] + node.col_offset, starts[(node.end_lineno or 0) - 1] + (
            node.end_col_offset or 0
        )

    for inside, node, after in _changes(tree):
        first, last = place(node)
        before = whole[first:last].decode()
        new = f"({after})" if isinstance(node, ast.expr) else after
        source = (whole[:first] + new.encode() + whole[last:]).decode()
        yield Mutation(str(path.relative_to(root)), node.lineno, inside, _line(before), _line(after), classes, source)


def _line(text: str) -> str:
    return " ".join(text.split())


def _changes(tree: ast.Module) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    """Name of what a node is in, the node, and the text in its place."""

    def walk(node: ast.AST, inside: tuple[str, ...]) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            inside = (*inside, node.name)
        name = ".".join(inside) or "module"
        if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)):
            return
        if isinstance(node, (ast.expr, ast.stmt)):
            for after in _of(node):
                yield name, node, after
        for child in _children(node):
            yield from walk(child, inside)

    yield from walk(tree, ())


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Parts of a node that are computed: no annotation, no default of an argument, no base of a class."""
    if isinstance(node, ast.FunctionDef):
        yield from node.decorator_list
        yield from node.body
    elif isinstance(node, ast.ClassDef):
        yield from node.body
    elif isinstance(node, ast.AnnAssign):
        if node.value is not None:
            yield node.value
    elif isinstance(node, ast.Lambda):
        yield node.body
    elif isinstance(node, ast.keyword):
        if node.arg != "strict":  # of zip: lengths are equal
            yield node.value
    else:
        yield from ast.iter_child_nodes(node)


def _of(node: ast.expr | ast.stmt) -> Iterator[str]:
    """What may stand in the place of a node."""
    for kind, change in CHANGES:
        if isinstance(node, kind):
            yield from change(node)


def _binary(node: ast.BinOp) -> Iterator[str]:
    other = ARITHMETIC.get(type(node.op))
    if other is not None:
        yield ast.unparse(ast.BinOp(node.left, other(), node.right))


def _compare(node: ast.Compare) -> Iterator[str]:
    for at, op in enumerate(node.ops):
        ops = [COMPARISONS[type(op)]() if at == other else each for other, each in enumerate(node.ops)]
        yield ast.unparse(ast.Compare(node.left, ops, node.comparators))


def _bool(node: ast.BoolOp) -> Iterator[str]:
    yield ast.unparse(ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values))


def _unary(node: ast.UnaryOp) -> Iterator[str]:
    if isinstance(node.op, SIGNS) and not isinstance(node.operand, ast.Constant):
        yield ast.unparse(node.operand)


def _constant(node: ast.Constant) -> Iterator[str]:
    value = node.value
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int):
        yield str(value + 1)
    elif isinstance(value, float):
        yield str(value * 2 or 1.0)


def _call(node: ast.Call) -> Iterator[str]:
    function = node.func
    plain = not any(isinstance(each, ast.Starred) for each in node.args[:2])
    alike = (function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")) in ALIKE
    if len(node.args) >= 2 and plain and not alike and ast.dump(node.args[0]) != ast.dump(node.args[1]):
        swapped = [node.args[1], node.args[0], *node.args[2:]]
        yield ast.unparse(ast.Call(function, swapped, node.keywords))
    if isinstance(function, ast.Attribute):
        if function.attr in METHODS:
            named = ast.Attribute(function.value, METHODS[function.attr], ast.Load())
            yield ast.unparse(ast.Call(named, node.args, node.keywords))
        if function.attr in STOPS and function.attr not in METHODS:
            yield ast.unparse(function.value)


def _statement(node: ast.stmt) -> Iterator[str]:
    """A call whose result nobody takes, or a change of a value, is gone; a docstring stays."""
    if isinstance(node, ast.AugAssign) or (
        isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.Yield))
    ):
        constructs = "super().__init__" in ast.unparse(node)
        if not constructs:
            yield "pass"


CHANGES: list[tuple[type[ast.AST], Callable[..., Iterator[str]]]] = [
    (ast.BinOp, _binary),
    (ast.Compare, _compare),
    (ast.BoolOp, _bool),
    (ast.UnaryOp, _unary),
    (ast.Constant, _constant),
    (ast.Call, _call),
    (ast.stmt, _statement),
]
