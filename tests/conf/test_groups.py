"""Every class has its YAML and every YAML its class."""

import importlib
import inspect
import pkgutil

import pytest
import yaml

import graftrec
from graftrec import config

GROUPS = {"trunk": "trunks", "head": "heads", "loss": "losses", "balancer": "balancers", "transfer": "transfer"}


def classes(group: str) -> set[str]:
    package = importlib.import_module(f"graftrec.{GROUPS[group]}")
    found = set()
    for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        base = importlib.import_module(f"{package.__name__}.base")
        bases = tuple(c for c in vars(base).values() if inspect.isclass(c) and inspect.isabstract(c))
        for value in vars(module).values():
            if inspect.isclass(value) and issubclass(value, bases) and not inspect.isabstract(value):
                found.add(f"{value.__module__}.{value.__name__}")
    return found


@pytest.mark.parametrize("group", GROUPS)
def test_one_class_one_yaml(group: str) -> None:
    files = sorted((config.conf_dir() / group).glob("*.yaml"))
    targets = {}
    for path in files:
        tree = yaml.safe_load(path.read_text())
        target = config.resolve(tree.pop("_target_"))
        assert set(tree) <= set(inspect.signature(target).parameters)
        targets[path.stem] = f"{target.__module__}.{target.__name__}"
        assert target.__module__.rpartition(".")[2] == path.stem
    assert classes(group) == set(targets.values())
    assert len(files) == len(targets) >= 2
    assert graftrec.__version__
