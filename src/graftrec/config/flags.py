"""What ``graftrec compare``, ``data init`` and ``data get`` take: files and flags, where other verbs take settings.

Nothing heavy is imported here, so that help and typos are answered at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from graftrec.utils.errors import UserError

_INIT = """Guess what the columns of files mean, and write a folder of YAML to start from.

Each guess is told with its reason. Where a name says nothing, say it yourself: --user Kunde --item Artikel."""
_GET = """Fetch a public dataset from its publisher, check it and convert it.

NAME is one of movielens, movielens_1m and adult."""
_COMPARE = """Compare runs over seeds, with paired tests.

RUN is a run folder, or a folder of runs such as a sweep's. The first group is what the others are compared with.
Without --metric the run's main metric counts, and all cohorts of it; the arm is grafted. A verdict needs 3 seeds, and
is of the task's main metric and of what all runs declared (verdicts)."""


class Flags(argparse.ArgumentParser):
    """A command's words; what is wrong with them is a `UserError`, with the flag that was meant."""

    def __init__(self, command: str, does: str, what: str, **flags: str) -> None:
        """Take ``what`` any number of times and ``flags``: name -> what its value is, and what it says."""
        super().__init__(
            f"graftrec {command}",
            description=does,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.what = what
        self.add_argument("given", nargs="*", metavar=what)
        for name, text in flags.items():
            value, _, says = text.partition(": ")
            self.add_argument(f"--{name}", metavar=value, help=says)

    def read(self, words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """What was given, and the values of the flags that were.

        Raises:
            UserError: flags that are not there, or without a value; nothing is given.
        """
        found, odd = self.parse_known_intermixed_args(list(words))
        options = {name: value for name, value in vars(found).items() if name != "given" and value is not None}
        if odd:
            from graftrec.config.instantiate import near

            raise UserError([
                f"{word}: no such flag{near(word.partition('=')[0], self._option_string_actions)}" for word in odd
            ])  # fmt: skip
        if not found.given or "" in options.values():
            self.error(f"no {self.what} is given" if not found.given else "a flag has no value")
        return found.given, options

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the words, and how they are written."""
        raise UserError(f"{message}; {' '.join(self.format_usage().split())}")


COMMANDS = {
    "compare": Flags(
        "compare", _COMPARE, "RUN",
        out="FILE.json: where the report is written too", metric="NAME: what is compared", task="NAME: of which task",
        arm="NAME: of which arm; grafted",
    ),
    "data init": Flags(
        "data init", _INIT, "FILE",
        out="FOLDER: where the YAML is written", user="COLUMN: who", item="COLUMN: what", time="COLUMN: when",
    ),
    "data get": Flags("data get", _GET, "NAME", root="FOLDER: where the files are written; data/NAME"),
}  # fmt: skip
