"""Every trunk trains to its end with one process and with two, in fp32 and in bf16, and the metrics are the same.

One row is left over for the last batch, so that the second process has none in it. What ``graftrec train`` does with a
tree is run in this process, and in one pair of processes that stays for all trunks: a start of Python costs more than
such a run. A minute and a half on two idle cores.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from discovery import classes
from graftrec.config import instantiate
from graftrec.models.trunks.base import Trunk
from graftrec.runs.train import train
from graftrec.training.builder import protocol_of, streams_of
from graftrec.training.distributed import launcher, process_group
from graftrec.training.distributed.rank import outside
from processes import spawn

Compose = Callable[[list[str]], dict[str, Any]]
pytestmark = pytest.mark.slow
STEPS = 3  # about as many in an epoch, before the row that is left over
LONGEST = 60.0  # seconds of a run, after which a process that waits for the other one ends
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed"}
# Of metrics of all rows. They are of ranks, which what is rounded elsewhere may turn round; that gradients are the same
# to the last digits is what tests/contracts/test_one_and_two_processes.py holds.
TOLERANCE = {"fp32": 5e-3, "bf16": 0.1}
DRAWING = ("plots.learning_curves", "plots.comparison", "run_page.write_report")
SMALL = ["++encoder.width=8", "++encoder.dropout=0.0", "++encoder.id_dropout=0.0", "++transfer.epochs=1",
         "baselines=false", "twin=false", "++trainer.accelerator=cpu", "task@shared=[]", "schedule=constant",
         "++optimizer.eps=0.001",  # else Adam makes a step of what is rounding alone, as in front of a batch norm
         "++trainer.log_every_n_steps=1"]  # fmt: skip
LABELS = "++dataset.labels={click: binary, like: binary, conversion: binary}"
ROWS = ["protocol=long_short_term", "++dataset.features={weekday: id, price: number}", LABELS, "task@source=[like]",
        "task@target=[click]", "++source.like.head.dropout=0.0", "++target.click.head.dropout=0.0"]  # fmt: skip
BASKETS = ["protocol=cross_domain", "++dataset.domain=department", "task@source=[grocery_recommend]",
           "task@target=[produce_recommend]", "++source.grocery_recommend.head.dropout=0.0",
           "++target.produce_recommend.head.dropout=0.0", "++candidates.negatives=4"]  # fmt: skip
NEXT = ["task@source=[]", "task@target=[next_item]", "++history.short=6"]
MORE = {
    "BERT4Rec": ["++history.mask=0.2"],
    "DIEN": ["++trunk.auxiliary=0.0"],  # each process draws other negatives
    "MeLU": ["++dataset.events={click: 1, conversion: 1}", "++trunk.values=[1.0,2.0]"],
}
DRAWS = {"SNR"}  # each process draws its own noise
TRUNKS = {cls.__name__: cls for cls in classes("models.trunks")}


def words_of(cls: type[Trunk]) -> list[str]:
    """Settings that give a trunk what it reads, and nothing that is drawn for each process."""
    slots = instantiate.arguments(cls)
    data = NEXT if cls.sequential else BASKETS if "edges" in slots else ROWS
    still = ["++trunk.dropout=0.0"] if "dropout" in slots else []
    return [f"trunk={cls.__module__.rpartition('.')[2]}", *data, *still, *MORE.get(cls.__name__, [])]


def leftover(rows: int) -> int:
    """A size of batches of which the last of an epoch has one row."""
    sizes = [size for size in range(2, rows) if rows % size == 1]
    return min(sizes, key=lambda size: abs(rows // size - STEPS))


def trained(trees: dict[str, dict[str, Any]], folder: Path) -> dict[str, str]:
    """Train each of them in a folder of its name; what went wrong, or nothing."""
    found = {}
    for name, tree in trees.items():
        timer = threading.Timer(LONGEST, os._exit, [1])
        timer.start()
        try:
            train(tree, folder / name)
            found[name] = ""
        except BaseException:
            found[name] = traceback.format_exc()
        finally:
            timer.cancel()
    return found


def pair(rank: int, folder: str, port: int) -> None:
    """One of two processes, which trains all trees of a file."""
    warnings.simplefilter("ignore")
    os.environ |= launcher.environment(rank, 2, port)
    trees = json.loads(Path(folder, "trees.json").read_text())
    me = outside()
    assert me is not None
    with pytest.MonkeyPatch.context() as patch:
        for drawing in DRAWING:
            patch.setattr(f"graftrec.evaluation.report.{drawing}", lambda *_, **__: None)
        process_group.begin(me, next(iter(trees.values())))
        Path(folder, f"{rank}.json").write_text(json.dumps(trained(trees, Path(folder, "two"))))


@pytest.fixture(scope="module")
def runs(compose: Compose, shop_settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Folder of all runs, ``one`` and ``two``, and what went wrong with each."""
    folder = tmp_path_factory.mktemp("every_trunk")
    one: dict[str, Any] = {}
    two: dict[str, Any] = {}
    sizes: dict[tuple[str, ...], int] = {}
    for name, cls in TRUNKS.items():
        words = [*shop_settings, *SMALL, *words_of(cls)]
        data = tuple(word for word in words if not word.startswith(("trunk", "++trunk")))
        if data not in sizes:
            tree = compose(words)
            protocol = protocol_of(tree)
            protocol.prepare(streams_of(tree))
            (target,) = streams_of(tree, ("target",))
            sizes[data] = leftover(protocol.streams[target].rows)
        for precision, asked in PRECISIONS.items():
            both = [*words, f"++protocol.batch_size={sizes[data]}", f"++trainer.precision={asked}"]
            one[f"{name}-{precision}"] = compose(both)
            two[f"{name}-{precision}"] = compose([*both, "trainer=ddp"])
    (folder / "trees.json").write_text(json.dumps(two))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        for drawing in DRAWING:
            patch.setattr(f"graftrec.evaluation.report.{drawing}", lambda *_, **__: None)
        with socket.socket() as tried:
            tried.bind(("127.0.0.1", 0))
            port = tried.getsockname()[1]
        spawn(pair, (str(folder), port))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said = {"one": trained(one, folder / "one")}
    said |= {f"rank {rank}": json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)}
    return folder, said


@pytest.mark.parametrize(("name", "precision"), [(name, each) for name in TRUNKS for each in PRECISIONS])
def test_one_and_two_processes_end_well_with_the_same_metrics(name: str, precision: str, runs: Any) -> None:
    folder, said = runs
    key = f"{name}-{precision}"
    for who, what in said.items():
        assert not what[key], f"{who}: {what[key]}"
    found = [json.loads((folder / count / key / "metrics.json").read_text()) for count in ("one", "two")]
    ours, theirs = found
    assert ours["main"]["metric"] == theirs["main"]["metric"]
    for part in ("val", "test"):
        for task, metrics in ours[part].items():
            assert metrics
            if name not in DRAWS:
                whole, other = (
                    {key: each[key] for key in each if "/" not in key} for each in (metrics, theirs[part][task])
                )
                assert other == pytest.approx(whole, abs=TOLERANCE[precision]), (part, task)
    assert [rank["rank"] for rank in theirs["fit"]["ranks"]] == [0, 1]
    weights = torch.load(folder / "two" / key / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(bool(value.isfinite().all()) for value in weights.values())
