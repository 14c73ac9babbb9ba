"""The processes that train together: how they meet, who is the first, and what one of them has to tell the others."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from graftrec.config.instantiate import fingerprint
from graftrec.tasks.base import of_all
from graftrec.training.distributed.rank import Rank, leave
from graftrec.training.distributed.watchdog import Watch
from graftrec.utils.errors import UserError, described, raised
from graftrec.utils.terminal_text import tell

T = TypeVar("T")
Store = dist.TCPStore  # type: ignore[attr-defined]  # torch says so in its manual and not in its types
NEVER = timedelta(
    days=30
)  # a wait that takes too long is ended by those who watch (`graftrec.training.distributed.liveness`), not by the wait
_rank: Rank | None = None


def begin(
    rank: Rank, tree: Mapping[str, Any], listener: int | None = None, patience: float = threading.TIMEOUT_MAX
) -> None:
    """Meet the others: one group for everything that follows, gloo between CPUs and NCCL between GPUs.

    Args:
        listener: handle of the socket at which the first one serves, where `launcher` opened it. Else torchrun
            or SLURM say where to meet.
        patience: seconds that it may take to meet, after which this process says so and ends; `launcher` sees
            itself who is not there.

    Raises:
        UserError: there are fewer GPUs than processes, another process has other settings, or the place to meet is
            taken.
    """
    global _rank
    trainer = tree["trainer"]
    backend = "gloo"
    if trainer.get("accelerator", "auto") in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        _take_gpu(rank, trainer.get("devices"))
        backend = "cpu:gloo,cuda:nccl"
    found: dict[str, Any] = {"rank": rank.number, "world_size": rank.world, "timeout": NEVER}
    if "MASTER_ADDR" not in os.environ:  # SLURM's
        nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST", "127.0.0.1")
        os.environ["MASTER_ADDR"] = SLURMEnvironment.resolve_root_node_address(nodes)
    os.environ.setdefault("MASTER_PORT", str(15_000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 10_000))
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    with _limited(patience, f"rank {rank.number} of {rank.world}", place):
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":  # torchrun has one
            found["store"] = _store(place, rank, listener)
        dist.init_process_group(backend, **found)
        _rank = rank
        names = of_all(fingerprint(tree))
    if odd := [number for number, name in enumerate(names) if name != names[0]]:
        raise UserError(f"rank {odd[0]} of {rank.world} was started with other settings than rank 0")


def _store(place: tuple[str, int], rank: Rank, listener: int | None) -> Any:
    try:
        return Store(*place, rank.world, rank.number == 0, NEVER, master_listen_fd=listener)
    except dist.DistNetworkError as error:
        raise UserError(
            f"rank {rank.number} of {rank.world} cannot meet the others at {place[0]}:{place[1]}, and MASTER_ADDR and "
            f"MASTER_PORT may name another place: {str(error).splitlines()[0]}"
        ) from error


@contextmanager
def _limited(seconds: float, who: str, place: tuple[str, int]) -> Iterator[None]:
    """Ends this process if the block takes longer: in torch nothing else interrupts a wait for others."""

    def give_up() -> None:
        tell(
            f"graftrec: {who} met not all of the others at {place[0]}:{place[1]} within {seconds:g} seconds (patience)"
        )
        leave(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _take_gpu(rank: Rank, devices: Any) -> None:
    there = torch.cuda.device_count()
    number = int(devices[rank.local]) if isinstance(devices, list) else rank.local
    if number >= there:
        raise UserError(
            f"trainer.devices: rank {rank.number} needs GPU {number}, and {there} are here; ask for fewer, or set "
            "trainer.accelerator=cpu"
        )
    torch.cuda.set_device(number)


def watch(patience: float, lost: Callable[[str], None] | None = None) -> Watch:
    """Begin to watch each other, where `graftrec.training.distributed.launcher` does not; see `Watch`."""
    if _rank is None:
        raise RuntimeError("begin() makes the group, and it was not called")
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    found = Watch(_rank, Store(*place, is_master=False, timeout=timedelta(seconds=60)), patience, lost)
    found.start()
    return found


def end() -> None:
    """Leave the group, once all are ready to."""
    if several():
        of_all(None)
        dist.destroy_process_group()


def several() -> bool:
    """Whether this process trains with others."""
    return _rank is not None and dist.is_initialized()


def is_first() -> bool:
    """Whether this process writes and shows what there is: alone, or as rank 0."""
    return _rank is None or _rank.number == 0


def of_first(make: Callable[[], T]) -> T:
    """What the first process makes, for all of them; its error as well."""
    if not several():
        return make()
    told: list[Any] = [None]
    mistake: Exception | None = None
    if is_first():
        try:
            told = [(True, make())]
        except Exception as error:
            mistake, told = error, [(False, described(error))]
    dist.broadcast_object_list(told)
    if mistake is not None:
        raise mistake
    well, found = told[0]
    if not well:
        raise raised(found)
    made: T = found
    return made


def one_first(work: Callable[[], T]) -> T:
    """Let one process of each machine do something before the others do: it leaves files that they then only read."""
    if not several() or _rank is None:
        return work()
    if _rank.local == 0:
        made = work()
        of_all(None)
        return made
    of_all(None)
    return work()


def is_echo(error: BaseException) -> bool:
    """Whether an error says no more than that another process has gone."""
    seen: BaseException | None = error
    while seen is not None:
        words = str(seen)
        if isinstance(seen, dist.DistError) or (isinstance(seen, RuntimeError) and any(w in words for w in SIGNS)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


SIGNS = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer", "Broken pipe")


class Met(ClusterEnvironment):
    """What Lightning asks about processes that are there already."""

    def __init__(self, rank: Rank) -> None:
        super().__init__()
        self._rank = rank

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return os.environ["MASTER_ADDR"]

    @property
    def main_port(self) -> int:
        return int(os.environ["MASTER_PORT"])

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._rank.world

    def set_world_size(self, size: int) -> None:
        """It is what it is."""

    def global_rank(self) -> int:
        return self._rank.number

    def set_global_rank(self, rank: int) -> None:
        """It is what it is."""

    def local_rank(self) -> int:
        return self._rank.local

    def node_rank(self) -> int:
        return self._rank.machine


def plugins() -> list[Any]:
    """What a Trainer has to be told where there are several processes."""
    return [Met(_rank)] if several() and _rank is not None else []


def who(tree: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of each process where it is, and the fingerprint of what it trained; empty for one alone."""
    if not several() or _rank is None:
        return []
    device = torch.cuda.get_device_name() if "nccl" in dist.get_backend() else "cpu"
    own = {"rank": _rank.number, "host": socket.gethostname(), "device": device, "fingerprint": fingerprint(tree)}
    return of_all(own)
