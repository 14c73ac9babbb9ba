"""The trial that a job is of, where an Optuna sweeper launched it: reports scores, and says whether to go on."""

from __future__ import annotations

import inspect
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from graftrec.config.instantiate import near
from graftrec.utils.redaction import shown
from graftrec.utils.terminal_text import tell

VARIABLE = "GRAFTREC_TRIAL"  # the environment reaches every process of a job
ANEW = "move it away, and the same command begins the search anew: what it has finished is not trained again"
MENDS = {  # what SQLite says of a study that is not damaged -> what to do
    "database is locked": "another program has locked it: end that one, and the same command goes on",
    "is full": "the disk is full: make room, and the same command goes on",
    "readonly database": "it was removed or may not be written: put it right, and the same command goes on",
}


def part(kind: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
    """A sampler or pruner of Optuna by its class's name; the class itself without ``options``.

    Raises:
        ValueError: there is none, or it does not take the options.
    """
    import optuna

    package = {"sampler": optuna.samplers, "pruner": optuna.pruners}[kind]
    base = {"sampler": optuna.samplers.BaseSampler, "pruner": optuna.pruners.BasePruner}[kind]
    known = [
        each for each, value in vars(package).items()
        if inspect.isclass(value) and issubclass(value, base) and not inspect.isabstract(value)
    ]  # fmt: skip
    if name not in known:
        raise ValueError(f"there is no {kind} '{name}'{near(name, known)}")
    found = getattr(package, name)
    if options is None:
        return found
    takes = inspect.signature(found).parameters
    if unknown := [key for key in options if key not in takes]:
        raise ValueError("; ".join(f"{name} takes no '{key}'{near(key, takes)}" for key in unknown))
    return found(**options)


def unusable(study_name: str, storage: str, error: BaseException) -> str:
    """What is wrong with a study that cannot be read or written, and what to do."""
    said = " ".join(f"{type(error).__name__}: {error.__cause__ or error}".partition("[SQL")[0].split())
    what = next((what for text, what in MENDS.items() if text in said), ANEW)
    return f"the study '{study_name}' in {shown(storage)} cannot be used ({shown(said[:200])}); {what}"


def faults() -> tuple[type[Exception], ...]:
    """What Optuna raises where the storage fails, whatever is asked of it; KeyError: the study or the trial is gone."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    return KeyError, StorageInternalError, SQLAlchemyError


class Trial:
    """Reports a score after each validation and learns whether the trial is to end."""

    def __init__(
        self, storage: str, study_name: str, trial_id: int, pruner: str, pruner_options: Mapping[str, Any]
    ) -> None:
        self._study, self._storage, self._trial_id = study_name, storage, trial_id
        self._pruner = part("pruner", pruner, pruner_options)
        self._trial: Any = None
        self._told = False

    def is_hopeless(self, score: float, step: int) -> bool:
        """Report the score of the validation number ``step`` (from 0); whether the pruner ends the trial.

        A study that cannot be used costs no training: it goes on, and is not pruned.
        """
        try:
            return self._reported(score, step)
        except faults() as error:
            if not self._told:
                tell(f"graftrec: this trial is not pruned: {unusable(self._study, self._storage, error)}")
            self._told = True
            return False

    def _reported(self, score: float, step: int) -> bool:
        import optuna

        if self._trial is None:
            optuna.logging.set_verbosity(optuna.logging.WARNING)
            study = optuna.load_study(study_name=self._study, storage=self._storage, pruner=self._pruner)
            self._trial = optuna.trial.Trial(study, self._trial_id)
        if len(self._trial.study.directions) > 1:
            return False  # Optuna prunes for one objective only
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a trial that was cut off says the same again
            self._trial.report(score, step)
        return bool(self._trial.should_prune())


def default_storage(sweep: Path) -> str:
    """Where a study lies unless it is told otherwise: a SQLite file in the sweep's folder."""
    return f"sqlite:///{sweep.absolute()}/study.db"


def announce(sweeper: Mapping[str, Any], sweep: Path) -> None:
    """Turn the number of the trial in the environment, all that Hydra prints, into what `current` needs."""
    kept = {key: sweeper[key] for key in ("study_name", "pruner")}
    said = {
        **kept,
        "storage": sweeper["storage"] or default_storage(sweep),
        "pruner_options": dict(sweeper["pruner_options"]),
        "trial_id": int(os.environ[VARIABLE]),
    }
    os.environ[VARIABLE] = json.dumps(said)


def current() -> Trial | None:
    """The trial of this job, if it is one."""
    said = os.environ.get(VARIABLE)
    return Trial(**json.loads(said)) if said else None


@contextmanager
def unasked() -> Iterator[None]:
    """What trains inside tells the trial nothing: one training of a job is what it is judged by."""
    said = os.environ.pop(VARIABLE, None)
    try:
        yield
    finally:
        if said is not None:
            os.environ[VARIABLE] = said
