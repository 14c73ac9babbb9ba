"""Trainings side by side: in fresh processes of one thread each, or here, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch

from graftrec.data.protocols.base import Protocol as Prepared
from graftrec.runs.jobs_progress import JobsProgress
from graftrec.runs.worker_pool import Workers
from graftrec.training.builder import prepare
from graftrec.training.distributed import process_group
from graftrec.utils.machine import cores

MOST_WORKERS = 4


class Job(Protocol):
    """A training that has a name."""

    @property
    def words(self) -> str: ...


AnyJob = TypeVar("AnyJob", bound=Job)


def count_of(tree: Mapping[str, Any]) -> int:
    """How many processes a run's trainings have: ``workers``, else as many as there are cores, at most 4.

    One, where it has a single training at a time: several processes that train together (DDP), or a GPU.
    """
    if process_group.several() or (torch.cuda.is_available() and tree["trainer"].get("accelerator", "auto") != "cpu"):
        return 1
    return processes_of(tree.get("workers"))


def processes_of(asked: int | None) -> int:
    """So many as were asked for, else as many as there are cores, at most 4."""
    return asked or min(MOST_WORKERS, cores())


class Processes:
    """Where arms run: here, one after the other, or in fresh processes that stay for all of them."""

    def __init__(self, tree: Mapping[str, Any], protocol: Prepared, count: int) -> None:
        self._protocol, self.count = protocol, count
        self._workers = Workers(count, prepared, dict(tree)) if count > 1 else None

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *error: object) -> None:
        if self._workers is not None:
            self._workers.close()

    def run(self, work: Callable[[Prepared, AnyJob], Any], jobs: Sequence[AnyJob], name: str, console: Any) -> None:
        """Do all jobs, and say how far they are."""
        with JobsProgress(name, len(jobs), console, self.count) as progress:
            for job, found in self._each(work, jobs):
                progress.done(f"{job.words}  {name} {_said(found)}")

    def _each(self, work: Callable[[Prepared, AnyJob], Any], jobs: Sequence[AnyJob]) -> Iterator[tuple[AnyJob, Any]]:
        if self._workers is not None and len(jobs) > 1:
            yield from self._workers.run(work, jobs)
            return
        threads = torch.get_num_threads()
        if not process_group.several():
            torch.set_num_threads(1)  # as the processes, so that results do not depend on their number
        try:
            for job in jobs:
                yield job, work(self._protocol, job)
        finally:
            torch.set_num_threads(threads)


def prepared(tree: dict[str, Any]) -> Prepared:
    """What a process begins with: the data of all trainings."""
    return prepare(tree)[0]


def _said(found: Mapping[str, Any]) -> str:
    if "test" in found:
        return "done"
    score = found.get("val")
    said = [f"{found.get('seconds', 0.0):.1f} s" + (f", val {score:.4f}" if isinstance(score, float) else "")]
    return "; ".join([*said, *found.get("said", ())])
