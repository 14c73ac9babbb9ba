"""Boosted trees on the rows of a stream: they learn what no line can, and say why they are missing."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.datasets.base import Dataset
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.schema import Label
from graftrec.data.splits.predefined import Official
from graftrec.data.streams.rows import TableRows
from graftrec.data.tables.builder import Builder, Shape
from graftrec.data.tables.interactions import Column, Interactions
from graftrec.evaluation.baselines import gbdt as module
from graftrec.evaluation.baselines.gbdt import gbdt
from graftrec.tasks.metrics.pointwise import binary, numbers

torch.set_num_threads(1)


class Signs(Dataset):
    """Whether the signs of a number and of a vector's second place agree, flipped for one colour; a third lack it."""

    def read(self) -> Interactions:
        random = np.random.default_rng(0)
        rows = 3000
        number, colour = random.normal(size=rows), random.integers(3, size=rows)
        vector = random.normal(size=(rows, 2)).astype(np.float32)
        answer = ((number > 0) == (vector[:, 1] > 0)) ^ (colour == 2)
        shape = Shape(
            split=True,
            columns={"number": Column("number"), "colour": Column("id"), "vector": Column("vector")},
            labels={"agree": "binary", "sum": "number", "colour_of": "category"},
        )
        builder = Builder(shape)
        frame = pl.DataFrame(
            {
                "split": np.repeat([0, 1, 2], [2000, 500, 500]),
                "number": number,
                "colour": pl.Series(colour).replace_strict({0: "red", 1: "blue", 2: "green"}, return_dtype=pl.String),
                "agree": np.where(np.arange(rows) % 3 == 0, np.nan, answer),
                "sum": number + vector[:, 0],
                "colour_of": pl.Series(colour).cast(pl.String),
            }
        )
        builder.add(frame, {"vector": vector})
        return builder.done("signs")


def signs() -> TableRows:
    protocol = CrossDomain(Signs(), Official())
    protocol.prepare(["rows"])
    stream = protocol.streams["rows"]
    assert isinstance(stream, TableRows)
    return stream


def asked(name: str) -> Tensor | str:
    stream = signs()
    return gbdt(stream, stream.schema.label(name), lambda batch: batch[name], alike)


def alike(label: Tensor, batch: Batch) -> Tensor:
    return torch.ones_like(label)


def judged(name: str) -> tuple[Tensor, Tensor]:
    """What trees say of the test rows, and their labels."""
    found = asked(name)
    assert isinstance(found, Tensor)
    label = torch.cat([batch[name] for batch in signs().evaluation("test")])
    assert found.shape == label.shape  # rows without a label are asked about as well
    return found, label


def auc() -> float:
    value = binary(*judged("agree"))["auc"].value
    assert value is not None
    return value


def test_trees_learn_an_interaction_of_all_kinds_of_features() -> None:
    assert auc() > 0.97
    assert judged("agree")[1].isnan().any()
    rmse = numbers(*judged("sum"))["rmse"].value
    assert rmse is not None
    assert rmse < 0.3  # of a deviation of 1.4


def test_rows_count_by_their_weights() -> None:
    def wrong(batch: Batch) -> Tensor:
        return torch.where(batch["vector"][:, 0] > 0, 1 - batch["agree"], batch["agree"])

    def trusted(label: Tensor, batch: Batch) -> Tensor:
        return (batch["vector"][:, 0] <= 0).float()

    stream = signs()
    found = gbdt(stream, stream.schema.label("agree"), wrong, trusted)
    assert isinstance(found, Tensor)
    label = torch.cat([batch["agree"] for batch in stream.evaluation("test")])
    value = binary(found, label)["auc"].value  # of all rows, also of those whose labels were turned round
    assert value is not None
    assert value > 0.9


def test_one_value_of_the_label_is_no_answer() -> None:
    alone = gbdt(signs(), Label("agree", "binary"), lambda batch: (batch["number"] > 9).float(), alike)
    assert "one value of the label" in str(alone)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked("colour_of") == "boosted trees are fitted to binary labels and numbers"
    monkeypatch.setattr(module, "MOST_ROWS", 2499)
    assert asked("agree") == "2,500 rows; up to 2,499 are fitted"
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert "scikit-learn is not installed" in str(asked("sum"))


def test_ids_of_a_large_table_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KINDS", 2)
    assert auc() > 0.95  # 3 colours still have an order
