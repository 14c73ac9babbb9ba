"""The groups of `scripts/chaos.py`: each takes the bench, chance and an empty folder, and gives what it tried and what
was wrong, empty where nothing was."""

from __future__ import annotations

import math
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from chaos_bench import Bench
from chaos_files import odd_lines
from chaos_strangers import strangers

Group = Callable[[Bench, Random, Path], tuple[str, str]]

USER, DATA, FULL = 2, 65, 74
STOPPED = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}
ODD: tuple[str, ...] = (
    "-1", "0", "-0.5", "nan", "inf", "-inf", "1e30", "1e-300", "abc", "true", "null", "[]", "{}", "[1,a]", "''",
    "'1e-3'", "1.5", "9223372036854775808", "x" * 300, "'a/../b'", "[[1]]", "{a: 1}", "0x10", "1_000",
    "'\\u001b[31m'",
)  # fmt: skip
LONG = ("epochs", "seeds", "trials", "devices", "num_nodes", "workers", "patience", "max_", "steps")  # may run for long


def kills(bench: Bench, random: Random, folder: Path) -> tuple[str, str]:
    """A run that a signal ends at any moment, and the same command again: it ends as one that nobody stopped."""
    sent, after = random.choice(list(STOPPED)), random.uniform(0, 1.1 * bench.seconds)
    what = f"{sent.name} after {after:.2f} s, then the same command with resume=auto"
    words = bench.train(folder / "run", "resume=auto")
    first = bench.run(words, folder, kill=(sent, after))
    allowed = (0, STOPPED[sent]) if sent != signal.SIGTERM else (0, 143, -15)  # before there is any Python of ours
    if wrong := first.wrong(*allowed):
        return what, wrong
    again = bench.run(words, folder)
    if wrong := again.wrong(0) or _drafts(folder):
        return what, wrong
    return what, _same(bench, folder / "run")


def damage(bench: Bench, random: Random, folder: Path) -> tuple[str, str]:
    """A file of a finished run that is not what it was, under any verb: known by name, or no matter."""
    run = folder / "run"
    shutil.copytree(bench.good, run)
    path = random.choice(sorted(path for path in run.rglob("*") if path.is_file()))
    how = random.choice(list(DAMAGES))
    verb = random.choice(("predict", "compare", "resume", "again"))
    DAMAGES[how](path, random)
    what = f"{verb} with {path.relative_to(folder)} {how}"
    if verb == "predict":
        ended = bench.run(["predict", f"run={run}", f"out={folder}/out.csv"], folder)
        wrong = ended.wrong(0, USER, DATA, names="run/")
        if (
            not wrong
            and ended.code == 0
            and (folder / "out.csv").read_bytes() != (bench.folder / "good.csv").read_bytes()
        ):
            wrong = "other recommendations and no word"
        return what, wrong
    if verb == "compare":
        return what, bench.run(["compare", str(run), str(bench.good)], folder).wrong(0, USER, DATA, names="run/")
    ended = bench.run(bench.train(run, *(["resume=auto"] if verb == "resume" else [])), folder)
    wrong = ended.wrong(0, USER, DATA, names=path.name) or _drafts(folder)
    return what, wrong or (_same(bench, run) if ended.code == 0 else "")


def settings(bench: Bench, random: Random, folder: Path) -> tuple[str, str]:
    """Any key with an odd value: it trains and its metrics are numbers, or the key is named."""
    tree = _tree(bench)
    key, value = random.choice(tree), random.choice(ODD)
    while any(part in key for part in LONG) and value in ("1e30", "9223372036854775808", "inf", "1_000"):
        value = random.choice(ODD)
    what = f"{key}={value}"
    ended = bench.run([*bench.train(folder / "run"), f"++{key}={value}"], folder)
    last = key.split(".")[-1]
    if wrong := ended.wrong(0, USER, DATA, names=value if value in ended.said else last):
        return what, wrong
    if ended.code == 0:
        measured = list(_numbers(bench.measured(folder / "run")))
        return what, "" if all(map(math.isfinite, measured)) else "metrics that are no numbers"
    return what, "files are left of a refused run" if (folder / "run" / "config.yaml").exists() else ""


def files(bench: Bench, random: Random, folder: Path) -> tuple[str, str]:
    """A CSV as strangers have it: read as it was meant, or the file is named."""
    kind, path, same = odd_lines(random, folder)
    ended = bench.run(["data", "check", *bench.data(path)], folder)
    wrong = ended.wrong(*((0,) if same else (0, USER, DATA)), names="files" if kind.startswith("one ") else path.name)
    if not wrong and same and "8 users" not in " ".join(ended.said.split()):
        wrong = f"not the 8 users of the same rows\n{ended.said[:1500]}"
    return kind, wrong


def outputs(bench: Bench, random: Random, folder: Path) -> tuple[str, str]:
    """Standard output that cannot show it, is closed, full or read by nobody: the work is done all the same.

    Where there is no other work than to print, a full disk is the exit code.
    """
    output = random.choice(("", "closed", "pipe", "/dev/full"))
    environment = {
        "PYTHONIOENCODING": random.choice(("utf-8", "latin-1", "ascii", "cp1252")),
        "TERM": random.choice(("dumb", "xterm", "")),
        "COLUMNS": random.choice(("1", "20", "80", "500", "abc")),
    }
    verb = random.choice(("train", "predict", "compare", "data"))
    what = f"{verb}, output {output or 'a file'}, {environment}"
    words = {
        "train": bench.train(folder / "run"), "predict": ["predict", f"run={bench.good}", f"out={folder}/out.csv"],
        "compare": ["compare", str(bench.good), str(bench.good)], "data": ["data", "check", *bench.data()],
    }[verb]  # fmt: skip
    ended = bench.run(words, folder, environment, output)
    wrong = ended.wrong(*((FULL,) if output == "/dev/full" and verb in ("compare", "data") else (0,)), names="output")
    if not wrong and verb == "train":
        wrong = _same(bench, folder / "run")
    return what, wrong


def words(bench: Bench, random: Random, folder: Path) -> tuple[str, str]:
    """A command mistyped: it does what it says, or says what is wrong with it."""
    commands = (
        [*bench.train(folder / "run"), "--cfg", "job"], ["doctor"], ["data", "check", *bench.data()],
        ["predict", f"run={bench.good}", f"out={folder}/out.csv", "k=3"], ["compare", str(bench.good), str(bench.good)],
        ["train", "--help"],
        [*bench.train(folder / "run"), "-m", "seed=0,1", "--cfg", "job"],
    )  # fmt: skip
    command = list(random.choice(commands))
    at = random.randrange(len(command))
    word = command[at]
    change = random.choice(("drop", "twice", "letter", "cut", "space", "sign"))
    place = random.randrange(max(1, len(word)))
    command[at : at + 1] = {
        "drop": [] if at else [word[1:]], "twice": [word, word],
        "letter": [word[:place] + random.choice("xé=.,[{'\"$@\n") + word[place:]],
        "cut": [word[:place]], "space": [word[:place], word[place:]], "sign": [random.choice("+-~@$%&*") + word],
    }[change]  # fmt: skip
    ended = bench.run(command, folder)
    return f"{change}: {' '.join(command)!r}", ended.wrong(0, USER, DATA)


def _flipped(path: Path, random: Random) -> None:
    found = bytearray(path.read_bytes())
    for _ in range(random.randrange(1, 9)):
        if found:
            found[random.randrange(len(found))] ^= 1 << random.randrange(8)
    path.write_bytes(found)


def _cut(path: Path, random: Random) -> None:
    found = path.read_bytes()
    path.write_bytes(found[: random.randrange(max(1, len(found)))])


def _a_folder(path: Path, random: Random) -> None:
    path.unlink()
    path.mkdir()


def _other(path: Path, random: Random) -> None:
    path.write_bytes(random.choice((b"{}", b"[]", b"null", b"\x00" * 64, b"state: [", b'{"state": 3}')))


DAMAGES: dict[str, Callable[[Path, Random], object]] = {
    "flipped": _flipped, "cut": _cut, "empty": lambda path, _: path.write_bytes(b""),
    "gone": lambda path, _: path.unlink(), "a folder": _a_folder, "another text": _other,
}  # fmt: skip


def _same(bench: Bench, run: Path) -> str:
    """Whether a run measured what the good one did."""
    try:
        measured = bench.measured(run)
    except (OSError, ValueError, KeyError) as error:
        return f"exit code 0 and no metrics.json that can be read: {error!r}"
    return "" if measured == bench.metrics else f"other metrics than those of the good run\n{measured}"


def _drafts(folder: Path) -> str:
    left = sorted(str(path.relative_to(folder)) for path in folder.rglob(".*.draft*"))
    return f"drafts are left: {left}" if left else ""


def _numbers(found: Any) -> Iterator[float]:
    """All numbers of a tree; an undefined metric is null."""
    for value in found.values() if isinstance(found, Mapping) else ():
        yield from _numbers(value) if isinstance(value, Mapping) else [value] if isinstance(value, float) else ()


def _tree(bench: Bench) -> list[str]:
    """Every key of the good run's configuration."""
    import yaml

    def keys(node: Any, at: str) -> Iterator[str]:
        for name, value in node.items():
            path = f"{at}{name}"
            if isinstance(value, dict) and value:
                yield from keys(value, f"{path}.")
            elif not str(name).startswith("_"):
                yield path

    return sorted(keys(yaml.safe_load((bench.good / "config.yaml").read_text()), ""))


GROUPS: dict[str, Group] = {
    "kills": kills, "damage": damage, "settings": settings, "files": files, "outputs": outputs, "words": words,
    "strangers": strangers,
}  # fmt: skip
