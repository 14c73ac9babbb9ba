"""No ``_target_`` of a stranger is called, wherever it stands and whichever way it comes in."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

from graftrec.cli import main
from graftrec.config import instantiate as config
from graftrec.runs.job import run_job
from graftrec.runs.recommender import Recommender
from graftrec.utils.errors import UserError
from hostile import hostile, names, typed

HARMFUL = (
    "sqlite3.connect", "builtins.open", "logging.FileHandler", "io.open", "torch.save", "pathlib.Path.mkdir",
    "pathlib.Path.write_text", "zipfile.ZipFile", "numpy.save",
)  # fmt: skip
ALONE = ("graftrec.training.loggers.logs.CsvLog",)  # right in its own slot, and nowhere else


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


@pytest.fixture
def trees(marker: Path) -> list[dict[str, Any]]:
    found = hostile(marker)
    assert len(found) > 60
    return found


def test_they_would_do_harm(trees: list[dict[str, Any]], marker: Path) -> None:
    """What Hydra's own check lets through, as the reason of ours."""
    harmful = []
    for tree in trees:
        if tree["_target_"] in HARMFUL:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    made = instantiate(OmegaConf.create(tree))
                except Exception:
                    made = None
            if hasattr(made, "close"):
                made.close()
            left = list(marker.parent.glob("marker*"))
            harmful += [tree["_target_"]] if left else []
            for path in left:
                path.rmdir() if path.is_dir() else path.unlink()
    assert len(harmful) >= 6, harmful


def test_none_is_taken_in_any_place(trees: list[dict[str, Any]], marker: Path) -> None:
    slots = [*config.SLOTS, "extra"]
    for tree in trees:
        for slot in slots:
            if tree["_target_"] in ALONE and slot == "logger":
                continue
            for placed in ({slot: tree}, {slot: {"a": [{"b": tree}]}}, {"source": {"x": {"head": tree}}}):
                problems = config.problems_of_tree(placed)
                assert [problem for problem in problems if "_target_: " in problem], (slot, tree)
    assert not marker.exists()


def test_what_is_right_elsewhere_is_refused_in_another_slot() -> None:
    found = config.problems_of_tree({"trunk": {"_target_": "torch.optim.AdamW"}})
    assert "trunk._target_: should be a Trunk, found torch.optim.AdamW" in found
    found = config.problems_of_tree({"own": {"_target_": "torch.optim.AdamW"}})
    assert "own._target_: nothing is built here, remove torch.optim.AdamW" in found
    found = config.problems_of_tree({"target": {"t": {"_target_": "graftrec.models.trunks.mmoe.MMoE"}}})
    assert "target.t._target_: should be a Task, found graftrec.models.trunks.mmoe.MMoE" in found


def test_no_option_of_hydras_instantiate_is_taken() -> None:
    trunk = {"_target_": "graftrec.models.trunks.shared_bottom.SharedBottom"}
    for option in ({"_partial_": True}, {"_args_": [1]}, {"_recursive_": False}, {"_convert_": "all"}):
        (key,) = option
        assert any(f"takes no '{key}'" in problem for problem in config.problems_of_tree({"trunk": trunk | option}))


def refuses_all(said: str, trees: list[dict[str, Any]], marker: Path) -> None:
    """Each of them by its name, and nothing was run."""
    missing = {name for name in names(trees) if name not in said and not name.startswith("graftrec.models.trunks")}
    assert missing == set()
    assert not marker.exists()


def test_none_runs_from_the_command_line(
    trees: list[dict[str, Any]], marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"+evil.a{number}=[{typed(tree)}]" for number, tree in enumerate(trees)]
    assert main.main(["train", *words]) == 2
    refuses_all(capsys.readouterr().err, trees, marker)


def test_none_runs_from_a_folder(
    trees: list[dict[str, Any]], marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "conf"
    (folder / "experiment").mkdir(parents=True)
    text = yaml.safe_dump({"evil": {f"a{number}": {"b": [tree]} for number, tree in enumerate(trees)}})
    (folder / "experiment" / "evil.yaml").write_text(f"# @package _global_\n{text}")
    assert main.main(["train", "--config-dir", str(folder), "experiment=evil"]) == 2
    refuses_all(capsys.readouterr().err, trees, marker)


def test_none_runs_from_an_agent_of_wandb(marker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As scripts/wandb_sweep.yaml has the agent call it; a sweep of ours takes the same values one after the other."""
    recipe = yaml.safe_load((config.conf_dir().parent / "scripts" / "wandb_sweep.yaml").read_text())
    values = ["os.system", "logging.os.mkdir", "torch.optim.AdamW", "graftrec.utils.atomic_files.os.mkdir"]
    for given in [[f"trunk._target_={values[0]}"], ["-m", f"trunk._target_={','.join(values)}"]]:
        line = " ".join(recipe["command"]).replace("${env}", "").replace("${args_no_hyphens}", shlex.join(given))
        assert main.main(shlex.split(line)[1:]) == 2
        said = capsys.readouterr().err
        assert all(value in said for value in given[-1].partition("=")[2].split(","))
    assert not marker.exists()


def test_a_job_checks_what_no_command_knew_before(
    compose: Callable[[list[str]], dict[str, Any]], marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sampler's value, the 65th of a sweep, or what a launcher composed."""
    tree = compose([]) | {"trunk": {"_target_": "graftrec.utils.atomic_files.os.mkdir", "path": str(marker)}}
    assert run_job(tree, str(tmp_path / "run"))[0] == 2
    assert "trunk._target_: 'graftrec.utils.atomic_files.os.mkdir' is posix.mkdir" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert not marker.exists()


def test_none_runs_from_a_checkpoint(
    trees: list[dict[str, Any]], marker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    tree = {"seed": 0, "trunk": trees[0], "source": {}, "target": {"buy": trees[1]}, "evil": {"a": trees}}
    evil = {
        "state_dict": {},
        "hyper_parameters": {"config": tree, "_instantiator": "os.system", "_class_path": "os.system"},
    }
    torch.save(evil, folder / "best.ckpt")
    with pytest.raises(UserError) as error:
        Recommender.load(folder.parent)
    assert len(error.value.problems) >= len(trees)
    assert all(str(folder) in problem for problem in error.value.problems)
    refuses_all(str(error.value), trees, marker)
    assert main.main(["predict", f"run={folder.parent}"]) == 2
    refuses_all(capsys.readouterr().err, trees, marker)
