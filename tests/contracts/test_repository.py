"""What is committed holds no output of a notebook, no key and no path of somebody's machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "conf", "scripts", "notebooks", "tests", ".ci")
TEXTS = (".py", ".yaml", ".toml", ".md", ".txt", ".ipynb", ".json", "")
KEYS = re.compile(
    r"AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|hf_[A-Za-z0-9]{34}|sk-[A-Za-z0-9_-]{32}|xox[bap]-[0-9A-Za-z-]{10}"
    r"|pypi-[A-Za-z0-9_-]{50}|BEGIN [A-Z ]*PRIVATE KEY|(?i:api_key|password)['\"]?\s*[:=]\s*['\"]?[0-9a-f]{32}"
)


def texts() -> list[Path]:
    found = [path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXTS and path.name != ".git"]
    for folder in FOLDERS:
        found += [path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix in TEXTS]
    return [path for path in found if "__pycache__" not in path.parts]


def test_no_notebook_has_outputs() -> None:
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        assert cells
        assert [cell for cell in cells if cell["outputs"] or cell["execution_count"] is not None] == [], path


def test_no_key_is_committed() -> None:
    found = texts()
    assert len(found) > 400
    for path in found:
        assert not KEYS.search(path.read_text(encoding="utf-8", errors="replace")), path


@pytest.mark.parametrize(
    "text",
    [
        "AKIA" + "A1" * 8,
        "ghp_" + "a" * 36,
        "hf_" + "b" * 34,
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        'api_key: "' + "0a" * 16 + '"',
    ],
)
def test_a_key_would_be_seen(text: str) -> None:
    assert KEYS.search(text)


@pytest.mark.parametrize(("text", "least"), [("CONTRIBUTING.md", 10), ("SECURITY.md", 10), ("README.md", 2)])
def test_places_that_readers_are_sent_to_are_there(text: str, least: int) -> None:
    found = re.findall(r"`([\w./]+/[\w.]*\.(?:py|yaml))(?::\w+)?`", (ROOT / text).read_text())
    named = {name for name in found if Path(name).stem not in ("mine", "NAME")}
    assert len(named) >= least
    homes = (ROOT, ROOT / "src", ROOT / "src/graftrec")
    assert [name for name in sorted(named) if not any((home / name).is_file() for home in homes)] == []
