"""A penalty towards the source's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graftrec.transfer.base import Means, Past, Phase, Transfer, at_least_one
from graftrec.transfer.rows import SeenRows, rows_in, tables_of


class L2SP(Transfer):
    """Fine-tunes with L + alpha / 2 |w - w0|^2 over what was carried + beta / 2 |w|^2 over what is new.

    X. Li, Y. Grandvalet, F. Davoine, Explicit Inductive Bias for Transfer Learning with Convolutional Networks, ICML
    2018, https://arxiv.org/abs/1802.01483, equation 3; w0 are the source's weights. It takes the place of the
    optimizer's own weight decay, which pulls towards 0 and is off in this phase.

    Where we differ: a row of a table that no source read is new; where gradients hold only rows, a step pulls the rows
    that it read (``optimizer=rowwise``).

    Args:
        pretrain, finetune: epochs of the phases. alpha, beta: at least 0.
    """

    def __init__(self, pretrain: int = 2, finetune: int = 4, alpha: float = 0.1, beta: float = 0.01) -> None:
        at_least_one(pretrain=pretrain, finetune=finetune)
        if min(alpha, beta) < 0:
            raise ValueError(f"alpha and beta should be at least 0. Found {alpha} and {beta}.")
        self.pretrain, self.finetune, self.alpha, self.beta = pretrain, finetune, alpha, beta

    def phases(self) -> list[Phase]:
        seen = SeenRows()
        pull = Pull(self.alpha, self.beta, seen)
        return [
            Phase("pretrain", ("source", "shared"), self.pretrain, means=(seen,)),
            Phase("finetune", ("target",), self.finetune, start_from="pretrain", means=(pull,)),
        ]


class Pull(Means):
    """Adds the gradient of the penalty: alpha (w - w0), or beta w for what is new."""

    replaces_decay = True

    def __init__(self, alpha: float, beta: float, seen: SeenRows) -> None:
        self.alpha, self.beta, self.seen = alpha, beta, seen
        self._pulls: list[tuple[nn.Parameter, float | Tensor, Tensor | None]] = []

    def start(self, model: nn.Module, past: Past) -> None:
        """Keep w0 and the strength (a number, or (N, 1) of a block of tables) of every parameter that trains."""
        loaded, blocks = set(past.loaded), {id(block) for block in tables_of(model).blocks()}
        self._pulls = []
        for block, old in rows_in(model, {k: v for k, v in self.seen.rows.items() if k in loaded}):
            strength = torch.where(old, self.alpha, self.beta)[:, None]
            self._keep(block, strength, block.detach() * old[:, None])
        for name, parameter in model.named_parameters():
            if id(parameter) not in blocks and not name.startswith("balancer."):
                known = name in loaded
                self._keep(parameter, self.alpha if known else self.beta, parameter.detach().clone() if known else None)

    def _keep(self, parameter: nn.Parameter, strength: float | Tensor, start: Tensor | None) -> None:
        if parameter.requires_grad:
            self._pulls.append((parameter, strength, start))

    def gradients(self) -> None:
        for number, (parameter, strength, start) in enumerate(self._pulls):
            if start is not None and start.device != parameter.device:
                start = start.to(parameter.device)
                strength = strength.to(parameter.device) if isinstance(strength, Tensor) else strength
                self._pulls[number] = parameter, strength, start
            if parameter.grad is not None:
                parameter.grad = pulled(parameter.grad, parameter.detach(), strength, start)

    def finish(self, model: nn.Module) -> str:
        total = 0.0
        for parameter, strength, start in self._pulls:
            away = parameter.detach().cpu() - (0.0 if start is None else start.cpu())
            total += float(((strength.cpu() if isinstance(strength, Tensor) else strength) * away**2).sum()) / 2
        self._pulls = []
        return f"the penalty towards the source's weights ended at {total:.4g}"


def pulled(gradient: Tensor, weight: Tensor, strength: float | Tensor, start: Tensor | None) -> Tensor:
    """``gradient`` + strength * (weight - start); of a gradient of rows (R, D), for these rows alone."""
    if not gradient.is_sparse:
        return gradient + strength * (weight if start is None else weight - start)
    gradient = gradient.coalesce()
    rows = gradient.indices()[0]
    own = strength[rows] if isinstance(strength, Tensor) else strength
    values = gradient.values() + own * (weight[rows] if start is None else weight[rows] - start[rows])
    return torch.sparse_coo_tensor(rows[None], values, gradient.shape, is_coalesced=True, check_invariants=False)
