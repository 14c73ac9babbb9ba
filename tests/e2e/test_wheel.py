"""The wheel works in another environment and from another folder."""

import json
import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str, cwd: Path) -> str:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, env=clean)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_wheel_trains_from_another_folder(tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT), cwd=tmp_path)
    (wheel,) = tmp_path.glob("graftrec-*.whl")
    assert "hydra_plugins/graftrec_optuna/sweeper.py" in zipfile.ZipFile(wheel).namelist()
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env/bin/python"
    run(*pip, "--python", str(python), "install", "--no-deps", str(wheel), cwd=tmp_path)
    # dependencies come from here; a path in a .pth file brings no editable install along
    (own,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    where = run(str(python), "-c", "import graftrec; print(graftrec.__file__)", cwd=tmp_path).strip()
    assert Path(where).is_relative_to(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    few = ("trainer.limit_train_batches=5", "transfer.epochs=1", "hydra.run.dir=run")
    command = tmp_path / "env/bin/graftrec"
    shown = run(str(command), "train", "experiment=complete_journey", *few, cwd=elsewhere)
    assert "grafted - twin" in shown
    metrics = json.loads((elsewhere / "run/metrics.json").read_text())
    assert set(metrics["test"]) == {"interest", "recommend", "relevance"}
    assert json.loads((elsewhere / "run/status.json").read_text())["state"] == "finished"
    assert (elsewhere / "run/report.html").stat().st_size > 10_000
