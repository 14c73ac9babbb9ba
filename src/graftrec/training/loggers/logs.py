"""The logs of a run: one metrics.csv for all its phases, and Weights & Biases where it is wanted."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import Logger

from graftrec.training.loggers import wandb_run
from graftrec.utils import record_files
from graftrec.utils.atomic_files import whole
from graftrec.utils.redaction import redact

_FIXED = ("phase", "step", "epoch")
_Row = dict[str, str]


class CsvLog(Logger):
    """``metrics.csv``: one row per logged step of every phase; steps run on from phase to phase.

    Columns may appear at any time, so rows stay in memory and the file is replaced as a whole: at most every two
    seconds while training, and always at the end of a phase. A file that is there already is replaced, unless
    `load_state_dict` says how far it counts.
    """

    every_s = 2.0

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self._rows: list[_Row] = []
        self._found = self._read()  # by an earlier process
        self._phase, self._offset = "", 0
        self._next_write, self._dirty = 0.0, False

    @property
    def name(self) -> str:
        """Nothing is nested under a name: the file lies in the run's folder."""
        return ""

    @property
    def version(self) -> str:
        """A run folder holds one version."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.path.parent)

    def phase(self, name: str) -> None:
        """Begin a phase: its step 0 follows the last step of the phases before it."""
        self._phase = name
        self._offset = max((int(row["step"]) for row in self._rows), default=-1) + 1
        self._write()

    def state_dict(self) -> dict[str, Any]:
        """How far the file counts; it holds all that until then was logged."""
        self._write()
        last = dict(self._rows[-1]) if self._rows else {}  # it may still grow
        return {"phase": self._phase, "offset": self._offset, "rows": len(self._rows), "last": last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the file that is there, as far as it counts."""
        kept = self._found[: max(0, state["rows"] - 1)]
        self._rows = kept + ([dict(state["last"])] if state["last"] else [])
        self._phase, self._offset, self._dirty = state["phase"], state["offset"], True

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Put values into the row of this step."""
        values = {name: _text(value) for name, value in metrics.items()}
        here = {"phase": self._phase, "step": str(self._offset + (step or 0))}
        last = self._rows[-1] if self._rows else {}
        same = all(last.get(key) == value for key, value in here.items())
        if same and all(last.get(key, value) == value for key, value in values.items()):
            last.update(values)
        else:
            self._rows.append({**here, **values})
        self._dirty = True

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The configuration has its own file, config.yaml."""

    def save(self) -> None:
        """Write the file, unless that was done a moment ago."""
        if time.monotonic() >= self._next_write:
            self._write()

    def finalize(self, status: str) -> None:
        """Write the file."""
        self._write()

    def show(self, metrics: Mapping[str, Any]) -> None:
        """The results have files of their own."""

    def close(self, exit_code: int) -> None:
        """Write the file: the run has ended."""
        self._write()

    def rows(self) -> list[_Row]:
        """The rows of a file that an earlier process or logger wrote."""
        return self._found

    def _read(self) -> list[_Row]:
        if not self.path.is_file():
            return []
        advice = "delete it, and the curves begin where the run goes on"
        with record_files.reading(self.path, advice), self.path.open(newline="", encoding="utf-8") as file:
            try:
                rows = [{k: v for k, v in row.items() if k and v} for row in csv.DictReader(file)]
            except csv.Error as error:
                raise ValueError(str(error)) from error
        return [{**row, "phase": row.get("phase", "")} for row in rows if row.get("step", "").isdecimal()]

    @rank_zero_only
    def _write(self) -> None:
        if not self._dirty:
            return
        begun = time.monotonic()
        columns = list(dict.fromkeys([*_FIXED, *(key for row in self._rows for key in row)]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with whole(self.path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self._rows)
        now = time.monotonic()
        self._dirty, self._next_write = False, now + max(self.every_s, 20 * (now - begun))


def _text(value: Any) -> str:
    """A cell of metrics.csv: whole numbers as they are, others with nine digits."""
    value = value.item() if hasattr(value, "item") else value
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer() and abs(value) < 2**53)
    return str(int(value)) if whole else f"{value:.9g}" if isinstance(value, float) else str(value)


def replay(folder: Path, seed: int, first: bool, loggers: Sequence[Any]) -> None:
    """Give ``loggers`` what the metrics.csv in ``folder`` holds, the log of one seed's training.

    metrics.csv has a column ``seed``; elsewhere the metrics of all but the ``first`` seed begin with ``seed_1/``.
    """
    phase, start = None, 0
    for row in CsvLog(folder).rows():
        step = int(row["step"])
        if row["phase"] != phase:
            phase, start = row["phase"], step
            for logger in loggers:
                logger.phase(phase)
        values = {name: float(cell) for name, cell in row.items() if name not in ("phase", "step")}
        for logger in loggers:
            if isinstance(logger, CsvLog):
                logger.log_metrics({"seed": seed, **values}, step - start)
            else:
                named = values if first else {f"seed_{seed}/{name}": value for name, value in values.items()}
                logger.log_metrics(named, step - start)


class WandbLog(WandbLogger):
    """Weights & Biases: one run per job, begun at once, offline where there is no key or no network.

    ``offline``: true never uses the network, false insists on it, null finds out. ``config`` is a plain dict, of which
    W&B gets no secret. Where a run is gone on with (``again``), so is its W&B run.
    """

    def __init__(
        self,
        folder: str | Path,
        config: dict[str, Any] | None = None,
        group: str | None = None,
        project: str = "graftrec",
        offline: bool | None = None,
        again: bool = False,
    ) -> None:
        if not 1 <= len(project) <= 128 or set(project) & set("/\\#?%:") or not project.isprintable():
            raise ValueError(
                f"project should be a name of 1 to 128 letters without / \\ # ? % and :. Found {project!r}."
            )
        self._folder = Path(folder)
        run = (
            wandb_run.begin(self._folder, project, group, redact(dict(config or {})), offline, again)
            if getattr(rank_zero_only, "rank", 0) == 0
            else None
        )
        super().__init__(save_dir=str(folder), project=project, experiment=run)
        self._phase, self._offset, self._last = "", 0, -1

    def phase(self, name: str) -> None:
        """Begin a phase: its step 0 follows the last step of the phase before it."""
        self._phase, self._offset = name, self._last + 1

    def state_dict(self) -> dict[str, Any]:
        """Where its steps are."""
        return {"phase": self._phase, "offset": self._offset, "last": self._last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting from there, in the W&B run of this process."""
        self._phase, self._offset, self._last = state["phase"], state["offset"], state["last"]

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Send the values of one step, with the phase they belong to."""
        at = self._offset + (step or 0)
        self._last = max(self._last, at)
        row: dict[str, Any] = {**metrics, "phase": self._phase} if self._phase else dict(metrics)
        super().log_metrics(row, at)

    @rank_zero_only
    def show(self, metrics: Mapping[str, Any]) -> None:
        """Send what the run's folder has by its end: a table of results, the plots, and the best checkpoint.

        The checkpoint is an artifact with its manifest and the configuration; its sha256 is in the metadata.
        """
        columns, rows = wandb_run.results(metrics)
        self.log_table("results", columns=columns, data=rows)
        for plot in sorted(self._folder.glob("*.png")):
            self.log_image(plot.stem, [str(plot)])
        if self.experiment.disabled:
            return
        wandb_run.send_checkpoint(self.experiment, self._folder)

    def close(self, exit_code: int) -> None:
        """End the W&B run, so that the next job of a sweep starts its own; a failed job shows as failed."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=exit_code)
        self._experiment = None
