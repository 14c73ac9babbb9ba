"""From a file to a trained model without a hand edit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from graftrec.cli.main import main

FEW = ["++trainer.limit_train_batches=2", "transfer.epochs=1", "twin=false", "hydra.run.dir=run"]
PNG = b"\x89PNG\r\n\x1a\n"


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


def windows(folder: Path) -> str:
    as_windows_csv(ratings(), folder / "shop.csv")
    return "shop.csv"


def purchases(folder: Path) -> str:
    """A folder of Parquet without a label."""
    (folder / "parts").mkdir()
    frame = ratings().select("customer_id", "sku", "bought_at", "price")
    frame[:300].write_parquet(folder / "parts" / "one.parquet")
    frame[300:].write_parquet(folder / "parts" / "two.parquet")
    return "parts"


def platforms(folder: Path) -> str:
    """Three domains, the smallest of which comes last in the file's own order of names."""
    random = np.random.default_rng(1)
    platform = random.choice(["App", "Web shop", "Zoö"], 900, p=[0.5, 0.3, 0.2])
    ratings(900).with_columns(platform=pl.Series(platform)).drop("comment").write_csv(folder / "platforms.csv")
    return "platforms.csv"


def untimed(folder: Path) -> str:
    ratings().drop("bought_at").write_parquet(folder / "untimed.parquet")
    return "untimed.parquet"


def videos(folder: Path) -> str:
    """What was known only after a view, beside two labels, one of which has gaps."""
    random = np.random.default_rng(2)
    frame = ratings().rename({"sku": "video_id", "bought_at": "timestamp"}).with_columns(
        play_time_ms=pl.Series(random.integers(0, 60_000, 600)),
        long_view=pl.Series(random.integers(0, 2, 600)),
        rating=pl.Series(random.choice([1.0, 3.0, 5.0, np.nan], 600)),
        is_like=pl.Series(random.choice([0.0, 1.0, np.nan], 600)),
        duration=pl.Series(random.normal(90, 20, 600)),
    )  # fmt: skip
    frame.write_parquet(folder / "videos.parquet")
    return "videos.parquet"


def tables(folder: Path) -> str:
    """No users and no items, a split of its own, and names that mean something else elsewhere."""
    random = np.random.default_rng(3)
    frame = ratings().select(
        "price", "channel", pl.Series("label", random.integers(0, 2, 600)), pl.Series("weight", random.random(600)),
        pl.Series("event", random.choice(["view", "buy"], 600)),
        pl.Series("split", random.choice(["train", "test"], 600, p=[0.8, 0.2])),
    )  # fmt: skip
    frame.write_csv(folder / "2020.csv")
    return "2020.csv"


STREAMS = ("baskets", "sequences", "pairs", "rows")


@dataclass(frozen=True)
class Source:
    """A file, what is guessed of its columns, and what is written: parts of the dataset's YAML, and the tasks."""

    make: Callable[[Path], str]
    name: str
    guessed: dict[str, str]
    yaml: dict[str, Any]
    tasks: list[str]
    split: str
    streams: set[str]
    main: dict[str, str]
    settings: list[str] = field(default_factory=list)


SOURCES = {
    "labels": Source(
        windows, "shop",
        {"customer_id": "user", "sku": "item", "bought_at": "time", "channel": "id", "price": "number",
         "clicked": "label", "comment": "-", "country": "-"},
        {"user": "customer_id", "item": "sku", "time": "bought_at", "time_unit": "s",
         "features": {"channel": "id", "price": "number"}, "labels": {"clicked": "binary"}},
        ["shop_clicked"], "time", set(STREAMS), {"task": "shop_clicked", "metric": "auc"},
    ),
    "a folder of parquet": Source(
        purchases, "parts",
        {"customer_id": "user", "sku": "item", "bought_at": "time", "price": "number"},
        {"user": "customer_id", "item": "sku", "time": "bought_at", "time_unit": "s", "features": {"price": "number"}},
        ["parts_recommend"], "time", {"baskets", "sequences", "pairs"},
        {"task": "parts_recommend", "metric": "ndcg@10"},
    ),
    "domains": Source(
        platforms, "platforms",
        {"customer_id": "user", "platform": "domain", "clicked": "label"},
        {"user": "customer_id", "item": "sku", "time": "bought_at", "domain": "platform", "time_unit": "s",
         "features": {"channel": "id", "price": "number"}, "labels": {"clicked": "binary"}},
        ["platforms_zoö_clicked", "platforms_web_shop_clicked", "platforms_app_clicked"], "time",
        {f"{domain}/{kind}" for domain in ("app", "web_shop", "zoö") for kind in STREAMS},
        {"task": "platforms_zoö_clicked", "metric": "auc"},
    ),
    "no time": Source(
        untimed, "untimed",
        {"customer_id": "user", "sku": "item", "clicked": "label"},
        {"user": "customer_id", "item": "sku", "features": {"channel": "id", "price": "number"},
         "labels": {"clicked": "binary"}},
        ["untimed_clicked"], "random", {"baskets", "pairs", "rows"}, {"task": "untimed_clicked", "metric": "auc"},
    ),
    "known after": Source(
        videos, "videos",
        {"video_id": "item", "play_time_ms": "-", "long_view": "id", "rating": "label", "is_like": "label",
         "duration": "number", "clicked": "label"},
        {"user": "customer_id", "item": "video_id", "time": "timestamp", "time_unit": "s",
         "features": {"channel": "id", "price": "number", "long_view": "id", "duration": "number"},
         "labels": {"clicked": "binary", "rating": "number", "is_like": "binary"}, "known_after": ["play_time_ms"]},
        ["videos_clicked", "videos_is_like", "videos_rating"], "time", set(STREAMS),
        {"task": "videos_clicked", "metric": "auc"},
    ),
    "a table": Source(
        tables, "my_2020",
        {"price": "number", "channel": "id", "label": "label", "weight": "-", "event": "-", "split": "split"},
        {"split": "split", "features": {"price": "number", "channel": "id"}, "labels": {"label": "binary"}},
        ["my_2020_label"], "official", {"rows"}, {"task": "my_2020_label", "metric": "auc"},
    ),
}  # fmt: skip
every_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


def command(said: str, verb: str) -> list[str]:
    """What init proposes to type next."""
    line = next(line for line in said.splitlines() if line.startswith(verb)).split()
    assert line[1] == "graftrec"
    return line[2:]


@every_source
def test_a_file_is_guessed_and_checked(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = source.make(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    assert main(["data", "init", path, "--out", "my_conf"]) == 0
    said = capsys.readouterr().out
    for column, kind in source.guessed.items():
        assert any(line.split()[:2] == [column, kind] for line in said.splitlines()), (column, kind, said)
    made = yaml.safe_load((tmp_path / f"my_conf/dataset/{source.name}.yaml").read_text())
    assert made.pop("_target_") == "graftrec.data.datasets.files.Files"
    assert made.pop("path") == str(tmp_path / path)
    assert made.pop("name") == source.name
    assert made == source.yaml
    assert sorted(file.stem for file in (tmp_path / "my_conf/task").iterdir()) == sorted(source.tasks)
    experiment = yaml.safe_load((tmp_path / f"my_conf/experiment/{source.name}.yaml").read_text())
    chosen = {key: value for line in experiment["defaults"] for key, value in line.items()}
    assert chosen["override /dataset"] == source.name
    assert chosen["override /split"] == source.split
    assert chosen["override /task@target"] == source.tasks[:1]
    assert chosen["override /task@source"] == source.tasks[1:]
    assert chosen["override /task@shared"] == []
    assert f"split={source.split}" in command(said, "check")
    assert main(command(said, "check")) == 0
    card = json.loads((tmp_path / "data_card/card.json").read_text())
    assert (tmp_path / "data_card/card.png").read_bytes().startswith(PNG)
    assert set(card["splits"]) == source.streams
    assert card["dataset"] == source.name
    labels = {label: about["kind"] for domain in card["domains"].values() for label, about in domain["labels"].items()}
    assert labels == source.yaml.get("labels", {})
    assert {file: file.stat().st_mtime_ns for file in before if file != tmp_path} == {
        file: moment for file, moment in before.items() if file != tmp_path
    }  # fmt: skip


@pytest.mark.slow
@every_source
def test_a_file_is_guessed_and_trained(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", "init", source.make(tmp_path), "--out", "my_conf"]) == 0
    train = command(capsys.readouterr().out, "train")
    assert main([*train, *FEW]) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["main"] == source.main
    assert metrics["roles"] == {task: "source" if at else "target" for at, task in enumerate(source.tasks)}
    for task in source.tasks:
        assert any(value is not None for value in metrics["test"][task].values())
    assert json.loads((tmp_path / "run/data_card.json").read_text())["dataset"] == source.name


def test_of_gaps_and_guesses_the_reasons_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for make in (videos, tables):
        assert main(["data", "init", make(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "left out: by its name known only after the row, so it would leak the answer" in said
    assert said.count("left out: a name that graftrec uses itself; rename the column to have it") == 2
    assert "left out: one value only" in said
    assert "left out: nearly every row has a value of its own (600)" in said


def test_a_column_called_no_is_a_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ratings().rename({"channel": "no", "price": "1e5"}).write_csv("shop.csv")
    assert main(["data", "init", "shop.csv"]) == 0
    made = yaml.safe_load((tmp_path / "shop_conf/dataset/shop.yaml").read_text())
    assert made["features"] == {"no": "id", "1e5": "number"}
    assert main(command(capsys.readouterr().out, "check")) == 0


@pytest.mark.parametrize("name", ["movielens", "files", "2020", "1e5", "nan", "complete_journey", "shöp-1", "数据"])
def test_a_file_of_any_name_is_a_dataset_of_its_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ratings().write_csv(f"{name}.csv")
    assert main(["data", "init", f"{name}.csv", "--out", "my_conf"]) == 0
    check = command(capsys.readouterr().out, "check")
    assert main([*check, "out=null"]) == 0
    said = capsys.readouterr().out
    assert "39 users · 60 items · 600 rows" in said
    assert said.startswith({"shöp-1": "sh_p_1", "数据": "mine"}.get(name, f"my_{name}"))


def test_a_column_with_very_many_domains_is_a_feature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ratings().with_columns(site=pl.Series([f"s{number % 12}" for number in range(600)])).write_csv("shop.csv")
    assert main(["data", "init", "shop.csv"]) == 0
    made = yaml.safe_load((tmp_path / "shop_conf/dataset/shop.yaml").read_text())
    assert "domain" not in made
    assert made["features"]["site"] == "id"


def test_init_overwrites_nothing_and_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    as_windows_csv(ratings(), tmp_path / "shop.csv")
    assert main(["data", "init", "shop.csv"]) == 0
    written = {path: path.read_bytes() for path in (tmp_path / "shop_conf").rglob("*.yaml")}
    assert main(["data", "init", "shop.csv"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "shop_conf").rglob("*.yaml")} == written
    assert main(["data", "init"]) == 2
    assert main(["data", "init", "--fast", "shop.csv"]) == 2
    assert main(["data", "init", "nowhere.csv"]) == 65
    (tmp_path / "more.csv").write_bytes((tmp_path / "shop.csv").read_bytes())
    (tmp_path / "other.csv").write_bytes((tmp_path / "shop.csv").read_bytes())
    assert main(["data", "init", "shop.csv", "more.csv", "--out", "both"]) == 2
    assert "other.csv lies beside these files and was not named" in capsys.readouterr().err
    assert not (tmp_path / "both").exists()
    ratings().select("channel", "price").write_csv("plain.csv")
    assert main(["data", "init", "plain.csv"]) == 2
    assert "nothing to learn was found" in capsys.readouterr().err
    assert not (tmp_path / "plain_conf").exists()
