"""What is said of many trainings that run side by side."""

import io

import pytest
from rich.console import Console

from graftrec.runs.jobs_progress import JobsProgress


@pytest.mark.parametrize(("workers", "left"), [(1, "5:00 left"), (2, "3:00 left"), (4, "1:24 left")])
def test_the_time_that_is_left_counts_those_that_run_beside(
    monkeypatch: pytest.MonkeyPatch, workers: int, left: str
) -> None:
    """One of six is done after a minute; each of the others that run is taken as half done."""
    clock = iter([0.0, 60.0])
    monkeypatch.setattr("graftrec.runs.jobs_progress.time.monotonic", lambda: next(clock))
    console = Console(file=io.StringIO(), force_terminal=False)
    JobsProgress("x", 6, console, workers).done("twin")
    assert console.file.getvalue() == f"1/6  twin  {left}\n"  # type: ignore[attr-defined]
