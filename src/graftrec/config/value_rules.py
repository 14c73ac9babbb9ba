"""What the keys may be that no constructor checks: those of a verb's tree, and those of Lightning's trainer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rule = tuple[Any, Callable[[Any], bool], str]


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


# Keys of a tree: type, condition, words.
RUN: dict[str, Rule] = {
    "seed": (int, lambda value: 0 <= value < 2**32, "a whole number of at least 0"),
    "seeds": (int, lambda value: 1 <= value <= 10_000, "a whole number of at least 1, at most 10,000"),
    "workers": (int | None, lambda value: value is None or 1 <= value <= 1024, "from 1 to 1,024, or null"),
    "verdicts": (list[str], lambda value: len(set(value)) == len(value), "a list of metrics, each once"),
    "lambda_shared": (float, lambda value: 0 <= value < float("inf"), "a number of at least 0"),
    "schedule": (str, lambda value: value in ("one_cycle", "constant"), "one_cycle or constant"),
    "twin": (bool, lambda value: True, "true or false"),
    "baselines": (bool, lambda value: True, "true or false"),
    "skip_limit": (int, lambda value: value >= 1, "a whole number of at least 1"),
    "patience": (float, lambda value: value > 0, "a number of seconds above 0"),
    "save_every": (float, lambda value: 0 <= value < float("inf"), "a number of seconds of at least 0"),
    "resume": (str | None, lambda value: value != "", "auto, the folder of a run, or null"),
    "size": (str, lambda value: True, "the name of a size"),
}
AUDIT: dict[str, Rule] = {
    "seeds": (int, lambda value: 1 <= value <= 10_000, "a whole number of at least 1, at most 10,000"),
    "workers": RUN["workers"],
    "twins": (list[str], lambda value: set(value) <= {"same", "wide"}, "a list of same and wide"),
    "both_ways": (bool, lambda value: True, "true or false"),
}
PREDICT: dict[str, Rule] = {
    "run": (str, lambda value: Path(value).is_dir(), "the folder of a run, which is there"),
    "target_task": (str | None, lambda value: True, "the name of a task, or null"),
    "users": (list[int | float | str] | str | int | None, lambda value: value != [], "a list of ids, a file, or null"),
    "k": (int, lambda value: 1 <= value <= 2**24, "a whole number of at least 1"),
    "seen": (bool | None, lambda value: True, "true, false or null"),
    "at": (str, lambda value: value in ("test", "val", "latest"), "test, val or latest"),
    "out": (str | None, lambda value: value is None or value.endswith((".parquet", ".csv")), "a .parquet or .csv file"),
    "formulas": (bool, lambda value: True, "true or false"),
}
DATA: dict[str, Rule] = {
    "out": (str | None, lambda value: value != "", "a folder, or null"),
}

# What would leave a run without a step, without a validation or without a test, and yet end well.
_batches = "a whole number of at least 1, or 1.0 for all"
_count = "a whole number of at least 1"
TRAINER: dict[str, tuple[Callable[[Any], bool], str]] = {
    "limit_train_batches": (
        lambda value: (type(value) is int and value >= 1) or (type(value) is float and 0 < value <= 1),
        "a whole number of steps of at least 1, or a share of a pass in (0, 1]",
    ),
    "limit_val_batches": (lambda value: (type(value) is int and value >= 1) or value == 1.0, _batches),
    "limit_test_batches": (lambda value: (type(value) is int and value >= 1) or value == 1.0, _batches),
    "max_steps": (lambda value: type(value) is int and (value == -1 or value >= 1), "at least 1, or -1 for no limit"),
    "overfit_batches": (lambda value: value == 0, "left out: it trains on what it validates; see limit_train_batches"),
    "gradient_clip_val": (
        lambda value: _is_number(value) and value >= 0,
        "a number of at least 0; 0 clips nothing",
    ),
    "accumulate_grad_batches": (lambda value: type(value) is int and value >= 1, _count),
    "check_val_every_n_epoch": (lambda value: type(value) is int and value >= 1, _count),
    "log_every_n_steps": (lambda value: type(value) is int and value >= 1, _count),
    "min_epochs": (lambda value: type(value) is int and value >= 1, _count),
    "min_steps": (lambda value: type(value) is int and value >= 1, _count),
    "num_nodes": (lambda value: type(value) is int and value >= 1, _count),
    "val_check_interval": (
        lambda value: (type(value) is int and value >= 1) or (type(value) is float and 0 < value <= 1),
        "a whole number of steps of at least 1, or a share of a pass in (0, 1]",
    ),
    "accelerator": (lambda value: value in ("auto", "cpu", "gpu", "cuda", "mps"), "auto, cpu, gpu, cuda or mps"),
}
# What the program passes to the trainer itself, and what to set instead.
PASSED: dict[str, str] = {
    "logger": "logger=csv or logger=wandb says what is logged to, and metrics.csv is written anyway",
    "enable_checkpointing": "a run always keeps its checkpoints; save_every says how often",
    "enable_progress_bar": "where nobody watches, an epoch is one line",
    "enable_model_summary": "the parameters of each part are printed at the end",
    "default_root_dir": "hydra.run.dir says where a run is",
    "num_sanity_val_steps": "everything is tried before the first step anyway",
    "max_epochs": "the transfer strategy says how many (transfer.epochs)",
    "plugins": "checkpoints are written in one way only",
    "use_distributed_sampler": "the loader shares the rows out itself",
    "profiler": "fit in metrics.json says what a step costs",
    "barebones": "a run without logs and checkpoints leaves nothing",
    "model_registry": "nothing is sent anywhere",
}
