"""An arm's folder has one writer: another one is refused, and what the first one wrote is as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graftrec.runs.audit import arms
from graftrec.runs.audit.arms import ArmJob, ArmSpec
from graftrec.runs.resume import held
from graftrec.utils.errors import UserError


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArmJob:
    """An arm whose training and test are a line in a file; it waits for nobody."""
    monkeypatch.setattr(arms, "ORPHANS", 0.0)

    def trained(protocol: Any, job: ArmJob, first: bool) -> dict[str, Any]:
        (job.folder / "metrics.csv").write_text("of the second")
        return {}

    monkeypatch.setattr(arms, "_train", trained)
    folder = tmp_path / "arms" / "one"
    with arms.kept(folder):
        (folder / "metrics.csv").write_text("of the first")
    return ArmJob(ArmSpec("twin", "buy"), 0, {}, folder)


@pytest.mark.parametrize("work", [arms.train_arm, arms.test_arm])
def test_a_second_writer_is_refused(work: Callable[[Any, ArmJob], Any], job: ArmJob) -> None:
    before = sorted(job.folder.iterdir())
    with held(job.folder), pytest.raises(UserError, match="another process is running there"):
        work(None, job)
    assert (job.folder / "metrics.csv").read_text() == "of the first"
    assert sorted(job.folder.iterdir()) == before


def test_one_that_is_about_to_end_is_waited_for(job: ArmJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "ORPHANS", 20.0)
    inside, ends = threading.Event(), threading.Event()

    def first() -> None:
        with held(job.folder):
            inside.set()
            ends.wait(20)

    writer = threading.Thread(target=first)
    writer.start()
    assert inside.wait(20)
    threading.Timer(0.3, ends.set).start()
    arms.train_arm(None, job)  # type: ignore[arg-type]
    assert ends.is_set()
    writer.join()
    assert (job.folder / "metrics.csv").read_text() == "of the second"
