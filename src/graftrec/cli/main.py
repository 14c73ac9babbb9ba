"""``graftrec VERB key=value``: help at once; else check the settings ourselves, then let Hydra compose and run."""

from __future__ import annotations

import difflib
import sys
import textwrap
from contextlib import nullcontext
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from graftrec import __version__
from graftrec.config.flags import COMMANDS
from graftrec.utils import standard_streams
from graftrec.utils.errors import DISK, INTERRUPTED, UserError
from graftrec.utils.signals import stop
from graftrec.utils.terminal_text import say, tell


class Verb(NamedTuple):
    """What a verb does, and examples of it; ``config`` is its primary file in conf, ``runs`` its module."""

    does: str
    config: str
    runs: str
    examples: str


_TRAIN = """graftrec train
graftrec train trunk=mmoe seed=1
graftrec train 'task@source=[...]' 'task@target=[...]' 'task@shared=[...]' lambda_shared=0.3
graftrec train experiment=NAME
graftrec train -m seed=0,1,2 trunk=shared_bottom,mmoe
graftrec train --cfg job"""
_DATA = """graftrec data check dataset=NAME protocol=NAME
graftrec data init FILE... --out FOLDER
graftrec data get NAME --root FOLDER
graftrec data --cfg job"""
_AUDIT = """graftrec audit experiment=complete_journey_departments
graftrec audit 'task@source=[...]' 'task@target=[...]' audit.seeds=5
graftrec audit -m ... protocol.overlap_users=0,0.25,0.5,1"""
_COMPARE = "graftrec compare runs/A runs/B ...\ngraftrec compare runs/SWEEP"
_PREDICT = "graftrec predict run=runs/NAME\ngraftrec predict --cfg job"
VERBS = {
    "train": Verb("Train tasks on a shared trunk, measure the transfer.", "train", "graftrec.runs.job", _TRAIN),
    "audit": Verb("Measure what each source does to each target.", "audit", "graftrec.runs.audit.audit", _AUDIT),
    "compare": Verb("Compare runs over seeds, with paired tests.", "", "graftrec.runs.compare", _COMPARE),
    "predict": Verb("Predict with a trained run.", "predict", "graftrec.cli.predict", _PREDICT),
    "data": Verb(
        "Check a dataset, print its card; init looks at files and writes their YAML; get fetches a public one.",
        "data",
        "graftrec.cli.data_check",
        _DATA,
    ),
    "doctor": Verb("Say what is here and what is wrong with it.", "", "graftrec.cli.doctor", "graftrec doctor"),
}
_FLAGS = """--cfg job prints the whole tree; --info defaults where it comes from; -m sweeps over a,b,c;
--config-dir FOLDER adds your own groups and options to these."""
SHOW = ("--cfg", "-c")  # flags of Hydra's that show a tree, and those that show something else
HYDRAS = ("--hydra-help", "--info", "-i", "--version", "--shell-completion", "-sc")
PLANNED = ("evaluate", "export", "report")


def main(argv: list[str] | None = None) -> int:
    """Run a command line; the exit code (the worst one, in a sweep)."""
    standard_streams.last()
    words = list(sys.argv[1:] if argv is None else argv)
    with stop.at_once():
        code = _main(words)
    return DISK if code == 0 and _prints(words) and standard_streams.full() else code


def _main(words: list[str]) -> int:
    verb, rest = (words[0], words[1:]) if words else ("--help", [])
    if verb in ("--help", "-h", "help", "--version"):
        say(f"graftrec {__version__}" if verb == "--version" else _help())
        return 0
    if verb not in VERBS:
        tell(f"graftrec: {_no_verb(verb)}")
        return 2
    command = " ".join(words[:2]) if words[:2] in (["data", "init"], ["data", "get"]) else verb
    if {"--help", "-h"} & set(rest):
        say(COMMANDS[command].format_help() if command in COMMANDS else _help_of(verb, rest))
        return 0
    if command in COMMANDS:  # before what is heavy is imported
        try:
            COMMANDS[command].read(words[len(command.split()) :])
        except UserError as error:
            tell("\n".join(f"graftrec: {problem} (exit code {error.exit_code})" for problem in error.problems))
            return error.exit_code
    if not _there(verb):
        tell(f"graftrec: '{verb}' is planned and not there yet")
        return 2
    if verb == "compare":
        return int(import_module(VERBS[verb].runs).run(rest))
    if command != verb:
        return int(import_module(f"graftrec.cli.data_{rest[0]}").run(rest[1:]))
    if verb == "data" and rest[:1] == ["check"]:
        rest = rest[1:]
    return _run(verb, rest) if VERBS[verb].config else int(import_module(VERBS[verb].runs).main())


def _prints(words: list[str]) -> bool:
    """Whether what a command prints is all that it does."""
    writes = words[:1] in (["train"], ["audit"], ["predict"]) or words[:2] in (["data", "init"], ["data", "get"])
    return not writes or _flags(words, "--help", "-h", *SHOW, *HYDRAS)


def _no_verb(verb: str) -> str:
    if verb in PLANNED:
        return f"'{verb}' is planned and not there yet; there are: {', '.join(VERBS)}"
    hit = difflib.get_close_matches(verb, VERBS, 1)
    return f"there is no verb '{verb}'; " + (f"did you mean '{hit[0]}'?" if hit else f"there are: {', '.join(VERBS)}")


def _run(verb: str, argv: list[str]) -> int:
    from graftrec.runs.overrides import problems_of_command
    from graftrec.utils.redaction import hide

    argv = hide(argv)
    show, hydras = _flags(argv, *SHOW), _flags(argv, *HYDRAS)
    completes = _flags(argv, "--version", "--shell-completion", "-sc")  # Hydra then composes nothing that it runs
    problems = [] if completes else problems_of_command(verb, argv, _config_dirs(argv), deep=not (show or hydras))
    if problems:
        tell(f"The configuration has {len(problems)} problem(s):\n  " + "\n  ".join(problems))
        return 2
    import hydra

    from graftrec.config import instantiate as config
    from graftrec.runs import job as jobs
    from graftrec.runs.sweep.hydra_job import Job
    from graftrec.runs.sweep.sweep import sweep_of
    from graftrec.training.distributed.rank import alone

    sweep = None if show or hydras or verb not in jobs.WORK else sweep_of(verb, argv, _config_dirs(argv))
    if sweep is not None:
        try:
            alone()
            sweep.begin()
        except UserError as error:
            tell(f"graftrec: {error}")
            return UserError.exit_code
    job = Job(verb, VERBS[verb].runs, sweep.name if sweep else "")
    codes: list[int] = []
    # nor shall Hydra write its own copy of the tree: config.yaml is the job's, and without secrets
    before, sys.argv = sys.argv, [f"graftrec {verb}", *argv, *(["hydra.output_subdir=null"] if not hydras else [])]
    config.register_resolvers(job.sweep)
    try:
        # between jobs, and while others run them
        with stop.signals() if sweep else nullcontext(), sweep.passing_on() if sweep else nullcontext():
            hydra.main(config_path=str(config.conf_dir()), config_name=VERBS[verb].config, version_base="1.3")(job)()
    except KeyboardInterrupt:
        codes.append(INTERRUPTED)
    except SystemExit as end:
        codes.append(end.code if isinstance(end.code, int) else int(end.code is not None))
    finally:
        sys.argv = before
    done = [*job.codes, *(sweep.end() if sweep else ())]
    if codes == [1] and not done:  # Hydra gave up before any job: the settings
        return UserError.exit_code
    return max([*codes, *done], default=0)


def _there(verb: str) -> bool:
    """Whether a verb's primary configuration exists; without it there is nothing to run."""
    from graftrec.config.instantiate import conf_dir

    return not VERBS[verb].config or (conf_dir() / f"{VERBS[verb].config}.yaml").is_file()


def _flags(argv: list[str], *names: str) -> bool:
    return any(word.partition("=")[0] in names for word in argv)


def _config_dirs(argv: list[str]) -> list[str]:
    """The folder of ``--config-dir``; Hydra takes the last one."""
    found = [word.partition("=")[2] for word in argv if word.startswith(("--config-dir=", "-cd="))]
    found += [after for word, after in pairwise(argv) if word in ("--config-dir", "-cd")]
    return found[-1:]


def _help() -> str:
    verbs = "\n".join(
        f"  {name:9} {verb.does}{'' if _there(name) else ' (not there yet)'}" for name, verb in VERBS.items()
    )
    examples = "\n".join(f"  {line}" for verb in VERBS.values() for line in verb.examples.splitlines()[:2])
    return f"graftrec VERB key=value ...\n\n{verbs}\n\nExamples:\n{examples}\n\ngraftrec VERB --help says more."


def _help_of(verb: str, argv: list[str]) -> str:
    from graftrec.config.instantiate import conf_dir

    lines = [f"graftrec {verb} key=value ...", "", VERBS[verb].does, "", "Examples:"]
    lines += [f"  {line}" for line in VERBS[verb].examples.splitlines()]
    if not VERBS[verb].config:
        return "\n".join(lines)
    options: dict[str, set[str]] = {}
    for folder in [conf_dir(), *(Path(path) for path in _config_dirs(argv))]:
        for path in folder.glob("*/*.yaml"):
            options.setdefault(path.parent.name, set()).add(path.stem)
    lines += ["", "Groups and their options (group=option):"]
    width = max(map(len, options), default=0) + 2
    for group in sorted(options):
        text = f"  {group:{width}}{' '.join(sorted(options[group]))}"
        lines += textwrap.wrap(text, 110, subsequent_indent=" " * (width + 2), break_on_hyphens=False)
    return "\n".join([*lines, "", _FLAGS])
