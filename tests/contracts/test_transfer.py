"""What every transfer strategy holds when it runs: two departments of the shop, with both kinds of optimizers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

from discovery import classes, path_of
from graftrec.config.instantiate import arguments
from graftrec.data.protocols.base import Protocol
from graftrec.models.layers.stream_norm import StreamNorm
from graftrec.training import fit
from graftrec.training.builder import assemble, protocol_of, streams_of
from graftrec.training.callbacks.progress import PhaseProgress
from graftrec.training.checkpoints.checkpoint import weights
from graftrec.training.distributed.fsdp import load, state_of
from graftrec.training.fit import train_plan, twin_plan
from graftrec.training.lightning_module import GraftModule
from graftrec.training.phase_setup import begin, check_plan
from graftrec.transfer.base import Phase, Transfer
from graftrec.transfer.carry import carry
from graftrec.transfer.rows import NewRowsOnly
from graftrec.utils.errors import UserError

Compose = Callable[[list[str]], dict[str, Any]]
CROSSING = ["protocol=cross_domain", "++dataset.domain=department", "task@shared=[]", "trunk=shared_bottom",
            "task@source=[grocery_recommend]", "task@target=[produce_recommend]",
            "++trainer.limit_train_batches=2", "++trainer.max_steps=2", "schedule=constant"]  # fmt: skip
NEEDS = {"MetaEmbedding": ["++encoder.generated=[user,item]"]}
LINKED = "++protocol.overlap_users=0.6"  # some users are of both departments, and some of the source alone
NEEDS |= {name: [LINKED] for name in ("EMCDR", "PTUPCDR")}
OPTIMIZERS = {"adamw": ["optimizer=adamw"], "rowwise": ["optimizer=rowwise", "++optimizer.table_decay=0.1"]}


@pytest.fixture(scope="module")
def protocol(compose: Compose, shop_settings: list[str]) -> Protocol:
    tree = compose([*CROSSING, *shop_settings])
    made = protocol_of(tree)
    made.prepare(streams_of(tree))
    return made


def quick(cls: type[Transfer]) -> list[Phase]:
    """The plan with one epoch in each phase."""
    whole = {name for name, slot in arguments(cls).items() if type(slot.default) is int and slot.default <= 4}
    short = dict.fromkeys(whole - {"seeds"}, 1)  # which are trainings of a search
    return cls(**short).phases()


def progress(name: str) -> PhaseProgress:
    return PhaseProgress(name, Console(quiet=True))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("cls", classes("transfer"), ids=lambda cls: cls.__name__)
def test_frozen_parameters_stay_others_move_and_the_checkpoint_is_what_was_judged(
    cls: type[Transfer],
    optimizer: str,
    protocol: Protocol,
    compose: Compose,
    shop_settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = compose([*CROSSING, *shop_settings, *OPTIMIZERS[optimizer], *NEEDS.get(cls.__name__, [])])
    if LINKED in NEEDS.get(cls.__name__, []):
        protocol = protocol_of(tree)
        protocol.prepare(streams_of(tree))
    begun: list[tuple[Phase, dict[str, torch.Tensor]]] = []

    def begin_and_keep(tree: Any, protocol: Any, phase: Phase, states: Any) -> tuple[GraftModule, list[str]]:
        module, lines = begin(tree, protocol, phase, states)
        assert [line for line in lines if "->" in line] == lines[: phase.start_from is not None]
        rests = not all(part.requires_grad for part in module.parameters())
        assert any(line.startswith(f"{phase.name}: ") and " numbers train (" in line for line in lines) == rests
        begun.append((phase, {name: part.detach().clone() for name, part in module.named_parameters()}))
        return module, lines

    def load_and_compare(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
        load(module, state)
        phase, before = begun[-1]
        moved = set()
        for name, part in module.named_parameters():
            same = torch.equal(part, before[name])
            assert same or part.requires_grad, (phase.name, name)
            moved |= set() if same else {name.split(".")[0]}
        assert moved, phase.name
        for means in phase.means:
            for block, old, values in means._fixed if isinstance(means, NewRowsOnly) else ():
                assert torch.equal(block[old], values)

    monkeypatch.setattr(fit, "begin", begin_and_keep)
    monkeypatch.setattr(fit, "load", load_and_compare)
    plan = quick(cls)
    check_plan(tree, protocol, quick(cls))
    arm = train_plan(tree, protocol, plan, tmp_path, [], progress)
    fit.test_plan(arm, tree, protocol)
    assert [phase.name for phase, _ in begun] == [phase.name for phase in plan]
    assert arm.test["produce_recommend"]["ndcg@10"].value is not None
    told = re.compile(r"carried over [1-9]\d* parameters \(\d+ left behind, \d+ new, \d+ of another shape")
    assert all(told.search(line) for line in arm.carried if "->" in line)

    served = assemble(tree, protocol, plan[-1].roles, 0)
    for means in quick(cls)[-1].means:
        if means.stays:
            means.build(served)
    served.load_state_dict(weights(tmp_path / "best.ckpt"))


@pytest.mark.parametrize("cls", classes("transfer"), ids=lambda cls: cls.__name__)
def test_a_carry_over_that_finds_nothing_is_refused(
    cls: type[Transfer], protocol: Protocol, compose: Compose, shop_settings: list[str]
) -> None:
    tree = compose([*CROSSING, *shop_settings, *(need for need in NEEDS.get(cls.__name__, []) if need != LINKED)])
    for phase in cls().phases():
        if phase.start_from is None:
            continue
        state = assemble(tree, protocol, phase.roles, 0).state_dict()
        with pytest.raises(UserError, match=r"loaded nothing for 'encodr\.'.* did you mean encoder\.\?"):
            begin(tree, protocol, replace(phase, carry=("encodr.",)), {phase.start_from: state})
        other = {name: torch.zeros(*values.shape, 1) for name, values in state.items()}
        with pytest.raises(UserError, match=r"carry-over loaded nothing: .*mismatched in shape: "):
            begin(tree, protocol, phase, {phase.start_from: other})


NORMED = ["trunk=star"]  # with running means
STILL = {"LinearProbe"}  # the head learns, on what stays as it is


@pytest.mark.parametrize("cls", classes("transfer"), ids=lambda cls: cls.__name__)
def test_running_means_rest_where_all_that_reads_them_does(
    cls: type[Transfer], compose: Compose, shop_settings: list[str]
) -> None:
    tree = compose([*CROSSING, *shop_settings, *NORMED, *NEEDS.get(cls.__name__, [])])
    protocol = protocol_of(tree)
    protocol.prepare(streams_of(tree))
    states: dict[str, Any] = {}
    for phase in quick(cls):
        module = begin(tree, protocol, phase, states)[0]
        states[phase.name] = state_of(module)
        learns = {name.split(".")[0] for name, part in module.named_parameters() if part.requires_grad}
        rests = not learns & {"trunk", "tasks"} or (cls.__name__ in STILL and "trunk" not in learns)
        norms = [part for part in module.modules() if isinstance(part, StreamNorm)]
        assert norms
        assert all(part.training != rests for part in norms), phase.name


@pytest.mark.parametrize("name", ["CVAR", "MWUF", "MetaEmbedding"])
def test_vectors_of_new_items_learn_and_nothing_else_moves(
    name: str, protocol: Protocol, compose: Compose, shop_settings: list[str], tmp_path: Path
) -> None:
    (cls,) = [cls for cls in classes("transfer") if cls.__name__ == name]
    tree = compose([*CROSSING, *shop_settings, *NORMED, *NEEDS.get(name, [])])
    first, second = quick(cls)
    train_plan(tree, protocol, [first, second], tmp_path, [], progress)
    before, after = (weights(folder / "best.ckpt") for folder in (tmp_path / first.name, tmp_path))
    moved = [key for key, values in after.items() if key not in before or not torch.equal(before[key], values)]
    assert moved
    assert all(key.startswith("encoder.generators.") for key in moved), moved


@pytest.mark.parametrize("cls", classes("transfer"), ids=lambda cls: cls.__name__)
def test_the_twin_makes_as_many_passes_over_the_target(cls: type[Transfer]) -> None:
    plan = cls().phases()
    (twin,) = twin_plan(plan)
    assert twin.epochs == sum(phase.epochs for phase in plan if "target" in phase.roles) >= 1
    assert (twin.roles, twin.frozen, twin.means, dict(twin.rates)) == (("target",), (), (), {})


ONE_DOMAIN = ["task@source=[interest]", "task@shared=[]", "task@target=[recommend]", "trunk=shared_bottom"]
REFUSED = [
    ("transfer=distillation", [], "label"),
    ("transfer=pretrain_finetune", ["++transfer.carry=[encodr.]"], r"did you mean encoder\.\?"),
    ("transfer=gradual_unfreezing", ["++transfer.layers=[trnk.,tasks.]"], r"did you mean trunk\.\?"),
    ("transfer=gradual_unfreezing", ["++transfer.layers=[encoder.,trunk.net.0.,tasks.]"],
     r"such as trunk\. for the rest of a part\. Found none for trunk\.net\.3\.weight, trunk\.net\.3\.bias\."),
    ("transfer=gradual_unfreezing", ["++transfer.layers=[trunk.,tasks.]"], r"Found none for encoder\..* and more\."),
    ("transfer=gradual_unfreezing", ["++transfer.layers=[encoder.,tasks.]", "interaction=dcn_v2"],
     r"Found none for .*trunk\.net\.0"),
    ("transfer=adapters", ["++transfer.layers=[nothing]"], "dense layer"),
    ("transfer=emcdr", ["++encoder.shrink={user: {hash: 3}}"], "table of users"),
    ("transfer=ptupcdr", ["++history.short=0"], "history.short"),
    ("transfer=pretrain_finetune", ["task@source=[]"], "no task of the roles source, shared"),
]  # fmt: skip


@pytest.mark.parametrize(("transfer", "more", "said"), REFUSED, ids=lambda value: str(value))
def test_what_cannot_be_is_refused_before_anything_trains(
    transfer: str, more: list[str], said: str, compose: Compose, shop_settings: list[str]
) -> None:
    from graftrec.config.instantiate import build

    tree = compose([*ONE_DOMAIN, *shop_settings, transfer, *more])
    made = protocol_of(tree)
    made.prepare(streams_of(tree))
    with pytest.raises(UserError, match=said):
        check_plan(tree, made, build(tree["transfer"]).phases())


def test_platforms_without_shared_ids_carry_what_their_texts_are_read_with(
    compose: Compose, shop_settings: list[str]
) -> None:
    platforms = [*CROSSING, *shop_settings, "protocol=cross_platform", "++protocol.shared=[brand, product_category]"]
    plan = classes("transfer")[[cls.__name__ for cls in classes("transfer")].index("PretrainFinetune")]().phases()
    loaded = {}
    for name, more in (("ids", []), ("content", ["++encoder.content_only=[item]"])):
        tree = compose([*platforms, *more])
        made = protocol_of(tree)
        made.prepare(streams_of(tree))
        check_plan(tree, made, plan)
        source = assemble(tree, made, ("source", "shared"), 0).state_dict()
        target = assemble(tree, made, ("target",), 0)
        loaded[name] = set(carry(target, source, ("encoder.", "trunk.")).loaded)
        assert ("encoder.tables.produce/item.weight" in target.state_dict()) == (name == "ids")
    assert loaded["ids"] == loaded["content"]
    assert {"encoder.tables.item_brand.weight", "encoder.tables.item_product_category.weight"} <= loaded["content"]


@pytest.mark.parametrize("name", ["emcdr", "ptupcdr"])
@pytest.mark.parametrize(("linked", "found"), [(0.0, "Found 0 of both and 11 of the source alone"),
                                               (1.0, "Found 11 of both and 0 of the source alone")])  # fmt: skip
def test_a_map_without_users_to_learn_or_to_map_is_refused(
    name: str, linked: float, found: str, compose: Compose, shop_settings: list[str]
) -> None:
    from graftrec.config.instantiate import build

    tree = compose([*CROSSING, *shop_settings, f"transfer={name}", f"++protocol.overlap_users={linked}"])
    made = protocol_of(tree)
    made.prepare(streams_of(tree))
    with pytest.raises(UserError, match=f"{found}, of 11 users that the sources train on and 11 of the target"):
        check_plan(tree, made, build(tree["transfer"]).phases())


def test_users_of_their_own_cannot_be_mapped(compose: Compose, shop_settings: list[str]) -> None:
    tree = compose([*CROSSING, *shop_settings, "++protocol.shares=[item]"])
    made = protocol_of(tree)
    made.prepare(streams_of(tree))
    for cls in classes("transfer"):
        if path_of(cls).rpartition(".")[2] in ("EMCDR", "PTUPCDR"):
            with pytest.raises(UserError, match="share the table of users"):
                check_plan(tree, made, cls().phases())
