"""Secrets by their names and in URLs: what is one, what stands in its place, and what is kept."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from graftrec.config import instantiate
from graftrec.runs.overrides import loader_of, problems_of_command
from graftrec.training.loggers import wandb_run
from graftrec.training.loggers.logs import WandbLog
from graftrec.utils import redaction
from graftrec.utils.redaction import hide, is_secret, redact, shown, stored, words

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
        ("storage", "postgresql://me:p/w@host/db", True),
        ("storage", "postgresql://me@host/db", True),  # a token alone looks like it
        ("token", "???", False),
        ("PASSPHRASE", "x", True),
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
    assert instantiate.fingerprint(with_secret) == instantiate.fingerprint({**tree, "own": {"token": "another"}})
    assert instantiate.fingerprint(with_secret) == instantiate.fingerprint(
        {**tree, "own": {"token": "${oc.env:GRAFTREC_SECRET_0}"}}
    )


def test_a_secret_under_another_name_is_found_as_well() -> None:
    tree = {"a": {"token": CANARY}, "b": [{"c": CANARY}], "d": {"url": f"s3://me:{CANARY}@host/x"}}
    assert redact(tree) == {"a": {"token": "***"}, "b": [{"c": "***"}], "d": {"url": "s3://***@host/x"}}


@pytest.mark.parametrize(
    "value",
    [
        f"x-{CANARY}-y", ["a", {"b": f"{CANARY}!"}], f"https://{CANARY}@host/x", f"postgresql://u:p/{CANARY}@host",
f"ftp://u:p@{CANARY}@host", f"redis://:{CANARY}'x@host", json.dumps({"x": CANARY}), (CANARY,),
        {"token": {"value": CANARY}}, {"token": [CANARY, {"x": [CANARY]}]}, {"password": {"of": {"b": CANARY}}},
        f"see http://a.b/c or s3://me:{CANARY}@h",
    ],
)  # fmt: skip
def test_a_secret_is_found_in_any_form(value: Any) -> None:
    left = redact({"own": value, "one": {"api_key": CANARY}})
    assert CANARY not in str(left)
    assert "***" in str(left["own"])


@pytest.mark.parametrize("secret", ["a/b@c d", 'say "x" it\'s', "back\\slash", "zwölf%2Fü", "line\nline"])
def test_it_is_found_as_others_write_it(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFTREC_SECRET_0", secret)
    for text in (secret, quote(secret, safe=""), json.dumps({"a": secret}), repr(["x", secret]), f"x{secret}y"):
        assert "***" in shown(text)
        assert not any(
            form in shown(text) for form in (secret, quote(secret, safe=""), json.dumps(secret), repr(secret))
        )


def test_no_logger_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes it, and whatever it is given."""
    given: list[Any] = []
    monkeypatch.setattr(wandb_run, "begin", lambda *args: given.append(args))
    WandbLog(tmp_path, config={"own": {"api_key": CANARY}, "note": f"x-{CANARY}"})
    assert given
    assert CANARY not in str(given)


def test_a_short_one_is_hidden_under_its_own_key_alone() -> None:
    tree = {"own": {"password": "12345", "token": {"n": 7}}, "seed": 12345, "lr": "0.12345", "balancer": "sum"}
    assert redact(tree) == {**tree, "own": {"password": "***", "token": {"n": "***"}}}
    assert redact({"password": 123456, "seed": 123456, "n": "1123456"}) == {
        "password": "***",
        "seed": "***",
        "n": "1***",
    }


def test_what_users_name_is_no_secret() -> None:
    """A column ``token``, a task ``api_key``; and no class is replaced."""
    tree = {
        "dataset": {"columns": {"token": {"kind": "category"}, "api_key": "number"}},
        "target": {"next_token": {"loss": {"weight": 1.5}}},
        "trunk": {"_target_": "graftrec.models.trunks.sasrec.SASRec", "token": {"value": "something"}},
        "own": {"password": "graftrec"},
    }
    assert redact(tree) == {**tree, "own": {"password": "***"}}


def test_many_secrets_in_much_text_take_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(redaction.MOST):
        monkeypatch.setenv(f"GRAFTREC_SECRET_{number}", f"{CANARY}-{number}")
    for text in (f"{CANARY} " * 90_000, f"s3://me:{CANARY}@h " * 30_000, "a://" * 250_000, "://" + ":@" * 500_000):
        begun = time.process_time()
        assert "***" in shown(text + f"{CANARY}-7")
        assert time.process_time() - begun < 20
    with pytest.raises(ValueError, match="more than 100 secrets"):
        stored({f"a{number}_key": f"{CANARY}-{number}" for number in range(redaction.MOST + 1)})


@pytest.mark.parametrize(
    "word",
    [
        f"+own={{token:{{value:{CANARY}}}}}",
        f"+own.token.value={CANARY}",
        f"+own.token=[{CANARY},a]",
        f"+own.token=[{{b: '{CANARY}'}},a]",
        f"+own=[x,'s3://me:{CANARY}@host']",
        f"+own.url=https://{CANARY}@host",
        f"+own={{api_key: '{CANARY}', open: [",
        f"+own={{a: 1, b: [1, {{token: {CANARY}}}, 2], c: d}}",
        f"+own={{token: 'it\\'s {CANARY}', a: b}}",
        f"+own={{a: {{b: 1}}, secret: {CANARY}}}",
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

    settings = [word for word in argv if "=" in word]
    with initialize_config_dir(str(instantiate.conf_dir()), version_base="1.3"):
        cfg = compose("train", [*settings, f"hydra.searchpath=[file://{tmp_path}]"])
    assert CANARY not in OmegaConf.to_yaml(cfg)
    tree = instantiate.plain(cfg)
    assert tree["own"]["token"] == f"{CANARY}-typed"
    assert tree["own"]["password"] == f"{CANARY}-file"
    assert tree["own"]["address"] == f"postgresql://me:{CANARY}-url@host/db"
    assert words(settings) == ["experiment=own", "+own.token=***"]


def test_a_sweep_over_files_leaves_each_its_own(tmp_path: Any) -> None:
    """No copy of any of the trees holds one."""
    (tmp_path / "experiment").mkdir()
    for name in "ab":
        text = f"# @package _global_\nown: {{password: {CANARY}-{name}, token: {CANARY}-both}}\n"
        (tmp_path / "experiment" / f"{name}.yaml").write_text(text)
    argv = ["-m", "--config-dir", str(tmp_path), "experiment=a,b"]
    assert problems_of_command("train", argv, [str(tmp_path)], deep=False) == []
    for name in "ab":
        cfg = loader_of([str(tmp_path)]).load_configuration("train", [f"experiment={name}"], RunMode.RUN)
        assert CANARY not in OmegaConf.to_yaml(cfg)
        assert instantiate.plain(cfg.own) == {"password": f"{CANARY}-{name}", "token": f"{CANARY}-both"}


def test_what_stands_in_a_file_is_referred_to_wherever_it_occurs() -> None:
    tree = {
        "own": {"token": CANARY, "b": {"key": "two-more"}, "token_list": ["a"], "password": [CANARY, {"x": "three-3"}]},
        "note": f"x-{CANARY}",
        "c": [1, None, f"http://me:{CANARY}@h"],
        "trunk": {"_target_": CANARY},
    }
    left = stored(tree)
    assert left["trunk"] == tree.pop("trunk")
    del left["trunk"]
    assert not any(secret in str(left) for secret in (CANARY, "two-more", "three-3"))
    instantiate.register_resolvers()
    assert instantiate.plain(OmegaConf.create(left)) == tree


def test_what_is_typed_once_is_taken_out_of_every_setting() -> None:
    (secret, note, group) = hide([f"+own.api_key={CANARY}", f"+own.note='of {CANARY}'", "trunk=mmoe"])
    assert (secret, group) == ("+own.api_key=${oc.env:GRAFTREC_SECRET_0}", "trunk=mmoe")
    assert note == "+own.note='of ${oc.env:GRAFTREC_SECRET_0}'"
