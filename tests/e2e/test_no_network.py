"""Without a network every verb works, and W&B logs offline what it would have sent: read back from its file."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from graftrec.cli import main
from graftrec.training.loggers import wandb_run
from graftrec.utils import fault_injection
from wandb_records import of_kind, records, rows

pytestmark = pytest.mark.slow
QUICK = ["transfer.epochs=2", "++trainer.limit_train_batches=2", "++trainer.log_every_n_steps=1", "trunk=shared_bottom"]
TINY = [f"++dataset.{key}={value}" for key, value in {
    "users": 30, "items": 20, "rows": 200, "source_rows": 200, "val": 100, "test": 150
}.items()]  # fmt: skip


class Outside(AssertionError):
    """Somebody tried to leave this machine."""


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is logged in, and no setting of W&B comes from the environment."""
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))


@pytest.fixture
def no_network(nobody: None, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Sockets raise, but for this machine's own: W&B talks with a process of its own."""
    tried: list[Any] = []
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def here(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
            tried.append(address)
            raise Outside(address)
        connect(self, address)

    def known(host: Any, *given: Any, **named: Any) -> Any:
        if host not in ("localhost", "127.0.0.1", "::1", None):
            tried.append(host)
            raise Outside(host)
        return look_up(host, *given, **named)

    monkeypatch.setattr(socket.socket, "connect", here)
    monkeypatch.setattr(socket.socket, "connect_ex", here)
    monkeypatch.setattr(socket, "getaddrinfo", known)
    return tried


def test_every_verb_works_without_a_network(
    shop_settings: list[str], no_network: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        words = [*shop_settings, *QUICK, "logger=wandb", f"seed={seed}", f"hydra.run.dir=runs/{seed}"]
        assert main.main(["train", *words]) == 0
        assert "W&B: no key; this run is logged offline" in capsys.readouterr().out
        assert (tmp_path / "runs" / str(seed) / "report.html").is_file()
    assert main.main(["compare", "runs/0", "runs/1"]) == 0
    assert main.main(["predict", "run=runs/0", "k=3", "out=predictions.csv"]) == 0
    assert main.main(["data", "check", *shop_settings, "out=card"]) == 0
    assert main.main(["audit", "experiment=planted", *TINY, "transfer.epochs=1", "audit.seeds=2", "audit.workers=1",
                     "task@source=[planted_help]"]) == 0  # fmt: skip
    assert main.main(["doctor"]) == 0
    assert no_network == []


def test_a_wandb_run_holds_the_results_and_goes_on_when_the_run_does(
    shop_settings: list[str], nobody: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fault_injection.VARIABLE, "train:3:sigterm")
    fault_injection._passed.clear()
    folder = tmp_path / "run"
    words = [*shop_settings, *QUICK, "logger=wandb", "resume=auto", f"hydra.run.dir={folder}"]
    assert main.main(["train", *words]) == 143
    monkeypatch.delenv(fault_injection.VARIABLE)
    assert main.main(["train", *words]) == 0
    paths = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    first, second = map(records, paths)
    assert of_kind(first, "exit")[0].exit_code == 143
    assert of_kind(second, "exit")[0].exit_code == 0
    ids = {run.run_id for found in (first, second) for run in of_kind(found, "run")}
    assert len(ids) == 1

    config = {item.key: json.loads(item.value_json) for run in of_kind(first, "run") for item in run.config.update}
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    assert {key: config[key] for key in ("seed", "trunk", "target", "transfer")} == {
        key: tree[key] for key in ("seed", "trunk", "target", "transfer")
    }

    before, after = rows(first), rows(second)
    steps = [row["trainer/global_step"] for row in [*before, *after] if "train/loss/total" in row]
    with (folder / "metrics.csv").open(newline="") as file:
        assert steps == [int(row["step"]) for row in csv.DictReader(file) if row["train/loss/total"]]
    assert len(set(steps)) == len(steps) == 8  # of the grafted and of the twin, none of them twice
    names = {name for row in [*before, *after] for name in row}
    assert {"train/loss/source", "train/loss/target", "train/loss/shared", "train/loss/total"} <= names
    assert {"val/recommend/ndcg@10", "test/recommend/ndcg@10", "val/score"} <= names
    assert {row["phase"] for row in after if "phase" in row} == {"joint", "twin"}

    media = {name: value for row in after for name, value in row.items()}
    assert {"results", "learning_curves", "comparison"} <= {name.partition("/")[0] for name in media}
    table = json.loads((paths[1].parent / "files" / media["results/path"]).read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    told = {(row[1], row[2]): row[3:5] for row in table["data"]}
    assert told[("recommend", "ndcg@10")] == [
        metrics["test"]["recommend"]["ndcg@10"], metrics["twin"]["recommend"]["ndcg@10"],
    ]  # fmt: skip
    assert table["columns"][:5] == ["role", "task", "metric", "grafted", "twin"]
    assert {row[table["columns"].index("verdict")] for row in table["data"]} == {None}  # of one seed

    (artifact,) = [each for each in of_kind(second, "artifact") if each.type == "model"]
    content = (folder / "checkpoints" / "best.ckpt").read_bytes()
    metadata = json.loads(artifact.metadata)
    assert (metadata["bytes"], metadata["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert set(artifact.aliases) == {"best", "latest"}
    files = {entry.path: entry.local_path for entry in artifact.manifest.contents}
    assert set(files) == {"best.ckpt", "manifest.json", "config.yaml"}
    assert files["best.ckpt"] == str(folder / "checkpoints" / "best.ckpt")  # which is not copied


def test_a_wandb_run_of_two_seeds_holds_both(nobody: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["experiment=planted", *TINY, "transfer.epochs=1", "++trainer.log_every_n_steps=1", "seeds=2", "workers=1"]
    assert main.main(["train", *words, "task@source=[planted_help]", "logger=wandb", "hydra.run.dir=run"]) == 0
    (path,) = (tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb")
    logged = rows(records(path))
    losses = {
        name: [row[name] for row in logged if name in row] for name in ("train/loss/total", "seed_1/train/loss/total")
    }
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        written = [row for row in csv.DictReader(file) if row["train/loss/total"]]
    for name, seed in zip(losses, "01", strict=True):
        assert losses[name] == [float(row["train/loss/total"]) for row in written if row["seed"] == seed]
        assert len(losses[name]) == 8  # of the grafted and of the twin
    assert not [name for row in logged for name in row if name.startswith("seed_0/")]
    steps = [row["trainer/global_step"] for row in logged if set(losses) & set(row)]
    assert steps == [int(row["step"]) for row in written]
    media = {name: value for row in logged for name, value in row.items()}
    table = json.loads((path.parent / "files" / media["results/path"]).read_text())
    assert {row[table["columns"].index("verdict")] for row in table["data"]} == {None}


@contextmanager
def silent_server() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_server_that_never_answers_is_not_waited_for(
    nobody: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """5 s are the promise: whether it answers at all is asked once with a limit below that, and W&B, which would wait
    for 90 s, is not asked to try."""
    import wandb

    begun: list[str] = []
    init = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **given: begun.append(given["mode"]) or init(**given))
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_run.PROBE_S < 5
    monkeypatch.setattr(wandb_run, "PROBE_S", 0.5)
    with silent_server() as port:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
        wandb_run.begin(tmp_path, "graftrec", None, {}, None).finish()
    assert f"W&B: http://127.0.0.1:{port} does not answer; this run is logged offline" in capsys.readouterr().out
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert begun == ["offline"]
