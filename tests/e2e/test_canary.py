"""A secret that was typed, stands in a file, a URL or the environment is in nothing that a run or a sweep leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graftrec.cli import main
from graftrec.runs import job, train
from graftrec.utils import redaction

KINDS = ("typed", "file", "url", "env", "wandb", "nested", "listed", "slash", "login")
CANARY = {kind: f"canary{number}{number}-{kind}-6d1c" for number, kind in enumerate(KINDS)}
QUICK = ["transfer.epochs=1", "twin=false", "baselines=false"]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Settings with a secret of every kind."""
    conf = tmp_path / "conf" / "experiment"
    conf.mkdir(parents=True)
    (conf / "own.yaml").write_text(
        f"# @package _global_\nown: {{password: {CANARY['file']}, address: 'postgresql://me:{CANARY['url']}@host/db', "
        "cls_token: kept-token, num_tokens: 7, hub_token: '${oc.env:HUB_TOKEN}'}\n"
        f"more: {{token: {{value: {CANARY['nested']}, all: [{CANARY['listed']}]}}, "
        f"at: 'ftp://u:p/{CANARY['slash']}@host', by: 'ftp://{CANARY['login']}@host', "
        f"note: 'of ${{own.api_key}} and {CANARY['file']} x', "
        "read: ['${oc.env:GRAFTREC_SECRET_0}/x', '${own.hub_token}/${own.password}']}\n"
    )
    monkeypatch.setenv("GRAFTREC_ENV", "HUB_TOKEN")
    monkeypatch.setenv("HUB_TOKEN", CANARY["env"])
    monkeypatch.setenv("WANDB_API_KEY", CANARY["wandb"])
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    yield ["--config-dir", str(conf.parent), "experiment=own", f"+own.api_key={CANARY['typed']}"]
    for name in [name for name in os.environ if name.startswith(redaction.VARIABLE)]:
        del os.environ[name]


def without_canary(folder: Path) -> int:
    """How many files there are; none has a canary in its content or name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for path in files:
        content = path.read_bytes() + str(path).encode()
        assert [kind for kind in KINDS if CANARY[kind].encode() in content] == [], path
    return len(files)


def said_nothing(capsys: pytest.CaptureFixture[str]) -> str:
    said = "".join(capsys.readouterr())
    assert [kind for kind in KINDS if CANARY[kind] in said] == [], said[-3000:]
    return said


@pytest.mark.slow
def test_a_run_with_wandb_holds_no_secret(
    own: list[str], shop_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["train", *own, *QUICK, *shop_settings, "logger=wandb", "hydra.run.dir=runs/one"]) == 0
    said = said_nothing(capsys)
    assert "+own.api_key=***" in said  # how to get it again
    assert "own.password" not in said
    config = (tmp_path / "runs" / "one" / "config.yaml").read_text()
    assert "cls_token: kept-token" in config
    assert "num_tokens: 7" in config
    assert "address: postgresql://***@host/db" in config
    assert "note: of *** and *** x" in config
    assert list((tmp_path / "runs" / "one").glob("wandb/**/*.wandb"))
    assert without_canary(tmp_path / "runs") > 8


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "submitit_local"])
def test_a_sweep_holds_no_secret(
    launcher: str, own: list[str], shop_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if launcher != "basic":
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    more = {  # one job each: a trial of a study, and a process of submitit's
        "basic": ["seed=0,1", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=1"],
        "submitit_local": ["seed=0", "hydra/launcher=submitit_local"],
    }[launcher]
    assert main.main(["train", "-m", *own, *QUICK, *shop_settings, *more]) == 0
    said = said_nothing(capsys)
    assert "+own.api_key=***" in said
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    assert {"jobs.jsonl", "sweep.json", "report.html"} <= {path.name for path in sweep.iterdir()}
    assert without_canary(tmp_path / "runs") > 8


@pytest.mark.slow
def test_what_reads_a_run_tells_no_secret(
    own: list[str], shop_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        folder = f"hydra.run.dir=runs/{seed}"
        assert main.main(["train", *own, *QUICK, *shop_settings, f"seed={seed}", "trunk=shared_bottom", folder]) == 0
    assert main.main(["compare", "runs/0", "runs/1", "--out", "runs/compared.json"]) == 0
    assert main.main(["predict", "run=runs/0", "out=runs/rows.csv"]) == 0
    said_nothing(capsys)
    assert without_canary(tmp_path / "runs") > 12


@pytest.mark.slow
def test_an_audit_with_wandb_holds_no_secret(
    own: list[str], shop_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["transfer.epochs=1", "baselines=false", "trunk=shared_bottom", "audit.seeds=1", "audit.workers=1"]
    few += ["audit.twins=[same]", "task@shared=[]", "++trainer.limit_train_batches=2"]
    assert main.main(["audit", *own, *few, *shop_settings, "logger=wandb", "hydra.run.dir=runs/one"]) == 0
    said_nothing(capsys)
    assert list((tmp_path / "runs" / "one").glob("wandb/**/*.wandb"))
    assert without_canary(tmp_path / "runs") > 8


@pytest.mark.slow
def test_an_error_tells_no_secret(
    own: list[str], shop_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def prepared(tree: dict[str, Any]) -> Any:
        raise RuntimeError(f"no login with {tree['own']} and {os.environ['WANDB_API_KEY']}")

    monkeypatch.setattr(train, "prepared", prepared)
    seen: dict[str, Any] = {}
    monkeypatch.setattr(job, "problems_of_tree", lambda tree: seen.update(tree) or [])
    assert main.main(["train", *own, *QUICK, *shop_settings, "hydra.run.dir=runs/one"]) == 1
    assert seen["own"]["api_key"] == CANARY["typed"]  # the job itself has it
    assert seen["own"]["hub_token"] == CANARY["env"]
    said = said_nothing(capsys)
    assert "Traceback" in said
    assert "no login with" in said
    assert main.main(["train", "-m", *own, *QUICK, *shop_settings, "seed=0,1"]) == 1
    assert main.main(["train", *own, f"logger.api_key={CANARY['typed']}", f"seed={CANARY['typed']}"]) == 2
    storage = f"hydra.sweeper.storage=postgresql://me:{CANARY['url']}@127.0.0.1:9/db"
    assert main.main(["train", "-m", "hydra/sweeper=optuna", "seed=0,1", *shop_settings, storage]) != 0
    said_nothing(capsys)
    assert without_canary(tmp_path / "runs") > 3
