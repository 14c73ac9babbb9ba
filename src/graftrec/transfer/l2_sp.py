"""A penalty towards the source's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graftrec.models.layers.weight_decay import undecayed
from graftrec.transfer.base import Means, Past, Phase, Transfer, at_least_one
from graftrec.transfer.rows import SeenRows, rows_in, tables_of
from graftrec.utils.sparse_rows import summed


class L2SP(Transfer):
    """Fine-tunes with L + alpha / 2 |w - w0|^2 over what was carried + beta / 2 |w|^2 over what is new.

    X. Li, Y. Grandvalet, F. Davoine, Explicit Inductive Bias for Transfer Learning with Convolutional Networks, ICML
    2018, https://arxiv.org/abs/1802.01483, equation 3; w0 are the source's weights. It takes the place of the
    optimizer's own weight decay, which pulls towards 0 and is off in this phase.

    Where we differ: the paper's rule is SGD, in which a step on the penalty is w <- w - eta alpha (w - w0). An adaptive
    rule would divide it by the size of the loss's gradients, and alpha would mean another strength for each weight. So
    it is decoupled, as weight decay is in AdamW (I. Loshchilov, F. Hutter, ICLR 2019,
    https://arxiv.org/abs/1711.05101, section 2): after each step of the optimizer, whatever it is,

        w <- w - eta alpha (w - w0), or w <- w - eta beta w,  eta the learning rate of w in this step

    without momentum, and clipping sees the loss alone. A row of a table that no source read is new; where gradients
    hold only rows, a step pulls the rows that it read, at their rate (``optimizer=rowwise``). New norms, biases and
    gates are not pulled to 0, see `undecayed`.

    Args:
        pretrain, finetune: epochs of the phases. alpha, beta: at least 0.
    """

    whole_weights = True

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
    """Pulls after each step of the optimizer: eta alpha (w - w0), or eta beta w of what is new."""

    replaces_decay = True

    def __init__(self, alpha: float, beta: float, seen: SeenRows) -> None:
        self.alpha, self.beta, self.seen = alpha, beta, seen
        self._pulls: dict[nn.Parameter, tuple[float | Tensor, Tensor | None]] = {}

    def start(self, model: nn.Module, past: Past) -> None:
        """Keep w0 and the strength (a number, or (N, 1) of a block of tables) of every parameter that trains."""
        loaded, blocks = set(past.loaded), {id(block) for block in tables_of(model).blocks()}
        spared = {id(parameter) for parameter in undecayed(model)}
        self._pulls = {}
        for block, old in rows_in(model, {k: v for k, v in self.seen.rows.items() if k in loaded}):
            strength = torch.where(old, self.alpha, self.beta)[:, None]
            self._pulls[block] = strength, block.detach() * old[:, None]
        for name, parameter in model.named_parameters():
            if id(parameter) not in blocks and not name.startswith("balancer."):
                if name in loaded:
                    self._pulls[parameter] = self.alpha, parameter.detach().clone()
                elif id(parameter) not in spared:
                    self._pulls[parameter] = self.beta, None
        self._pulls = {parameter: pull for parameter, pull in self._pulls.items() if parameter.requires_grad}

    def optimized_by(self, optimizer: torch.optim.Optimizer) -> None:
        optimizer.register_step_post_hook(self._pull)

    @torch.no_grad()
    def _pull(self, optimizer: torch.optim.Optimizer, *given: object) -> None:
        """After a step: every weight that had a gradient in it, at its rate; of a gradient of rows these alone."""
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None or parameter not in self._pulls:
                    continue
                strength, start = self._on(parameter)
                if not parameter.grad.is_sparse:
                    parameter.sub_(group["lr"] * strength * (parameter if start is None else parameter - start))
                    continue
                rows = summed(parameter.grad)[0]
                away = parameter[rows] if start is None else parameter[rows] - start[rows]
                own = strength[rows] if isinstance(strength, Tensor) else strength
                parameter.index_add_(0, rows, own * away, alpha=-group["lr"] * group.get("ratio", 1.0))

    def _on(self, parameter: nn.Parameter) -> tuple[float | Tensor, Tensor | None]:
        """Strength and w0 of a parameter, on its device."""
        strength, start = self._pulls[parameter]
        if start is not None and start.device != parameter.device:
            start = start.to(parameter.device)
            strength = strength.to(parameter.device) if isinstance(strength, Tensor) else strength
            self._pulls[parameter] = strength, start
        return strength, start

    def finish(self, model: nn.Module) -> str:
        total = 0.0
        for parameter, (strength, start) in self._pulls.items():
            away = parameter.detach().cpu() - (0.0 if start is None else start.cpu())
            total += float(((strength.cpu() if isinstance(strength, Tensor) else strength) * away**2).sum()) / 2
        self._pulls = {}
        return f"the penalty towards the source's weights ended at {total:.4g}"
