"""One job: train a tree in a folder, whatever happens, and say in ``status.json`` how it ended."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from graftrec.config import fingerprint
from graftrec.errors import INTERRUPTED, TERMINATED, DataError, UserError, outcome

T = TypeVar("T")
SECRETS, NO_SECRETS = ("key", "token", "password", "secret"), ("cls_token", "num_tokens")
WORK = {"train": "graftrec.train", "audit": "graftrec.analysis.audit"}  # verb -> the module with its function


def run_job(tree: dict[str, Any], folder: str, verb: str = "train") -> tuple[int, float]:
    """Train or audit ``tree``; (exit code, score), the score NaN unless the code is 0."""
    out = Path(folder)
    start = time.monotonic()

    def work() -> float:
        return float(getattr(import_module(WORK[verb]), verb)(tree, out))  # imports torch: not before it is needed

    def begin() -> None:
        out.mkdir(parents=True, exist_ok=True)
        _write_status(out, "running", None, "", start, tree)
        _write_config(out, tree)

    code, reason, _ = attempt(begin)
    score = None
    if not code:
        code, reason, score = attempt(work)
    well = "pruned" if reason else "finished"
    state = well if code == 0 else "stopped" if code in (INTERRUPTED, TERMINATED) else "failed"
    with suppress(OSError):  # the disk may be full
        _write_status(out, state, code, reason, start, tree, score)
    if code in (UserError.exit_code, DataError.exit_code) and out.is_dir():
        _remove_if_nothing_was_trained(out)
    return code, float("nan") if score is None else float(score)


def attempt(work: Callable[[], T]) -> tuple[int, str, T | None]:
    """Call ``work``: (exit code, reason, result). No exception leaves; its reason goes to stderr."""
    try:
        with signals():
            return 0, "", work()
    except BaseException as error:
        code, reason = outcome(error)
        if code == 1:
            traceback.print_exc()
        for problem in error.problems if isinstance(error, UserError) else [reason]:
            print(f"graftrec: {problem} (exit code {code})", file=sys.stderr)
        return code, reason, None


@contextmanager
def signals() -> Iterator[None]:
    """SIGTERM ends the job as an exception, so that everything is closed; afterwards all is as it was."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:  # SIGINT as well: Lightning leaves it ignored after an interrupt
        for number, handler in before.items():
            signal.signal(number, handler)


def redact(tree: Any) -> Any:
    """A copy without secrets: the texts of keys named like ``*key``, ``*token``, ``*password``, ``*secret``."""
    if isinstance(tree, dict):
        return {key: "***" if _is_secret(str(key), value) else redact(value) for key, value in tree.items()}
    return [redact(part) for part in tree] if isinstance(tree, list) else tree


def _is_secret(key: str, value: Any) -> bool:
    named = key.lower().endswith(SECRETS) and key.lower() not in NO_SECRETS
    return named and (isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)))


def _write_config(out: Path, tree: dict[str, Any]) -> None:
    from omegaconf import OmegaConf

    _replace(out / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(redact(tree))))


def status_of(folder: Path) -> dict[str, Any]:
    """What ``status.json`` in ``folder`` says; empty if there is none."""
    try:
        found = json.loads((folder / "status.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_status(
    out: Path, state: str, code: int | None, reason: str, start: float, tree: dict[str, Any], score: float | None = None
) -> None:
    status = {
        "state": state,
        "exit_code": code,
        "reason": reason,
        "seconds": round(time.monotonic() - start, 3),
        "score": score if score is not None and math.isfinite(score) else None,
        "fingerprint": fingerprint(tree),
    }
    _replace(out / "status.json", json.dumps(status, indent=2) + "\n")


def _replace(path: Path, text: str) -> None:
    """Write all of a file or nothing: a reader never sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _remove_if_nothing_was_trained(out: Path) -> None:
    written = [path.name for path in out.iterdir() if path.suffix != ".log" or path.stat().st_size]
    if set(written) <= {"config.yaml", "status.json", ".hydra"}:
        shutil.rmtree(out, ignore_errors=True)
