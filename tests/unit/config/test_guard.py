"""Hydra builds nothing of a stranger's ``hydra`` section, and runs no command that was not typed."""

from __future__ import annotations

import copy
import logging.config
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from graftrec.cli import main
from graftrec.config import hydra_guard
from graftrec.runs.overrides import loader_of, problems_of_command

MAKES = "{_target_: pathlib.Path.mkdir, self: {_target_: pathlib.Path, _args_: [MARKER]}}"
FILES = {  # what stands under hydra -> what is said of it
    f"callbacks: {{x: {MAKES}}}": "hydra.callbacks: there are none",
    "callbacks: '${evil}'": "hydra.callbacks: ",
    f"launcher: {{x: {MAKES}}}": "",  # Hydra's own schema has no such key
    "launcher: {_target_: pathlib.Path.mkdir}": "'pathlib.Path.mkdir' is no launcher",
    "launcher: {_target_: hydra_plugins.evil.Launcher}": "'hydra_plugins.evil.Launcher' is no launcher",
    "sweeper: {_target_: graftrec.config.instantiate.build}": "'graftrec.config.instantiate.build' is no sweeper",
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
    "job: {name: ../../evil}": "hydra.job.name: should have no separators",
    r'job: {name: "a\nb"}': "hydra.job.name: should have no separators",
    "sweep: {subdir: ../../evil}": "hydra.sweep.subdir: should be a folder inside",
    "sweep: {subdir: /tmp/evil}": "hydra.sweep.subdir: should be a folder inside",
    "sweep: {subdir: '${evil.up}'}": "hydra.sweep.subdir: should be a folder inside",
    r'sweep: {dir: "a\nb"}': "hydra.sweep.dir: should be one line",
    r'run: {dir: "a\e[31m"}': "hydra.run.dir: should be one line",
    "run: {dir: '${evil.lines}'}": "hydra.run.dir: should be one line",
    r'sweeper: {params: {own: "\e[31m"}}': "hydra.sweeper.params.own: should be one line",
    r'sweeper: {params: {"\e[31m": 1}}': "hydra.sweeper.params.'\\x1b[31m': should be one line",
    r'help: {template: "\e[31m"}': "hydra.help.template: should be one line",
    f"help: {{template: x, y: {MAKES}}}": "",  # Hydra's own schema has no such key
}


def command(folder: Path, text: str, *more: str) -> list[str]:
    (folder / "experiment").mkdir(parents=True, exist_ok=True)
    text = text.replace("MARKER", str(folder / "marker"))
    (folder / "experiment" / "evil.yaml").write_text(
        f'# @package _global_\nevil: {{a: 1, up: ../x, lines: "a\\nb"}}\nhydra: {{{text}}}\n'
    )
    return ["--config-dir", str(folder), "experiment=evil", *more]


@pytest.mark.parametrize("text", FILES)
def test_a_file_cannot_say_what_hydra_runs(text: str, tmp_path: Path) -> None:
    found = problems_of_command("train", command(tmp_path, text), [str(tmp_path)], deep=False)
    assert any(FILES[text] in problem for problem in found), found
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("flags", [["-m"], ["--cfg", "job"], ["--info", "config"], ["--hydra-help"]])
def test_no_flag_comes_before_the_check(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["train", *command(tmp_path, f"callbacks: {{x: {MAKES}}}", *flags)]) == 2
    assert "hydra.callbacks: there are none" in capsys.readouterr().err
    assert not (tmp_path / "marker").exists()


def test_what_is_typed_may_set_the_environment_and_still_builds_nothing(tmp_path: Path) -> None:
    typed = "+hydra.job.env_set.OMP_NUM_THREADS='1'"
    assert problems_of_command("train", [typed], [], deep=False) == []
    argv = command(tmp_path, "job: {env_set: {LD_PRELOAD: /tmp/evil.so}}", typed)
    (problem,) = problems_of_command("train", argv, [str(tmp_path)], deep=False)
    assert problem.startswith("hydra.job.env_set.LD_PRELOAD: ")
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


HOSTILE = {"line": "a\ntouch x #", "comment": "a #b", "shell": "$(x)", "tick": "`x`", "quote": "a'b", "double": 'a"b',
           "back": "a\\b", "escape": "\x1b[31m", "bell": "\x07", "turn": "\u202ea", "return": "a\rb", "end": "a;b",
           "redirect": "a>b"}  # fmt: skip
INERT = (
    "comment",
    "shell",
    "tick",
    "quote",
    "double",
    "back",
    "end",
    "redirect",
)  # in a name of a folder, in a setting


def plugins(kind: str) -> list[str]:
    """Every launcher or sweeper that is installed, as Hydra knows it."""
    return list(map(str, loader_of([]).get_group_options(f"hydra/{kind}")))


def texts_of(node: DictConfig) -> Iterator[str]:
    """The keys of a plugin's settings that take a text, those of lists and mappings among them."""
    value: Any
    for key in list(node):
        if key == "_target_":
            continue
        for value in ("a", ["a"], {"k": "a"}):
            trial = copy.deepcopy(node)
            try:
                trial[key] = value
            except OmegaConfBaseException:
                continue
            yield str(key) + (".0" if isinstance(value, list) else ".k" if isinstance(value, dict) else "")


@pytest.mark.parametrize("kind", ["launcher", "sweeper"])
def test_every_text_of_every_plugin_is_of_what_is_allowed(kind: str) -> None:
    """A launcher writes them into scripts, a sweeper into folders, databases and on the terminal."""
    loader, tried = loader_of([]), 0
    assert {"basic", "optuna"} <= {*plugins("launcher"), *plugins("sweeper")}
    for plugin in plugins(kind):
        cfg = loader.load_configuration("train", [f"hydra/{kind}={plugin}"], RunMode.RUN, from_shell=False)
        assert hydra_guard.problems_of_hydra(cfg.hydra, ()) == []
        fields = list(texts_of(cfg.hydra[kind]))
        for name, text in HOSTILE.items():
            for field in fields:
                key, _, inside = field.partition(".")
                cfg.hydra[kind][key] = {"": text, "0": [text], "k": {"k": text}}[inside]
            found = hydra_guard.problems_of_hydra(cfg.hydra, ())
            for field in fields:
                refused = [each for each in found if each.startswith(f"hydra.{kind}.{field.removesuffix('.0')}")]
                inert = kind == "sweeper" and name in INERT and field != "study_name"
                assert refused or inert, (plugin, field, text)
                tried += 1
    assert tried > 100, tried


@pytest.mark.parametrize("key", ["job.name", "run.dir", "sweep.dir", "sweep.subdir"])
@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_folders_are_of_what_is_allowed(key: str, name: str) -> None:
    cfg = loader_of([]).load_configuration("train", [], RunMode.RUN, from_shell=False)
    OmegaConf.update(cfg.hydra, key, HOSTILE[name])
    found = [each for each in hydra_guard.problems_of_hydra(cfg.hydra, ()) if each.startswith(f"hydra.{key}: ")]
    assert found or name in INERT


@pytest.mark.parametrize("setting", ["comment", "partition", "qos", "name", "submitit_folder", "account"])
def test_a_scheduler_gets_no_second_line(
    setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a stranger's file has it; the scheduler, which would run the script, is never called."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text(f"#!/bin/bash\ntouch {tmp_path}/marker\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "evil.yaml").write_text(
        f'# @package _global_\ndefaults: [override /hydra/launcher: submitit_slurm]\nlines: "x\\ntouch y #"\n'
        f"hydra: {{launcher: {{{setting}: '${{lines}}'}}}}\n"
    )
    assert main.main(["train", "--config-dir", str(tmp_path), "experiment=evil", "-m", "seed=0,1"]) == 2
    assert f"hydra.launcher.{setting}: should be of letters" in capsys.readouterr().err
    assert not (tmp_path / "marker").exists()


def test_what_clusters_are_asked_for_is_taken() -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    own = {
        "partition": "gpu,long", "gres": "gpu:a100:2", "constraint": "[a100|h100]&ib", "exclude": "node[1-3,5],x7",
        "mem_per_cpu": "4G", "account": "proj_1", "comment": "two words, of Jürgen", "submitit_folder": "/a b/%j",
    }  # fmt: skip
    typed = [f"hydra.launcher.{key}='{text}'" for key, text in own.items()]
    assert problems_of_command("train", ["hydra/launcher=submitit_slurm", *typed], [], deep=False) == []


def test_no_folder_is_named_by_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's file, which names a folder by what was typed."""
    monkeypatch.setenv("GRAFTREC_SECRET_0", "canary-7f3a")
    for at in ("run: {dir: runs/x-VALUE}", "sweep: {subdir: VALUE}", "job: {name: VALUE}"):
        text = at.replace("VALUE", "${oc.env:GRAFTREC_SECRET_0}").replace(": runs", ": 'runs")
        text = text.replace(": $", ": '$").replace("}}", "}'}")
        found = problems_of_command("train", command(tmp_path, text), [str(tmp_path)], deep=False)
        assert [each for each in found if "holds a secret" in each], found


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
