"""SIGTERM and SIGINT: an exception at once, or, while a phase trains, a wish that it grants after the batch."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from graftrec.utils.errors import INTERRUPTED, Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """What was asked for by a signal.

    Attributes:
        number: of the first signal that came, or None. listening: whether someone looks at ``number`` often, so that
            no exception needs to be raised.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.listening = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: the first one stops, a second Ctrl-C leaves at once, other repetitions say nothing new."""
        if self.number is not None:
            if number == signal.SIGINT:
                os._exit(128 + number)  # files take their names when they are complete, so none is torn
            return
        self.number = number
        if not self.listening:
            raise Stopped(number)

    def listen(self) -> None:
        """From now on `number` is looked at; Lightning's own handler, which would end an epoch early, is replaced."""
        self.listening = True
        if threading.current_thread() is threading.main_thread() and self._handles():
            signal.signal(signal.SIGTERM, self)

    def _handles(self) -> bool:
        return signal.getsignal(signal.SIGINT) is self

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let Ctrl-C end this process with one line, wherever it is: an import or a library may swallow exceptions.

        For what comes before and after the work, which is handled by `signals`.
        """
        ours = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGINT)
        if ours and before is signal.default_int_handler:
            signal.signal(signal.SIGINT, _leave)
        try:
            yield
        finally:
            if ours:
                signal.signal(signal.SIGINT, before)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Handle both signals; afterwards all is as it was."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self.number, self.listening = None, False
        for number in SIGNALS:
            signal.signal(number, self)
        try:
            yield
        finally:
            self.number, self.listening = None, False
            for number, handler in before.items():
                signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, f"graftrec: interrupted (exit code {INTERRUPTED})\n".encode())
    os._exit(INTERRUPTED)


stop = Stop()  # one per process, as signals are
