"""``transfer=auto`` at work: train what could be used, compare it on validation, say what is used and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from graftrec import config, group
from graftrec.analysis.arms import TWIN, ArmJob, ArmSpec, job_of, status, train_arm, without_beside, write_status
from graftrec.analysis.choice import NONE, Candidate, Choice, Gain, Step, choose, gain_of
from graftrec.analysis.settled import settled
from graftrec.assemble import assemble, task_trees
from graftrec.begin import check_plan
from graftrec.data.protocols.base import Protocol
from graftrec.errors import UserError
from graftrec.phases import twin_plan
from graftrec.transfer.auto import Auto

Tree = Mapping[str, Any]
Found = dict[str, Any]
TRIED = "tried"  # a state that is no arm's: it was compared on validation, and its weights are gone


def search(tree: Tree, protocol: Protocol, folder: Path, say: Callable[[str], None] = lambda line: None) -> Found:
    """What validation chooses for ``tree``, which has `Auto` as its strategy; nothing looks at the test.

    Each training has a folder of its own in ``folder``, named as an audit names it, and is not repeated.

    Returns:
        ``strengths`` of what is used, source -> number; the ``reason``; ``tried``, each comparison with its gain and
        error; ``cannot``, why a source cannot train
        alone; ``trials``, how many trainings it took, ``budget``, how many it may have; ``seconds``.

    Raises:
        UserError: nothing to choose from, a plan that cannot be, or a target whose metric has no standard error.
    """
    begun = time.monotonic()
    auto: Auto = config.build(tree["transfer"])
    names = list(task_trees(tree, ("source", "shared")))
    alone, refused = _possible(tree, protocol, auto, names)
    _must_have_errors(tree, protocol)
    target = next(iter(tree["target"]))

    def trained(candidate: Candidate) -> Path:
        arm = ArmSpec(named(candidate), target, tuple(name for name, _ in candidate))
        own = settled(without_beside(tree), dict(candidate))
        job = job_of(arm, own, int(tree["seed"]), str(protocol.card.get("fingerprint", "")), folder)
        if group.of_first(lambda: status(job.folder).get("state") not in ("trained", "tested", TRIED)):
            train_arm(protocol, job)
            group.of_first(lambda: _leave_values(job.folder))
        return job.folder

    def gain(candidate: Candidate, over: Candidate) -> Gain:
        one, other = trained(candidate), trained(over)
        found = group.of_first(lambda: gain_of(values_of(one), values_of(other)))
        say(f"{named(candidate)} over {named(over)}: {_numbers(found)}")
        return found

    def order(those: Sequence[str]) -> list[str]:
        """Those first whose gradients agree with the targets', as they were seen when all trained together."""
        if len(names) < 2:
            return list(those)
        together = trained(tuple((name, auto.strengths[0]) for name in names))
        seen = group.of_first(lambda: status(together).get("seen") or {})
        return sorted(those, key=lambda name: -agreement(seen, name, list(tree["target"])))

    # where no phase trains sources beside the target, their weights change little that an optimizer does not undo
    mixed = any("target" in phase.roles and len(phase.roles) > 1 for phase in auto.phases())
    strengths = auto.strengths if mixed else auto.strengths[:1]
    made = choose(names, alone, strengths, auto.trials, gain, order)
    return {
        "strengths": dict(made.chosen),
        "reason": reason(made),
        "tried": [_row(step) for step in made.steps],
        "cannot": refused,
        "trials": len(made.trained),
        "budget": auto.trials,
        "seconds": round(time.monotonic() - begun, 3),
    }


def _leave_values(folder: Path) -> None:
    """An arm that was tried is only compared: its weights go."""
    for weights in folder.rglob("*.ckpt"):
        weights.unlink()
    write_status(folder, status(folder) | {"state": TRIED})


def train_auto(protocol: Protocol, job: ArmJob) -> Found:
    """Choose the sources of an audit's arm, and train it with them: what ``status.json`` then says, with ``auto``."""
    found = search(job.tree, protocol, job.folder.parent)
    said = train_arm(protocol, replace(job, tree=settled(job.tree, found["strengths"]))) | {"auto": found}
    said["seconds"] = round(said["seconds"] + found["seconds"], 3)
    write_status(job.folder, said)
    return said


def chosen(job: ArmJob) -> ArmJob:
    """An arm's job with what it chose, once it is trained; any other as it is."""
    found = status(job.folder).get("auto")
    return job if found is None else replace(job, tree=settled(job.tree, found["strengths"]))


def named(candidate: Candidate) -> str:
    """``a + b x 0.3``, ``twin`` without any."""
    return " + ".join(name if strength == 1 else f"{name} x {strength:g}" for name, strength in candidate) or TWIN


def values_of(folder: Path) -> dict[str, tuple[Any, Any]]:
    """Target -> its users and values on validation, as `train_arm` left them."""
    frame = pl.read_parquet(folder / "val.parquet")
    return {
        str(target): (own["user"].to_numpy(), own["value"].to_numpy())
        for (target,), own in frame.group_by("task", maintain_order=True)
    }


def agreement(seen: Mapping[str, float], name: str, targets: Sequence[str]) -> float:
    """Mean cosine of a task's gradient and the targets', 0 where none was seen."""
    pairs = [f"gradient_cosine/{pair}" for target in targets for pair in (f"{name}~{target}", f"{target}~{name}")]
    found = [seen[pair] for pair in pairs if pair in seen]
    return float(np.mean(found)) if found else 0.0


def reason(choice: Choice) -> str:
    """Why it was chosen, in a sentence."""
    least = " (some could not be tried: transfer.trials)" if any(step.found is None for step in choice.steps) else ""
    if choice.chosen == NONE:
        return f"the target trains alone: no gain on validation exceeded its standard error{least}"
    led = [f"{named(s.candidate)} over {named(s.over)} {_numbers(s.found)}" for s in choice.steps if _led(s, choice)]
    return f"uses {named(choice.chosen)}, since each gain exceeded its standard error{least}: {'; '.join(led)}"


def _led(step: Step, choice: Choice) -> bool:
    """Whether the step is one of those that led to the choice."""
    inside = set(step.candidate) <= set(choice.chosen)
    return inside and step.found is not None and step.found.clear


def _numbers(found: Gain | None) -> str:
    return "" if found is None else f"{found.gain:+.4f} (standard error {found.error:.4f})"


def _row(step: Step) -> Found:
    row: Found = {"sources": dict(step.candidate), "over": dict(step.over), "gain": None, "error": None}
    if step.found is None:
        return row | {"verdict": "not tried", "harmed": []}
    numbers = {"gain": step.found.gain, "error": step.found.error}
    row |= {name: value if np.isfinite(value) else None for name, value in numbers.items()}
    return row | {"verdict": "clear" if step.found.clear else "not clear", "harmed": list(step.found.harmed)}


def _possible(tree: Tree, protocol: Protocol, auto: Auto, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The sources that can train without the others, and why the rest cannot; all is checked before any trains."""
    if not names:
        raise UserError(
            "transfer=auto: there is no source and no shared task to choose from; write 'task@source=[...]', or set "
            "transfer=joint"
        )
    plan = auto.phases()
    check_plan(settled(tree, dict.fromkeys(names, 1.0)), protocol, plan)
    check_plan(settled(tree, {}), protocol, twin_plan(plan))
    if len(names) == 1:
        return list(names), {}
    alone, refused = [], {}
    for name in names:
        try:
            check_plan(settled(tree, {name: 1.0}), protocol, plan)
            alone.append(name)
        except UserError as error:
            refused[name] = "; ".join(error.problems)
    return alone, refused


def _must_have_errors(tree: Tree, protocol: Protocol) -> None:
    """UserError where a target's main metric has no values per user or row, seen with weights that nobody trained."""
    own = settled(tree, {})
    module = assemble(own, protocol, ("target",), int(tree["seed"])).eval()
    problems = []
    for name in tree["target"]:
        task, there = module.task(name), False
        stream = protocol.streams[task.stream].evaluation("val")
        with torch.no_grad():
            while not there and (batch := next(stream, None)) is not None:
                module.validation_step({task.stream: batch}, 0)
                for each in tree["target"]:
                    module.task(each).compute()
                there = task.main in task.units()
        if not there:
            problems.append(
                f"transfer=auto: target.{name} is judged by {task.main}, which has no values per user or row on "
                "validation, so that its gains have no standard error; judge it by a metric that has, or choose a "
                "fixed strategy"
            )
    if problems:
        raise UserError(problems)
