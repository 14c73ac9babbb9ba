"""Files that are there as a whole or not at all: a draft in the same folder takes the name when it is complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from graftrec.errors import FULL

DRAFT = ".draft"  # the end of the name of a file that is not complete


@contextmanager
def whole(path: Path, lasting: bool = False) -> Iterator[Path]:
    """A draft to write, which becomes ``path`` at the end; if anything goes wrong it is gone, and ``path`` as it was.

    Args:
        lasting: wait until the disk has it, so that it survives a crash of the machine as well.

    Raises:
        OSError: with the path and the free bytes, where the disk is full.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}{DRAFT}")
    draft.unlink(missing_ok=True)
    try:  # ours and no link that somebody put there; the rights are what the umask leaves
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666))
        yield draft
        if lasting:
            sync(draft)
        os.replace(draft, path)
        if lasting:
            sync(path.parent)
    except OSError as error:
        if error.errno in FULL and error.filename is None:  # writing does not say where
            raise no_space(error, path) from error
        raise
    finally:
        draft.unlink(missing_ok=True)


def no_space(error: OSError, path: Path, needed: int | None = None) -> OSError:
    """The same error, with what a user wants to know."""
    free = shutil.disk_usage(path.parent).free
    asked = "" if needed is None else f" needs {needed:,} bytes,"
    return OSError(error.errno, f"{path}:{asked} {free:,} bytes are free, or a limit on file sizes was met", str(path))


def sync(path: Path) -> None:
    """Wait until the disk has a file, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> int:
    """Remove drafts that a killed process left anywhere in ``folder``, which nobody else may be writing; how many."""
    left = [path for path in folder.rglob(f".*{DRAFT}") if path.is_file() or path.is_symlink()]
    for path in left:
        with suppress(FileNotFoundError):
            path.unlink()
    return len(left)
