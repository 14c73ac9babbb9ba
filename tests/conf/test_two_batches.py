"""Every YAML that trains is run end to end for two batches on the generated shop, and counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from graftrec.config import instantiate
from graftrec.runs.job import run_job
from graftrec.runs.train import train
from graftrec.training.distributed.rank import processes

Compose = Callable[[list[str]], dict[str, Any]]

SHORT = [
    "twin=false",
    "++trainer.limit_train_batches=2",
    "++trainer.max_steps=2",  # of each phase, whatever its epochs
    "++trainer.log_every_n_steps=1",
]
# Group -> how its options are chosen where that is not group=option
CHOICE = {"head": "head@target.recommend.head", "loss": "loss@target.recommend.loss"}
# Losses that fit no binary label: those of other default tasks are set, or they come with a task of their own
FOR_CATEGORIES = {"loss/cross_entropy"}
FOR_NUMBERS = {"loss/absolute", "loss/huber", "loss/log_squared"}
OWN_TASK = {"loss/ordinal": "rating", "loss/quantile": "watch_quantiles", "loss/weighted_logistic": "watch_time"}
DRAWN = ("experiment", "logger")  # drawing is most of the time of so short a run, and does not depend on the rest
JUDGED = ("dataset", "protocol", "split", "task", "experiment")  # baselines see nothing else of the settings
DEPARTMENTS = ["protocol=cross_domain", "++dataset.domain=department"]
DOMAINS = ("grocery", "produce", "drug_gm")
ROWS = [
    "protocol=cross_domain",
    "++dataset.features={weekday: id, price: number}",
    "++dataset.labels={click: binary, like: binary, conversion: binary, watch_time: number, rating: category}",
]
IN_SHOP = ("click", "like", "conversion", "watch_time", "rating")
BEHAVIOURS = ["++dataset.labels={click: binary, conversion: binary}", "++dataset.events={click: 1, conversion: 1}"]
TRANSFERRED = ["task@source=[grocery_recommend]", "task@target=[produce_recommend]"]
STAND_IN = {"stars": "watch_time"}  # a column of the shop for one of that name that is of another kind there
NEXT = ["task@source=[]", "task@shared=[]", "task@target=[next_item]"]
MORE = {  # what an option needs of the data
    "protocol/cross_platform": [*DEPARTMENTS[1:], "task@source=[grocery_recommend]", "task@target=[produce_recommend]",
                                "task@shared=[]", "protocol=cross_platform"],
    "size/s": ["trunk=gru4rec", *NEXT],  # which has no heads
    "size/m": ["trunk=sasrec", *NEXT],
    "size/l": ["trunk=hstu", *NEXT, "trunk.layers=1", "encoder.width=16"],  # large ones are for GPUs
    "size/xl": ["trunk=nextitnet", *NEXT, "trunk.repeats=1", "encoder.width=16"],
    "trainer/fsdp": ["trainer.accelerator=cpu"],
    "trunk/bert4rec": ["++history.mask=0.2", "task@source=[]", "task@shared=[]", "task@target=[next_item]"],
    "transfer/meta_embedding": ["++encoder.generated=[item]"],
    "trunk/melu": ["protocol=long_short_term", "++dataset.labels={click: binary, conversion: binary}",
                   "++dataset.events={click: 1, conversion: 1}", "task@source=[]", "task@shared=[]",
                   "task@target=[click]", "++trunk.values=[1.0,2.0]"],
    "loss/gbce": ["++target.recommend.loss.t=0"],  # another asks how large the catalogue is
    "transfer/auto": ["task@source=[interest]", "task@shared=[]", "++transfer.strengths=[1.0]"],  # few trainings
    "split/official": ["++dataset.split=part"],
    "split/leave_last_out": ["++candidates.min_users=0"],
    "experiment/adult": [*ROWS, "split=time", "source.never_married.column=like", "target.income.column=click"],
    "experiment/census": [*ROWS, "split=time", "source.never_married.column=like", "target.income.column=click"],
    "experiment/kuairand": [*ROWS, "source.is_click.column=click", "target.long_view.column=click"],
    "experiment/kuairand_sequence": [*ROWS[1:], "~dataset.event", "source.is_click_sequence.column=click",
                                     "target.long_view_sequence.column=click"],
    "experiment/movielens_cold_start": [*ROWS[1:], "split=time", "target.stars.column=watch_time"],
    "experiment/complete_journey_departments": ["source.meat_pckgd_recommend.stream=grocery/baskets",
                                                "target.meat_recommend.stream=drug_gm/baskets"],
    "experiment/food_kitchen": [DEPARTMENTS[1], "~dataset.apart", "source.food_next.stream=grocery/sequences",
                                "target.kitchen_next.stream=produce/sequences"],
    "experiment/amazon_pair": [DEPARTMENTS[1], "~dataset.source", "~dataset.target", "split=time",
                               "source.phone_recommend.stream=grocery/baskets",
                               "target.sport_recommend.stream=produce/baskets"],
    "experiment/movies_by_text": [DEPARTMENTS[1], "~dataset.parts", "split=time", "protocol.shared=[brand]",
                                  "source.movielens_recommend.stream=grocery/baskets",
                                  "target.movietweetings_recommend.stream=produce/baskets"],
    "experiment/planted": [*DEPARTMENTS, *ROWS[1:], "split=time", "target.planted_target.column=click",
                           "target.planted_target.stream=grocery/rows",
                           *(f"source.planted_{name}.stream=produce/rows" for name in ("help", "noise", "hurt")),
                           *(f"source.planted_{name}.column=click" for name in ("help", "noise", "hurt"))],
    "experiment/sequences": ["task@target=[next_item]"],
    "experiment/mmoe_synthetic": [*ROWS, "split=time", "target.y1.column=click", "target.y2.column=like"],
}  # fmt: skip
COMPARED = ["protocol=long_short_term", *ROWS[1:], "task@source=[]", "task@shared=[]", "task@target=[click]"]
CROSSING = [*DEPARTMENTS, "task@source=[grocery_recommend]", "task@target=[produce_recommend]", "task@shared=[]"]
MORE |= {"transfer/distillation": [*CROSSING, "transfer=distillation"]}
MAPPED = [*CROSSING, "++protocol.overlap_users=0.6"]  # some users are of the source alone
MORE |= {f"transfer/{name}": [*MAPPED, f"transfer={name}"] for name in ("emcdr", "ptupcdr")}
MORE |= {f"trunk/{name}": [*CROSSING, f"trunk={name}"] for name in ("cmf", "conet", "bitgcf")}
MORE |= {f"trunk/{name}": COMPARED for name in ("din", "dien", "sli_rec", "clsr", "sim")}  # the item is a field of rows
RUN = [
    "interaction",
    "trunk",
    "head",
    "loss",
    "balancer",
    "transfer",
    "protocol",
    "split",
    "optimizer",
    "size",
    "trainer",
    "logger",
    "experiment",
    "task",
]
FILES = [path for group in RUN for path in sorted((instantiate.conf_dir() / group).glob("*.yaml"))]


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def settings_of(path: Path) -> list[str]:
    """Settings that choose one YAML file."""
    group, option = path.parent.name, path.stem
    if group == "task":
        task = yaml.safe_load(path.read_text())[option]
        if "across" in task:
            return [*DEPARTMENTS, *TRANSFERRED, f"task@shared=[{option}]", "trunk=mmoe"]
        stream, before = task["stream"], f"{task['given']}," if "given" in task else ""
        trunk = "sasrec" if stream.endswith("sequences") else "shared_bottom"
        alone = ["task@source=[]", "task@shared=[]", f"task@target=[{before}{option}]", f"trunk={trunk}"]
        if task.get("column", "").startswith("next_"):
            return [*alone, *BEHAVIOURS]
        labelled = stream == "rows" or task.get("reads") == "positions"
        known = task.get("column", "click") in IN_SHOP  # a column of another dataset stands for one that the shop has
        rows = [*ROWS, *([] if known else [f"target.{option}.column=click"])]
        rows += [f"target.{option}.column={STAND_IN[option]}"] if option in STAND_IN else []
        domain, slash, kind = stream.partition("/")
        if slash and domain not in DOMAINS:  # of another dataset
            alone.append(f"target.{option}.stream=grocery/{kind}")
        if kind == "rows":
            return [*alone, *DEPARTMENTS, *rows[1:]]
        return [*alone, *(DEPARTMENTS if slash else rows if labelled else [])]
    if name_of(path) in FOR_CATEGORIES:
        return [f"{group}@source.interest.{group}={option}"]
    if name_of(path) in FOR_NUMBERS:
        return [f"{group}@shared.relevance.{group}={option}"]
    if name_of(path) in OWN_TASK:
        return settings_of(instantiate.conf_dir() / "task" / f"{OWN_TASK[name_of(path)]}.yaml")
    chosen = [f"{CHOICE.get(group, group)}={option}", *MORE.get(name_of(path), [])]
    if group == "balancer" and instantiate.resolve(yaml.safe_load(path.read_text())["_target_"]).scale_invariant:
        chosen += ["source.interest.weight=1", "shared.relevance.weight=1"]  # others are refused with it
    return chosen


def trained(tree: dict[str, Any], folder: Path) -> float:
    """The score of a run, in this process unless it asks for several."""
    if processes(tree["trainer"]) == 1:
        return train(tree, folder)
    code, score = run_job(tree, str(folder))
    assert code == 0
    return score


@pytest.fixture(scope="module")
def done() -> dict[str, tuple[Path, float]]:
    """Folder and score by tree: options that are the defaults give one tree, which is trained once."""
    return {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_two_batches(
    path: Path,
    compose: Compose,
    shop_settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    done: dict[str, tuple[Path, float]],
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    if path.parent.name not in DRAWN:
        for drawing in ("plots.learning_curves", "plots.comparison", "run_page.write_report"):
            monkeypatch.setattr(f"graftrec.evaluation.report.{drawing}", lambda *_, **__: None)
    alone = [] if path.parent.name in JUDGED else ["baselines=false"]
    tree = compose([*settings_of(path), *shop_settings, *SHORT, *alone])
    key = json.dumps(tree, sort_keys=True)
    if key not in done:
        done[key] = tmp_path, trained(tree, tmp_path)
    folder, score = done[key]

    metrics = json.loads((folder / "metrics.json").read_text())
    main = metrics["main"]
    assert main["task"] in tree["target"]
    assert set(metrics["test"]) == set(metrics["roles"])
    for task in tree["target"]:
        assert metrics["test"][task][main["metric"]] is not None
    found = [metrics["val"][task][main["metric"]] for task in tree["target"]]  # a click and its conversion: both an AUC
    assert abs(score) == pytest.approx(sum(found) / len(found))
    assert (folder / "checkpoints" / "best.ckpt").is_file()
    assert "train/loss/total" in (folder / "metrics.csv").read_text().splitlines()[0]
    if path.parent.name == "logger" and "Wandb" in path.read_text():
        assert list(folder.glob("wandb/offline-run-*/*.wandb"))


def test_no_yaml_is_left_out(done: dict[str, tuple[Path, float]]) -> None:
    groups = {folder.name for folder in instantiate.conf_dir().iterdir() if folder.is_dir()}
    assert groups - set(RUN) == {"dataset"}  # other data than the shop: test_groups composes it, slow tests run it
    assert {path.parent.name for path in FILES} == set(RUN)
    assert len(FILES) == sum(
        len(list((instantiate.conf_dir() / group).glob("*.yaml"))) for group in groups - {"dataset"}
    )
