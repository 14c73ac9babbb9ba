"""Who chose what, as a graph of users and items that vectors are spread over."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from graftrec.data.schema import Edges


class Bipartite(nn.Module):
    """The normalised edges R (U, I) of users and the items that somebody chose, R_ui = 1 / sqrt(|N_u| |N_i|), and R^T.

    X. He et al., LightGCN, SIGIR 2020, https://arxiv.org/abs/2002.02126, equation 3, for users and items apart.

    Args:
        edges: who chose what, each pair once.

    Attributes:
        degree: (U,) float32, how many items each user chose. chosen: (I,) int64, which of the E items have an edge;
        other: (E - I,) which have none, as those of another domain that shares the table.
    """

    degree: Tensor
    chosen: Tensor
    other: Tensor

    def __init__(self, edges: Edges) -> None:
        super().__init__()
        of_user, of_item = (
            torch.bincount(ends, minlength=size).float()
            for ends, size in zip((edges.user, edges.item), (edges.users, edges.items), strict=True)
        )
        weight = (of_user[edges.user] * of_item[edges.item]).rsqrt()
        chosen, item = torch.unique(edges.item, return_inverse=True)
        self.sizes = edges.users, len(chosen)
        self.register_buffer("degree", of_user, persistent=False)
        self.register_buffer("chosen", chosen, persistent=False)
        self.register_buffer("other", torch.nonzero(of_item == 0).squeeze(1), persistent=False)
        for name, row, column, rows in (
            ("users", edges.user, item, self.sizes[0]),
            ("items", item, edges.user, self.sizes[1]),
        ):
            order = torch.argsort(row, stable=True)
            starts = torch.bincount(row, minlength=rows).cumsum(0)
            self.register_buffer(f"{name}_starts", torch.cat([starts.new_zeros(1), starts]), persistent=False)
            self.register_buffer(f"{name}_columns", column[order], persistent=False)
            self.register_buffer(f"{name}_weights", weight[order], persistent=False)

    def to_users(self, items: Tensor) -> Tensor:
        """R v of items (I, D): (U, D), zeros for a user without any."""
        return self._spread(items, "users", "items")

    def to_items(self, users: Tensor) -> Tensor:
        """R^T v of users (U, D): (I, D)."""
        return self._spread(users, "items", "users")

    def whole(self, chosen: Tensor, other: Tensor) -> Tensor:
        """All items (E, D) from those that were chosen (I, D) and the others (E - I, D)."""
        found = chosen.new_empty(len(chosen) + len(other), chosen.shape[1])
        return found.index_copy(0, self.chosen, chosen).index_copy(0, self.other, other)

    def _spread(self, vectors: Tensor, to: str, back: str) -> Tensor:
        matrix, transposed = self._matrix(to), self._matrix(back)
        with torch.autocast(vectors.device.type, enabled=False):  # torch has no sparse product in half precision
            found: Tensor = _Product.apply(vectors.to(matrix.dtype), matrix, transposed)  # type: ignore[no-untyped-call]
        return found

    def _matrix(self, name: str) -> Tensor:
        starts, columns, weights = (getattr(self, f"{name}_{part}") for part in ("starts", "columns", "weights"))
        weights = weights.to(torch.promote_types(weights.dtype, torch.float32))  # half precision cannot sum neighbours
        sizes = self.sizes if name == "users" else self.sizes[::-1]
        with warnings.catch_warnings():  # torch says of sparse matrices that they are in beta
            warnings.simplefilter("ignore")
            return torch.sparse_csr_tensor(starts, columns, weights, sizes, check_invariants=False)


class _Product(torch.autograd.Function):
    """A sparse matrix, which has no gradient, times vectors; its transpose is there as well, so none is made."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ vectors

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        with torch.autocast(gradient.device.type, enabled=False):
            return ctx.transposed @ gradient, None, None
