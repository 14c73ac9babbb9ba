"""Hydra's reader of folders: it reads no YAML beyond the limits, whichever folder it is in, and leaves out secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource as HydrasOwn
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from graftrec.utils import redaction, yaml_loader
from graftrec.utils.errors import UserError


class FileConfigSource(HydrasOwn):  # type: ignore[misc]  # Hydra has no types; its registry wants this very name
    """Reads ``file://``; see `graftrec.utils.yaml_loader`. What Hydra and launchers copy refers to secrets."""

    def load_config(self, config_path: str) -> Any:
        """One file, parsed once it is known to be small.

        Raises:
            UserError: it has more secrets than anybody has.
        """
        path = Path(os.path.realpath(os.path.join(self.path, self._normalize_file_name(config_path))))
        if path.is_file():
            yaml_loader.read(path)
        found = super().load_config(config_path)
        if not OmegaConf.is_dict(found.config):
            return found
        section = str(found.header.get("package") or config_path).partition("/")[0]
        defaults = found.config.pop("defaults", None)
        tree = {section: OmegaConf.to_container(found.config)} if section in redaction.NAMED else None
        held = tree or OmegaConf.to_container(found.config)
        try:
            left = redaction.stored(held)
        except ValueError as error:
            raise UserError(f"{path} holds {error}") from error
        if left != held:
            found.config = OmegaConf.create(left[section] if tree else left)
        if defaults is not None:
            found.config["defaults"] = defaults
        return found


def install() -> None:
    """Make it the reader of this process."""
    Plugins.instance()  # registers Hydra's own
    SourcesRegistry.instance().types["file"] = FileConfigSource
