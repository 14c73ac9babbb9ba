"""A world of a few users and items, in which every trunk, interaction, head and task learns a step."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from discovery import classes
from graftrec.config.instantiate import arguments
from graftrec.data.batch import Batch
from graftrec.data.schema import Edges, Feature, Label, Schema, Stream, Table
from graftrec.models.encoder import Encoder
from graftrec.models.heads.base import Head
from graftrec.models.heads.dot import Dot
from graftrec.models.heads.linear import Linear
from graftrec.models.interactions.base import Interaction
from graftrec.models.trunks.base import Trunk
from graftrec.models.trunks.gru4rec import GRU4Rec
from graftrec.models.trunks.shared_bottom import SharedBottom
from graftrec.tasks.base import Task, prior_of
from graftrec.tasks.entire_space import EntireSpace
from graftrec.tasks.losses.base import Loss
from graftrec.tasks.losses.bce import Bce
from graftrec.tasks.losses.cross_entropy import CrossEntropy
from graftrec.tasks.losses.info_nce import InfoNce
from graftrec.tasks.losses.ordinal import Ordinal as OrdinalLoss
from graftrec.tasks.losses.quantile import Quantile
from graftrec.tasks.losses.squared import Squared
from graftrec.tasks.losses.weighted_logistic import WeightedLogistic
from graftrec.tasks.multi_label import MultiLabel
from graftrec.tasks.ordinal import Ordinal
from graftrec.tasks.quantiles import Quantiles
from graftrec.tasks.watch_time import WatchTime
from graftrec.training.balancers.sum import Sum
from graftrec.training.lightning_module import GraftModule

USERS, ITEMS, BRANDS, KINDS, NEGATIVES = 6, 9, 4, 5, 3  # the first of each table is the unknown one
WIDTH, LENGTH, ROWS = 8, 5, 7
BEHAVIOURS = 8  # a bit for each of three
DOMAINS = ("a", "b")
BRAND = torch.arange(ITEMS) % BRANDS
VECTORS = torch.randn(ITEMS, WIDTH, generator=torch.Generator().manual_seed(5))
TABLES = {
    "user": Table("user", USERS),
    "item": Table("item", ITEMS, content={"brand": BRAND}, vectors={"picture": VECTORS}),
    "brand": Table("brand", BRANDS),
}
BINARY = ("click", "like", "bought")
ROW_LABELS = (*(Label(name, "binary") for name in BINARY), Label("kind", "category", KINDS), Label("watched", "number"))
WHO, WHAT = Feature("user", "id", "user"), Feature("item", "id", "item")
RECENT = Feature("recent", "history", "item", behaviours=BEHAVIOURS)
EVENTS = Feature("events", "sequence", "item", behaviours=BEHAVIOURS)
NUMBERS = (Feature("days", "number"), Feature("price", "number"))
BOUGHT, NEXT = Label("bought", "binary"), Label("next", "category", ITEMS - 1)
SHAPES: dict[str, Callable[[str], Stream]] = {
    "rows": lambda name: Stream(name, (WHO, WHAT, RECENT, *NUMBERS), ROW_LABELS),
    "baskets": lambda name: Stream(name, (WHO, RECENT, *NUMBERS), (BOUGHT,), "item", ("count",)),
    "sequences": lambda name: Stream(name, (WHO, EVENTS), (NEXT,), "item"),
}
ROLES = ("source", "target", "shared")


def streams(shape: str, domains: Sequence[str] = DOMAINS) -> dict[str, Stream]:
    return {f"{domain}/{shape}": SHAPES[shape](f"{domain}/{shape}") for domain in domains}


def edges(names: Sequence[str]) -> dict[str, Edges]:
    """Who chose what in each stream: not the same in both, and nobody chose all."""
    found = {}
    for at, name in enumerate(names):
        pairs = torch.tensor([(u, i) for u in range(1, USERS) for i in range(1, ITEMS) if (u * i + at) % 3 == 0])
        found[name] = Edges(pairs[:, 0], pairs[:, 1], USERS, ITEMS, "user")
    return found


def shape_of(trunk: type[Trunk]) -> str:
    """The kind of stream that a trunk reads."""
    return "sequences" if trunk.sequential else "baskets" if "edges" in arguments(trunk) else "rows"


def batch(shape: str, rows: int, seed: int, cloze: bool = False) -> Batch:
    """Rows of one stream, of which the first has an empty history and others some events."""
    random = torch.Generator().manual_seed(seed)

    def ids(size: int, *further: int) -> Tensor:
        return torch.randint(1, size, (rows, *further), generator=random)

    there = torch.arange(LENGTH) >= LENGTH - torch.randint(1, LENGTH + 1, (rows, 1), generator=random)
    there[:1] = shape == "sequences" and torch.arange(LENGTH) > 1
    events = ids(ITEMS, LENGTH) * there
    kinds = (1 << torch.randint(3, (rows, LENGTH), generator=random)) * there
    found = {"user": ids(USERS), "days": torch.randn(rows, generator=random)}
    found["price"] = torch.randn(rows, generator=random)
    if shape == "sequences":
        hidden = {"events_masked": there & (torch.arange(LENGTH) >= LENGTH - 2)} if cloze else {}
        kept = events.masked_fill(hidden["events_masked"], 0) if cloze else events
        follows = torch.where(there, ids(ITEMS - 1, LENGTH), -1)
        times = (torch.cumsum(torch.rand(rows, LENGTH, generator=random), 1) * 30 * 86_400_000).long()
        told = {"events": kept, "events_time": times, "next_time": times + 3 * 86_400_000, "next": follows, **hidden}
        return found | told | {"events_behaviour": kinds, "catalogue": torch.arange(1, ITEMS)}
    found |= {"recent": events, "recent_age": torch.rand(rows, LENGTH, generator=random) * 3, "recent_behaviour": kinds}
    if shape == "baskets":
        found |= {"candidate": ids(ITEMS, NEGATIVES), "cross": torch.randn(rows, NEGATIVES, 1, generator=random)}
        return found | {"bought": (torch.arange(rows * NEGATIVES).view(rows, NEGATIVES) % NEGATIVES == 0).float()}
    found |= {name: (torch.rand(rows, generator=random) < 0.6).float() for name in BINARY}
    found |= {"item": ids(ITEMS), "kind": ids(KINDS), "watched": torch.rand(rows, generator=random) * 4}
    found["trust"] = torch.rand(rows, generator=random) + 0.5
    if rows > 2:  # a label that nobody knows
        found["click"][2], found["kind"][2], found["watched"][2] = torch.nan, -1, torch.nan
    return found


def batches(shape: str, rows: int = ROWS, cloze: bool = False, domains: Sequence[str] = DOMAINS) -> dict[str, Batch]:
    """A batch of each stream, with one row more in the second."""
    return {f"{domain}/{shape}": batch(shape, rows + at, at, cloze) for at, domain in enumerate(domains)}


def ranking(shape: str, rows: int = ROWS) -> dict[str, Batch]:
    """An evaluation batch of the first stream, which asks for rankings of all items."""
    random, items = torch.Generator().manual_seed(9), ITEMS - 1
    whole = batch(shape, rows, 2)
    kept = {name: values for name, values in whole.items() if name not in ("candidate", "cross", "bought", "next")}
    kept |= {"query": torch.arange(rows), "catalogue": torch.arange(1, ITEMS)}
    if shape == "baskets":
        kept["cross"] = torch.randn(rows, items, 1, generator=random)
    for name, share in (("relevant", 0.4), ("fresh", 0.8)):
        kept[name] = torch.rand(rows, items, generator=random) < share
    return {f"{DOMAINS[0]}/{shape}": kept}


def parts(whole: Mapping[str, Batch], mine: slice) -> dict[str, Batch]:
    """What one of several processes has of these."""
    return {
        name: {column: values if column == "catalogue" else values[mine] for column, values in each.items()}
        for name, each in whole.items()
    }


# --- tasks

LOSSES: dict[type[Task], Loss] = {Ordinal: OrdinalLoss(), Quantiles: Quantile((0.2, 0.5, 0.8)),
                                  WatchTime: WeightedLogistic(True)}  # fmt: skip
COLUMNS = {"binary": "bought", "category": "kind", "number": "watched"}


def task_shape(cls: type[Task]) -> str:
    return "sequences" if cls.over_catalogue else "baskets" if cls.ranks else "rows"


def task(cls: type[Task], in_dim: int, stream: str, **options: Any) -> Task:
    """A task of this class with what fits it; ``options`` are arguments beside those that a program completes."""
    made: type[Any] = cls
    if cls.compares:
        fields = len(SHAPES["rows"]("").features) - 2  # numbers are one field, the history is none
        at = fields * WIDTH if options.get("reads") == "encoder" else in_dim
        sizes = {"in_dim": at, "fields": fields, "width": WIDTH}
        across = [f"{domain}/rows" for domain in DOMAINS]
        return made(across, **{k: v for k, v in sizes.items() if k in arguments(cls)}, **options)  # type: ignore[no-any-return]
    if cls.over_catalogue:
        loss: Loss = InfoNce() if options.get("negatives") else CrossEntropy()
        known: dict[str, Any] = {"column": "next", "label": NEXT, "head": Dot(in_dim, WIDTH)}
        known["prior"] = torch.linspace(0, 2, NEXT.classes).log_softmax(0)
        return made(**{"loss": loss, "stream": stream, **known, **options})  # type: ignore[no-any-return]
    if cls.ranks:
        head = Dot(in_dim, WIDTH)
        return made(**{"head": head, "loss": Bce(), "stream": stream, "column": "bought", "label": BOUGHT, **options})  # type: ignore[no-any-return]
    kind = cls.kinds[0]
    label = next(label for label in ROW_LABELS if label.name == COLUMNS[kind])
    columns: dict[str, Any] = {"column": label.name}
    if cls is MultiLabel:
        label, columns = Label("like, bought", "binary", 2), {"columns": ["like", "bought"]}
    if issubclass(cls, EntireSpace):
        columns |= {"space": "click", "given": "clicks"}
    outputs = 3 if cls is Quantiles else cls.outputs(label)
    plain: dict[str, Loss] = {"binary": Bce(), "category": CrossEntropy(), "number": Squared()}
    if options.get("reads") == "encoder":
        in_dim = (len(SHAPES["rows"]("").features) - 2) * WIDTH
    head_of: Head = Linear(in_dim, classes=outputs)
    prior = None if cls is MultiLabel else prior_of(label, batch("rows", 50, 3)[label.name])
    known = {"head": head_of, "loss": LOSSES.get(cls) or plain[kind], "stream": stream, "label": label, "prior": prior}
    return made(**{**known, **columns, **options})  # type: ignore[no-any-return]


def few_tasks(shape: str, in_dim: int) -> dict[str, Task]:
    """Tasks of both streams, as every trunk has them; the first is of the first stream."""
    names = list(streams(shape))
    by = {cls.__name__: cls for cls in classes("tasks")}
    if shape != "rows":
        cls = by["NextItem" if shape == "sequences" else "Recommendation"]
        return {f"asked_{at}": task(cls, in_dim, name) for at, name in enumerate(names)}
    one, two = names
    return {
        "bought": task(by["Binary"], in_dim, one),
        "kind": task(by["Classification"], in_dim, two),
        "watched": task(by["Regression"], in_dim, one),
    }


# --- models


def module(
    trunk: type[Trunk],
    tasks: Callable[[int], dict[str, Task]] | None = None,
    interaction: type[Interaction] | None = None,
    encoder: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
    shape: str = "",
    domains: Sequence[str] = DOMAINS,
    **options: Any,
) -> GraftModule:
    """A model of this trunk, in training, without dropout unless ``options`` of the trunk or the encoder have it.

    Args:
        tasks: width of z -> tasks by name (default: `few_tasks`). more: arguments of the interaction.
        shape: of the streams (default: what the trunk reads). domains: whose streams there are.
    """
    shape = shape or shape_of(trunk)
    torch.manual_seed(0)
    encoded = Encoder(Schema(TABLES, streams(shape, domains)), **{"width": WIDTH, "dropout": 0.0, **(encoder or {})})
    named = {name: encoded.field_names(stream) for name, stream in encoded.schema.streams.items()}
    fields, between = len(next(iter(named.values()))), None
    made = tasks or (lambda in_dim: few_tasks(shape, in_dim))
    names = [name for name, each in made(1).items() if each.reads != "encoder"]
    if interaction is not None:
        between = _with(interaction, more or {}, fields=fields, width=encoded.width)
        fields = between.fields
    still = {"dropout": 0.0} if "dropout" in arguments(trunk) else {}
    network = _with(
        trunk, still | options, fields=fields, width=encoded.width, history=True, tasks=names, streams=named,
        edges=edges(list(named)), behaviours=dict.fromkeys(named, 5),
    )  # fmt: skip
    found = made(network.out_dim)
    role_of = {name: ROLES[at % len(ROLES)] for at, name in enumerate(found)}
    model = GraftModule(
        encoded, network, found, role_of, Sum(), 0.5, lambda params: torch.optim.SGD(params, 0.1), lambda *_: None, {},
        between,
    )  # fmt: skip
    # neither the first step nor one that is logged
    model._trainer = SimpleNamespace(estimated_stepping_batches=4, global_step=2)  # type: ignore[assignment]
    return model.train()


def _with(cls: type[Any], options: Mapping[str, Any], **known: Any) -> Any:
    return cls(**{name: value for name, value in known.items() if name in arguments(cls)}, **options)


def plain(cls: type[Task], **options: Any) -> GraftModule:
    """A model of one task of this class on a plain trunk, with the click that some are given."""

    def made(in_dim: int) -> dict[str, Task]:
        by = {each.__name__: each for each in classes("tasks")}
        own = task(cls, in_dim, f"a/{task_shape(cls)}", **options)
        given = {"clicks": task(by["Binary"], in_dim, "a/rows", column="click")} if own.given else {}
        return given | {"own": own}

    return module(GRU4Rec if cls.over_catalogue else SharedBottom, made, shape=task_shape(cls), domains=domains_of(cls))


def domains_of(cls: type[Task]) -> tuple[str, ...]:
    """Whose streams a task reads."""
    return DOMAINS if cls.compares else DOMAINS[:1]


def scramble(model: nn.Module) -> nn.Module:
    """Weights by their names and shapes alone, so that no other weight moves when one comes or goes, and none is 0."""
    with torch.no_grad():
        for name, part in model.named_parameters():
            drawn = torch.randn(part.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
            norm = part.ndim < 2 and name.endswith("weight")  # which begins at 1
            part.copy_(1 + drawn * 0.2 if norm else drawn * 0.4)
    return model


def step(model: GraftModule, given: Mapping[str, Batch], seed: int = 0) -> Tensor:
    """The loss of one step, whose gradients lie at the parameters then."""
    torch.manual_seed(seed)
    model.zero_grad(set_to_none=True)
    total = model.training_step(dict(given), 0)
    total.backward()
    return total.detach()
