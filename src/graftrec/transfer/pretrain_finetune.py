"""Pretrain on the sources, fine-tune on the target."""

from __future__ import annotations

from collections.abc import Sequence

from graftrec.transfer.base import SHARED, Phase, Transfer, at_least_one


class PretrainFinetune(Transfer):
    """First the source and shared tasks alone, then the target from their encoder and trunk.

    Args:
        pretrain: epochs of the first phase.
        finetune: epochs of the second.
        freeze: keep what was carried as it is in the second phase (only the head learns).
        carry: prefixes of the names of parameters that the second phase starts from.
    """

    def __init__(
        self, pretrain: int = 2, finetune: int = 4, freeze: bool = False, carry: Sequence[str] = SHARED
    ) -> None:
        at_least_one(pretrain=pretrain, finetune=finetune)
        if not carry:
            raise ValueError("carry should have a prefix of names. Found none.")
        self.pretrain, self.finetune, self.freeze, self.carry = pretrain, finetune, freeze, tuple(carry)

    def phases(self) -> list[Phase]:
        frozen = self.carry if self.freeze else ()
        return [
            Phase("pretrain", ("source", "shared"), self.pretrain),
            Phase("finetune", ("target",), self.finetune, frozen, start_from="pretrain", carry=self.carry),
        ]
