"""What Hydra calls for each job, in this process or, with a launcher, in another one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from graftrec import config, jobs, ledger
from graftrec.errors import INTERRUPTED, TERMINATED, Pruned, UserError
from graftrec.plain import tell
from graftrec.resume import status_of
from graftrec.trial import VARIABLE, announce


class Job:
    """One job of a sweep, or the run. Hydra would turn an exception into 1, so none leaves.

    Only an end of everything does (`SystemExit`), and `Pruned` for the sweeper that prunes.
    """

    def __init__(self, verb: str, runs: str, sweep: str) -> None:
        self.verb, self.runs, self.sweep = verb, runs, sweep
        self.codes: list[int] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A launcher's process composes jobs itself, before it calls this."""
        self.__dict__.update(state)
        config.register_resolvers(self.sweep)

    def __call__(self, cfg: Any) -> float:
        """Run ``cfg``; its score, NaN if it has none."""
        tree = config.plain(cfg)
        if dropped := config.drop_orphans(tree):
            print(f"dropped, since their tasks are not selected: {', '.join(dropped)}")
        hydra = HydraConfig.get()
        score, pruned = math.nan, False
        if VARIABLE in hydra.job.env_set:
            announce(hydra.sweeper, Path(hydra.sweep.dir))
        if self.verb not in jobs.WORK:
            work: Callable[[dict[str, Any]], int] = import_module(self.runs).main
            code, _, result = jobs.attempt(lambda: work(tree))
            code = code or result or 0
        elif hydra.mode == RunMode.MULTIRUN:
            (Path(hydra.sweep.dir) / "multirun.yaml").unlink(missing_ok=True)  # Hydra's copy of the tree, as it stands
            ended = self.in_sweep(tree, Path(hydra.runtime.output_dir), Path(hydra.sweep.dir))
            code, pruned = ended.exit_code or 0, ended.state == ledger.PRUNED
            score = math.nan if ended.score is None else ended.score
        else:
            code, score = jobs.run_job(tree, hydra.runtime.output_dir, self.verb)
        self.codes.append(code)
        if code in (INTERRUPTED, TERMINATED):
            raise SystemExit(code)  # the rest of a sweep as well
        if pruned and VARIABLE in os.environ:
            raise Pruned(str(hydra.runtime.output_dir))
        return score

    def in_sweep(self, tree: dict[str, Any], folder: Path, sweep: Path) -> ledger.Entry:
        """Run the job unless that was done, and put it into the sweep's ledger."""
        entry = ledger.Entry(jobs.settings(), folder.name, ledger.RUNNING)
        before = status_of(folder)
        ends = (ledger.FINISHED, ledger.PRUNED) if VARIABLE in os.environ else (ledger.FINISHED,)
        if before.get("state") in ends and self.verb == "train":
            if before.get("fingerprint") == config.fingerprint(tree):
                print(f"{before['state']} before, not run again: {os.path.relpath(folder)}", flush=True)
                return self._note(sweep, entry, before)
            error = UserError(
                f"{folder} holds a finished job of other settings; leave hydra.sweep.subdir alone, so that every "
                "job has a folder of its own, or choose another hydra.sweep.dir"
            )
            tell(f"graftrec: {error} (exit code {error.exit_code})")
            return self._note(sweep, entry, {"state": "failed", "exit_code": error.exit_code, "reason": str(error)})
        ledger.append(sweep, entry)
        code, _ = jobs.run_job(tree, str(folder), self.verb)
        left = {"state": "failed", "exit_code": code, "reason": "see what it printed"}  # where it left no folder
        return self._note(sweep, entry, status_of(folder) or left)

    @staticmethod
    def _note(sweep: Path, entry: ledger.Entry, status: dict[str, Any]) -> ledger.Entry:
        kept: dict[str, Any] = {key: status.get(key) for key in ("state", "exit_code", "score", "seconds")}
        ended = replace(entry, **kept, reason=str(status.get("reason", "")))
        ledger.append(sweep, ended)
        return ended
