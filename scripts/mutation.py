"""Change the methods by chance, one place at a time, and see whether a test fails.

    python scripts/mutation.py [--n 200] [--seed 0] [--jobs 2] [--paths trunks losses]

Draws ``n`` mutations of trunks, interactions, heads, balancers, losses, tasks, metrics and transfer (or of the folders
or files that are named): another operator, comparison, constant or sign, a statement that is gone, two arguments in
each other's place, a gradient that flows where it was stopped. Each is made in a private copy of the tree, one for each
job; the working tree is never touched. First the tests that name the file or its classes run, and for those that
survive all fast tests that can see its package. A test that fails without the mutation as well ends the run.

Processes are forked from one that has torch imported, before anything of graftrec is. A mutant that its own tests catch
takes 2 to 6 seconds, one that survives all of them two to three minutes: with two jobs on two cores 200 are about half
an hour, if one in ten survives.

What is no mutation here: defaults of arguments (a choice, no method), texts, annotations and what an error says.
A survivor that changes nothing is answered in ``mutation_equivalent.txt`` and is then not drawn; see there. The last
line is JSON: ``{"n": ..., "caught": ...}``. It is no part of CI.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mutations import Mutation, mutations_of

ROOT = Path(__file__).resolve().parents[1]
EQUIVALENT = Path(__file__).with_name("mutation_equivalent.txt")
FOLDERS = {
    "trunks": "models/trunks",
    "interactions": "models/interactions",
    "heads": "models/heads",
    "balancers": "training/balancers",
    "losses": "tasks/losses",
    "tasks": "tasks",
    "metrics": "tasks/metrics",
    "transfer": "transfer",
}
COPIED = ("src", "tests", "conf", "scripts", "pyproject.toml", "README.md", "Makefile", ".gitignore", "constraints.txt")
WARM = ("torch", "pytest", "pytorch_lightning", "torchmetrics", "numpy", "hydra", "omegaconf", "torchjd")
QUICK = ("test_options.py", "test_every_weight_learns.py", "test_contracts.py", "test_batches.py", "test_task_units.py")
TOGETHER = (
    "training/test_module.py",
    "models/test_networks.py",
    "tasks/test_tasks.py",
    "training/test_gradients.py",
    "training/test_finite.py",
    "runs/test_recommender.py",
    "data/protocols/test_learnt.py",
    "training/optimizers/test_rowwise.py",
    "training/test_processes_of_rows.py",
)
ALSO = {
    "tasks/metrics": ("evaluation", "tasks"),
    "models/heads": ("tasks", "models/layers"),
    "tasks/losses": ("tasks",),
    "models/interactions": ("models/layers",),
}
LONGEST = 900.0  # seconds of a command, after which a mutant has been caught in an endless loop
PASSED, NOTHING, LATE = 0, 5, -1  # exit codes of pytest, and ours


@dataclass(frozen=True)
class Outcome:
    """What became of a mutation: ``by`` is the command that caught it, empty if none did."""

    mutation: Mutation
    by: str
    seconds: float


@dataclass
class Bench:
    """A private copy of the tree in which one job changes a file, runs tests and puts it back."""

    folder: Path
    sound: set[tuple[str, ...]] = field(default_factory=set)  # tests that pass without a mutation
    stamp: int = 0

    def judge(self, mutation: Mutation) -> Outcome:
        began = time.monotonic()
        for command in commands(self.folder, mutation):
            with self.changed(mutation):
                code, said = self.run(command)
            if code not in (PASSED, NOTHING):
                if code != LATE:
                    self.passes_without(said)
                return Outcome(mutation, " ".join(command), time.monotonic() - began)
        return Outcome(mutation, "", time.monotonic() - began)

    def passes_without(self, said: str) -> None:
        """SystemExit where the test that failed fails without a mutation as well."""
        failed = tuple(re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.MULTILINE))
        if failed not in self.sound:
            code, without = self.run(failed)
            if not failed or code != PASSED:
                raise SystemExit(f"tests fail without a mutation: {' '.join(failed)}\n{(without or said)[-3000:]}")
            self.sound.add(failed)

    def changed(self, mutation: Mutation) -> Changed:
        self.stamp += 1  # another time of change, so that no compiled file is taken for it
        return Changed(self.folder / mutation.path, mutation.source, time.time() + 10 * self.stamp)

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        """Exit code and output of pytest in a fork of this process."""
        began, output = time.monotonic(), self.folder / "output.txt"
        child = os.fork()
        if child == 0:
            _pytest(self.folder, output, command)
        done = status = 0
        while not done and time.monotonic() - began < LONGEST:
            done, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.02)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # whatever it has started goes as well
        if not done:
            os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) if done else LATE, output.read_text(errors="replace")


@dataclass
class Changed:
    """A file with another text while this is open."""

    path: Path
    text: str
    at: float

    def __enter__(self) -> None:
        self.before, self.times = self.path.read_text(), self.path.stat()
        self.path.write_text(self.text)
        os.utime(self.path, (self.at, self.at))

    def __exit__(self, *_: object) -> None:
        self.path.write_text(self.before)
        os.utime(self.path, (self.times.st_atime, self.times.st_mtime))


def _pytest(folder: Path, output: Path, command: Sequence[str]) -> None:
    """In a fork: run the tests of a copy and leave."""
    os.setsid()
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(handle, number)
    os.chdir(folder)
    here = str(folder / "src")
    sys.path[:] = [here, *(part for part in sys.path if Path(part).resolve() != ROOT / "src")]
    os.environ |= {"PYTHONPATH": here, "OMP_NUM_THREADS": "1"}
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # of packages that are imported already, which pytest warns of
    import pytest

    code = 70
    try:
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", *command]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def commands(folder: Path, mutation: Mutation) -> list[tuple[str, ...]]:
    """What pytest is given, one after the other, until one fails."""
    package, stem = Path(mutation.path).parent.relative_to("src/graftrec").as_posix(), Path(mutation.path).stem
    own = folder / "tests" / "unit" / package
    named = sorted(str(path.relative_to(folder)) for path in own.glob(f"test_{stem}*.py"))
    of_transfer = ("test_transfer.py",) if package == "transfer" else ()
    contracts = [
        f"tests/contracts/{name}" for name in (*QUICK, *of_transfer) if (folder / "tests" / "contracts" / name).exists()
    ]
    found = [tuple(named)] if named else []
    if mutation.classes:
        found.append((*contracts, "-k", " or ".join(mutation.classes)))
    units = [
        f"tests/unit/{name}" for name in (package, *ALSO.get(package, ())) if (folder / "tests/unit" / name).is_dir()
    ]
    more = [f"tests/unit/{name}" for name in TOGETHER]
    found += [tuple(units)] if units else []
    found.append((*contracts, *(path for path in more if (folder / path).exists())))
    rest = ("test_repository.py", "test_no_code.py", *(Path(path).name for path in contracts))
    return [*found, ("tests/contracts", *(f"--ignore=tests/contracts/{name}" for name in rest))]


def equivalent() -> set[tuple[str, str]]:
    """Place and change of each mutation that is known to change nothing, see the file."""
    if not EQUIVALENT.exists():
        return set()
    lines = [line.split("\t") for line in EQUIVALENT.read_text().splitlines() if line and not line.startswith("#")]
    if wrong := [line for line in lines if len(line) != 3 or not line[2].strip()]:
        raise SystemExit(
            f"{EQUIVALENT.name}: a line is a place, a change and a reason, with tabs between. Found {wrong[0]}"
        )
    return {(place, change) for place, change, _ in lines}


def drawn(paths: Sequence[str], n: int, seed: int) -> tuple[list[Mutation], int]:
    """``n`` mutations of these folders or files, and how many that change nothing were passed over."""
    files = [path for name in paths for path in _files(name)]
    everything = [mutation for path in files for mutation in mutations_of(path, ROOT)]
    random.Random(seed).shuffle(everything)
    known = equivalent()
    kept: list[Mutation] = []
    passed = 0
    for mutation in everything:
        if len(kept) == n:
            break
        if (mutation.place, mutation.change) in known:
            passed += 1
        else:
            kept.append(mutation)
    return kept, passed


def _files(name: str) -> list[Path]:
    at = ROOT / "src" / "graftrec" / FOLDERS[name] if name in FOLDERS else Path(name).resolve()
    found = [at] if at.is_file() else sorted(at.glob("*.py"))
    if not found:
        raise SystemExit(f"--paths should be folders of graftrec or files. Found {name}.")
    return [path for path in found if path.name != "__init__.py"]


_bench: Bench


def _begin(folders: multiprocessing.Queue[str]) -> None:
    global _bench
    _bench = Bench(Path(folders.get()))
    for name in COPIED:
        source, target = ROOT / name, _bench.folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif source.exists():
            shutil.copy2(source, target)


def _judge(mutation: Mutation) -> Outcome | str:
    try:
        return _bench.judge(mutation)
    except SystemExit as error:
        return str(error)


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutations of the methods, and the tests that catch them.")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--paths", nargs="+", default=list(FOLDERS))
    asked = parser.parse_args()
    mutations, passed = drawn(asked.paths, asked.n, asked.seed)
    print(f"{len(mutations)} mutations, {passed} passed over that change nothing", flush=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in WARM:
        __import__(name)
    context = multiprocessing.get_context("fork")
    began, survivors, done = time.monotonic(), [], 0
    with tempfile.TemporaryDirectory() as folder:
        folders = context.Queue()
        for number in range(asked.jobs):
            (place := Path(folder, str(number))).mkdir()
            folders.put(str(place))
        with ProcessPoolExecutor(asked.jobs, context, _begin, (folders,)) as pool:
            for future in as_completed([pool.submit(_judge, mutation) for mutation in mutations]):
                outcome = future.result()
                if isinstance(outcome, str):
                    pool.shutdown(cancel_futures=True)
                    raise SystemExit(outcome)
                done += 1
                survivors += [] if outcome.by else [outcome.mutation]
                what = f"caught by {_short(outcome.by)}" if outcome.by else "SURVIVED"
                minutes = (time.monotonic() - began) / 60
                print(
                    f"{done}/{len(mutations)} {minutes:.1f} min  {outcome.mutation}  {what} ({outcome.seconds:.0f} s)",
                    flush=True,
                )
    print(f"\n{len(survivors)} survived:")
    for mutation in sorted(survivors, key=str):
        print(f"  {mutation}\n    {mutation.place}\t{mutation.change}")
    print(json.dumps({"n": done, "caught": done - len(survivors)}))


def _short(command: str) -> str:
    return re.sub(r"tests/(unit|contracts)/", "", command)[:50]


if __name__ == "__main__":
    main()
