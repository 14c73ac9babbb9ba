"""The sweeper: ask Optuna for a trial, launch it as a job, tell its score; optuna is imported only when it is used.

No ``from __future__ import annotations``: Hydra runs this file before it is in ``sys.modules``, where a dataclass would
look for the names in such annotations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional  # noqa: UP035 OmegaConf 2.3 reads these

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.errors import CompactHydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class OptunaSweeperConf:
    """What ``hydra.sweeper.NAME=VALUE`` can set; see `OptunaSweeper`."""

    _target_: str = "hydra_plugins.graftrec_optuna.sweeper.OptunaSweeper"
    n_trials: int = 20
    n_jobs: int = 1
    objectives: List[str] = field(default_factory=lambda: ["score"])  # noqa: UP006
    directions: List[str] = field(default_factory=lambda: ["maximize"])  # noqa: UP006
    sampler: str = "TPESampler"
    sampler_options: Dict[str, Any] = field(default_factory=dict)  # noqa: UP006
    pruner: str = "NopPruner"
    pruner_options: Dict[str, Any] = field(default_factory=dict)  # noqa: UP006
    seed: int = 0
    storage: Optional[str] = None  # noqa: UP045
    study_name: str = "sweep"
    params: Optional[Dict[str, str]] = None  # noqa: UP006, UP045


ConfigStore.instance().store(group="hydra/sweeper", name="optuna", node=OptunaSweeperConf, provider="graftrec")


class OptunaSweeper(Sweeper):  # type: ignore[misc]  # Hydra has no types
    """A search over ``key=a,b``, ``key=range(1,9)``, ``key=interval(0,1)`` and ``key=tag(log,interval(1e-4,1e-1))``.

    The study lies in the sweep's folder, so the same command goes on where it was stopped: trials that ended stay,
    those that were cut off run again with their own parameters, failed ones are replaced.

    Args:
        n_trials: in all, with those of earlier calls; trials that failed before do not count.
        n_jobs: trials that are launched together; more than one needs a launcher that runs jobs side by side.
        objectives: ``score`` (validation, higher is better), or of metrics.json ``val/TASK/METRIC`` or ``fit/NAME``.
        directions: ``maximize`` or ``minimize``, one for each objective.
        sampler: a class of ``optuna.samplers``, made with ``sampler_options``.
        pruner: a class of ``optuna.pruners``, made with ``pruner_options``; it reads the score of each validation.
        seed: of the sampler; a trial's draw depends on it and on what was found before, not on interruptions.
        storage: an Optuna storage URL; None: ``study.db``, a SQLite file in the sweep's folder.
        params: more of the search space, as ``key: values``.
    """

    def __init__(self, params: dict[str, str] | None = None, **settings: Any) -> None:
        super().__init__()
        self.params = dict(params or {})
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what a launcher needs, and make the launcher."""
        from hydra.core.plugins import Plugins

        self.hydra_context = hydra_context
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Run trials until there are ``n_trials``.

        Raises:
            CompactHydraException: settings that cannot be, all of them at once, before the first trial.
        """
        try:
            from hydra_plugins.graftrec_optuna import _space, _study
        except ModuleNotFoundError as error:
            raise CompactHydraException(
                f"hydra/sweeper=optuna needs the package {error.name}: pip install 'graftrec[optuna]'"
            ) from error
        folder = Path(str(self.config.hydra.sweep.dir)).absolute()
        texts = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        fixed, space = _space.parse(texts, self.hydra_context.config_loader)
        search = _study.Search(folder=folder, space=space, **self.settings)
        search.begin([text for text in texts if text.partition("=")[0].lstrip("+") not in space], fixed)
        returns: list[Sequence[JobReturn]] = []
        while True:
            with search.using():
                trials = search.next()
                jobs = [[*fixed, *_space.written(trial.params, space), search.passed_on(trial)] for trial in trials]
            if not trials:
                return returns
            found = self.launcher.launch(jobs, initial_job_idx=trials[0].number)
            with search.using():
                for trial, job in zip(trials, found, strict=True):
                    search.tell(trial, job)
            returns.append(found)
