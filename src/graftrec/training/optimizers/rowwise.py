"""Row-wise updates for tables, AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from torch.optim.adamw import adamw

from graftrec.utils.sparse_rows import rows_gradient, summed

Rule = Literal["adagrad", "adam"]


class RowWise(torch.optim.Optimizer):
    """One optimizer with two rules, so that clipping, schedulers, checkpoints and the count of steps stay those of one.

    Parameters whose gradient is sparse are tables: only the rows that a step read are touched, so a step costs what
    its rows cost and not what the vocabulary has. For row i with gradient g_i (D,):
      adagrad: v_i += mean(g_i^2); p_i -= table_lr * g_i / (sqrt(v_i) + eps), one v per row (D. Mudigere et al.,
               Software-Hardware Co-design for Fast and Scalable Training of Deep Learning Recommendation Models, ISCA
               2022, https://arxiv.org/abs/2104.05158, section 4.1.4).
      adam:    m_i = b1 m_i + (1 - b1) g_i; v_i = b2 v_i + (1 - b2) mean(g_i^2), both corrected for their start by how
               often the row itself was touched; p_i -= table_lr * m_i / (sqrt(v_i) + eps).
    The rest follows AdamW (I. Loshchilov, F. Hutter, ICLR 2019, https://arxiv.org/abs/1711.05101), fused.

    Args:
        params: parameters, or groups of them. lr: of the rest. table_lr: of tables (default: ``lr`` for adam, 10 times
            that for adagrad, whose steps shrink). rule: of tables. betas, eps: of both. weight_decay: of the rest;
            table_decay: of the rows that a step touches, p_i -= table_lr * table_decay * p_i.

    Raises:
        ValueError: a rate below 0, a beta outside [0, 1), or an unknown rule.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 1e-3,
        table_lr: float | None = None,
        rule: Rule = "adagrad",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        table_decay: float = 0.0,
    ) -> None:
        if rule not in get_args(Rule):
            raise ValueError(f"rule should be one of {', '.join(get_args(Rule))}. Found {rule}.")
        rates = {
            "lr": lr,
            "table_lr": table_lr or 0.0,
            "weight_decay": weight_decay,
            "table_decay": table_decay,
            "eps": eps,
        }
        if min(rates.values()) < 0:
            raise ValueError(f"{', '.join(rates)} should be at least 0. Found {', '.join(map(str, rates.values()))}.")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas should be in [0, 1). Found {tuple(betas)}.")
        if table_lr is None:
            table_lr = 10 * lr if rule == "adagrad" else lr
        defaults = {
            "lr": lr, "ratio": table_lr / lr if lr else 0.0, "rule": rule, "betas": tuple(betas), "eps": eps,
            "weight_decay": weight_decay, "table_decay": table_decay,
        }  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of everything that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            given = [(p, p.grad) for p in group["params"] if p.grad is not None]
            for table, gradient in given:
                if gradient.is_sparse:
                    self._rows(table, gradient, group)
            self._rest([(p, gradient) for p, gradient in given if not gradient.is_sparse], group)
        return loss

    def _rows(self, table: Tensor, found: Tensor, group: Mapping[str, Any]) -> None:
        """Touch the rows that the gradient holds; a schedule moves ``lr`` and the tables' rate with it."""
        rows, gradient = summed(found)
        lr, eps = group["lr"] * group["ratio"], group["eps"]
        state = self.state[table]
        if not state:
            state["v"] = torch.zeros(len(table), device=table.device)
            if group["rule"] == "adam":
                state["m"] = torch.zeros_like(table)
                state["touched"] = torch.zeros(len(table), device=table.device)
        square = gradient.square().mean(1)
        if group["rule"] == "adagrad":
            v = state["v"][rows] + square
            state["v"][rows] = v
            update = gradient / (v.sqrt() + eps)[:, None]
        else:
            one, two = group["betas"]
            times = state["touched"][rows] + 1
            v = state["v"][rows] * two + (1 - two) * square
            m = state["m"][rows] * one + (1 - one) * gradient
            state["touched"][rows], state["v"][rows], state["m"][rows] = times, v, m
            root = (v / (1 - two**times)).sqrt() + eps
            update = m / ((1 - one**times) * root)[:, None]
        if group["table_decay"]:
            update = update + group["table_decay"] * table[rows]
        table.index_add_(0, rows, update, alpha=-lr)

    def _rest(self, given: list[tuple[Tensor, Tensor]], group: Mapping[str, Any]) -> None:
        if not given:
            return
        parameters, gradients = [parameter for parameter, _ in given], [gradient for _, gradient in given]
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["m"], state["v"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            gradients,
            [state["m"] for state in states],
            [state["v"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def clip(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale all gradients so that their norm, over dense ones and rows together, is at most ``largest``; the old norm.

    As `torch.nn.utils.clip_grad_norm_`, which refuses sparse gradients.
    """
    norm, parts = total_norm(parameters)
    scale(parts, norm, largest)
    return norm


def total_norm(parameters: Iterable[nn.Parameter]) -> tuple[Tensor, list[Tensor]]:
    """The norm of all gradients, dense ones and rows together, and the tensors that hold them."""
    parts = []
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None and gradient.is_sparse:
            rows, gradient = summed(gradient)
            parameter.grad = rows_gradient(rows, gradient, parameter)
        if gradient is not None:
            parts.append(gradient)
    cut = [part for part in parts if isinstance(part, DTensor)]  # of FSDP2
    whole = [part for part in parts if not isinstance(part, DTensor)]
    norms = [part.norm().full_tensor() for part in cut] + ([get_total_norm(whole)] if whole else [])
    return torch.stack(norms).norm() if norms else torch.zeros(()), parts


def scale(parts: Iterable[Tensor], norm: Tensor, largest: float) -> None:
    """Scale gradients of this norm, in place, so that it is at most ``largest``."""
    factor = (largest / (norm + 1e-6)).clamp_max(1.0)
    for part in parts:
        part.mul_(factor)
