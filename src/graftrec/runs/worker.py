"""A rank of a job: ``python -m graftrec.runs.worker FOLDER``. Started by a launcher, not from a shell."""

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

from graftrec.training.distributed.rank import Rank, leave, outside
from graftrec.utils.errors import described, outcome
from graftrec.utils.signals import stop
from graftrec.utils.terminal_text import tell


def main(folder: Path) -> NoReturn:
    """Train what comes by the standard input, and leave; its outcome goes to the pipe that is named there."""
    from graftrec.training.distributed import launcher, liveness
    from graftrec.utils import standard_streams

    standard_streams.last()
    rank = outside()
    if rank is None:
        raise SystemExit(
            "a worker is started by graftrec.training.distributed.launcher, which says its rank in the environment"
        )
    with stop.signals():
        given = json.loads(sys.stdin.buffer.readline())
        threading.Thread(target=_end_with_the_job, daemon=True).start()
        counters, report = launcher.attend(given["handles"], rank.world)
        liveness.watched(counters, rank.number)
        sys.argv = ["graftrec train", *given["words"]]
        code, told = _attempt(given, folder, rank)
    with report:
        json.dump(told | {"at": time.monotonic()}, report)
    leave(code)


def _attempt(given: dict[str, Any], folder: Path, rank: Rank) -> tuple[int, dict[str, Any]]:
    """Exit code and what became of it; no exception leaves."""
    try:
        from omegaconf import OmegaConf

        from graftrec.runs.train import train
        from graftrec.training.distributed import process_group

        if rank.number:
            warnings.simplefilter("ignore")  # the first one says it
        tree: Any = OmegaConf.to_container(OmegaConf.create(given["tree"]))
        process_group.begin(rank, tree, given["handles"][3] if rank.number == 0 else None)
        score = train(tree, folder)
        process_group.end()
        return 0, {"kind": "done", "score": score}
    except BaseException as error:
        code, _ = outcome(error)
        echo = "graftrec.training.distributed.process_group" in sys.modules and sys.modules[
            "graftrec.training.distributed.process_group"
        ].is_echo(error)
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
