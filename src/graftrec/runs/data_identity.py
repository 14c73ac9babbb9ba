"""What a run came to is tied to its data: the fingerprint that its data card has is the one of the data as they are.

A finished job of the same settings on other data is not that job, and a run that goes on does so with its own data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftrec.utils import record_files
from graftrec.utils.errors import DataError

CARD = "data_card.json"
OF_DATA = ("dataset", "protocol", "split", "history", "candidates")
_known: dict[str, str] = {}  # settings of data -> their fingerprint: the jobs of a sweep mostly share theirs


def check(folder: Path, fingerprint: str) -> None:
    """DataError where the run in ``folder`` was begun with other data; one that has no card yet has trained nothing."""
    path = folder / CARD
    if not path.exists():
        return
    before = record_files.mapping(path, "take another folder (hydra.run.dir), or begin anew with resume=null").get(
        "fingerprint"
    )
    if len(str(before)) == len(fingerprint) and before != fingerprint:  # an older version named data otherwise
        raise DataError(
            "RUN-003",
            f"{folder} was trained on other data (fingerprint {before}) than there are now ({fingerprint}): an id, a "
            "row or a label has changed; bring the data back as they were, or begin anew with resume=null",
        )


def check_job(tree: Mapping[str, Any], folder: Path) -> None:
    """The same of a job that is about to count as finished: its data are read for it.

    Raises:
        UserError, DataError: also where the data cannot be read.
    """
    if not (folder / CARD).exists():
        return
    from graftrec.training.builder import protocol_of

    key = json.dumps([tree.get(name) for name in OF_DATA], sort_keys=True, default=str)
    if key not in _known:
        _known[key] = protocol_of(tree).fingerprint
    check(folder, _known[key])
