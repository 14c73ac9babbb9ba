"""What scripts/mutation.py draws from: every change is one that Python reads, and none is of what is no method."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[3] / "scripts"
TEXT = '''"""A file with 3 numbers."""
import torch


class Method:
    """Of 2 parts."""

    def __init__(self, width: int = 7, share: "float | None" = 0.5) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width should be at least 1. Found {width + 0}.")
        self.width, self.on = width, True

    @torch.no_grad()
    def forward(self, x, y):
        x -= y.detach()
        self.note(x, y)
        return sum(part * 2.0 for part in zip(x, y, strict=True)) if -x else not y
'''
EXPECTED = {
    "width < 1 -> width <= 1", "1 -> 2", "True -> False", "torch.no_grad() -> torch.enable_grad()",
    "x -= y.detach() -> pass",
    "y.detach() -> y", "self.note(x, y) -> pass", "self.note(x, y) -> self.note(y, x)", "part * 2.0 -> part / 2.0",
    "2.0 -> 4.0", "zip(x, y, strict=True) -> zip(y, x, strict=True)", "-x -> x", "not y -> y",
}  # fmt: skip


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("mutation")


def test_every_change_is_one_of_a_method_and_can_be_read(script: Any, tmp_path: Path) -> None:
    (tmp_path / "method.py").write_text(TEXT)
    found = list(script.mutations_of(tmp_path / "method.py", tmp_path))
    assert {mutation.change for mutation in found} == EXPECTED
    for mutation in found:
        assert ast.unparse(ast.parse(mutation.source)) != ast.unparse(ast.parse(TEXT))
        assert mutation.classes == ("Method",)
    assert {mutation.inside for mutation in found} == {"Method.__init__", "Method.forward"}


def test_a_seed_decides_what_is_drawn_and_what_changes_nothing_is_not(
    script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = script.drawn(["interactions", "heads"], 5, 3)
    assert script.drawn(["interactions", "heads"], 5, 3)[0] == first
    assert script.drawn(["interactions", "heads"], 5, 4)[0] != first
    monkeypatch.setattr(script, "equivalent", lambda: {(first[0].place, first[0].change)})
    second, passed = script.drawn(["interactions", "heads"], 5, 3)
    assert passed >= 1
    assert first[0] not in second
    assert (
        second[:2] == [each for each in first[1:] if (each.place, each.change) != (first[0].place, first[0].change)][:2]
    )


def test_answers_are_lines_with_a_reason(script: Any) -> None:
    for place, change in script.equivalent():
        assert (SCRIPTS.parent / place.partition(":")[0]).is_file(), place
        assert " -> " in change


@pytest.mark.parametrize(
    "name", ["trunks", "interactions", "heads", "balancers", "losses", "tasks", "metrics", "transfer"]
)
def test_every_mutation_has_tests_that_can_see_it(script: Any, name: str) -> None:
    for mutation in script.drawn([name], 10, 0)[0]:
        commands = script.commands(SCRIPTS.parent, mutation)
        paths = [part for command in commands for part in command if part.startswith("tests/")]
        assert len(commands) >= 3
        assert all((SCRIPTS.parent / path).exists() for path in paths)
