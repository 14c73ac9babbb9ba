"""Secrets by their names and in URLs: what is one, what stands in its place, and what is kept."""

from __future__ import annotations

import os
from typing import Any

import pytest

from graftrec import config, redaction
from graftrec.overrides import problems_of_command
from graftrec.redaction import from_files, hide, is_secret, redact, shown, words

CANARY = "canary-7f3a"


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in [name for name in os.environ if name.startswith(redaction.VARIABLE)]:
        monkeypatch.delenv(name)
    yield
    for name in [name for name in os.environ if name.startswith(redaction.VARIABLE)]:
        del os.environ[name]


@pytest.mark.parametrize(
    ("key", "value", "secret"),
    [
        ("key", "x", True),
        ("api_key", "x", True),
        ("WANDB_API_KEY", "x", True),
        ("accessToken", "x", True),
        ("password", 1234, True),
        ("client_secret", "x", True),
        ("cls_token", "x", False),
        ("num_tokens", 5, False),
        ("tokens", 5, False),
        ("keys", "x", False),
        ("token", True, False),
        ("token", None, False),
        ("token", "", False),
        ("token", "${oc.env:HUB_TOKEN}", False),
        ("storage", "postgresql://me:pw@host/db", True),
        ("storage", "postgresql://me@host/db", False),
        ("storage", "sqlite:////tmp/study.db", False),
        ("note", "a:b@c", False),
    ],
)
def test_what_a_secret_is(key: str, value: Any, secret: bool) -> None:
    assert is_secret(key, value) is secret


def test_a_tree_without_secrets_is_the_same_and_has_the_same_name() -> None:
    tree = {"a": [1, {"cls_token": "x", "num_tokens": 3}], "b": None, "url": "https://host/path"}
    assert redact(tree) == tree
    with_secret = {**tree, "own": {"token": CANARY}}
    assert config.fingerprint(with_secret) == config.fingerprint({**tree, "own": {"token": "another"}})
    assert config.fingerprint(with_secret) == config.fingerprint(
        {**tree, "own": {"token": "${oc.env:GRAFTREC_SECRET_0}"}}
    )


def test_a_secret_under_another_name_is_found_as_well() -> None:
    tree = {"a": {"token": CANARY}, "b": [{"c": CANARY}], "d": {"url": f"s3://me:{CANARY}@host/x"}}
    assert redact(tree) == {"a": {"token": "***"}, "b": [{"c": "***"}], "d": {"url": "s3://***@host/x"}}


@pytest.mark.parametrize(
    "word",
    [
        f"+own.api_key={CANARY}",
        f"+own.api_key='{CANARY}'",
        f'++own.password="{CANARY}"',
        f"token={CANARY}",
        f"hydra.sweeper.storage=postgresql://me:{CANARY}@host/db",
        f"+own={{api_key: {CANARY}, size: 3}}",
        f"+own={{size:3,token:{CANARY}}}",
    ],
)
def test_what_was_typed_is_referred_to(word: str) -> None:
    (hidden,) = hide([word])
    assert CANARY not in hidden
    assert CANARY in os.environ["GRAFTREC_SECRET_0"]
    assert "${oc.env:GRAFTREC_SECRET_0}" in hidden
    assert hide([hidden]) == [hidden]
    assert hide([word]) == [hidden]  # and once only
    assert "***" in words([hidden])[0]
    assert "GRAFTREC" not in words([hidden])[0]
    assert CANARY not in shown(f"Traceback: no login with {os.environ['GRAFTREC_SECRET_0']} at ftp://a:{CANARY}@host")


def test_other_words_are_left_alone() -> None:
    argv = ["train", "-m", "seed=0,1", "+x.cls_token=abc", "+x={num_tokens: 3}", "--config-dir", "a=b", "trunk=mmoe"]
    assert hide(argv) == argv
    assert words(argv) == argv


def test_hydra_sees_the_secret_only_where_a_job_does(tmp_path: Any) -> None:
    """The composed tree, of which Hydra and launchers make copies, refers to it; resolved, it is there."""
    (tmp_path / "experiment").mkdir()
    text = f"# @package _global_\nown: {{password: {CANARY}-file, address: 'postgresql://me:{CANARY}-url@host/db'}}\n"
    (tmp_path / "experiment" / "own.yaml").write_text(text)
    argv = hide(["--config-dir", str(tmp_path), "experiment=own", f"+own.token={CANARY}-typed"])
    assert problems_of_command("train", argv, [str(tmp_path)]) == []
    assert CANARY not in " ".join(argv)
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    settings = [word for word in argv if "=" in word]
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        cfg = compose("train", [*settings, f"hydra.searchpath=[file://{tmp_path}]"])
    assert CANARY not in OmegaConf.to_yaml(cfg)
    tree = config.plain(cfg)
    assert tree["own"]["token"] == f"{CANARY}-typed"
    assert tree["own"]["password"] == f"{CANARY}-file"
    assert tree["own"]["address"] == f"postgresql://me:{CANARY}-url@host/db"
    assert words(settings) == ["experiment=own", "+own.token=***"]


def test_a_sweep_over_files_leaves_each_its_own(tmp_path: Any) -> None:
    """What all jobs have is taken out; what is one file's alone stays there, and is redacted where it is written."""
    (tmp_path / "experiment").mkdir()
    for name in "ab":
        text = f"# @package _global_\nown: {{password: {CANARY}-{name}, token: {CANARY}-both}}\n"
        (tmp_path / "experiment" / f"{name}.yaml").write_text(text)
    argv = ["-m", "--config-dir", str(tmp_path), "experiment=a,b"]
    assert problems_of_command("train", argv, [str(tmp_path)], deep=False) == []
    (added,) = [word for word in argv if word.startswith("++")]
    assert added.startswith("++own.token=${oc.env:GRAFTREC_SECRET_FILE_")


def test_lists_and_mappings_of_files() -> None:
    tree = {"a": {"token": CANARY, "b": {"key": "two-more"}}, "c": [1], "d": None}
    assert list(from_files(tree)) == [
        "++a.token=${oc.env:GRAFTREC_SECRET_FILE_0}",
        "++a.b.key=${oc.env:GRAFTREC_SECRET_FILE_1}",
    ]
    assert os.environ["GRAFTREC_SECRET_FILE_0"] == CANARY
