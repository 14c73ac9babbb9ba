"""YAML of strangers costs no time and no memory, and a checkpoint's configuration neither."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from graftrec.cli import main
from graftrec.config.instantiate import conf_dir, register_resolvers
from graftrec.utils import yaml_loader
from graftrec.utils.errors import UserError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)
BEYOND = {  # file -> what is said
    "aliases": (BOMB, "more than 100,000 values"),
    "merges": ("a: &a {x: 1}\nb: &b {<<: [*a, *a]}\n" + "c: [" + ", ".join(["*b"] * 60_000) + "]", "100,000 values"),
    "itself": ("a: &a [*a]", "more than 100,000 values"),
    "deep": ("a: " + "[" * 10_000 + "]" * 10_000, "50 levels"),
    "deep blocks": ("".join(f"{' ' * n}a:\n" for n in range(200)), "50 levels"),
    "large": ("a: " + "x" * 1_000_001, "more than 1,000,000 bytes"),
    "wide": ("a: [" + "1," * 200_000 + "]", "100,000 values"),
    "binary": ("a: \x00", "is no YAML"),
    "tag": ("a: !!python/object/apply:os.mkdir [marker]", "is no YAML"),
    "twice": ("a: 1\na: 2", "is no YAML"),
    "no mapping": ("[1, 2]", "should hold a mapping"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_a_file_beyond_the_limits_is_refused_by_name(name: str, tmp_path: Path) -> None:
    text, said = BEYOND[name]
    path = tmp_path / "evil.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"evil\.yaml") as error:
        yaml_loader.load(path)
    assert said in str(error.value)
    assert not Path("marker").exists()


@pytest.mark.parametrize("name", ["aliases", "deep", "large", "tag"])
def test_hydra_does_not_read_it_either(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "evil.yaml").write_text(f"# @package _global_\n{BEYOND[name][0]}")
    begun = time.process_time()
    assert main.main(["train", "--config-dir", str(tmp_path), "experiment=evil"]) == 2
    assert time.process_time() - begun < 30  # parsed, the first of them takes hours
    said = capsys.readouterr().err
    assert "problem(s)" in said
    assert "evil.yaml" in said or name == "tag"


def test_what_yaml_takes_for_something_else_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ids.yaml"
    path.write_text(
        "a: 012\nb: [1:30, '012', 1_000, on]\nc: off\nd: \"no\"\ne: {yes: 0}\nf: 08\ng: 10\nh: !!str 010\ni: |\n  on\n"
    )
    found = yaml_loader.load(path)
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"graftrec: {path}:1: 012 is 10 in YAML; write '012' if it is a word",
        f"graftrec: {path}:2: 1:30 is 90 in YAML; write '1:30' if it is a word",
        f"graftrec: {path}:2: on is True in YAML; write 'on' if it is a word",
        f"graftrec: {path}:3: off is False in YAML; write 'off' if it is a word",
        f"graftrec: {path}:5: yes is True in YAML; write 'yes' if it is a word",
    ]
    assert (found["a"], found["b"], found["c"]) == (10, [90, "012", 1000, True], False)
    assert (found["d"], found["f"], found["g"], found["h"], found["i"]) == ("no", "08", 10, "010", "on\n")
    yaml_loader.load(path)
    assert capsys.readouterr().err == ""


def test_ours_are_far_within(capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(conf_dir().rglob("*.yaml"))
    assert len(files) > 100
    for path in files:
        assert 10 * len(yaml_loader.read(path)) < yaml_loader.BYTES
    assert capsys.readouterr().err == ""


def loop() -> dict[str, Any]:
    tree: dict[str, Any] = {}
    tree["a"] = tree
    return tree


def shared() -> list[Any]:
    tree: list[Any] = ["x"]
    for _ in range(40):
        tree = [tree, tree]
    return tree


@pytest.mark.parametrize("make", [loop, shared, lambda: {"a": object()}, lambda: {"a": [print]}])
def test_a_tree_of_a_checkpoint_is_plain_and_small(make: Callable[[], Any]) -> None:
    with pytest.raises(UserError, match=r"best\.ckpt"):
        yaml_loader.check_plain(make(), "best.ckpt")
    yaml_loader.check_plain({"a": [1, 2.0, None, True, "x", {"b": ()}]}, "best.ckpt")


def test_a_configuration_reads_only_what_it_may_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    register_resolvers()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("HOME", "/home/you")
    tree = OmegaConf.create({"a": "${oc.env:HOME}/x", "b": "${oc.env:AWS_SECRET_ACCESS_KEY}", "c": "${oc.env:NOT,1}"})
    assert tree.a == "/home/you/x"
    for key in "bc":
        with pytest.raises(Exception, match="a configuration does not read"):
            _ = tree[key]
    monkeypatch.setenv("GRAFTREC_ENV", "LAKE, NOT")
    assert tree.c == "1"
    monkeypatch.setenv("NOT", "2")
    assert tree.c == "2"
    assert OmegaConf.create({"a": "${oc.env:GRAFTREC_X,null}"}).a is None
