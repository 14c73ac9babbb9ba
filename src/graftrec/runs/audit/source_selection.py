"""Trees that train what was chosen: with some of the sources, as strongly as asked, by a fixed strategy."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from graftrec.config import instantiate
from graftrec.training.builder import task_trees
from graftrec.transfer.auto import Auto
from graftrec.transfer.joint import Joint

Tree = Mapping[str, Any]


def is_auto(tree: Tree) -> bool:
    """Whether validation chooses the sources."""
    return issubclass(instantiate.resolve(str(tree["transfer"]["_target_"])), Auto)


def fixed(tree: Tree) -> dict[str, Any]:
    """The node ``transfer`` of the strategy that `Auto` tries, or of the fixed one that is there."""
    node = dict(tree["transfer"])
    if not is_auto(tree):
        return node
    if node.get("strategy"):
        return dict(node["strategy"])
    epochs = {} if node.get("epochs") is None else {"epochs": node["epochs"]}
    return {"_target_": f"{Joint.__module__}.{Joint.__name__}", **epochs}


def with_sources(tree: Tree, names: Collection[str]) -> dict[str, Any]:
    """The tree with those of its sources and shared tasks that are in ``names``."""
    found = dict(tree)
    for role in ("source", "shared"):
        found[role] = {name: task for name, task in (tree.get(role) or {}).items() if name in names}
    weights = (tree.get("balancer") or {}).get("weights")
    if isinstance(weights, Mapping):  # of the tasks that are there
        here = task_trees(found)
        found["balancer"] = {**tree["balancer"], "weights": {name: w for name, w in weights.items() if name in here}}
    return found


def settled(tree: Tree, strengths: Mapping[str, float]) -> dict[str, Any]:
    """The tree with a fixed strategy and the sources in ``strengths``, their weights multiplied with these."""
    found = with_sources({**tree, "transfer": fixed(tree)}, strengths)
    for role in ("source", "shared"):
        found[role] = {name: _scaled(task, strengths[name]) for name, task in found[role].items()}
    return found


def _scaled(task: Tree, strength: float) -> dict[str, Any]:
    if strength == 1:
        return dict(task)  # the same fingerprint as of an arm that nobody chose
    default = instantiate.arguments(instantiate.resolve(str(task["_target_"])))["weight"].default
    return {**task, "weight": float(task.get("weight", default)) * strength}
