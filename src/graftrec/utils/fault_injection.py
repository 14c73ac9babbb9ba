"""Faults on demand, for tests: ``GRAFTREC_FAULT="train:7:sigterm,val:2:sigkill,save:3:enospc"``.

Each entry is ``point:count:kind``: at the ``count``-th time (from 1) that the program passes the point. Points are
``data`` (before data are read), ``setup`` (before the models are built), ``train`` and ``val`` (before a batch) and
``save`` (four in each save: before the file is written, after, before it takes its name, before the manifest is final).
Kinds are signals, ``enospc``, ``raise`` and ``hang``; ``train:7:hang@1`` strikes the second of several processes alone.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections import Counter

VARIABLE = "GRAFTREC_FAULT"
SIGNALS = {"sigterm": signal.SIGTERM, "sigint": signal.SIGINT, "sigkill": signal.SIGKILL}
OTHERS = ("enospc", "raise", "hang")
_passed: Counter[str] = Counter()


def strike(point: str) -> None:
    """Do what the environment asks for at this point.

    Raises:
        OSError: the disk is full, if that is it. RuntimeError: if that is it. ValueError: an entry that means nothing.
    """
    plan = os.environ.get(VARIABLE)
    if not plan:
        return
    _passed[point] += 1
    for entry in plan.split(","):
        where, count, told = entry.split(":")
        kind, _, rank = told.partition("@")
        if kind not in (*SIGNALS, *OTHERS):
            raise ValueError(f"{VARIABLE} should have {', '.join([*SIGNALS, *OTHERS])} in {entry}. Found {kind}.")
        if (where, int(count)) != (point, _passed[point]) or rank not in ("", os.environ.get("RANK", "0")):
            continue
        if kind == "enospc":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if kind == "raise":
            raise RuntimeError(f"{VARIABLE}={entry}")
        while kind == "hang":
            time.sleep(60)
        os.kill(os.getpid(), SIGNALS[kind])
