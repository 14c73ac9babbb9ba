"""Processes that stay: each prepares the data once, then does one job after the other."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, TypeVar

from graftrec.utils.errors import described, raised
from graftrec.utils.signals import stop

Job = TypeVar("Job")
GRACE = 60.0  # seconds for a batch and a checkpoint, once a process is to end


class Workers:
    """So many fresh processes (never forks of one with threads), one thread each; fewer where there are fewer jobs.

    Args:
        count: processes. begin: called once in each with ``given``; what it returns is handed to every job's work. It
            and the works are functions of a module, since processes find them by name.
    """

    def __init__(self, count: int, begin: Callable[[Any], Any], given: Any) -> None:
        if count < 1:
            raise ValueError(f"count should be at least 1. Found {count}.")
        self.count, self._begin, self._given = count, begin, given
        self._processes: dict[Connection, Any] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def run(self, work: Callable[[Any, Job], Any], jobs: Sequence[Job]) -> Iterator[tuple[Job, Any]]:
        """Each job with what ``work(state, job)`` returned, in the order in which they end.

        Raises:
            UserError, DataError: as in the process. RuntimeError: any other failure there, or a process that died.
        """
        waiting, busy = list(reversed(jobs)), {}
        self._grow(min(self.count, len(waiting)))
        for connection in list(self._processes)[: len(waiting)]:
            busy[connection] = waiting.pop()
            self._send(connection, (work, busy[connection]))
        while busy:
            for ready in wait(list(busy)):
                connection = next(each for each in busy if each is ready)
                job, (failed, answer) = busy.pop(connection), self._receive(connection)
                if failed:
                    raise _error(answer)
                if waiting:
                    busy[connection] = waiting.pop()
                    self._send(connection, (work, busy[connection]))
                yield job, answer

    def close(self) -> None:
        """End all processes, whatever they do; what trains may save what it has."""
        for connection, process in self._processes.items():
            process.terminate()
            connection.close()
        until = time.monotonic() + GRACE
        for process in self._processes.values():
            process.join(max(0.0, until - time.monotonic()))
            process.kill()  # nothing, where it has ended
            process.join()
        self._processes = {}

    def _grow(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        method = multiprocessing.get_start_method(allow_none=True)
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"  # read where a library is loaded, which is before any code of ours
        multiprocessing.set_start_method("spawn", force=True)  # a process takes its own over: joblib's it does not know
        try:
            while len(self._processes) < count:
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs, self._begin, self._given), daemon=True)
                process.start()
                theirs.close()
                self._processes[ours] = process
        finally:
            multiprocessing.set_start_method(method, force=True)
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = before

    def _send(self, connection: Connection, message: Any) -> None:
        try:
            connection.send(message)
        except OSError as error:
            raise RuntimeError(self._died(connection)) from error

    def _receive(self, connection: Connection) -> tuple[bool, Any]:
        try:
            answer: tuple[bool, Any] = connection.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError(self._died(connection)) from error
        return answer

    def _died(self, connection: Connection) -> str:
        process = self._processes[connection]
        process.join(5)
        return (
            f"a process ended with the exit code {process.exitcode} (-9: killed, mostly for memory: use fewer workers)"
            "; the same command goes on where it stopped (a run's: with resume=auto)"
        )


def _serve(connection: Connection, begin: Callable[[Any], Any], given: Any) -> None:
    """The life of a process: it ends when it is told to, or when nobody is there any more.

    A signal lets a training save what it has, as it does in a process alone.
    """
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    with stop.signals():
        _work(connection, begin, given)


def _end_with(parent: Any) -> None:
    """Leave when the first process is gone: the same command again is to be alone in the folder."""
    parent.join()
    os._exit(1)


def _work(connection: Connection, begin: Callable[[Any], Any], given: Any) -> None:
    import torch

    torch.set_num_threads(1)
    state, ready = None, False
    while True:
        try:
            work, job = connection.recv()
        except (EOFError, OSError):
            return
        try:
            if not ready:
                state, ready = begin(given), True
            answer: tuple[bool, Any] = False, work(state, job)
        except Exception as error:
            told = described(error)
            answer = True, told | {"trace": "".join(traceback.format_exception(error))}
        connection.send(answer)


def _error(told: dict[str, Any]) -> BaseException:
    if told["kind"] == "other":
        return RuntimeError(f"{told['said'][0]} in a process:\n{told['trace']}")
    return raised(told)
