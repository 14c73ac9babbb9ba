"""One job: train a tree in a folder, whatever happens, and say in ``status.json`` how it ended."""

from __future__ import annotations

import json
import math
import os
import shlex
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from graftrec.config.command_line import command
from graftrec.config.instantiate import fingerprint, problems_of_tree
from graftrec.runs import data_identity, run_folder
from graftrec.runs.resume import ENDED, folder_of, held, status_of
from graftrec.training.distributed.launcher import PATIENCE, launch
from graftrec.training.distributed.rank import check, leave, outside
from graftrec.utils import record_files
from graftrec.utils.atomic_files import UNUSABLE, remove, write_text
from graftrec.utils.errors import DISK, INTERRUPTED, TERMINATED, DataError, RankError, Stopped, UserError, outcome
from graftrec.utils.redaction import redact, shown
from graftrec.utils.signals import stop
from graftrec.utils.terminal_text import say, tell

T = TypeVar("T")
WORKER = ("-m", "graftrec.runs.worker")  # a rank of a job
WORK = {"train": "graftrec.runs.train", "audit": "graftrec.runs.audit.audit"}  # verb -> the module with its function


def run_job(tree: dict[str, Any], folder: str, verb: str = "train") -> tuple[int, float]:
    """Train or audit ``tree``; (exit code, score), the score NaN unless the code is 0.

    The folder is another one if ``resume`` says so; one where it has finished is left as it is. A process that torchrun
    or SLURM started together with others has no more to do than this, and ends here.
    """
    rank = outside()
    if rank is not None and verb == "train":
        group = import_module("graftrec.training.distributed.process_group")

        def begin() -> None:
            check(tree["trainer"], rank)
            group.begin(rank, tree, patience=float(tree.get("patience", PATIENCE)))

        code, _, _ = attempt(begin)
        leave(code or (_lead if rank.number == 0 else _follow)(tree, folder, group))
    return _run(tree, folder, verb)


def _lead(tree: dict[str, Any], folder: str, group: Any) -> int:
    """The first of several processes that torchrun or SLURM started: as one alone, but the others learn where."""
    told: list[Path] = []

    def train(out: Path, give_up: Callable[[str], None]) -> float:
        told.append(out)
        group.of_first(lambda: (0, str(out)))
        return _beside(tree, out, group, give_up)

    code, _ = _run(tree, folder, "train", train)
    if not told:  # there is nothing to train
        group.of_first(lambda: (code, ""))
    return code


def _follow(tree: dict[str, Any], folder: str, group: Any) -> int:
    """Another one of them: it trains in the first one's folder, and writes nothing."""
    code, _, found = attempt(lambda: group.of_first(lambda: None))
    if found is None:
        return code
    code, out = found
    if out != folder:
        with suppress(OSError):  # Hydra made it, some seconds after the first one's
            remove(Path(folder))
    return attempt(lambda: _beside(tree, Path(out), group, None))[0] if out else code


def _beside(tree: dict[str, Any], out: Path, group: Any, give_up: Callable[[str], None] | None) -> float:
    """Train as one of several processes that watch each other.

    Raises:
        RankError: another one has failed or is gone.
    """
    watch = group.watch(float(tree.get("patience", PATIENCE)), give_up)
    try:
        score = float(import_module(WORK["train"]).train(tree, out))
        group.end()
        return score
    except BaseException as error:
        reason = outcome(error)[1]
        if not group.is_echo(error):
            watch.fail(reason)
            raise
        stop.listening = True  # torchrun tells those that are left to end, before they can say why
        why = watch.blame() or reason
        if isinstance(error, Stopped) and "stopped by" in why:
            raise
        raise RankError(why) from error


def _run(
    tree: dict[str, Any], folder: str, verb: str, train: Callable[[Path, Callable[[str], None]], float] | None = None
) -> tuple[int, float]:
    """See `run_job`; ``train`` takes the place of the verb's function.

    It gets the folder, and what ends this process at once where it cannot go on: a function of the reason.
    """
    start = time.monotonic()
    code, _, out = attempt(lambda: folder_of(tree, Path(folder)))
    if out is None:
        return code, math.nan
    if out != Path(folder):
        with suppress(OSError):  # Hydra made it, and it is not empty if somebody else uses it
            remove(Path(folder))
    before = status_of(out)
    if tree.get("resume") is not None and before.get("state") in ENDED:
        code, _, damage = attempt(lambda: _damage(tree, out, before, verb))
        if damage is None:
            return code, math.nan
        if not damage:
            say(f"{before['state']} before, not run again: {os.path.relpath(out)}")
            return 0, math.nan if before.get("score") is None else float(before["score"])
        tell(f"graftrec: {damage}")

    def status(state: str, code: int | None, reason: str, score: float | None = None) -> str:
        files = record_files.sums(out) if state in ENDED else {}
        return _status(state, code, reason, start, tree, score, files)

    def give_up(why: str) -> None:
        if not run_folder.is_waiting(out):
            write_text(out / run_folder.STATUS, status("failed", 1, shown(why)))
        tell(f"graftrec: {why} (exit code 1)")
        os._exit(1)

    def work() -> float:
        if problems := problems_of_tree(tree):  # a sweep's values are not all known before
            raise UserError(problems)
        if train is not None:
            return train(out, give_up)
        count = check(tree.get("trainer", {}), None) if verb == "train" else 1
        if count > 1:
            return launch(tree, out, count, WORKER, shlex.split(command())[2:])
        return float(getattr(import_module(WORK[verb]), verb)(tree, out))  # imports torch: not before it is needed

    def begin() -> ExitStack:
        try:
            if not (before and tree.get("resume") is not None):  # which has been found to be of the same settings
                run_folder.check(out)
            out.mkdir(parents=True, exist_ok=True)
            with ExitStack() as keeping:
                keeping.enter_context(held(out))
                run_folder.sweep(out)
                run_folder.enter(out, verb, status("running", None, ""), _config(tree))
                return keeping.pop_all()
        except OSError as error:
            if error.errno not in UNUSABLE:
                raise
            raise UserError(
                f"{out} cannot be written: {error.strerror} ({error.filename}); choose another hydra.run.dir"
            ) from error

    score = None
    code, reason, keeping = attempt(begin)
    if keeping is None:  # what is there is not ours, somebody is at work there, or nothing can be written
        with suppress(OSError):
            remove(out)  # Hydra's, and empty
        return code, math.nan
    with keeping:
        code, reason, score = attempt(work)
        well = "pruned" if reason else "finished"
        state = well if code == 0 else "stopped" if code in (INTERRUPTED, TERMINATED) else "failed"
        begun = not run_folder.is_waiting(out)
        with suppress(OSError):  # the disk may be full
            if begun:
                write_text(out / run_folder.STATUS, status(state, code, reason, score))
            else:  # what an earlier run left there is as it was
                run_folder.leave(out)
        if begun and code in (UserError.exit_code, DataError.exit_code) and out.is_dir():
            run_folder.withdraw(out, _log())
    if code in (INTERRUPTED, TERMINATED, DISK) and verb == "train" and (begun or tree.get("resume") is not None):
        _say_how_to_go_on(out)
    return code, math.nan if score is None else float(score)


def _damage(tree: dict[str, Any], out: Path, status: dict[str, Any], verb: str) -> str:
    """What of a run that ended is not as it left it, for which it is judged again; empty if all is.

    Raises:
        DataError: its data are others now.
    """
    try:
        record_files.check(out, status, "the run is judged again")
    except DataError as error:
        return str(error)
    if verb == "train":
        data_identity.check_job(tree, out)
    return ""


def _say_how_to_go_on(out: Path) -> None:
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    if not (HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN):  # a sweep says it itself
        tell(f"graftrec: continue with: {command(resume=os.path.relpath(out))}")


def attempt(work: Callable[[], T]) -> tuple[int, str, T | None]:
    """Call ``work``: (exit code, reason, result). No exception leaves; its reason goes to stderr."""
    try:
        with stop.signals():
            return 0, "", work()
    except BaseException as error:
        code, reason = outcome(error)
        if code == 1 and not isinstance(error, RankError):  # which has shown its own
            tell(traceback.format_exc())
        for problem in error.problems if isinstance(error, UserError) else [reason]:
            tell(f"graftrec: {problem} (exit code {code})")
        return code, shown(reason), None


def _config(tree: dict[str, Any]) -> str:
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(OmegaConf.create(redact(tree))))


def _log() -> Path | None:
    """The file that Hydra opens for what is logged."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    if not HydraConfig.initialized():
        return None
    name = OmegaConf.select(HydraConfig.instance().cfg, "hydra.job_logging.handlers.file.filename")
    return None if name is None else Path(name)


def _status(
    state: str, code: int | None, reason: str, start: float, tree: dict[str, Any], score: float | None,
    files: dict[str, str],
) -> str:  # fmt: skip
    found = {
        "state": state,
        "exit_code": code,
        "reason": reason,
        "seconds": round(time.monotonic() - start, 3),
        "score": score if score is not None and math.isfinite(score) else None,
        "fingerprint": fingerprint(tree),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "files": files,
    }
    sealed = record_files.sealed(
        found, "score", "seconds", "fingerprint", "files"
    )  # that the rest says is seen at once
    return json.dumps(sealed, indent=2) + "\n"
