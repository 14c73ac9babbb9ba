"""The module: the objective by hand, phases, freezing, names on the dashboard, checkpoints without code."""

from __future__ import annotations

import copy
import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from graftrec.data.batch import Aside, Batch, Encoded
from graftrec.data.schema import Feature, Label, Schema, Stream, Table
from graftrec.models.encoder import Encoder
from graftrec.models.heads.dot import Dot
from graftrec.models.heads.linear import Linear
from graftrec.models.heads.mlp import Mlp
from graftrec.models.trunks.base import Trunk
from graftrec.models.trunks.shared_bottom import SharedBottom
from graftrec.tasks.base import Task
from graftrec.tasks.classification import Classification
from graftrec.tasks.losses.cross_entropy import CrossEntropy
from graftrec.tasks.losses.squared import Squared
from graftrec.tasks.recommendation import Recommendation
from graftrec.tasks.regression import Regression
from graftrec.training.balancers.base import Balancer
from graftrec.training.balancers.famo import Famo
from graftrec.training.balancers.sum import Sum
from graftrec.training.balancers.uncertainty import Uncertainty
from graftrec.training.callbacks.checkpointing import Keeper
from graftrec.training.checkpoints.checkpoint import configuration, weights
from graftrec.training.fit import quiet
from graftrec.training.lightning_module import GraftModule, kept_buffers
from graftrec.training.loggers.logs import CsvLog
from graftrec.training.phase_setup import freeze
from graftrec.transfer.base import ROLES, Means, Phase
from graftrec.utils.errors import DataError, UserError

USERS, ITEMS, KINDS, WIDTH = 6, 8, 3, 4
BOUGHT, KIND, SIMILAR = Label("bought", "binary"), Label("kind", "category", KINDS), Label("similarity", "number")
SCHEMA = Schema(
    {"user": Table("user", USERS + 1), "item": Table("item", ITEMS + 1)},
    {
        "baskets": Stream(
            "baskets",
            (Feature("user", "id", "user"), Feature("recent", "history", "item"), Feature("days", "number")),
            (BOUGHT, KIND),
            "item",
            ("count",),
        ),
        "pairs": Stream("pairs", (Feature("item", "id", "item", keep=True),), (SIMILAR,), "item"),
    },
)
ROLES_OF = {"interest": "source", "recommend": "target", "relevance": "shared"}
CONFIG = {"trunk": {"hidden": [5]}, "seed": 1, "twin": True, "name": "tiny", "none": None}


def module(
    balancer: Balancer | None = None, lambda_shared: float = 0.5, dropout: float = 0.0, seed: int = 0, **weight: float
) -> GraftModule:
    torch.manual_seed(seed)
    encoder = Encoder(SCHEMA, WIDTH, dropout=dropout)
    trunk = SharedBottom(2, WIDTH, True, [5], dropout=dropout)
    recommend = Recommendation(
        Mlp(5, WIDTH, 1, hidden=[6], dropout=dropout), Squared(), "baskets", "bought", BOUGHT, k=2
    )
    interest = Classification(Linear(5, classes=KINDS), CrossEntropy(), "baskets", "kind", KIND, weight=0.25)
    relevance = Regression(Dot(WIDTH, WIDTH), Squared(), "pairs", "similarity", SIMILAR, reads="encoder", weight=2.0)
    tasks: dict[str, Task] = {"interest": interest, "recommend": recommend, "relevance": relevance}

    def optimize(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.5)

    return GraftModule(
        encoder, trunk, tasks, ROLES_OF, balancer or Sum(), lambda_shared, optimize, lambda *_: None,
        copy.deepcopy(CONFIG),
    )  # fmt: skip


def features(rows: int, random: torch.Generator) -> Batch:
    return {
        "user": torch.randint(USERS + 1, (rows,), generator=random),
        "recent": torch.randint(ITEMS + 1, (rows, 3), generator=random),
        "recent_age": torch.rand(rows, 3, generator=random),
        "days": torch.randn(rows, generator=random),
    }


def training(seed: int = 0, rows: int = 5) -> dict[str, Batch]:
    random = torch.Generator().manual_seed(seed)
    bought = (torch.rand(rows, 4, generator=random) < 0.5).float()
    bought[0, 0] = torch.nan
    kind = torch.randint(KINDS, (rows,), generator=random)
    kind[-1] = -1
    candidates = {
        "candidate": torch.randint(1, ITEMS + 1, (rows, 4), generator=random),
        "cross": torch.randn(rows, 4, 1, generator=random),
    }
    return {
        "baskets": {**features(rows, random), **candidates, "bought": bought, "kind": kind},
        "pairs": {
            "item": torch.randint(1, ITEMS + 1, (3,), generator=random),
            "candidate": torch.randint(1, ITEMS + 1, (3, 1), generator=random),
            "similarity": torch.rand(3, 1, generator=random),
        },
    }


def evaluation() -> list[dict[str, Batch]]:
    """A batch of baskets, a ranking and pairs, one stream at a time, as the evaluation loader gives them."""
    random = torch.Generator().manual_seed(9)
    rows = {**features(4, random), "kind": torch.tensor([0, 1, 2, 0])}
    ranking = {
        **features(3, random),
        "query": torch.arange(1, 4),
        "catalogue": torch.arange(1, ITEMS + 1),
        "cross": torch.randn(3, ITEMS, 1, generator=random),
        "relevant": torch.rand(3, ITEMS, generator=random) < 0.4,
        "fresh": torch.rand(3, ITEMS, generator=random) < 0.8,
    }
    return [{"baskets": rows}, {"baskets": ranking}, {"pairs": training(3)["pairs"]}]


def watched(model: GraftModule, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What the module logs, without a trainer."""
    logged: dict[str, float] = {}
    monkeypatch.setattr(model, "log_dict", lambda values: logged.update({k: float(v) for k, v in values.items()}))
    return logged


def losses(model: GraftModule, batches: dict[str, Batch]) -> dict[str, float]:
    """Each task's own loss, computed here part by part."""
    b, p = batches["baskets"], batches["pairs"]
    encoder = model.encoder
    found: dict[str, Tensor] = {}
    e = encoder(b, SCHEMA.streams["baskets"])
    z = model.trunk(e, ["interest", "recommend"])
    chosen = b["kind"] >= 0
    found["interest"] = torch.nn.functional.cross_entropy(
        model.task("interest").head(z["interest"])[chosen], b["kind"][chosen]
    )
    probability = model.task("recommend").head(z["recommend"], e.candidate, e.cross).sigmoid()
    there = ~b["bought"].isnan()
    found["recommend"] = (probability - b["bought"])[there].pow(2).mean()
    table = encoder.items("item")
    similar = model.task("relevance").head(table[p["item"]], table[p["candidate"]])
    found["relevance"] = (similar - p["similarity"]).pow(2).mean()
    return {name: value.item() for name, value in found.items()}


# --- the objective


def pull(model: GraftModule, batches: dict[str, Batch], name: str) -> torch.Tensor:
    """The gradient of one task's loss at the last shared layer."""
    logits = model("baskets", batches["baskets"], [name])[name]
    loss = model.task(name).loss(logits, batches["baskets"])
    found = torch.autograd.grad(loss, list(model.trunk.meeting().parameters()))
    return torch.cat([part.flatten() for part in found])


@pytest.mark.parametrize("lambda_shared", [0.0, 0.5, 3.0])
def test_the_objective_by_hand(lambda_shared: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """L = sum L_source + sum L_target + lambda * sum L_shared, each task's loss times its own weight."""
    model, batches = module(lambda_shared=lambda_shared), training()
    logged = watched(model, monkeypatch)
    total = model.training_step(batches, 0)
    by_hand = losses(model, batches)
    source, target, shared = 0.25 * by_hand["interest"], by_hand["recommend"], 2 * by_hand["relevance"]
    assert total.item() == pytest.approx(source + target + lambda_shared * shared, rel=1e-5)
    expected = {f"train/loss/{name}": value for name, value in by_hand.items()}
    expected |= {"train/loss/source": source, "train/loss/target": target, "train/loss/shared": shared}
    expected["train/loss/total"] = source + target + lambda_shared * shared
    expected |= {"train/weight/interest": 0.25, "train/weight/recommend": 1.0}
    expected["train/weight/relevance"] = 2 * lambda_shared
    # relevance reads the encoder, so it does not meet the others
    pulls = {name: pull(model, batches, name) * {"interest": 0.25}.get(name, 1.0) for name in ("interest", "recommend")}
    expected |= {f"train/gradient_norm/{name}": float(found.norm()) for name, found in pulls.items()}
    cosine = torch.cosine_similarity(pulls["interest"], pulls["recommend"], 0)
    expected["train/gradient_cosine/interest~recommend"] = float(cosine)
    together = float(pulls["interest"] @ pulls["recommend"])  # a step for one and what it takes off the other's loss
    expected["train/affinity/interest->recommend"] = together / float(target)
    expected["train/affinity/recommend->interest"] = together / float(source)
    assert logged == pytest.approx(expected, rel=1e-5)


def test_lambda_0_leaves_the_shared_task_untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    model = module(lambda_shared=0.0)
    watched(model, monkeypatch)
    head = list(model.task("relevance").head.parameters())
    assert head
    (without,) = torch.autograd.grad(model.training_step(training(), 1), [model.encoder.tables.block])
    other = training()
    other["pairs"]["similarity"] += 5
    total = model.training_step(other, 1)
    gradients = torch.autograd.grad(total, [model.encoder.tables.block, *head])
    assert torch.equal(gradients[0], without)
    assert not any(g.any() for g in gradients[1:])


class Aloof(Trunk):
    """A trunk with losses of its own: 3 |z|^2 of each row, and one that is about nothing."""

    def __init__(self, inner: Trunk) -> None:
        super().__init__()
        self.inner, self.out_dim = inner, inner.out_dim

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.inner(replace(encoded, aside=None), tasks)
        if encoded.aside is not None:
            z = found[tasks[0]]
            encoded.aside.append(Aside(3 * z.pow(2).sum(), torch.tensor(len(z))))
            encoded.aside.append(Aside(0 * z.sum(), torch.tensor(0)))
        return found

    def meeting(self) -> nn.Module:
        return self.inner.meeting()


@pytest.mark.parametrize("balancer", [Sum, lambda: Uncertainty(list(ROLES_OF))])
def test_a_trunks_own_loss_stands_beside_the_balanced_ones(balancer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, other = module(balancer()), module(balancer())
    other.trunk = Aloof(other.trunk)
    logged, also = watched(model, monkeypatch), watched(other, monkeypatch)
    shown: dict[str, float] = {}
    monkeypatch.setattr(other, "log", lambda name, value: shown.update({name: float(value)}))
    batches = training()
    z = other.read("baskets", batches["baskets"], ["recommend"])["recommend"].z
    own = 3 * z.detach().pow(2).sum(1).mean()
    torch.testing.assert_close(other.training_step(batches, 0), model.training_step(batches, 0) + own)
    assert shown == {"train/loss/trunk": pytest.approx(float(own))}
    assert also["train/loss/total"] == pytest.approx(logged["train/loss/total"] + float(own))
    assert {name: also[name] for name in logged if name != "train/loss/total"} == pytest.approx(
        {name: logged[name] for name in logged if name != "train/loss/total"}
    )


def test_an_evaluation_asks_for_no_loss_of_the_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    model = module()
    seen: list[Encoded] = []
    model.trunk.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    for batches in evaluation():
        model.validation_step(batches, 0)
    assert seen
    assert all(e.aside is None for e in seen)


def test_a_negative_lambda_is_refused() -> None:
    with pytest.raises(ValueError, match="lambda_shared should be at least 0"):
        module(lambda_shared=-0.1)


def test_weights_of_the_uncertainty_balancer_are_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    balancer = Uncertainty(list(ROLES_OF))
    with torch.no_grad():
        balancer.log_variance.copy_(torch.tensor([0.0, 1.0, -1.0]))
    model, batches = module(balancer, lambda_shared=0.5), training()
    logged = watched(model, monkeypatch)
    total = model.training_step(batches, 0)
    by_hand = losses(model, batches)
    weight = {"interest": 0.25, "recommend": math.exp(-1), "relevance": math.exp(1) * 0.5 * 2}
    for name, value in weight.items():
        assert logged[f"train/weight/{name}"] == pytest.approx(value, rel=1e-5)
    expected = sum(value * by_hand[name] for name, value in weight.items()) + (0 + 1 - 1) / 2
    assert total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("roles", [("source",), ("target",), ("shared",), ("source", "shared"), ROLES])
def test_only_tasks_of_the_phases_roles_learn(roles: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches = module(), training()
    model.phase = Phase("p", roles, 1)
    logged = watched(model, monkeypatch)
    model.training_step(batches, 0).backward()
    by_hand = losses(model, batches)
    learning = {name for name, role in ROLES_OF.items() if role in roles}
    expected = sum(by_hand[name] * model.weight(name) for name in learning)
    assert logged["train/loss/total"] == pytest.approx(expected, rel=1e-5)
    for name in ROLES_OF:
        moved = [p.grad is not None and bool(p.grad.any()) for p in model.task(name).head.parameters()]
        assert any(moved) == (name in learning)
        assert (f"train/loss/{name}" in logged) == (name in learning)
        assert (f"train/weight/{name}" in logged) == (name in learning)
    assert {role for role in ROLES if f"train/loss/{role}" in logged} == set(roles)


def test_losses_are_looked_at_only_every_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    model = module()
    logged = watched(model, monkeypatch)
    monkeypatch.setattr(type(model), "global_step", property(lambda self: 7))
    model.log_every = 5
    model.training_step(training(), 7)
    assert logged == {}
    model.log_every = 4  # this is the eighth step
    model.training_step(training(), 7)
    assert "train/loss/total" in logged


# --- the same batch once more


def learned_from(model: GraftModule, folder: Path, *batches: dict[str, Batch]) -> None:
    """Fit to these batches, one step for each."""
    with quiet():
        trainer = pl.Trainer(
            max_epochs=1, logger=False, accelerator="cpu", devices=1, num_sanity_val_steps=0, limit_val_batches=0,
            enable_model_summary=False, enable_progress_bar=False, enable_checkpointing=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(model, Batches(batches), Batches(evaluation()))


def test_famo_compares_a_batch_before_and_after_its_step(tmp_path: Path) -> None:
    balancer = Famo(list(ROLES_OF))
    model, batches = module(balancer), training()
    before = losses(model, batches)
    learned_from(model, tmp_path, batches)
    after = losses(model, batches)
    w = torch.zeros(3, requires_grad=True)  # as in the authors' code
    fallen = torch.tensor([math.log(before[name] / after[name]) for name in ROLES_OF])
    assert fallen.abs().min() > 1e-4
    (gradient,) = torch.autograd.grad(w.softmax(-1), w, grad_outputs=fallen)
    torch.testing.assert_close(balancer.first, 0.1 * gradient, rtol=1e-3, atol=1e-6)
    assert balancer.updates == 1


class Counting(Trunk):
    """Counts how often it has run in training, as running means do, and keeps a large constant."""

    def __init__(self, inner: Trunk) -> None:
        super().__init__()
        self.inner, self.out_dim = inner, inner.out_dim
        self.register_buffer("runs", torch.zeros(()))
        self.register_buffer("graph", torch.zeros(1000), persistent=False)
        self.runs: Tensor

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        self.runs += self.training
        found: dict[str, Tensor] = self.inner(encoded, tasks)
        return found

    def meeting(self) -> nn.Module:
        return self.inner.meeting()


def test_a_second_look_draws_the_same_and_leaves_no_trace_in_the_trunk(tmp_path: Path) -> None:
    balancer = Famo(list(ROLES_OF), decay=0.0)
    model = module(balancer, dropout=0.5)
    model.trunk = Counting(model.trunk)
    assert [part.numel() for part in kept_buffers(model.trunk)] == [1]
    model._optimize = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    learned_from(model, tmp_path, training(0), training(1))
    assert balancer.updates == 2
    assert balancer.logits.tolist() == [0, 0, 0]  # weights have not moved, so no loss has
    assert model.trunk.runs == 2


def test_other_balancers_read_a_batch_once(tmp_path: Path) -> None:
    for balancer, times in ((Sum(), 1), (Famo(list(ROLES_OF), look="next"), 1), (Famo(list(ROLES_OF)), 2)):
        model, runs = module(balancer), []
        model.trunk.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        learned_from(model, tmp_path, training())
        assert len(runs) == times


class Watcher(pl.Callback):
    """What has happened when a batch ends for what saves it."""

    def __init__(self, stepped: list[int]) -> None:
        self.stepped, self.seen = stepped, list[tuple[int, int]]()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append((len(self.stepped), int(pl_module.balancer.updates)))


class Counted(Means):
    """Counts steps."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def stepped(self) -> None:
        self.steps.append(1)


def test_nothing_of_a_step_is_left_to_do_when_its_batch_ends_and_may_be_saved(tmp_path: Path) -> None:
    model, means = module(Famo(list(ROLES_OF))), Counted()
    model.phase = Phase("joint", ROLES, 1, means=(means,))
    watcher = Watcher(means.steps)
    with quiet():
        trainer = pl.Trainer(
            max_epochs=1, logger=False, accelerator="cpu", devices=1, num_sanity_val_steps=0, limit_val_batches=0,
            enable_model_summary=False, enable_progress_bar=False, enable_checkpointing=False, callbacks=[watcher],
            default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(model, Batches([training(0), training(1)]), Batches(evaluation()))
    assert watcher.seen == [(1, 1), (2, 2)]


# --- the trunk's own, once a step


class Sparse(Trunk):
    """Reads any stream, and has a penalty on its weights."""

    out_dim = 5

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength, self.last = strength, nn.Linear(WIDTH, 5)

    def forward(self, encoded: Encoded, tasks: Sequence[str]) -> dict[str, Tensor]:
        return dict.fromkeys(tasks, self.last(encoded.fields.mean(1)))

    def penalty(self) -> Tensor | None:
        return self.strength * self.last.weight.abs().sum() if self.strength else None

    def meeting(self) -> nn.Module:
        return self.last


def test_a_penalty_on_weights_counts_once_a_step_however_many_streams_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    model, runs = module(), []
    watched(model, monkeypatch)
    monkeypatch.setattr(model, "log", lambda *_: None)
    model.task("relevance").reads, model.task("relevance").head = "trunk", Dot(5, WIDTH)
    model.trunk = trunk = Sparse(0.0)
    trunk.register_forward_hook(lambda *_: runs.append(1))
    bare = model.training_step(training(), 0)
    assert len(runs) == 2
    trunk.strength = 3.0
    total = model.training_step(training(), 0)
    torch.testing.assert_close(total - bare, 3 * trunk.last.weight.abs().sum())
    model.phase = Phase("aside", ("shared",), 1)
    model.task("relevance").reads, model.task("relevance").head = "encoder", Dot(WIDTH, WIDTH)
    alone = model.training_step(training(), 0)  # nobody reads the trunk
    trunk.strength = 0.0
    torch.testing.assert_close(alone, model.training_step(training(), 0))


# --- forward


def test_ranking_a_catalogue_scores_it_as_candidates() -> None:
    model = module().eval()
    ranking = evaluation()[1]["baskets"]
    as_candidates = {k: v for k, v in ranking.items() if k != "catalogue"}
    as_candidates["candidate"] = ranking["catalogue"].expand(3, -1)
    ranked = model("baskets", ranking, ["recommend"])["recommend"]
    assert ranked.shape == (3, ITEMS)
    torch.testing.assert_close(ranked, model("baskets", as_candidates, ["recommend"])["recommend"])


def test_evaluation_gives_each_batch_to_the_tasks_that_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = module().eval()
    seen = []
    for name in ROLES_OF:
        monkeypatch.setattr(model.task(name), "update", lambda *_, name=name: seen.append(name))
    for number, batch in enumerate(evaluation()):
        model.validation_step(batch, number)
    assert seen == ["interest", "recommend", "relevance"]


def test_users_and_items_are_spread_once_a_step_and_once_an_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = module()
    at: list[int] = []
    monkeypatch.setattr("graftrec.models.propagation.spread", lambda *_: at.append(model.global_step) or {})
    assert len(evaluation()) == 3
    fit(model, tmp_path, steps=3)
    assert at == [0, 1, 2, 3, 3]  # three steps, the validation after them and the test
    for _ in range(2):
        model.validation_step(evaluation()[0], 0)  # in no evaluation: weights may have moved
    assert len(at) == 7


# --- score


def scored(model: GraftModule) -> float:
    with torch.no_grad():
        for number, batch in enumerate(evaluation()):
            model.validation_step(batch, number)
    model.results = {name: model.task(name).compute() for name in model.tasks}
    return model.score()


def test_the_score_is_the_mean_of_the_targets_main_metrics_higher_is_better() -> None:
    model = module().eval()
    assert scored(model) == model.results["recommend"]["ndcg@2"].value
    model.roles = {"interest": "source", "recommend": "target", "relevance": "target"}
    rmse = model.results["relevance"]["rmse"].value
    assert rmse is not None
    assert model.score() == pytest.approx(((model.results["recommend"]["ndcg@2"].value or 0) - rmse) / 2)
    model.results["recommend"] = {}
    assert math.isnan(model.score())


def test_a_phase_without_a_target_can_be_validated() -> None:
    model = module().eval()
    model.roles = {"interest": "source", "recommend": "source", "relevance": "shared"}
    assert math.isnan(scored(model))


# --- with a trainer


class Batches:
    """Batches in a fixed order."""

    def __init__(self, batches: Sequence[dict[str, Batch]]) -> None:
        self.batches = list(batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Batch]]:
        return iter(self.batches)


def fit(model: GraftModule, folder: Path, steps: int = 3) -> Path:
    """Fit, validate and test; the folder with metrics.csv and the checkpoints."""
    log = CsvLog(folder)
    model.log_every = 1
    with quiet():
        trainer = pl.Trainer(
            max_epochs=1, logger=[log], callbacks=[Keeper(folder, monitored=True)], log_every_n_steps=1,
            accelerator="cpu", devices=1, num_sanity_val_steps=0, enable_model_summary=False,
            enable_progress_bar=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(model, Batches([training(seed) for seed in range(steps)]), Batches(evaluation()))
        trainer.test(model, Batches(evaluation()), verbose=False)
    log.close(0)
    return folder


def test_names_on_the_dashboard(tmp_path: Path) -> None:
    with (fit(module(), tmp_path) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = set(rows[0])
    wanted = {f"train/loss/{part}" for part in (*ROLES, "total", *ROLES_OF)} | {f"train/weight/{t}" for t in ROLES_OF}
    for stage in ("val", "test"):
        wanted |= {f"{stage}/relevance/{metric}" for metric in ("rmse", "mae", "spearman")}
        wanted |= {f"{stage}/interest/{metric}" for metric in ("accuracy", "recall_macro", "f1_macro")}
        wanted |= {
            f"{stage}/recommend/{m}@2{c}" for m in ("ndcg", "hr", "recall", "mrr", "map") for c in ("", "/first_time")
        }
        wanted |= {f"{stage}/recommend/gauc"}
    assert wanted <= names
    assert not [name for name in names if "dataloader_idx" in name]
    steps = [row for row in rows if row["train/loss/total"]]
    assert [row["step"] for row in steps] == ["0", "1", "2"]
    assert len({row["train/loss/total"] for row in steps}) == 3


@pytest.mark.parametrize("frozen", ["encoder.", "trunk.", "tasks.recommend.head."])
def test_frozen_parameters_stay_and_others_move(frozen: str, tmp_path: Path) -> None:
    model = module()
    freeze(model, [frozen])
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    fit(model, tmp_path)
    for name, value in model.named_parameters():
        if name.startswith(frozen):
            assert torch.equal(value, before[name]), name
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert {"encoder.", "trunk.", "tasks.recommend.head.", "tasks.interest.head."} - {frozen} <= {
        prefix for prefix in ("encoder.", "trunk.", "tasks.recommend.head.", "tasks.interest.head.")
        if any(name.startswith(prefix) for name in moved)
    }  # fmt: skip


def test_freezing_what_is_not_there_is_an_error() -> None:
    with pytest.raises(UserError, match=r"frozen: no parameter's name starts with 'trnk\.'"):
        freeze(module(), ["trunk.", "trnk."])


# --- checkpoints


def plain(value: Any) -> bool:
    if isinstance(value, dict):
        return type(value) is dict and all(type(key) is str and plain(part) for key, part in value.items())
    if isinstance(value, list):
        return type(value) is list and all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool)


def test_hyperparameters_are_a_plain_dict() -> None:
    model = module()
    assert dict(model.hparams) == {"config": CONFIG}
    assert plain(model.hparams["config"])


def test_a_checkpoint_loads_without_code_and_predicts_the_same(tmp_path: Path) -> None:
    model = module(Uncertainty(list(ROLES_OF)))
    fit(model, tmp_path)
    raw = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert raw["hyper_parameters"]["config"] == CONFIG
    assert configuration(tmp_path / "best.ckpt") == CONFIG
    other = module(Uncertainty(list(ROLES_OF)), seed=5).eval()
    model.eval()
    ranking = evaluation()[1]["baskets"]
    before = other("baskets", ranking, ["recommend"])["recommend"]
    assert not torch.equal(before, model("baskets", ranking, ["recommend"])["recommend"])
    other.load_state_dict(weights(tmp_path / "last.ckpt"), strict=True)
    for stream, names, batch in (
        ("baskets", ["recommend"], ranking),
        ("baskets", ["interest"], evaluation()[0]["baskets"]),
        ("pairs", ["relevance"], training()["pairs"]),
    ):
        with torch.no_grad():
            assert torch.equal(other(stream, batch, names)[names[0]], model(stream, batch, names)[names[0]])


def test_a_checkpoint_that_is_not_there_or_is_code_is_bad_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="CKPT-001"):
        weights(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(DataError, match="CKPT-002"):
        weights(tmp_path / "text.ckpt")
    torch.save({"state_dict": {}, "hyper_parameters": {"config": Path("/")}}, tmp_path / "code.ckpt")
    with pytest.raises(DataError, match="CKPT-002"):
        configuration(tmp_path / "code.ckpt")


@pytest.mark.parametrize("stage", ["validation", "test"])
def test_scores_that_are_no_numbers_end_an_evaluation_with_the_name_of_their_task(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ranking among NaN would be a score that means nothing."""
    model = module(Uncertainty(list(ROLES_OF)))
    model.eval()
    head = model.task("recommend").head
    monkeypatch.setattr(type(head), "forward", lambda self, *given: torch.full((1, 1), math.nan))

    def evaluate() -> None:
        for number, batch in enumerate(evaluation()):
            getattr(model, f"{stage}_step")(batch, number)

    with torch.no_grad(), pytest.raises(DataError, match=r"TRAIN-002.*recommend.* NaN"):
        evaluate()
