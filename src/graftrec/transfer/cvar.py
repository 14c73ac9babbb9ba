"""Vectors of new items, decoded from what is known of them and from how often items are chosen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graftrec.data.batch import Batch
from graftrec.models.layers.generators import Decoded
from graftrec.tasks.base import Task
from graftrec.tasks.losses.base import everywhere
from graftrec.transfer.base import OPTIONAL, ROLES, Means, Past, Phase, Transfer, at_least_one
from graftrec.transfer.mwuf import Choosers, known_rows, stand_in
from graftrec.transfer.users import encoder_of


class CVAR(Transfer):
    """A new item's vector is g(z, n), z ~ N(mu'(X), sigma'(X)): X are its attributes, n how often items are chosen.

    X. Zhao et al., Improving Item Cold-start Recommendation via Model-agnostic Conditional Variational Autoencoder,
    SIGIR 2022, https://arxiv.org/abs/2205.13795: everything is trained on the items that are known, and rests. Then an
    autoencoder of their vectors v learns, whose z can be told from the attributes alone, by

        L(g(z', n)) + reconstruct * |g(z, n) - v|^2 + align * W_2^2(N(mu(v), sigma(v)), N(mu'(X), sigma'(X)))

    with z ~ N(mu(v), sigma(v)), z' ~ N(mu'(X), sigma'(X)), n of the item, and L the tasks' loss with the item's vector
    replaced. mu, log sigma^2, mu', log sigma'^2 and g are linear maps. What is said of known items is what it was.

    Where we differ: from the authors' code (https://github.com/BestActionNow/CVAR) are the draws, mean + ``noise`` *
    deviation * N(0, 1), and the start of the maps, U(-.01, .01); but g starts at the mean of the known items' vectors.
    Means of the second and the third term are over the known items that a batch reads (there: over rows, and a sum of
    the third); they are part of the loss of the first task that reads the batch. X is the mean of the attributes'
    vectors, which rest (there: vectors of its own, one behind the other). n is log(1 + users who chose the item), over
    the largest; new items are decoded at the mean n of those that are known, as the maps have seen none that nobody
    chose. Their own few rows, if there are any, are part of both phases, where the paper goes on with them in stages.

    Args:
        pretrain, warm: epochs of the phases. few: items that at most so many users of training chose are new as well;
            those that nobody chose always are. latent: numbers of z. noise: of a draw, at least 0. reconstruct, align:
            weights, at least 0. table: of the items.
    """

    def __init__(
        self,
        pretrain: int = 2,
        warm: int = 1,
        few: int = 0,
        latent: int = 16,
        noise: float = 1e-4,
        reconstruct: float = 1.0,
        align: float = 0.1,
        table: str = "item",
    ) -> None:
        at_least_one(pretrain=pretrain, warm=warm, latent=latent)
        for name, value in {"few": few, "noise": noise, "reconstruct": reconstruct, "align": align}.items():
            if value < 0:
                raise ValueError(f"{name} should be at least 0. Found {value}.")
        self.pretrain, self.warm, self.few, self.latent, self.table = pretrain, warm, few, latent, table
        self.noise, self.reconstruct, self.align = noise, reconstruct, align

    def phases(self) -> list[Phase]:
        choosers = Choosers(self.table)
        decoding = Decoding(choosers, self.few, self.latent, self.noise, self.reconstruct, self.align)
        return [
            Phase("pretrain", ROLES, self.pretrain, means=(choosers,)),
            Phase("warm", ROLES, self.warm, start_from="pretrain", carry=("encoder.", *OPTIONAL, "trunk.", "tasks."),
                  means=(decoding,)),
        ]  # fmt: skip


class Decoding(Means):
    """Puts `Decoded` vectors in the place of new items', and nothing else learns."""

    stays = True

    def __init__(
        self, choosers: Choosers, few: int, latent: int, noise: float, reconstruct: float, align: float
    ) -> None:
        self.choosers, self.few, self.latent = choosers, few, latent
        self.noise, self.reconstruct, self.align = noise, reconstruct, align
        self._terms: list[tuple[Tensor, Tensor]] = []

    def build(self, model: nn.Module) -> None:
        settings = self.latent, self.noise, self.reconstruct, self.align
        stand_in(model, self.choosers.table, lambda meaning, width: Decoded(meaning, width, *settings))

    @torch.no_grad()
    def start(self, model: nn.Module, past: Past) -> None:
        encoder, table = encoder_of(model), self.choosers.table
        decoded = encoder.generators[table.replace(".", "_")]
        if not isinstance(decoded, Decoded):
            raise TypeError(f"generators should have Decoded vectors. Found {type(decoded).__name__}.")
        rare = self.choosers.rare(self.few)
        often = self.choosers.count.double().log1p()
        often = often / often.max().clamp_min(1e-9)
        known = ~rare
        known[0] = False
        often[~known] = often[known].mean() if bool(known.any()) else 0.0
        decoded.frequency.copy_(often)
        decoded.rare.copy_(rare)
        places = encoder.tables.rows(table, torch.arange(len(decoded.own), device=encoder.tables.block.device))
        decoded.own.copy_(encoder.tables.block[places])
        decoded.decode.bias.copy_(encoder.tables.block[known_rows(encoder, table, decoded.rows.cpu(), rare)].mean(0))
        self._terms = decoded.terms

    def loss(self, name: str, task: Task, loss: Tensor, logits: Tensor | None, stream: str, batch: Batch) -> Tensor:
        """The loss, and what the encoder has left since the last one."""
        while self._terms:
            total, count = self._terms.pop()
            loss = loss + total * everywhere(count)
        return loss

    def finish(self, model: nn.Module) -> str:
        self._terms = []
        return self.choosers.line(self.few)
