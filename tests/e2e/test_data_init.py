"""From a file to a trained model without a hand edit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from graftrec.cli import main


def ratings(rows: int = 600) -> pl.DataFrame:
    random = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "customer_id": random.integers(1, 40, rows),
            "sku": random.integers(100, 160, rows),
            "bought_at": 1_600_000_000 + np.sort(random.integers(0, 86_400 * 90, rows)),
            "channel": random.choice(["web", "app", "shop"], rows),
            "price": random.normal(10, 3, rows).round(2),
            "clicked": random.integers(0, 2, rows),
            "comment": [f"text {number}" for number in range(rows)],
            "country": ["DE"] * rows,
        }
    )


def as_windows_csv(frame: pl.DataFrame, path: Path) -> None:
    """Semicolons, a byte order mark and CRLF, as a spreadsheet exports it."""
    path.write_bytes(b"\xef\xbb\xbf" + frame.write_csv(separator=";").replace("\n", "\r\n").encode())


FEW = ["++trainer.limit_train_batches=2", "transfer.epochs=1", "twin=false", "hydra.run.dir=run"]


def test_a_csv_with_labels_is_guessed_checked_and_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    as_windows_csv(ratings(), tmp_path / "shop.csv")
    assert main(["data", "init", "shop.csv", "--out", "my_conf"]) == 0
    said = capsys.readouterr().out
    for column, kind in (
        ("customer_id", "user"), ("sku", "item"), ("bought_at", "time"), ("channel", "ids"), ("price", "numbers"),
        ("clicked", "binary"), ("comment", "-"), ("country", "-"),
    ):  # fmt: skip
        assert any(line.split()[:2] == [column, kind] for line in said.splitlines()), (column, kind)
    made = yaml.safe_load((tmp_path / "my_conf/dataset/shop.yaml").read_text())
    assert made["time_unit"] == "s"
    check = next(line for line in said.splitlines() if line.startswith("check")).split()[2:]
    assert main(check) == 0
    assert "clicked" in capsys.readouterr().out
    assert main(["train", "--config-dir", "my_conf", "experiment=shop", *FEW]) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["main"] == {"task": "shop_clicked", "metric": "auc"}


def test_a_parquet_folder_of_purchases_is_guessed_checked_and_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts").mkdir()
    frame = ratings().select("customer_id", "sku", "bought_at", "price")
    frame[:300].write_parquet("parts/one.parquet")
    frame[300:].write_parquet("parts/two.parquet")
    assert main(["data", "init", "parts", "--out", "my_conf"]) == 0
    said = capsys.readouterr().out
    check = next(line for line in said.splitlines() if line.startswith("check")).split()[2:]
    assert main(check) == 0
    assert main(["train", "--config-dir", "my_conf", "experiment=parts", "task@shared=[]", *FEW]) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["main"] == {"task": "recommend", "metric": "ndcg@10"}


def test_a_column_called_no_is_a_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ratings().rename({"channel": "no", "price": "1e5"}).write_csv("shop.csv")
    assert main(["data", "init", "shop.csv"]) == 0
    made = yaml.safe_load((tmp_path / "shop_conf/dataset/shop.yaml").read_text())
    assert (made["ids"], made["numbers"]) == (["no"], ["1e5"])


def test_init_overwrites_nothing_and_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    as_windows_csv(ratings(), tmp_path / "shop.csv")
    assert main(["data", "init", "shop.csv"]) == 0
    assert main(["data", "init", "shop.csv"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["data", "init"]) == 2
    assert main(["data", "init", "--fast", "shop.csv"]) == 2
    assert main(["data", "init", "nowhere.csv"]) == 65
    (tmp_path / "more.csv").write_bytes((tmp_path / "shop.csv").read_bytes())
    (tmp_path / "other.csv").write_bytes((tmp_path / "shop.csv").read_bytes())
    assert main(["data", "init", "shop.csv", "more.csv", "--out", "both"]) == 2
    assert "other.csv lies beside these files and was not named" in capsys.readouterr().err
    ratings().select("channel", "price").write_csv("plain.csv")
    assert main(["data", "init", "plain.csv"]) == 2
    assert "nothing to learn was found" in capsys.readouterr().err
    assert not (tmp_path / "plain_conf").exists()
