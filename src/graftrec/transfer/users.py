"""Users of two domains: whose vectors each learnt, and those that only the source knows."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graftrec.models.encoder import Encoder
from graftrec.transfer.base import Past
from graftrec.transfer.rows import TABLES, SeenRows, tables_of


def encoder_of(model: nn.Module) -> Encoder:
    """The encoder of a model."""
    encoder = model.get_submodule("encoder")
    if not isinstance(encoder, Encoder):
        raise TypeError(f"encoder should be an Encoder. Found {type(encoder).__name__}.")
    return encoder


class Shared:
    """The one table of users that source and target share, each with vectors of its own.

    Args:
        model: of the target. past: with the weights of the source's ``phase``.

    Attributes:
        key: name of the table in a state dict. at: its rows in the block. source: the source's vectors (rows, D).

    Raises:
        ValueError: users without a table, with several, with one that is shrunk, or one that the source does not have;
            no user of both domains, or none of the source alone.
    """

    def __init__(self, model: nn.Module, past: Past, phase: str) -> None:
        encoder, tables = encoder_of(model), tables_of(model)
        features = [f for s in encoder.schema.streams.values() for f in s.features if f.name == "user"]
        names = sorted({feature.table for feature in features})
        own = tables.layouts.get(names[0]) if len(names) == 1 else None
        if own is None or (own.rule, own.width) != ("plain", tables.width):
            raise ValueError(
                f"the target should have one table of users, a row for each. Found {', '.join(names) or 'none'}; leave "
                "it out of encoder.shrink, and choose targets of one domain."
            )
        self.table = names[0]
        self.key = f"{TABLES}{self.table.replace('.', '_')}.weight"
        self.width, self.at = tables.places()[self.key.removeprefix(TABLES)]
        known = past.states[phase].get(self.key)
        if known is None or len(known) != self.at.stop - self.at.start:
            raise ValueError(
                f"source and target should share the table of users '{self.table}'. Found none of that name in the "
                "source; set protocol.shares=[user], or name links between the platforms."
            )
        self.source = known.detach().clone()
        if past.trained is None:
            raise ValueError("users are mapped by what training has of them. Found no training rows.")
        there, here = past.trained(self.table, ("source", "shared")), past.trained(self.table, ("target",))
        both, alone = int((here & there).sum()), int((there & ~here).sum())
        if not (both and alone):
            raise ValueError(
                "a map needs users of both domains, by whom it is learnt, and users of the source alone, who are "
                f"mapped. Found {both:,} of both and {alone:,} of the source alone, of {int(there.sum()):,} users that "
                f"the sources train on and {int(here.sum()):,} of the target; name links between the domains, or use "
                "transfer=pretrain_finetune"
            )

    def target(self, model: nn.Module) -> Tensor:
        """The target's vectors (rows, D), which can be written to."""
        return tables_of(model).get_parameter(f"block_{self.width}").data[self.at]

    def split(self, source: SeenRows, target: SeenRows) -> tuple[Tensor, Tensor]:
        """Rows of users whom both phases learnt (n,), and of those whom the source alone did (m,)."""
        nobody = torch.zeros(len(self.source), dtype=torch.bool)
        here, there = target.rows.get(self.key, nobody).clone(), source.rows.get(self.key, nobody).clone()
        here[0] = there[0] = False  # a stranger is no user
        return torch.nonzero(here & there).squeeze(1), torch.nonzero(there & ~here).squeeze(1)
