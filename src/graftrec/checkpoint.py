"""Weights on disk: plain tensors and a plain dict, loaded without running any code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from graftrec.errors import DataError


def keep_best(folder: Path, monitored: bool) -> ModelCheckpoint:
    """The callback that writes ``best.ckpt`` by ``val/score`` (if monitored) and ``last.ckpt``."""
    monitor: dict[str, Any] = {"monitor": "val/score", "mode": "max", "save_top_k": 1} if monitored else {}
    return ModelCheckpoint(
        dirpath=folder,
        filename="best",
        save_last=True,
        enable_version_counter=False,
        save_on_train_epoch_end=not monitored,
        **monitor,
    )


def weights(path: Path) -> dict[str, Tensor]:
    """The parameters in a checkpoint.

    Raises:
        DataError: the file is missing or is no checkpoint.
    """
    state: dict[str, Tensor] = _load(path)["state_dict"]
    return state


def configuration(path: Path) -> dict[str, Any]:
    """The tree that a checkpoint's model was built from."""
    tree: dict[str, Any] = _load(path)["hyper_parameters"]["config"]
    return tree


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError("CKPT-001", f"{path}: there is no such checkpoint")
    try:
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError("CKPT-002", f"{path}: cannot be loaded as weights only: {error}") from error
    return loaded


def replace_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Give a checkpoint the weights ``state``: a strategy changed them after the last step."""
    loaded = _load(path)
    draft = path.with_name(f".{path.name}")
    torch.save({**loaded, "state_dict": dict(state)}, draft)
    os.replace(draft, path)


def write_manifest(folder: Path) -> None:
    """``manifest.json``: size and sha256 of every checkpoint under ``folder``, written last and as a whole."""
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": _digest(path)}
        for path in sorted(folder.rglob("*.ckpt"))
    }
    draft = folder / ".manifest.json"
    draft.write_text(json.dumps({"version": 1, "files": files}, indent=2) + "\n", encoding="utf-8")
    os.replace(draft, folder / "manifest.json")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
