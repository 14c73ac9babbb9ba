"""A rank of a job: ``python -m graftrec.worker FOLDER``, which `graftrec.launch` starts; it is not for a shell."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, NoReturn

from graftrec.errors import described, outcome
from graftrec.plain import tell
from graftrec.ranks import Rank, leave, outside
from graftrec.stop import stop


def main(folder: Path) -> NoReturn:
    """Train what comes by the standard input, and leave; its outcome goes to the pipe that is named there."""
    from graftrec import beats, launch, output

    output.last()
    rank = outside()
    if rank is None:
        raise SystemExit("a worker is started by graftrec.launch, which says its rank in the environment")
    with stop.signals():
        given = json.loads(sys.stdin.buffer.readline())
        threading.Thread(target=_end_with_the_job, daemon=True).start()
        counters, report = launch.attend(given["handles"], rank.world)
        beats.watched(counters, rank.number)
        sys.argv = ["graftrec train", *given["words"]]
        code, told = _attempt(given, folder, rank)
    with report:
        json.dump(told | {"at": time.monotonic()}, report)
    leave(code)


def _attempt(given: dict[str, Any], folder: Path, rank: Rank) -> tuple[int, dict[str, Any]]:
    """Exit code and what became of it; no exception leaves."""
    try:
        from omegaconf import OmegaConf

        from graftrec import group
        from graftrec.train import train

        if rank.number:
            warnings.simplefilter("ignore")  # the first one says it
        tree: Any = OmegaConf.to_container(OmegaConf.create(given["tree"]))
        group.begin(rank, tree, given["handles"][3] if rank.number == 0 else None)
        score = train(tree, folder)
        group.end()
        return 0, {"kind": "done", "score": score}
    except BaseException as error:
        code, _ = outcome(error)
        echo = "graftrec.group" in sys.modules and sys.modules["graftrec.group"].is_echo(error)
        if code == 1 and not echo:
            tell(traceback.format_exc())
        return code, described(error) | {"echo": echo}


def _end_with_the_job() -> None:
    """The job's process keeps the other end of the standard input open as long as it lives."""
    while os.read(0, 1):  # not by a buffer, whose lock the end of the interpreter would wait for
        pass
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
