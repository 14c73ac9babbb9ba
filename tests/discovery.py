"""Find every class of a contract by walking its package: a new file is enough to be tested."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any


def classes(package: str) -> list[type[Any]]:
    """The concrete classes in ``graftrec.<package>`` that implement what its ``base`` module defines, by name."""
    home = importlib.import_module(f"graftrec.{package}")
    base = importlib.import_module(f"{home.__name__}.base")
    contracts = tuple(
        c for c in vars(base).values() if inspect.isclass(c) and inspect.isabstract(c) and c.__module__ == base.__name__
    )
    found = []
    for info in pkgutil.walk_packages(home.__path__, f"{home.__name__}."):
        for value in vars(importlib.import_module(info.name)).values():
            ours = inspect.isclass(value) and value.__module__ == info.name and issubclass(value, contracts)
            if ours and not inspect.isabstract(value):
                found.append(value)
    return sorted(found, key=lambda found_class: found_class.__qualname__)


def path_of(cls: type[Any]) -> str:
    """The name that YAML writes."""
    return f"{cls.__module__}.{cls.__qualname__}"
