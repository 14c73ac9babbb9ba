"""Nothing that is printed is obeyed by a terminal, whoever wrote it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from graftrec.utils.terminal_text import say, tell

SRC = Path(__file__).parents[3] / "src"


def test_only_one_module_prints() -> None:
    """All others say and tell, or print on a `Screen`."""
    found = [
        f"{path.relative_to(SRC)}:{node.lineno}"
        for path in SRC.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found
    assert {place.partition(":")[0] for place in found} == {"graftrec/utils/terminal_text.py"}


def test_what_is_said_has_neither_escapes_nor_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRAFTREC_SECRET_0", "canary-7f3a")
    for out in (say, tell):
        out("dropped: \x1b[31mred\x07 \u202eturned \x9b1m, x-canary-7f3a-y")
        said = "".join(capsys.readouterr())
        assert said.rstrip("\n").isprintable()
        assert "red" in said
        assert "canary" not in said
