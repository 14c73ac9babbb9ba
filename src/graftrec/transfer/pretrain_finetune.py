"""Pretrain on the sources, fine-tune on the target."""

from __future__ import annotations

from graftrec.transfer.base import Phase, Transfer


class PretrainFinetune(Transfer):
    """First the source and shared tasks alone, then the target from their encoder and trunk.

    Args:
        pretrain: epochs of the first phase.
        finetune: epochs of the second.
        freeze: keep the carried encoder and trunk as they are in the second phase (only the head learns).
    """

    def __init__(self, pretrain: int = 2, finetune: int = 4, freeze: bool = False) -> None:
        if min(pretrain, finetune) < 1:
            raise ValueError(f"pretrain and finetune should be at least 1. Found {pretrain} and {finetune}.")
        self.pretrain, self.finetune, self.freeze = pretrain, finetune, freeze

    def phases(self) -> list[Phase]:
        frozen = ("encoder.", "trunk.") if self.freeze else ()
        return [
            Phase("pretrain", ("source", "shared"), self.pretrain),
            Phase("finetune", ("target",), self.finetune, frozen, start_from="pretrain"),
        ]
