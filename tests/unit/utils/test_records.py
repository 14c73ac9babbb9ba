"""Each record of ours, damaged at random: it reads as it was, or is named, or counts as not there; nothing else."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from graftrec.evaluation.statistics import user_values
from graftrec.evaluation.statistics.user_values import USER
from graftrec.runs import compare
from graftrec.runs.audit import arms
from graftrec.runs.resume import folder_of, read_status, status_of
from graftrec.runs.sweep import job_log
from graftrec.runs.sweep import sweep_summary as report
from graftrec.runs.sweep.job_log import Entry
from graftrec.runs.trainings import read_outcome, write_outcome
from graftrec.tasks.metrics.pointwise import Value
from graftrec.training.fit import Arm
from graftrec.utils import record_files
from graftrec.utils.errors import DataError, UserError

EACH = 60  # damages of each record
TASK = {"_target_": "graftrec.tasks.next_basket.NextBasket", "stream": "dairy/baskets", "column": "y"}
CARD = {"dairy": {"split_hashes": {"test": "a1"}, "label_hashes": {"y": {"test": "e1"}}}}


def made(folder: Path) -> Path:
    """A run that finished, an arm, a training's outcome and a ledger, each written by what writes it in a run."""
    folder.mkdir()
    tree = {"seed": 0, "target": {"buy": TASK}, "verdicts": ["hr@10"]}
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    (folder / "data_card.json").write_text(json.dumps({"fingerprint": "f" * 20, "domains": CARD}))
    (folder / "metrics.json").write_text(json.dumps({"main": {"task": "buy", "metric": "ndcg@10"}}))
    values = {"ndcg@10": np.linspace(0.1, 0.9, 40), USER: np.arange(1, 41)}
    frame = user_values.frame_of({"buy": values}, arm="grafted", seed=0)
    user_values.write(frame.insert_column(5, pl.Series("id", [f"u{n}" for n in range(40)])), folder / "users.parquet")
    user_values.write(user_values.frame_of({"buy": values}), folder / "units.parquet")
    said = {"state": "finished", "score": 0.5, "seconds": 1.25, "fingerprint": "a1b2", "exit_code": 0}
    said["files"] = record_files.sums(folder)
    (folder / "status.json").write_text(
        json.dumps(record_files.sealed(said, "score", "seconds", "fingerprint", "files"))
    )
    (folder / "arm").mkdir()
    arms.write_status(
        folder / "arm", {"state": "tested", "val": 0.25, "seconds": 2.0, "seen": {}, "test": {"auc": 0.5}}
    )
    arm = Arm(val={"buy": {"auc": Value(0.5)}}, test={"buy": {"auc": Value(None, "0 rows")}}, score=0.5)
    arm.units = {"buy": {name: torch.from_numpy(each) for name, each in values.items()}}
    (folder / "training").mkdir()
    write_outcome(arm, folder / "training")
    for number in range(3):
        entry = Entry((f"seed={number}",), f"job{number}", "running")
        job_log.append(folder, entry)
        job_log.append(folder, replace(entry, state="finished", exit_code=0, score=number / 8, seconds=3.5))
    return folder


def outcome(folder: Path) -> Any:
    arm = read_outcome(folder / "training")
    return arm.val, arm.test, arm.score, {name: each.tolist() for name, each in arm.units["buy"].items()}


def entries(folder: Path) -> Any:
    found = job_log.read(folder)
    assert all(entry in ORIGINAL_ENTRIES for entry in found), found  # what a line says is never another thing
    assert len(found) + job_log.damaged(folder) >= 6 or len(found) < 6
    return None


ORIGINAL_ENTRIES = [
    Entry((f"seed={number}",), f"job{number}", *how)
    for number in range(3)
    for how in (("running",), ("finished", 0, number / 8, 3.5))
]
READERS: dict[str, list[Callable[[Path], Any]]] = {
    "status.json": [
        lambda run: {key: read_status(run)[key] for key in ("score", "seconds", "fingerprint", "files")},
        lambda run: compare.compare([run])["means"],
    ],
    "config.yaml": [lambda run: compare.compare([run])["means"]],
    "metrics.json": [lambda run: compare.compare([run])["means"], lambda run: record_files.check(run, status_of(run))],
    "data_card.json": [lambda run: compare.compare([run])["means"]],
    "users.parquet": [lambda run: compare.compare([run])["means"]],
    "units.parquet": [lambda run: user_values.read(arms.read_units(run))["buy"]["ndcg@10"].tolist()],
    "arm/status.json": [lambda run: {**arms.status(run / "arm"), "new": 0}.get("test")],
    "training/outcome.json": [outcome],
    "training/units.parquet": [outcome],
    "jobs.jsonl": [entries],
}
NOTHING = (None, {}, [])  # how a reader that heals says that there is no such record


def wrong(value: Any, chance: random.Random) -> Any:
    """The same with one value of another type, or a key less."""
    if isinstance(value, dict) and value:
        key = chance.choice(list(value))
        if chance.random() < 0.2:
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: wrong(value[key], chance)}
    if isinstance(value, list) and value:
        at = chance.randrange(len(value))
        return [*value[:at], wrong(value[at], chance), *value[at + 1 :]]
    return chance.choice([None, True, "text", -1, 1e300, [], {}, [[1]], {"a": {}}])


def damaged(content: bytes, name: str, chance: random.Random) -> bytes:
    kind = chance.choice(["flip", "flip", "cut", "empty", "noise", "type"])
    if kind == "flip":
        at = chance.randrange(len(content))
        return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
    if kind == "cut":
        return content[: chance.randrange(len(content))]
    if kind == "noise":
        at = chance.randrange(len(content))
        return content[:at] + chance.randbytes(8) + content[at + 8 :]
    if kind == "type" and name.endswith(".json"):
        return json.dumps(wrong(json.loads(content), chance)).encode()
    if kind == "type" and name.endswith(".jsonl"):
        texts = content.splitlines()
        at = chance.randrange(len(texts))
        return b"\n".join([*texts[:at], json.dumps(wrong(json.loads(texts[at]), chance)).encode(), *texts[at + 1 :]])
    return b""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("records") / "run")


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_record_is_named_or_counts_as_not_there(name: str, run: Path) -> None:
    path, chance = run / name, random.Random(name)
    content = path.read_bytes()
    right = [reader(run) for reader in READERS[name]]
    try:
        for _ in range(EACH):
            path.write_bytes(damaged(content, name, chance))
            for reader, before in zip(READERS[name], right, strict=True):
                try:
                    found = reader(run)
                except (DataError, UserError) as error:
                    assert str(run) in str(error), error  # noqa: PT017
                    continue
                assert found == before or found in NOTHING, path.read_bytes()
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", [name for name in READERS if name.endswith((".json", ".jsonl"))])
def test_keys_of_a_newer_version_pass(name: str, tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    right = [reader(run) for reader in READERS[name]]
    path = run / name
    texts = path.read_text().splitlines() if name.endswith("l") else [path.read_text()]
    path.write_text("\n".join(json.dumps({**json.loads(text), "of a newer version": {"a": [1]}}) for text in texts))
    if name in record_files.RESULTS:  # which a newer version would have counted
        said = json.loads((run / "status.json").read_text()) | {"files": record_files.sums(run)}
        said = record_files.sealed(said, "score", "seconds", "fingerprint", "files")
        (run / "status.json").write_text(json.dumps(said))
    assert [reader(run) for reader in READERS[name]] == right


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    run = made(tmp_path / "run")
    for name in ("metrics.json", "users.parquet", "config.yaml", "data_card.json"):
        content = (run / name).read_bytes()
        (run / name).unlink()
        with pytest.raises(DataError, match=rf"{name} is missing"):
            compare.compare([run])
        (run / name).write_bytes(content)
    compare.compare([run])


def test_a_siblings_damage_stops_nobody(tmp_path: Path) -> None:
    """``resume=auto`` looks beside its own folder; a table of jobs at each job's metrics."""
    for number, text in enumerate(["", "{}", "[1", '{"fingerprint": "x"}', '{"state": 3}', "\0\xff", '"finished"']):
        sibling = tmp_path / f"sibling{number}"
        sibling.mkdir()
        (sibling / "status.json").write_bytes(text.encode("latin-1"))
        assert status_of(sibling) == {}
        (sibling / "metrics.json").write_text(text)
        assert report._metrics(sibling) in ({}, json.loads(text) if text.startswith("{") else {})
    own = tmp_path / "own"
    assert folder_of({"resume": "auto"}, own) == own
    (own).mkdir()
    (own / "status.json").write_text("{")  # its own is named, as nobody knows what the folder holds
    with pytest.raises(DataError, match=r"own/status.json is damaged .*delete it"):
        folder_of({"resume": "auto"}, own)
