"""How many processes a trainer asks for, and which of them this is where torchrun or SLURM started it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from graftrec.utils.errors import UserError

OURS = ("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")  # strategies by name


@dataclass(frozen=True)
class Rank:
    """One of several processes: ``number`` of ``world`` in all, ``local`` of ``here`` on its machine."""

    number: int
    world: int
    local: int
    here: int

    @property
    def machine(self) -> int:
        """Which machine it is on; all have as many processes."""
        return self.number // self.here


def outside(given: Mapping[str, str] = os.environ) -> Rank | None:
    """What this process is to torchrun, or to SLURM's srun; None where they started one alone, or did not start it."""
    if int(given.get("WORLD_SIZE", 1)) > 1 and "RANK" in given:
        world = int(given["WORLD_SIZE"])
        here = int(given.get("LOCAL_WORLD_SIZE", world))
        return Rank(int(given["RANK"]), world, int(given.get("LOCAL_RANK", int(given["RANK"]) % here)), here)
    tasks = given.get("SLURM_STEP_NUM_TASKS")
    if tasks is None and given.get("ENVIRONMENT") != "BATCH":  # a batch script's own process stands for all tasks
        tasks = given.get("SLURM_NTASKS")
    interactive = given.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_PROCID" not in given or interactive or int(tasks or 1) < 2:
        return None
    number, world = int(given["SLURM_PROCID"]), int(tasks or 1)
    machines = int(given.get("SLURM_STEP_NUM_NODES") or given.get("SLURM_NNODES") or 1)
    here = world // machines
    return Rank(number, world, int(given.get("SLURM_LOCALID", number % here)), here)


def leave(code: int) -> NoReturn:
    """End this process, one of several that have trained together, without what Python does at its end.

    What is left of a group waits for the others then, or (torch 2.13) for ever: the module that DDP wrapped holds the
    GIL while it waits for a thread of gloo's that wants it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def alone() -> None:
    """UserError where torchrun or SLURM started several of this process: each of them would run the whole sweep."""
    if (rank := outside()) is not None:
        raise UserError(
            f"a sweep is started once, and this is one of {rank.world} processes; leave torchrun or srun out: with "
            "trainer=ddp every job starts its own processes, and hydra/launcher=submitit_slurm gives each a machine"
        )


def processes(trainer: Mapping[str, Any]) -> int:
    """Processes that a trainer asks for on one machine, one for each device.

    Raises:
        UserError: devices that cannot be, or a way to start processes that is not ours.
    """
    strategy = trainer.get("strategy", "auto")
    count = _devices(trainer)
    if count > 1 and isinstance(strategy, str) and strategy not in OURS:
        raise UserError(f"trainer.strategy={strategy}: several processes train with trainer=ddp or trainer=fsdp")
    return count


def check(trainer: Mapping[str, Any], rank: Rank | None) -> int:
    """Processes that this job is to start itself: one means that it trains in its own.

    Raises:
        UserError: the trainer asks for others than torchrun or SLURM have started, or for machines that nobody did.
    """
    count, machines = processes(trainer), int(trainer.get("num_nodes", 1))
    if rank is None:
        if machines != 1:
            raise UserError(
                f"trainer.num_nodes={machines}: processes on several machines are started by torchrun or srun, with "
                "the same command on each"
            )
        return count
    if (count, count * machines) != (rank.here, rank.world):
        there = rank.world // rank.here
        nodes = f" trainer.num_nodes={there}" if (machines, there) != (1, 1) else ""
        raise UserError(
            f"{rank.world} processes were started, {rank.here} on each machine, and the trainer has {count} on each of "
            f"{machines}; set trainer=ddp trainer.devices={rank.here}{nodes}"
        )
    return 1


def _devices(trainer: Mapping[str, Any]) -> int:
    devices = trainer.get("devices", 1)
    if devices in ("auto", "-1", -1):
        if trainer.get("accelerator", "auto") == "cpu":
            return 1
        import torch

        return max(1, torch.cuda.device_count())
    if isinstance(devices, str):  # "2" are two, "0,2" these
        parts = [part.strip() for part in devices.split(",") if part.strip()]
        if parts and all(part.isdigit() for part in parts):
            devices = int(parts[0]) if "," not in devices else parts
    if isinstance(devices, int) and not isinstance(devices, bool) and devices >= 1:
        return devices
    if isinstance(devices, list) and devices:
        return len(devices)
    raise UserError(f"trainer.devices: should be a number of at least 1, a list of GPUs, or auto. Found {devices!r}")
