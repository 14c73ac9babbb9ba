"""``manifest.json`` beside checkpoints: the sha256 that each of them should have.

It is written twice for each save: before files take their names, with what they will be (``pending``), and after, when
only that counts. So at no moment is a whole file taken for a damaged one, nor an older one for the newest. It holds a
sha256 of itself.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graftrec.utils.atomic_files import whole
from graftrec.utils.errors import DataError

VERSION, NAME = 2, "manifest.json"
Entry = dict[str, Any]  # bytes, sha256, step


@dataclass
class Manifest:
    """What the checkpoints of a folder should be: file name -> its entry."""

    files: dict[str, Entry] = field(default_factory=dict)
    pending: dict[str, Entry] = field(default_factory=dict)

    def of(self, name: str) -> list[Entry]:
        """What a file may be; empty for one that is not listed."""
        return [entries[name] for entries in (self.files, self.pending) if name in entries]

    def text(self) -> str:
        """The file's content; every other text is a damaged one."""
        held = {"version": VERSION, "files": self.files, "pending": self.pending}
        own = hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()
        return json.dumps({**held, "sha256": own}, indent=2, sort_keys=True) + "\n"

    def write(self, folder: Path) -> None:
        """Replace the manifest of a folder as a whole."""
        with whole(folder / NAME, lasting=True) as draft:
            draft.write_text(self.text(), encoding="utf-8")


def read(folder: Path) -> Manifest:
    """The manifest of a folder; an empty one where there is none.

    Raises:
        DataError: it is damaged, or newer than this program.
    """
    path = folder / NAME
    if not path.is_file():
        return Manifest()
    damaged = DataError(
        "CKPT-006", f"{path} is damaged, so no checkpoint beside it can be trusted; delete the folder {folder}"
    )
    try:
        text = path.read_text(encoding="utf-8")
        held = json.loads(text)
        version = held["version"]
        if version == 1:  # without a sha256 of itself; one for a whole run, with names of folders
            return Manifest({name: entry for name, entry in held["files"].items() if "/" not in name})
        if isinstance(version, int) and version > VERSION:
            raise DataError("CKPT-005", f"{path} was made by a newer version of graftrec; install that")
        found = Manifest(held["files"], held["pending"])
        same = found.text() == text
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged from error
    if not same:
        raise damaged
    return found
