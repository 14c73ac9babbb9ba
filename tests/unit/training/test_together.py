"""What cannot be right together: refused by name before anything is read, all at once, with what to type instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from discovery import classes
from graftrec.config.instantiate import conf_dir, resolve
from graftrec.runs.overrides import problems_of_command
from graftrec.training.compatibility import prepared, problems_together, ranked_alike, weights_matter
from graftrec.utils.errors import UserError

Compose = Callable[[list[str]], dict[str, Any]]
EXPERIMENTS = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
PARTS = ("movielens", "movietweetings")
FOLDERS = {"movies_by_text": [f"dataset.parts.{part}.root=/data" for part in PARTS]}
EVEN = ["source.interest.weight=1", "shared.relevance.weight=1"]  # as equal as a scale-invariant balancer makes them
TRIO = ["task@source=[grocery_recommend]", "task@target=[produce_recommend]", "task@shared=[align_mmd]"]
CROSSING = ["protocol=cross_domain", "++dataset.domain=department", "trunk=shared_bottom", *TRIO]
ALONE = ["task@source=[]", "task@shared=[]"]
ROWS = ["trunk=din", "++trunk.item=product"]
SEQUENCE = ["trunk=sasrec", "task@target=[next_item]", *ALONE]
COOL = ["loss@target.recommend.loss=info_nce", "++target.recommend.loss.temperature=0.5"]
CASES = {
    "lambda": (
        ["balancer=famo", *EVEN, "lambda_shared=0.1"], ["lambda_shared: is 0.1, which Famo .* set lambda_shared=1, 0 "]
    ),
    "weight": (
        ["balancer=nash_mtl", "source.interest.weight=0.5"],
        ["source.interest.weight: is 0.5, which NashMtl .* set source.interest.weight=1, or balancer=sum"],
    ),
    "after a warm-up": (["balancer=stch", *EVEN, "lambda_shared=3"], ["lambda_shared: is 3, which Stch"]),
    "parts of LoRA": (["trainer=fsdp", "transfer=lora"], ["trainer.strategy: .* LoRA needs .* set trainer=ddp"]),
    "parts of L2SP": (["trainer=fsdp", "transfer=l2_sp"], ["trainer.strategy: .* L2SP needs them whole"]),
    "rise": (
        [*CROSSING, "balancer=geometric", "++shared.align_mmd.rise=ramp"],
        ["shared.align_mmd.rise: is a factor .* set shared.align_mmd.rise=constant"],
    ),
    "strengths": (
        ["balancer=famo", *EVEN, "transfer=auto", "++transfer.strengths=[1.0,0.5]"],
        [r"transfer.strengths: are \[1.0, 0.5\], which Famo .* set transfer.strengths=\[1.0\]"],
    ),
    "fields by name": (
        [*ROWS, "interaction=attention"],
        ["interaction: DIN reads fields by their names, and Attention .* interaction=none, or interaction=fm"],
    ),
    "no fields": ([*SEQUENCE, "interaction=fm"], ["interaction: SASRec reads a sequence .* set interaction=none"]),
    "nobody reads": (
        [*ALONE, "task@target=[relevance]", "interaction=fm"],
        ["interaction: stands before the trunk, which no task reads"],
    ),
    "one task": (
        [*ALONE, "balancer=dwa"],
        ["balancer: no phase of this plan trains two tasks for Dwa to balance; set balancer=sum"],
    ),
    "one task that meets another": (
        ["task@source=[]", "balancer=pcgrad"],
        ["balancer: no phase of this plan trains two tasks that read the trunk for PcGrad"],
    ),
    "one task at a time": (
        ["task@shared=[]", "transfer=pretrain_finetune", "balancer=rlw"], ["balancer: no phase of this plan trains two"]
    ),
    "value": (
        ["optimizer=rowwise", "++trainer.gradient_clip_val=1", "++trainer.gradient_clip_algorithm=value"],
        ["trainer.gradient_clip_algorithm: .* set trainer.gradient_clip_algorithm=norm, or optimizer=adamw"],
    ),
    "clipped at what": (
        ["++trainer.gradient_clip_algorithm=norm"],
        [r"trainer.gradient_clip_algorithm: is norm, .* set \+\+trainer.gradient_clip_val=1"],
    ),
    "no negatives": (
        ["loss@target.recommend.loss=bpr", "++candidates.negatives=0"],
        ["target.recommend.loss: Bpr compares .* set candidates.negatives=128, or loss@target.recommend.loss=bce"],
    ),
    "how many are drawn": (
        ["loss@target.recommend.loss=gbce"],
        [r"target.recommend.loss.t: undoes .* set \+\+target.recommend.loss.rate to candidates.negatives"],
    ),
    "log q": (
        [*COOL, "++candidates.drawn=popularity"],
        ["target.recommend.loss.temperature: would divide log q .* set target.recommend.loss.temperature=1"],
    ),
    "all at once": (
        ["balancer=famo", "source.interest.weight=1", "interaction=attention", "trunk=cmf", "lambda_shared=2",
         "++trainer.gradient_clip_algorithm=norm"],
        ["interaction: CMF", "shared.relevance.weight: is 0.3", "lambda_shared: is 2", "gradient_clip_algorithm: is"],
    ),
}  # fmt: skip
FINE = {
    "lambda 0 leaves a task out": ["balancer=famo", *EVEN, "lambda_shared=0"],
    "weights of equal parts": ["balancer=famo", *EVEN],
    "a weight outside of what the gradients balance": ["balancer=imtl_g", "source.interest.weight=1"],
    "lambda of tasks outside": ["balancer=imtl_g", "source.interest.weight=1", "lambda_shared=0.1"],
    "weights where they count": ["balancer=uncertainty", "lambda_shared=0.1"],
    "a reversed gradient": [*CROSSING, "task@shared=[align_adversarial]", "balancer=geometric"],
    "strengths where they count": ["transfer=auto", "++transfer.strengths=[1.0,0.5]"],
    "auto's own strengths": ["transfer=auto", "balancer=famo", *EVEN],
    "fields that are kept": [*ROWS, "interaction=fm"],
    "fields that nobody names": ["trunk=mmoe", "interaction=attention"],
    "two tasks of one phase": ["transfer=pretrain_finetune", "balancer=rlw"],
    "value of dense gradients": ["++trainer.gradient_clip_val=1", "++trainer.gradient_clip_algorithm=value"],
    "norm of rows": ["optimizer=rowwise", "++trainer.gradient_clip_val=1", "++trainer.gradient_clip_algorithm=norm"],
    "a share that is told": ["loss@target.recommend.loss=gbce", "++target.recommend.loss.rate=0.1"],
    "nothing to undo": ["loss@target.recommend.loss=gbce", "++target.recommend.loss.t=0"],
    "a temperature without log q": COOL,
}


@pytest.mark.parametrize(("settings", "expected"), CASES.values(), ids=CASES)
def test_refused_by_name_with_what_to_type(settings: list[str], expected: list[str], compose: Compose) -> None:
    found = problems_together(compose(settings))
    assert len(found) == len(expected)
    for problem, words in zip(found, expected, strict=True):
        assert re.search(words, problem), problem


@pytest.mark.parametrize("settings", FINE.values(), ids=FINE)
def test_what_goes_together_is_not_refused(settings: list[str], compose: Compose) -> None:
    assert problems_together(compose(settings)) == []


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_goes_together(experiment: str, compose: Compose) -> None:
    assert (
        problems_together(compose([f"experiment={experiment}", *FOLDERS.get(experiment, ["++dataset.root=/data"])]))
        == []
    )


def test_the_command_says_it_before_anything_is_read(compose: Compose) -> None:
    words = ["balancer=famo", *EVEN, "lambda_shared=0.1,1", "-m"]
    (said,) = problems_of_command("train", words, [])
    assert said.startswith("lambda_shared: is 0.1")
    assert problems_of_command("train", ["balancer=sum", "lambda_shared=0.1,1", "-m"], []) == []
    tree = compose(["dataset=files", "dataset.path=/nowhere/at/all.parquet", "balancer=famo"])
    with pytest.raises(UserError, match=r"source\.interest\.weight") as caught:
        prepared(tree)  # and so says a caller from Python
    assert caught.value.exit_code == 2
    assert len(caught.value.problems) == 2


def test_a_linear_head_ranks_everybody_alike_without_cross_columns(compose: Compose, shop_settings: list[str]) -> None:
    settings = [*shop_settings, *ALONE, "head@target.recommend.head=linear"]
    tree = compose(settings)
    streams = {name: stream.schema for name, stream in prepared(tree)[0].streams.items()}
    cross = streams["baskets"].cross  # what was bought before counts
    for known, fine in (
        (cross, True),
        (("pair",), True),
        (("item", "item_30", "first", "first_60"), False),
        ((), False),
    ):
        found = ranked_alike(tree, {"baskets": replace(streams["baskets"], cross=known)})
        assert (found == []) == fine
    assert found[0].endswith("everybody would get the same ranking; set head@target.recommend.head=mlp, or dot")
    assert ranked_alike(compose([*settings, "head@target.recommend.head=dot"]), streams) == []


def test_it_is_said_of_data_without_a_second_purchase(
    compose: Compose, shop: Path, shop_settings: list[str], tmp_path: Path
) -> None:
    once = pl.read_parquet(shop / "lines.parquet").unique(["user", "item"], keep="first", maintain_order=True)
    once.write_parquet(tmp_path / "once.parquet")
    plain = [words for words in shop_settings if "items=" not in words and "dataset.path" not in words]
    settings = [*plain, f"dataset.path={tmp_path}/once.parquet", "++dataset.unique=true", *ALONE]
    prepared(compose(settings))
    with pytest.raises(UserError, match=r"target\.recommend\.head: linear"):
        prepared(compose([*settings, "head@target.recommend.head=linear"]))


INVARIANT = [cls for cls in classes("training.balancers") if cls.scale_invariant]


@pytest.mark.parametrize("cls", INVARIANT, ids=lambda c: c.__name__)
def test_strengths_are_not_tried_where_they_change_nothing(cls: type[Any], compose: Compose) -> None:
    tree = compose(["task@source=[interest]", "task@shared=[]", "transfer=auto"])
    assert weights_matter(tree)
    tree["balancer"] = {"_target_": f"{cls.__module__}.{cls.__qualname__}"}
    assert not weights_matter(tree)
    tree["source"]["interest"]["reads"] = "encoder"  # outside of what gradients balance
    assert weights_matter(tree) == resolve(tree["balancer"]["_target_"]).needs_gramian


@pytest.mark.parametrize("limit", [1, 50])
def test_a_cut_test_has_no_simple_models_beside_it(compose: Compose, limit: int) -> None:
    asked = [f"++trainer.limit_test_batches={limit}"]
    (problem,) = problems_together(compose(asked))
    assert problem.startswith(f"trainer.limit_test_batches: is {limit}, ")
    assert problem.endswith("set baselines=false")
    assert problems_together(compose([*asked, "baselines=false"])) == []
