"""Only what is new learns."""

from __future__ import annotations

from graftrec.transfer.base import SHARED, Phase, Transfer, at_least_one
from graftrec.transfer.rows import NewRowsOnly, SeenRows


class NewRows(Transfer):
    """After the sources only the target's head learns, and embedding rows of ids that no source ever read.

    As adding words to a trained vocabulary: M. Artetxe, S. Ruder, D. Yogatama, On the Cross-lingual Transferability of
    Monolingual Representations, ACL 2020, https://arxiv.org/abs/1910.11856, learn new token embeddings under a frozen
    transformer. Rows are the same id's in all domains, since a protocol numbers ids over them. A row that a source read
    only as a negative, or as the brand of an item, is known and stays.

    Args:
        pretrain, finetune: epochs of the phases.
    """

    def __init__(self, pretrain: int = 2, finetune: int = 4) -> None:
        at_least_one(pretrain=pretrain, finetune=finetune)
        self.pretrain, self.finetune = pretrain, finetune

    def phases(self) -> list[Phase]:
        seen = SeenRows()
        return [
            Phase("pretrain", ("source", "shared"), self.pretrain, means=(seen,)),
            Phase("finetune", ("target",), self.finetune, SHARED, start_from="pretrain", means=(NewRowsOnly(seen),)),
        ]
