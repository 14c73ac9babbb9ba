"""A run that was stopped anywhere goes on bit by bit: weights, optimizer, balancer, order of rows, dropout and logs.

Faults strike at chosen points (`graftrec.faults`). In this process SIGKILL is an exception that nobody expects; the
kill matrix, which is slow, has processes of its own.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from rich.console import Console
from torch import Tensor

from graftrec import faults
from graftrec.assemble import protocol_of, streams_of
from graftrec.checkpoint import BEST, load, weights
from graftrec.config import build
from graftrec.data.protocols.base import Protocol
from graftrec.errors import outcome
from graftrec.phases import Going, run_plan, twin_plan
from graftrec.report.logs import CsvLog
from graftrec.report.progress import PhaseProgress
from graftrec.stop import stop

Compose = Callable[[list[str]], dict[str, Any]]
TASKS = ["task@source=[interest]", "task@target=[recommend]", "task@shared=[relevance]"]
TWO_DOMAINS = ["protocol=cross_domain", "++dataset.domain=department", "trunk=shared_bottom", "task@shared=[]",
               "task@source=[grocery_recommend]", "task@target=[produce_recommend]"]  # fmt: skip
BATCHES, STRIKES = 10, {"sigterm": 143, "sigint": 130, "sigkill": -signal.SIGKILL}
TIMED = ["train/flops", "train/flops_per_step", "train/model_flops_utilisation"]


class Killed(BaseException):
    """What SIGKILL is in this process: nothing is saved any more."""


def kill_or_raise(pid: int, number: int) -> None:
    if number == signal.SIGKILL:
        raise Killed
    signal.raise_signal(number)


class Run:
    """A tree with its data, and where it trains."""

    def __init__(self, tree: dict[str, Any], protocol: Protocol, folder: Path) -> None:
        self.tree, self.protocol, self.folder = tree, protocol, folder

    def at(self, folder: Path, **settings: Any) -> Run:
        return Run({**self.tree, **settings}, self.protocol, folder)

    def go(self, fault: str = "", going: Going | None = None, twin: bool = False) -> int:
        """Train, the twin as well if asked for; the exit code, or minus the signal that ended it."""
        os.environ[faults.VARIABLE] = fault
        faults._passed.clear()
        self.folder.mkdir(exist_ok=True)
        logs = [CsvLog(self.folder)]
        code, reason = 0, ""
        try:
            with stop.signals():
                plan, where = build(self.tree["transfer"]).phases(), self.folder / "checkpoints"
                arm = run_plan(self.tree, self.protocol, plan, where, logs, progress, going)
                arms = [arm]
                if twin:
                    alone = {**self.tree, "source": {}, "shared": {}}
                    plan = twin_plan(plan)
                    arms.append(run_plan(alone, self.protocol, plan, where / "twin", logs, progress, going))
                found = [{t: {m: v.value for m, v in r.items()} for t, r in arm.test.items()} for arm in arms]
                (self.folder / "test.json").write_text(json.dumps([found, [arm.score for arm in arms]]))
        except Killed:
            return -signal.SIGKILL
        except BaseException as error:
            code, reason = outcome(error)
            if code == 1:
                raise
        finally:
            os.environ.pop(faults.VARIABLE)
        logs[0].close(code)
        (self.folder / "reason").write_text(reason)
        return code

    def state(self, name: str = f"checkpoints/{BEST}") -> dict[str, Tensor]:
        return weights(self.folder / name)


def progress(name: str) -> PhaseProgress:
    return PhaseProgress(name, Console(quiet=True))


def assert_same(first: Run, second: Run) -> None:
    """Weights of all checkpoints, logs and metrics of two runs are the same."""
    names = sorted(str(path.relative_to(first.folder)) for path in first.folder.rglob("*.ckpt"))
    assert names == sorted(str(path.relative_to(second.folder)) for path in second.folder.rglob("*.ckpt"))
    for name in names:
        one, other = load(first.folder / name), load(second.folder / name)
        assert one["state_dict"].keys() == other["state_dict"].keys()
        for key, value in one["state_dict"].items():
            assert torch.equal(value, other["state_dict"][key]), (name, key)
        assert one["global_step"] == other["global_step"]
        torch.testing.assert_close(one.get("optimizer_states"), other.get("optimizer_states"), rtol=0, atol=0)
    rows = [pl.read_csv(run.folder / "metrics.csv", infer_schema_length=None) for run in (first, second)]
    assert rows[0].drop(TIMED, strict=False).equals(rows[1].select(rows[0].columns).drop(TIMED, strict=False))
    one_json, other_json = ((run.folder / "test.json").read_text() for run in (first, second))
    assert one_json == other_json


def made(settings: list[str], compose: Compose, folder: Path) -> Run:
    tree = compose([*settings, "++trainer.log_every_n_steps=3", "++trainer.accelerator=cpu"])
    protocol = protocol_of(tree)
    protocol.prepare(streams_of(tree), judged=streams_of(tree, ("target",)))
    return Run(tree, protocol, folder)


@pytest.fixture(scope="module")
def joint(compose: Compose, shop_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs of a few batches with everything that has a state: dropout, a balancer, a schedule; uninterrupted."""
    settings = [*shop_settings, *TASKS, "++transfer.epochs=2", "balancer=famo", "++protocol.batch_size=40",
                "++encoder.width=8"]  # fmt: skip
    run = made(settings, compose, tmp_path_factory.mktemp("joint"))
    assert run.go() == 0
    return run


def stopped_and_gone_on(run: Run, folder: Path, fault: str, **more: Any) -> tuple[Run, int]:
    """The run in another folder, struck and gone on with; the code that it was stopped with."""
    again = run.at(folder)
    code = again.go(fault, **more)
    assert again.go(going=Going(lambda line: None), **more) == 0
    return again, code


@pytest.fixture(autouse=True)
def no_real_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", kill_or_raise)


@pytest.mark.parametrize(
    ("fault", "code"),
    [("train:3:sigterm", 143), ("train:9:sigkill", -9), ("val:1:sigint", 130), ("save:7:sigkill", -9)],
)
def test_a_stopped_run_goes_on_bit_by_bit(fault: str, code: int, joint: Run, tmp_path: Path) -> None:
    often = {"save_every": 0.0} if code == -9 else {}
    again, found = stopped_and_gone_on(joint.at(tmp_path, **often), tmp_path / "run", fault)
    assert found == code
    assert_same(joint, again)
