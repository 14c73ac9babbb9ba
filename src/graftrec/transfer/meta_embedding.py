"""Vectors of new ids, made from what is known of them."""

from __future__ import annotations

from torch import nn

from graftrec.transfer.base import OPTIONAL, ROLES, Means, Past, Phase, Transfer, at_least_one, only
from graftrec.transfer.users import encoder_of

GENERATORS = "encoder.generators."


class MetaEmbedding(Transfer):
    """First everything trains; then only the generators of ``encoder.generated``, which make the vectors of new ids.

    F. Pan et al., Warm Up Cold-start Advertisements: Improving CTR Predictions via Learning to Learn ID Embeddings,
    SIGIR 2019, https://arxiv.org/abs/1904.11547, sections 3 and 4: in a model that is trained and stays as it is, known
    ids are shown as if they were new, with the vectors that a generator makes from their attributes, and the loss
    teaches the generator. What the model says of known ids is what it said before.

    Where we differ: only their first loss, of ids without a row (alpha = 1): what is judged here are ids of which
    training has none, so the second loss, after one step on the new vector, has nothing to speed up. Of each row any of
    the ids is shown as new with chance ``share``, so that new users, new items and both are met.

    Args:
        pretrain, generate: epochs of the phases. share: in (0, 1].
    """

    def __init__(self, pretrain: int = 2, generate: int = 1, share: float = 0.5) -> None:
        at_least_one(pretrain=pretrain, generate=generate)
        if not 0 < share <= 1:
            raise ValueError(f"share should be in (0, 1]. Found {share}.")
        self.pretrain, self.generate, self.share = pretrain, generate, share

    def phases(self) -> list[Phase]:
        everything = ("encoder.", *OPTIONAL, "trunk.", "tasks.")
        return [
            Phase("pretrain", ROLES, self.pretrain, means=(Shown(0.0),)),
            Phase("generate", ROLES, self.generate, start_from="pretrain", carry=everything,
                  means=(Shown(self.share, alone=True),)),
        ]  # fmt: skip


class Shown(Means):
    """Shows a ``share`` of ids as if they were new; ``alone``: nothing but generators learns."""

    def __init__(self, share: float, alone: bool = False) -> None:
        self.share, self.alone = share, alone

    def build(self, model: nn.Module) -> None:
        encoder = encoder_of(model)
        encoder.id_dropout, encoder.content_dropout, encoder.hides = self.share, 0.0, "id"
        if self.alone:
            only(model, GENERATORS)

    def start(self, model: nn.Module, past: Past) -> None:
        if not any(name.startswith(GENERATORS) for name, _ in model.named_parameters()):
            raise ValueError("encoder.generated should name the tables whose new ids get a vector, such as [item].")
        encoder = encoder_of(model)
        blind = [name for name in encoder.generated if not encoder.shows_new(name)]
        if self.alone and blind:
            raise ValueError(
                "encoder.generated should name tables whose ids are columns or candidates of these streams, so that "
                f"some can be shown as new. Found {', '.join(blind)}, which is in none of them but in histories"
            )
