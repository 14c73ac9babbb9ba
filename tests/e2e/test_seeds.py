"""``graftrec train seeds=3``: every training once, in a folder of its own, and one report over all of them."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import polars as pl
import pytest
import torch

from command import graftrec, in_a_process, started
from graftrec.evaluation.report import plots
from graftrec.runs.recommender import Recommender
from graftrec.training.checkpoints.checkpoint import configuration, load, weights
from graftrec.utils import fault_injection
from graftrec.utils.atomic_files import MARKER

SHORT = [
    "transfer.epochs=1", "++trainer.limit_train_batches=3", "++trainer.log_every_n_steps=1", "encoder.width=8",
    "trunk=shared_bottom",
]  # fmt: skip
STEPS = 4  # batches of a training of the tiny planted data
TINY = [f"++dataset.{key}={value}" for key, value in {
    "users": 30, "items": 20, "rows": 200, "source_rows": 200, "val": 100, "test": 150
}.items()]  # fmt: skip
PLANTED = ["experiment=planted", *TINY, "transfer.epochs=1", "task@source=[planted_help]"]
TIMES = ("seconds", "seconds_of_all", "rows_per_second", "limit", "flops_per_second", "model_flops_utilisation",
         "utilisation")  # fmt: skip
ARMS = {"joint": "checkpoints", "twin": "checkpoints/twin"}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As the processes have it, so that a run of one seed is the same as one of several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def faults_count_anew() -> None:
    fault_injection._passed.clear()


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Plots and pages take longer than such trainings."""
    with ExitStack() as patched:
        report = ("plots.learning_curves", "plots.comparison", "run_page.write_report")
        for name in (*(f"evaluation.report.{each}" for each in report), "runs.audit.heat_map.draw"):
            patched.enter_context(patch(f"graftrec.{name}"))
        yield


@pytest.fixture
def undrawn() -> Iterator[None]:
    with nothing_drawn():
        yield


def metrics_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return found


def text_of(run: Path) -> str:
    """metrics.json without what tells the time."""

    def kept(tree: Any) -> Any:
        return {key: kept(part) for key, part in tree.items() if key not in TIMES} if isinstance(tree, dict) else tree

    return json.dumps(kept(metrics_of(run)), indent=2)


def outcomes(run: Path) -> dict[Path, int]:
    """Each training that has ended, and when."""
    return {path.relative_to(run): path.stat().st_mtime_ns for path in run.rglob("outcome.json")}


# --- the folder, its numbers and its words


@pytest.fixture(scope="module")
def settings(shop_settings: list[str]) -> list[str]:
    return [*shop_settings, *SHORT, "seed=4"]


@pytest.fixture(scope="module")
def said(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of three seeds, and what it printed."""
    place = tmp_path_factory.mktemp("three")
    done = graftrec("train", *settings, "seeds=3", "workers=1", "hydra.run.dir=run", cwd=place)
    return place / "run", done.stdout


@pytest.fixture(scope="module")
def three(said: tuple[Path, str]) -> Path:
    return said[0]


@pytest.fixture(scope="module")
def one(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the first seed alone."""
    place = tmp_path_factory.mktemp("one")
    with nothing_drawn():
        graftrec("train", *settings, "baselines=false", "hydra.run.dir=run", cwd=place)
    return place / "run"


def folder_of(run: Path, seed: int, phase: str = "joint") -> Path:
    return (run if seed == 4 else run / "seeds" / str(seed)) / ARMS[phase]


def test_each_training_has_its_folder_and_the_run_one_report(three: Path) -> None:
    hidden = {str(path.relative_to(three)) for path in three.rglob(".*")}
    assert hidden == {MARKER, f"checkpoints/{MARKER}", f"seeds/{MARKER}"}  # what the next run may take away
    assert {path.name for path in three.iterdir()} == {
        MARKER, "checkpoints", "seeds", "comparison.png", "config.yaml", "data_card.json", "learning_curves.png",
        "metrics.csv", "metrics.json", "report.html", "status.json", "users.parquet",
    }  # fmt: skip
    assert {path.name for path in (three / "seeds").iterdir()} == {MARKER, "5", "6"}
    left = {"best.ckpt", "last.ckpt", "manifest.json", "outcome.json", "units.parquet", "metrics.csv"}
    for seed in (4, 5, 6):
        for phase in ARMS:
            here = folder_of(three, seed, phase)
            assert {path.name for path in here.iterdir() if path.is_file()} - {MARKER} == left
            assert configuration(here / "best.ckpt")["seed"] == seed
    for name, count in (("report.html", 1), ("metrics.json", 1), ("*.png", 2), ("*.ckpt", 12)):
        assert len(list(three.rglob(name))) == count, name


def test_its_numbers_are_those_of_its_trainings(three: Path) -> None:
    metrics, seeds = metrics_of(three), [4, 5, 6]
    assert metrics["seeds"] == seeds
    compared = 0
    for part, stage, phase in (("test", "test", "joint"), ("val", "val", "joint"), ("twin", "test", "twin")):
        of_seeds = [json.loads((folder_of(three, seed, phase) / "outcome.json").read_text())[stage] for seed in seeds]
        assert set(metrics[part]) == set(of_seeds[0])
        for task, found in metrics[part].items():
            assert set(found) == {name for each in of_seeds for name in each[task]}
            for name, mean in found.items():
                values = [each[task][name]["value"] for each in of_seeds]
                if None in values:
                    assert mean is None
                    assert metrics["reasons"][f"{part}/{task}/{name}"]
                    continue
                compared += 1
                assert mean == pytest.approx(statistics.fmean(values), abs=1e-12)
                assert metrics["by_seed"][part][task][name] == values
                assert metrics["spread"][part][task][name] == pytest.approx(statistics.stdev(values), abs=1e-12)
    assert compared > 50
    assert len(set(metrics["by_seed"]["test"]["recommend"]["ndcg@10"])) == 3  # each seed is another training
    for name, difference in metrics["differences"]["recommend"].items():
        ours, theirs = metrics["test"]["recommend"][name], metrics["twin"]["recommend"][name]
        assert difference["delta"] == pytest.approx(ours - theirs, abs=1e-6)
        assert difference["seeds"] == 3
    assert metrics["family"] == {"size": 1, "declared": []}
    judged = {name for name, each in metrics["differences"]["recommend"].items() if each["verdict"] is not None}
    assert judged == {"ndcg@10"}


def test_users_parquet_has_each_seed_and_the_raw_ids(three: Path) -> None:
    users, metrics = pl.read_parquet(three / "users.parquet"), metrics_of(three)
    assert users.columns == ["arm", "seed", "task", "metric", "user", "id", "value"]
    seeds = {arm: set(part["seed"]) for (arm,), part in users.group_by("arm")}
    assert seeds["grafted"] == seeds["twin"] == {4, 5, 6}
    assert all(found == {None} for arm, found in seeds.items() if arm not in ("grafted", "twin"))
    assert "own_frequency" in seeds
    own = users.filter((pl.col("arm") == "grafted") & (pl.col("task") == "recommend") & (pl.col("metric") == "ndcg@10"))
    for seed, value in zip((4, 5, 6), metrics["by_seed"]["test"]["recommend"]["ndcg@10"], strict=True):
        assert own.filter(pl.col("seed") == seed)["value"].mean() == pytest.approx(value, abs=1e-6)
    assert set(own["id"]) == {str(user) for user in range(1, 13) if user != 11}  # who buys something in the test


def test_the_log_has_a_column_for_the_seed(three: Path) -> None:
    log = pl.read_csv(three / "metrics.csv", infer_schema=False)
    assert log.columns[:4] == ["phase", "step", "epoch", "seed"]
    assert log["step"].cast(int).is_sorted()
    for seed in (4, 5, 6):
        for phase in ARMS:
            own = pl.read_csv(folder_of(three, seed, phase) / "metrics.csv", infer_schema=False)
            rows = log.filter((pl.col("seed") == str(seed)) & (pl.col("phase") == phase))
            assert len(own) == len(rows) > 3
            for name in own.columns[2:]:
                ours, theirs = (table[name].cast(float).to_list() for table in (rows, own))
                assert ours == theirs, name


def test_the_plot_has_a_line_for_each_seed(three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(plots, "save", lambda figure, out: figures.append(figure))
    plots.learning_curves(three / "metrics.csv", tmp_path / "x.png", ["recommend"], "ndcg@10")
    (panel,) = [axes for axes in figures[0].axes if axes.get_title(loc="left") == "loss · target"]
    drawn = [line.get_color() for line in panel.lines if len(line.get_xdata())]
    assert drawn == [plots.GRAFTED] * 3 + [plots.TWIN] * 3
    assert (three / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_it_says_what_is_to_come_and_a_line_for_each_training(said: tuple[Path, str]) -> None:
    screen = said[1]
    lines = [line for line in screen.splitlines() if re.match(r"\d/6  ", line)]
    assert "6 trainings (3 seeds), one after the other; a line for each that ends" in screen.partition(lines[0])[0]
    found = [
        re.match(r"(\d)/6  (\w+), seed (\d)  training [\d.]+ s, val [\d.]+  \d+:\d\d left$", line) for line in lines
    ]
    assert [match and match.groups() for match in found] == [
        (str(1 + at), ("grafted", "twin")[at % 2], str(4 + at // 2)) for at in range(6)
    ]
    page, metrics = (said[0] / "report.html").read_text(), metrics_of(said[0])
    users = metrics["differences"]["recommend"]["ndcg@10"]["n"]
    assert users < 30  # so few are counted
    sentence = rf"^No evidence of a transfer: recommend ndcg@10 \S+ \[\S+ \S+\] of {users} users, over 3 seeds$"
    assert re.search(sentence, screen, re.MULTILINE)
    assert "over 3 seeds" in page
    count = metrics["differences"]["recommend"]["ndcg@10/first_time"]["n"]
    assert 1 < count < 30
    for text in (screen, page):
        assert re.search(rf"first time: \S+ \[\S+ \S+\], {count} users", text)
        assert re.search(r"cold user: [+-]\S+, 1 user\b", text)
        assert "±" in text


def test_it_serves_what_the_first_seed_learnt(three: Path, one: Path) -> None:
    first, alone, second = (
        weights(path / "best.ckpt") for path in (three / ARMS["joint"], one / ARMS["joint"], folder_of(three, 5))
    )
    assert all(torch.equal(value, alone[name]) for name, value in first.items())
    assert not all(torch.equal(value, second[name]) for name, value in first.items())
    by_seed, own = metrics_of(three)["by_seed"], metrics_of(one)
    for part in ("test", "twin"):
        assert by_seed[part]["recommend"]["ndcg@10"][0] == own[part]["recommend"]["ndcg@10"]
    ranked = Recommender.load(three).recommend([1, 2, 12], k=5)
    assert ranked.equals(Recommender.load(one).recommend([1, 2, 12], k=5))


# --- what one and two seeds may not say


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_or_two_seeds_give_no_verdict(seeds: int, tmp_path: Path) -> None:
    sizes = {"users": 60, "items": 40, "rows": 300, "source_rows": 1500, "val": 200, "test": 600}
    words = [f"++dataset.{key}={value}" for key, value in sizes.items()]
    words += ["experiment=planted", "transfer.epochs=6", "task@source=[planted_hurt]", "baselines=true"]
    done = graftrec("train", *words, f"seeds={seeds}", "workers=1", "verdicts=[gauc]", "hydra.run.dir=r", cwd=tmp_path)
    metrics = metrics_of(tmp_path / "r")
    (differences,) = metrics["differences"].values()
    assert seeds == 2 or differences["auc"]["p_holm"] < 0.05  # over users alone: of three seeds it would be a verdict
    compared = [*differences.values(), *metrics["beside"]["planted_target"]["grafted"].values()]
    compared += metrics["beside"]["planted_target"]["twin"].values()
    assert len(compared) > 4
    assert {each["verdict"] for each in compared} == {None}
    page = re.sub(r"<style>.*?</style>|<img .*?>", "", (tmp_path / "r" / "report.html").read_text(), flags=re.DOTALL)
    few = {
        1: "with seed 0 alone; another seed may say otherwise: seeds=5 or graftrec audit judges",
        2: "with 2 seeds; 3 or more give a verdict",
    }[seeds]
    for text in (done.stdout, page):
        assert few in " ".join(text.split())
        assert re.search(r"\bhelps\b|\bhurts\b|transfer (helped|hurt)|[Nn]o evidence|(better|worse) than", text) is None


# --- the audit


def test_an_audit_of_the_same_arms_says_the_same(whole: Path, tmp_path: Path, undrawn: None) -> None:
    more = ["audit.seeds=3", "audit.twins=[same]", "audit.workers=1", "hydra.run.dir=audit"]
    graftrec("audit", *PLANTED, *more, cwd=tmp_path)
    differences = metrics_of(whole)["differences"]["planted_target"]
    cells = json.loads((tmp_path / "audit" / "audit.json").read_text())["cells"]
    found = {"/".join(filter(None, (cell["metric"], cell["cohort"]))): cell for cell in cells}
    assert {"auc", "log_loss", "gauc"} <= set(found) <= set(differences)
    for name, cell in found.items():
        for key in ("delta", "low", "high", "error", "p", "p_holm", "minimum_detectable", "verdict"):
            assert cell[key] == differences[name][key], (name, key)
    assert differences["auc"]["p_holm"] is not None
    one, other = (pl.read_parquet(path / "users.parquet") for path in (whole, tmp_path / "audit"))
    one = one.filter(pl.col("task") == "planted_target")
    other = other.with_columns(pl.col("arm").replace({"planted_help": "grafted"}))
    keys = ["arm", "seed", "metric", "user", "value"]
    assert one.select(keys).sort(keys).equals(other.select(keys).sort(keys))


# --- stopped and gone on with


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing stops."""
    place = tmp_path_factory.mktemp("whole")
    with nothing_drawn():
        graftrec("train", *PLANTED, "seeds=3", "workers=1", "hydra.run.dir=run", cwd=place)
    return place / "run"


def test_a_stopped_run_repeats_no_training(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    words = ["train", *PLANTED, "seeds=3", "workers=1", "hydra.run.dir=run", "resume=auto"]
    monkeypatch.setenv(fault_injection.VARIABLE, f"train:{3 * STEPS + 3}:sigterm")
    graftrec(*words, cwd=tmp_path, code=143)
    monkeypatch.delenv(fault_injection.VARIABLE)
    run = tmp_path / "run"
    before = outcomes(run)
    assert set(map(str, before)) == {
        "checkpoints/outcome.json", "checkpoints/twin/outcome.json", "seeds/1/checkpoints/outcome.json",
    }  # fmt: skip
    assert (run / "seeds/1/checkpoints/twin/last.ckpt").is_file()  # goes on from there
    assert not (run / "metrics.json").exists()
    done = graftrec(*words, cwd=tmp_path)
    assert "6 trainings (3 seeds), 3 of them finished before, one after the other" in done.stdout
    assert re.findall(r"^\d/3  (.*?)  ", done.stdout, re.MULTILINE) == [
        "twin, seed 1",
        "grafted, seed 2",
        "twin, seed 2",
    ]
    assert {path: time for path, time in outcomes(run).items() if path in before} == before
    assert text_of(run) == text_of(whole)
    assert (run / "users.parquet").read_bytes() == (whole / "users.parquet").read_bytes()
    one, other = (pl.read_csv(each / "metrics.csv").select(pl.exclude("^train/.*flop.*$")) for each in (run, whole))
    assert one.equals(other)
    again = graftrec(*words, cwd=tmp_path)
    assert "finished before, not run again" in again.stdout


@pytest.mark.slow
def test_a_run_that_begins_anew_uses_nothing_of_the_last_one(whole: Path, tmp_path: Path, undrawn: None) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    for path in run.rglob("outcome.json"):
        path.write_text(path.read_text().replace('"value": 0', '"value": 1'))
    before = outcomes(run)
    graftrec("train", *PLANTED, "seeds=3", "workers=1", "hydra.run.dir=run", cwd=tmp_path)
    assert all(time > before[path] for path, time in outcomes(run).items())
    assert text_of(run) == text_of(whole)
    graftrec("train", *PLANTED, "seeds=2", "workers=1", "hydra.run.dir=run", cwd=tmp_path)
    assert {path.name for path in (run / "seeds").iterdir()} == {"1", ".graftrec.json"}


@pytest.mark.slow
def test_a_checkpoint_that_was_asked_for_and_is_damaged_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    words = ["train", *PLANTED, "seeds=2", "workers=1", "hydra.run.dir=run", "save_every=0"]
    monkeypatch.setenv(fault_injection.VARIABLE, f"train:{STEPS + 3}:sigterm")
    graftrec(*words, cwd=tmp_path, code=143)
    monkeypatch.delenv(fault_injection.VARIABLE)
    last = tmp_path / "run" / "checkpoints" / "twin" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    assert "CKPT-003" in graftrec(*words, f"resume={last}", cwd=tmp_path, code=65).stderr
    assert re.search(r"1/3  twin, seed 0  training .*is damaged.*; going on from",
                     graftrec(*words, "resume=auto", cwd=tmp_path).stdout)  # fmt: skip


@pytest.mark.slow
def test_a_stopped_sweep_repeats_no_training(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    words = ["train", "-m", *PLANTED, "seeds=3", "workers=1", "lambda_shared=0,1", "resume=auto"]
    monkeypatch.setenv(fault_injection.VARIABLE, f"train:{9 * STEPS + 2}:sigterm")
    graftrec(*words, cwd=tmp_path, code=143)
    monkeypatch.delenv(fault_injection.VARIABLE)
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    before = outcomes(sweep)
    assert len(before) == 6 + 3
    done = graftrec(*words, cwd=tmp_path).stdout
    assert "finished before, not run again" in done
    assert "6 trainings (3 seeds), 3 of them finished before" in done
    after = outcomes(sweep)
    assert len(after) == 12
    assert {path: time for path, time in after.items() if path in before} == before
    runs = [path.parent for path in sweep.glob("*/metrics.json")]
    assert len(runs) == 2
    assert {text_of(run) for run in runs} == {text_of(whole)}  # nothing is shared, so lambda changes nothing


@pytest.mark.slow
def test_a_stopped_search_for_sources_repeats_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    words = ["train", *PLANTED, "transfer=auto", "seeds=3", "workers=1", "resume=auto"]
    graftrec(*words, "hydra.run.dir=whole", cwd=tmp_path)
    found = metrics_of(tmp_path / "whole")["auto"]
    assert found["strengths"] == {}  # too little data for a clear gain: the target alone
    monkeypatch.setenv(fault_injection.VARIABLE, f"train:{(found['trials'] + 1) * STEPS + 2}:sigterm")
    graftrec(*words, "hydra.run.dir=run", cwd=tmp_path, code=143)
    monkeypatch.delenv(fault_injection.VARIABLE)
    run = tmp_path / "run"
    kept = {
        path: path.stat().st_mtime_ns for path in [*run.glob("trials/*/status.json"), run / "checkpoints/outcome.json"]
    }
    assert len(kept) == found["trials"] + 1 > 6
    done = graftrec(*words, "hydra.run.dir=run", cwd=tmp_path)
    assert "3 trainings (3 seeds), 1 of them finished before" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert text_of(run) == text_of(tmp_path / "whole")
    assert not list(run.rglob("twin"))


def children_of(pid: int) -> set[Path]:
    """Where /proc has the processes that another one has started; none of those that have ended."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.add(path)
    return found


def wait_until(there: Callable[[], Any], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_processes_change_no_number_and_go_with_the_first(whole: Path, tmp_path: Path) -> None:
    """Each counts its own batches, and hangs in its second training: nothing but the first one's end could end them."""
    words = ["train", *PLANTED, "seeds=3", "workers=2", "hydra.run.dir=run", "resume=auto"]
    running = started(*words, cwd=tmp_path, GRAFTREC_FAULT=f"train:{2 * STEPS}:hang")
    run = tmp_path / "run"
    wait_until(lambda: len(outcomes(run)) == 2)
    children = children_of(running.pid)
    assert len(children) >= 2
    running.kill()
    running.communicate()
    wait_until(lambda: not any(path.exists() for path in children), 10)
    before = outcomes(run)
    said = in_a_process(*words, cwd=tmp_path)
    assert "6 trainings (3 seeds), 2 of them finished before, 2 at a time" in said
    assert {path: time for path, time in outcomes(run).items() if path in before} == before
    assert text_of(run) == text_of(whole)


@pytest.mark.slow
def test_a_signal_lets_each_process_save_what_it_has(tmp_path: Path) -> None:
    words = ["train", "experiment=planted", "task@source=[planted_help]", "transfer.epochs=1000", "seeds=3"]
    running = started(*words, "workers=2", "hydra.run.dir=run", cwd=tmp_path)
    folders = [tmp_path / "run" / "checkpoints", tmp_path / "run" / "checkpoints" / "twin"]
    wait_until(lambda: all((folder / "last.ckpt").is_file() for folder in folders))
    asked = time.time()
    running.terminate()
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 143, said
    assert "continue with: graftrec train" in said
    for folder in folders:
        assert (folder / "last.ckpt").stat().st_mtime > asked
        load(folder / "last.ckpt")
        assert not (folder / "outcome.json").exists()


@pytest.mark.slow
def test_two_processes_that_train_together_go_on(whole: Path, tmp_path: Path) -> None:
    ddp = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
    words = ["train", *PLANTED, *ddp, "seeds=3", "hydra.run.dir=run", "resume=auto"]
    said = in_a_process(*words, cwd=tmp_path, code=143, GRAFTREC_FAULT=f"train:{2 * STEPS + 2}:sigterm@0")
    assert re.findall(r"^\d/6  (.*?)  ", said, re.MULTILINE) == ["grafted, seed 0", "twin, seed 0"]
    run = tmp_path / "run"
    before = outcomes(run)
    assert len(before) == 2
    said = in_a_process(*words, cwd=tmp_path)
    assert "6 trainings (3 seeds), 2 of them finished before, one after the other" in said
    assert len(re.findall(r"^\d/4  ", said, re.MULTILINE)) == 4
    assert {path: time for path, time in outcomes(run).items() if path in before} == before
    ours, theirs = metrics_of(run), metrics_of(whole)
    assert len(ours["fit"]["ranks"]) == 2
    for part in ("test", "twin"):
        for task, values in theirs["by_seed"][part].items():  # ranks of near ties may differ
            assert ours["by_seed"][part][task]["log_loss"] == pytest.approx(values["log_loss"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("least", "state", "reports"), [(0.0, "finished", 2), (2.0, "pruned", 1)])
def test_a_search_prunes_by_the_first_seed(least: float, state: str, reports: int, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    words = [
        "train", "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", "hydra.sweeper.pruner=ThresholdPruner",
        f"++hydra.sweeper.pruner_options.lower={least}", "optimizer.lr=tag(log,interval(1e-3,1e-1))", *PLANTED,
        "transfer.epochs=2", "seeds=2", "workers=2", "twin=false",
    ]  # fmt: skip
    graftrec(*words, cwd=tmp_path)
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    (trial,) = optuna.load_study(study_name="sweep", storage=f"sqlite:///{sweep}/study.db").trials
    (job,) = json.loads((sweep / "sweep.json").read_text())["jobs"]
    assert (job["state"], len(trial.intermediate_values)) == (state, reports)
    if state == "finished":
        log = pl.read_csv(sweep / job["folder"] / "checkpoints" / "metrics.csv")
        scores = log["val/score"].drop_nulls().to_list()[:reports]
        assert list(trial.intermediate_values.values()) == pytest.approx(scores, abs=1e-6)


# --- several targets


@pytest.mark.slow
def test_each_of_several_targets_has_a_twin_of_its_own(tmp_path: Path, undrawn: None) -> None:
    tiny = ["experiment=planted", *TINY, "transfer.epochs=1"]
    both = ["task@source=[planted_help]", "task@target=[planted_target,planted_noise]", "verdicts=[gauc]"]
    done = graftrec("train", *tiny, *both, "seeds=3", "workers=1", "hydra.run.dir=both", cwd=tmp_path)
    assert "9 trainings (3 seeds)" in done.stdout
    assert "twin of planted_noise, seed 2" in done.stdout
    found, names = metrics_of(tmp_path / "both"), ["planted_target", "planted_noise"]
    for name, other in (names, names[::-1]):
        for folder in ("", "seeds/1/", "seeds/2/"):
            tree = configuration(tmp_path / "both" / f"{folder}checkpoints" / "twin" / name / "best.ckpt")
            assert (list(tree["target"]), tree["source"], tree["shared"]) == ([name], {}, {})
        alone = [f"task@source=[planted_help,{other}]", f"task@target=[{name}]", "seeds=1", f"hydra.run.dir={name}"]
        graftrec("train", *tiny, *alone, cwd=tmp_path)
        own = metrics_of(tmp_path / name)  # where the other target is a source, its twin is the same
        for metric, value in own["twin"][name].items():
            assert found["by_seed"]["twin"][name][metric][0] == value, metric
        for metric in ("auc", "gauc"):
            assert found["differences"][name][metric]["verdict"] is not None
    assert found["family"] == {"size": 4, "declared": ["gauc"]}


# --- what is declared


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verdicts=[auk]"], ["verdicts: no target has values per user of 'auk'; did you mean 'auc'?"]),
        (["verdicts=[auc/cold_usr]"], ["verdicts: 'auc/cold_usr': there is no cohort 'cold_usr'", "'cold_user'"]),
        (["verdicts=[ece]"], ["verdicts: no target has values per user of 'ece'"]),
    ],
)
def test_what_cannot_have_a_verdict_is_refused_before_training(
    words: list[str], said: list[str], tmp_path: Path
) -> None:
    done = graftrec("train", *PLANTED, *words, "seeds=3", "hydra.run.dir=r", cwd=tmp_path, code=2)
    assert all(part in done.stderr for part in said), done.stderr
    assert "trainings" not in done.stdout
    assert list(tmp_path.iterdir()) == []
