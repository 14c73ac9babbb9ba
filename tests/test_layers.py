"""Who may import whom: read off the imports, as the README's layers say."""

import ast
from pathlib import Path

import graftrec

SOURCE = Path(graftrec.__file__).parent
NETWORK = {"torch"}
LOWER = {"schema", "batch", "errors", "data", "nn", "interactions", "trunks", "heads", "losses", "metrics", "balancers"}
LOWER |= {"files", "faults", "finite"}
LOWER |= {"tasks", "transfer", "optimizers", "gradients", "spreading"}  # L0 to L2: all that stands below the module
ALLOWED = {  # package or module -> what it may import of graftrec, and of others beside the standard library
    "schema.py": (set(), NETWORK),
    "batch.py": ({"schema"}, NETWORK),
    "nn": ({"schema", "batch", "nn"}, NETWORK),
    "interactions": ({"schema", "batch", "nn", "interactions"}, NETWORK),
    "trunks": ({"schema", "batch", "nn", "trunks"}, NETWORK),
    "heads": ({"schema", "batch", "nn", "heads"}, NETWORK),
    "losses": ({"schema", "batch", "losses"}, NETWORK),
    "metrics": ({"schema", "batch", "metrics"}, {"torch", "torchmetrics"}),
    "balancers": ({"schema", "batch", "balancers"}, {"torch", "torchjd"}),
    "optimizers": ({"optimizers"}, NETWORK),
    "gradients.py": ({"optimizers"}, NETWORK),
    "spreading.py": ({"batch", "nn", "trunks"}, NETWORK),
    "tasks": ({"schema", "batch", "heads", "losses", "metrics", "tasks"}, NETWORK),
    "transfer": ({"schema", "batch", "errors", "nn", "losses", "optimizers", "tasks", "transfer"}, NETWORK),
    "data": (
        {"schema", "batch", "data", "errors", "files", "machine", "redaction"},
        {"torch", "pyarrow", "polars", "numpy", "pytorch_lightning"},
    ),
    "sharding.py": (set(), {"torch", "pytorch_lightning"}),
    "module.py": (LOWER | {"sharding", "checkpoint"}, {"torch", "pytorch_lightning"}),
    "keeper.py": (LOWER | {"checkpoint", "stop"}, {"torch", "pytorch_lightning"}),
    "errors.py": (set(), set()),
    "stop.py": ({"errors"}, set()),
    "finite.py": ({"batch", "errors"}, NETWORK),
    "files.py": ({"errors"}, set()),
    "redaction.py": (set(), set()),
    "slots.py": (set(), set()),
    "bounds.py": (set(), set()),
    "environment.py": (set(), set()),
    "plain.py": ({"redaction"}, set()),
    "machine.py": (set(), set()),
    "yaml_limits.py": ({"errors", "plain"}, {"omegaconf"}),
    "texts.py": (set(), set()),
    "guard.py": ({"data", "redaction", "texts"}, {"omegaconf"}),
    "faults.py": (set(), set()),
    "beats.py": (set(), set()),
    "ranks.py": ({"errors"}, NETWORK),
    "pulse.py": ({"beats", "faults"}, {"pytorch_lightning"}),
    "manifest.py": ({"errors", "files"}, set()),
    "checkpoint.py": (LOWER | {"manifest"}, {"torch", "pytorch_lightning"}),
    # what a verdict rests on is numbers of users and nothing else: the same for a run, a comparison and an audit
    "analysis/statistics.py": (set(), {"numpy"}),
    "analysis/units.py": ({"analysis", "files", "metrics"}, {"numpy", "polars"}),
    "analysis/verdicts.py": ({"analysis", "metrics"}, set()),
    "analysis/beside.py": ({"analysis", "metrics"}, set()),
    "analysis/belonging.py": ({"config", "errors", "records"}, set()),
    "records.py": ({"errors", "yaml_limits"}, {"polars", "pyarrow"}),
}
HEAVY = {
    "torch",
    "pytorch_lightning",
    "lightning_utilities",
    "hydra",
    "omegaconf",
    "wandb",
    "polars",
    "pyarrow",
    "torchjd",
    "torchmetrics",
    "numpy",
    "matplotlib",
    "rich",
}
FRAMES = {"hydra", "omegaconf", "wandb"}  # what composes and shows a run, kept out of what is trained
L4 = {"config", "cli", "resume", "overrides", "jobs", "sweep", "sweep_job", "train", "worker", "predict"}
L4 |= {"data_card", "doctor", "analysis", "report", "launch", "group", "watch", "guard", "hydra_source", "yaml_limits"}
LIGHTNING = {"pytorch_lightning", "lightning_utilities", "lightning", "lightning_fabric"}
# what needs the trainer; in data, the protocols' base
TRAINS = {"module", "checkpoint", "keeper", "cost", "phases", "pruning", "pulse", "report", "data", "sharding", "group"}


def imports(path: Path) -> set[str]:
    """Full names of what is imported, also inside functions; ``from graftrec import cli`` is ``graftrec.cli``."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "graftrec":
            names |= {f"graftrec.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            names.add(node.module)
    return names


def sources(name: str) -> list[Path]:
    found = [SOURCE / name] if name.endswith(".py") else sorted((SOURCE / name).rglob("*.py"))
    assert found, f"no source under {name}"
    return found


def test_every_layer_imports_only_what_it_may() -> None:
    broken, read = [], 0
    for package, (ours, others) in ALLOWED.items():
        for path in sources(package):
            read += 1
            for name in imports(path):
                head, _, rest = name.partition(".")
                wrong = rest.split(".")[0] not in ours if head == "graftrec" else head in HEAVY and head not in others
                if wrong:
                    broken.append(f"{path.relative_to(SOURCE)} imports {name}")
    assert broken == []
    assert read > 40


def test_each_library_has_its_place() -> None:
    broken, users = [], dict.fromkeys((*FRAMES, *LIGHTNING), 0)
    for path in SOURCE.rglob("*.py"):
        layer = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for name in {name.partition(".")[0] for name in imports(path)} & set(users):
            users[name] += 1
            if layer not in (L4 if name in FRAMES else TRAINS):
                broken.append(f"{path.relative_to(SOURCE)} imports {name}")
    assert broken == []
    assert all(users[name] for name in (*FRAMES, "pytorch_lightning"))
    assert not users["lightning"]  # two names of one library would be two classes of everything


def test_every_package_has_its_layer() -> None:
    """A new package or module is L4 unless it is named here: what L3 imports is below L3."""
    for name in ("phases", "assemble", "train", "trainings", "recommender"):
        assert "graftrec.config" in imports(SOURCE / f"{name}.py"), f"{name} builds, which is L4"
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages - set(ALLOWED) == {"analysis", "report"}
