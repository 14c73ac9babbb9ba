"""Verbs that take flags: one parser, the same errors, help of their own, and nothing heavy for either."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import graftrec
from graftrec.cli import main
from graftrec.config.flags import COMMANDS

every_command = pytest.mark.parametrize("command", COMMANDS)


@every_command
def test_what_is_typed_wrongly_is_named_with_what_was_meant(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [flag for flag in COMMANDS[command]._option_string_actions if flag not in ("-h", "--help")]
    for flag in flags:
        words = command.split()
        assert main.main([*words, f"{flag[:-1]}x", "x"]) == 2, flag
        assert f"{flag[:-1]}x: no such flag; did you mean '--" in capsys.readouterr().err
        for odd in ([flag], [f"{flag}="], [flag, flag, "x"]):
            assert main.main([*words, "x", *odd]) == 2, odd
            assert f"usage: graftrec {command}" in capsys.readouterr().err
    assert main.main(command.split()) == 2
    assert f"no {COMMANDS[command].what} is given; usage: graftrec {command}" in capsys.readouterr().err


@every_command
def test_a_command_has_help_of_its_own(command: str) -> None:
    code = (
        f"import sys; from graftrec.cli.main import main; code = main({command.split()!r} + ['--help']); "
        "print(code, [name for name in ('torch', 'hydra', 'polars', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: graftrec {command} ")
    assert done.stdout.splitlines()[-1] == "0 []"
    assert all(flag in done.stdout for flag in COMMANDS[command]._option_string_actions)


def test_no_other_module_takes_words_apart() -> None:
    """Whoever reads a command line by itself has other errors than the rest."""
    own = ("config/flags.py", "cli/main.py", "runs/overrides.py", "runs/sweep/launched_jobs.py")
    home = Path(graftrec.__file__).parent
    found = [
        name
        for path in home.rglob("*.py")
        if (name := path.relative_to(home).as_posix()) not in own
        if any(sign in path.read_text() for sign in ("argparse", '"--help"', "no such flag"))
    ]
    assert found == []


def test_get_names_all_that_it_offers() -> None:
    from graftrec.cli.data_get import OFFERS

    said = COMMANDS["data get"].format_help().replace(",", " ").replace(".", " ").split()
    assert set(OFFERS) <= set(said)
