"""Who may import whom: read off the syntax, also inside functions."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

import graftrec

ROOT = Path(__file__).parents[2]
SOURCE = Path(graftrec.__file__).parent
NETWORK = {"torch"}
# folder or file -> what it may import of graftrec, and of `LIBRARIES`; the order of the rooms is `layout`'s
WALLS = {
    "utils": ({"utils"}, {"numpy", "omegaconf", "polars", "pyarrow", "torch"}),
    "config": ({"config", "utils"}, {"hydra", "omegaconf"}),
    "data": ({"data", "utils"}, {"numpy", "polars", "pyarrow", "pytorch_lightning", "torch"}),
    "models": ({"data.batch", "data.schema", "models"}, NETWORK),
    "models/layers": ({"data.batch", "data.schema", "models.layers"}, NETWORK),
    "tasks": ({"data.batch", "data.schema", "models.heads", "tasks"}, {"torch", "torchmetrics"}),
    "tasks/losses": ({"data.schema", "tasks.losses"}, NETWORK),
    "tasks/metrics": ({"data.schema", "tasks.metrics"}, {"torch", "torchmetrics"}),
    "transfer": (
        {"data.batch", "data.schema", "models", "tasks", "transfer", "utils.errors", "utils.sparse_rows"},
        NETWORK,
    ),
    "evaluation": (
        {"config", "data", "evaluation", "tasks", "utils"},
        {"matplotlib", "numpy", "polars", "rich", "sklearn", "torch"},
    ),
    # what a verdict rests on is numbers of users and nothing else: the same for a run, a comparison and an audit
    "evaluation/statistics": ({"evaluation.statistics", "tasks.metrics", "utils.atomic_files"}, {"numpy", "polars"}),
    "evaluation/statistics/intervals.py": (set(), {"numpy"}),
    "training/balancers": ({"training.balancers"}, {"torch", "torchjd"}),
    "training/optimizers": ({"utils.sparse_rows"}, NETWORK),
    # what every process imports before it knows what it is to do
    "training/distributed/liveness.py": (set(), set()),
    "training/distributed/rank.py": ({"utils.errors"}, NETWORK),
    "utils/errors.py": (set(), set()),
    "utils/redaction.py": (set(), set()),
}
LIBRARIES = {
    "hydra", "joblib", "matplotlib", "numpy", "omegaconf", "optuna", "polars", "pyarrow", "pytorch_lightning", "rich",
    "sklearn", "torch", "torchjd", "torchmetrics", "wandb",
}  # fmt: skip
PLACES = {  # library -> folders in which it may be imported
    "hydra": ("cli", "config", "runs"),
    "omegaconf": ("config", "runs", "training/distributed", "utils/yaml_loader.py"),
    "wandb": ("training/loggers",),
    "pytorch_lightning": ("training", "data/protocols"),
    "lightning_utilities": ("training/loggers",),
    "lightning": (),  # two names of one library would be two classes of everything
    "lightning_fabric": ("training/distributed",),  # the environment of processes that others started
    "sklearn": ("evaluation/baselines",),
    "torchjd": ("training/balancers",),
}


def imports(path: Path) -> set[str]:
    """Full names of what is imported, also inside functions; ``from graftrec import cli`` is ``graftrec.cli``."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            ours = node.module.startswith("graftrec")
            names |= {f"{node.module}.{alias.name}" for alias in node.names} if ours else {node.module}
    return names


def sources(name: str) -> list[Path]:
    found = [SOURCE / name] if name.endswith(".py") else sorted((SOURCE / name).rglob("*.py"))
    assert found, f"no source under {name}"
    return found


def inside(name: str, rooms: set[str]) -> bool:
    return any(f"{name}.".startswith(f"graftrec.{room}.") for room in rooms)


@pytest.mark.parametrize("wall", WALLS)
def test_a_room_imports_only_what_it_may(wall: str) -> None:
    ours, others = WALLS[wall]
    broken = [
        f"{path.relative_to(SOURCE)} imports {name}"
        for path in sources(wall)
        for name in imports(path)
        if (not inside(name, ours) if name.startswith("graftrec") else name.split(".")[0] in LIBRARIES - others)
    ]
    assert broken == []


@pytest.mark.parametrize("library", PLACES)
def test_a_library_has_its_place(library: str) -> None:
    users = [path for path in SOURCE.rglob("*.py") if library in {name.partition(".")[0] for name in imports(path)}]
    names = [path.relative_to(SOURCE).as_posix() for path in users]
    assert [name for name in names if not name.startswith(PLACES[library])] == []
    assert bool(names) == bool(PLACES[library])


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    sys.modules.pop("layout", None)
    return importlib.import_module("layout")


def test_the_rooms_and_their_order(layout: ModuleType) -> None:
    places = layout.measure()
    assert {name for name, where in places.items() if len(where) > layout.LIMITS[name]} == set()
    for figure in ("names_at_the_top", "floors"):
        assert len(places[figure]) > 5, figure
    assert places["imports_upwards"] == []
    assert places["circles"] == []


def test_the_script_sees_what_is_wrong(layout: ModuleType, tmp_path: Path) -> None:
    files = {
        "utils/words.py": "from graftrec.cli import main\nMOST = 1\n",
        "cli/main.py": "MOST = 2\ndef verb(cfg):\n    return cfg['verb'], cfg.get('seed'), 'graftrec.utils.words'\n",
        "config/checks.py": "def key(cfg):\n    return cfg['verb']\n",
        "data/long.py": "\n" * 301,
        "loose.py": "",
    }
    for name in [*files, "__init__.py", "utils/__init__.py", "cli/__init__.py", "config/__init__.py"]:
        path = tmp_path / "graftrec" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files.get(name, ""))
    found = layout.measure(tmp_path)
    assert found["names_at_the_top"] == ["__init__", "cli", "config", "data", "loose", "utils"]
    assert found["imports_upwards"] == ["graftrec.utils.words:1 imports graftrec.cli.main"]
    assert found["circles"] == ["graftrec.cli.main graftrec.utils.words"]
    assert found["long_files"] == ["graftrec.data.long 301"]
    assert found["names_that_stand_twice"] == []  # of constants each module has its own
    assert found["raw_configuration"] == ["graftrec.cli.main:3", "graftrec.cli.main:3"]


def test_tests_stand_where_their_sources_do() -> None:
    home = ROOT / "tests" / "unit"
    folders = {path.parent.relative_to(home) for path in home.rglob("test_*.py")}
    assert len(folders) > 15
    assert [str(folder) for folder in folders if not (SOURCE / folder).is_dir()] == ["scripts"]
