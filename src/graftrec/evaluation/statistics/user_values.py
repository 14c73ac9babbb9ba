"""Values of every metric for every user: what users.parquet holds, and the paired difference of two models from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from graftrec.evaluation.statistics.intervals import Difference, paired_difference
from graftrec.tasks.metrics.direction import bounds
from graftrec.utils.atomic_files import whole

USER = "user"
Values = Mapping[str, Any]
"""Metric -> its value of each evaluated user or row (n,), tensors or arrays; under `USER` whose they are, if known."""
Units = Mapping[str, Values]
"""Task -> its `Values`."""


def difference_of(ours: Sequence[Values], theirs: Sequence[Values], metric: str) -> Difference:
    """Ours - theirs of a metric, seed by seed and user by user: `paired_difference`, inside the metric's range.

    Raises:
        ValueError: values of other users or rows.
    """
    owners = [None if values.get(USER) is None else np.asarray(values[USER]) for values in (*ours, *theirs)]
    for other in owners[1:]:
        if (other is None) != (owners[0] is None) or not np.array_equal(other, owners[0]):  # type: ignore[arg-type]
            raise ValueError(f"{metric} should be of the same users or rows. Found others.")
    least, most = bounds(metric)
    a, b = (np.stack([np.asarray(values[metric], dtype=np.float64) for values in arm]) for arm in (ours, theirs))
    return paired_difference(a, b, owners[0], most - least)


def mean_of(values: Sequence[Values], metric: str) -> Difference:
    """The mean of a metric itself with its interval, seed by seed and user by user, inside the metric's range."""
    a = np.stack([np.asarray(each[metric], dtype=np.float64) for each in values])
    found = paired_difference(a, np.zeros_like(a), values[0].get(USER))
    if not math.isfinite(found.error):  # no interval is not one over the whole range
        return found
    least, most = bounds(metric)
    return Difference(**{**vars(found), "low": max(found.low, least), "high": min(found.high, most)})


def frame_of(units: Units, **constants: Any) -> pl.DataFrame:
    """Columns of the ``constants``, task, metric, user (int64, 0: nobody known) and value, a row for each value."""
    frames = []
    for task, values in units.items():
        metrics = [name for name in values if name != USER]
        if not metrics:
            continue
        size = len(values[metrics[0]])
        owners = np.zeros(size, dtype=np.int64) if values.get(USER) is None else np.asarray(values[USER])
        frames.append(
            pl.DataFrame(
                {
                    "metric": pl.Series(np.repeat(np.arange(len(metrics)), size)),
                    USER: np.tile(owners, len(metrics)),
                    "value": np.concatenate([np.asarray(values[name], dtype=np.float64) for name in metrics]),
                }
            ).select(
                *(pl.lit(value).alias(name) for name, value in constants.items()),
                pl.lit(task).alias("task"),
                pl.col("metric").replace_strict(dict(enumerate(metrics)), return_dtype=pl.String),
                USER,
                "value",
            )
        )
    empty = {"task": pl.String, "metric": pl.String, USER: pl.Int64, "value": pl.Float64}
    return pl.concat(frames) if frames else pl.DataFrame(schema=empty)


def write(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame of values as a whole, each page with a checksum that `record_files.table` looks at."""
    with whole(path) as draft:
        frame.write_parquet(draft, use_pyarrow=True, pyarrow_options={"write_page_checksum": True})


def read(frame: pl.DataFrame) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """The `Units` of a frame of one arm and seed; users are left out where nobody is known."""
    found: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for (task, metric), part in frame.partition_by(["task", "metric"], as_dict=True, maintain_order=True).items():
        own = found.setdefault(str(task), {})
        if USER not in own and bool((part[USER] != 0).any()):
            own[USER] = part[USER].to_numpy()
        own[str(metric)] = part["value"].to_numpy()
    return found
