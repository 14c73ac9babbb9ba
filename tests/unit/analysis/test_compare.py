from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.stats

from graftrec.analysis.compare import compare, run
from graftrec.analysis.paired import signed_ranks, t_test
from graftrec.cli import main
from graftrec.errors import UserError


def saved(folder: Path, values: np.ndarray, seed: int = 0, lr: float = 0.1, cohort: np.ndarray | None = None) -> Path:
    """A run folder with one metric per user, as training leaves it."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"seed: {seed}\nlogger: {{a: {seed}}}\noptimizer: {{lr: {lr}}}\n")
    (folder / "metrics.json").write_text(json.dumps({"main": {"task": "buy", "metric": "ndcg@10"}}))
    frames = []
    for metric, own in {"ndcg@10": values, "ndcg@10/cold_user": cohort, "hr@10": values * 0}.items():
        if own is not None:
            frame = pl.DataFrame({"user": np.arange(len(own)), "value": own.astype(float)})
            head = (pl.lit("grafted").alias("arm"), pl.lit("buy").alias("task"), pl.lit(metric).alias("metric"))
            frames.append(frame.select(*head, "user", "value"))
    pl.concat(frames).write_parquet(folder / "users.parquet")
    return folder


@pytest.mark.parametrize("n", [5, 40, 300])
def test_paired_tests_agree_with_scipy(n: int) -> None:
    random = np.random.default_rng(n)
    a, b = random.normal(size=(2, n))
    b[: n // 3] = a[: n // 3] + np.round(random.normal(size=n // 3), 1)  # ties, and zeros
    t, w = scipy.stats.ttest_rel(a, b), scipy.stats.wilcoxon(a - b, method="asymptotic")
    assert t_test(a - b) == pytest.approx((t.statistic, t.pvalue))
    assert signed_ranks(a - b) == pytest.approx((w.statistic, w.pvalue))


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


def test_identical_runs_are_not_significant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values, cold = np.random.default_rng(0).random(30), np.array([0.1, np.nan])
    folders = [saved(tmp_path / name, values, cohort=cold) for name in "ab"]
    tests = compare(folders)["tests"]
    assert [(test["p"], test["verdict"], test["identical"]) for test in tests] == [(1.0, "not significant", True)] * 2
    assert main(["compare", *map(str, folders), f"--out={tmp_path}/found.json"]) == 0
    assert "not significant (identical)" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["tests"][0]["delta"] == 0


def test_one_group_has_no_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([str(saved(tmp_path / "a", np.ones(4)))]) == 0
    assert "nothing to compare" in capsys.readouterr().out
    assert run([]) == 2
    assert run(["--help"]) == 0


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
