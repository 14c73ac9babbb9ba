"""A run that was stopped anywhere goes on bit by bit: weights, optimizer, balancer, order of rows, dropout and logs.

Faults strike at chosen points (`graftrec.utils.fault_injection`). In this process SIGKILL is an exception that nobody
expects; the kill matrix, which is slow, has processes of its own.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from graftrec.config.instantiate import arguments, build, resolve
from graftrec.data.protocols.base import Protocol
from graftrec.training.builder import assemble, protocol_of, streams_of
from graftrec.training.callbacks.checkpointing import Keeper
from graftrec.training.callbacks.progress import PhaseProgress
from graftrec.training.checkpoints import checkpoint
from graftrec.training.checkpoints.checkpoint import BEST, LAST, PREVIOUS, check_fit, configuration, load, weights
from graftrec.training.fit import Going, run_plan, train_plan, twin_plan
from graftrec.training.loggers.logs import CsvLog
from graftrec.transfer.base import ROLES
from graftrec.utils import fault_injection
from graftrec.utils.errors import DataError, outcome
from graftrec.utils.signals import stop
from processes import server

Compose = Callable[[list[str]], dict[str, Any]]
TASKS = ["task@source=[interest]", "task@target=[recommend]", "task@shared=[relevance]"]
TWO_DOMAINS = ["protocol=cross_domain", "++dataset.domain=department", "trunk=shared_bottom", "task@shared=[]",
               "task@source=[grocery_recommend]", "task@target=[produce_recommend]"]  # fmt: skip
SUM = {"_target_": "graftrec.training.balancers.sum.Sum"}
TEN = 27  # rows of a batch, of which there are then ten
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

    def go(self, fault: str = "", going: Going | None = None, twin: bool = False, test: bool = True) -> int:
        """Train, the twin as well if asked for; the exit code, or minus the signal that ended it."""
        os.environ[fault_injection.VARIABLE] = fault
        fault_injection._passed.clear()
        self.folder.mkdir(exist_ok=True)
        logs = [CsvLog(self.folder)]
        code, reason = 0, ""
        try:
            with stop.signals():
                plan, where = build(self.tree["transfer"]).phases(), self.folder / "checkpoints"
                run = run_plan if test else train_plan
                arm = run(self.tree, self.protocol, plan, where, logs, progress, going)
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
            os.environ.pop(fault_injection.VARIABLE)
        logs[0].close(code)
        (self.folder / "reason").write_text(reason)
        steps = [load(path)["global_step"] for path in sorted(self.folder.rglob(LAST), key=os.path.getmtime)]
        (self.folder / "steps.json").write_text(json.dumps(steps))
        return code

    def state(self, name: str = f"checkpoints/{BEST}") -> dict[str, Tensor]:
        return weights(self.folder / name)


def progress(name: str) -> PhaseProgress:
    return PhaseProgress(name, Console(quiet=True))


def same(one: Any, other: Any) -> bool:
    """Whether two trees of tensors and plain values are equal, bit by bit."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def logged(folder: Path) -> list[dict[str, str]]:
    """The cells of metrics.csv that are not empty, without those that tell the time."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: cell for name, cell in row.items() if cell and name not in TIMED} for row in rows]


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
        assert same(one.get("optimizer_states"), other.get("optimizer_states")), name
    assert logged(first.folder) == logged(second.folder)
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
    [("train:3:sigterm", 143), ("train:9:sigkill", -9), ("val:1:sigint", 130)],
)
def test_a_stopped_run_goes_on_bit_by_bit(fault: str, code: int, joint: Run, tmp_path: Path) -> None:
    often = {"save_every": 0.0} if code == -9 else {}
    again, found = stopped_and_gone_on(joint.at(tmp_path, **often), tmp_path / "run", fault)
    assert found == code
    assert_same(joint, again)


STRATEGIES = ["ptupcdr", "l2_sp", "lora", "adapters"]  # they keep rows, histories, or what they merge at a phase's end


@pytest.fixture(scope="module")
def crossing(compose: Compose, shop_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = [
        *shop_settings,
        *TWO_DOMAINS,
        "optimizer=rowwise",
        "++protocol.batch_size=40",
        "++protocol.overlap_users=0.5",
        "++encoder.width=8",
        "++trainer.limit_train_batches=3",
    ]
    return made(settings, compose, tmp_path_factory.mktemp("crossing"))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_phases_that_ended_are_read_and_the_rest_goes_on(
    strategy: str, crossing: Run, compose: Compose, tmp_path: Path
) -> None:
    more = {"transfer": compose([f"transfer={strategy}"])["transfer"]}
    for name in ("pretrain", "finetune", "source", "target", "bridge"):
        if name in arguments(resolve(more["transfer"]["_target_"])):
            more["transfer"][name] = 1
    whole = crossing.at(tmp_path / "whole", **more)
    assert whole.go(twin=True) == 0, (whole.folder / "reason").read_text()
    first = json.loads((whole.folder / "steps.json").read_text())
    struck = f"train:{first[0] + 2}:sigterm" if len(first) > 2 else "train:4:sigterm"
    again, code = stopped_and_gone_on(crossing.at(tmp_path, **more), tmp_path / "run", struck, twin=True)
    assert code == 143
    assert_same(whole, again)


@pytest.mark.slow
def test_a_twin_goes_on_after_a_plan_that_ended(joint: Run, tmp_path: Path) -> None:
    whole = joint.at(tmp_path / "whole")
    assert whole.go(twin=True) == 0
    steps = json.loads((whole.folder / "steps.json").read_text())
    again, code = stopped_and_gone_on(joint, tmp_path / "run", f"train:{steps[0] + 3}:sigterm", twin=True)
    assert code == 143
    assert_same(whole, again)


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [{"accumulate_grad_batches": 2}, {"val_check_interval": 3}, {"limit_train_batches": 4}],
    ids=["accumulates", "validates", "short epochs"],
)
def test_other_loops_go_on_as_well(setting: dict[str, Any], joint: Run, tmp_path: Path) -> None:
    more = {"trainer": {**joint.tree["trainer"], **setting}, "balancer": SUM}
    whole = joint.at(tmp_path / "whole", **more)
    assert whole.go() == 0
    if "limit_train_batches" in setting:
        assert load(whole.folder / "checkpoints" / LAST)["global_step"] == 2 * setting["limit_train_batches"]
    for number, fault in enumerate(["train:3:sigint", "train:5:sigint", "val:3:sigint"]):
        again, code = stopped_and_gone_on(joint.at(tmp_path, **more), tmp_path / str(number), fault)
        assert code == 130
        assert_same(whole, again)


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_last_good_checkpoint_is_taken_and_said(joint: Run, tmp_path: Path) -> None:
    run, said = joint.at(tmp_path / "run", save_every=0.0), []
    assert run.go("train:6:sigterm") == 143
    last, previous = (run.folder / "checkpoints" / name for name in (LAST, PREVIOUS))
    assert load(last)["global_step"] == load(previous)["global_step"] + 1
    damaged(last)
    with pytest.raises(DataError, match="CKPT-003"):  # asked for it, nothing else will do
        train_plan(run.tree, run.protocol, build(run.tree["transfer"]).phases(), last.parent, [], progress,
                   Going(said.append, last))  # fmt: skip
    assert said == []
    assert run.go(going=Going(said.append)) == 0
    assert said == [line for line in said if "is damaged" in line and f"going on from {previous}" in line]
    assert len(said) == 1
    assert_same(joint, run)


@pytest.mark.slow
def test_without_a_good_checkpoint_the_phase_begins_anew(joint: Run, tmp_path: Path) -> None:
    run, said = joint.at(tmp_path / "run"), []
    assert run.go("train:6:sigterm") == 143
    damaged(run.folder / "checkpoints" / LAST)
    assert run.go(going=Going(said.append)) == 0
    assert "begins anew" in said[0]
    assert_same(joint, run)


@pytest.mark.slow
def test_one_checkpoint_that_is_asked_for(joint: Run, tmp_path: Path) -> None:
    run = joint.at(tmp_path / "run", save_every=0.0)
    assert run.go("train:6:sigterm") == 143
    assert run.go(going=Going(exactly=run.folder / "checkpoints" / PREVIOUS)) == 0
    assert_same(joint, run)


def test_another_models_checkpoint_names_what_differs(joint: Run, compose: Compose, tmp_path: Path) -> None:
    run = joint.at(tmp_path / "run")
    assert run.go("train:6:sigterm") == 143
    fewer = run.at(run.folder, source={})
    assert fewer.go(going=Going()) == 2
    assert "task interest is in the checkpoint and not here" in (run.folder / "reason").read_text()


@pytest.mark.slow
def test_a_full_disk_ends_with_its_code_and_the_run_goes_on(joint: Run, tmp_path: Path) -> None:
    again, code = stopped_and_gone_on(joint.at(tmp_path, save_every=0.0), tmp_path / "run", "save:13:enospc")
    assert code == 74
    assert_same(joint, again)


GOLDEN = Path(__file__).parents[2] / "golden"


def test_every_checkpoint_says_which_data_it_belongs_to(joint: Run, tmp_path: Path) -> None:
    """The last one and the best one, which serves; a run of other data does not go on from them."""
    for path in joint.folder.rglob("*.ckpt"):
        assert checkpoint.belongs_to(load(path))["fingerprint"] == joint.protocol.fingerprint, path
    own = joint.protocol._named
    again = joint.at(Path(shutil.copytree(joint.folder, tmp_path / "run")))
    try:
        joint.protocol._named = lambda: "another"
        for name in (BEST, LAST):
            with pytest.raises(DataError, match=r"CKPT-008 .*trained on other data"):
                train_plan(again.tree, again.protocol, build(again.tree["transfer"]).phases(),
                           again.folder / "checkpoints", [], progress, Going())  # fmt: skip
            (again.folder / "checkpoints" / name).unlink()
    finally:
        joint.protocol._named = own


def test_a_checkpoint_that_no_network_of_today_computes_is_refused() -> None:
    """``schema_0`` was made before schemas had a number, when an event's age had a bias."""
    with pytest.raises(DataError, match=r"CKPT-007.*an event's age had a bias") as error:
        load(GOLDEN / "schema_0" / BEST)
    assert str(GOLDEN / "schema_0" / BEST) in str(error.value)


@pytest.mark.parametrize("schema", [2, 3])
def test_a_checkpoint_of_an_earlier_version_still_serves(shop: Path, joint: Run, schema: int) -> None:
    """What the run of this file left with schemas 2 and 3, with the names that classes had then."""
    old = GOLDEN / f"schema_{schema}" / BEST
    found, tree = load(old), configuration(old)
    assert found["graftrec"]["schema"] == checkpoint.SCHEMA
    spread = float(weights(old)["tasks.relevance.spread"])
    assert spread == 1 if schema == 2 else 0 < spread < 1  # numbers were learnt in their own unit
    tree["dataset"] |= {"path": f"{shop}/lines.parquet"}
    tree["dataset"] |= {"items": f"{shop}/products.parquet", "users": f"{shop}/households.parquet"}
    module = assemble(tree, joint.protocol, ROLES, 0)
    check_fit(weights(old), module, str(old))
    module.load_state_dict(weights(old), strict=True)


# --- the kill matrix: at each of ten batches, in validation and while saving, by each signal


@dataclass(frozen=True)
class Matrix:
    """The uninterrupted run, and what each of its saves was for: ``batch``, ``validation``, ``epoch`` or ``best``."""

    run: Run
    saves: list[str]


@pytest.fixture(scope="module")
def matrix(joint: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """Ten batches with five validations, of three batches each, and a save after each batch."""
    trainer = {**joint.tree["trainer"], "val_check_interval": 2}
    transfer = {**joint.tree["transfer"], "epochs": 1}
    tree = {"trainer": trainer, "transfer": transfer, "save_every": 0.0}
    tree["protocol"] = {**joint.tree["protocol"], "batch_size": TEN}
    run, saves = joint.at(tmp_path_factory.mktemp("matrix"), **tree), []
    keep, save = Keeper._save, checkpoint.save

    def kept(self: Keeper, trainer: Any, place: str) -> None:
        saves.append(place)
        keep(self, trainer, place)

    def saved(content: Any, path: Path, keep: str = "") -> None:
        saves.extend(["best"] * (path.name == BEST))
        save(content, path, keep)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(joint.protocol, "batch_size", TEN)
        with pytest.MonkeyPatch.context() as watched:
            watched.setattr(Keeper, "_save", kept)
            watched.setattr(checkpoint, "save", saved)
            assert run.go(test=False) == 0
        assert load(run.folder / "checkpoints" / LAST)["global_step"] == 10
        assert saves[:5] == ["batch", "validation", "best", "batch", "validation"]
        yield Matrix(run, saves)


def in_a_process(tree: dict[str, Any], folder: Path, fault: str, going: Going | None) -> None:
    """What a process does that is to be killed. It reads the data itself: polars' threads would not survive a fork."""
    protocol = protocol_of(tree)
    protocol.prepare(streams_of(tree), judged=streams_of(tree, ("target",)))
    torch.set_num_threads(1)
    Run(tree, protocol, folder).go(fault, going, test=False)


def killed(run: Run, fault: str, going: Going | None) -> int | None:
    """Train in a process of its own, for a signal that no process survives; its exit code."""
    process = server().Process(target=in_a_process, args=(run.tree, run.folder, fault, going))
    process.start()
    process.join(120)
    return process.exitcode


CODES = {"sigterm": 143, "sigint": 130, "sigkill": -9}
# Each run goes on where the one before was struck. A batch that a kill cost, or a validation, is done again, so the
# count of what is passed before the next strike is one more; a validation has three batches.
COUNTS = {("train", "sigterm"): [1] * 10, ("train", "sigint"): [1] * 10, ("train", "sigkill"): [1, *[2] * 9]}
COUNTS |= {("val", kind): [1, 2, 3, 4, 2, 3, 4, 2, 3, 4] for kind in CODES}


def chains(saves: Sequence[str], kind: str) -> list[list[int]]:
    """Counts that strike each of the first ten saves once, at one of its four points, in runs that go on."""
    open_, found = list(range(10)), []
    while open_:
        state, counts = -1, []  # the save that is gone on from
        while later := [save for save in open_ if save > state]:
            save, point = later[0], 1 + later[0] % 4
            counts.append(4 * (save - state - 1) + point)
            open_.remove(save)
            if kind == "sigkill":  # at the last point the file has its name
                whole = save + (point == 4)
            elif saves[save] == "validation":  # which begins anew
                whole = save + 1
            else:  # the signal is granted at the next save
                whole = next(after for after in range(save + 1, len(saves)) if saves[after] != "best") + 1
            state = max((before for before in range(whole) if saves[before] != "best"), default=-1)
        found.append(counts)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("point", ["train", "val", "save"])
def test_kill_matrix(point: str, kind: str, matrix: Matrix, tmp_path: Path) -> None:
    struck = 0
    for number, counts in enumerate(chains(matrix.saves, kind) if point == "save" else [COUNTS[point, kind]]):
        run, going = matrix.run.at(tmp_path / str(number)), None
        for count in counts:
            fault = f"{point}:{count}:{kind}"
            code = killed(run, fault, going) if kind == "sigkill" else run.go(fault, going, test=False)
            assert code == CODES[kind], (fault, struck)
            struck, going = struck + 1, Going()
        assert run.go(going=going, test=False) == 0
        assert_same(matrix.run, run)
    assert struck == 10
