"""What training costs: parameters by part, FLOPs of a step, and their share of the hardware's limit."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from graftrec.training.callbacks.progress import PhaseProgress
from graftrec.training.lightning_module import GraftModule

aten = torch.ops.aten
COUNTED = 8  # steps
ALIKE = {  # matrix products that torch has no formula for, in place and on a CPU: which others cost the same
    aten.addmm_: aten.addmm,
    aten.baddbmm_: aten.baddbmm,
    aten._scaled_dot_product_flash_attention_for_cpu: aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: aten._scaled_dot_product_flash_attention_backward,
}
FORMULAS: dict[Any, Any] = {**flop_registry, **{known: flop_registry[other] for known, other in ALIKE.items()}}
# FLOP/s without sparsity, from NVIDIA's data sheets of H100, H200 and A100: bf16 and fp16, tf32, fp32. In this order.
GPUS = {
    "H100 PCIe": (756e12, 378e12, 51e12),
    "H100 NVL": (835e12, 417e12, 60e12),
    "H100": (989e12, 494e12, 67e12),
    "H200": (989e12, 494e12, 67e12),
    "A100": (312e12, 156e12, 19.5e12),
}


class Cost(pl.Callback):
    """Counts the FLOPs of a phase's first steps; the others are taken to cost the same for each entry of their batches.

    A FLOP is one addition or multiplication of a matrix product (forward and backward); what works number by number is
    left out, half-empty attention counts in full, and what checkpointing computes again counts too. The very first step
    is looked at and logged, which costs more, so it counts only where no other follows.

    Args:
        bar: which counts the seconds of the phase's steps.

    Attributes:
        steps: so far, of batches with ``entries``.
    """

    def __init__(self, bar: PhaseProgress) -> None:
        self.bar = bar
        self.steps, self.processes = 0, 1
        self.entries: Tensor | int = 0
        self._flops = 0
        self._of: Tensor | int = 0  # entries of the batches where this was counted
        self._limit, self._source = float("nan"), ""
        self._open = ExitStack()

    @property
    def flops(self) -> float:
        """Of the phase so far, in all processes: each has about the same part of every batch."""
        return self.processes * self._flops * float(self.entries) / max(1.0, float(self._of))

    def state_dict(self) -> dict[str, Any]:
        """What was counted so far."""
        return {"steps": self.steps, "entries": int(self.entries), "flops": self._flops, "of": int(self._of)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.steps, self.entries = state_dict["steps"], state_dict["entries"]
        self._flops, self._of = state_dict["flops"], state_dict["of"]

    def found(self) -> dict[str, Any]:
        """Everything measured, for metrics.json."""
        speed = self.flops / self.bar.seconds if self.bar.seconds else 0.0
        return {
            "flops_per_step": self.flops / max(1, self.steps),
            "flops": self.flops,
            "flops_per_second": speed,
            "limit": self._limit * self.processes,
            "limit_from": self._source,
            "utilisation": speed / self._limit / self.processes,
        }

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the hardware's limit, before the clock runs."""
        self.processes = trainer.world_size
        self._limit, self._source = limit(pl_module.device, str(trainer.precision))

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, number: int) -> None:
        """Begin to count."""
        if self.steps < COUNTED:
            self._counter = self._open.enter_context(Counter())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop to count."""
        entries = entries_in(batch)
        if self.steps < COUNTED:
            self._open.close()
            if self.steps <= 1:  # the second takes the place of the first
                self._flops, self._of = 0, 0
            self._flops, self._of = self._flops + self._counter.flops, self._of + entries
        self.steps, self.entries = self.steps + 1, self.entries + entries

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Nothing that follows is counted."""
        self._open.close()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what was measured so far."""
        found = self.found()
        values = {"flops": found["flops"], "flops_per_step": found["flops_per_step"]}
        values["model_flops_utilisation"] = found["utilisation"]
        for name, value in values.items():
            pl_module.log(f"train/{name}", torch.tensor(value, dtype=torch.float64))


def entries_in(batch: Any) -> Tensor | int:
    """Known ids and other positive numbers in a batch of several streams, a catalogue's aside: the more, the longer.

    A tensor: a number would wait for the device at every step.
    """
    if isinstance(batch, Tensor):
        return (batch > 0).sum()
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(batch, Mapping):
        parts = batch.items()
    elif isinstance(batch, (list, tuple)):
        parts = enumerate(batch)
    return sum(entries_in(part) for name, part in parts if name != "catalogue")


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's has no types
    """A context that counts the FLOPs of all matrix products in it, also in a backward pass.

    By torch's own formulas; its `FlopCounterMode` also follows modules by hooks that forbid `torch.autograd.grad`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func``, an operation that is not made of others, and add what it took."""
        found = func(*args, **(kwargs or {}))
        formula = FORMULAS.get(func._overloadpacket)
        if formula is not None:
            self.flops += int(formula(*args, **(kwargs or {}), out_val=found))
        return found


def parameters_of(module: GraftModule) -> dict[str, int]:
    """Numbers that the module holds, by part; tables are the encoder's, told apart from the rest of it."""
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()}
    tables = sum(p.numel() for p in module.encoder.tables.parameters())
    named = {"tables": tables, "encoder": count.pop("encoder") - tables, "heads": count.pop("tasks")}
    return {name: found for name, found in {**named, **count}.items() if found}


def limit(device: torch.device, precision: str) -> tuple[float, str]:
    """FLOP/s that the device could reach at a precision of the Trainer, and where the number is from."""
    half = torch.bfloat16 if precision.startswith("bf16") else torch.float16 if precision.startswith("16") else None
    dtype = half or (torch.float64 if precision.startswith("64") else torch.float32)
    if device.type == "cuda" and dtype != torch.float64:
        name = torch.cuda.get_device_name(device)
        column = 0 if half else 1 if torch.get_float32_matmul_precision() != "highest" else 2
        for known, rates in GPUS.items():
            if known in name:
                return rates[column], f"data sheet of {name}"
    return _measured(str(device), dtype, torch.get_num_threads()), "a matrix product"


@functools.cache
def _measured(device: str, dtype: torch.dtype, threads: int) -> float:
    """FLOP/s of the fastest of some square matrix products within a quarter of a second."""
    size = 1024 if device == "cpu" else 8192
    a = torch.full((size, size), 0.5, device=device, dtype=dtype)
    wait: Callable[[], None] = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    a @ a
    fastest, end = float("inf"), time.monotonic() + 0.25
    while time.monotonic() < end:
        wait()
        start = time.perf_counter()
        a @ a
        wait()
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * size**3 / fastest
