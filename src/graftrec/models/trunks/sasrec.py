"""Self-attentive sequences."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.packed_sequences import AttentionStack, Packed
from graftrec.models.trunks.base import Trunk, sequence_of


class SASRec(Trunk):
    """Blocks of causal self-attention and a feed-forward network over events + positions: z_i reads events 1 to i.

    x_i = sqrt(D) e_i + p, of n events the i-th with the position n - i; then `AttentionBlock` after `AttentionBlock`;
    z = norm(x). Of events (B, L, D) z is (B, L, D), zeros at padding, and (B, 1, D) where the last one is asked.

    W.-C. Kang, J. McAuley, Self-Attentive Sequential Recommendation, ICDM 2018, https://arxiv.org/abs/1808.09781,
    equations 2 to 6. Positions are counted from the newest event, as in the paper, whose sequences are padded in front:
    z_i reads no later event, but how many of them follow in its row says which position it has.

    Where we differ: the feed-forward layer is ``expand`` times as wide as D (the paper's is D). Queries, keys and
    values all read the normed x, have biases, and heads are brought together by W_O (the authors' code norms the
    queries alone, adds to the normed x, and has no W_O). There attention's weights and the hidden layer have the
    ``dropout`` of the rest; here these are options of their own, 0 by default. A learned vector of the events'
    behaviour comes from the encoder if the stream has several. Padding is never computed.

    Args:
        layers: blocks, at least 1. heads: of attention in each, at least 1, divide D.
        expand: width of the feed-forward layers over D, at least 1.
        positions: that are told apart, at least 1; events further back share the last one's.
        dropout: of events + positions and of what each half of a block adds, in [0, 1).
        attention_dropout: of attention's weights, in [0, 1). inner_dropout: inside the feed-forward layers, in [0, 1).
        checkpoint: whether a step keeps the blocks' inputs alone and computes the rest once more, see `run_block`.

    Raises:
        ValueError: streams without a history, numbers outside these ranges, or heads that do not divide D.
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
        attention_dropout: float = 0.0,
        inner_dropout: float = 0.0,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if not history:
            raise ValueError("The SASRec trunk reads a sequence, and these streams have no history.")
        self.out_dim = width
        self.stack = AttentionStack(
            width, layers, heads, expand, positions, dropout, True, checkpoint, attention_dropout, inner_dropout
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        history, mask = sequence_of(self, encoded)
        packed = Packed(mask)
        x = self.norm(self.stack(packed.tokens(history), packed, encoded.last))
        z = x[:, None] if encoded.last else packed.sequences(x)
        return dict.fromkeys(tasks, z)

    def meeting(self) -> nn.Module:
        return self.norm
