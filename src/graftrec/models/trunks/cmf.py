"""Collective matrix factorisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.global_mean import Common
from graftrec.models.layers.pooling import asked, places
from graftrec.models.trunks.base import Trunk


class CMF(Trunk):
    """z = u + m for every domain, so that X_d = f(U V_d^T): users' factors are shared, items' are each domain's own.

    A. P. Singh, G. J. Gordon, Relational Learning via Collective Matrix Factorization, KDD 2008,
    https://doi.org/10.1145/1401890.1401969, equation 3: L = sum_d w_d D(X_d || f(U V_d^T)), where w_d is a task's
    ``weight`` and f comes with its loss. The head ``dot`` gives <z, v> for each candidate v. In rows, where the item is
    a field, z = (u + m) * v, whose sum is <u + m, v>: a linear head weighs its elements.

    u, v and z are (B, D).

    Where we differ: m (D,) is what all users have in common, as the mean of the factors in their later model (A
    Bayesian Matrix Factorization Model for Relational Data, UAI 2010, https://arxiv.org/abs/1203.3517); steps take rows
    of all domains at once in place of alternating Newton steps; what is known of users and items is in their vectors.

    Args:
        user: name of a field that every stream has. item: of the field that rows have and rankings have not.
    """

    by_name = True
    reads_events = False
    reads_fields = False

    def __init__(
        self, width: int, streams: Mapping[str, Sequence[str]], user: str = "user", item: str = "item"
    ) -> None:
        super().__init__()
        self.user = places("user", user, streams)
        self.item = {name: list(fields).index(item) for name, fields in streams.items() if item in fields}
        self.common = Common(width)
        self.out_dim = width

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        z = self.common(asked(encoded, self.user))
        if encoded.stream in self.item:
            z = z * asked(encoded, self.item)
        return dict.fromkeys(tasks, z)

    def meeting(self) -> nn.Module:
        return self.common
