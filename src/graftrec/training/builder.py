"""From a checked tree and prepared data to a module: the one place where dimensions meet constructors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from graftrec.config.instantiate import arguments, build, near, resolve
from graftrec.data.protocols.base import Protocol
from graftrec.data.schema import Edges, Schema, Stream
from graftrec.data.streams.base import StreamData
from graftrec.models.encoder import Encoder
from graftrec.models.trunks.base import Trunk
from graftrec.tasks.base import Task, joint, known, prior_of, spread_of, within
from graftrec.training.balancers.base import Balancer
from graftrec.training.lightning_module import GraftModule
from graftrec.training.optimizers.rowwise import RowWise
from graftrec.transfer.base import ROLES, Phase
from graftrec.utils.errors import DataError, UserError
from graftrec.utils.redaction import redact
from graftrec.utils.seeds import derived

WARM_UP = 0.1  # share of the steps


def task_trees(tree: Mapping[str, Any], roles: tuple[str, ...] = ROLES) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Task name -> (role, its tree), for the tasks of these roles."""
    return {name: (role, task) for role in ROLES if role in roles for name, task in (tree.get(role) or {}).items()}


def streams_of(tree: Mapping[str, Any], roles: tuple[str, ...] = ROLES) -> list[str]:
    """Streams that the tasks of these roles read, each once."""
    return list(dict.fromkeys(name for _, task in task_trees(tree, roles).values() for name in read_by(task)))


def read_by(task: Mapping[str, Any]) -> list[str]:
    """The streams that a task's tree names: one, or those that it compares."""
    return [str(name) for name in task["across"]] if "across" in task else [str(task["stream"])]


def protocol_of(tree: Mapping[str, Any]) -> Protocol:
    """The protocol of a tree with the dataset, the split and what a row sees; nothing is read yet."""
    parts = {name: build(tree[name]) for name in ("dataset", "split", "history", "candidates")}
    protocol: Protocol = build(tree["protocol"], **parts)
    return protocol


def problems_of_parts(tree: Mapping[str, Any]) -> list[str]:
    """What constructors refuse of a checked tree, of those parts that are built without any data."""
    tasks = list(task_trees(tree))
    parts: list[Callable[[], Any]] = [
        lambda: protocol_of(tree),
        lambda: build(tree["transfer"]),
        lambda: build(tree["optimizer"], params=[nn.Parameter(torch.zeros(1))]),
        lambda: build(tree["balancer"], tasks=tasks, seed=0),
        *(lambda each=each: build(each) for _, task in task_trees(tree).values() if (each := task.get("loss"))),
    ]
    problems = []
    for part in parts:
        try:
            part()
        except UserError as error:
            problems += error.problems
    return problems


def prepare(tree: Mapping[str, Any]) -> tuple[Protocol, float]:
    """Build the protocol and make the streams that the tasks read; the seconds it took.

    Raises:
        UserError: a stream or a column that does not exist. DataError: data that cannot be used.
    """
    start = time.monotonic()
    protocol = protocol_of(tree)
    protocol.prepare(streams_of(tree), judged=streams_of(tree, ("target",)))
    check_columns(tree, protocol)
    return protocol, time.monotonic() - start


def columns_of(task: Mapping[str, Any]) -> list[str]:
    """The labels that a task's tree names."""
    if "across" in task:
        return []
    return [str(column) for column in task["columns"]] if "columns" in task else [str(task["column"])]


def check_columns(tree: Mapping[str, Any], protocol: Protocol) -> None:
    """Every task has what it learns from.

    Raises:
        UserError: columns that a stream does not have as a label. DataError: tasks without a label in training.
    """
    problems = []
    for name, (role, task) in task_trees(tree).items():
        if "across" in task:
            continue
        labels = [label.name for label in protocol.streams[task["stream"]].schema.labels]
        asked: dict[str, list[Any]] = {"column": columns_of(task)}
        asked |= {key: [task[key]] for key in ("space", "row_weight") if task.get(key)}
        problems += [
            f"{role}.{name}.{key}: stream '{task['stream']}' has no label '{column}'{near(str(column), labels)}"
            for key, columns in asked.items()
            for column in columns
            if column not in labels
        ]
    if problems:
        raise UserError(problems)
    DataError.raise_all(
        [
            DataError("TASK-005", f"{role}.{name}: no training row of stream '{task['stream']}' has its label")
            for name, (role, task) in task_trees(tree).items()
            if "across" not in task and not _learns(task, protocol.streams[task["stream"]])
        ]
    )


def _learns(task: Mapping[str, Any], stream: StreamData) -> bool:
    """Whether a training row has a label of the task, inside its space; a sample says so of most."""
    space = str(task.get("space") or "")

    def there(values: Callable[[str], Tensor]) -> bool:
        labels = [values(column) for column in columns_of(task)]
        return any(bool(known(within(each, values(space)) if space else each).any()) for each in labels)

    return there(lambda column: stream.sample[column]) or there(stream.labels)


def learnt_in(tree: Mapping[str, Any], phase: Phase) -> Callable[[str], list[str]]:
    """Table -> the streams that its vectors have learnt from when a phase has ended."""
    return lambda table: streams_of(tree, phase.learnt(table))


def assemble(
    tree: Mapping[str, Any],
    protocol: Protocol,
    roles: tuple[str, ...],
    seed: int,
    learnt: Callable[[str], list[str]] | None = None,
) -> GraftModule:
    """Build the module of the tasks of ``roles``; each part draws its weights with a seed of its own name.

    Args:
        learnt: table -> streams that its vectors learn from (default: those that the tasks read); to the model all
            other ids are unknown, as a vector that nothing ever moves is noise.

    Raises:
        UserError: parts that do not fit each other or a value that a constructor refuses.
    """
    chosen = task_trees(tree, roles)
    schema = protocol.schema(streams_of(tree, roles), learnt or (lambda table: streams_of(tree, roles)))
    torch.manual_seed(derived(seed, "encoder"))
    sparse = issubclass(resolve(tree["optimizer"]["_target_"]), RowWise)
    encoder: Encoder = build(tree["encoder"], schema=schema, sparse=sparse)
    reading = {name: read_by(task) for name, (_, task) in chosen.items() if task.get("reads", "trunk") != "encoder"}
    entered = dict.fromkeys(stream for streams in reading.values() for stream in streams)
    named = {name: encoder.field_names(schema.streams[name]) for name in entered}
    fields, history = _trunk_input(named, schema)
    torch.manual_seed(derived(seed, "trunk"))
    interaction = None
    if tree.get("interaction"):
        interaction = build(tree["interaction"], fields=fields, width=encoder.width)
        fields = interaction.fields
    trunk: Trunk = build(
        tree["trunk"],
        fields=fields, width=encoder.width, history=history, tasks=list(reading), streams=named,
        behaviours={name: _behaviours(schema.streams[name]) for name in named},
        **_edges(tree, protocol, list(named)),
    )  # fmt: skip
    _must_know(trunk, [schema.streams[name] for name in named], schema)
    tasks: dict[str, Task] = {}
    positions = [name for name in reading if _positions(chosen[name][1])]
    if positions and not trunk.sequential:
        raise UserError(
            f"task {positions[0]} reads positions, and trunk {type(trunk).__name__} has none; set trunk=sasrec"
        )
    for name, (_, task) in chosen.items():
        if "across" in task:
            sizes = [len(encoder.field_names(schema.streams[stream])) for stream in read_by(task)]
            if len(set(sizes)) > 1:
                raise UserError(f"task {name}: {', '.join(task['across'])} should have the same number of fields")
            parts = int(tree["trainer"].get("accumulate_grad_batches") or 1)
            if parts > 1 and not resolve(task["_target_"]).additive:
                raise UserError(
                    f"trainer.accumulate_grad_batches={parts}: task {name} would compare the rows of each part of a "
                    "batch alone, which is not the loss of the whole; set protocol.batch_size"
                )
            in_dim = trunk.out_dim if name in reading else sizes[0] * encoder.width
            torch.manual_seed(derived(seed, "head", name))
            tasks[name] = build(task, in_dim=in_dim, fields=sizes[0], width=encoder.width)
            continue
        stream = schema.streams[task["stream"]]
        names = columns_of(task)
        try:
            label = joint([stream.label(column) for column in names])
        except ValueError as error:
            raise UserError(f"task {name}: {error}") from error
        given = task.get("given")
        if given and (given not in chosen or chosen[given][1]["stream"] != task["stream"]):
            raise UserError(
                f"task {name}: given={given} should be a task of the same stream that trains with it, here with the "
                f"roles {', '.join(roles)}; select both in one role (a twin has the targets alone), or set twin=false"
            )
        cls = resolve(task["_target_"])
        ranked = bool(stream.candidate) and (label.kind != "category" or cls.over_catalogue)
        if cls.ranks and not ranked:
            raise UserError(
                f"task {name}: stream '{task['stream']}' has no candidates to rank; use tasks.binary.Binary"
            )
        outputs = 1 if cls.over_catalogue else cls.outputs(label)
        if ranked and outputs > 1:
            raise UserError(f"task {name}: stream '{task['stream']}' has candidates, and {outputs} outputs need rows")
        sample = protocol.streams[task["stream"]].sample
        drawn = [sample[column] for column in names]
        if task.get("space"):  # the average there, not of all rows
            drawn = [within(values, sample[task["space"]]) for values in drawn]
        torch.manual_seed(derived(seed, "head", name))
        tasks[name] = build(
            task,
            label=label,
            prior=prior_of(label, drawn[0] if len(drawn) == 1 else torch.stack(drawn, -1)),
            spread=spread_of(label, drawn[0]),
            classes=outputs,
            in_dim=trunk.out_dim if name in reading else len(encoder.field_names(stream)) * encoder.width,
            item_dim=encoder.width if ranked else 0,
            cross_dim=len(stream.cross) if ranked else 0,
        )
    balancer = _balancer(tree, reading, list(tasks), seed)

    def optimize(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = build(tree["optimizer"], params=parameters)
        return optimizer

    def schedule(optimizer: torch.optim.Optimizer, steps: int) -> LRScheduler | None:
        if tree["schedule"] == "constant":
            return None
        rates = [group["lr"] for group in optimizer.param_groups]
        steps = max(4, steps)
        rise = max(WARM_UP, 2 / steps)  # a rise of one step is a division by zero there
        return OneCycleLR(optimizer, rates, steps, pct_start=rise, cycle_momentum=False)

    role_of = {name: role for name, (role, _) in chosen.items()}
    weight = float(tree["lambda_shared"])
    config = redact(dict(tree))
    return GraftModule(encoder, trunk, tasks, role_of, balancer, weight, optimize, schedule, config, interaction)


def _edges(tree: Mapping[str, Any], protocol: Protocol, streams: Sequence[str]) -> dict[str, dict[str, Edges]]:
    """Who chose what in each stream's training rows, for a trunk that asks for it.

    Raises:
        UserError: a stream whose rows are not about users and items.
    """
    if "edges" not in arguments(resolve(tree["trunk"]["_target_"])):
        return {}
    found = {}
    for name in streams:
        edges = protocol.streams[name].edges()
        if edges is None:
            raise UserError(
                f"trunk: {tree['trunk']['_target_'].rpartition('.')[2]} reads who chose what, which stream '{name}' "
                "does not say; let its tasks read baskets"
            )
        found[name] = edges
    return {"edges": found}


def _behaviours(stream: Stream) -> int:
    """How many an event of the history can be, each a bit; 0 where that is not told."""
    most = max((f.behaviours for f in stream.features if f.kind in ("history", "sequence")), default=0)
    return max(0, most.bit_length() - 1)


def _must_know(trunk: Trunk, streams: Sequence[Stream], schema: Schema) -> None:
    """UserError where the attribute that a trunk reads is not known of the items of a stream's history."""
    for stream in streams if trunk.by else ():
        table = next(f.table for f in stream.features if f.kind in ("history", "sequence"))
        known = schema.tables[table].content
        if trunk.by not in known:
            raise UserError(
                f"trunk.by: table '{table}' of stream '{stream.name}' has no attribute '{trunk.by}'"
                f"{near(trunk.by, known) or ', and no other; leave trunk.by empty'}"
            )


def _positions(task: Mapping[str, Any]) -> bool:
    return bool(resolve(task["_target_"]).over_catalogue) or task.get("reads") == "positions"


def _balancer(tree: Mapping[str, Any], reading: Mapping[str, list[str]], tasks: list[str], seed: int) -> Balancer:
    """Of all tasks, or of those that read the trunk, if it is their gradients that it balances.

    Raises:
        UserError: a balancer that cannot be right with these streams or with parts of a batch.
    """
    inside = list(reading) if resolve(tree["balancer"]["_target_"]).needs_gramian else tasks
    balancer: Balancer = build(tree["balancer"], tasks=inside, seed=derived(seed, "balancer"))
    name = type(balancer).__name__
    streams = sorted({stream for task in inside for stream in reading.get(task, ())})
    if balancer.needs_gramian and balancer.at == "representation" and len(streams) > 1:
        raise UserError(
            f"balancer.at=representation compares tasks of one stream, and these read {', '.join(streams)}; "
            "set balancer.at=layer"
        )
    parts = int(tree["trainer"].get("accumulate_grad_batches") or 1)
    if parts > 1 and not balancer.additive and len(inside) > 1:
        raise UserError(
            f"trainer.accumulate_grad_batches={parts}: {name} would balance each part of a batch on its own, which is "
            "not the balance of the whole; set protocol.batch_size, or balancer=sum"
        )
    return balancer


def _trunk_input(named: Mapping[str, Sequence[str]], schema: Schema) -> tuple[int, bool]:
    """Fields and history that the trunk reads, which must be the same in every stream."""
    shapes = {
        name: (len(fields), any(f.kind in ("history", "sequence") for f in schema.streams[name].features))
        for name, fields in named.items()
    }
    if len(set(shapes.values())) > 1:
        said = "; ".join(f"{name}: {f} fields, {'a' if h else 'no'} history" for name, (f, h) in shapes.items())
        raise UserError(
            f"one trunk cannot read streams of different shape ({said}); set reads: encoder for one of them"
        )
    return next(iter(shapes.values()), (1, False))
