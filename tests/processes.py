"""Several processes that meet: forked from one that has torch imported, which costs more than most tests."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from typing import Any

import torch.distributed as dist
from torch.multiprocessing import start_processes

PRELOAD = [
    "pytest",
    "graftrec.runs.train",
    "graftrec.models.trunks.hstu",
    "graftrec.models.trunks.sasrec",
    "graftrec.training.balancers.mgda",
]


def server() -> ForkServerContext:
    """The context of processes that are forked from a clean one: nothing was computed in it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


def spawn(work: Callable[..., None], args: tuple[Any, ...], processes: int = 2) -> None:
    """Run ``work(rank, *args)`` in each process; the error of one is raised here."""
    server()
    start_processes(_ended, (work, *args), processes, start_method="forkserver")


def _ended(rank: int, work: Callable[..., None], *args: Any) -> None:
    """Leave without taking a group apart: torch 2.13 may wait for ever where a DDP module goes last, which holds the
    GIL while gloo's thread, which wants it, is waited for."""
    work(rank, *args)
    if dist.is_initialized():
        dist.barrier()
    os._exit(0)
