"""The two errors that are not a bug of ours, the user's settings and the user's data; the exit code of any error."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

DISK, INTERRUPTED, TERMINATED = 74, 130, 143
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, no quota, and a limit on the size of a file


class UserError(Exception):
    """The command or the configuration is wrong: ``problems`` says all of what, and what to do."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("; ".join(self.problems))


class DataError(Exception):
    """The data cannot be used. ``code`` names the rule that it breaks: ``DataError("DATA-003", "no rows")``."""

    exit_code = 65

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(code, message)

    def __str__(self) -> str:
        return f"{self.code} {self.message}"

    @staticmethod
    def raise_all(problems: Sequence[DataError]) -> None:
        """Raise one error that says all of ``problems``, if there are any."""
        if problems:
            first, *others = problems
            raise DataError(first.code, "\n".join([first.message, *map(str, others)]))


class Pruned(Exception):  # noqa: N818 it is no failure
    """A trial of a search is given up, since its validation scores are behind those of others."""

    exit_code = 0


class RankError(Exception):
    """One of several processes that train together failed, in a way that it has told itself, or is gone."""


class Stopped(SystemExit):
    """A signal asked for the end: exit code 143 for SIGTERM, 130 for SIGINT. ``where`` says how far it came."""

    def __init__(self, number: int, where: str = "") -> None:
        super().__init__(128 + number)
        self.number, self.where = number, where
        self.reason = f"stopped by {signal.Signals(number).name}{where}"


def outcome(error: BaseException) -> tuple[int, str]:
    """The exit code and the one-line reason of an exception."""
    if isinstance(error, (UserError, DataError, Pruned)):
        return error.exit_code, str(error)
    if isinstance(error, RankError):
        return 1, str(error)
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno in FULL:
            return DISK, f"no space left on the disk: {cause.strerror or cause}"
    if isinstance(error, Stopped):
        return int(error.code or 1), error.reason
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, SystemExit):
        if error.code == TERMINATED:
            return TERMINATED, "terminated"
        if any(isinstance(cause, KeyboardInterrupt) for cause in causes):  # Lightning turns it into exit(1)
            return INTERRUPTED, "interrupted"
        return (error.code, f"exit {error.code}") if isinstance(error.code, int) else (1, str(error.code))
    return 1, f"{type(error).__name__}: {error}".splitlines()[0]


def described(error: BaseException) -> dict[str, Any]:
    """An error as plain data, to be raised again in another process; see `raised`."""
    if isinstance(error, UserError):
        return {"kind": "user", "said": error.problems}
    if isinstance(error, DataError):
        return {"kind": "data", "said": [error.code, error.message]}
    if isinstance(error, Pruned):
        return {"kind": "pruned", "said": [str(error)]}
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in FULL:
            return {"kind": "disk", "said": [cause.errno, cause.strerror or str(cause)]}
    if isinstance(error, Stopped):
        return {"kind": "stopped", "said": [error.number, error.where]}
    code, reason = outcome(error)
    if code in (INTERRUPTED, TERMINATED):
        return {"kind": "stopped", "said": [code - 128, ""]}
    return {"kind": "other", "said": [reason]}


def raised(told: Mapping[str, Any]) -> BaseException:
    """What `described` told, as an error again; one that is not the user's is a `RankError`."""
    said = told["said"]
    if told["kind"] == "user":
        return UserError(said)
    known: dict[str, Callable[..., BaseException]] = {
        "data": DataError, "pruned": Pruned, "disk": OSError, "stopped": Stopped,
    }  # fmt: skip
    return known.get(told["kind"], RankError)(*said)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
