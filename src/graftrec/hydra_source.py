"""Hydra's reader of folders: it reads no YAML beyond the limits, whichever folder it is in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource as HydrasOwn
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins

from graftrec import yaml_limits


class FileConfigSource(HydrasOwn):  # type: ignore[misc]  # Hydra has no types; its registry wants this very name
    """Reads ``file://``; see `graftrec.yaml_limits`."""

    def load_config(self, config_path: str) -> Any:
        """One file, parsed once it is known to be small."""
        path = Path(os.path.realpath(os.path.join(self.path, self._normalize_file_name(config_path))))
        if path.is_file():
            yaml_limits.read(path)
        return super().load_config(config_path)


def install() -> None:
    """Make it the reader of this process."""
    Plugins.instance()  # registers Hydra's own
    SourcesRegistry.instance().types["file"] = FileConfigSource
