"""A run of Weights & Biases: begun or gone on with, online where there is a key and a server, else offline."""

from __future__ import annotations

import netrc
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from graftrec.evaluation.report import formatting
from graftrec.training.checkpoints import manifest
from graftrec.training.checkpoints.checkpoint import BEST
from graftrec.utils.terminal_text import say

PROBE_S = 4.0  # that a server may take to answer at all, its name's look-up among it


def begin(
    folder: Path, project: str, group: str | None, config: dict[str, Any], offline: bool | None, again: bool = False
) -> Any:
    """Start the W&B run, or go on with the folder's last one (``again``), and say in one line where it goes."""
    import wandb

    why = why_offline(offline)
    if why:  # else W&B reports on itself to servers of its own, and offline is offline
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"dir": str(folder), "project": project, "group": group, "config": config}
    options["reinit"] = "finish_previous"  # never into the run of another job
    before = last_in(folder) if again else None
    if before is not None:
        options["id"] = before
    settings = {"silent": True, "console": "off", "init_timeout": 20}
    run = None
    if not why:
        try:
            online = {"mode": _mode(), "resume": None if before is None else "allow"}
            run = wandb.init(**options, **online, settings=wandb.Settings(**settings))
        except wandb.errors.Error as error:
            if offline is False:
                raise
            why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if run is None:
        run = wandb.init(**options, mode="offline", settings=wandb.Settings(**settings))
        sent = Path(run.settings.sync_dir)
        say(f"W&B: {why}; this run is logged offline. Send it later with: wandb sync {sent}")
    elif run.url:
        say(f"W&B: {run.url}")
    if not run.disabled:
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return run


def last_in(folder: Path) -> str | None:
    """The id of the last W&B run that was logged in a folder."""
    found = [(path.stat().st_mtime, path.stem.removeprefix("run-")) for path in folder.glob("wandb/*run-*/run-*.wandb")]
    return max(found)[1] if found else None


def _mode() -> Any:
    """``disabled`` where the environment asks for it, else online."""
    return "disabled" if os.environ.get("WANDB_MODE") == "disabled" else "online"


def why_offline(offline: bool | None) -> str:
    """The reason to log offline; empty for a run that goes online (or nowhere, if W&B is disabled)."""
    mode = os.environ.get("WANDB_MODE", "")
    if mode == "disabled" or offline is False:
        return ""
    if offline:
        return "offline=true"
    if mode in ("offline", "dryrun"):
        return f"WANDB_MODE={mode}"
    server = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    if not _has_key(urlsplit(server).hostname or ""):
        return "no key"
    if urlsplit(server).scheme not in ("http", "https"):
        return f"WANDB_BASE_URL={server} is no address of a server"
    return "" if _reachable(server) else f"{server} does not answer"


def _has_key(host: str) -> bool:
    """Whether W&B will find a key: in the environment, or where ``wandb login`` put it."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = os.environ.get("NETRC")
    files = [Path(named).expanduser()] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]
    for file in files:
        try:
            if netrc.netrc(str(file)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _reachable(server: str) -> bool:
    """Whether a server says anything within `PROBE_S`; a look-up of its name knows no limit, so a thread waits."""
    found: list[bool] = []
    asking = threading.Thread(target=lambda: found.append(_answers(server)), daemon=True)
    asking.start()
    asking.join(PROBE_S)
    return found == [True]


def _answers(server: str) -> bool:
    try:
        request = urllib.request.Request(server, method="HEAD")  # noqa: S310  its scheme is looked at before
        with urllib.request.urlopen(request, timeout=PROBE_S):  # noqa: S310
            return True
    except urllib.error.HTTPError:
        return True  # whatever it says, it is there
    except (OSError, ValueError):
        return False


def results(metrics: Mapping[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a table with every test metric of each task beside its twin's."""
    columns = ["role", "task", "metric", "grafted", "twin", "difference", "low", "high", "verdict"]
    rows = []
    for task, found in formatting.table(metrics, "test").items():
        for metric, value in found.items():
            difference = formatting.table(metrics, "differences", task).get(metric) or {}
            twin = formatting.table(metrics, "twin", task).get(metric)
            numbers = [value, twin, *(difference.get(key) for key in ("delta", "low", "high"))]
            named = [formatting.table(metrics, "roles").get(task), task, metric, *map(formatting.number, numbers)]
            rows.append([*named, difference.get("verdict")])
    return columns, rows


def send_checkpoint(run: Any, folder: Path) -> None:
    """Log ``best.ckpt`` with its manifest and the configuration as an artifact of the run, if it is there."""
    import wandb

    path = folder / "checkpoints" / BEST
    if not path.is_file():
        return
    (entry,) = manifest.read(path.parent).of(BEST)
    artifact = wandb.Artifact(f"graftrec-{run.id}", type="model", metadata=entry)  # bytes, sha256, step
    for file in (path, path.with_name(manifest.NAME), folder / "config.yaml"):
        if file.is_file():
            artifact.add_file(str(file), policy="immutable", skip_cache=True)  # a copy would take as much disk again
    run.log_artifact(artifact, aliases=["best"])
