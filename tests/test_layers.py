"""Who may import whom: read off the imports, as the README's layers say."""

import ast
from pathlib import Path

import graftrec

SOURCE = Path(graftrec.__file__).parent
NETWORK = {"torch"}
ALLOWED = {  # package -> what it may import of graftrec, and of others beside the standard library
    "nn": ({"schema", "batch", "nn"}, NETWORK),
    "trunks": ({"schema", "batch", "nn", "trunks"}, NETWORK),
    "heads": ({"schema", "batch", "nn", "heads"}, NETWORK),
    "losses": ({"schema", "batch", "losses"}, NETWORK),
    "metrics": ({"schema", "batch", "metrics"}, {"torch", "torchmetrics"}),
    "balancers": ({"schema", "batch", "balancers"}, {"torch", "torchjd"}),
    "transfer": ({"schema", "batch", "transfer"}, {"torch"}),
    "data": ({"schema", "batch", "data", "errors"}, {"torch", "pyarrow", "polars", "numpy", "pytorch_lightning"}),
}
HEAVY = {
    "torch",
    "pytorch_lightning",
    "hydra",
    "omegaconf",
    "wandb",
    "polars",
    "pyarrow",
    "torchjd",
    "torchmetrics",
    "numpy",
}


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_every_layer_imports_only_what_it_may() -> None:
    broken, read = [], 0
    for package, (ours, others) in ALLOWED.items():
        for path in (SOURCE / package).rglob("*.py"):
            read += 1
            for name in imports(path):
                head, _, rest = name.partition(".")
                wrong = rest.split(".")[0] not in ours if head == "graftrec" else head in HEAVY and head not in others
                if wrong:
                    broken.append(f"{path.relative_to(SOURCE)} imports {name}")
    assert broken == []
    assert read > 25
