"""Hydra builds nothing of a stranger's ``hydra`` section, and runs no command that was not typed."""

from __future__ import annotations

import logging.config
from pathlib import Path

import pytest

from graftrec import cli
from graftrec.overrides import problems_of_command

MAKES = "{_target_: pathlib.Path.mkdir, self: {_target_: pathlib.Path, _args_: [MARKER]}}"
FILES = {  # what stands under hydra -> what is said of it
    f"callbacks: {{x: {MAKES}}}": "hydra.callbacks: there are none",
    "callbacks: '${evil}'": "hydra.callbacks: ",
    f"launcher: {{x: {MAKES}}}": "",  # Hydra's own schema has no such key
    "launcher: {_target_: pathlib.Path.mkdir}": "'pathlib.Path.mkdir' is no launcher",
    "launcher: {_target_: hydra_plugins.evil.Launcher}": "'hydra_plugins.evil.Launcher' is no launcher",
    "sweeper: {_target_: graftrec.config.build}": "'graftrec.config.build' is no sweeper",
    f"sweeper: {{params: {{x: {MAKES}}}}}": "hydra.sweeper.params.x._target_: nothing is built here",
    "sweeper: {params: {hydra.job.env_set.PYTHONSTARTUP: x}}": "a sweep is over settings of a job",
    "sweeper: {params: {+hydra.callbacks.x: 1}}": "a sweep is over settings of a job",
    "job_logging: {handlers: {x: {(): os.mkdir, path: MARKER}}}": "hydra.job_logging.handlers.x.(): 'os.mkdir'",
    "hydra_logging: {handlers: {x: {class: logging.config.os.mkdir, path: MARKER}}}": "'logging.config.os.mkdir'",
    "hydra_logging: {formatters: {x: {class: subprocess.Popen}}}": "'subprocess.Popen'",
    "job_logging: {filters: {x: {(): 'ext://os.system'}}}": "'ext://os.system'",
    "job_logging: {handlers: {x: {class: logging.StreamHandler, stream: 'ext://os.environ'}}}": "ext://os.environ",
    "job_logging: {handlers: {x: {class: logging.FileHandler, filename: /home/you/.bashrc}}}": "/home/you/.bashrc",
    "job_logging: '${evil}'": "hydra.job_logging: ",
    "job: {env_set: {LD_PRELOAD: /tmp/evil.so}}": "hydra.job.env_set.LD_PRELOAD: is taken from the command line only",
    "job: {name: ../../evil}": "hydra.job.name: should be a name",
    f"help: {{template: x, y: {MAKES}}}": "",  # Hydra's own schema has no such key
}


def command(folder: Path, text: str, *more: str) -> list[str]:
    (folder / "experiment").mkdir(parents=True, exist_ok=True)
    text = text.replace("MARKER", str(folder / "marker"))
    (folder / "experiment" / "evil.yaml").write_text(f"# @package _global_\nevil: {{a: 1}}\nhydra: {{{text}}}\n")
    return ["--config-dir", str(folder), "experiment=evil", *more]


@pytest.mark.parametrize("text", FILES)
def test_a_file_cannot_say_what_hydra_runs(text: str, tmp_path: Path) -> None:
    found = problems_of_command("train", command(tmp_path, text), [str(tmp_path)], deep=False)
    assert any(FILES[text] in problem for problem in found), found
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("flags", [["-m"], ["--cfg", "job"], ["--info", "config"], ["--hydra-help"]])
def test_no_flag_comes_before_the_check(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", *command(tmp_path, f"callbacks: {{x: {MAKES}}}", *flags)]) == 2
    assert "hydra.callbacks: there are none" in capsys.readouterr().err
    assert not (tmp_path / "marker").exists()


def test_what_is_typed_may_set_the_environment_and_still_builds_nothing(tmp_path: Path) -> None:
    typed = "+hydra.job.env_set.OMP_NUM_THREADS='1'"
    assert problems_of_command("train", [typed], [], deep=False) == []
    argv = command(tmp_path, "job: {env_set: {LD_PRELOAD: /tmp/evil.so}}", typed)
    (found,) = problems_of_command("train", argv, [str(tmp_path)], deep=False)
    assert found.startswith("hydra.job.env_set.LD_PRELOAD: ")
    found = problems_of_command("train", ["+hydra.callbacks.x._target_=os.mkdir"], [], deep=False)
    assert [problem for problem in found if problem.startswith("hydra.callbacks: there are none")]


@pytest.mark.parametrize("options", [MAKES, "{x: [" + MAKES + "]}", "'${evil}'", "{x: '${evil}'}"])
def test_nothing_is_built_inside_of_a_sweeper(options: str, tmp_path: Path) -> None:
    """Hydra would build it on the way to ours."""
    argv = command(tmp_path, f"sweeper: {{sampler_options: {options}}}", "hydra/sweeper=optuna", "-m", "seed=0,1")
    found = problems_of_command("train", argv, [str(tmp_path)], deep=False)
    assert [problem for problem in found if problem.startswith("hydra.sweeper.sampler_options")], found


def test_a_launchers_commands_are_typed(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    text = "launcher: {setup: [touch MARKER]}"
    argv = command(tmp_path, text, "hydra/launcher=submitit_slurm")
    found = problems_of_command("train", argv, [str(tmp_path)], deep=False)
    assert found == ["hydra.launcher.setup: is taken from the command line only, as it can run commands; type it there"]
    argv = ["hydra/launcher=submitit_slurm", "hydra.launcher.setup=[module load cuda]"]
    assert problems_of_command("train", argv, [], deep=False) == []


@pytest.mark.parametrize("name", ["default", "stdout", "none", "disabled"])
def test_hydras_own_logging_is_taken(name: str) -> None:
    for group in ("job_logging", "hydra_logging"):
        if (group, name) != ("hydra_logging", "stdout"):
            assert problems_of_command("train", [f"hydra/{group}={name}"], [], deep=False) == []


def test_python_would_run_it(tmp_path: Path) -> None:
    """The reason of the check: a logging configuration calls what it names."""
    evil = {"version": 1, "filters": {"x": {"()": "os.mkdir", "path": str(tmp_path / "marker")}}}
    logging.config.DictConfigurator(evil).configure_filter(evil["filters"]["x"])  # type: ignore[index]
    assert (tmp_path / "marker").is_dir()
