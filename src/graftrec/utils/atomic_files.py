"""Files that are there as a whole or not at all, and the only place where anything is removed.

A draft in the same folder takes the name when it is complete. A folder goes with all that is in it only where it holds
`MARKER`, which says that this program made it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from graftrec.utils.errors import FULL, UserError

UNUSABLE = (  # errors of a folder that is not to be had or written
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG,
)  # fmt: skip
DRAFT = ".draft"  # the end of the name of a file that is not complete
MARKER = ".graftrec.json"  # in a folder that is ours
OURS = json.dumps({"made_by": "graftrec"}) + "\n"  # what a marker says at least


@contextmanager
def whole(path: Path, lasting: bool = False) -> Iterator[Path]:
    """A draft to write, which becomes ``path`` at the end; if anything goes wrong it is gone, and ``path`` as it was.

    Args:
        lasting: wait until the disk has it, so that it survives a crash of the machine as well.

    Raises:
        OSError: with the path and the free bytes, where the disk is full.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}{DRAFT}")
    remove(draft)
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
        remove(draft)


@contextmanager
def writing(folder: Path, advice: str) -> Iterator[None]:
    """Make a folder for what follows to write into, which goes again if that fails and nothing is in it.

    Raises:
        UserError: nothing can be written there, which is known at once: with the path, and with ``advice``.
    """
    new = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        yield
    except BaseException as error:
        for path in new:
            with suppress(OSError):  # something is in it
                remove(path)
        if isinstance(error, OSError) and error.errno in UNUSABLE and error.filename is not None:
            about = Path(os.fsdecode(error.filename))
            if about in folder.parents or about.is_relative_to(folder):
                raise UserError(f"{folder} cannot be used: {error.strerror} ({about}); {advice}") from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write a file as a whole; see `whole`."""
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


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


def is_ours(folder: Path) -> bool:
    """Whether this program made a folder: it holds a marker, which is a file and no link."""
    path = folder / MARKER
    if path.is_symlink() or not path.is_file():
        return False
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and said.get("made_by") == "graftrec"


def is_free(folder: Path) -> bool:
    """Whether a folder is ours or empty, beside what a killed process left of a marker."""
    return is_ours(folder) or (folder.is_dir() and all(is_draft(each) for each in folder.iterdir()))


def own(folder: Path) -> Path:
    """Make a folder that `remove` may take away with all that is in it; one that is there is ours or empty.

    Raises:
        UserError: it is a link, or somebody else's.
    """
    if folder.is_symlink():
        raise UserError(f"{folder} is a link, through which nothing is written; remove it, or choose another folder")
    if is_ours(folder):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    if not is_free(folder):
        raise UserError(
            f"{folder} was not made by graftrec (it holds no {MARKER}); move it away, or choose another one"
        )
    try:
        write_text(folder / MARKER, OURS)
    except BaseException:
        with suppress(OSError):  # a draft is in it
            remove(folder)
        raise
    return folder


def remove(path: Path, everything: bool = False) -> None:
    """Remove a file, an empty folder, or a link and not what it leads to; nothing else in the program removes.

    Args:
        everything: of a folder of ours (`own`) all that is in it as well.

    Raises:
        OSError: a folder that is not empty. UserError: ``everything`` of a folder that is not ours.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if everything:
        empty(path)
        (path / MARKER).unlink()
    path.rmdir()


def empty(folder: Path) -> None:
    """Remove all that is in a folder of ours but its marker: whoever is killed here leaves what can still be removed.

    Raises:
        UserError: the folder is not ours.
    """
    if not is_ours(folder):
        raise UserError(f"{folder} was not made by graftrec (it holds no {MARKER}), so it stays; move it away")
    for each in folder.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        elif each.name != MARKER:
            each.unlink()


def sweep(folder: Path) -> int:
    """Remove drafts that a killed process left anywhere in a folder of ours, which nobody else writes; how many."""
    left = [path for path in folder.rglob(f".*{DRAFT}") if is_draft(path)]
    for path in left:
        remove(path)
    return len(left)


def is_draft(path: Path) -> bool:
    """Whether this is what a killed process left of `whole`."""
    named = re.fullmatch(rf"\..+\.\d+{re.escape(DRAFT)}", path.name, re.DOTALL)
    return named is not None and (path.is_symlink() or path.is_file())
