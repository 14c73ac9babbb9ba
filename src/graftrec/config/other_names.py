"""What others call the keys of a configuration, and what is typed here instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Key -> ours, the first of them whose beginning is in the tree; the value stays what it is.
CALLED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("epochs", "max_epochs", "num_epochs", "n_epochs", "num_train_epochs"), ("transfer.epochs",)),
    **dict.fromkeys(("batch_size", "train_batch_size", "bs"), ("protocol.batch_size",)),
    **dict.fromkeys(("lr", "learning_rate"), ("optimizer.lr",)),
    **dict.fromkeys(("weight_decay", "wd"), ("optimizer.weight_decay",)),
    **dict.fromkeys(("num_layers", "n_layers"), ("trunk.layers",)),
    **dict.fromkeys(("devices", "gpus", "num_gpus"), ("trainer.devices",)),
    **{name: (f"trainer.{name}",) for name in (
        "accelerator", "precision", "gradient_clip_val", "accumulate_grad_batches", "limit_train_batches", "max_steps",
    )},
    **dict.fromkeys(("ckpt_path", "checkpoint", "resume_from_checkpoint"), ("resume", "run")),
    **dict.fromkeys(("model", "arch", "backbone"), ("trunk", "run")),
    **dict.fromkeys(("data", "datamodule"), ("dataset",)),
    **dict.fromkeys(("scheduler", "lr_scheduler"), ("schedule",)),
    **dict.fromkeys(("random_state", "random_seed"), ("seed",)),
    **dict.fromkeys(("output_dir", "save_dir", "run_dir"), ("hydra.run.dir", "out")),
    **dict.fromkeys(("top_k", "topk", "n"), ("k",)),
    **dict.fromkeys(("user", "user_ids"), ("users",)),
    **dict.fromkeys(("output", "save"), ("out",)),
}  # fmt: skip
# Key -> what there is instead, of what trains.
INSTEAD: dict[str, str] = {
    "debug": "trainer.fast_dev_run=true tries one batch of everything",
    "callbacks": "checkpoints, the best one and all that is shown are the program's own; save_every says how often",
    "hparams_search": "-m hydra/sweeper=optuna 'optimizer.lr=tag(log,interval(1e-4,1e-2))' searches",
    "early_stopping": "the test is of the best checkpoint by validation; transfer.epochs says how many there are",
    "test": "every run ends with its test, so leave it out",
    "train": "a run trains, so leave it out; graftrec predict run=FOLDER only predicts",
    **dict.fromkeys(("name", "run_name", "task_name", "tags"), "hydra.run.dir=runs/NAME says what a run is called"),
}
FILES = "graftrec data init FILE writes the YAML of your own files; dataset=files dataset.path=FILE names them"
INSTEAD |= dict.fromkeys(("path", "file", "data_dir"), FILES)


def ours(key: str, value: str, tree: Mapping[str, Any]) -> str:
    """The end of an error message: what to type where others have ``key``; empty where nobody calls anything so."""
    first, _, rest = key.partition(".")
    known = rest and (first in CALLED or first in INSTEAD or first in tree)  # model.lr, trainer.batch_size
    last = [name for name in CALLED.get(key.rpartition(".")[2], ()) if known and "." in name]
    for name in [*CALLED.get(key, ()), *last]:
        if name != key and {"hydra": "trainer"}.get(begins := name.partition(".")[0], begins) in tree:
            return f"; write {name}={value}"
    for name in CALLED.get(first, ()) if rest else ():
        if name in tree and "." not in name:
            return f"; write {name}.{rest}={value}"
    said = INSTEAD.get(first, "")
    return f"; {said}" if said and ("dataset" if said is FILES else "trainer") in tree else ""
