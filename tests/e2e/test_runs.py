"""Runs through the real command line, each in a folder of its own, on the generated shop."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from command import graftrec, in_a_process
from graftrec.cli.main import main
from graftrec.config import instantiate
from graftrec.runs.overrides import problems_of_command
from graftrec.runs.recommender import Recommender
from graftrec.utils.errors import UserError

QUICK = ["transfer.epochs=1", "twin=false", "++trainer.log_every_n_steps=1"]
TRAIN_UNTIL, VAL_UNTIL = 0.8, 0.9


def metrics_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return found


TIMES = ("seconds", "seconds_of_all", "rows_per_second", "limit", "flops_per_second", "model_flops_utilisation",
         "utilisation")  # fmt: skip
UNJUDGED = ("verdict", "p_holm", "minimum_detectable", "weak")  # null where nothing is to be said


def without_times(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    return {key: without_times(part) for key, part in tree.items() if key not in TIMES}


@pytest.fixture(scope="module")
def run(shop_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its twin."""
    folder = tmp_path_factory.mktemp("run")
    graftrec("train", *shop_settings, *cuts(), *QUICK, "twin=true", "seed=3", "hydra.run.dir=runs/one", cwd=folder)
    return folder / "runs" / "one"


def cuts() -> list[str]:
    return ["++split.of=span", f"++split.train_until={TRAIN_UNTIL}", f"++split.val_until={VAL_UNTIL}"]


# --- the run folder


@pytest.mark.slow
def test_the_run_folder(run: Path) -> None:
    files = {path.name for path in run.iterdir()}
    assert files >= {
        "metrics.json", "metrics.csv", "report.html", "status.json", "data_card.json", "config.yaml",
        "learning_curves.png", "checkpoints",
    }  # fmt: skip
    assert [name for name in files if name.startswith(".")] == [".graftrec.json"]  # the marker, and no draft is left
    status = json.loads((run / "status.json").read_text())
    assert {key: status[key] for key in ("state", "exit_code", "reason")} == {
        "state": "finished", "exit_code": 0, "reason": "",
    }  # fmt: skip
    tree = yaml.safe_load((run / "config.yaml").read_text())
    assert "${" not in (run / "config.yaml").read_text()
    assert tree["seed"] == 3
    assert "hydra" not in tree
    card = json.loads((run / "data_card.json").read_text())
    assert (card["users"], card["items"]) == (12, 40)
    assert {"rows", "first", "last", "refused", "splits", "fingerprint"} <= set(card)
    assert (run / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_checkpoints_and_their_manifest(run: Path) -> None:
    for folder in (run / "checkpoints", run / "checkpoints" / "twin"):
        left = {path.name for path in folder.iterdir() if path.is_file()}
        assert left - {".graftrec.json"} == {"best.ckpt", "last.ckpt", "manifest.json"}
        files = json.loads((folder / "manifest.json").read_text())["files"]
        assert set(files) == {"best.ckpt", "last.ckpt"}
        for name, said in files.items():
            content = (folder / name).read_bytes()
            assert (said["bytes"], said["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.slow
def test_metrics_say_everything_that_was_measured(run: Path) -> None:
    metrics = metrics_of(run)
    assert metrics["roles"] == {"interest": "source", "recommend": "target", "relevance": "shared"}
    assert set(metrics["test"]) == set(metrics["val"]) == set(metrics["roles"])
    assert set(metrics["twin"]) == {"recommend"}
    rankers = {"popularity", "recent_popularity", "own_frequency", "item_knn", "ease"}
    assert rankers <= set(metrics["baselines"]["recommend"])
    assert {"majority", "recent_popularity", "own_frequency"} <= set(metrics["baselines"]["interest"])
    for metric in ("ndcg@10", "recall@10", "hr@10", "mrr@10", "ndcg@10/first_time"):
        assert 0 <= metrics["test"]["recommend"][metric] <= 1
        ours, theirs = metrics["test"]["recommend"][metric], metrics["twin"]["recommend"][metric]
        (difference,) = (v for k, v in metrics["differences"]["recommend"][metric].items() if k in ("mean", "delta"))
        assert difference == pytest.approx(ours - theirs, abs=1e-9)
    for metric in ("map@10", "coverage@10", "novelty@10", "popularity_bias@10"):
        assert metrics["test"]["recommend"][metric] is not None
        assert metrics["baselines"]["recommend"]["popularity"][metric] is not None
    assert [name for name in metrics["test"]["recommend"] if name.startswith("ndcg@10/history_")]
    missing = list(nulls({key: part for key, part in metrics.items() if key not in ("reasons", "chosen")}))
    assert missing  # the mean predicts one number: it has no rank correlation
    assert [path for path in missing if path not in metrics["reasons"]] == []
    for metric, found in metrics["differences"]["recommend"].items():
        assert found.get("reason") == metrics["reasons"].get(f"differences/recommend/{metric}"), metric
        assert found["verdict"] is None  # of one seed
    assert metrics["fit"]["parameters"] > 0
    assert metrics["fit"]["rows_per_second"] > 0


def nulls(tree: dict[str, Any], at: str = "") -> list[str]:
    """Where there is no number, unless a reason stands beside it."""
    found = []
    for key, value in tree.items():
        if isinstance(value, dict):
            found += [] if "reason" in value else nulls(value, f"{at}{key}/")
        elif value is None and key not in UNJUDGED:
            found.append(f"{at}{key}")
    return found


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(run: Path, shop_settings: list[str], tmp_path: Path) -> None:
    words = ["train", *shop_settings, *cuts(), *QUICK, "twin=true", "seed=3", "hydra.run.dir=again"]
    in_a_process(*words, cwd=tmp_path)
    assert without_times(metrics_of(tmp_path / "again")) == without_times(metrics_of(run))


@pytest.mark.slow
def test_mmoe_without_a_shared_task(shop_settings: list[str], tmp_path: Path) -> None:
    done = graftrec(
        "train", "trunk=mmoe", "task@shared=[]", "lambda_shared=0", *shop_settings, *QUICK, "hydra.run.dir=r",
        cwd=tmp_path,
    )  # fmt: skip
    assert metrics_of(tmp_path / "r")["roles"] == {"interest": "source", "recommend": "target"}
    tree = yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())
    assert tree["shared"] == {}
    assert tree["trunk"]["_target_"].endswith("MMoE")
    assert "relevance" not in done.stdout


@pytest.mark.slow
def test_pretrain_and_finetune_says_what_it_carried(shop_settings: list[str], tmp_path: Path) -> None:
    done = graftrec(
        "train", "transfer=pretrain_finetune", "transfer.pretrain=1", "transfer.finetune=1", "twin=false",
        *shop_settings, "hydra.run.dir=r", cwd=tmp_path,
    )  # fmt: skip
    assert "pretrain -> finetune: carried over " in done.stdout
    assert "carried over 0 parameters" not in done.stdout
    checkpoints = tmp_path / "r" / "checkpoints"
    assert {str(p.relative_to(checkpoints)) for p in checkpoints.rglob("*.ckpt")} >= {"best.ckpt", "pretrain/last.ckpt"}
    assert set(metrics_of(tmp_path / "r")["test"]) == {"interest", "recommend", "relevance"}
    phases = set(pl.read_csv(tmp_path / "r" / "metrics.csv")["phase"])
    assert phases == {"pretrain", "finetune"}
    assert len(Recommender.load(tmp_path / "r").recommend([1], k=3)) == 3


DATA = Path(os.environ.get("GRAFTREC_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
REAL = {  # setting -> folder of its files
    "adult": {"dataset.root": "uci-adult"},
    "amazon_pair": {"dataset.root": "amazon-disencdr"},
    "census": {"dataset.root": "census-income-kdd"},
    "food_kitchen": {"dataset.root": "amazon-food-kitchen"},
    "kuairand": {"dataset.root": "kuairand-27k-explicit"},
    "kuairand_sequence": {"dataset.root": "kuairand-27k-explicit"},
    "movielens_cold_start": {"dataset.root": "ml-1m"},
    "movies_by_text": {
        "dataset.parts.movielens.root": "ml-1m",
        "dataset.parts.movietweetings.root": "movietweetings-100k",
    },
    "sequences": {"dataset.root": "s3rec-sequences"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", sorted((instantiate.conf_dir() / "experiment").glob("*.yaml")), ids=lambda path: path.stem
)
def test_two_steps_of_every_experiment_on_its_own_data(path: Path, tmp_path: Path) -> None:
    short = ["++trainer.limit_train_batches=2", "++trainer.max_steps=2", "++trainer.log_every_n_steps=1"]
    short += ["hydra.mode=RUN", "baselines=false", "seeds=1"]  # also of what is a sweep; the demo has baselines
    for setting, name in REAL.get(path.stem, {}).items():
        if not (DATA / name).is_dir():
            pytest.skip("GRAFTREC_DATA names no folder with the real files")
        short += [f"{setting}={DATA / name}"]
    graftrec("train", f"experiment={path.stem}", "twin=false", *short, "hydra.run.dir=r", cwd=tmp_path)
    metrics = metrics_of(tmp_path / "r")
    assert metrics["test"][metrics["main"]["task"]][metrics["main"]["metric"]] is not None


# --- predictions


def purchases(shop: Path) -> pl.DataFrame:
    """user, item, day of the shop, read without the program; only items of its catalogue."""
    lines = pl.read_parquet(shop / "lines.parquet")
    seconds = (lines["time"] - lines["time"].min()).dt.total_microseconds() / 1e6
    rows = lines.select("user", "item", (seconds / 86_400).alias("day"))
    known = rows.filter(pl.col("day") < TRAIN_UNTIL * float(rows["day"].max() or 0))["item"].unique()
    return rows.filter(pl.col("item").is_in(known.implode()))


def bought(shop: Path, after: bool) -> dict[int, set[int]]:
    """What each user bought in the test's window, or before it."""
    rows = purchases(shop)
    cut = VAL_UNTIL * float(rows["day"].max() or 0)
    kept = rows.filter(pl.col("day") >= cut if after else pl.col("day") < cut)
    return {user: set(part["item"]) for (user,), part in kept.group_by("user")}


def ndcg(ranking: Sequence[int], relevant: set[int], k: int = 10) -> float:
    gain = sum(1 / math.log2(place + 2) for place, item in enumerate(ranking[:k]) if item in relevant)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(k, len(relevant))))


def rankings(frame: pl.DataFrame) -> dict[int, list[int]]:
    return {user: part.sort("rank")["item"].to_list() for (user,), part in frame.group_by("user")}


@pytest.mark.slow
def test_predictions_are_the_ranking_that_was_evaluated(run: Path, shop: Path) -> None:
    graftrec("predict", f"run={run}", "k=40", cwd=run)
    frame = pl.read_parquet(run / "predictions.parquet")
    assert frame.columns == ["user", "item", "score", "rank", "known"]
    ranked, relevant = rankings(frame), bought(shop, after=True)
    assert set(ranked) == set(relevant)  # the users of the test
    assert all(len(set(items)) == 40 for items in ranked.values())
    assert frame["score"].is_between(0, 1).all()
    values = [ndcg(ranked[user], relevant[user]) for user in relevant]
    assert sum(values) / len(values) == pytest.approx(metrics_of(run)["test"]["recommend"]["ndcg@10"], abs=1e-6)


@pytest.mark.slow
def test_without_what_was_seen(run: Path, shop: Path) -> None:
    recommender = Recommender.load(run)
    before, after = bought(shop, after=False), bought(shop, after=True)
    users = recommender.users()
    everything = rankings(recommender.recommend(users, k=40))
    fresh = rankings(recommender.recommend(users, k=40, seen=False))
    for user in users:
        assert fresh.get(user, []) == [item for item in everything[user] if item not in before.get(user, set())]
    values = [
        ndcg(fresh.get(user, []), after[user] - before.get(user, set()))
        for user in users
        if after[user] - before.get(user, set())
    ]
    said = metrics_of(run)["test"]["recommend"]["ndcg@10/first_time"]
    assert sum(values) / len(values) == pytest.approx(said, abs=1e-6)


@pytest.mark.slow
def test_users_from_a_file_strangers_among_them(run: Path, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text("2\nnobody\n777\n1\n")
    graftrec("predict", f"run={run}", "users=users.txt", "k=3", "out=given.csv", cwd=tmp_path)
    frame = pl.read_csv(tmp_path / "given.csv")
    assert frame["user"].to_list() == ["2"] * 3 + ["nobody"] * 3 + ["777"] * 3 + ["1"] * 3
    assert frame["rank"].to_list() == [1, 2, 3] * 4
    items = {user: part["item"].to_list() for (user,), part in frame.group_by("user")}
    assert items["nobody"] == items["777"]  # what is known of everybody
    expected = rankings(Recommender.load(run).recommend([1, 2], k=3))
    assert (items["1"], items["2"]) == (expected[1], expected[2])
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.slow
def test_the_recommender(run: Path) -> None:
    recommender = Recommender.load(run)
    frame = recommender.recommend([3, 12], k=4)
    assert frame["user"].to_list() == [3] * 4 + [12] * 4
    for _, part in frame.group_by("user"):
        assert part["score"].is_sorted(descending=True)
    assert len(recommender.recommend([], k=4)) == 0
    assert recommender.users("latest") == list(range(1, 13))
    assert 11 not in recommender.users("test")  # buys nothing in the test
    latest, then = (recommender.recommend([3], k=40, at=at) for at in ("latest", "test"))
    assert latest["score"].to_list() != then["score"].to_list()
    with pytest.raises(ValueError, match="k should be at least 1"):
        recommender.recommend([3], k=0)
    with pytest.raises(UserError, match="no target 'recomend'; did you mean 'recommend'"):
        Recommender.load(run, "recomend")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run=nowhere", "k=0", "at=never", "out=x.doc"], 2, ["k: ", "out: ", "at: ", "run: should be"]),
        (["run=."], 65, ["CKPT-001"]),
    ],
)
def test_a_prediction_that_cannot_be_made(words: list[str], code: int, said: list[str], tmp_path: Path) -> None:
    errors = graftrec("predict", *words, cwd=tmp_path, code=code).stderr
    assert all(part in errors for part in said)
    assert list(tmp_path.iterdir()) == []


# --- what is refused


REFUSED = [
    (["optimzer.lr=1"], ["'optimizer.lr'"]),
    (["task@source=[recommend]"], ["recommend: also selected as source; a task has one role"]),
    (["task@target=[]"], ["no target task is selected"]),
    (
        ["optimzer.lr=1", "trunk=mmo", "task@source=[recommend]", "balancer.x=1"],
        ["'optimizer.lr'", "'mmoe'", "a task has one role", "balancer.x", "has 4 problem(s)"],
    ),
    (["seeds=0"], ["seeds: should be a whole number of at least 1, at most 10,000, found 0"]),
    (["seeds=x"], ["seeds: should be a whole number of at least 1, at most 10,000, found 'x'"]),
    (["workers=0"], ["workers: should be from 1 to 1,024, or null, found 0"]),
]


@pytest.mark.parametrize(
    ("words", "said"), REFUSED, ids=["typo", "two roles", "no target", "all at once", "no seed", "word", "nobody"]
)
def test_wrong_settings_are_named_at_once(
    words: list[str],
    said: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words]) == 2
    errors = capsys.readouterr().err
    for part in said:
        assert part in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_wrong_settings_end_a_process_with_2(tmp_path: Path) -> None:
    words, said = REFUSED[3]
    printed = in_a_process("train", *words, cwd=tmp_path, code=2)
    assert all(part in printed for part in said)
    assert "Traceback" not in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (
            ["source.interest.column=next_brnd", "shared.relevance.column=similarty"],
            2,
            ["source.interest.column", "'next_brand'", "shared.relevance.column", "'similarity'"],
        ),
        (["target.recommend.stream=basket"], 2, ["stream 'basket' does not exist", "'baskets'"]),
        (["dataset.item=product"], 2, ["has no column 'product'"]),
        (["dataset.path=missing.parquet"], 65, ["DATA-011", "missing.parquet"]),
        (["split=leave_last_out", "++split.least=1000"], 65, ["DATA-051", "the val split", "has no row"]),
        (
            [
                "task@target=[click]",
                "protocol=cross_domain",
                "++dataset.features={weekday: id}",
                "++dataset.labels={click: binary}",
                "task@source=[]",
                "task@shared=[]",
                "trunk=shared_bottom",
                "target.click._target_=graftrec.tasks.recommendation.Recommendation",
            ],
            2,
            ["task click: stream 'rows' has no candidates to rank"],
        ),
        (["trainer.devices=0"], 2, ["trainer.devices: should be a number of at least 1"]),
        (["++split.train_until=0.95"], 2, ["0 < train_until < val_until < 1"]),
    ],
)
def test_what_the_data_cannot_give_is_said_before_training(
    words: list[str], code: int, said: list[str], shop_settings: list[str], tmp_path: Path
) -> None:
    done = graftrec("train", *shop_settings, *words, "hydra.run.dir=r", cwd=tmp_path, code=code)
    for part in said:
        assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []  # nothing half-written


WORDS = ["seed=x", "lambda_shared=-1", "lambda_shared=much", "schedule=cosin", "twin=maybe", "seeds=1.5", "seeds=null",
         "workers=x", "verdicts=auc", "verdicts=[auc,auc]"]  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_values_of_the_run_itself_are_checked(word: str) -> None:
    assert problems_of_command("train", [word], []) != []


def test_the_task_of_a_prediction_can_be_chosen() -> None:
    assert problems_of_command("predict", ["run=.", "target_task=recommend"], []) == []
