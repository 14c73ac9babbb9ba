"""Self-attentive sequences."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from graftrec.batch import Encoded
from graftrec.nn.packed import AttentionStack, Packed
from graftrec.trunks.base import Trunk, sequence_of


class SASRec(Trunk):
    """z_i from events 1 to i alone: blocks of causal self-attention and a feed-forward network over events + positions.

    W.-C. Kang, J. McAuley, Self-Attentive Sequential Recommendation, ICDM 2018, https://arxiv.org/abs/1808.09781,
    equations 2 to 6. Positions are counted from the newest event, as in the paper, whose sequences are padded in front.
    Where we differ: the feed-forward layer is ``expand`` times as wide as D (the paper's is D), and a learned map of
    the events' age or behaviour comes from the encoder if the stream has them. Padding is never computed.

    Args:
        layers, heads: of attention. positions: that are told apart; events further back share the last one's.
        checkpoint: whether a step keeps the blocks' inputs alone and computes the rest once more, see `run_block`.
    """

    sequential = True

    def __init__(
        self,
        width: int,
        history: bool,
        layers: int = 2,
        heads: int = 2,
        expand: int = 4,
        positions: int = 50,
        dropout: float = 0.2,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if not history:
            raise ValueError("The SASRec trunk reads a sequence, and these streams have no history.")
        self.out_dim = width
        self.stack = AttentionStack(width, layers, heads, expand, positions, dropout, True, checkpoint)
        self.norm = nn.LayerNorm(width)

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        history, mask = sequence_of(self, encoded)
        packed = Packed(mask)
        x = self.norm(self.stack(packed.tokens(history), packed, encoded.last))
        z = x[:, None] if encoded.last else packed.sequences(x)
        return dict.fromkeys(tasks, z)

    def meeting(self) -> nn.Module:
        return self.norm
