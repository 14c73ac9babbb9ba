"""The Optuna sweeper on a scratch conf with a trainer that is a function: what it draws, prunes, keeps and refuses."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from graftrec.cli import main
from graftrec.config import instantiate
from graftrec.runs.sweep import sweep_page
from graftrec.training.callbacks import optuna_trial
from graftrec.utils.errors import Pruned

TRAIN = """
defaults: [_self_, override hydra/job_logging: stdout]
source: {}
target: {buy: {_target_: graftrec.utils.errors.DataError, code: a, message: b}}
shared: {}
x: 0.0
kind: a
hydra:
  run: {dir: runs/one}
  sweep: {dir: 'runs/sweeps/${fingerprint:sweep}', subdir: '${fingerprint:}'}
  output_subdir: null
"""
SEARCH = ["train", "-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=6"]
SPACE = ["x=interval(-1,1)", "kind=a,b"]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """What was trained; the score is best at x = 0.5, kind b, and rises over three epochs to it."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "train.yaml").write_text(TRAIN)
    monkeypatch.setattr(instantiate, "conf_dir", lambda: tmp_path / "conf")
    monkeypatch.setattr(instantiate, "TASK", ("graftrec.utils.errors.DataError",))  # it has to be some class of ours
    monkeypatch.chdir(tmp_path)
    for picture in ("parallel", "shares_png"):
        monkeypatch.setattr(sweep_page, picture, lambda *given: None)
    calls: list[tuple[float, str]] = []

    def train(tree: dict[str, Any], out: Path) -> float:
        calls.append((tree["x"], tree["kind"]))
        (out / "train.log").write_text("x")
        if (tmp_path / "fail").exists():
            raise RuntimeError("on purpose")
        score: float = -((tree["x"] - 0.5) ** 2) - (0.0 if tree["kind"] == "b" else 1.0)
        (out / "metrics.json").write_text(
            json.dumps({"fit": {"seconds": 2 - tree["x"]}, "val": {"buy": {"auc": score}}})
        )
        watched = optuna_trial.current()
        for epoch in range(3):
            if watched is not None and watched.is_hopeless(score - (2 - epoch) / 10, epoch):
                raise Pruned("behind")
        return score

    module = ModuleType("graftrec.runs.train")
    module.train = train  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "graftrec.runs.train", module)
    return calls


def sweep_of(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "runs" / "sweeps").iterdir()
    return found


def study_of(tmp_path: Path) -> optuna.Study:
    return optuna.load_study(study_name="sweep", storage=f"sqlite:///{sweep_of(tmp_path)}/study.db")


def test_six_trials_and_not_one_more(trained: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([*SEARCH, *SPACE]) == 0
    found = study_of(tmp_path)
    assert [each.state for each in found.trials] == [TrialState.COMPLETE] * 6
    assert [(each.params["x"], each.params["kind"]) for each in found.trials] == trained
    report = json.loads((sweep_of(tmp_path) / "sweep.json").read_text())
    best = max(report["jobs"], key=lambda job: job["score"])
    assert report["best"]["folder"] == best["folder"] == Path(found.best_trial.user_attrs["folder"]).name
    assert report["best"]["command"] == f"graftrec train x={found.best_params['x']} kind={found.best_params['kind']}"
    assert main.main([*SEARCH, *SPACE]) == 0
    assert len(trained) == 6
    assert main.main([*SEARCH, *SPACE, "hydra.sweeper.n_trials=7"]) == 0
    assert len(trained) == len(study_of(tmp_path).trials) == 7
    assert os.environ.get(optuna_trial.VARIABLE) is None
    assert "study.db" not in capsys.readouterr().out  # a storage may hold a password


def test_a_trial_that_is_behind_is_pruned(
    trained: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pruner = ["hydra.sweeper.pruner=MedianPruner", "hydra.sweeper.pruner_options.n_startup_trials=2"]
    assert main.main([*SEARCH, *SPACE, *pruner]) == 0
    found = study_of(tmp_path).trials
    pruned = [each for each in found if each.state == TrialState.PRUNED]
    assert pruned
    for each in pruned:  # by hand: its epoch's value is below the median of those that were complete before
        earlier = [other for other in found[: each.number] if other.state == TrialState.COMPLETE]
        at = max(each.intermediate_values)
        assert each.intermediate_values[at] < sorted(e.intermediate_values[at] for e in earlier)[len(earlier) // 2]
    jobs = json.loads((sweep_of(tmp_path) / "sweep.json").read_text())["jobs"]
    assert [job["state"] for job in jobs] == ["pruned" if each in pruned else "finished" for each in found]
    assert all(job["exit_code"] == 0 for job in jobs)
    status = json.loads((Path(pruned[0].user_attrs["folder"]) / "status.json").read_text())
    assert (status["state"], status["exit_code"], status["reason"]) == ("pruned", 0, "behind")
    assert "pruned" in capsys.readouterr().out


def job(status: JobStatus, value: Any) -> JobReturn:
    done = JobReturn(status=status)
    done.return_value = value
    return done


@pytest.mark.parametrize("sampler", ["TPESampler", "RandomSampler", "QMCSampler"])
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_search_that_was_cut_off_goes_on_as_if_it_had_not_been(sampler: str, tmp_path: Path) -> None:
    from hydra_plugins.graftrec_optuna import _study

    def draw(folder: str, stop_at: int = 0) -> list[float]:
        """What is run: at ``stop_at`` a process is killed between the launch of a trial and its end."""
        space: Any = {"x": ("x", FloatDistribution(-1.0, 1.0))}
        search = _study.Search(tmp_path / folder, space, n_trials=13, sampler=sampler)  # TPE begins with 10 at random
        search.begin([], [])
        drawn = []
        while trials := search.next():
            drawn.append(trials[0].params["x"])
            if len(drawn) == stop_at:
                break
            search.tell(trials[0], job(JobStatus.COMPLETED, -abs(drawn[-1] - 0.5)))
        return drawn

    whole = draw("whole")
    assert draw("parts", stop_at=12) == whole[:12]
    assert draw("parts") == whole[11:]
    assert draw("parts") == []
    assert len(set(whole)) == 13


def test_how_a_job_ended_is_told(tmp_path: Path) -> None:
    from hydra_plugins.graftrec_optuna import _study

    search = _study.Search(tmp_path, {"x": ("x", IntDistribution(0, 9))}, n_trials=5, n_jobs=5)
    search.begin([], [])
    trials = search.next()
    ends = [(JobStatus.COMPLETED, 0.5), (JobStatus.COMPLETED, float("nan")), (JobStatus.FAILED, RuntimeError())]
    ends += [(JobStatus.FAILED, Pruned("behind"))]
    for each, (status, value) in zip(trials, ends, strict=False):
        search.tell(each, job(status, value))
    assert [each.state.name for each in search.study.trials] == ["COMPLETE", "FAIL", "FAIL", "PRUNED", "RUNNING"]
    assert search.next() == []


def test_failed_trials_are_replaced_by_the_next_call(trained: list[Any], tmp_path: Path) -> None:
    (tmp_path / "fail").write_text("")
    assert main.main([*SEARCH, *SPACE, "hydra.sweeper.n_trials=2"]) == 1
    assert {each.state for each in study_of(tmp_path).trials} == {TrialState.FAIL}
    (tmp_path / "fail").unlink()
    assert main.main([*SEARCH, *SPACE, "hydra.sweeper.n_trials=2"]) == 0
    assert [each.state.name for each in study_of(tmp_path).trials] == ["FAIL", "FAIL", "COMPLETE", "COMPLETE"]


def test_several_objectives(trained: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["hydra.sweeper.objectives=[val/buy/auc,fit/seconds]", "hydra.sweeper.directions=[maximize,minimize]"]
    assert main.main([*SEARCH, *SPACE, *words, "hydra.sweeper.n_trials=4"]) == 0
    found = study_of(tmp_path)
    for each in found.trials:
        x, kind = each.params["x"], each.params["kind"]
        assert each.values == pytest.approx([-((x - 0.5) ** 2) - (kind == "a"), 2 - x])
    front = {job["folder"] for job in json.loads((sweep_of(tmp_path) / "sweep.json").read_text())["front"]}
    assert front == {Path(each.user_attrs["folder"]).name for each in found.best_trials}
    assert capsys.readouterr().out.count("front   ") == len(front)


WRONG = [
    (["x=1"], ["there is nothing to search"]),
    (["x=tag(log,interval(-1,1))", "kind=tag(log,range(0.5,2,0.5))"], ["x=tag(log", "kind=tag(log", "no log scale"]),
    (
        [*SPACE, "hydra.sweeper.sampler=TPESamplr", "hydra.sweeper.pruner=MedianPruner", "hydra.sweeper.n_jobs=0",
         "hydra.sweeper.pruner_options.warm=1", "hydra.sweeper.directions=[maximise]",
         "hydra.sweeper.objectives=[test/buy/auc]"],
        ["did you mean 'TPESampler'", "MedianPruner takes no 'warm'", "n_jobs: should be at least 1",
         "did you mean 'maximize'", "nothing is chosen on the test"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), WRONG)
def test_what_cannot_be_is_said_before_the_first_trial(
    words: list[str], said: list[str], trained: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([*SEARCH, *words]) == 2
    errors = capsys.readouterr().err
    for part in said:
        assert part in errors
    assert trained == []


def test_a_study_of_another_search_is_refused(trained: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    own = ["hydra.sweep.dir=mine", "hydra.sweeper.n_trials=1"]
    assert main.main([*SEARCH, *SPACE, *own]) == 0
    assert main.main([*SEARCH, "x=interval(-2,1)", "kind=a,b", *own]) == 2
    assert "is of another search (space differ)" in capsys.readouterr().err
    assert len(trained) == 1


def locked(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    return connection


def test_a_locked_study_is_named_and_the_same_command_goes_on(
    trained: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SEARCH, *SPACE, "hydra.sweep.dir=mine", f"hydra.sweeper.storage='{impatient(tmp_path)}'"]
    assert main.main([*words, "hydra.sweeper.n_trials=1"]) == 0
    other = locked(tmp_path / "mine" / "study.db")
    assert main.main([*words, "hydra.sweeper.n_trials=2"]) == 2
    said = capsys.readouterr().err
    assert "another program has locked it: end that one, and the same command goes on" in said
    assert "move it away" not in said
    other.close()
    assert main.main([*words, "hydra.sweeper.n_trials=2"]) == 0
    assert len(trained) == 2


def impatient(folder: Path) -> str:
    """A study that waits for nobody, as it would for seconds."""
    return f"sqlite:///{folder}/mine/study.db?timeout=0.1"


BREAKS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "locked": (locked, "another program has locked it"),
    "damaged": (lambda path: path.write_bytes(b"x" * 5000), "move it away, and the same command begins the search"),
    "removed": (lambda path: path.unlink(), "it was removed or may not be written"),
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_study_that_breaks_in_the_middle_costs_no_job(
    how: str, trained: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the second trial: it ends, since a study costs no training, and the search with a line and no traceback."""
    breaks, told = BREAKS[how]
    study, kept, train = tmp_path / "mine" / "study.db", [], sys.modules["graftrec.runs.train"].train

    def in_the_second(tree: dict[str, Any], out: Path) -> float:
        if len(trained) == 1:
            kept.append(breaks(study))
        return float(train(tree, out))

    sys.modules["graftrec.runs.train"].train = in_the_second  # type: ignore[attr-defined]
    words = [*SEARCH, *SPACE, "hydra.sweep.dir=mine", f"hydra.sweeper.storage='{impatient(tmp_path)}'"]
    assert main.main([*words, "hydra.sweeper.n_trials=3"]) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert f"the study 'sweep' in sqlite:///{tmp_path}/mine/study.db?timeout=0.1 cannot be used" in said.err
    assert told in said.err
    jobs = json.loads((tmp_path / "mine" / "sweep.json").read_text())["jobs"]
    assert [job["state"] for job in jobs] == ["finished", "finished"]
    if how == "locked":
        kept[0].close()
    study.unlink(missing_ok=how != "damaged")
    assert main.main([*words, "hydra.sweeper.n_trials=3"]) == 0
    assert len(trained) == 3  # none of those that finished again


def test_a_study_that_is_locked_costs_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    storage = impatient(tmp_path)
    number = optuna.create_study(storage=storage, study_name="sweep").ask()._trial_id
    watched = optuna_trial.Trial(storage, "sweep", number, "NopPruner", {})
    other = locked(tmp_path / "mine" / "study.db")
    assert [watched.is_hopeless(0.5, step) for step in range(3)] == [False] * 3
    assert capsys.readouterr().err.count("this trial is not pruned: the study 'sweep' in sqlite:///") == 1
    other.close()
    assert not watched.is_hopeless(0.5, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=interval(0,1)", FloatDistribution(0.0, 1.0)),
        ("x=tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("x=int(interval(1,8))", IntDistribution(1, 8)),
        ("x=tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True)),
        ("x=range(1,10)", IntDistribution(1, 9)),
        ("x=range(0,10,4)", IntDistribution(0, 8, step=4)),
        ("x=range(0.5,2,0.5)", FloatDistribution(0.5, 1.5, step=0.5)),
        ("x=1,2.5,null,'a b'", CategoricalDistribution(["1", "2.5", "null", "'a b'"])),
        ("x=[1,2],[3]", CategoricalDistribution(["[1,2]", "[3]"])),
    ],
)
def test_hydras_sweeps_as_distributions(text: str, expected: Any) -> None:
    from hydra_plugins.graftrec_optuna import _space

    (override,) = OverridesParser.create().parse_overrides([text])
    assert _space.distribution(override) == expected
