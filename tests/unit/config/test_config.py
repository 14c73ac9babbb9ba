"""The configuration is checked all at once, and only our classes are built."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest

from graftrec.config import instantiate
from graftrec.runs.overrides import problems_of_command
from graftrec.utils.errors import UserError


class Head:
    def __init__(self, in_dim: int, hidden: Sequence[int] = (8,)) -> None:
        self.in_dim, self.hidden = in_dim, hidden


class Task:
    def __init__(self, label: str, head: Head, weight: float = 1.0) -> None:
        self.label, self.head, self.weight = label, head, weight


class Trunk:
    def __init__(
        self, fields: int, layers: int = 1, dropout: float = 0.1, norm: Literal["pre", "post"] = "pre"
    ) -> None:
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout should be in [0, 1), found {dropout}")
        self.fields, self.layers = fields, layers


class Wide:
    def __init__(self, fields: int, experts: int) -> None:
        self.fields, self.experts = fields, experts


FILES = {
    "train.yaml": """
defaults: [{dataset: toy}, {task@source: [interest]}, {task@target: [buy]}, {task@shared: []}, {trunk: deep},
  {optimizer: rows}, {experiment: null}, {sweep: null}, _self_]
source: {}
target: {}
shared: {}
seed: 0
lambda_shared: 0.5
hydra: {run: {dir: .}}
""",
    "dataset/toy.yaml": "path: toy",
    "dataset/files.yaml": "path: ???",
    "trunk/deep.yaml": "_target_: scratch.Trunk",
    "trunk/wide.yaml": "{_target_: scratch.Wide, experts: 2}",
    "optimizer/rows.yaml": "{lr: 0.1, table_lr: 0.2}",
    "head/small.yaml": "_target_: scratch.Head",
    "head/large.yaml": "{_target_: scratch.Head, hidden: [64, 64]}",
    "task/interest.yaml": "defaults: [/head@interest.head: small]\ninterest: {_target_: scratch.Task, label: category}",
    "task/buy.yaml": "defaults: [/head@buy.head: small]\nbuy: {_target_: scratch.Task, label: bought}",
    "experiment/two.yaml": "# @package _global_\nsource: {interest: {weight: 2.0}}\nlambda_shared: 0.1",
    "sweep/lr.yaml": "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {optimzer.lr: '1,2'}}}",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    module = ModuleType("scratch")
    for cls in (Head, Task, Trunk, Wide):
        monkeypatch.setattr(cls, "__module__", "scratch")
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, "scratch", module)
    monkeypatch.setattr(instantiate, "ALLOWED", (*instantiate.ALLOWED, "scratch."))
    monkeypatch.setattr(instantiate, "TASK", ("scratch.Task",))
    monkeypatch.setattr(instantiate, "SLOTS", {"trunk": ("scratch.Trunk", "scratch.Wide"), "t": ("scratch.Task",)})
    conf = write(tmp_path / "conf", FILES)
    monkeypatch.setattr(instantiate, "conf_dir", lambda: conf)
    return conf


def check(*argv: str, dirs: Sequence[str] = ()) -> list[str]:
    return problems_of_command("train", list(argv), dirs)


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("seed=1", "trunk=wide", "optimizer.lr=1e-3"),
        ("task@source=[]", "task@target=[buy,interest]", "lambda_shared=0"),
        ("experiment=two",),
        ("experiment=two", "task@source=[]"),
        ("head@target.buy.head=large",),
        ("+target.buy.weight=2",),
        ("~optimizer.table_lr",),
        ("~trunk",),
        ("-m", "trunk=deep,wide", "seed=range(3)"),
        ("-m", "task@source=[],[interest]", "seed=0,1"),
        ("-m", "trunk=glob(*)"),
        ("seed=0", "-m", "optimizer.lr=0.1,0.2"),
        ("trunk.dropout=0",),
        ("hydra.run.dir=elsewhere/x",),
        ("target.buy.head.hidden=[1,2]",),
    ],
)
def test_right_commands_have_no_problems(argv: tuple[str, ...]) -> None:
    assert check(*argv) == []


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("optimzer.lr=1", "optimzer.lr=1: there is no 'optimzer.lr'; did you mean 'optimizer.lr'?"),
        ("trnk.layrs=1", "did you mean 'trunk.layers'?"),
        ("lr=1", "lr=1: there is no 'lr'; write optimizer.lr=1"),
        ("trunk=deap", "trunk: no trunk named 'deap'; did you mean 'deep'?"),
        ("trnk=deep", "did you mean 'trunk'?"),
        ("task@source=[interest,buyy]", "task@source: no task named 'buyy'; did you mean 'buy'?"),
        ("task@sorce=[buy]", "did you mean 'task@source'?"),
        ("tusk@source=[buy]", "there is no group 'tusk'; did you mean 'task'?"),
        ("experiment=tow", "experiment: no experiment named 'tow'; did you mean 'two'?"),
        ("target.buy.head=large", "did you mean head@target.buy.head=large?"),
        ("trunk.wide=1", "did you mean trunk=wide?"),
        ("trunk={layers: 2}", "'trunk' is a group"),
        ("source=interest", "'source' is a mapping"),
        ("~optimizer.lrr", "there is no 'optimizer.lrr'; did you mean 'optimizer.lr'?"),
        ("+sede=1", "there is no 'sede'; did you mean 'seed'?"),
        ("+trunk.wdth=2", "trunk.wdth: scratch.Trunk takes no 'wdth'"),
        ("seed=1,2", "several values need --multirun"),
        ("seed=[1", "seed=[1: "),
        ("trunk.layers=many", "trunk.layers: should be int, found 'many'"),
        ("trunk.layers=true", "trunk.layers: should be int, found True"),
        ("trunk.norm=mid", "trunk.norm: should be Literal['pre', 'post'], found 'mid'"),
        ("target.buy.head.hidden=[a]", "target.buy.head.hidden: should be"),
        ("task@target=[]", "no target task is selected"),
        ("task@target=[buy,interest] task@source=[buy]", "target.buy: also selected as source"),
        ("dataset=files", "dataset.path: has no value"),
        ("optimizer.lr=${nowhere}", "optimizer.lr: "),
        ("+trunk._partial_=true", "takes no '_partial_'"),
        ("--epochs=3", "--epochs=3: no such flag"),
        ("-m trunk=deep,wde", "no trunk named 'wde'; did you mean 'wide'?"),
        ("-m trunk.layers=1,x", "trunk.layers: should be int, found 'x'"),
        ("-m trunk=deep,wide trunk.layers=2", "trunk.layers: scratch.Wide takes no 'layers'"),
        ("sweep=lr", "there is no 'optimzer.lr'"),
    ],
)
def test_each_mistake_is_named_with_its_cure(argv: str, said: str) -> None:
    words = [argv] if "{" in argv or "[1" in argv else argv.split(" ")
    problems = check(*words)
    assert len(problems) == 1, problems
    assert said in problems[0]


def test_all_mistakes_are_reported_at_once() -> None:
    problems = check("optimzer.lr=1", "trunk=deap", "sede=3", "target.buy.weight=x")
    assert len(problems) == 4, problems


def test_a_constructors_default_needs_no_yaml() -> None:
    argv = ["trunk.layers=3", "seed=1"]
    assert problems_of_command("train", argv, []) == []
    assert argv == ["++trunk.layers=3", "seed=1"]
    argv = ["seed=1", "-m", "trunk.layers=1,2"]
    assert problems_of_command("train", argv, []) == []
    assert argv == ["-m", "seed=1", "++trunk.layers=1,2"]


def test_config_dir_adds_options(tmp_path: Path) -> None:
    mine = write(tmp_path / "mine", {"trunk/own.yaml": "{_target_: scratch.Trunk, layers: 9}"})
    assert check("trunk=own", "--config-dir", str(mine), dirs=[str(mine)]) == []
    assert check("trunk=own")
    assert "no such folder" in check("--config-dir", "/nowhere", dirs=["/nowhere"])[0]


def test_required_arguments_must_be_set(scratch: Path) -> None:
    (scratch / "trunk" / "wide.yaml").write_text("_target_: scratch.Wide")
    assert check("trunk=wide") == ["trunk.experts: scratch.Wide needs 'experts', and it is not set"]


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "torch.load",
        "torch.optim.adam.torch.load",
        "graftrec.config.instantiate.Path",
        "graftrec.config.instantiate.json.loads",
        "graftrec.config.instantiate.build",
        "graftrec.__main__.main",
        "graftrec.nowhere.Thing",
        "graftrec.utils.errors.UserEror",
        "scratchy.Trunk",
        "torch.optim",
    ],
)
def test_only_our_own_classes_are_resolved(path: str) -> None:
    with pytest.raises(UserError):
        instantiate.resolve(path)
    assert instantiate.problems_of_tree({"trunk": {"_target_": path}})[0].startswith("trunk._target_: ")


def test_resolve_finds_classes_and_names_near_ones() -> None:
    import torch

    assert instantiate.resolve("torch.optim.AdamW") is torch.optim.AdamW
    assert instantiate.resolve("graftrec.utils.errors.UserError") is UserError
    with pytest.raises(UserError, match="did you mean 'UserError'"):
        instantiate.resolve("graftrec.utils.errors.UserEror")


def test_build_nests_and_completes() -> None:
    tree = {"_target_": "scratch.Task", "label": "x", "head": {"_target_": "scratch.Head", "hidden": [2]}}
    task = instantiate.build(tree, in_dim=5, classes=7)
    assert (task.label, task.head.in_dim, task.head.hidden) == ("x", 5, [2])


def test_a_constructors_value_error_is_the_users() -> None:
    with pytest.raises(UserError, match="dropout should be in"):
        instantiate.build({"_target_": "scratch.Trunk", "dropout": 7.0}, fields=1)


def test_a_slot_wants_its_own_kind() -> None:
    tree = {"t": {"_target_": "scratch.Task", "label": "x", "head": {"_target_": "scratch.Wide", "experts": 1}}}
    assert instantiate.problems_of_tree(tree)[0].startswith("t.head: should be Head")


@pytest.mark.parametrize(
    ("value", "hint", "right"),
    [
        (1, float, True),
        (True, float, False),
        (True, int, False),
        (1.0, int, False),
        (None, int, False),
        (None, int | None, True),
        ("a", Sequence[str], False),
        (["a"], Sequence[str], True),
        ({"a": 1}, dict[str, float], True),
        ({"a": "b"}, dict[str, float], False),
        ("x", Any, True),
        ("x", Path, True),
    ],
)
def test_fits(value: Any, hint: Any, right: bool) -> None:
    assert instantiate.fits(value, hint) is right


def test_fingerprint_ignores_where_it_runs() -> None:
    tree = {"seed": 1, "trainer": {"devices": 1, "clip": 1.0}}
    elsewhere = {"devices": 2, "accelerator": "gpu", "strategy": "ddp", "num_nodes": 2}
    same = {"trainer": {"clip": 1.0, **elsewhere}, "seed": 1, "hydra": {"x": 1}, "logger": {"project": "p"}}
    assert instantiate.fingerprint(tree) == instantiate.fingerprint(same)
    assert instantiate.fingerprint(tree) != instantiate.fingerprint({**tree, "seed": 2})
    assert instantiate.fingerprint(tree) != instantiate.fingerprint({**tree, "trainer": {"devices": 1, "clip": 2.0}})
    assert len(instantiate.fingerprint(tree)) == 12


def test_orphans_are_dropped_by_name() -> None:
    tree = {"source": {"a": {"weight": 1}, "b": {"_target_": "x"}}, "target": {}}
    assert instantiate.drop_orphans(tree) == ["source.a"]
    assert tree == {"source": {"b": {"_target_": "x"}}, "target": {}}
