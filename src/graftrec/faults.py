"""Faults on demand, for tests: ``GRAFTREC_FAULT="train:7:sigterm,val:2:sigkill,save:3:enospc"``.

Each entry is ``point:count:kind``: at the ``count``-th time (from 1) that the program passes the point. Points are
``data`` (before data are read), ``setup`` (before the models are built), ``train`` and ``val`` (before a batch) and
``save`` (four in each save: before the file is written, after, before it takes its name, before the manifest is final).
"""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter

VARIABLE = "GRAFTREC_FAULT"
SIGNALS = {"sigterm": signal.SIGTERM, "sigint": signal.SIGINT, "sigkill": signal.SIGKILL}
_passed: Counter[str] = Counter()


def strike(point: str) -> None:
    """Do what the environment asks for at this point.

    Raises:
        OSError: the disk is full, if that is it. ValueError: an entry that means nothing.
    """
    plan = os.environ.get(VARIABLE)
    if not plan:
        return
    _passed[point] += 1
    for entry in plan.split(","):
        where, count, kind = entry.split(":")
        if kind not in SIGNALS and kind != "enospc":
            raise ValueError(f"{VARIABLE} should have {', '.join(SIGNALS)} or enospc in {entry}. Found {kind}.")
        if (where, int(count)) != (point, _passed[point]):
            continue
        if kind == "enospc":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.kill(os.getpid(), SIGNALS[kind])
