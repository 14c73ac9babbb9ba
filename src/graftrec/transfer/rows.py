"""Rows of the encoder's tables: which a phase learnt, and which may learn in the next one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graftrec.models.layers.embedding_tables import Tables
from graftrec.transfer.base import Means, Past

TABLES = "encoder.tables."


def tables_of(model: nn.Module) -> Tables:
    """The tables of a model's encoder."""
    found = model.get_submodule(TABLES.rstrip("."))
    if not isinstance(found, Tables):
        raise TypeError(f"encoder.tables should be Tables. Found {type(found).__name__}.")
    return found


class SeenRows(Means):
    """Remembers which rows of tables had a gradient in a phase.

    Attributes:
        rows: name in the state dict -> (rows,) bool, once the phase has ended; empty before.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Tensor] = {}
        self._seen: list[tuple[nn.Parameter, Tensor]] = []

    def start(self, model: nn.Module, past: Past) -> None:
        self.rows = {}
        self._seen = [(block, torch.zeros(len(block), dtype=torch.bool)) for block in tables_of(model).blocks()]

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seen": [seen for _, seen in self._seen]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.rows = dict(state["rows"])
        self._seen = [(block, seen) for (block, _), seen in zip(self._seen, state["seen"], strict=False)]

    def gradients(self) -> None:
        for number, (block, seen) in enumerate(self._seen):
            if block.grad is None:
                continue
            if seen.device != block.device:
                seen = seen.to(block.device)
            if block.grad.is_sparse:
                seen[block.grad._indices()[0]] = True
            else:
                seen |= (block.grad != 0).any(1)
            self._seen[number] = block, seen

    def finish(self, model: nn.Module) -> str:
        by_width = {block.shape[1]: seen.cpu() for block, seen in self._seen}
        self.rows = {f"{TABLES}{name}": by_width[width][at] for name, (width, at) in tables_of(model).places().items()}
        self._seen = []
        return ""


def rows_in(model: nn.Module, rows: dict[str, Tensor]) -> list[tuple[nn.Parameter, Tensor]]:
    """Blocks (N, D) of a model's tables, and which of their rows (N,) bool are ``rows`` of another's state dict."""
    tables = tables_of(model)
    found = {block.shape[1]: (block, torch.zeros(len(block), dtype=torch.bool)) for block in tables.blocks()}
    for name, (width, at) in tables.places().items():
        known = rows.get(f"{TABLES}{name}")
        if known is not None and len(known) == at.stop - at.start:
            found[width][1][at] = known
    return list(found.values())


class NewRowsOnly(Means):
    """Of the tables only rows that ``seen`` never learnt may move, whatever the optimizer does to the others.

    Their gradients are dropped, and a weight decay over the whole table is undone after the step.
    """

    def __init__(self, seen: SeenRows) -> None:
        self.seen = seen
        self._fixed: list[tuple[nn.Parameter, Tensor, Tensor]] = []

    def start(self, model: nn.Module, past: Past) -> None:
        self._fixed = []
        for block, old in rows_in(model, self.seen.rows):
            block.requires_grad_(block.numel() > 0)
            self._fixed.append((block, old, block.detach()[old].clone()))

    def gradients(self) -> None:
        for number, (block, old, values) in enumerate(self._fixed):
            if old.device != block.device:
                old, values = old.to(block.device), values.to(block.device)
                self._fixed[number] = block, old, values
            if block.grad is not None:
                block.grad = without(block.grad, old)

    def stepped(self) -> None:
        for block, old, values in self._fixed:
            if not tables_are_sparse(block):
                block.data[old] = values

    def finish(self, model: nn.Module) -> str:
        rows = sum(len(old) for _, old, _ in self._fixed)
        new = rows - sum(int(old.sum()) for _, old, _ in self._fixed)
        self._fixed = []
        return f"{new:,} of {rows:,} rows of tables were new and could learn"


def without(gradient: Tensor, rows: Tensor) -> Tensor:
    """A gradient (N, D), dense or of rows, with nothing for ``rows`` (N,) bool."""
    if not gradient.is_sparse:
        return gradient.masked_fill_(rows[:, None], 0.0)
    at, values = gradient._indices(), gradient._values()
    kept = ~rows[at[0]]
    return torch.sparse_coo_tensor(at[:, kept], values[kept], gradient.shape, check_invariants=False)


def tables_are_sparse(block: nn.Parameter) -> bool:
    """Whether the last gradient of a block held rows: an optimizer then touches no other."""
    return block.grad is not None and block.grad.is_sparse
