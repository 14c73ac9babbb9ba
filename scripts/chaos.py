"""Try to break graftrec by chance: kills, damage, odd settings, odd files, strangers, outputs that end, words mistyped.

    python scripts/chaos.py [--minutes 10] [--seed 0] [--jobs 2] [--groups kills damage] [--only NUMBER]

Makes 30 attempts for each minute, seeded, in a scratch folder that is removed at the end; each is a command in a
process of its own, forked from one that has torch imported. An attempt is wrong where something shows a traceback, ends
with the wrong exit code or too late, gives an error that does not name what is wrong, is silent about what it lost, or
leaves a process or a draft behind. Prints a table and each wrong attempt with the number that ``--only`` makes again;
the last line is JSON: ``{"tried": ..., "wrong": ..., "groups": {...}}``. Ends with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from chaos_attempts import GROUPS
from chaos_bench import Bench

A_MINUTE = 30


class Tried(NamedTuple):
    """An attempt; ``wrong`` is empty where all was right."""

    number: int
    group: str
    what: str
    wrong: str


def attempt(bench: Bench, groups: Sequence[str], seed: int, number: int) -> Tried:
    """The attempt of this number, in a folder of its own."""
    group = groups[number % len(groups)]
    folder = bench.folder / f"attempt_{number}"
    folder.mkdir()
    try:
        what, wrong = GROUPS[group](bench, Random(f"{seed} {number}"), folder)  # no secret
    except Exception:
        what, wrong = "the attempt itself", traceback.format_exc()
    if not wrong:
        shutil.rmtree(folder)
    return Tried(number, group, what, wrong)


def work(bench: Bench, groups: Sequence[str], seed: int, numbers: Sequence[int], out: Path) -> None:
    """Make these attempts and leave a line for each."""
    with out.open("a") as lines:
        for number in numbers:
            print(json.dumps(attempt(bench, groups, seed, number)), file=lines, flush=True)


def tried(bench: Bench, groups: Sequence[str], seed: int, numbers: Sequence[int], jobs: int) -> list[Tried]:
    """All attempts, shared out, and how far they are."""
    context = multiprocessing.get_context("fork")
    outs = [bench.folder / f"tried_{job}.jsonl" for job in range(jobs)]
    workers = [
        context.Process(target=work, args=(bench, groups, seed, numbers[job::jobs], out))
        for job, out in enumerate(outs)
    ]
    began, shown = time.monotonic(), 0
    for worker in workers:
        worker.start()
    found: list[Tried] = []
    while len(found) < len(numbers):
        alive = any(worker.is_alive() for worker in workers)
        found = [Tried(*json.loads(line)) for out in outs if out.exists() for line in out.read_text().splitlines()]
        for each in found[shown:] if sys.stderr.isatty() else ():
            print(f"\r{len(found)}/{len(numbers)}  {each.group:<10}", end="", file=sys.stderr, flush=True)
        if not sys.stderr.isatty() and len(found) // 30 > shown // 30:
            print(f"{len(found)}/{len(numbers)}  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        shown = len(found)
        if not alive and len(found) < len(numbers):
            raise SystemExit(f"a worker ended after {len(found)} of {len(numbers)} attempts")
        time.sleep(0.2)
    for worker in workers:
        worker.join()
    return sorted(found)


def main() -> int:
    """Run the attempts, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="30 attempts a minute")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="attempts side by side")
    parser.add_argument("--groups", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    parser.add_argument("--only", type=int, help="the attempt of this number alone; its folder stays")
    asked = parser.parse_args()
    bench = Bench(Path(tempfile.mkdtemp(prefix="chaos_")))
    bench.prepare()
    count = max(1, round(asked.minutes * A_MINUTE))
    numbers = list(range(count)) if asked.only is None else [asked.only]
    found = tried(bench, asked.groups, asked.seed, numbers, min(asked.jobs, len(numbers)))
    print(f"{'group':<12}{'tried':>7}{'right':>7}{'wrong':>7}")
    groups = {}
    all_of, wrong_of = Counter(each.group for each in found), Counter(each.group for each in found if each.wrong)
    for group in all_of:
        groups[group] = {"tried": all_of[group], "wrong": wrong_of[group]}
        print(f"{group:<12}{all_of[group]:>7}{all_of[group] - wrong_of[group]:>7}{wrong_of[group]:>7}")
    for each in found:
        if each.wrong:
            print(f"\n{each.number}  {each.group}: {each.what}\n{each.wrong}")
    if wrong_of or asked.only is not None:
        print(f"\nfolders of what was wrong are in {bench.folder}")
    else:
        shutil.rmtree(bench.folder)
    print(json.dumps({"tried": len(found), "wrong": sum(wrong_of.values()), "groups": groups}))
    return int(bool(wrong_of))


if __name__ == "__main__":
    sys.exit(main())
