"""What cannot be right together: settings that are fine alone, of which one undoes the other or makes it mean nothing.

Each would end well and say nothing: a weight that a balancer cancels, a field that an interaction has replaced, a
comparison of nobody with nobody. All are said at once, before anything is read or trained, each with what to type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from graftrec.config.instantiate import ROLES, arguments, build, resolve
from graftrec.data.protocols.base import Protocol
from graftrec.data.schema import Stream
from graftrec.models.heads.linear import Linear
from graftrec.models.interactions.base import Interaction
from graftrec.models.trunks.base import Trunk
from graftrec.tasks.alignment import Alignment
from graftrec.tasks.base import Task
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.losses.gbce import Gbce
from graftrec.tasks.losses.info_nce import InfoNce
from graftrec.training.balancers.base import Balancer
from graftrec.training.balancers.sum import Sum
from graftrec.training.builder import prepare
from graftrec.training.distributed.fsdp import Sharded
from graftrec.training.optimizers.rowwise import RowWise
from graftrec.transfer.auto import Auto
from graftrec.transfer.base import Phase, Transfer
from graftrec.utils.errors import UserError
from graftrec.utils.machine import memory

Tree = Mapping[str, Any]


def prepared(tree: Tree) -> tuple[Protocol, float]:
    """As `prepare`, of settings that go together.

    Raises:
        UserError: with all that do not, those that need no data before it is read.
    """
    if problems := problems_together(tree):
        raise UserError(problems)
    protocol, seconds = prepare(tree)
    schemas = {name: stream.schema for name, stream in protocol.streams.items()}
    if problems := ranked_alike(tree, schemas):
        raise UserError(problems)
    return protocol, seconds


def problems_together(tree: Tree) -> list[str]:
    """Everything that a checked tree says and that cannot be right together; no data is needed."""
    parts = (_interaction, _one_task, _weights, _strengths, _lists, _clipping, _limits, _memory, _sharded)
    return [problem for part in parts for problem in part(tree)]


def ranked_alike(tree: Tree, streams: Mapping[str, Stream]) -> list[str]:
    """Rankings that would be the same for everybody, which only the streams of the data tell."""
    return [
        f"{place}.head: linear adds what it says of a user to what it says of an item, and stream '{task['stream']}' "
        f"has no cross columns of both, so everybody would get the same ranking; set head@{place}.head=mlp, or dot"
        for place, task in _tasks(tree).items()
        if _class(task, Task).ranks and _is(task["head"], Linear) and not _of_both(streams[str(task["stream"])])
    ]


def without_weight(tree: Tree) -> dict[str, Tree]:
    """Role and name -> task, of those whose weight the balancer takes out again: see `Balancer.scale_invariant`."""
    kind = _class(tree["balancer"], Balancer)
    inside = _balanced(tree, tuple(ROLES))
    return inside if kind.scale_invariant and len(inside) > 1 else {}


def weights_matter(tree: Tree) -> bool:
    """Whether a source or a shared task trains in another way if its weight is another."""
    return any(not place.startswith("target.") and place not in without_weight(tree) for place in _tasks(tree))


def _interaction(tree: Tree) -> Iterator[str]:
    if not tree.get("interaction"):
        return
    trunk, interaction = _class(tree["trunk"], Trunk), _class(tree["interaction"], Interaction)
    said = "; set interaction=none"
    if not any(_reads_trunk(task) for task in _tasks(tree).values()):
        yield f"interaction: stands before the trunk, which no task reads{said}, or reads=trunk for a task"
    elif trunk.sequential:
        yield f"interaction: {trunk.__name__} reads a sequence and no fields, which {interaction.__name__} makes{said}"
    elif trunk.by_name and not interaction.keeps_fields:
        yield (
            f"interaction: {trunk.__name__} reads fields by their names, and {interaction.__name__} leaves others in "
            f"their place{said}, or interaction=fm, which keeps them"
        )


def _one_task(tree: Tree) -> Iterator[str]:
    """A balancer in a plan that never trains two tasks which it could balance."""
    kind = _class(tree["balancer"], Balancer)
    if kind is Sum or any(len(_balanced(tree, phase.roles)) > 1 for phase in _phases(tree)):
        return
    among = "tasks that read the trunk" if kind.needs_gramian else "tasks"
    yield f"balancer: no phase of this plan trains two {among} for {kind.__name__} to balance; set balancer=sum"


def _weights(tree: Tree) -> Iterator[str]:
    balancer, inside = _class(tree["balancer"], Balancer).__name__, without_weight(tree)
    end = f"which {balancer} takes out again, as it asks for no loss's size"
    for place, task in inside.items():
        if _argument(task, "weight") != 1:
            weight = f"{float(_argument(task, 'weight')):g}"
            yield f"{place}.weight: is {weight}, {end}; set {place}.weight=1, or balancer=sum"
        if "across" in task and _class(task, Alignment).rises_by_loss and _argument(task, "rise") != "constant":
            yield f"{place}.rise: is a factor of a loss, {end}; set {place}.rise=constant, or balancer=sum"
    shared = [place for place in inside if place.startswith("shared.")]
    strength = float(tree["lambda_shared"])
    if shared and strength not in (0, 1):  # at 0 a task takes no part at all
        yield f"lambda_shared: is {strength:g}, {end}; set lambda_shared=1, 0 to leave it out, or balancer=sum"


def _strengths(tree: Tree) -> Iterator[str]:
    if not _is(tree["transfer"], Auto) or "strengths" not in tree["transfer"]:
        return
    chosen = [float(each) for each in tree["transfer"]["strengths"]]
    if set(chosen) != {1.0} and without_weight(tree) and not weights_matter(tree):
        balancer = _class(tree["balancer"], Balancer).__name__
        yield (
            f"transfer.strengths: are {chosen}, which {balancer} takes out again, as it asks for no loss's size; set "
            "transfer.strengths=[1.0], or balancer=sum"
        )


def _lists(tree: Tree) -> Iterator[str]:
    """Tasks that compare the candidates of a row, with candidates that are not there or have log q taken off."""
    drawn = tree.get("candidates") or {}
    for place, task in _tasks(tree).items():
        kind = _class(task, Task)
        if not kind.ranks or kind.over_catalogue or _class(task["loss"], Loss).form != "list":
            continue
        loss = _class(task["loss"], Loss).__name__
        if _argument(drawn, "negatives") == 0:
            yield (
                f"{place}.loss: {loss} compares what was chosen with negatives, and candidates.negatives=0 draws none; "
                f"set candidates.negatives=128, or loss@{place}.loss=bce"
            )
        elif _is(task["loss"], Gbce) and _argument(task["loss"], "t") and _argument(task["loss"], "rate") is None:
            yield (
                f"{place}.loss.t: undoes that few items are drawn, and nobody says how many are; set "
                f"++{place}.loss.rate to candidates.negatives / (items - 1), or ++{place}.loss.t=0"
            )
        elif (
            _is(task["loss"], InfoNce)
            and _argument(task["loss"], "temperature") != 1
            and _argument(drawn, "drawn") in ("popularity", "batch")
        ):
            yield (
                f"{place}.loss.temperature: would divide log q as well, which candidates.drawn="
                f"{_argument(drawn, 'drawn')} takes off; set {place}.loss.temperature=1 and the head's instead "
                f"(head@{place}.head=dot, ++{place}.head.temperature)"
            )


def _clipping(tree: Tree) -> Iterator[str]:
    trainer = tree.get("trainer") or {}
    algorithm, value = trainer.get("gradient_clip_algorithm"), trainer.get("gradient_clip_val")
    if algorithm is not None and not value:
        yield (
            f"trainer.gradient_clip_algorithm: is {algorithm}, and nothing says at which size; set "
            "++trainer.gradient_clip_val=1"
        )
    elif algorithm == "value" and _is(tree["optimizer"], RowWise):
        yield (
            "trainer.gradient_clip_algorithm: clips numbers one by one, which the rows of tables that RowWise moves do "
            "not take; set trainer.gradient_clip_algorithm=norm, or optimizer=adamw"
        )


def _limits(tree: Tree) -> Iterator[str]:
    limit = (tree.get("trainer") or {}).get("limit_test_batches")
    if tree.get("baselines") and limit is not None and (limit != 1.0 or type(limit) is int):  # 1 is one batch, 1.0 all
        yield (
            f"trainer.limit_test_batches: is {limit}, and simple models are judged on the whole test, so nothing could "
            "be put beside them; set baselines=false"
        )


def _sharded(tree: Tree) -> Iterator[str]:
    strategy, kind = (tree.get("trainer") or {}).get("strategy"), _class(tree["transfer"], Transfer)
    if isinstance(strategy, Mapping) and _is(strategy, Sharded) and kind.whole_weights:
        yield (
            f"trainer.strategy: every process has a part of each weight, and {kind.__name__} needs them whole; set "
            "trainer=ddp"
        )


def _memory(tree: Tree) -> Iterator[str]:
    """Negatives of a whole batch that no memory holds: an id and a vector for each."""
    drawn, there = _argument(tree["candidates"], "negatives"), memory()
    rows, width = _argument(tree["protocol"], "batch_size"), _argument(tree["encoder"], "width")
    size = rows * drawn * (8 + 4 * width)
    ranks = any(_class(task, Task).ranks and not _class(task, Task).over_catalogue for task in _tasks(tree).values())
    if ranks and there is not None and size > there:
        yield (
            f"candidates.negatives: {drawn:,} for each of {rows:,} rows of a batch need {size / 2**30:,.0f} GiB, and "
            f"this machine has {there / 2**30:,.0f} GiB; set fewer, or a smaller protocol.batch_size"
        )


def _tasks(tree: Tree) -> dict[str, Tree]:
    return {f"{role}.{name}": task for role in ROLES for name, task in (tree.get(role) or {}).items()}


def _balanced(tree: Tree, roles: tuple[str, ...]) -> dict[str, Tree]:
    """Tasks of these roles that the balancer sees: all, or those whose gradients meet."""
    met = _class(tree["balancer"], Balancer).needs_gramian
    return {
        place: task
        for place, task in _tasks(tree).items()
        if place.partition(".")[0] in roles and (_reads_trunk(task) or not met)
    }


def _phases(tree: Tree) -> list[Phase]:
    try:
        found: list[Phase] = build(tree["transfer"]).phases()
    except UserError:  # said where it is built for its own sake
        return [Phase("any", ROLES, 1)]
    return found


def _reads_trunk(task: Tree) -> bool:
    return bool(task.get("reads", "trunk") != "encoder")


def _of_both(stream: Stream) -> list[str]:
    """Cross columns that a user and an item have together; those of an item with everybody are the same for all."""
    return [name for name in stream.cross if not re.fullmatch(r"(item|first)(_[0-9.]+)?", name)]


def _argument(node: Tree, name: str) -> Any:
    """What a node sets, or its constructor takes where it does not."""
    return node.get(name, arguments(resolve(str(node["_target_"])))[name].default)


def _class(node: Tree, kind: type[Any]) -> type[Any]:
    found = resolve(str(node["_target_"]))
    if not issubclass(found, kind):
        raise TypeError(f"{node['_target_']} should be a {kind.__name__}. Found {found.__name__}.")
    return found


def _is(node: Tree, kind: type[Any]) -> bool:
    return issubclass(resolve(str(node["_target_"])), kind)
