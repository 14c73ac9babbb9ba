"""A small scripts/chaos.py: sixty attempts at breaking it, of which none succeeds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "chaos.py"


@pytest.mark.slow
def test_two_minutes_of_chaos_find_nothing() -> None:
    words = [sys.executable, str(SCRIPT), "--minutes", "2", "--seed", "1"]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=1200)
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert (found["tried"], found["wrong"]) == (60, 0)
    assert set(found["groups"]) == {"kills", "damage", "settings", "files", "outputs", "words", "strangers"}
