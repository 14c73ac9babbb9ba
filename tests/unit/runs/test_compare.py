from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import scipy.stats
import yaml

from graftrec.cli.main import main
from graftrec.evaluation.statistics import user_values
from graftrec.evaluation.statistics.intervals import holm
from graftrec.evaluation.statistics.paired_tests import signed_ranks, t_test
from graftrec.evaluation.statistics.user_values import USER
from graftrec.runs.compare import compare, run
from graftrec.utils.errors import DataError, UserError

Array = npt.NDArray[np.float64]
TASK = {"_target_": "graftrec.tasks.next_basket.NextBasket", "stream": "dairy/baskets", "column": "y"}


def saved(
    folder: Path,
    values: Array,
    seed: int = 0,
    lr: float = 0.1,
    cohort: Array | None = None,
    metric: str = "ndcg@10",
    test: str = "a1",
    labels: str = "e1",
    users: Any = None,
    ids: Any = None,
    settings: Mapping[str, Any] | None = None,
    task: Mapping[str, Any] | None = None,
) -> Path:
    """A run folder with one metric per user, as training leaves it; of several seeds ``values`` are (S, n)."""
    folder.mkdir(parents=True)
    seeds = np.atleast_2d(values)
    tree = {"seed": seed, "seeds": len(seeds), "logger": {"a": seed}, "optimizer": {"lr": lr}}
    tree |= {"source": {"other": {"stream": "meat/rows"}}, "target": {"buy": {**TASK, **(task or {})}}}
    (folder / "config.yaml").write_text(yaml.safe_dump({**tree, **(settings or {})}))
    (folder / "metrics.json").write_text(json.dumps({"main": {"task": "buy", "metric": metric}}))
    hashes = {"train": folder.name, "val": "b", "test": test}
    of_labels = {"y": {"test": labels}, "aside": {"test": folder.name}}
    card = {"domains": {"dairy": {"split_hashes": hashes, "label_hashes": of_labels},
                        "meat": {"split_hashes": {"train": "c", "val": "d", "test": folder.name}}}}  # fmt: skip
    (folder / "data_card.json").write_text(json.dumps(card))
    owners = np.arange(1, seeds.shape[1] + 1) if users is None else np.asarray(users)
    names = [None if user == 0 else f"user {user}" for user in owners] if ids is None else list(ids)
    frames = []
    for number, own in enumerate(seeds):
        of_seed = {metric: own, "hr@10": own * 0} | ({} if cohort is None else {f"{metric}/cold_user": cohort})
        for arm in ("grafted", "twin"):
            frame = user_values.frame_of({"buy": of_seed | {USER: owners}}, arm=arm, seed=seed + number)
            frames.append(frame.insert_column(5, pl.Series("id", names * len(of_seed), dtype=pl.String)))
    pl.concat(frames).write_parquet(folder / "users.parquet")
    return folder


def noisy(above: float, seeds: int = 3, n: int = 60, seed: int = 0) -> Array:
    """Values (S, n) of the same users, so much above their base on average."""
    random = np.random.default_rng(seed)
    return np.random.default_rng(7).random(n) + above + random.normal(0, 0.05, (seeds, n))


@pytest.mark.parametrize("n", [5, 40, 300])
def test_paired_tests_agree_with_scipy(n: int) -> None:
    random = np.random.default_rng(n)
    a, b = random.normal(size=(2, n))
    b[: n // 3] = a[: n // 3] + np.round(random.normal(size=n // 3), 1)  # ties, and zeros
    t, w = scipy.stats.ttest_rel(a, b), scipy.stats.wilcoxon(a - b)
    assert t_test(a - b) == pytest.approx((t.statistic, t.pvalue))
    assert signed_ranks(a - b) == pytest.approx((w.statistic, w.pvalue))


@pytest.mark.parametrize("n", [1, 2, 5, 13, 50, 51])
def test_few_signed_ranks_are_counted_out(n: int) -> None:
    difference = np.random.default_rng(n).normal(0.3, size=n)
    expected = scipy.stats.wilcoxon(difference, method="exact" if n <= 50 else "asymptotic")
    assert signed_ranks(difference) == pytest.approx((expected.statistic, expected.pvalue))


def test_runs_of_one_seed_are_compared_as_scipy_does(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    a = random.random(80)
    b = a + 0.03 + 0.1 * random.normal(size=80)
    b[3] = np.nan
    report = compare([saved(tmp_path / "a", a), saved(tmp_path / "b", b, lr=0.2)])
    (test,) = report["tests"]
    kept = ~np.isnan(b)
    expected = scipy.stats.ttest_rel(b[kept], a[kept])
    assert (test["p"], test["t"]["p"]) == pytest.approx((expected.pvalue, expected.pvalue))
    assert test["t"]["statistic"] == pytest.approx(expected.statistic)
    assert test["wilcoxon"]["p"] == pytest.approx(scipy.stats.wilcoxon(b[kept] - a[kept], method="asymptotic").pvalue)
    assert (test["n"], test["delta"]) == (79, pytest.approx((b - a)[kept].mean()))
    assert [row["mean"] for row in report["means"]] == pytest.approx([a.mean(), b[kept].mean()])
    assert [group["settings"] for group in report["groups"]] == [{"optimizer.lr": 0.1}, {"optimizer.lr": 0.2}]


def test_seeds_of_one_experiment_are_one_group(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    base, better = random.random((3, 50)), random.random((3, 50)) + 0.5
    for seed in range(3):
        saved(tmp_path / "sweep" / f"a{seed}", base[seed], seed)
        saved(tmp_path / "sweep" / f"b{seed}", better[seed], seed, lr=0.2)
    report = compare([tmp_path / "sweep"])
    assert [len(group["runs"]) for group in report["groups"]] == [3, 3]
    first = report["means"][0]
    assert first["mean"] == pytest.approx(base.mean())
    assert first["spread"] == pytest.approx(base.mean(1).std(ddof=1))
    (test,) = report["tests"]
    assert test["t"]["p"] == pytest.approx(scipy.stats.ttest_rel(better.mean(0), base.mean(0)).pvalue)
    assert (test["seeds"], test["verdict"]) == (3, "better")
    assert test["p"] >= test["t"]["p"]  # seeds count as well


def test_a_run_of_several_seeds_is_a_group_with_these_and_others_join_it(tmp_path: Path) -> None:
    base, better = noisy(0.0, 5), noisy(0.2, 5, seed=1)
    whole = [saved(tmp_path / "a", base[:3]), saved(tmp_path / "b", better[:3], lr=0.2)]
    single = [
        [saved(tmp_path / f"{name}{seed}", values[seed], seed, lr) for seed in range(3)]
        for name, values, lr in (("c", base, 0.1), ("d", better, 0.2))
    ]
    one, other = compare(whole), compare([*single[0], *single[1]])
    assert [group["runs"] for group in one["groups"]] == [dict.fromkeys("012", str(path)) for path in whole]
    assert one["tests"] == other["tests"]
    assert one["means"] == other["means"]
    more = compare([whole[0], saved(tmp_path / "e", base[3:], 3), whole[1], saved(tmp_path / "f", better[3:], 3, 0.2)])
    assert [sorted(group["runs"]) for group in more["groups"]] == [list("01234")] * 2
    assert more["tests"][0]["seeds"] == 5
    again = compare([*whole[:1], saved(tmp_path / "g", base[:3] + 0.01)])  # the same seeds: another group
    assert len(again["groups"]) == 2


def test_how_a_run_went_on_makes_no_other_experiment(tmp_path: Path) -> None:
    ways = [
        {},
        {"resume": "auto", "save_every": 60},
        {"patience": 3, "skip_limit": 9},
        {"workers": 2, "verdicts": ["hr@10"], "baselines": False, "twin": False},
    ]
    folders = [saved(tmp_path / f"{n}", noisy(0.0)[0], n, settings=way) for n, way in enumerate(ways)]
    report = compare(folders)
    assert [sorted(group["runs"]) for group in report["groups"]] == [list("0123")]
    assert len(compare([*folders, saved(tmp_path / "x", noisy(0.0)[0], 9, lr=0.2)])["groups"]) == 2


def test_a_verdict_needs_three_seeds_of_both_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, better = noisy(0.0), noisy(0.5, seed=1)
    first = [saved(tmp_path / f"a{seed}", base[seed], seed) for seed in range(3)]
    second = [saved(tmp_path / f"b{seed}", better[at], seed, 0.2) for at, seed in enumerate((0, 7))]
    (two,) = compare([*first, *second])["tests"]
    assert (two["seeds"], two["verdict"]) == (2, None)
    assert two["p_holm"] < 0.05
    assert run([*map(str, first), *map(str, second)]) == 0
    assert "a verdict needs 3 seeds of each group" in capsys.readouterr().out
    (one,) = compare([first[0], second[0]])["tests"]
    assert (one["seeds"], one["verdict"]) == (1, None)
    third = saved(tmp_path / "b2", better[2], 2, 0.2)
    (three,) = compare([*first, *second, third])["tests"]
    assert (three["seeds"], three["verdict"]) == (3, "better")


def test_the_family_is_the_metric_and_what_all_runs_declared(tmp_path: Path) -> None:
    cold = np.where(np.arange(60) < 9, np.random.default_rng(3).random(60), np.nan)
    declared = {"verdicts": ["ndcg@10/cold_user"]}
    for verdicts, judged in ((None, {"ndcg@10"}), (declared, {"ndcg@10", "ndcg@10/cold_user"})):
        name = f"{len(judged)}"
        base = saved(tmp_path / name / "a", noisy(0.0), cohort=cold, settings=verdicts)
        others = [
            saved(tmp_path / name / f"{n}", noisy(0.04, seed=n), lr=n, cohort=cold, settings=verdicts)
            for n in (1, 2, 3)
        ]
        tests = compare([base, *others])["tests"]
        assert {test["metric"] for test in tests} == {"ndcg@10", "ndcg@10/cold_user"}
        assert {test["metric"] for test in tests if test["verdict"]} == judged
        family = [test for test in tests if test["metric"] in judged]
        assert [test["p_holm"] for test in family] == holm([test["p"] for test in family])
        assert all(test["p_holm"] is None for test in tests if test["metric"] not in judged)


def test_another_target_is_compared_by_its_own_main_metric(tmp_path: Path) -> None:
    folders = [saved(tmp_path / name, noisy(of)) for name, of in (("a", 0.0), ("b", 0.1))]
    for folder in folders:
        frame = pl.read_parquet(folder / "users.parquet")
        other = frame.with_columns(pl.lit("rate").alias("task"), pl.col("metric").replace("ndcg@10", "auc"))
        pl.concat([frame, other]).write_parquet(folder / "users.parquet")
        mains = {"buy": "ndcg@10", "rate": "auc"}
        metrics = {"main": {"task": "buy", "metric": "ndcg@10"}, "mains": mains}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        tree = yaml.safe_load((folder / "config.yaml").read_text())
        tree["target"]["rate"] = tree["target"]["buy"]
        (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    assert compare(folders, task="rate")["metric"] == "auc"


def test_of_an_error_the_smaller_one_is_better(tmp_path: Path) -> None:
    folders = [
        saved(tmp_path / "a", noisy(0.5), metric="rmse"),
        saved(tmp_path / "b", noisy(0.0), 0, 0.2, None, "rmse"),
    ]
    (test,) = compare(folders)["tests"]
    assert (test["delta"] < 0, test["verdict"]) == (True, "better")


def test_identical_runs_are_not_significant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values, cold = np.random.default_rng(0).random((3, 30)), np.full(30, np.nan)
    cold[:2] = 0.1
    folders = [saved(tmp_path / name, values, cohort=cold) for name in "ab"]
    tests = compare(folders)["tests"]
    found = [(test["p"], test["verdict"], test["identical"]) for test in tests]
    assert found == [(1.0, "not significant", True), (1.0, None, True)]
    assert main(["compare", *map(str, folders), f"--out={tmp_path}/found.json"]) == 0
    assert "not significant (identical, seed by seed)" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["tests"][0]["delta"] == 0


def test_rows_of_a_user_are_one(tmp_path: Path) -> None:
    random, owners = np.random.default_rng(0), np.repeat(np.arange(1, 9), 20)
    effect = random.normal(0, 0.3, 8)[owners - 1]
    base = random.random((3, 160))
    runs = [saved(tmp_path / "a", base, users=owners), saved(tmp_path / "b", base + effect, lr=0.2, users=owners)]
    (test,) = compare(runs)["tests"]
    assert (test["n"], test["verdict"]) == (8, "not significant")
    alone = [
        saved(tmp_path / "c", base, users=owners * 0),
        saved(tmp_path / "d", base + effect, 0, 0.2, users=owners * 0),
    ]
    (test,) = compare(alone)["tests"]
    assert test["n"] == 160  # nobody known


def test_users_are_paired_by_their_ids_whatever_their_numbers(tmp_path: Path) -> None:
    """Numbers depend on what else a run reads, and with them the order of users in a ranking."""
    base, better = noisy(0.0), noisy(0.2, seed=1)
    ids = [f"id {n}" for n in range(60)]
    order = np.random.default_rng(5).permutation(60)
    first = saved(tmp_path / "a", base, ids=ids)
    (same,) = compare([first, saved(tmp_path / "b", better, lr=0.2, ids=ids)])["tests"]
    moved = saved(tmp_path / "c", better[:, order], lr=0.2, users=np.arange(100, 160), ids=[ids[n] for n in order])
    (found,) = compare([first, moved])["tests"]
    assert found == same
    fewer = saved(
        tmp_path / "d", better[:, order[:40]], 0, 0.2, users=np.arange(1, 41), ids=[ids[n] for n in order[:40]]
    )
    (found,) = compare([first, fewer])["tests"]
    assert found["n"] == 40  # those that both have
    assert found["delta"] == pytest.approx((better - base)[:, order[:40]].mean())


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "split or data": ({"test": "other"}, r"different test rows \(data or split\): dairy=other and dairy=a1"),
    "labels": ({"labels": "other"}, "different labels in the test: dairy y=other and dairy y=e1"),
    "candidates": ({"settings": {"candidates": {"min_users": 5}}}, "rank different candidates: min_users=5 and none"),
    "lists": ({"settings": {"candidates": {"lists": "l.csv"}}}, "rank different candidates: lists=l.csv and none"),
    "seen": ({"settings": {"candidates": {"seen": True}}}, "rank different candidates: seen=True and none"),
    "column": ({"task": {"column": "z"}}, "judged by different tasks 'buy': .*column=z and .*column=y"),
    "stream": ({"task": {"stream": "dairy/pairs"}}, "judged by different tasks 'buy': stream=dairy/pairs"),
    "space": ({"task": {"space": "click"}}, "judged by different tasks 'buy': .*space=click"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_does_not_belong_together_is_refused_by_name(what: str, tmp_path: Path) -> None:
    more, said = OTHERS[what]
    base = [saved(tmp_path / "a", noisy(0.0)[0]), saved(tmp_path / "fine", noisy(0.1)[0], 0, 0.3)]
    other = saved(tmp_path / "b", noisy(0.0)[0], 0, 0.2, **more)
    with pytest.raises(UserError, match=said) as found:
        compare([*base, other])
    (problem,) = found.value.problems
    assert problem.startswith(f"{other} and {base[0]}")
    assert run([*map(str, base), str(other)]) == 2
    same = saved(tmp_path / "c", noisy(0.0)[0], 1, 0.2, **more)
    assert len(compare([other, same])["groups"]) == 1  # two that agree in it


def test_a_run_without_its_data_card_is_refused(tmp_path: Path) -> None:
    runs = [saved(tmp_path / name, noisy(0.0)[0], lr=n) for n, name in enumerate("ab")]
    for folder in runs:
        (folder / "data_card.json").unlink()
    with pytest.raises(DataError, match=r"data_card.json is missing"):
        compare(runs)


def test_what_nobody_declared_has_no_verdict_whoever_asks(tmp_path: Path) -> None:
    """``--metric`` says what is looked at, after the test was seen."""
    base, better = noisy(0.0), noisy(0.2, seed=1)
    runs = [saved(tmp_path / "a", base, cohort=base[0]), saved(tmp_path / "b", better, lr=0.2, cohort=better[0])]
    by_name = {test["metric"]: test for test in compare(runs)["tests"]}
    assert by_name["ndcg@10"]["verdict"] == "better"
    (asked,) = compare(runs, "ndcg@10/cold_user")["tests"]
    assert (asked["metric"], asked["verdict"], asked["p_holm"]) == ("ndcg@10/cold_user", None, None)
    assert asked["p"] < 1e-6
    declared = {"settings": {"verdicts": ["ndcg@10/cold_user"]}}
    both = [
        saved(tmp_path / "c", base, cohort=base[0], **declared),
        saved(tmp_path / "d", better, lr=0.2, cohort=better[0], **declared),
    ]
    (asked,) = compare(both, "ndcg@10/cold_user")["tests"]
    assert asked["verdict"] == "better"
    (asked,) = compare([both[0], runs[1]], "ndcg@10/cold_user")["tests"]
    assert asked["verdict"] is None  # one of the two declared it


def test_seeds_without_a_partner_are_counted(tmp_path: Path) -> None:
    first, second = noisy(0.0, seeds=5), noisy(0.2, seeds=5, seed=1)
    shifted = [saved(tmp_path / "a", first), saved(tmp_path / "b", second, seed=4, lr=0.2)]
    (test,) = compare(shifted)["tests"]  # seed 4 alone is common: all five are paired, in their order
    assert (test["seeds"], test["seeds_left_out"], test["verdict"]) == (5, 0, "better")
    fewer = [saved(tmp_path / "c", first), saved(tmp_path / "d", second[:3], lr=0.2)]
    (test,) = compare(fewer)["tests"]
    assert (test["seeds"], test["seeds_left_out"]) == (3, 2)
    assert test["delta"] == pytest.approx((second[:3] - first[:3]).mean())


def test_other_training_rows_belong_together(tmp_path: Path) -> None:
    """`saved` gives each run other training rows, and other test rows of the domain that is not judged."""
    folders = [saved(tmp_path / name, noisy(0.0, seed=n), lr=n) for n, name in enumerate("ab")]
    cards = [json.loads((folder / "data_card.json").read_text())["domains"] for folder in folders]
    assert cards[0]["dairy"]["split_hashes"]["train"] != cards[1]["dairy"]["split_hashes"]["train"]
    assert cards[0]["meat"]["split_hashes"]["test"] != cards[1]["meat"]["split_hashes"]["test"]
    assert compare(folders)["tests"][0]["n"] == 60


def test_one_group_has_no_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(saved(tmp_path / "a", np.ones(4)))]) == 0
    assert "nothing to compare" in capsys.readouterr().out
    assert run([]) == 2


def test_what_is_not_there_is_said_with_the_nearest_name(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", np.ones(4))
    for argv, said in (
        (["--metric", "ndgc@10"], "did you mean 'ndcg@10'"),
        (["--task", "by"], "did you mean 'buy'"),
        (["--arm", "grafte"], "did you mean 'grafted'"),
        (["--metrik", "x"], "did you mean 'metric'"),
        (["--out"], "no value"),
    ):
        assert run([str(folder), *argv]) == 2, said
    with pytest.raises(UserError, match="neither a finished run"):
        compare([tmp_path / "nowhere"])
