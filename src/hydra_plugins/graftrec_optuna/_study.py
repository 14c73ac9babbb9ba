"""A study that can be left at any moment and taken up again."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from optuna.samplers import BaseSampler, QMCSampler
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState

from graftrec.config.instantiate import near
from graftrec.training.callbacks.optuna_trial import VARIABLE, default_storage, faults, part, unusable
from graftrec.utils import record_files
from graftrec.utils.errors import DataError, Pruned
from graftrec.utils.redaction import shown
from graftrec.utils.terminal_text import tell
from hydra_plugins.graftrec_optuna._space import Space

FAILS = "the trial fails, and another one takes its place"
DIRECTIONS = ("maximize", "minimize")


class Search:
    """Trials of one study; the arguments are those of the sweeper. ``folder`` is absolute."""

    def __init__(
        self,
        folder: Path,
        space: Space,
        n_trials: int = 20,
        n_jobs: int = 1,
        objectives: Sequence[str] = ("score",),
        directions: Sequence[str] = ("maximize",),
        sampler: str = "TPESampler",
        sampler_options: dict[str, Any] | None = None,
        pruner: str = "NopPruner",
        pruner_options: dict[str, Any] | None = None,
        seed: int = 0,
        storage: str | None = None,
        study_name: str = "sweep",
    ) -> None:
        self.folder, self.space = folder, space
        self.n_trials, self.n_jobs, self.seed = n_trials, n_jobs, seed
        self.objectives, self.directions = list(objectives), list(directions)
        self.sampler, self.sampler_options = sampler, dict(sampler_options or {})
        self.pruner, self.pruner_options = pruner, dict(pruner_options or {})
        self.storage, self.study_name = storage or default_storage(folder), study_name

    def begin(self, texts: Sequence[str], fixed: Sequence[str]) -> None:
        """Open the study, or make it.

        Raises:
            CompactHydraException: settings that cannot be, or a study of another search.
        """
        if problems := self.problems():
            raise CompactHydraException("\n".join(problems))
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=self.study_name,
                directions=[StudyDirection[way.upper()] for way in self.directions],
                load_if_exists=True,
            )
            before = self.study.user_attrs.get("asked")
            self.study.get_trials()
        except Exception as error:  # of SQLite, SQLAlchemy, Optuna or JSON, by where the damage is
            raise CompactHydraException(unusable(self.study_name, self.storage, error)) from error
        asked = {
            "fixed": sorted(fixed),
            "space": {name: repr(distribution) for name, (_, distribution) in sorted(self.space.items())},
            "objectives": [f"{way} {what}" for way, what in zip(self.directions, self.objectives, strict=True)],
        }
        if before not in (None, asked):
            kept = before if isinstance(before, dict) else {}
            differs = ", ".join(key for key in asked if kept.get(key) != asked[key])
            raise CompactHydraException(
                f"the study '{self.study_name}' in {shown(self.storage)} is of another search ({differs} differ); "
                "set hydra.sweeper.study_name or hydra.sweep.dir"
            )
        self.study.set_user_attr("asked", asked)
        self.cut_off = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        ended = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        self.left = self.n_trials - len(ended) - len(self.cut_off)

    def problems(self) -> list[str]:
        """Everything that is wrong with the settings."""
        found = []
        for key, least in (("n_trials", 1), ("n_jobs", 1), ("seed", 0)):
            if getattr(self, key) < least:
                found.append(f"hydra.sweeper.{key}: should be at least {least}, found {getattr(self, key)}")
        for key, make in (
            ("sampler", self._sampler),
            ("pruner", lambda: part("pruner", self.pruner, self.pruner_options)),
        ):
            try:
                make()
            except (ValueError, TypeError) as error:
                found.append(f"hydra.sweeper.{key}: {error}")
        for name in self.objectives:
            if name != "score" and not name.startswith(("val/", "fit/")):
                found.append(
                    f"hydra.sweeper.objectives: should be score, val/TASK/METRIC or fit/NAME, found '{name}'"
                    + ("; nothing is chosen on the test" if name.startswith("test/") else "")
                )
        wrong = [way for way in self.directions if way not in DIRECTIONS]
        found += [f"hydra.sweeper.directions: there is no '{way}'{near(way, DIRECTIONS)}" for way in wrong]
        if len(self.objectives) != len(self.directions):
            found.append(
                f"hydra.sweeper.directions: should be one for each of {len(self.objectives)} objectives, "
                f"found {len(self.directions)}"
            )
        if len(self.objectives) > 1 and self.pruner != "NopPruner":
            found.append("hydra.sweeper.pruner: Optuna prunes for one objective only; leave it out")
        elif self.pruner != "NopPruner" and (self.objectives, self.directions) != (["score"], ["maximize"]):
            found.append("hydra.sweeper.pruner: prunes by the score, so the objective should be score, maximize")
        return found

    @contextmanager
    def using(self) -> Iterator[None]:
        """While the study is asked and told.

        Raises:
            CompactHydraException: it was damaged, removed or locked meanwhile. A trial that ended is told by the next
                call, which finds its job finished.
        """
        try:
            yield
        except faults() as error:
            raise CompactHydraException(unusable(self.study_name, self.storage, error)) from error

    def next(self) -> list[Trial]:
        """Up to ``n_jobs`` trials to run now, those that were cut off first; none at the end."""
        trials: list[Trial] = []
        while len(trials) < self.n_jobs and (self.cut_off or self.left > 0):
            if self.cut_off:
                frozen = self.cut_off.pop(0)
                self.study.sampler = self._sampler(frozen.number)
                trial = Trial(self.study, frozen._trial_id)
            else:
                self.left -= 1
                self.study.sampler = self._sampler(len(self.study.get_trials(deepcopy=False)))
                trial = self.study.ask()
            for name, (_, distribution) in self.space.items():
                trial._suggest(name, distribution)  # what was drawn before stays
            trials.append(trial)
        return trials

    def _sampler(self, number: int = 0) -> BaseSampler:
        """The sampler of a trial. Its draws come from its number: a process that goes on does not draw again the same.

        A quasi-random sequence is one sequence only with one seed.
        """
        options = dict(self.sampler_options)
        kind = part("sampler", self.sampler)
        if "seed" in inspect.signature(kind).parameters and "seed" not in options:
            options["seed"] = self.seed if issubclass(kind, QMCSampler) else self.seed * 1_000_003 + number
        made: BaseSampler = part("sampler", self.sampler, options)
        return made

    @staticmethod
    def passed_on(trial: Trial) -> str:
        """The override by which a job knows its trial, in whatever process it runs."""
        return f"++hydra.job.env_set.{VARIABLE}={trial._trial_id}"

    def tell(self, trial: Trial, job: JobReturn) -> None:
        """How a job ended."""
        result = job._return_value
        if job.hydra_cfg is not None:
            trial.set_user_attr("folder", str(job.hydra_cfg.hydra.runtime.output_dir))
        if isinstance(result, Pruned):
            self.study.tell(trial, state=TrialState.PRUNED)
            return
        values = self._values(job) if job.status == JobStatus.COMPLETED else []
        if values and all(math.isfinite(value) for value in values):
            self.study.tell(trial, values)
        else:
            self.study.tell(trial, state=TrialState.FAIL)

    def _values(self, job: JobReturn) -> list[float]:
        """The objectives: the score that the job returned, and what its metrics.json says."""
        score = float(job._return_value)
        if self.objectives == ["score"] or not math.isfinite(score):
            return [score]
        file = Path(str(job.hydra_cfg.hydra.runtime.output_dir)) / "metrics.json"
        try:
            return self._measured(record_files.mapping(file, FAILS), file, score)
        except DataError as error:
            tell(f"graftrec: {error}")
            return [math.nan]

    def _measured(self, metrics: dict[str, Any], file: Path, score: float) -> list[float]:
        """The objectives in what a job measured. DataError where that is damaged."""
        values: list[float] = []
        for name in self.objectives:
            value: Any = score
            if name != "score":
                kind, _, rest = name.partition("/")
                task, _, metric = rest.partition("/")
                with record_files.reading(file, FAILS):
                    value = metrics["fit"].get(rest) if kind == "fit" else metrics["val"].get(task, {}).get(metric)
            if value is None:
                tell(f"graftrec: {file} has no number for the objective {name}, so the trial fails")
            with record_files.reading(file, FAILS):
                values.append(math.nan if value is None else float(value))
        return values
