"""Convolutional sequences."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.dropout import Dropout
from graftrec.models.layers.packed_sequences import Packed
from graftrec.models.trunks.base import Trunk, sequence_of


class Convolution(nn.Module):
    """c_i = b + sum_k W_k x_(i - k * dilation), k = 0 ... kernel - 1, and zeros before the first event.

    The events of a sequence lie side by side, so a step back is a row back: a gather and one matrix product.

    Args:
        width: D. kernel: events that are read. dilation: places from one of them to the next.
    """

    def __init__(self, width: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.register_buffer("back", torch.arange(kernel) * dilation, persistent=False)
        self.taps = nn.Linear(kernel * width, width)

    def forward(self, x: Tensor, packed: Packed) -> Tensor:
        """(P, D) -> (P, D)."""
        back: Tensor = self.get_buffer("back")
        at = torch.arange(len(x), device=x.device)[:, None] - back
        at = torch.where(packed.order[:, None] >= back, at, len(x))  # one more row stands for what came before
        read = F.pad(x, (0, 0, 0, 1)).index_select(0, at.flatten())
        found: Tensor = self.taps(read.view(len(x), self.taps.in_features))
        return found


class ConvolutionBlock(nn.Module):
    """x + dropout(f_2d(f_d(x))), f_d(x) = ReLU(norm(convolution with dilation d (x))): packed events (P, D) -> (P, D).

    Args:
        width: D. kernel: see `Convolution`. dilation: d. dropout: in [0, 1).
    """

    def __init__(self, width: int, kernel: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = Convolution(width, kernel, dilation), Convolution(width, kernel, 2 * dilation)
        self.between, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, packed: Packed) -> Tensor:
        found = F.relu(self.between(self.first(x, packed)))
        found = F.relu(self.after(self.second(found, packed)))
        return x + self.dropout(found)  # type: ignore[no-any-return]


class NextItNet(Trunk):
    """z_i from the events that a stack of causal convolutions with growing gaps reaches back to.

    F. Yuan et al., A Simple Convolutional Generative Network for Next Item Recommendation, WSDM 2019,
    https://arxiv.org/abs/1808.05163, with the residual block of its figure 3 b: see `ConvolutionBlock`.
    z_i reads the newest 1 + 3 (kernel - 1) * repeats * sum(dilations) events: 61 by default. Of events (B, L, D) z is
    (B, L, D), zeros at padding, and (B, 1, D) where the last one is asked.

    Where we differ: z is layer-normed before it is compared with items, and a part of each block's result is dropped in
    training.

    Args:
        kernel: events that a convolution reads, at least 1.
        dilations: of the first convolution of each block, at least one, each at least 1; its second has twice as much.
        repeats: times that these blocks follow each other, each with weights of its own, at least 1.
        dropout: of events and of what each block adds, in [0, 1).

    Raises:
        ValueError: streams without a history, or numbers outside these ranges.
    """

    sequential = True

    def __init__(
        self,
        width: int,
        history: bool,
        kernel: int = 3,
        dilations: Sequence[int] = (1, 4),
        repeats: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if not history:
            raise ValueError("The NextItNet trunk reads a sequence, and these streams have no history.")
        if not dilations or min(kernel, repeats, *dilations) < 1:
            raise ValueError(
                "kernel, repeats and all of one or more dilations should be at least 1. "
                f"Found {kernel}, {repeats}, {list(dilations)}."
            )
        self.out_dim = width
        self.scale = width**0.5  # the tables' first vectors are small
        self.blocks = nn.ModuleList(
            ConvolutionBlock(width, kernel, dilation, dropout) for dilation in [*dilations] * repeats
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        history, mask = sequence_of(self, encoded)
        packed = Packed(mask)
        x = self.dropout(packed.tokens(history) * self.scale)
        for block in self.blocks:
            x = block(x, packed)
        z = self.norm(packed.last(x))[:, None] if encoded.last else packed.sequences(self.norm(x))
        return dict.fromkeys(tasks, z)

    def meeting(self) -> nn.Module:
        return self.norm
