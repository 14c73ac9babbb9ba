"""The processes of a job are started, watched and ended; here they are scripts that import no torch."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from graftrec.training.distributed import launcher
from graftrec.utils.errors import DataError, Pruned, RankError, Stopped, UserError
from graftrec.utils.signals import stop

BEGINNING = """
import json, os, signal, sys, time
from pathlib import Path
from graftrec.training.distributed import launcher as launch
given, folder, rank = json.loads(sys.stdin.buffer.readline()), Path(sys.argv[1]), int(os.environ["RANK"])
beats, report = launch.attend(given["handles"], int(os.environ["WORLD_SIZE"]))
(folder / f"{rank}.pid").write_text(str(os.getpid()))
beats.step(rank, True)

def tell(kind, *said, code=0, **more):
    with report:
        json.dump({"kind": kind, "said": list(said), "at": time.monotonic(), **more}, report)
    os._exit(code)

def wait_for(name):
    while not (folder / name).exists():
        time.sleep(0.01)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def with_script(script: str, **tree: Any) -> float:
        worker = ("-c", BEGINNING + script)
        monkeypatch.setattr(launcher, "GRACE", 0.2)
        with stop.signals():
            return launcher.launch(
                {"seed": 1, "logger": {"api_key": "a canary"}, **tree}, tmp_path, 2, worker, ["seed=1"]
            )

    return with_script


@pytest.fixture(autouse=True)
def nobody_is_left(tmp_path: Path) -> Any:
    yield
    for path in tmp_path.glob("*.pid"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(path.read_text()), 0)


def test_the_score_is_the_first_ones_and_settings_come_by_a_pipe(run: Any, tmp_path: Path) -> None:
    script = """
(folder / f"{rank}.json").write_text(json.dumps({"given": given, "env": dict(os.environ)}))
tell("done", score=0.5 + rank)
"""
    assert run(script) == 0.5
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert "a canary" in found["given"]["tree"]
        assert "a canary" not in json.dumps(found["env"])
        assert found["given"]["words"] == ["seed=1"]
        assert found["env"]["RANK"] == found["env"]["LOCAL_RANK"] == str(rank)
        assert found["env"]["WORLD_SIZE"] == "2"


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ('tell("user", "no such thing", code=2)', UserError, "^no such thing$"),
        ('tell("data", "DATA-001", "no rows", code=65) if rank else time.sleep(60)', DataError, "DATA-001 no rows"),
        ('tell("pruned", "given up")', Pruned, "given up"),
        ('tell("disk", 28, "a/b: 0 bytes are free", code=74)', OSError, "0 bytes are free"),
        # the one that fails is named, and not the one that notices
        ('tell("other", "ValueError: odd", code=1) if rank else (wait_for("1.pid"), time.sleep(0.05), '
         'tell("other", "closed by peer", echo=True, code=1))', RankError, "^rank 1 of 2: ValueError: odd$"),
        ('os.kill(os.getpid(), signal.SIGKILL) if rank else tell("other", "closed by peer", echo=True, code=1)',
         RankError, "^rank 1 of 2 was killed by SIGKILL"),
        ('os._exit(3) if rank else time.sleep(60)', RankError, "^rank 1 of 2 ended with the exit code 3"),
        ('os._exit(0) if rank else tell("done", score=1.0)', RankError, "not all of 2 ranks"),
    ],
)  # fmt: skip
def test_one_that_fails_ends_all_and_is_named(run: Any, script: str, kind: type[BaseException], words: str) -> None:
    with pytest.raises(kind, match=words):
        run(script)


def test_one_that_stands_still_is_named_with_its_place(run: Any) -> None:
    script = """
def stuck():
    time.sleep(60)
beats.beat(rank)
stuck() if rank == 0 else None
beats.beat(rank)
time.sleep(60)
"""
    with pytest.raises(RankError, match=r"^rank 0 of 2.* in stuck stood still for 0.3 seconds \(patience\)"):
        run(script, patience=0.3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_waited_for(run: Any, tmp_path: Path, number: signal.Signals) -> None:
    script = f"""
def end(number, frame):
    tell("stopped", number, " at step 7", code=128 + number)
signal.signal({int(number)}, end)
(folder / f"{{rank}}.ready").touch()
wait_for("0.ready"), wait_for("1.ready")
os.kill(os.getppid(), {int(number)}) if rank else None
time.sleep(60)
"""
    with pytest.raises(Stopped) as stopped:
        run(script)
    assert stopped.value.reason == f"stopped by {number.name} at step 7"
    assert stopped.value.code == 128 + number


def test_a_signal_that_comes_before_they_listen(run: Any) -> None:
    with pytest.raises(Stopped) as stopped:
        run("os.kill(os.getppid(), signal.SIGTERM) if rank else None\ntime.sleep(60)")
    assert stopped.value.code == 143


def test_a_rank_ends_with_its_job(tmp_path: Path) -> None:
    """The job is killed: what is left of it is the end of a pipe."""
    import subprocess

    source = f"""
import sys
from pathlib import Path
from graftrec.training.distributed import launcher as launch
worker = ("-c", {BEGINNING!r} + '''
from graftrec.runs import worker
import threading
threading.Thread(target=worker._end_with_the_job, daemon=True).start()
wait_for("1.pid") if rank == 0 else None
(folder / "all").touch() if rank == 0 else None
time.sleep(60)
''')
launch.launch({{}}, Path({str(tmp_path)!r}), 2, worker)
"""
    job = subprocess.Popen([sys.executable, "-c", source])
    while not (tmp_path / "all").exists():
        assert job.poll() is None
    job.kill()
    job.wait()
    for rank in range(2):
        pid = int((tmp_path / f"{rank}.pid").read_text())
        while (Path("/proc") / str(pid)).exists():
            pass
