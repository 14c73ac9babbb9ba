"""How the tasks pull at what they share: gradients, their Gramian, and rows of tables over all processes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from graftrec.utils.sparse_rows import rows_gradient, summed


@contextmanager
def watched(module: nn.Module) -> Iterator[list[Tensor]]:
    """What ``module`` gives out while this is open."""
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, given, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def gramian(losses: Sequence[Tensor], at: Sequence[Tensor], own: bool, scale: Tensor | None = None) -> Tensor:
    """Inner products (T, T) of the gradients of ``losses`` (T of them) at the tensors ``at``, over all processes.

    Gradients at parameters are averaged over processes and then multiplied, as an average of Gramians would be another
    matrix. Outputs are each process's ``own`` rows, and a loss is scaled by the number of processes (`masked_mean`):
    there the Gramians add up, divided by the square of that number.

    Args:
        scale: what a backward pass in float16 is multiplied with on its way (a scalar above 0, as of a `GradScaler`);
            without it small gradients vanish there. What overflows is NaN in the Gramian, as it is in the step.
    """
    parts = []
    for loss in losses:
        scaled = loss if scale is None else loss * scale
        found = torch.autograd.grad(scaled, list(at), retain_graph=True, allow_unused=True, materialize_grads=True)
        parts.append(torch.cat([gradient.flatten().float() for gradient in found]))
    jacobian = torch.stack(parts) if scale is None else torch.stack(parts) / scale
    several = world()
    if several > 1 and not own:
        dist.all_reduce(jacobian)
        jacobian /= several
    product = jacobian @ jacobian.T
    if several > 1 and own:
        dist.all_reduce(product)
        product /= several**2
    return product


def averages(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mean of each of these scalars over the processes."""
    if not values:
        return {}
    together = averaged(torch.stack([value.detach() for value in values.values()]))
    return dict(zip(values, together.unbind(), strict=True))


def pulls(losses: Mapping[str, Tensor], gramian: Tensor) -> dict[str, Tensor]:
    """What a Gramian (T, T) of the gradients of these losses says, by the names that it is logged under.

    ``gradient_norm/a``: how hard a task pulls; ``gradient_cosine/a~b``: how much two pull the same way;
    ``affinity/a->b``: the share of b's loss that a step of a alone takes away, per unit of the learning rate, above 0
    where a helps b. It is Z = 1 - L_b(theta - eta g_a) / L_b(theta) of C. Fifty et al., Efficiently Identifying Task
    Groupings for Multi-Task Learning, NeurIPS 2021, https://arxiv.org/abs/2109.04617, equation 1, to first order in
    eta: <g_a, g_b> / L_b. Where we differ: no step is tried, so nothing of second order is seen.
    """
    norms = gramian.diagonal().sqrt()
    tiny = torch.finfo(norms.dtype).tiny
    cosines = gramian / (norms[:, None] * norms).clamp_min(tiny)
    found = {f"train/gradient_norm/{name}": norm for name, norm in zip(losses, norms, strict=True)}
    for (i, a), (j, b) in itertools.combinations(enumerate(losses), 2):
        found[f"train/gradient_cosine/{a}~{b}"] = cosines[i, j]
        for one, other in ((a, b), (b, a)):
            found[f"train/affinity/{one}->{other}"] = gramian[i, j] / losses[other].detach().abs().clamp_min(tiny)
    return found


def averaged(values: Tensor) -> Tensor:
    """Mean of each value over the processes."""
    values = values.detach().clone()
    if world() > 1:
        dist.all_reduce(values)
        values /= world()
    return values


def any_of(*asked: bool) -> list[bool]:
    """Of each question, whether any process says yes."""
    if world() == 1:
        return list(asked)
    said = torch.tensor(asked, dtype=torch.int8)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    return [bool(each) for each in said.tolist()]


def exchange(tables: Iterable[nn.Parameter]) -> None:
    """Give every process the rows and gradients of all, averaged: what DDP does for dense gradients.

    Reducing whole tables would cost what the vocabulary has; numbers of rows differ, so each is padded to the largest.
    """
    if world() == 1:
        return
    for table in tables:
        if table.grad is None or not table.grad.is_sparse:
            continue
        rows, values = summed(table.grad)
        counts = torch.zeros(world(), dtype=torch.int64, device=rows.device)
        dist.all_gather(list(torch.split(counts, 1)), torch.tensor([len(rows)], device=rows.device))
        counted = counts.tolist()
        width = rows.element_size() // values.element_size()  # of a row's number as the same bytes: all goes at once
        own = values.new_zeros(max(counted), width + values.shape[1])
        own[: len(rows), :width] = rows.view(values.dtype).view(len(rows), width)
        own[: len(rows), width:] = values / world()
        everybodys = [torch.empty_like(own) for _ in counted]
        dist.all_gather(everybodys, own)
        both = torch.cat([part[:count] for part, count in zip(everybodys, counted, strict=True)])
        together = torch.sparse_coo_tensor(
            both[:, :width].contiguous().view(rows.dtype).view(1, len(both)),
            both[:, width:],
            table.shape,
            check_invariants=False,
        )
        table.grad = rows_gradient(*summed(together), table)


def world() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
