"""Standard streams that never end a run: what they cannot take is lost, and the work goes on."""

from __future__ import annotations

import errno
import io
import logging
import os
import select
import sys
from contextlib import suppress
from typing import Any

from graftrec.utils.terminal_text import OBEYED, tell

_lost: dict[int, OSError] = {}  # descriptor -> why it takes nothing any more


class _Lasting(io.FileIO):
    """A descriptor that takes everything: after its first failure it leads to nowhere, in children as well."""

    def write(self, data: Any, /) -> int:
        """All bytes, however full a pipe is that does not wait."""
        size = memoryview(data).nbytes
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])
        except OSError as error:
            _give_up(self.fileno(), error)
            return size
        return written


def last() -> None:
    """Make this process's own standard streams ones that last; those that somebody has put in their place stay.

    Letters that the encoding of a stream does not have are replaced. One that is closed leads to nowhere, as the next
    file that is opened would else be in its place.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            _nowhere(descriptor)
    if sys.stdout is sys.__stdout__ and not _lasts(sys.stdout):
        sys.stdout = sys.__stdout__ = _stream(1, sys.stdout, "replace")  # type: ignore[misc]
    if sys.stderr is sys.__stderr__ and not _lasts(sys.stderr):
        sys.stderr = sys.__stderr__ = _stream(2, sys.stderr, "backslashreplace")  # type: ignore[misc]
    logging.setLogRecordFactory(_Record)


def full() -> bool:
    """Whether what was printed is not there, though somebody waits for it: a reader that is gone does not."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    return 1 in _lost and _lost[1].errno != errno.EPIPE


class _Record(logging.LogRecord):
    """A line of a log, whose text, perhaps a stranger's, no terminal obeys."""

    def getMessage(self) -> str:  # noqa: N802 as it is called in logging
        """The message with its arguments."""
        return super().getMessage().translate(OBEYED)


def _lasts(stream: Any) -> bool:
    return isinstance(getattr(getattr(stream, "buffer", None), "raw", None), _Lasting)


def _stream(descriptor: int, before: Any, errors: str) -> io.TextIOWrapper:
    """``before`` is None where the descriptor was closed when Python began."""
    if before is not None:
        with suppress(OSError):
            before.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Lasting(descriptor, "w", closefd=False)),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors=errors,
        line_buffering=getattr(before, "line_buffering", True),
        write_through=getattr(before, "write_through", False),
    )


def _give_up(descriptor: int, error: OSError) -> None:
    _lost[descriptor] = error
    _nowhere(descriptor)
    if descriptor == 1 and error.errno != errno.EPIPE:
        tell(f"graftrec: standard output: {error.strerror}; the work goes on, and what it prints is lost")


def _nowhere(descriptor: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    if opened != descriptor:
        os.dup2(opened, descriptor)
        os.close(opened)
    else:
        os.set_inheritable(descriptor, True)
