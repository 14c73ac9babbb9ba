"""The beginning of a phase: its module with carried weights, frozen parts and the means of its strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from graftrec.config.instantiate import build
from graftrec.data.protocols.base import Protocol
from graftrec.tasks.base import Task
from graftrec.training.builder import assemble, columns_of, learnt_in, streams_of, task_trees
from graftrec.training.distributed.fsdp import state_of
from graftrec.training.lightning_module import GraftModule
from graftrec.transfer.base import OPTIONAL, Past, Phase, State, share
from graftrec.transfer.carry import carry, nearest
from graftrec.utils.errors import UserError


def begin(
    tree: Mapping[str, Any], protocol: Protocol, phase: Phase, states: Mapping[str, State]
) -> tuple[GraftModule, list[str]]:
    """The module of a phase as it is before its first step, and what there is to report.

    Raises:
        UserError: parts that do not fit each other, a name that fits nothing, or a strategy that needs something else.
    """
    if not task_trees(tree, phase.roles):
        raise UserError(
            f"transfer, phase {phase.name}: no task of the roles {', '.join(phase.roles)} is selected; select one, "
            "or set transfer=joint"
        )
    module = assemble(tree, protocol, phase.roles, int(tree["seed"]), learnt_in(tree, phase))
    module.phase = phase
    lines: list[str] = []
    loaded: tuple[str, ...] = ()
    try:
        if phase.start_from is not None:
            report = carry(module, states[phase.start_from], phase.carry)
            lines, loaded = [f"{phase.start_from} -> {phase.name}: {report.line()}"], tuple(report.loaded)
        freeze(module, phase.frozen)
        for prefix in phase.rates:
            parameters_under(module, prefix, "rates")

        def teacher(name: str, stream: str, task: str) -> GraftModule:
            return _teacher(tree, protocol, stream, task, states[name])

        def trained(table: str, roles: tuple[str, ...]) -> Tensor:
            return _trained(tree, protocol, table, roles)

        for means in phase.means:
            means.build(module)
        for means in phase.means:
            means.start(module, Past(states, loaded, teacher, trained))
    except ValueError as error:
        raise UserError(f"transfer, phase {phase.name}: {error}") from error
    told = (*(means.told() for means in phase.means), share(module))
    return module, [*lines, *(f"{phase.name}: {line}" for line in told if line)]


def check_plan(tree: Mapping[str, Any], protocol: Protocol, plan: Sequence[Phase]) -> dict[str, Task]:
    """Begin every phase with weights that nobody trained: what does not fit is said before anything is trained.

    Returns:
        each task by name, untrained, as it is in the last phase that trains it.

    Raises:
        UserError: see `begin`.
    """
    states: dict[str, State] = {}
    tasks: dict[str, Task] = {}
    for phase in plan:
        module = begin(tree, protocol, phase, states)[0]
        build(tree["optimizer"], params=[part for part in module.parameters() if part.requires_grad])
        states[phase.name] = state_of(module)
        tasks |= {name: module.task(name) for name in module.tasks}
    return tasks


def freeze(module: GraftModule, prefixes: Sequence[str]) -> None:
    """Stop the training of parameters under ``prefixes``; UserError if a prefix matches none."""
    for prefix in prefixes:
        for parameter in parameters_under(module, prefix, "frozen"):
            parameter.requires_grad_(False)


def parameters_under(module: GraftModule, prefix: str, what: str) -> list[Any]:
    """Parameters whose names start with ``prefix``; UserError if there are none, unless not every model has them."""
    names = dict(module.named_parameters())
    found = [parameter for name, parameter in names.items() if name.startswith(prefix)]
    if not found and prefix not in OPTIONAL:
        raise UserError(f"{what}: no parameter's name starts with '{prefix}'{nearest(prefix, names)}")
    return found


def _trained(tree: Mapping[str, Any], protocol: Protocol, table: str, roles: tuple[str, ...]) -> Tensor:
    """Rows (rows,) bool of a table that training rows of these roles have, in streams that have a column of it."""
    whole = protocol.tables[table]
    found = torch.zeros(whole.size, dtype=torch.bool)
    streams = streams_of(tree, roles)
    streams = [name for name in streams if any(f.table == table for f in protocol.streams[name].schema.features)]
    if streams:
        rows = protocol.schema(streams, lambda _: streams).tables[table].rows
        found[torch.arange(whole.size) if rows is None else rows] = True
        found[0] = False  # a stranger
    return found


def _teacher(tree: Mapping[str, Any], protocol: Protocol, stream: str, named: str, state: State) -> GraftModule:
    """The model of the sources with the weights ``state``, of which those that can read ``stream``.

    Numbers of the source's stream and of ``stream`` are read with the same weights.

    Args:
        named: the source that is wanted, or empty for any.

    Raises:
        ValueError: no source has a label of the stream, several of different streams do, or the stream needs weights
            that the sources do not have.
    """
    labels = {label.name for label in protocol.streams[stream].schema.labels}
    sources = {name: task for name, (_, task) in task_trees(tree, ("source",)).items()}
    fits = [name for name, task in sources.items() if set(columns_of(task)) <= labels and named in ("", name)]
    moved = {name: {**sources[name], "stream": stream} for name in fits}
    if not moved:
        asked = {column for task in sources.values() for column in columns_of(task)}
        raise ValueError(
            f"a teacher should be a source whose label the target's stream '{stream}' has as well. Found "
            f"{', '.join(sorted(asked)) or 'no source'} in the sources, {', '.join(sorted(labels))} in the stream."
        )
    came = sorted({str(sources[name]["stream"]) for name in fits})
    if len(came) > 1:
        raise ValueError(f"teacher should name one source. Found {', '.join(fits)}.")
    own, other = (f"encoder.numbers.{name.replace('.', '_')}." for name in (came[0], stream))
    state = {other + name.removeprefix(own) if name.startswith(own) else name: value for name, value in state.items()}
    roles = ("source", "shared")
    learnt = streams_of(tree, roles)
    there = {**tree, "source": sources | moved, "target": {}}
    module = assemble(there, protocol, roles, int(tree["seed"]), lambda table: learnt)
    report = carry(module, state, ("encoder.", "interaction.", "trunk.", "tasks."))
    odd = report.mismatched + [name for name in report.new if not name.startswith("balancer.")]
    if odd:
        raise ValueError(
            f"a teacher should have learnt all that the stream '{stream}' is read with. Found no weights for "
            f"{', '.join(odd[:3])}; share tables between the domains (protocol.shares), or leave the vectors "
            "of ids out (encoder.content_only)."
        )
    return module.eval().requires_grad_(False)
