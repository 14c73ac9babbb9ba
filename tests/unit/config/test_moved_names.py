"""Names that classes had before a move still work, and change no fingerprint."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest

from graftrec.config import moved_names
from graftrec.config.instantiate import fingerprint, problems_of_tree, resolve

OLD = [
    "graftrec.trunks.mmoe.MMoE",
    "graftrec.nn.encoder.Encoder",
    "graftrec.interactions.dcn_v2.DcnV2",
    "graftrec.heads.dot.Dot",
    "graftrec.losses.bce.Bce",
    "graftrec.balancers.pcgrad.PcGrad",
    "graftrec.optimizers.rowwise.RowWise",
    "graftrec.report.logs.CsvLog",
    "graftrec.data.sampling.History",
    "graftrec.data.splits.by_time.ByTime",
    "graftrec.data.splits.at_random.AtRandom",
    "graftrec.data.splits.official.Official",
    "graftrec.data.datasets.several.Several",
]


def old_names(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {k: moved_names.former(v) if k == "_target_" else old_names(v) for k, v in tree.items()}
    return [old_names(value) for value in tree] if isinstance(tree, list) else tree


@pytest.mark.parametrize("name", OLD)
def test_an_old_name_is_the_class_and_is_told_once(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    moved_names._tell.cache_clear()
    cls = resolve(name)
    assert resolve(name) is cls
    now = f"{cls.__module__}.{cls.__qualname__}"
    assert now != name
    assert capsys.readouterr().err.splitlines() == [
        f"graftrec: {name} has moved; write {now} (deprecated: the old name goes with 1.0)"
    ]
    assert resolve(now) is cls
    assert moved_names.former(now) == name


def test_every_new_place_is_there_and_no_old_one_is_taken_again() -> None:
    for old, new in moved_names.MOVED.items():
        importlib.import_module(new)
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(old)


def test_a_tree_of_old_names_is_the_same_experiment(compose: Callable[[list[str]], dict[str, Any]]) -> None:
    tree = compose(["trunk=mmoe"])
    before = old_names(tree)
    assert before["trunk"]["_target_"].startswith("graftrec.trunks.")
    assert problems_of_tree(before) == []
    assert fingerprint(before) == fingerprint(tree)
    assert fingerprint(compose(["trunk=ple"])) != fingerprint(tree)
