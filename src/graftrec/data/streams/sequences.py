"""Sequences: what follows each event of a user, all positions at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.features.history import Histories, by_key, milliseconds
from graftrec.data.features.past_counts import moments_of
from graftrec.data.schema import Edges, Feature, Label, Stream
from graftrec.data.streams.base import EVERY, WHOLE, Part, Stage, StreamData
from graftrec.data.streams.catalogue import Catalogue, beside_others
from graftrec.data.streams.events import Lines
from graftrec.data.streams.sampling_config import History
from graftrec.utils.errors import UserError

POSITIONS = 102_400  # that are evaluated at once
LAST = 0.1  # share of cloze rows of which only the last event is hidden, as in every evaluation
EVENT = ("user", "item", "time")
TOLD = {"user", "sequence", "sequence_time", "sequence_behaviour", "sequence_masked", "next", "next_time", "candidate"}


class SequenceRows(StreamData):
    """One row per window of a user's training events in the order of time; each position is asked what follows.

    The windows of events e_0 ... e_n end at n, n - L, n - 2L, ..., so that every event but the first is a target
    once; a row reads all events of its window but the last. A batch is as wide as its longest row, newest last:

    - ``sequence`` (B, l) items, 0 is padding; ``sequence_time`` (B, l) int64 milliseconds since the first event of all
      data;
      ``sequence_behaviour`` (B, l), if there are several.
    - ``next`` (B, l): the event that follows, as a place in ``catalogue``, -1 at padding; ``next_time`` (B, l) its
      time. Labels of rows (B, l) are those of the event that follows, NaN where missing, and ``candidate`` (B, l) is
      its item, which they ask about. ``catalogue`` are the items of training.
    - ``next_<behaviour>`` (B, l), for each of several: ``next`` where it was chosen in that way, else -1.

    With ``history.mask`` a row is a window of at most L events, and each event is in one. ``sequence_masked`` (B, l)
    says which are hidden: each with that chance, at least one of a row, and of one row in ten only the last (Sun et
    al., BERT4Rec, CIKM 2019, https://arxiv.org/abs/1904.06690). ``next``, labels and ``candidate`` are the event's own
    where it is hidden, and else missing; its item stays in ``sequence`` for the network to hide.

    Evaluation reads the last L events as of the stage, as `BasketRows` does, and asks at the last position, whose
    ``next_time`` is the moment asked about: first every line of the stage for its labels, then a ranking for every
    user, which says ``next_<behaviour>_relevant`` (B, N) as well. With ``history.mask`` it reads L - 1 events and one
    more position, which is hidden.

    With lines ``beside`` the own ones, sequences hold those as well, which are read and never asked about: training
    reads training lines alone, and an evaluation what came before its moment and is no line of a test.

    Args:
        name: of the stream. lines: all of them. history: its ``short`` is L. seed: the split's.
        tables: of users and items. labels: of the lines' ``answers``. behaviours: names of the bits of theirs.
        beside: lines of other domains with the same users and items, whose times count from the same moment.

    Raises:
        UserError: a label with the name of another column.
    """

    lengths: Tensor

    def __init__(
        self,
        name: str,
        lines: Lines,
        history: History,
        seed: int,
        tables: tuple[str, str] = ("user", "item"),
        labels: Sequence[Label] = (),
        behaviours: Sequence[str] = (),
        beside: Sequence[Lines] = (),
    ) -> None:
        self._made_of = (name, lines, history, seed, tables, labels, behaviours)
        self._ways = {f"next_{name}": bit for bit, name in enumerate(behaviours if lines.behaviour is not None else ())}
        taken = [label.name for label in labels if label.name in TOLD | set(self._ways)]
        if taken:
            raise UserError(f"label '{taken[0]}': sequences have a column of that name; give the label another")
        self.lines, self.length, self.mask = lines, history.short, history.mask
        self.tables, self._beside = tables, beside
        self.catalogue = Catalogue(lines)
        self._labels = {label.name: lines.answers[label.name] for label in labels}
        visible = torch.ones(len(lines.user), dtype=torch.bool) if lines.forward else lines.known("val")
        behaviour = None if lines.behaviour is None else lines.behaviour[visible]
        told = [(lines, visible), *((other, other.known("test" if lines.forward else "val")) for other in beside)]
        user, item, time = (torch.cat([getattr(part, of)[kept] for part, kept in told]) for of in EVENT)
        self.history = Histories(user, item, time, behaviour, history.gap, kinds=lines.kinds)
        held_out = {stage: torch.nonzero(lines.part == part).squeeze(1) for part, stage in ((1, "val"), (2, "test"))}
        self._held_out = held_out
        asked = torch.cat(list(held_out.values()))
        self._cold = bool((lines.cold_user[lines.user[asked]] | lines.cold_item[lines.item[asked]]).any())
        self._windows()
        self.splits = {"train": self.rows, **{stage: len(kept) for stage, kept in held_out.items()}}
        features = (
            Feature("user", "id", tables[0]),
            Feature("sequence", "sequence", tables[1], behaviours=lines.kinds),
        )
        follows = [Label(column, "category", len(self._trained)) for column in self._follows]
        self.schema = Stream(name, features, (*follows, *labels), tables[1])
        self.sample = self.draw_sample(seed, max(1, min(4096, 10 * POSITIONS // self.length))) if self.rows else {}

    def _windows(self) -> None:
        """Training events in the order of their histories, and where each row begins and ends in it."""
        lines, step = self.lines, self.length
        train = torch.nonzero(lines.part == 0).squeeze(1)
        told = [(lines, train), *((other, torch.nonzero(other.part == 0).squeeze(1)) for other in self._beside)]
        user, item, time = (torch.cat([getattr(part, of)[kept] for part, kept in told]) for of in EVENT)
        line = torch.cat([train, torch.full((len(user) - len(train),), -1)])  # -1: of another domain
        moments, moment = moments_of(time)
        what = item if lines.behaviour is None else item * lines.kinds + lines.behaviour[train]
        order = by_key(user * (len(moments) + 1) + moment, what)
        who, item, time, line = user[order], item[order], time[order], line[order]
        own = line >= 0
        count = torch.bincount(who, minlength=len(lines.cold_user))
        first = count.cumsum(0) - count
        targets = count if self.mask else (count - 1).clamp_min(0)
        windows = torch.where(count > 1, (targets + step - 1) // step, 0)
        user = torch.repeat_interleave(torch.arange(len(count)), windows)
        place = torch.arange(len(user)) - (windows.cumsum(0) - windows)[user]
        end = (first + targets)[user] - place * step  # one past the last event that is read
        length = torch.minimum(end - first[user], torch.tensor(step))
        before = torch.cat([own.new_zeros(1, dtype=torch.int64), own.cumsum(0)])  # own events before each
        asks = before[end + (not self.mask)] > before[end - length + (not self.mask)]  # about any of the own ones
        self._end, self.lengths, self._user = end[asks], length[asks], user[asks]
        self.rows = len(self._user)
        # what a batch gathers, in the order of the events; one more stands for padding
        self._item = _padded(item, 0)
        self._trained = torch.unique(item[own])  # what else there is to rank, training does not know
        self._place = _padded(torch.searchsorted(self._trained, item).masked_fill(~own, -1), -1)
        self._times = _padded(milliseconds(time - lines.origin), 0)
        self._behaviour = None if lines.behaviour is None else _padded(lines.behaviour[line], 0)
        self._follows = {"next": self._place}
        if self._behaviour is not None:
            for column, bit in self._ways.items():
                self._follows[column] = torch.where((self._behaviour >> bit) % 2 == 1, self._place, -1)
        self._answers = {
            name: _padded(values[line].masked_fill(~own, torch.nan), torch.nan) for name, values in self._labels.items()
        }
        self._asked = own.clone()
        self._asked[first[count > 0]] &= bool(self.mask)  # nothing comes before it
        self._asked &= (count > 1)[who]

    def joined(self, others: Sequence[SequenceRows]) -> SequenceRows:
        """The same stream, whose sequences hold the events of the streams ``others`` as well.

        Raises:
            UserError: events of several behaviours.
        """
        if any(each.lines.behaviour is not None for each in (self, *others)):
            raise UserError("history.across: sequences of several domains have one behaviour; these have more")
        return SequenceRows(*self._made_of, beside=[other.lines for other in others])

    def edges(self) -> Edges:
        return self.lines.edges(self.tables[0])

    def labels(self, column: str) -> Tensor:
        values = self._follows[column] if column in self._follows else self._answers[column]
        return values[:-1][self._asked]

    def batch(self, index: Tensor, random: torch.Generator, mine: slice = EVERY) -> Batch:
        width = int(self.lengths[index].max()) if len(index) else 1
        drawn = self._draw((len(index), width), random, mine) if self.mask else None
        index = index[mine]
        end, length = self._end[index], self.lengths[index]
        at = end[:, None] + torch.arange(-width, 0)
        there = torch.arange(width) >= width - length[:, None]
        read = torch.where(there, at, -1)
        found = {"user": self._user[index], "sequence": self._item[read], "sequence_time": self._times[read]}
        shown = read
        if drawn is not None:
            hidden = found["sequence_masked"] = self._hidden(there, *drawn)
            shown, target = torch.where(hidden, -1, read), torch.where(hidden, read, -1)
        else:
            target = torch.where(there, at + 1, -1)
        if self._behaviour is not None:  # what is hidden does not say how it was chosen
            found["sequence_behaviour"] = self._behaviour[shown]
        found |= {name: places[target] for name, places in self._follows.items()}
        found["next_time"] = found["sequence_time"] if self.mask else self._times[target]
        if self._answers:
            found |= {name: values[target] for name, values in self._answers.items()}
            found["candidate"] = self._item[target]
        return found | {"catalogue": self._trained}

    @staticmethod
    def _draw(shape: tuple[int, int], random: torch.Generator, mine: slice) -> tuple[Tensor, Tensor]:
        """A number in [0, 1) for each event (B, l) and for each row (B, 1), of which ``mine``."""
        events = torch.rand(shape, generator=random)
        return events[mine], torch.rand(shape[0], 1, generator=random)[mine]

    def _hidden(self, there: Tensor, events: Tensor, rows: Tensor) -> Tensor:
        """Which events (B, l) of those that are ``there`` are to be guessed, by what `_draw` drew."""
        drawn, last = events.masked_fill(~there, 2.0), rows < LAST
        drawn = torch.where(last, 2.0, drawn)
        drawn[:, -1:] = torch.where(last, 0.0, drawn[:, -1:])
        return (drawn < self.mask) | (drawn == drawn.min(1, keepdim=True).values)

    def evaluation(self, stage: Stage, part: Part = WHOLE) -> Iterator[Batch]:
        """First every line of the stage for its labels, then every user of it for the ranking."""
        lines, times = self.lines, self.lines.times(stage)
        for asked in torch.split(self._held_out[stage], max(1, POSITIONS // self.length)) if self._labels else ():
            if not len(asked):
                break
            at = asked[part.of(len(asked))]
            user, item = lines.user[at], lines.item[at]
            found = {**self._read(user, times[user], lines.time[at]), "candidate": item[:, None]}
            found |= {name: values[at, None] for name, values in self._labels.items()}
            if self._cold:
                found |= {"cold_user": lines.cold_user[user], "cold_item": lines.cold_item[item]}
            yield found
        for users in torch.split(self.users(stage), self.ranked_at_once):
            if len(users):
                yield self.ranking(users[part.of(len(users))], stage)

    def _read(self, user: Tensor, time: Tensor, moment: Tensor) -> Batch:
        """The last events of users (B,) strictly before ``time`` (B,), asked about a ``moment`` (B,)."""
        length, now = self.length - bool(self.mask), milliseconds(moment[:, None] - self.lines.origin)
        items, times, kinds = self.history.last(user, time, length, self.lines.origin)
        if self.mask:  # what is guessed is one more event
            items, kinds = (torch.nn.functional.pad(values, (0, 1)) for values in (items, kinds))
            times = torch.cat([times, now], 1)
        found = {"user": user, "sequence": items, "sequence_time": times}
        if self._behaviour is not None:
            found["sequence_behaviour"] = kinds
        if self.mask:
            found["sequence_masked"] = (torch.arange(self.length) == self.length - 1).repeat(len(user), 1)
        return found | {"next_time": times if self.mask else torch.cat([times[:, 1:], now], 1)}

    @property
    def asked_at_once(self) -> int:
        """Users whose state is looked up at once."""
        return max(1, POSITIONS // self.length)

    @property
    def ranked_at_once(self) -> int:
        """Users who are ranked for at once."""
        return min(self.catalogue.at_once(), self.asked_at_once)

    def ranking(self, users: Tensor, stage: Stage) -> Batch:
        """Everything that a ranking of the catalogue needs, for users (B,), with the state of the stage's beginning."""
        return {**self.state(users, stage), **self.answers(users, stage)}

    def answers(self, users: Tensor, stage: Stage) -> Batch:
        """What a ranking is judged by, for users (B,); see `Catalogue`."""
        found = self.catalogue.answers(users, stage)
        chosen = {name: self.catalogue.chosen(users, stage, bit) for name, bit in self._ways.items()}
        return found | {f"{name}_relevant": beside_others(own, found.get("listed")) for name, own in chosen.items()}

    def state(self, users: Tensor, at: str) -> Batch:
        """What is known of users (B,), 0 for a stranger, as of a stage or the ``latest`` row: all a ranking reads."""
        time = self.lines.times(at)[users]
        return {**self._read(users, time, time), "query": users, "catalogue": self.lines.items}

    def fresh(self, users: Tensor, at: str) -> Tensor:
        """Items (B, N) of the catalogue that users (B,) never chose before a stage, or at all if it is ``latest``."""
        return self.catalogue.fresh(users, at)

    def users(self, stage: Stage) -> Tensor:
        """Users (U,) who chose something in the stage, sorted."""
        return self.catalogue.users(stage)

    @property
    def places(self) -> Tensor:
        """Each line's place in the catalogue: (n,) int64 in [0, N)."""
        return self.catalogue.place[self.lines.item]


def _padded(values: Tensor, padding: float) -> Tensor:
    """Values (n,) and one more, which the place -1 finds."""
    return torch.cat([values, torch.full((1,), padding, dtype=values.dtype)])
