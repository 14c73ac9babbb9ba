"""Does an audit find what was planted, and nothing where nothing is?

    python scripts/planted.py FOLDER --truth          50 seeds that no audit uses: what each source really does
    python scripts/planted.py FOLDER --audits [10]    so many audits of 5 seeds each: which verdicts were right
    python scripts/planted.py FOLDER --aa             the twins of 10 audits against each other: false verdicts in 40
    python scripts/planted.py FOLDER --guard [10]     transfer=auto with so many seeds from 1000 on: is it harmless?

All of `experiment=planted`, further words are settings, such as `audit.workers=2`. Every training leaves a folder in
FOLDER and is not repeated. An audit differs from the next in its seeds alone, so the truth is the same for all. The A/A
audits set the 5 seeds of an audit against those of the next 4 (and after the last one of the first): 40 cells.
The guard is given each source alone, and all of them; beside it stand the twin, and on `help` two fixed strategies.
The last line is one JSON object with the figures.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from rich.console import Console

from graftrec import config
from graftrec.analysis.arms import (
    AUTO,
    TWIN,
    ArmJob,
    ArmSpec,
    arms_of,
    is_tested,
    is_trained,
    jobs_of,
    status,
    test_arm,
    train_arm,
)
from graftrec.analysis.audit import Processes, settings
from graftrec.analysis.auto import chosen, train_auto
from graftrec.analysis.cells import matrix, units_of
from graftrec.analysis.draws import holm, measure, verdict
from graftrec.analysis.settled import with_sources
from graftrec.train import prepare

TRUTH = range(1000, 1050)
SEEDS, AUDITS, ROUND = 5, 10, 4
METRIC = "auc"
HELP, NOISE, HURT = "planted_help", "planted_noise", "planted_hurt"
GIVEN = {"help": [HELP], "noise": [NOISE], "hurt": [HURT], "all": [HELP, NOISE, HURT]}
EPOCHS = 24  # of the experiment
FIXED = {  # strategies that use a source whatever it does
    "joint": {"_target_": "graftrec.transfer.joint.Joint", "epochs": EPOCHS},
    "pretrain_finetune": {
        "_target_": "graftrec.transfer.pretrain_finetune.PretrainFinetune",
        "pretrain": EPOCHS // 2,
        "finetune": EPOCHS,
    },
}
GUARD = {"_target_": "graftrec.transfer.auto.Auto", "epochs": EPOCHS}
EXPECTED = {"planted_help": "helps", "planted_noise": "no evidence", "planted_hurt": "hurts"}


class Bench:
    """Trees, data and processes, made once for all audits."""

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        config.register_resolvers()
        with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
            self.tree = config.plain(compose("audit", ["experiment=planted", *words]))
        config.drop_orphans(self.tree)
        self.asked = settings(self.tree)
        self.folder, self.console = folder / "arms", Console(width=120)
        self.protocol, _ = prepare(self.tree)
        self.arms = arms_of(self.tree, self.protocol, self.asked["twins"])
        self.processes = Processes(self.tree, self.protocol, self.asked["workers"])

    def jobs(
        self, seeds: Sequence[int], arms: Sequence[ArmSpec] | None = None, tree: dict[str, Any] | None = None
    ) -> list[ArmJob]:
        """Trainings of these seeds, done and judged."""
        own = self.tree if tree is None else tree
        jobs = jobs_of(own, arms or self.arms, seeds, str(self.protocol.card["fingerprint"]), self.folder)
        todo = [job for job in jobs if not is_trained(job.folder)]
        self.processes.run(train_arm, [job for job in todo if job.arm.name != AUTO], "training", self.console)
        self.processes.run(train_auto, [job for job in todo if job.arm.name == AUTO], AUTO, self.console)
        jobs = [chosen(job) for job in jobs]
        self.processes.run(test_arm, [job for job in jobs if not is_tested(job.folder)], "test", self.console)
        return jobs

    def cells(self, seeds: Sequence[int]) -> list[dict[str, Any]]:
        """What an audit of these seeds says."""
        found = matrix(self.jobs(seeds), self.asked["draws"])
        return [cell for cell in found["cells"] if cell["metric"] == METRIC and cell["cohort"] is None]


def truth(bench: Bench) -> dict[str, Any]:
    """Each cell's change with 50 seeds."""
    found = {}
    for cell in bench.cells(list(TRUTH)):
        name = "+".join(cell["sources"])
        found[name] = {key: cell[key] for key in ("delta", "low", "high", "p_holm", "verdict")}
        print(f"{name:40} {cell['delta']:+.4f} [{cell['low']:+.4f}, {cell['high']:+.4f}]  {cell['verdict']}")
    return found


def audits(bench: Bench, count: int) -> dict[str, Any]:
    """How many of so many audits found each source out."""
    right = dict.fromkeys(EXPECTED, 0)
    begun = time.monotonic()
    for number in range(count):
        said = {}
        for cell in bench.cells(range(SEEDS * number, SEEDS * (number + 1))):
            if len(cell["sources"]) == 1:
                name = cell["sources"][0]
                said[name] = f"{cell['verdict']} ({cell['delta']:+.3f}, p {cell['p_holm']:.3g})"
                right[name] += cell["verdict"] == EXPECTED[name]
        print(f"audit {number}: " + ", ".join(f"{name} {words}" for name, words in said.items()), flush=True)
    return {"audits": count, "right": right, "seconds": round(time.monotonic() - begun, 1)}


def against_itself(bench: Bench) -> dict[str, Any]:
    """Verdicts of twins against twins of other seeds."""
    twins = [arm for arm in bench.arms if arm.name == TWIN]
    values = units_of(bench.jobs(range(SEEDS * AUDITS), twins))[TWIN][METRIC]
    groups = [values[SEEDS * at : SEEDS * (at + 1)] for at in range(AUDITS)]
    false = marginal = 0
    for at, own in enumerate(groups):
        measured = measure([groups[(at + step) % AUDITS] - own for step in range(1, ROUND + 1)], bench.asked["draws"])
        adjusted = holm([each.p for each in measured])
        said = [verdict(each.delta, p) for each, p in zip(measured, adjusted, strict=True)]
        false += sum(word != "no evidence" for word in said)
        marginal += sum(each.p < 0.05 for each in measured)
        print(f"audit {at}: " + ", ".join(f"{m.delta:+.4f} (p {m.p:.3g})" for m in measured), flush=True)
    return {"cells": AUDITS * ROUND, "verdicts": false, "below_05_without_holm": marginal}


def guard(bench: Bench, count: int) -> dict[str, Any]:
    """What `transfer=auto` chooses of each source and of all, and what that does to the target."""
    begun, seeds = time.monotonic(), range(TRUTH.start, TRUTH.start + count)
    (target,) = bench.tree["target"]
    twin, auto = ArmSpec(TWIN, target), ArmSpec(AUTO, target, (AUTO,))
    alone = units_of(bench.jobs(seeds, [twin]))[TWIN][METRIC]
    found: dict[str, Any] = {"seeds": count, "trainings": 0, "without_evidence": 0, "given": {}}
    differences = {}
    for name, given in GIVEN.items():
        jobs = bench.jobs(seeds, [auto], {**with_sources(bench.tree, given), "transfer": GUARD})
        differences[name] = units_of([*bench.jobs(seeds, [twin]), *jobs])[AUTO][METRIC] - alone
        used = dict.fromkeys([*given, "nothing"], 0)
        for job in jobs:
            said = status(job.folder)["auto"]
            found["trainings"] += said["trials"] + 1
            used["nothing"] += not said["strengths"]
            for source, strength in said["strengths"].items():
                used[source] += 1
                own = [step for step in said["tried"] if step["sources"].get(source) == strength and step["error"]]
                found["without_evidence"] += not any(step["gain"] > step["error"] for step in own)
        found["given"][name] = {"used": used}
    for name, node in FIXED.items():
        jobs = bench.jobs(seeds, [ArmSpec(name, target, (HELP,))], {**bench.tree, "transfer": node})
        differences[name] = units_of([*bench.jobs(seeds, [twin]), *jobs])[name][METRIC] - alone
    differences["pooled"] = np.mean([differences[name] for name in GIVEN], 0)  # of each seed and user
    differences["pooled without help"] = np.mean([differences["noise"], differences["hurt"]], 0)
    gains = {}
    measured = measure(list(differences.values()), bench.asked["draws"])
    for name, each in zip(differences, measured, strict=True):
        gains[name] = {"delta": each.delta, "low": each.low, "high": each.high}
        used = found["given"].get(name, {}).get("used", "")
        print(f"{name:20} {each.delta:+.4f} [{each.low:+.4f}, {each.high:+.4f}]  {used}", flush=True)
    best = max(FIXED, key=lambda name: gains[name]["delta"])
    kept = gains["help"]["delta"] / gains[best]["delta"]
    print(f"help keeps {kept:.0%} of the gain of {best}, the best fixed strategy")
    return {**found, "gains": gains, "best_fixed": best, "kept": kept, "seconds": round(time.monotonic() - begun, 1)}


def main() -> None:
    """Do what the command line asks for."""
    words = sys.argv[1:]
    if not words or words[0].startswith("-"):
        raise SystemExit(__doc__)
    asked = [word for word in words[1:] if word.startswith("--")]
    counts = [word for word in words[1:] if word.isdigit()]
    bench = Bench(Path(words[0]), [word for word in words[1:] if "=" in word and not word.startswith("--")])
    found: dict[str, Any] = {}
    with bench.processes:
        if "--truth" in asked:
            found["truth"] = truth(bench)
        if "--audits" in asked:
            found["found"] = audits(bench, int(counts[0]) if counts else AUDITS)
        if "--aa" in asked:
            found["aa"] = against_itself(bench)
        if "--guard" in asked:
            found["guard"] = guard(bench, int(counts[0]) if counts else AUDITS)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
