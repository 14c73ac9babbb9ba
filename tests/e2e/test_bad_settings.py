"""Settings that cannot be: each ends with 2, is named, with what else is wrong, and leaves nothing behind.

The numbers are those of section 3 of the notes on reliability; data's own are in `unit/data/test_bad_files` and
`unit/data/test_bad_tables`, checkpoints' in `unit/test_artefacts`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from command import graftrec

pytestmark = pytest.mark.slow
FIXED = ["balancer=fixed", "++balancer.weights={interest: %s, recommend: 1, relevance: 1}"]
CASES: list[tuple[int, str, list[str], list[str]]] = [
    (43, "key", ["optimzer.lr=1"], ["there is no 'optimzer.lr'; did you mean 'optimizer.lr'?"]),
    (44, "option", ["trunk=mmoee"], ["no trunk named 'mmoee'; did you mean 'mmoe'?"]),
    (45, "text for a number", ["transfer.epochs=abc"], ["transfer.epochs: should be int, found 'abc'"]),
    (46, "nothing for a number", ["transfer.epochs="], ["transfer.epochs: should be int, found ''"]),
    (46, "nothing for a word", ["schedule="], ["schedule: should be one_cycle or constant, found ''"]),
    (47, "two that lead nowhere", ["optimizer.lr=${nope}", "seed=${nada}"],
     ["optimizer.lr: ", "nope", "seed: ", "nada"]),
    (48, "two without a value", ["dataset=movielens_movietweetings", "protocol=cross_domain"],
     ["dataset.parts.movielens.root: has no value", "dataset.parts.movietweetings.root: has no value"]),
    (49, "two roles", ["task@source=[recommend]"], ["also selected as source; a task has one role"]),
    (49, "no target", ["task@target=[]"], ["no target task is selected"]),
    (49, "no such task", ["task@source=[intrest]"], ["no task named 'intrest'; did you mean 'interest'?"]),
    (50, "negative", [FIXED[0], FIXED[1] % "-1"], ["weights"]),
    (50, "NaN", [FIXED[0], FIXED[1] % "nan"], ["weights"]),
    (50, "all 0", ["balancer=fixed", "++balancer.weights={interest: 0, recommend: 0, relevance: 0}"], ["weights"]),
    (50, "no such task", ["balancer=fixed", "++balancer.weights={intrest: 1}"], ["did you mean 'interest'?"]),
    (50, "of a task", ["++target.recommend.weight=0"], ["weight should be positive. Found 0"]),
    (50, "of a task, NaN", ["++target.recommend.weight=nan"], ["weight: should be a finite number, found nan"]),
    (51, "batch size 0", ["protocol.batch_size=0"], ["batch_size should be at least 1. Found 0"]),
    (51, "batch size -1", ["protocol.batch_size=-1"], ["batch_size should be at least 1. Found -1"]),
    (51, "experts", ["trunk=mmoe", "trunk.experts=0"], ["experts"]),
    (51, "dropout", ["encoder.dropout=1.5"], ["dropout"]),
    (51, "rate NaN", ["optimizer.lr=nan"], ["optimizer.lr: should be a finite number, found nan"]),
    (51, "rate infinite", ["optimizer.lr=1e400"], ["optimizer.lr: should be a finite number, found inf"]),
    (51, "rate negative", ["optimizer.lr=-1"], ["learning rate: -1"]),
    (51, "epochs", ["transfer.epochs=0"], ["epochs should be at least 1. Found 0"]),
    (51, "lambda", ["lambda_shared=-0.1"], ["lambda_shared: should be a number of at least 0"]),
    (56, "a device that is not here", ["trainer.accelerator=mps"], ["trainer: ", "MPSAccelerator"]),
    (56, "an accelerator", ["trainer.accelerator=tpuu"], ["trainer.accelerator: should be auto, cpu", "found 'tpuu'"]),
    (56, "a precision", ["++trainer.precision=12-mixed"], ["trainer.precision: should be", "found '12-mixed'"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"), [case[2:] for case in CASES], ids=[f"row{row}-{what}" for row, what, *_ in CASES]
)
def test_it_is_named_and_nothing_is_left(
    words: list[str], said: list[str], shop_settings: list[str], tmp_path: Path
) -> None:
    data = [] if any(word.startswith("dataset=") for word in words) else shop_settings
    done = graftrec("train", *data, *words, "hydra.run.dir=run", cwd=tmp_path, code=2)
    for part in said:
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_all_of_them_are_named_at_once(shop_settings: list[str], tmp_path: Path) -> None:
    wrong = [case for case in CASES if case[0] in (43, 44, 45, 49) and case[1] != "two roles"]
    words = [word for _, _, settings, _ in wrong for word in settings]
    said = graftrec("train", *shop_settings, *words, cwd=tmp_path, code=2).stderr
    for _, _, _, parts in wrong:
        assert all(part in said for part in parts)
