"""FSDP2: every process holds a part of each weight, and the whole of one block while that block runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

STEPS = ("training_step", "look_again", "validation_step", "test_step")


def shard(module: nn.Module, blocks: list[nn.Module], whole: set[nn.Parameter], mesh: DeviceMesh) -> None:
    """Share the weights of ``module`` out over ``mesh``; each of ``blocks`` by itself, the rest together.

    Args:
        blocks: modules that run one after the other, each by a call. whole: parameters that every process keeps,
            besides single numbers, which cannot be cut: `average` brings their gradients together.
    """
    if isinstance(module, FSDPModule):
        return  # Lightning asks once for each stage
    kept = whole | {parameter for parameter in module.parameters() if not parameter.ndim}
    for block in blocks:
        fully_shard(block, mesh=mesh, ignored_params=kept & set(block.parameters()))
    fully_shard(module, mesh=mesh, reshard_after_forward=True, ignored_params=kept)
    for name in STEPS:  # what Lightning calls in the place of forward
        register_fsdp_forward_method(module, name)


def blocks_of(trunk: nn.Module) -> list[nn.Module]:
    """The blocks of a stack, each of which runs by a call."""
    return [block for part in trunk.modules() if isinstance(part, nn.ModuleList) for block in part]


def regroup(optimizer: torch.optim.Optimizer) -> None:
    """Give whole parameters groups of their own, as no fused update takes them together with shared-out ones."""
    for group in list(optimizer.param_groups):
        cut = [parameter for parameter in group["params"] if isinstance(parameter, DTensor)]
        kept = [parameter for parameter in group["params"] if not isinstance(parameter, DTensor)]
        if cut and kept:
            group["params"] = cut
            optimizer.param_groups.append({**group, "params": kept})


def average(module: nn.Module) -> None:
    """Bring the dense gradients of what every process keeps together, which nobody else does."""
    if not isinstance(module, FSDPModule) or dist.get_world_size() == 1:
        return
    found = [p.grad for p in module.parameters() if p.grad is not None and not isinstance(p, DTensor)]
    dense = [gradient for gradient in found if not gradient.is_sparse]
    if not dense:
        return
    flat = torch.cat([gradient.flatten() for gradient in dense])
    dist.all_reduce(flat)
    means = torch.split(flat / dist.get_world_size(), [gradient.numel() for gradient in dense])
    for gradient, mean in zip(dense, means, strict=True):
        gradient.copy_(mean.view_as(gradient))


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and buffers as plain tensors; every process has to ask."""
    with _gathered(module):
        return {name: value.clone() for name, value in module.state_dict().items()}


def load(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give ``module`` these plain weights, of which every process takes its part."""
    if not isinstance(module, FSDPModule):
        module.load_state_dict(state)
        return
    missing: list[str] = []
    wrong: list[str] = []
    with _gathered(module):  # the walk of load_state_dict itself runs FSDP2's hooks, which look for parts
        for name, part in module.named_modules():
            prefix = f"{name}." if name else ""
            own = {key: value for key, value in state.items() if key.startswith(prefix)}
            part._load_from_state_dict(own, prefix, {}, True, missing, missing, wrong)
    if missing or wrong:
        raise RuntimeError(f"These weights do not fit {type(module).__name__}: {'; '.join([*missing, *wrong])}.")


@contextmanager
def _gathered(module: nn.Module) -> Iterator[None]:
    """While this is open ``module`` has whole plain weights; what they are in the end is shared out again."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
    found: list[tuple[nn.Module, str, Any, nn.Parameter]] = []
    for part in module.modules():
        parameters: dict[str, Any] = dict(part._parameters)
        for name, shared in parameters.items():
            if isinstance(shared, DTensor):
                found.append((part, name, shared, nn.Parameter(shared.full_tensor().detach(), shared.requires_grad)))
    for part, name, _, whole in found:
        part._parameters[name] = whole
    try:
        yield
    finally:
        for part, name, shared, whole in found:
            part._parameters[name] = shared
            with torch.no_grad():
                shared.copy_(distribute_tensor(whole.detach(), shared.device_mesh, shared.placements))


class Sharded(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, with checkpoints of plain tensors under the names that they have without it.

    Lightning asks for a parameter under each name of a checkpoint, and tables of one width are one parameter.

    Args:
        data_parallel_size: number of processes.
    """

    def __init__(self, data_parallel_size: int = 1) -> None:
        super().__init__(data_parallel_size, 1, save_distributed_checkpoint=False)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """All weights and buffers, whole and on the CPU."""
        module = self.lightning_module
        return {} if module is None else {name: value.cpu() for name, value in state_of(module).items()}

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The optimizer's state, whole and on the CPU."""
        state: dict[str, Any] = tree_map_only(Tensor, lambda x: _plain(x).cpu(), optimizer.state_dict())
        return state

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Lightning hands the state over, as it does where nothing is shared out."""
        return True

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """What a checkpoint holds, read as any other is; every process reads all of it."""
        found: dict[str, Any] = self.checkpoint_io.load_checkpoint(checkpoint_path)
        return found

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Every process takes its part of the weights."""
        if self.lightning_module is not None:
            load(self.lightning_module, checkpoint["state_dict"])

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Every process takes its part of the optimizers' state."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(parts_of(state, optimizer))


def parts_of(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's whole state, cut as its parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def part(value: Any, parameter: Tensor) -> Any:
        if isinstance(parameter, DTensor) and isinstance(value, Tensor) and value.shape == parameter.shape:
            return distribute_tensor(value, parameter.device_mesh, parameter.placements)
        return value

    own = {
        number: {name: part(value, parameters[number]) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": own}


def _plain(value: Tensor) -> Tensor:
    whole: Tensor = value.full_tensor() if isinstance(value, DTensor) else value
    return whole
