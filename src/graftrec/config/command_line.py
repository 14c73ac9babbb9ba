"""The command that makes a run again, and the settings that were typed."""

from __future__ import annotations

import os
import shlex
import sys

from graftrec.utils.redaction import words


def command(verb: str = "train", **instead: str) -> str:
    """What was typed, without ``resume``: in a sweep, this job's own settings. ``instead`` take the place of others."""
    from hydra.core.hydra_config import HydraConfig

    typed = sys.argv[1:]
    if HydraConfig.initialized():
        folders = [
            source.path for source in HydraConfig.get().runtime.config_sources if source.provider == "command-line"
        ]
        own = ["--config-dir", os.path.relpath(folders[0])] if folders else []
        mode = [word for word in sys.argv if word == "hydra.mode=RUN"]  # without it, it were a sweep
        typed = [*own, *words(settings()), *mode]
    kept = [word for word in typed if word.partition("=")[0].lstrip("+") not in ("resume", *instead)]
    return shlex.join(["graftrec", verb, *kept, *(f"{key}={value}" for key, value in instead.items())])


def settings() -> tuple[str, ...]:
    """The settings of this job as they were typed: what refers to something, a secret perhaps, still refers to it."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    return tuple(map(str, OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)))
