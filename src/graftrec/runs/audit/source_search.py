"""``transfer=auto`` at work: train what could be used, compare it on validation, say what is used and why."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graftrec.config import instantiate
from graftrec.data.protocols.base import Protocol
from graftrec.evaluation.report.console import Screen
from graftrec.evaluation.statistics.intervals import FEWEST_SEEDS
from graftrec.evaluation.statistics.user_values import USER
from graftrec.runs.audit.arms import (
    TWIN,
    ArmJob,
    ArmSpec,
    again,
    job_of,
    status,
    train_arm,
    without_beside,
    write_status,
)
from graftrec.runs.audit.selection_rule import NONE, Candidate, Choice, Gain, Step, Values, choose, gain_of
from graftrec.runs.audit.source_selection import settled
from graftrec.runs.declared_metrics import measured_untrained
from graftrec.runs.side_by_side import Processes
from graftrec.training.builder import task_trees
from graftrec.training.callbacks.optuna_trial import unasked
from graftrec.training.compatibility import weights_matter
from graftrec.training.distributed import process_group
from graftrec.training.fit import twin_plan
from graftrec.training.phase_setup import check_plan
from graftrec.transfer.auto import Auto
from graftrec.utils import record_files
from graftrec.utils.atomic_files import remove
from graftrec.utils.errors import UserError
from graftrec.utils.seeds import derived

Tree = Mapping[str, Any]
Found = dict[str, Any]
PROMISING = 0.25  # p of a gain with half of the seeds, above which it is not worth the other half
TRIED = "tried"  # a state that is no arm's: it was compared on validation, and its weights are gone


def search(
    tree: Tree,
    protocol: Protocol,
    folder: Path,
    pool: Processes,
    console: Screen,
    begin: Callable[[], None] = lambda: None,
) -> Found:
    """What validation chooses for ``tree``, which has `Auto` as its strategy; nothing looks at the test.

    Each candidate is trained with seeds of the search's own (`seeds_of`), which no run trains with: what is chosen is
    judged by trainings that did not choose it. Half of the seeds come first; a gain that does not look promising with
    them (`PROMISING`) is dropped, which makes no false choice likelier. Each training has a folder in ``folder``,
    named as an audit names it, and is not repeated. ``begin`` is called once it is known that there is a search.

    Returns:
        ``strengths`` of what is used, source -> number; the ``reason``; ``tried``, each comparison with its gain and
        error; ``cannot``, why a source cannot train alone; ``seeds``, those of the search; ``trials``, how many
        trainings it took, ``budget``, how many it may have; ``seconds``.

    Raises:
        UserError: nothing to choose from, a plan that cannot be, or a target whose metric has no standard error.
    """
    begun = time.monotonic()
    auto: Auto = instantiate.build(tree["transfer"])
    names = list(task_trees(tree, ("source", "shared")))
    alone, refused = _possible(tree, protocol, auto, names)
    _must_have_errors(tree, protocol)
    begin()
    target, seeds = next(iter(tree["target"])), seeds_of(tree, auto)
    first = seeds[: max(FEWEST_SEEDS, (len(seeds) + 1) // 2)]
    data = str(protocol.card.get("fingerprint", ""))
    tried: set[Path] = set()

    def jobs(candidate: Candidate, those: Sequence[int]) -> list[ArmJob]:
        arm = ArmSpec(named(candidate), target, tuple(name for name, _ in candidate))
        own = settled(without_beside(tree), dict(candidate))
        return [job_of(arm, {**own, "seed": seed}, seed, data, folder) for seed in those]

    def trained(those: Sequence[int], *candidates: Candidate) -> list[list[Path]]:
        found = [jobs(candidate, those) for candidate in candidates]
        everything = [job for each in found for job in each]
        todo = process_group.of_first(lambda: [n for n, job in enumerate(everything) if not _is_done(job.folder)])
        if todo:
            pool.run(try_arm, [everything[n] for n in todo], "auto", console)
        tried.update(job.folder for job in everything)
        return [[job.folder for job in each] for each in found]

    def gain(candidate: Candidate, over: Candidate) -> Gain:
        """By half of the seeds, and by all of them where that looks promising."""
        found = Gain(0.0, 0.0, 1.0)
        for those in dict.fromkeys((first, seeds)):
            one, other = trained(those, candidate, over)
            found = process_group.of_first(
                lambda a=one, b=other: gain_of(list(map(values_of, a)), list(map(values_of, b)))  # type: ignore[misc]
            )
            if found.p >= PROMISING:
                break
        console.print(f"{named(candidate)} over {named(over)}: {_numbers(found)}")
        return found

    def order(those: Sequence[str]) -> list[str]:
        """Those first whose gradients agree with the targets', as they were seen when all trained together."""
        if len(names) < 2:
            return list(those)
        (together,) = trained(first, tuple((name, auto.strengths[0]) for name in names))
        seen = process_group.of_first(lambda: status(together[0]).get("seen") or {})
        return sorted(those, key=lambda name: -agreement(seen, name, list(tree["target"])))

    # where no phase trains sources beside the target, their weights change little that an optimizer does not undo
    mixed = any("target" in phase.roles and len(phase.roles) > 1 for phase in auto.phases())
    # and with a balancer that takes weights out again nothing at all
    strengths = auto.strengths if mixed and weights_matter(tree) else auto.strengths[:1]
    made = choose(names, alone, strengths, auto.trials // len(seeds), gain, order)
    return {
        "strengths": dict(made.chosen),
        "reason": reason(made),
        "tried": [_row(step) for step in made.steps],
        "cannot": refused,
        "seeds": list(seeds),
        "trials": len(tried),
        "budget": auto.trials,
        "seconds": round(time.monotonic() - begun, 3),
    }


def seeds_of(tree: Tree, auto: Auto) -> tuple[int, ...]:
    """The seeds of a search: derived from the run's first one, and no seed of a run."""
    return tuple(derived(int(tree["seed"]), "auto", number) for number in range(auto.seeds))


def try_arm(protocol: Protocol, job: ArmJob) -> Found:
    """Train a candidate and keep its values on validation; its weights go."""
    with unasked():
        found = train_arm(protocol, job)
    if process_group.is_first():
        for weights in job.folder.rglob("*.ckpt"):
            remove(weights)
        write_status(job.folder, status(job.folder) | {"state": TRIED})
    return found


def _is_done(folder: Path) -> bool:
    return status(folder).get("state") in ("trained", "tested", TRIED)


def named(candidate: Candidate) -> str:
    """``a + b x 0.3``, ``twin`` without any."""
    return " + ".join(name if strength == 1 else f"{name} x {strength:g}" for name, strength in candidate) or TWIN


def values_of(folder: Path) -> Values:
    """Target -> its users and values on validation, as `train_arm` left them."""
    frame = record_files.table(folder / "val.parquet", ("task", USER, "value"), again(folder))
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
        return f"the target trains alone: no gain on validation was clear over users and seeds{least}"
    led = [f"{named(s.candidate)} over {named(s.over)} {_numbers(s.found)}" for s in choice.steps if _led(s, choice)]
    return f"uses {named(choice.chosen)}, whose gains are clear over users and seeds{least}: {'; '.join(led)}"


def _led(step: Step, choice: Choice) -> bool:
    """Whether the step is one of those that led to the choice."""
    inside = set(step.candidate) <= set(choice.chosen)
    return inside and step.clear


def _numbers(found: Gain | None) -> str:
    return "" if found is None else f"{found.gain:+.4f} (standard error {found.error:.4f})"


def _row(step: Step) -> Found:
    row: Found = {"sources": dict(step.candidate), "over": dict(step.over), "gain": None, "error": None, "p": None}
    if step.found is None:
        return row | {"verdict": "not tried", "harmed": []}
    numbers = {"gain": step.found.gain, "error": step.found.error, "p": step.found.p}
    row |= {name: value if np.isfinite(value) else None for name, value in numbers.items()}
    return row | {"verdict": "clear" if step.clear else "not clear", "harmed": list(step.found.harmed)}


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
    problems = [
        f"transfer=auto: target.{name} is judged by {main}, which has no values per user or row on validation, so "
        "that its gains have no standard error; judge it by a metric that has, or choose a fixed strategy"
        for name, (main, there) in measured_untrained(settled(tree, {}), protocol).items()
        if main not in there
    ]
    if problems:
        raise UserError(problems)
