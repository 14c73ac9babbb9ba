"""Embedding tables in one block of memory."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.models.layers.numeric_embeddings import START

Rule = Literal["plain", "hash", "quotient"]
MIX = -7046029254386353131  # 2^64 over the golden ratio, as a signed number: neighbours land far apart


@dataclass(frozen=True)
class Layout:
    """Where a table lies: ``parts`` (first row, rows) of the block of its ``width``, and how ids find their rows."""

    width: int
    rule: Rule
    parts: tuple[tuple[int, int], ...]


class Tables(nn.Module):
    """Embedding tables by name; those of one width lie behind each other, so that many columns are one gather.

    With ``sparse`` a step's gradient holds the rows that it read and no others: a step costs what its rows cost and not
    what the vocabulary has. Checkpoints keep each table under its own name, whatever lies beside it.

    A table can be made smaller than its vocabulary; row 0, the unknown id, is always its own:
      hash: h        ids share h rows (K. Weinberger et al., Feature Hashing, ICML 2009, https://arxiv.org/abs/0902.2206).
      quotient: m    id i is the product of row i // m of one table and row i % m of another, so each id has a vector of
                     its own (H.-J. Shi et al., Compositional Embeddings Using Complementary Partitions, KDD 2020,
                     https://arxiv.org/abs/1909.02107, section 4; remainders start around 1 here).
      width: d       narrower rows and a linear map to the full width, with or without one of the others (A. Ginart et
                     al., Mixed Dimension Embeddings, 2019, https://arxiv.org/abs/1909.11810).

    Args:
        sizes: table -> rows. width: D. shrink: table -> ``hash``, ``quotient`` and ``width``, each at least 1.
        sparse: whether gradients hold only the rows that were read.

    Raises:
        ValueError: a table or a way to shrink that does not exist, or a number below 1.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        width: int,
        shrink: Mapping[str, Mapping[str, int]] | None = None,
        sparse: bool = False,
    ) -> None:
        super().__init__()
        shrink = shrink or {}
        _check(sizes, shrink)
        self.width, self.sparse = width, sparse
        self.layouts: dict[str, Layout] = {}
        rows = {width: 0}
        for name, size in sizes.items():
            asked = shrink.get(name, {})
            own = asked.get("width", width)
            first = rows.get(own, 0)
            parts, rule = [(first, size)], "plain"
            if "quotient" in asked:
                known = max(size - 1, 1)
                above, below = 1 + -(-known // asked["quotient"]), 1 + min(asked["quotient"], known)
                parts, rule = [(first, above), (first + above, below)], "quotient"
            elif "hash" in asked:
                parts, rule = [(first, 1 + min(asked["hash"], max(size - 1, 1)))], "hash"
            self.layouts[name] = Layout(own, rule, tuple(parts))  # type: ignore[arg-type]
            rows[own] = sum(parts[-1])
        for own, count in rows.items():
            self.register_parameter(f"block_{own}", nn.Parameter(torch.empty(count, own), requires_grad=count > 0))
        self.projections = nn.ModuleDict(
            {
                _key(name): nn.Linear(at.width, width, bias=False)
                for name, at in self.layouts.items()
                if at.width != width
            }
        )
        self.low = nn.ModuleDict()  # width -> a `Change` on top of its block
        for name, layout in self.layouts.items():
            for number, part in enumerate(self._parts(name)):
                nn.init.normal_(part, mean=float(layout.rule == "quotient" and number == 1), std=START)

    def _parts(self, name: str) -> Iterator[Tensor]:
        layout = self.layouts[name]
        for first, size in layout.parts:
            yield self._of(layout.width).data[first : first + size]

    def _of(self, width: int) -> nn.Parameter:
        return self.get_parameter(f"block_{width}")

    def places(self) -> dict[str, tuple[int, slice]]:
        """Name in a state dict -> width of the block, and rows of it, where that table or part of one lies."""
        return {
            f"{_key(name)}.{'rest' if number else 'weight'}": (layout.width, slice(first, first + size))
            for name, layout in self.layouts.items()
            for number, (first, size) in enumerate(layout.parts)
        }

    def whole(self, name: str) -> bool:
        """Whether an id is one row of the block of the full width."""
        layout = self.layouts[name]
        return layout.width == self.width and len(layout.parts) == 1

    def blocks(self) -> list[nn.Parameter]:
        """The blocks of all widths."""
        return [self._of(width) for width in {self.width: 0} | {at.width: 0 for at in self.layouts.values()}]

    def by_rows(self) -> list[nn.Parameter]:
        """Parameters (N, ...) whose gradients hold only the rows that a step read: none unless `sparse`."""
        changes = [low.a for low in self.low.values() if isinstance(low, LowRankRows)]
        return [*self.blocks(), *changes] if self.sparse else []

    @property
    def block(self) -> nn.Parameter:
        """All rows (N, D) of the full width."""
        return self._of(self.width)

    def rows(self, name: str, ids: Tensor) -> Tensor:
        """Where ids (...) of a table lie in its block; in the first of two parts, if there are two."""
        layout = self.layouts[name]
        first, size = layout.parts[0]
        if layout.rule == "hash":
            mixed = ids * MIX
            ids = torch.where(ids > 0, 1 + ((mixed ^ (mixed >> 32)) & 0x7FFFFFFFFFFFFFFF) % (size - 1), 0)
        elif layout.rule == "quotient":
            ids = torch.where(ids > 0, 1 + (ids - 1) // (layout.parts[1][1] - 1), 0)
        return ids + first

    def gather(self, rows: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Rows (...) of ``vectors`` (N, D), or of the block itself: (..., D)."""
        if vectors is None or vectors is self.block:
            return self._read(self.width, rows)
        return F.embedding(rows, vectors)

    def _read(self, width: int, rows: Tensor) -> Tensor:
        """Rows (...) of the block of a width, changed as `adapt` says: (..., width)."""
        found = F.embedding(rows, self._of(width), sparse=self.sparse)
        if str(width) in self.low:
            found = found + self.low[str(width)](rows)
        return found

    def adapt(self, rank: int, scale: float) -> None:
        """Read every row i as e_i + scale * a_i B from now on, a (N, rank) and B (rank, width); nothing at first."""
        for block in self.blocks():
            if len(block):
                self.low[str(block.shape[1])] = LowRankRows(len(block), block.shape[1], rank, scale, self.sparse)

    def merge(self) -> None:
        """Make what `adapt` added a part of the rows."""
        for width, low in self.low.items():
            if isinstance(low, Change):
                self._of(int(width)).data += low.change()
        self.low = nn.ModuleDict()

    def bag(self, rows: Tensor, keep: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Mean vector (B, D) of the rows (B, L) that ``keep`` (B, L) keeps, zeros where there is none.

        One fused sum: gathering (B, L, D) vectors and scattering their gradients back takes about twice as long.
        """
        own = vectors is None or vectors is self.block
        weight = self.block if vectors is None else vectors
        counted = keep.to(weight.dtype)
        sparse = own and self.sparse
        total = F.embedding_bag(rows, weight, mode="sum", per_sample_weights=counted, sparse=sparse)
        change = self.low[str(self.width)] if own and str(self.width) in self.low else None
        if isinstance(change, Change):
            total = total + change.bag(rows, counted)
        return total / counted.sum(1, keepdim=True).clamp_min(1)

    def forward(self, name: str, ids: Tensor) -> Tensor:
        """Vectors (..., D) of ids (...) of a table."""
        layout = self.layouts[name]
        vectors = self._read(layout.width, self.rows(name, ids))
        if layout.rule == "quotient":
            first, size = layout.parts[1]
            rest = torch.where(ids > 0, 1 + (ids - 1) % (size - 1), 0) + first
            vectors = vectors * self._read(layout.width, rest)
        if layout.width != self.width:
            vectors = self.projections[_key(name)](vectors)
        return vectors

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name in self.layouts:
            for number, part in enumerate(self._parts(name)):
                destination[f"{prefix}{_key(name)}.{'weight' if number == 0 else 'rest'}"] = part

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for name in self.layouts:
            for number, part in enumerate(self._parts(name)):
                key = f"{prefix}{_key(name)}.{'weight' if number == 0 else 'rest'}"
                found = state_dict.get(key)
                if found is None:
                    missing_keys.append(key)
                elif found.shape != part.shape:
                    error_msgs.append(f"size mismatch for {key}: {tuple(found.shape)}, here it is {tuple(part.shape)}")
                else:
                    part.copy_(found)
        known = {f"{prefix}{_key(name)}.{part}" for name in self.layouts for part in ("weight", "rest")}
        parts = (f"{prefix}projections.", f"{prefix}low.")
        ours = (key for key in state_dict if key.startswith(prefix) and not key.startswith(parts))
        unexpected_keys.extend(key for key in ours if strict and key not in known)


class Change(nn.Module, ABC):
    """What a strategy adds to rows of a block (N, D) while a phase lasts."""

    @abstractmethod
    def forward(self, rows: Tensor) -> Tensor:
        """What is added to rows (...): (..., D)."""

    def bag(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Weighted sums (B, D) of what is added to rows (B, L)."""
        found: Tensor = (self(rows) * weight[..., None]).sum(1)
        return found

    @abstractmethod
    def change(self) -> Tensor:
        """What becomes a part of all rows (N, D) when the phase ends."""


class LowRankRows(Change):
    """A change of rows (N, D): scale * a B, with a (N, rank) of zeros and B (rank, D), rank at most N and D."""

    def __init__(self, rows: int, width: int, rank: int, scale: float, sparse: bool) -> None:
        super().__init__()
        rank = min(rank, rows, width)
        self.scale, self.sparse = scale, sparse
        self.a = nn.Parameter(torch.zeros(rows, rank))
        self.b = nn.Parameter(torch.randn(rank, width))

    def forward(self, rows: Tensor) -> Tensor:
        """(...) -> (..., D)."""
        return self.scale * F.embedding(rows, self.a, sparse=self.sparse) @ self.b

    def bag(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Weighted sums (B, D) of the changes of rows (B, L)."""
        total = F.embedding_bag(rows, self.a, mode="sum", per_sample_weights=weight, sparse=self.sparse)
        return self.scale * total @ self.b

    def change(self) -> Tensor:
        """(N, D)."""
        return (self.scale * self.a @ self.b).detach()


def _check(sizes: Mapping[str, int], shrink: Mapping[str, Mapping[str, int]]) -> None:
    for name, asked in shrink.items():
        if name not in sizes:
            near = difflib.get_close_matches(name, sizes, 1) or sorted(sizes)
            raise ValueError(f"shrink.{name}: there is no table '{name}'. Known: {', '.join(near)}.")
        wrong = sorted(set(asked) - {"hash", "quotient", "width"})
        if wrong or {"hash", "quotient"} <= set(asked):
            raise ValueError(f"shrink.{name} should have width and one of hash or quotient. Found {dict(asked)}.")
        if any(number < 1 for number in asked.values()):
            raise ValueError(f"shrink.{name} should have numbers of at least 1. Found {dict(asked)}.")


def _key(name: str) -> str:
    """A name that torch takes for a part of a module."""
    return name.replace(".", "_")
