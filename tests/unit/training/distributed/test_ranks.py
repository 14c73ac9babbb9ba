"""Which process this is and how many there are to be, as the environment and the settings say."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftrec.runs.train import train
from graftrec.training.distributed.liveness import Beats, Patience, behind
from graftrec.training.distributed.rank import Rank, alone, check, outside, processes
from graftrec.utils.errors import UserError

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SRUN = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_NNODES": "2"}


@pytest.mark.parametrize(
    ("given", "rank"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        (TORCHRUN, Rank(3, 4, 1, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, Rank(1, 2, 1, 2)),
        (SRUN, Rank(3, 4, 1, 2)),
        ({**SRUN, "ENVIRONMENT": "BATCH"}, None),  # the batch script, in which srun was forgotten
        ({**SRUN, "ENVIRONMENT": "BATCH", "SLURM_STEP_NUM_TASKS": "4"}, Rank(3, 4, 1, 2)),  # srun in it
        ({**SRUN, "SLURM_STEP_NUM_TASKS": "1"}, None),  # a job of submitit, which has one task
        ({**SRUN, "SLURM_JOB_NAME": "interactive"}, None),
    ],
)
def test_who_started_it(given: dict[str, str], rank: Rank | None) -> None:
    assert outside(given) == rank
    assert rank is None or rank.machine == rank.number // 2


@pytest.mark.parametrize(
    ("trainer", "count"),
    [({}, 1), ({"devices": 2}, 2), ({"devices": "2"}, 2), ({"devices": [1]}, 1), ({"devices": "0,2,"}, 2),
     ({"devices": "auto", "accelerator": "cpu"}, 1), ({"devices": 3, "strategy": {"_target_": "x"}}, 3)],
)  # fmt: skip
def test_processes_of_a_trainer(trainer: dict[str, object], count: int) -> None:
    assert processes(trainer) == count
    assert check(trainer, None) == count


@pytest.mark.parametrize(
    ("trainer", "words"),
    [({"devices": 0}, "devices"), ({"devices": "two"}, "devices"), ({"devices": True}, "devices"),
     ({"devices": []}, "devices"), ({"devices": 2, "strategy": "ddp_spawn"}, "trainer=ddp"),
     ({"devices": 2, "num_nodes": 2}, "torchrun")],
)  # fmt: skip
def test_what_cannot_be_started(trainer: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        check(trainer, None)


def test_others_have_started_it() -> None:
    assert check({"devices": 2, "num_nodes": 2}, Rank(3, 4, 1, 2)) == 1
    for trainer, told in (({"devices": 2}, "trainer.devices=2 trainer.num_nodes=2"), ({}, "trainer.num_nodes=2")):
        with pytest.raises(UserError, match=told):
            check(trainer, Rank(3, 4, 1, 2))
    with pytest.raises(UserError, match=r"trainer=ddp trainer\.devices=2$"):
        check({"devices": 4}, Rank(0, 2, 0, 2))


def test_a_sweep_is_started_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    alone()
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="one of 4 processes"):
        alone()


def test_who_is_behind_and_for_how_long() -> None:
    with Beats.made(2) as beats:
        patience = Patience(10.0)
        assert not patience.lost(beats, 0.0)
        assert not patience.lost(beats, 100.0)  # they do not keep step yet: one may prepare data for hours
        for rank in range(2):
            beats.step(rank, True)
        assert beats.together()
        assert not patience.lost(beats, 100.0)
        assert not patience.lost(beats, 109.0)
        beats.beat(0)
        assert not patience.lost(beats, 111.0)
        assert behind(beats.counts()) == [1]
        assert patience.lost(beats, 121.0)
        beats.beat(1)
        assert not patience.lost(beats, 122.0)
        assert behind(beats.counts()) == []
        beats.step(0, False)  # it writes a report, and the other waits
        assert not patience.lost(beats, 500.0)


def test_lightning_is_not_asked_to_start_processes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run_job starts as many"):
        train({"trainer": {"devices": 2}}, tmp_path / "run")
    assert not (tmp_path / "run").exists()
