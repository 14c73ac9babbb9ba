"""Several processes through the command line: the same numbers as one, and clean ends whatever happens to a rank.

All on a CPU with gloo; GPUs and NCCL have not been tried.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from command import started
from graftrec.cli import main
from graftrec.runs.resume import status_of
from graftrec.training.checkpoints.checkpoint import load
from graftrec.utils import fault_injection

pytestmark = pytest.mark.slow
SMALL = [
    "transfer.epochs=2", "encoder.width=8", "trunk=shared_bottom", "trainer.accelerator=cpu", "protocol.batch_size=49",
    "candidates.negatives=8", "trainer.log_every_n_steps=1", "baselines=false", "twin=false",
]  # fmt: skip
CERTAIN = ["encoder.dropout=0.0", "encoder.id_dropout=0.0", "trunk.dropout=0.0", "target.recommend.head.dropout=0.0"]
DDP = ["trainer=ddp", "trainer.accelerator=cpu"]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def nobody_is_left() -> Iterator[None]:
    yield
    assert ranks_of(os.getpid()) == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def run(folder: Path, *words: str) -> int:
    fault_injection._passed.clear()
    return main.main(["train", *words, f"hydra.run.dir={folder}"])


def metrics_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found


@pytest.fixture(scope="module")
def words(shop_settings: list[str]) -> list[str]:
    return [*shop_settings, *SMALL, *CERTAIN]


@pytest.fixture(scope="module")
def alone(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert run(folder, *words) == 0
    return folder


@pytest.fixture(scope="module")
def together(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together") / "run"
    assert run(folder, *words, *DDP) == 0
    return folder


def assert_same(one: Path, other: Path, tolerance: float = 1e-4) -> None:
    """Metrics, values per user, and weights."""
    ours, theirs = metrics_of(one), metrics_of(other)
    for part in ("val", "test"):
        for task, metrics in ours[part].items():
            assert theirs[part][task] == pytest.approx(metrics, abs=tolerance), (part, task)
    users, others = (pl.read_parquet(folder / "users.parquet") for folder in (one, other))
    assert users.drop("value").equals(others.drop("value"))
    weights, same = (load(folder / "checkpoints" / "best.ckpt")["state_dict"] for folder in (one, other))
    for name, value in weights.items():
        torch.testing.assert_close(same[name], value, atol=tolerance, rtol=tolerance, msg=name)


def test_two_processes_learn_what_one_learns(alone: Path, together: Path) -> None:
    assert_same(alone, together)
    ranks = metrics_of(together)["fit"]["ranks"]
    assert [rank["rank"] for rank in ranks] == [0, 1]
    assert {rank["fingerprint"] for rank in ranks} == {status_of(together)["fingerprint"]}
    assert "ranks" not in metrics_of(alone)["fit"]
    logs = [pl.read_csv(folder / "metrics.csv") for folder in (alone, together)]
    assert logs[0].columns == logs[1].columns
    for column in [name for name in logs[0].columns if name.startswith(("train/loss/", "val/"))]:
        torch.testing.assert_close(*(log[column].fill_null(0).to_torch() for log in logs), atol=1e-4, rtol=1e-3)
    assert {path.name for path in alone.iterdir()} == {path.name for path in together.iterdir()}


def test_sharded_weights_learn_the_same(alone: Path, words: list[str], tmp_path: Path) -> None:
    assert run(tmp_path / "run", *words, "trainer=fsdp", "trainer.devices=2", "trainer.accelerator=cpu") == 0
    assert_same(alone, tmp_path / "run")


def test_a_rank_may_have_no_row_of_a_task(words: list[str], tmp_path: Path) -> None:
    """Batches of three rows of the target, and one of the source, of which the second process never has any."""
    own = [
        "protocol=cross_domain", "++dataset.domain=department", "task@shared=[]", "task@source=[grocery_recommend]",
        "task@target=[produce_recommend]", "protocol.batch_size=3", "transfer.epochs=1",
        "trainer.limit_train_batches=40", "optimizer=rowwise",
        "++source.grocery_recommend.head.dropout=0.0", "++target.produce_recommend.head.dropout=0.0",
    ]  # fmt: skip
    several = [word for word in words if "target.recommend" not in word] + own
    assert run(tmp_path / "one", *several) == 0
    assert run(tmp_path / "two", *several, *DDP) == 0
    assert_same(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("train:3:raise@1", "rank 1 of 2: RuntimeError: GRAFTREC_FAULT=train:3:raise@1"),
        ("val:1:sigkill@0", "rank 0 of 2 was killed by SIGKILL"),
        ("train:3:hang@1", "rank 1 of 2, at fault_injection.py:"),
    ],
)
def test_a_lost_rank_ends_the_run(
    fault: str, said: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv(fault_injection.VARIABLE, fault)
    folder = tmp_path / "run"
    assert run(folder, *words, *DDP, "patience=2") == 1
    status = status_of(folder)
    assert (status["state"], status["exit_code"]) == ("failed", 1)
    assert status["reason"].startswith(said)
    assert f"graftrec: {said}" in capfd.readouterr().err
    assert status["seconds"] < 30
    assert not (folder / "metrics.json").exists()


def test_a_signal_stops_both_and_they_go_on_bit_by_bit(
    together: Path, words: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    ended = threading.Event()

    def strike() -> None:
        while not ended.wait(0.02):
            if (folder / "metrics.csv").is_file():  # it trains
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=strike)
    thread.start()
    code = run(folder, *words, *DDP, "resume=auto")
    ended.set()
    thread.join()
    assert code == 143
    assert status_of(folder)["reason"].startswith("stopped by SIGTERM at step ")
    assert "continue with: graftrec train" in capfd.readouterr().err
    assert run(folder, *words, *DDP, "resume=auto") == 0
    weights, same = (load(path / "checkpoints" / "best.ckpt")["state_dict"] for path in (together, folder))
    assert all(torch.equal(value, same[name]) for name, value in weights.items())
    assert metrics_of(folder)["test"] == metrics_of(together)["test"]


def test_ranks_end_with_a_job_that_stood_still_and_was_killed(words: list[str], tmp_path: Path) -> None:
    """What stands still holds its pipes open and watches nobody; only its end is the ranks' end."""
    own = [*words, *DDP, "transfer.epochs=2000", f"hydra.run.dir={tmp_path}/run"]
    running = started("train", *own, cwd=tmp_path)
    try:
        until = time.monotonic() + 100
        while not (tmp_path / "run" / "metrics.csv").is_file():  # it trains
            assert running.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        ranks = ranks_of(running.pid)
        assert len(ranks) == 2
        running.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        assert ranks_of(running.pid) == ranks
    finally:
        running.kill()
        running.communicate()
    until = time.monotonic() + 15
    while (left := [path for path in ranks if _read(path / "cmdline")]) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []


def ranks_of(pid: int) -> list[Path]:
    """Where /proc has them."""
    found = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if b"graftrec.runs.worker" in _read(path)]
    return sorted(path for path in found if f"\nPPid:\t{pid}\n".encode() in _read(path / "status"))


def test_an_optuna_sweep_of_two_processes(words: list[str], tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    sweep = tmp_path / "sweep"
    own = [
        "-m", "hydra/sweeper=optuna", "hydra.sweeper.sampler=RandomSampler", "hydra.sweeper.pruner=PercentilePruner",
        "hydra.sweeper.pruner_options.percentile=1.0", "hydra.sweeper.pruner_options.n_startup_trials=1",
        "optimizer.lr=tag(log,interval(1e-6,1e-1))", f"hydra.sweep.dir={sweep}", "task@source=[]", "task@shared=[]",
    ]  # fmt: skip
    assert main.main(["train", *own, *words, *DDP, "hydra.sweeper.n_trials=5"]) == 0
    assert main.main(["train", *own, *words, *DDP, "hydra.sweeper.n_trials=6"]) == 0  # goes on
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{sweep}/study.db")
    jobs = json.loads((sweep / "sweep.json").read_text())["jobs"]
    assert len(study.trials) == len(jobs) == 6
    seen = set()
    for trial, job in zip(study.trials, jobs, strict=True):
        assert job["state"] == {"COMPLETE": "finished", "PRUNED": "pruned"}[trial.state.name]
        assert f"++optimizer.lr={trial.params['optimizer.lr']}" in job["settings"]
        status = status_of(sweep / job["folder"])
        seen.add(status["fingerprint"])
        if job["state"] == "finished":
            ranks = metrics_of(sweep / job["folder"])["fit"]["ranks"]
            assert [rank["fingerprint"] for rank in ranks] == 2 * [status["fingerprint"]]

    assert len(seen) == 6
    assert {job["state"] for job in jobs} == {"finished", "pruned"}


MEETING = ("MASTER_ADDR", "MASTER_PORT")  # Lightning leaves them where it trains with FSDP in this process


def port() -> int:
    """One that is free, of those among which SLURM's number of a job chooses."""
    with socket.socket() as tried:
        for number in range(15_000 + os.getpid() % 9_000, 25_000):
            with suppress(OSError):
                tried.bind(("127.0.0.1", number))
                return number
    raise RuntimeError("no port is free")


def slurm(rank: int, at: int) -> dict[str, str]:
    return {
        "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NTASKS": "2", "SLURM_NNODES": "1",
        "SLURM_JOB_ID": str(at - 15_000), "SLURM_STEP_NODELIST": "localhost",
    }  # fmt: skip


def ended(folder: Path, *starts: tuple[dict[str, str], list[str]]) -> tuple[list[int], list[str]]:
    """Exit codes and outputs of commands that run together; those that do not end write where they are."""
    folder.mkdir(exist_ok=True)
    outputs = [folder.with_name(f"{folder.name}_{number}.log") for number in range(len(starts))]
    ours = {name: value for name, value in os.environ.items() if name not in MEETING}
    with ExitStack() as closing:
        processes = [
            subprocess.Popen(
                [sys.executable, "-X", "faulthandler", *args], env={**ours, **more}, cwd=folder,
                stdout=closing.enter_context(output.open("wb")), stderr=subprocess.STDOUT,
            )
            for (more, args), output in zip(starts, outputs, strict=True)
        ]  # fmt: skip
        until = time.monotonic() + 100
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGABRT)
    return [process.wait(10) for process in processes], [output.read_text() for output in outputs]


@pytest.mark.parametrize("by", ["torchrun", "srun"])
def test_processes_that_others_started(by: str, together: Path, words: list[str], tmp_path: Path) -> None:
    command = ["-m", "graftrec", "train", *words, *DDP]  # each would name its folder by the second
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    at = port()
    starts = [(slurm(rank, at), command) for rank in range(2)] if by == "srun" else [({}, [*torchrun, *command])]
    codes, said = ended(tmp_path / "here", *starts)
    assert codes == [0] * len(starts), said
    (folder,) = (tmp_path / "here" / "runs").iterdir()
    assert metrics_of(folder)["test"] == metrics_of(together)["test"]
    assert sum(text.count("report  ") for text in said) == 1


def test_who_meets_nobody_says_so(words: list[str], tmp_path: Path) -> None:
    command = ["-m", "graftrec", "train", *words, *DDP, "patience=3"]
    with socket.create_server(("127.0.0.1", port())) as taken:
        at = taken.getsockname()[1]
        codes, said = ended(tmp_path / "taken", (slurm(0, at), command))
    assert codes == [2], said
    assert f"rank 0 of 2 cannot meet the others at localhost:{at}" in said[0]
    for rank in range(2):
        codes, said = ended(tmp_path / f"alone{rank}", (slurm(rank, port()), command))
        assert codes == [1], said
        assert f"rank {rank} of 2 met not all of the others at localhost:" in said[0]
