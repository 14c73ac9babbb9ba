"""A sweep as a whole: its folder, what it is going to run, and what has become of it at the end."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from graftrec.config import instantiate
from graftrec.runs import run_folder
from graftrec.runs.overrides import loader_of
from graftrec.runs.sweep import job_log, launched_jobs
from graftrec.training.callbacks.optuna_trial import default_storage, unusable
from graftrec.utils import best_effort
from graftrec.utils.atomic_files import remove
from graftrec.utils.errors import UserError
from graftrec.utils.machine import cores
from graftrec.utils.redaction import words
from graftrec.utils.terminal_text import tell

AT_ONCE = 20  # jobs that Hydra composes before the first of them begins, which takes 0.1 s each
STEADY = "hydra_plugins.graftrec_joblib.launcher.SteadyJoblibLauncher"
BUDGET = ("n_trials", "n_jobs", "storage", "max_batch_size")  # of a sweeper: how much of a search, not which


@dataclass
class Sweep:
    """``planned`` are the settings of each job; None where the sweeper decides as it goes."""

    command: str
    alone: tuple[list[str], list[str]]  # what one job's command has before and after its settings
    name: str
    folder: Path
    planned: list[tuple[str, ...]] | None
    study: dict[str, Any] | None  # settings of an Optuna sweeper
    begun: int = 0
    joblib: bool = False  # jobs run in processes of this one
    _lock: Any = field(default=None, repr=False)

    def begin(self) -> None:
        """Keep others out of the folder until `end`.

        Raises:
            UserError: another process is at the same sweep.
        """
        run_folder.check(self.folder, run_folder.OF_SWEEP, "hydra.sweep.dir")
        run_folder.mark(self.folder, "sweep")
        self._lock = FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"{self.folder}: another process is running this sweep; wait for it or stop it") from error
        self.begun = len(job_log.read(self.folder))
        if odd := job_log.damaged(self.folder):
            tell(
                f"graftrec: {self.folder / 'jobs.jsonl'}: {odd} damaged line(s) left out; what became of these jobs is "
                "read from their folders"
            )

    def passing_on(self) -> AbstractContextManager[None]:
        """What a signal has to come through to reach jobs in other processes."""
        return launched_jobs.passed_on(self.folder) if self.joblib else nullcontext()

    def end(self) -> list[int]:
        """Show what there is now; the exit codes of the jobs of this call."""
        try:
            lines = job_log.read(self.folder)
            mine = job_log.latest(lines[self.begun :])
            if not lines:
                return []
            jobs = [_ended(entry) for entry in job_log.latest(lines, self.planned)]
            best_effort.tried({"the sweep's report": partial(self._report, jobs)})
            return [1 if entry.exit_code is None else entry.exit_code for entry in mine]
        finally:
            remove(self.folder / "multirun.yaml")  # where no job removed Hydra's copy of the tree
            self._lock.release()
            remove(self.folder / ".lock")

    def _report(self, jobs: list[job_log.Entry]) -> None:
        from graftrec.runs.sweep import sweep_summary as report

        report.write(self.folder, jobs, self.command, self._single, self._study())

    def _single(self, job: job_log.Entry) -> str:
        before, after = self.alone
        return shlex.join([*before, *words(job.settings), *after])

    def _study(self) -> Any:
        """The Optuna study, where there is one; what its jobs came to is shown without it as well."""
        if self.study is None:
            return None
        import optuna

        name, storage = self.study["study_name"], self.study["storage"] or default_storage(self.folder)
        try:
            study = optuna.load_study(study_name=name, storage=storage)
            study.get_trials()
            return study
        except Exception as error:  # of SQLite, SQLAlchemy, Optuna or JSON, by where the damage is
            tell(f"graftrec: the sweep's report is without its study: {unusable(name, storage, error)}")
            return None


def _ended(entry: job_log.Entry) -> job_log.Entry:
    """Nothing runs any more: what never ended was killed."""
    return replace(entry, state=job_log.KILLED) if entry.state == job_log.RUNNING else entry


def sweep_of(verb: str, argv: list[str], config_dirs: Sequence[str]) -> Sweep | None:
    """The sweep that a command line asks for, if it does; ``argv`` gets the folder that the sweep is in.

    The same sweep, its settings in whatever order, has the same folder, so that it finds the jobs that it has done.
    """
    from hydra._internal.utils import get_args_parser
    from hydra.types import RunMode

    args, _ = get_args_parser().parse_known_args(argv)
    if not args.multirun:
        return None
    typed = list(argv)
    loader = loader_of(config_dirs)
    cfg = loader.load_configuration(args.config_name or verb, args.overrides, RunMode.MULTIRUN, from_shell=False)
    plain = _container(cfg)
    hydra = plain.pop("hydra")
    instantiate.drop_orphans(plain)
    sweeper = {key: value for key, value in hydra["sweeper"].items() if key not in BUDGET}
    swept = sorted(text.lstrip("+") for text in _swept(hydra["overrides"]["task"], loader))
    asked = json.dumps([verb, instantiate.fingerprint(plain), swept, sweeper], sort_keys=True, default=str)
    name = hashlib.sha256(asked.encode()).hexdigest()[:12]
    folder = str(hydra["sweep"]["dir"])
    if "${" in folder:
        instantiate.register_resolvers(name)
        folder = str(cfg.hydra.sweep.dir)
        argv.append(f"hydra.sweep.dir={_quoted(folder)}")
    grid = str(sweeper["_target_"]).endswith(".BasicSweeper")
    if (
        grid
        and hydra["sweeper"]["max_batch_size"] is None
        and str(hydra["launcher"]["_target_"]).endswith(".BasicLauncher")
    ):
        argv.append(f"hydra.sweeper.max_batch_size={AT_ONCE}")
    joblib = str(hydra["launcher"]["_target_"]).endswith(".JoblibLauncher")
    planned = _grid(hydra, loader) if grid else None
    if joblib:
        argv.append(f"hydra.launcher._target_={STEADY}")
        if planned is not None and hydra["launcher"].get("n_jobs", -1) in (-1, None):  # an idle process hears nothing
            argv.append(f"hydra.launcher.n_jobs={max(1, min(cores(), len(planned)))}")
    study = instantiate.plain(cfg.hydra.sweeper) if "graftrec_optuna" in str(sweeper["_target_"]) else None
    own = ["--config-dir", config_dirs[-1]] if config_dirs else []
    by_file = ["hydra.mode=RUN"] if str(hydra["mode"]).endswith("MULTIRUN") else []  # one job of it is no sweep
    return Sweep(
        command=shlex.join(["graftrec", verb, *words(typed)]),
        alone=(["graftrec", verb, *own], by_file),
        name=name,
        folder=Path(folder),
        planned=planned,
        study=study,
        joblib=joblib,
    )


def _container(cfg: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    found: dict[str, Any] = OmegaConf.to_container(cfg, resolve=False)
    return found


def _parse(texts: Sequence[str], loader: Any) -> list[Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return list(OverridesParser.create(loader).parse_overrides(list(texts)))


def _swept(texts: Sequence[str], loader: Any) -> list[str]:
    """Those that take several values; the others are in the tree."""
    return [str(override.input_line) for override in _parse(texts, loader) if override.is_sweep_override()]


def _grid(hydra: dict[str, Any], loader: Any) -> list[tuple[str, ...]]:
    """The jobs of Hydra's own sweeper, by its own function."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    params = [f"{key}={value}" for key, value in (hydra["sweeper"].get("params") or {}).items()]
    parsed = _parse([*params, *hydra["overrides"]["task"]], loader)
    return [tuple(settings) for batch in BasicSweeper.split_arguments(parsed, None) for settings in batch]


def _quoted(text: str) -> str:
    from hydra.core.override_parser.types import Quote, QuotedString

    return str(QuotedString(text, Quote.single).with_quotes())
