"""Every class has its YAML, every YAML its class, and every YAML composes through the real checker."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml

import graftrec
from discovery import classes, path_of
from graftrec.config import instantiate
from graftrec.runs.overrides import problems_of_command

GROUPS = {  # group -> the package of its classes
    "interaction": "models.interactions",
    "trunk": "models.trunks",
    "head": "models.heads",
    "loss": "tasks.losses",
    "balancer": "training.balancers",
    "transfer": "transfer",
    "protocol": "data.protocols",
    "dataset": "data.datasets",
    "split": "data.splits",
    "task": "tasks",
}
ONE_FILE_EACH = ("interaction", "trunk", "head", "loss", "balancer", "transfer", "protocol", "split")
TRAINED_FOLDERS = sorted(folder.name for folder in instantiate.conf_dir().iterdir() if folder.is_dir())
FILES = sorted(path for path in instantiate.conf_dir().rglob("*.yaml"))
OPTIONS = [path for path in FILES if path.parent != instantiate.conf_dir()]
ROOTED = ("adult", "amazon_pair", "census", "food_kitchen", "kuairand", "kuairand_sequence", "movielens_cold_start")
ROOTED += ("sequences",)
TWO_ROOTS = ["dataset.parts.movielens.root=a", "dataset.parts.movietweetings.root=b"]
NEEDS = {"dataset/files": ["dataset.path=lines.parquet", "dataset.user=who", "dataset.item=what"]}
NEEDS |= {"dataset/movielens_movietweetings": TWO_ROOTS}
NEEDS |= {f"experiment/{name}": ["dataset.root=files"] for name in ROOTED}
NEEDS |= {"experiment/movies_by_text": TWO_ROOTS}
# an option reads better than the name of its module
SPLITS = {"time": "temporal", "random": "random_split", "official": "predefined"}


def name_of(path: Path) -> str:
    return str(path.relative_to(instantiate.conf_dir()).with_suffix(""))


def needs(path: Path) -> list[str]:
    """What has no default: most datasets want to know where their files are."""
    alone = ["dataset.root=files"] if "root: ???" in path.read_text() else []
    return NEEDS.get(name_of(path), alone)


def body(path: Path) -> dict[str, object]:
    """What a file puts into its place in the tree: a task's is under its own name."""
    tree = yaml.safe_load(path.read_text())
    return tree[path.stem] if path.parent.name == "task" else tree


@pytest.mark.parametrize("group", ONE_FILE_EACH)
def test_one_class_one_yaml(group: str) -> None:
    files = [
        path for path in sorted((instantiate.conf_dir() / group).glob("*.yaml")) if name_of(path) != "interaction/none"
    ]
    targets = {}
    for path in files:
        tree = body(path)
        target = instantiate.resolve(str(tree.pop("_target_")))
        assert set(tree) <= set(inspect.signature(target).parameters)
        targets[path.stem] = path_of(target)
        assert target.__module__.rpartition(".")[2] == SPLITS.get(path.stem, path.stem)
    assert {path_of(cls) for cls in classes(GROUPS[group])} == set(targets.values())
    assert len(files) == len(targets) >= 2
    assert graftrec.__version__


@pytest.mark.parametrize("group", ["dataset", "task"])
def test_every_class_has_a_yaml_and_every_yaml_a_class(group: str) -> None:
    named = set()
    for path in (instantiate.conf_dir() / group).glob("*.yaml"):
        tree = body(path)
        target = instantiate.resolve(str(tree.pop("_target_")))
        assert set(tree) - {"head", "loss", "defaults"} <= set(inspect.signature(target).parameters), path
        named.add(path_of(target))
    assert named == {path_of(cls) for cls in classes(GROUPS[group])}


def settings_of(path: Path) -> list[str]:
    """Settings that choose this file where it belongs."""
    group, option = path.parent.name, path.stem
    if group == "task":
        return [f"task@{role}=[{option if role == 'target' else ''}]" for role in instantiate.ROLES]
    if group in ("head", "loss"):
        more = {"gbce": ["++target.recommend.loss.t=0"]}.get(option, [])  # its t asks how large the catalogue is
        return [f"{group}@target.recommend.{group}={option}", *more]
    if group == "balancer" and instantiate.resolve(body(path)["_target_"]).scale_invariant:  # type: ignore[arg-type]
        return [f"{group}={option}", "source.interest.weight=1", "shared.relevance.weight=1"]
    return [f"{group}={option}", *needs(path)]


@pytest.mark.parametrize("path", OPTIONS, ids=name_of)
def test_every_yaml_composes_without_a_problem(path: Path) -> None:
    assert problems_of_command("train", settings_of(path), []) == []


def test_every_yaml_is_counted() -> None:
    primary = {path.stem for path in FILES if path.parent == instantiate.conf_dir()}
    assert primary == {"train", "predict", "data", "audit"}
    assert len(OPTIONS) + len(primary) == len(list(instantiate.conf_dir().rglob("*.y*ml")))
    assert len(TRAINED_FOLDERS) <= 15  # the budget of groups
    assert {path.parent.name for path in OPTIONS} == set(TRAINED_FOLDERS)
    assert set(GROUPS) == {*ONE_FILE_EACH, "dataset", "task"}


@pytest.mark.parametrize(
    ("verb", "settings"),
    [("data", []), ("predict", ["run=."]), ("audit", ["audit.seeds=2", "trunk=mmoe", "++trunk.experts=3"])],
)
def test_the_other_verbs_compose(verb: str, settings: list[str]) -> None:
    assert problems_of_command(verb, settings, []) == []


@pytest.mark.parametrize("path", [path for path in OPTIONS if path.parent.name == "experiment"], ids=name_of)
def test_an_experiment_is_a_difference(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 25
    header = [line for line in lines if line.startswith("#")]
    assert header[0] == "# @package _global_"
    assert any(re.match(rf"# graftrec train .*experiment={path.stem}\b", line) for line in header)


@pytest.mark.parametrize("path", [path for path in OPTIONS if path.parent.name != "experiment"], ids=name_of)
def test_a_group_file_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 15


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_code_in_yaml(path: Path) -> None:
    """No resolver that computes; the two of the run folders' names are Hydra's clock and our fingerprint."""
    resolvers = set(re.findall(r"\$\{(\w+(?:\.\w+)*):", path.read_text()))
    assert resolvers <= {"now", "fingerprint"}
