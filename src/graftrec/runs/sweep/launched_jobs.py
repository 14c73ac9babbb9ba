"""Jobs of a sweep in processes that a launcher started: they end with the sweep's process, and hear of its signals.

The sweep's process writes the number of a signal into `STOP` in the sweep's folder. Each of its processes looks for it,
and for its parent: what trains then saves what it has and says that it was stopped, and no other job is begun.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graftrec.utils.atomic_files import remove, write_text
from graftrec.utils.signals import SIGNALS, stop

STOP = ".stop"
LOOKS = 0.25  # seconds between two looks
_watched = False  # whether this process has its watcher


@contextmanager
def passed_on(sweep: Path) -> Iterator[None]:
    """In the sweep's process: a signal does not end it before its processes have heard of it and saved what they have.

    Raises:
        SystemExit: at the end, where a signal came.
    """
    remove(sweep / STOP)
    ended, stop.listening = threading.Event(), True
    teller = threading.Thread(target=_tell, args=(sweep, ended), daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
        number, stop.listening = stop.number, False
        remove(sweep / STOP)
    if number is not None:
        raise SystemExit(128 + number)


def _tell(sweep: Path, ended: threading.Event) -> None:
    while not ended.wait(LOOKS):
        if stop.number is not None:
            write_text(sweep / STOP, f"{int(stop.number)}\n")
            return


def attend(sweep: Path, parent: int) -> None:
    """In such a process: from now on it ends with ``parent``, and signals between two jobs say nothing of their own."""
    global _watched
    if not _watched:
        _watched = True
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)
        threading.Thread(target=_watch, args=(sweep, parent), daemon=True).start()


def is_stopping(sweep: Path) -> bool:
    """Whether no job is to begin any more."""
    return (sweep / STOP).exists()


def _watch(sweep: Path, parent: int) -> None:
    told = False
    while True:
        if os.getppid() != parent:
            os._exit(1)
        if not told and is_stopping(sweep):
            told = True
            if stop.number is None:  # a terminal tells all processes itself
                os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(LOOKS)
