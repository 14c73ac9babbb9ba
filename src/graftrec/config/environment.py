"""What a configuration may read of the environment: a file from a stranger shall not carry off somebody's keys."""

from __future__ import annotations

import os
from typing import Any

NAMES = {
    "HOME", "USER", "HOSTNAME", "PWD", "TMPDIR", "SCRATCH", "XDG_CACHE_HOME", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS",
    "RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "WANDB_PROJECT", "WANDB_ENTITY",
    "SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID", "SLURM_NTASKS",
}  # fmt: skip
OURS, MORE = "GRAFTREC_", "GRAFTREC_ENV"  # names of ours, and the variable that lists more: GRAFTREC_ENV=DATA,LAKE


def read(name: str, *default: Any) -> str | None:
    """OmegaConf's ``oc.env`` for `NAMES`, names of ours and those in ``$GRAFTREC_ENV``.

    Raises:
        ValueError: another name. KeyError: the variable is not set, and there is no default.
    """
    asked = {part.strip() for part in os.environ.get(MORE, "").split(",")}
    if name not in NAMES | asked and not name.startswith(OURS):
        raise ValueError(f"a configuration does not read '{name}' of the environment; {MORE}={name} in it allows that")
    if name in os.environ:
        return os.environ[name]
    if not default:
        raise KeyError(f"Environment variable '{name}' not found")
    return None if default[0] is None else str(default[0])
