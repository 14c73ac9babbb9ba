"""A class that training never saw is an answer nobody can give: it counts as wrong, and the data card says so."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import torch

from graftrec.data.datasets.files import Files
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.schema import UNSEEN, Label
from graftrec.data.tables.domains import LONGEST, slug
from graftrec.tasks.classification import Classification
from graftrec.tasks.metrics.pointwise import classes, ordered
from graftrec.tasks.metrics.row_values import classes_of_rows, ordered_of_rows
from graftrec.utils.errors import DataError


def protocol(folder: Path, times: list[int]) -> CrossDomain:
    size = len(times)
    grades = ["AB"[row % 2] if row < size * 0.9 or row % 2 else "YZ"[row // 2 % 2] for row in range(size)]
    rows = {"user": [row % 7 for row in range(size)], "item": [row % 5 for row in range(size)], "time": times}
    pl.DataFrame(rows | {"grade": grades}).write_csv(folder / "rows.csv")
    roles = {"user": "user", "item": "item", "time": "time", "cache": "off"}
    return CrossDomain(Files(str(folder / "rows.csv"), labels={"grade": "category"}, **roles))  # type: ignore[arg-type]


def test_new_classes_of_the_test_are_said_and_told_from_missing_ones(tmp_path: Path) -> None:
    made = protocol(tmp_path, [1_600_000_000 + 60 * row for row in range(100)])
    made.prepare([])
    (batch,) = made.streams["rows"].evaluation("test")
    assert sorted(batch["grade"].tolist()) == [UNSEEN] * 5 + [1] * 5
    # of Y and Z the first of the alphabet, though a row of Z comes first
    note = "label 'grade' of stream 'rows': 5 of 10 test rows have a class that training never saw, such as 'Y'"
    assert any(said.startswith(note) for said in made.card["notes"])


@pytest.mark.parametrize("count", [3, 7])
def test_new_classes_are_wrong_in_every_metric(count: int) -> None:
    prob = torch.eye(count).repeat(2, 1) * 0.9 + 0.1 / count
    label = torch.cat((torch.arange(count), torch.full((count,), UNSEEN)))
    found = classes(prob, label)
    assert found["accuracy"].value == pytest.approx(0.5)
    assert found["recall_macro"].value == pytest.approx(count / (count + 1))
    assert found["precision_macro"].value == pytest.approx(0.5 * count / (count + 1))
    if count > 5:
        assert found["recall@5"].value == pytest.approx(0.5)
    for name, each in classes_of_rows(prob, label).items():
        assert each.mean().item() == pytest.approx(found[name].value)
    placed = ordered(prob, label)
    assert (placed["accuracy"].value, placed["mae"].value) == (0.5, 0.0)
    rows = ordered_of_rows(prob, label)
    assert (rows["accuracy"].mean().item(), rows["mae"].nanmean().item()) == (0.5, 0.0)


def test_one_class_in_training_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"'grade' should have at least 2 classes in training\. Found 1\."):
        Classification(None, None, "rows", "grade", Label("grade", "category", 1))  # type: ignore[arg-type]


def test_equal_times_are_what_is_wrong_with_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"DATA-054 files: all times are equal, so split=time has no training row"):
        protocol(tmp_path, [1_600_000_000] * 100).prepare([])


def test_domains_of_long_names_are_told_apart() -> None:
    names = {slug("y" * 300), slug("y" * 299 + "z"), slug("y" * 300 + " "), slug("y" * LONGEST)}
    assert len(names) == 3
    assert max(map(len, names)) == LONGEST


def test_a_run_that_loses_order_by_ties_says_how_much(tmp_path: Path) -> None:
    day, told = 86_400, "of the val and test rows have the time of another row of their user"
    dates = protocol(tmp_path, [1_577_836_800 + day * (row // 20) for row in range(100)])
    dates.prepare([])
    (note,) = [note for note in dates.card["notes"] if told in note]
    assert "all times are whole days" in note
    assert note.startswith("100% ")
    exact = protocol(tmp_path, [1_577_836_800 + 60 * row for row in range(100)])
    exact.prepare([])
    assert not [note for note in exact.card["notes"] if told in note]
