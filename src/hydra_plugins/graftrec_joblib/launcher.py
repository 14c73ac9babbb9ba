"""The launcher: hydra-joblib-launcher's, which ends the whole sweep where one of its processes is killed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus

from graftrec.runs.sweep import job_log
from graftrec.utils.signals import stop
from graftrec.utils.terminal_text import tell

try:
    from hydra_plugins.hydra_joblib_launcher.joblib_launcher import JoblibLauncher  # type: ignore[import-untyped]
except ImportError:  # an extra of ours
    JoblibLauncher = object

TRIES = 2  # joblib ends all processes with one, so a job that ran beside a killed one is innocent
LOST = "its process was killed (mostly for memory: use fewer hydra.launcher.n_jobs)"
Settings = frozenset[str]


class SteadyJoblibLauncher(JoblibLauncher):  # type: ignore[misc]  # Hydra has no types
    """Runs again what was lost with a process that was killed; a job that is lost twice has failed."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run all jobs; those that finished in an earlier try are not run again."""
        from joblib.externals.loky.process_executor import BrokenProcessPool  # type: ignore[import-untyped]

        sweep = Path(str(self.config.hydra.sweep.dir))
        begun, lost, failed = len(job_log.read(sweep)), Counter[Settings](), set[Settings]()
        while True:
            left = [each for each in job_overrides if settings_of(each) not in failed]
            try:
                found = iter(super().launch(left, initial_job_idx) if left else ())
                break
            except BrokenProcessPool:
                if stop.number is not None:
                    raise SystemExit(128 + stop.number) from None
                gone = [
                    entry for entry in job_log.latest(job_log.read(sweep)[begun:]) if entry.state == job_log.RUNNING
                ]
                for entry in gone:
                    key = frozenset(entry.settings)
                    lost[key] += 1
                    again = lost[key] < TRIES
                    failed |= set() if again else {key}
                    state = {"state": job_log.KILLED} if again else {"state": job_log.FAILED, "exit_code": 1}
                    job_log.append(sweep, replace(entry, **state, reason=LOST))
                    tell(f"graftrec: {entry.folder}: {LOST}; {'it runs again' if again else 'it has failed'}")
                if not gone:  # processes that cannot even begin
                    raise
        if stop.number is not None:  # its jobs were stopped, and the sweeper is to launch no others
            raise SystemExit(128 + stop.number)
        return [_failed() if settings_of(each) in failed else next(found) for each in job_overrides]


def settings_of(overrides: Sequence[str]) -> Settings:
    """What a job is known by in the ledger."""
    return frozenset(each for each in overrides if not each.lstrip("+~").startswith("hydra"))


def _failed() -> JobReturn:
    found: Any = JobReturn()
    found.status, found.return_value = JobStatus.COMPLETED, math.nan
    return found
