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

from graftrec.config import command_line, instantiate
from graftrec.runs import data_identity, job
from graftrec.runs.resume import status_of
from graftrec.runs.sweep import job_log, launched_jobs
from graftrec.training.callbacks.optuna_trial import VARIABLE, announce
from graftrec.utils import record_files, standard_streams
from graftrec.utils.atomic_files import remove
from graftrec.utils.errors import INTERRUPTED, TERMINATED, DataError, Pruned, UserError
from graftrec.utils.terminal_text import say, tell

REFUSED = 3  # jobs at a sweep's beginning; what is wrong with all of them is wrong with the rest


class Job:
    """One job of a sweep, or the run. Hydra would turn an exception into 1, so none leaves.

    Only an end of everything does (`SystemExit`), and `Pruned` for the sweeper that prunes.
    """

    def __init__(self, verb: str, runs: str, sweep: str) -> None:
        self.verb, self.runs, self.sweep = verb, runs, sweep
        self.codes: list[int] = []
        self.parent, self.child = os.getpid(), False

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A launcher's process composes jobs itself, before it calls this."""
        standard_streams.last()
        self.__dict__.update(state)
        self.child = os.getppid() == self.parent  # of joblib; others start theirs elsewhere
        instantiate.register_resolvers(self.sweep)

    def __call__(self, cfg: Any) -> float:
        """Run ``cfg``; its score, NaN if it has none."""
        tree = instantiate.plain(cfg)
        if dropped := instantiate.drop_orphans(tree):
            say(f"dropped, since their tasks are not selected: {', '.join(dropped)}")
        hydra = HydraConfig.get()
        score, pruned = math.nan, False
        if self.child:
            launched_jobs.attend(Path(hydra.sweep.dir), self.parent)
            if launched_jobs.is_stopping(Path(hydra.sweep.dir)):
                return score
        if VARIABLE in hydra.job.env_set:
            announce(hydra.sweeper, Path(hydra.sweep.dir))
        if self.verb not in job.WORK:
            work: Callable[[dict[str, Any]], int] = import_module(self.runs).main
            code, _, result = job.attempt(lambda: work(tree))
            code = code or result or 0
        elif hydra.mode == RunMode.MULTIRUN:
            remove(Path(hydra.sweep.dir) / "multirun.yaml")  # Hydra's copy of the tree, as it stands
            ended = self.in_sweep(tree, Path(hydra.runtime.output_dir), Path(hydra.sweep.dir))
            code, pruned = ended.exit_code or 0, ended.state == job_log.PRUNED
            score = math.nan if ended.score is None else ended.score
        else:
            code, score = job.run_job(tree, hydra.runtime.output_dir, self.verb)
        self.codes.append(code)
        if hydra.mode == RunMode.MULTIRUN and self.codes == [UserError.exit_code] * REFUSED:
            tell(f"graftrec: the first {REFUSED} jobs were refused, so the sweep ends here; mend what is said above")
            raise SystemExit(UserError.exit_code)
        if code in (INTERRUPTED, TERMINATED):
            if self.child:  # the others save what they have, which an exception would not let them
                return score
            raise SystemExit(code)  # the rest of a sweep as well
        if pruned and VARIABLE in os.environ:
            raise Pruned(str(hydra.runtime.output_dir))
        return score

    def in_sweep(self, tree: dict[str, Any], folder: Path, sweep: Path) -> job_log.Entry:
        """Run the job unless that was done, and put it into the sweep's ledger."""
        entry = job_log.Entry(command_line.settings(), folder.name, job_log.RUNNING)
        before = status_of(folder)
        ends = (job_log.FINISHED, job_log.PRUNED) if VARIABLE in os.environ else (job_log.FINISHED,)
        if before.get("state") in ends and self.verb == "train":
            if before.get("fingerprint") == instantiate.fingerprint(tree):
                changed = self._changed(tree, folder, before)
                if changed:
                    tell(f"graftrec: {changed}; the job is trained again")
                    return self._train(tree, folder, sweep, entry)
                say(f"{before['state']} before, not run again: {os.path.relpath(folder)}")
                return self._note(sweep, entry, before)
            error = UserError(
                f"{folder} holds a finished job of other settings; leave hydra.sweep.subdir alone, so that every "
                "job has a folder of its own, or choose another hydra.sweep.dir"
            )
            tell(f"graftrec: {error} (exit code {error.exit_code})")
            return self._note(sweep, entry, {"state": "failed", "exit_code": error.exit_code, "reason": str(error)})
        return self._train(tree, folder, sweep, entry)

    @staticmethod
    def _changed(tree: dict[str, Any], folder: Path, status: dict[str, Any]) -> str:
        """Why a finished job does not count: its results are not as it left them, or the data are others now."""
        try:
            record_files.check(folder, status, "it was of a finished job")
            data_identity.check_job(tree, folder)
        except (DataError, UserError) as error:
            return str(error)
        return ""

    def _train(self, tree: dict[str, Any], folder: Path, sweep: Path, entry: job_log.Entry) -> job_log.Entry:
        job_log.append(sweep, entry)
        code, _ = job.run_job(tree, str(folder), self.verb)
        left = {"state": "failed", "exit_code": code, "reason": "see what it printed"}  # where it left no folder
        said = status_of(folder)
        return self._note(sweep, entry, said if said.get("exit_code") == code else left)

    @staticmethod
    def _note(sweep: Path, entry: job_log.Entry, status: dict[str, Any]) -> job_log.Entry:
        kept: dict[str, Any] = {key: status.get(key) for key in ("state", "exit_code", "score", "seconds")}
        ended = replace(entry, **kept, reason=str(status.get("reason", "")))
        job_log.append(sweep, ended)
        return ended
