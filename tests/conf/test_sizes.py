"""A size sets what the trunk has of it; the command line wins, and without a size nothing is set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graftrec.runs.overrides import problems_of_command
from graftrec.runs.train import train

Compose = Callable[[list[str]], dict[str, Any]]
NEXT = ["task@source=[]", "task@shared=[]", "task@target=[next_item]"]
SHORT = ["twin=false", "baselines=false", "++trainer.limit_train_batches=2", "++trainer.max_steps=2"]


@pytest.mark.parametrize(
    ("trunk", "has"),
    [
        ("sasrec", {"layers": 8, "heads": 8, "positions": 200}),
        ("bert4rec", {"layers": 8, "heads": 8, "positions": 200}),
        ("hstu", {"layers": 8, "heads": 8, "positions": 200}),
        ("gru4rec", {"layers": 8}),
        ("nextitnet", {"repeats": 8}),
        ("transformer", {"layers": 8, "heads": 8}),
        ("mmoe", {}),
    ],
)
def test_a_size_is_cut_to_the_trunk(trunk: str, has: dict[str, int], compose: Compose) -> None:
    tree = compose([f"trunk={trunk}", "size=l"])
    assert {name: value for name, value in tree["trunk"].items() if name != "_target_"} == has
    assert (tree["encoder"]["width"], tree["history"]["short"], tree["size"]) == (256, 200, "l")
    assert problems_of_command("train", [f"trunk={trunk}", "size=l"], []) == []


def test_sizes_grow(compose: Compose) -> None:
    sizes = [compose(["trunk=sasrec", f"size={size}"]) for size in ("s", "m", "l", "xl")]
    for knob in ("layers", "heads", "positions"):
        values = [tree["trunk"][knob] for tree in sizes]
        assert values == sorted(values)
    assert [tree["encoder"]["width"] for tree in sizes] == [64, 128, 256, 512]


def test_without_a_size_nothing_is_set(compose: Compose) -> None:
    tree = compose(["trunk=sasrec"])
    assert tree == compose(["trunk=sasrec", "size=none"])
    assert set(tree["trunk"]) == {"_target_"}
    assert "size" not in tree
    assert "width" not in tree["encoder"]
    assert "short" not in tree["history"]


def test_the_command_line_wins_and_an_experiment_does_not(compose: Compose) -> None:
    tree = compose(["trunk=sasrec", "size=m", "trunk.layers=3", "encoder.width=48"])
    assert (tree["trunk"]["layers"], tree["trunk"]["heads"], tree["encoder"]["width"]) == (3, 4, 48)
    assert compose(["experiment=kuairand", "dataset.root=x", "size=m"])["encoder"]["width"] == 128  # 16 there


def test_a_setting_that_the_trunk_lacks_is_wrong_with_a_size_too() -> None:
    for size in ([], ["size=m"]):
        (problem,) = problems_of_command("train", ["trunk=gru4rec", *NEXT, *size, "trunk.heads=2"], [])
        assert problem.startswith("trunk.heads=2: there is no 'trunk.heads'")


@pytest.mark.parametrize("trunk", ["sasrec", "bert4rec", "hstu", "gru4rec", "nextitnet"])
def test_half_precision_trains_every_sequential_trunk(
    trunk: str, compose: Compose, shop_settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for drawing in ("plots.learning_curves", "plots.comparison", "run_page.write_report"):
        monkeypatch.setattr(f"graftrec.evaluation.report.{drawing}", lambda *_, **__: None)
    cloze = ["++history.mask=0.2"] if trunk == "bert4rec" else []
    more = ["++trainer.precision=bf16-mixed", "++trainer.log_every_n_steps=1"]
    score = train(compose([f"trunk={trunk}", *NEXT, *cloze, *more, *shop_settings, *SHORT]), tmp_path)
    assert 0 <= score <= 1
