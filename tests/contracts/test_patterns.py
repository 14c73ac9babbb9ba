"""Every regular expression of the program reads hostile text in linear time."""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

SRC = Path(__file__).parents[2] / "src"
READS = {"match", "fullmatch", "search", "findall", "finditer", "sub", "subn", "split"}
ALPHABETS = (
    ":",
    "/",
    "@",
    " ",
    "0",
    "'",
    '"',
    "a",
    "a ",
    "a:",
    "a: ",
    "://",
    "a@",
    "0:",
    ":@/",
    "_0",
    "-",
    "\n",
    "(a",
    ",",
)
LETTERS, LIMIT = 1_024_000, 5.0  # of a text; seconds of one reading of it, which take some 0.01 to 0.3


@cache
def modules() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SRC.rglob("*.py"))}


def module_of(path: Path) -> dict[str, Any]:
    return vars(
        importlib.import_module(".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"))
    )


def values_of(node: ast.expr, names: dict[str, Any]) -> list[Any]:
    """What an expression may be: an unknown name is each key of the mapping that it chooses from."""
    code = compile(ast.Expression(node), "pattern", "eval")
    try:
        return [eval(code, names)]
    except NameError as error:
        chosen = [
            part for part in ast.walk(node) if isinstance(part, ast.Subscript) and isinstance(part.value, ast.Name)
        ]
        keys = [key for part in chosen if isinstance(part.value, ast.Name) for key in names[part.value.id]]
        return [eval(code, {**names, str(error.name): key}) for key in keys]


def patterns() -> Iterator[tuple[str, Any, str]]:
    """Where each pattern is, the pattern, and the method by which it reads."""
    by_name: dict[str, set[str]] = defaultdict(set)
    for tree in modules().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in READS:
                own = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
                by_name[own].add(node.attr)
    for path, tree in modules().items():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and is_of_re(node)]
        for call in calls:
            assert isinstance(call.func, ast.Attribute)
            if call.func.attr == "compile":
                continue
            for found in values_of(call.args[0], module_of(path)):
                yield f"{path.name}:{call.lineno}", re.compile(found), call.func.attr
        compiled = sum(isinstance(call.func, ast.Attribute) and call.func.attr == "compile" for call in calls)
        own = (
            {key: value for key, value in module_of(path).items() if isinstance(value, re.Pattern)} if compiled else {}
        )
        assert len(own) >= compiled, f"{path}: a pattern is compiled in a function; make it a constant of the module"
        for key, value in own.items():
            for method in by_name.get(key) or {"search"}:
                yield f"{path.name}:{key}", value, method


def is_of_re(node: ast.Call) -> bool:
    return (
        isinstance(node.func, ast.Attribute)
        and getattr(node.func.value, "id", "") == "re"
        and node.func.attr != "escape"
    )


def literals(parsed: Any) -> str:
    """The letters that a pattern names, which are what it begins to read upon."""
    found = ""
    for kind, value in parsed:
        if kind in (codes.LITERAL, codes.NOT_LITERAL):
            found += chr(value)
        elif kind in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            found += literals(value[2])
        elif kind is codes.SUBPATTERN:
            found += literals(value[3])
        elif kind in (codes.ASSERT, codes.ASSERT_NOT):
            found += literals(value[1])
        elif kind is codes.BRANCH:
            found += "".join(map(literals, value[1]))
    return found


def read(pattern: re.Pattern[Any], method: str, text: str) -> None:
    given: Any = text.encode() if isinstance(pattern.pattern, bytes) else text
    for _ in pattern.finditer(given) if method not in ("match", "fullmatch") else [getattr(pattern, method)(given)]:
        pass


FOUND = list(patterns())


def test_they_are_found() -> None:
    assert len(FOUND) > 20
    assert {"redaction.py:URL", "yaml_loader.py:ODD"} <= {where for where, _, _ in FOUND}


def check(pattern: re.Pattern[Any], method: str, heads: Iterable[str], sizes: Iterable[int]) -> None:
    """Texts of each alphabet after each head, the shortest first: a slow pattern is caught before it takes hours."""
    own = literals(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE))
    for head in dict.fromkeys([*heads, own]):
        for alphabet in dict.fromkeys([*ALPHABETS, *([own, own[:1], own[:6]] if own else [])]):
            for size in sizes:
                text = head + (alphabet * (size // len(alphabet) + 1))[:size] + "\x00"
                begun = time.process_time()
                read(pattern, method, text)
                taken = time.process_time() - begun
                assert taken < LIMIT * size / LETTERS + 0.3, f"{taken:.1f} s for {size:,} letters of {alphabet!r}"


PATTERNS = pytest.mark.parametrize(("where", "pattern", "method"), FOUND, ids=[f"{at}-{how}" for at, _, how in FOUND])


@PATTERNS
def test_many_letters_take_no_time(where: str, pattern: re.Pattern[Any], method: str) -> None:
    check(pattern, method, ("", "://"), (2_000, 32_000))


@pytest.mark.slow
@PATTERNS
def test_a_million_letters_take_no_time(where: str, pattern: re.Pattern[Any], method: str) -> None:
    check(pattern, method, ("", "://"), (32_000, LETTERS))


def test_a_quadratic_one_is_caught() -> None:
    """That the time tells them apart: what was looked for in URLs before."""
    before = re.compile(r"(?<=://)[^\s/@'\"]+:[^\s/@'\"]*@")
    with pytest.raises(AssertionError, match="letters of"):
        check(before, "search", ("", "://"), (2_000, 16_000))
