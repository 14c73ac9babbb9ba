"""A typo is answered at once and in one line, with what to type instead."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from graftrec.config.other_names import CALLED, INSTEAD
from graftrec.runs.overrides import problems_of_command

VERBS = ("train", "audit", "predict", "data")


def problems(verb: str, *words: str) -> list[str]:
    return problems_of_command(verb, [*words], [], deep=False)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train epochs=3", "write transfer.epochs=3"),
        ("train max_epochs=3", "write transfer.epochs=3"),
        ("train trainer.max_epochs=3", "transfer.epochs"),
        ("train batch_size=64", "write protocol.batch_size=64"),
        ("train trainer.batch_size=64", "write protocol.batch_size=64"),
        ("train lr=0.1", "write optimizer.lr=0.1"),
        ("train model.lr=0.1", "write optimizer.lr=0.1"),
        ("train model.layers=2", "write trunk.layers=2"),
        ("train ckpt_path=a", "write resume=a"),
        ("train debug=fdr", "trainer.fast_dev_run=true"),
        ("train callbacks=x", "save_every"),
        ("train hparams_search=optuna", "hydra/sweeper=optuna"),
        ("train test=false", "leave it out"),
        ("train -m epochs=3,4", "write transfer.epochs=3,4"),
        ("audit epochs=3", "write transfer.epochs=3"),
        ("predict ckpt_path=a", "write run=a"),
        ("predict topk=5", "write k=5"),
        ("data path=a.csv", "dataset=files dataset.path=FILE"),
        ("train zzzzzz=1", "graftrec train --cfg job shows all"),
    ],
)
def test_what_others_call_a_key_is_translated_in_one_line(words: str, said: str) -> None:
    verb, *rest = words.split()
    (problem,) = problems(verb, *rest)
    assert said in problem
    assert "known:" not in problem
    assert len(problem) < 200


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_to_be_typed_instead_is_there(verb: str) -> None:
    """Each name of the tables is no key of ours, and what is written for it is one, or is said of another verb."""
    found = problems(verb, *(f"{key}=1" for key in [*CALLED, *INSTEAD]))
    written = [problem.rpartition("; write ")[2] for problem in found if "; write " in problem]
    assert written
    assert [wrong for wrong in problems(verb, *written) if "there is no" in wrong] == []


CHECK = """
import contextlib, io, json, sys, time
from graftrec.cli.main import main
found = []
for words in json.loads(sys.argv[1]):
    said, start = io.StringIO(), time.process_time()
    with contextlib.redirect_stderr(said):
        code = main(words)
    heavy = [name for name in ("torch", "pytorch_lightning", "sklearn") if name in sys.modules]
    found.append([words, code, heavy, said.getvalue(), time.process_time() - start])
print(json.dumps(found))
"""
TYPOS: list[tuple[str, str]] = [
    ("trian", "train"), ("train sede=1", "'seed'"), ("train trunk=mmeo", "'mmoe'"), ("train trnk=mmoe", "'trunk'"),
    ("train optimzer.lr=1", "'optimizer.lr'"), ("train epochs=3 seed=1", "transfer.epochs=3"),
    ("train trainer.max_epochs=3", "transfer.epochs"), ("train --epochs=3", "key=value"), ("audit sede=1", "'seed'"),
    ("train -m seed=0,1 sede=1", "'seed'"), ("predict rnu=x", "'run'"), ("data datset=adult", "'dataset'"),
    ("compare --metrc x", "'--metric'"), ("data init --usr x", "'--user'"), ("data get --rot x", "'--root'"),
]  # fmt: skip


def test_a_typo_is_answered_without_torch() -> None:
    words = json.dumps([typo.split() for typo, _ in TYPOS])
    done = subprocess.run([sys.executable, "-c", CHECK, words], capture_output=True, text=True, check=True)
    found: list[list[Any]] = json.loads(done.stdout.splitlines()[-1])
    for (typo, said), (_, code, heavy, printed, seconds) in zip(TYPOS, found, strict=True):
        assert (code, heavy) == (2, []), typo
        assert said in printed, typo
        assert seconds < 1.5, typo


def test_all_that_is_wrong_with_plain_keys_is_said_at_once() -> None:
    found = problems_of_command("train", ["sede=1", "seed=-1", "trunk=mmeo"], [])
    assert len(found) == 3, found
