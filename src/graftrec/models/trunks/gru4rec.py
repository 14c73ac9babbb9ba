"""Recurrent sequences."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.dropout import Dropout
from graftrec.models.layers.packed_sequences import Packed
from graftrec.models.trunks.base import Trunk, sequence_of


class GRU4Rec(Trunk):
    """z_i = W h_i + b, h_i = GRU(h_(i-1), event i), h_0 = 0: all that came before is in one vector.

    B. Hidasi et al., Session-based Recommendations with Recurrent Neural Networks, ICLR 2016,
    https://arxiv.org/abs/1511.06939, equations 2 to 5 as in torch, whose reset gate acts after the product with h.
    Of events (B, L, D) z is (B, L, D), zeros at padding, and (B, 1, D) where the last one is asked.

    Where we differ: events come in as vectors, not as one-hot codes (the paper's own variant), and z is compared with
    item vectors, to whose width D it is mapped; every event of a sequence trains in one step, from its first, where
    the paper carries states over from one batch to the next.

    Args:
        hidden: width of the state h, 0 for D. layers: of GRUs, one on the states of the other, at least 1.
        dropout: of events, and of states between two layers, in [0, 1).

    Raises:
        ValueError: streams without a history, or numbers outside these ranges.
    """

    sequential = True

    def __init__(self, width: int, history: bool, hidden: int = 0, layers: int = 1, dropout: float = 0.2) -> None:
        super().__init__()
        if not history:
            raise ValueError("The GRU4Rec trunk reads a sequence, and these streams have no history.")
        if hidden < 0 or layers < 1:
            raise ValueError(f"hidden should be at least 0, and layers at least 1. Found {hidden} and {layers}.")
        self.out_dim = width
        self.scale = width**0.5  # the tables' first vectors are small
        self.dropout = Dropout(dropout)
        # torch warns of dropout between layers where there is one layer
        between = dropout if layers > 1 else 0.0
        self.gru = nn.GRU(width, hidden or width, layers, batch_first=True, dropout=between)
        self.out = nn.Linear(hidden or width, width)

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        history, mask = sequence_of(self, encoded)
        packed = Packed(mask)
        # padding stands behind, where no state comes from; torch's own packing is slower than computing it
        states = self.gru(packed.padded(self.dropout(packed.tokens(history) * self.scale)))[0]
        states = packed.unpadded(states)
        if encoded.last:
            z = self.out(packed.last(states))[:, None]
        else:
            z = packed.sequences(self.out(states))
        return dict.fromkeys(tasks, z)

    def meeting(self) -> nn.Module:
        return self.out
