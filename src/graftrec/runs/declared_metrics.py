"""What a run declares before it looks: metrics and cohorts beside the main one that get a verdict of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from graftrec.config.instantiate import near
from graftrec.data.protocols.base import Protocol
from graftrec.evaluation.statistics.user_values import USER
from graftrec.tasks.metrics.ranking import HISTORIES
from graftrec.tasks.rows import COHORTS
from graftrec.training.builder import assemble
from graftrec.utils.errors import UserError

Tree = Mapping[str, Any]
KNOWN = ("first_time", "overlap", *COHORTS, *HISTORIES)  # cohorts; a validation need not have them


def measured_untrained(tree: Tree, protocol: Protocol) -> dict[str, tuple[str, set[str]]]:
    """Target -> its main metric and the metrics that have values per user or row, seen with weights nobody trained."""
    module = assemble(tree, protocol, ("target",), int(tree["seed"])).eval()
    found: dict[str, tuple[str, set[str]]] = {}
    for name in tree["target"]:
        task, there = module.task(name), set[str]()
        stream = protocol.streams[task.stream].evaluation("val")
        with torch.no_grad():
            while task.main not in there and (batch := next(stream, None)) is not None:
                module.validation_step({task.stream: batch}, 0)
                for each in tree["target"]:
                    module.task(each).compute()
                there |= set(task.units()) - {USER}
        found[name] = task.main, there
    return found


def check_verdicts(tree: Tree, protocol: Protocol) -> None:
    """UserError where ``verdicts`` names something that no target is measured by, user by user."""
    asked = [str(name) for name in tree.get("verdicts") or ()]
    if not asked:
        return
    targets = {**tree, "source": {}, "shared": {}}
    metrics = {name.partition("/")[0] for _, there in measured_untrained(targets, protocol).values() for name in there}
    problems = []
    for name in asked:
        metric, slash, cohort = name.partition("/")
        if metric not in metrics:
            problems.append(f"verdicts: no target has values per user of '{metric}'{near(metric, metrics)}")
        elif slash and cohort not in KNOWN:
            problems.append(f"verdicts: '{name}': there is no cohort '{cohort}'{near(cohort, KNOWN)}")
    if problems:
        raise UserError(problems)
