"""The contract of every trunk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded


class Trunk(nn.Module, ABC):
    """The shared network after the encoder. It runs once per stream's batch.

    Args (completed by the program, as far as a trunk takes them): ``fields`` F, ``width`` D, ``history`` whether a
    history comes with the fields, ``tasks`` the names of all tasks that read the trunk, sources first; ``streams`` the
    streams that it reads: name -> names of the fields (F) there, in their order; ``edges`` who chose what in the
    training rows of each of these; ``behaviours`` how many an event of the history of each of these can be, 0 if that
    is not told.
    """

    out_dim: int
    sequential: bool = False  # True: z is (B, L, out_dim), one for each event; (B, 1, out_dim) where the last is asked
    cloze: bool = False  # True: z says what was hidden, and `Encoded.hidden` says where; others refuse a batch with it
    by_name: bool = False  # True: it reads fields by their names; an interaction in front must keep them
    reads_events: bool = True  # False: of a history it reads the items alone, not what an event's age and kind add
    reads_fields: bool = True  # False: of the fields it reads the user's and the item's alone
    steps_inside: bool = False  # True: it takes steps on its own weights for each row
    spreads: tuple[str, ...] = ()  # streams whose users and items are what `spread` makes of all of them
    by: str = ""  # an attribute of the items of the history, whose ids it reads: `Encoded.attributes`

    @abstractmethod
    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        """Representation z (B, out_dim) for each of ``tasks``, or (B, L, out_dim) if the trunk is `sequential`.

        Losses of the trunk's own about these rows go to `Encoded.aside`, if it is there; they are added to the tasks'
        balanced one, as `penalty` is.
        """

    def spread(self, known: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
        """Users (U, D) and items (E, D) of each stream, made of the vectors of all of them; for those in `spreads`.

        It runs once a step. The user's field of a row and the candidates are then taken from what it gives.
        """
        return dict(known)

    def penalty(self) -> Tensor | None:
        """A loss of the trunk's weights alone, weighted: it is added once a step, however many streams are read."""
        return None

    @abstractmethod
    def meeting(self) -> nn.Module:
        """The last module that every task's z comes through, run once a batch.

        Gradients of tasks are compared at its parameters or at its output, a tensor whose axes are the trunk's choice.
        """


def sequence_of(trunk: Trunk, encoded: Encoded) -> tuple[Tensor, Tensor]:
    """The events (B, L, D) and the mask (B, L) of what a `sequential` trunk reads.

    Raises:
        ValueError: no sequence, or one with hidden events for a trunk that would read them, or the reverse.
    """
    name = type(trunk).__name__
    if encoded.history is None or encoded.mask is None:
        raise ValueError(f"The {name} trunk got a batch without a sequence.")
    if trunk.cloze and encoded.hidden is None:
        raise ValueError(
            f"The {name} trunk guesses hidden events, and stream '{encoded.stream}' hides none: let its tasks read "
            "sequences, and set history.mask=0.2 (cloze training) with this trunk."
        )
    if not trunk.cloze and encoded.hidden is not None:
        raise ValueError(
            f"The {name} trunk guesses what follows, and stream '{encoded.stream}' hides events, which it would read: "
            "set history.mask=0 or trunk=bert4rec."
        )
    return encoded.history, encoded.mask


def place_of(stream: str, streams: Sequence[str]) -> int:
    """Where a stream stands among those that a trunk was built for; ValueError for another."""
    if stream not in streams:
        raise ValueError(f"stream should be one of {list(streams)}. Found '{stream}'.")
    return streams.index(stream)


def flat(encoded: Encoded) -> Tensor:
    """All fields side by side, the history as its masked mean: (B, F * D) or (B, (F + 1) * D)."""
    fields = encoded.fields.flatten(1)
    if encoded.history is None or encoded.mask is None:
        return fields
    return torch.cat([fields, masked_mean(encoded.history, encoded.mask)], 1)


def masked_mean(history: Tensor, mask: Tensor) -> Tensor:
    """Mean over the events (B, L, D) that ``mask`` (B, L) keeps; zeros where there is none."""
    keep = mask.to(history.dtype)[..., None]
    return (history * keep).sum(1) / keep.sum(1).clamp_min(1)
