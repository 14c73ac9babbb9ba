"""What a stranger's files and folders may try."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from random import Random

from chaos_bench import Bench

CANARY = "hunter2-canary-7Gq"
HOSTILE = (
    "x\ntouch {mark} #",
    "$(touch {mark})",
    "`touch {mark}`",
    "'; touch {mark} #",
    "../../{mark}",
    "\x1b]0;{mark}\x07",
)
FIELDS = (
    "comment", "partition", "qos", "constraint", "exclude", "gres", "account", "signal_delay_s", "mail_type", "nice",
    "setup", "srun_args", "additional_parameters", "stderr_to_stdout", "submitit_folder", "name", "mail_user",
)  # fmt: skip
TARGETS = ("os.system", "subprocess.run", "builtins.eval", "graftrec.cli.main.main", "shutil.rmtree", "torch.load")


def strangers(bench: Bench, random: Random, folder: Path) -> tuple[str, str]:
    """One of: a launcher's text that a shell would run, a class that is none of ours, secrets, a folder of others."""
    return random.choice((_launcher, _target, _secret, _folder))(bench, random, folder)


def _launcher(bench: Bench, random: Random, folder: Path) -> tuple[str, str]:
    """Text of an experiment that reaches a shell through sbatch."""
    mark, tools = folder / "mark", folder / "bin"
    tools.mkdir()
    for tool in ("sbatch", "srun", "scontrol", "squeue", "sacct"):
        (tools / tool).write_text('#!/bin/sh\nfor f in "$@"; do [ -f "$f" ] && sh "$f"; done\necho 1\n')
        (tools / tool).chmod(0o755)
    field, text = random.choice(FIELDS), random.choice(HOSTILE).format(mark=mark)
    launcher = {"submitit_folder": f"{folder}/jobs", field: text}
    fields = ", ".join(f"{name}: {_quoted(value)}" for name, value in launcher.items())
    _experiment(folder, f"defaults:\n  - override /hydra/launcher: submitit_slurm\nhydra: {{launcher: {{{fields}}}}}\n")
    words = [*bench.train(folder / "run"), "--config-dir", str(folder / "own"), "experiment=own", "-m", "seed=0,1"]
    words = [word for word in words if not word.startswith("hydra.run.dir")]
    ended = bench.run([*words, "--cfg", "job"] if random.random() < 0.2 else words, folder, _path(tools))
    what = f"hydra.launcher.{field}: {text!r}"
    if mark.exists():
        return what, f"the stranger's command ran, exit code {ended.code}\n{ended.said[-800:]}"
    return what, ended.wrong(0, 1, 2, 65)


def _target(bench: Bench, random: Random, folder: Path) -> tuple[str, str]:
    """A class in an experiment that is not one of ours."""
    mark, target = folder / "mark", random.choice(TARGETS)
    group = random.choice(("trunk", "balancer", "dataset", "split", "optimizer", "logger"))
    _experiment(folder, f"{group}:\n  _target_: {target}\n  command: touch {mark}\n  _args_: ['touch {mark}']\n")
    words = [*bench.train(folder / "run"), "--config-dir", str(folder / "own"), "experiment=own"]
    ended = bench.run(words, folder)
    what = f"{group}._target_: {target}"
    return what, "the stranger's command ran" if mark.exists() else ended.wrong(2, 65)


def _secret(bench: Bench, random: Random, folder: Path) -> tuple[str, str]:
    """A secret, in any form, is in no file and on no screen."""
    typed, environment = random.choice(
        (
            ([f"+own.api_key={CANARY}"], {}),
            ([f"+own.token={{value: {CANARY}}}"], {}),
            ([f"+own.url='postgresql://u:{CANARY}@h/d'"], {}),
            ([f"+own.url='https://{CANARY}@h/d'"], {}),
            ([f"+own.password={CANARY}", "+own.note='see ${own.password}!'"], {}),
            (["+own.note='a ${oc.env:GRAFTREC_TOKEN} b'"], {"GRAFTREC_TOKEN": CANARY}),
            ([f"+own.api_key={CANARY}", "trunk.hidden=[-1]"], {}),
            ([f"+own.api_key={CANARY}", "logger=wandb"], {}),
        )
    )
    words = [word if "dir" not in word else f"hydra.run.dir={folder}/run" for word in bench.train(folder / "run")]
    ended = bench.run([*words, *typed], folder, environment)
    what = f"{' '.join(typed)} {environment}"
    if CANARY in ended.said:
        return what, f"the secret is on the screen\n{ended.said[:1500]}"
    for path in folder.rglob("*"):
        if CANARY in path.name or (path.is_file() and CANARY.encode() in path.read_bytes()):
            return what, f"the secret is in {path.relative_to(folder)}"
    return what, ended.wrong(0, 2)


def _folder(bench: Bench, random: Random, folder: Path) -> tuple[str, str]:
    """A folder with a stranger's files in it: they stay as they are, whatever becomes of the run."""
    names = (
        "checkpoints/best.ckpt",
        "config.yaml",
        "metrics.json",
        "notes.txt",
        ".mine.draft",
        "seeds/0/x",
        "report.html",
    )
    theirs = random.sample(names, random.randrange(1, len(names) + 1))
    for name in theirs:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}\n")
    before = {name: _hash(folder / name) for name in theirs}
    more = random.choice(
        ([], ["dataset.path=typo.csv"], ["trunk.hidden=[-1]"], ["resume=auto"], ["++dataset.user=nobody"])
    )
    verb = random.choice(("train", "train", "audit"))
    words = [*bench.train(Path()), *more]
    ended = bench.run([verb, *words[1:]] if verb == "train" else ["audit", *_audited(words[1:])], folder)
    what = f"{verb} hydra.run.dir=. {' '.join(more)} beside {theirs}"
    if lost := [name for name in theirs if not (folder / name).exists() or _hash(folder / name) != before[name]]:
        return what, f"lost or changed: {lost}, exit code {ended.code}\n{ended.said[-800:]}"
    return what, ended.wrong(0, 2, 65)


def _audited(words: list[str]) -> list[str]:
    """An audit has seeds and twins of its own."""
    return [word for word in words if not word.startswith(("seeds=", "twin=", "resume="))] + [
        "audit.seeds=1", "audit.workers=1", "audit.twins=[same]", "++transfer.epochs=1",
    ]  # fmt: skip


def _experiment(folder: Path, text: str) -> None:
    """An experiment ``own`` in a folder of configurations."""
    path = folder / "own" / "experiment" / "own.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"# @package _global_\n{text}")


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\x{ord(letter):02x}" for letter in text) + '"'


def _path(tools: Path) -> dict[str, str]:
    return {"PATH": f"{tools}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
