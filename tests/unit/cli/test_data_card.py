"""What a data card says of the shop, as JSON, on the screen and as plots."""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from graftrec.cli import data_check
from graftrec.cli.main import main
from graftrec.data.datasets.files import Files
from graftrec.data.protocols import base
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.protocols.data_card import _empty as empty
from graftrec.data.splits.base import Split
from graftrec.data.splits.leave_last_out import LeaveLastOut
from graftrec.data.splits.random_split import AtRandom
from graftrec.data.splits.temporal import ByTime
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.tables.domains import domains_of
from graftrec.evaluation.report import plots
from graftrec.utils.errors import UserError

PNG = b"\x89PNG\r\n\x1a\n"
KEYS: dict[str, Any] = {"user": "user", "item": "item", "time": "time"}
SETTINGS: dict[str, Any] = {
    **KEYS, "basket": "basket", "features": {"weekday": "id", "price": "number"},
    "labels": {"click": "binary", "like": "binary"}, "name": "shop",
}  # fmt: skip


def prepared(path: Path | str, split: Split | None = None, **more: Any) -> CrossDomain:
    made = CrossDomain(Files(str(path), **{**SETTINGS, **more}), split or ByTime(), History(), Candidates(min_users=0))
    made.prepare([])
    return made


@pytest.fixture(scope="module")
def lines(shop: Path) -> pl.DataFrame:
    return pl.read_parquet(shop / "lines.parquet")


@pytest.fixture(scope="module")
def card(shop: Path) -> dict[str, Any]:
    found: dict[str, Any] = prepared(shop / "lines.parquet").full_card
    return found


# --- JSON


def test_the_card_counts_what_is_there(card: dict[str, Any], lines: pl.DataFrame) -> None:
    assert json.loads(json.dumps(card, allow_nan=False)) == card
    assert (card["dataset"], card["protocol"], card["split"]) == ("shop", "CrossDomain", "ByTime")
    assert card["rows"] == len(lines)
    assert card["users"] == lines["user"].n_unique() == 12
    assert card["items"] == lines["item"].n_unique()
    assert card["first"] == lines["time"].min().strftime("%Y-%m-%d %H:%M:%S")  # type: ignore[union-attr]
    assert card["last"] == lines["time"].max().strftime("%Y-%m-%d %H:%M:%S")  # type: ignore[union-attr]
    assert card["refused"] == {}
    assert card["stamps"] == []
    assert card["catalogue"] == card["items"]
    assert set(card["splits"]) == {"baskets", "pairs", "sequences", "rows"}
    assert sum(card["splits"]["rows"].values()) == len(lines)
    cut = lines["time"].sort()[int(0.8 * len(lines))]
    assert card["splits"]["rows"]["train"] == int((lines["time"] < cut).sum())


def test_the_card_describes_each_domain(card: dict[str, Any], lines: pl.DataFrame) -> None:
    assert list(card["domains"]) == ["all"]
    about = card["domains"]["all"]
    pairs = lines.select("user", "item").n_unique()
    assert about["rows"] == len(lines)
    assert about["density"] == pytest.approx(pairs / (card["users"] * card["items"]))
    assert about["repeated_pairs"] == len(lines) - pairs
    counts = np.sort(lines["item"].value_counts()["count"].to_numpy())[::-1]
    for share, name in ((0.01, "1 %"), (0.1, "10 %"), (0.5, "50 %")):
        top = counts[: max(1, round(len(counts) * share))].sum()
        assert about["rows_of_top_items"][name] == pytest.approx(top / len(lines))
    assert about["rows_of_top_users"]["50 %"] >= 0.5
    assert about["labels"] == {
        name: {"kind": "binary", "mean": pytest.approx(lines[name].mean()), "missing": 0} for name in ("click", "like")
    }
    assert about["missing"] == {}
    assert about["numbers"]["price"] == {"low": 0.0, "median": lines["price"].median(), "high": 9.0, "outliers": 0}
    assert set(about["split_hashes"]) == {"train", "val", "test"}
    assert len({card["fingerprint"], *about["split_hashes"].values()}) == 4


def test_the_timeline_has_every_row(card: dict[str, Any], lines: pl.DataFrame) -> None:
    timeline = card["timeline"]
    assert len(timeline["edges"]) == 61
    assert timeline["edges"] == sorted(timeline["edges"])
    assert timeline["edges"][0] == card["first"]
    assert [datetime.fromisoformat(edge) for edge in timeline["edges"]]
    assert list(timeline["counts"]) == ["all"]
    assert len(timeline["counts"]["all"]) == 60
    assert sum(timeline["counts"]["all"]) == len(lines)


def test_the_order_of_rows_changes_nothing_and_one_row_does(
    card: dict[str, Any], lines: pl.DataFrame, tmp_path: Path
) -> None:
    lines.sample(fraction=1.0, shuffle=True, seed=1).write_parquet(tmp_path / "shuffled.parquet")
    assert prepared(tmp_path / "shuffled.parquet").full_card == card
    lines.write_csv(tmp_path / "lines.csv")
    as_text = prepared(tmp_path / "lines.csv").full_card
    assert {**as_text, "fingerprint": "", "domains": ""} == {**card, "fingerprint": "", "domains": ""}
    first = pl.int_range(pl.len()) == 0
    for column, value in (("user", 3), ("item", 139), ("time", lines["time"][0] + timedelta(seconds=1))):
        other = lines.with_columns(pl.when(first).then(pl.lit(value)).otherwise(column).alias(column))
        other.cast(lines.schema).write_parquet(tmp_path / "other.parquet")
        changed = prepared(tmp_path / "other.parquet").full_card
        assert changed["fingerprint"] != card["fingerprint"], column


def test_a_label_has_a_hash_of_its_own(card: dict[str, Any], lines: pl.DataFrame, tmp_path: Path) -> None:
    """Rows of the same users and items with other answers are other data, and only that label's."""
    lines.with_columns((1 - pl.col("click")).alias("click")).cast(lines.schema).write_parquet(
        tmp_path / "flipped.parquet"
    )
    flipped = prepared(tmp_path / "flipped.parquet").full_card
    assert flipped["fingerprint"] != card["fingerprint"]
    before, after = (each["domains"]["all"] for each in (card, flipped))
    assert after["split_hashes"] == before["split_hashes"]
    for stage in ("train", "val", "test"):
        assert after["label_hashes"]["click"][stage] != before["label_hashes"]["click"][stage]
        assert after["label_hashes"]["like"] == before["label_hashes"]["like"]


def test_two_splits_have_hashes_of_their_own(shop: Path, card: dict[str, Any]) -> None:
    found = [
        prepared(shop / "lines.parquet", split).full_card
        for split in (AtRandom(), AtRandom(seed=1), AtRandom(by="user"), LeaveLastOut())
    ]
    hashes = [each["domains"]["all"]["split_hashes"]["test"] for each in [card, *found]]
    assert len(set(hashes)) == 5
    assert {each["fingerprint"] for each in found} == {card["fingerprint"]}  # which the split does not change
    assert found[0]["stamps"] == ["not time-safe: rows are split at random"]
    assert "the last row of each user is left out" in found[3]["stamps"][0]


def test_a_long_table_has_a_short_card_unless_all_is_asked_for(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short, full = (prepared(shop / "lines.parquet").card, prepared(shop / "lines.parquet").full_card)
    assert short == full
    monkeypatch.setattr(base, "LARGE", 100)
    made = prepared(shop / "lines.parquet")
    assert made.full_card == full
    assert "timeline" not in made.card
    assert set(made.card["domains"]["all"]) == {"rows", "users", "items", "split_hashes", "label_hashes"}
    for key in ("rows", "users", "items", "first", "last", "splits", "fingerprint", "stamps", "refused"):
        assert made.card[key] == full[key]


def test_domains_are_counted_apart_and_compared(shop: Path, lines: pl.DataFrame) -> None:
    found = prepared(shop / "lines.parquet", domain="department", items=str(shop / "products.parquet")).full_card
    assert list(found["domains"]) == ["drug_gm", "grocery", "produce"]
    assert sum(about["rows"] for about in found["domains"].values()) == len(lines) == found["rows"]
    assert sum(about["items"] for about in found["domains"].values()) == found["items"]
    assert sum(map(sum, found["timeline"]["counts"].values())) == len(lines)
    assert set(found["splits"]) == {
        f"{domain}/{kind}" for domain in found["domains"] for kind in ("baskets", "pairs", "sequences", "rows")
    }
    pairs = [note for note in found["notes"] if "have in common" in note]
    assert pairs[0] == "drug_gm and grocery have in common: 12 users"  # and no item
    assert len(pairs) == 3


def test_what_is_missing_and_far_away_is_told(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "user": [f"u{number % 9}" for number in range(200)],
            "item": [number % 7 for number in range(200)],
            "time": [datetime(2020, 1, 1) + timedelta(days=number) for number in range(200)],
            "weekday": ["a", None, "b", "c"] * 50,
            "price": [None] * 20 + [float(number % 5) for number in range(178)] + [1e6, -1e6],
            "click": [None, 1] * 100,
            "like": [0.0] * 200,
            "tags": [["x"], [], ["y", "z"], ["x"]] * 50,
            "mood": ["good", "bad", None, "good"] * 50,
            "text": ["one two", "", None, "three"] * 50,
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    features = {"weekday": "id", "price": "number", "tags": "ids", "text": "text"}
    labels = {"click": "binary", "like": "number", "mood": "category"}
    found = prepared(tmp_path / "t.parquet", basket="", features=features, labels=labels).full_card
    json.dumps(found, allow_nan=False)
    about = found["domains"]["all"]
    assert about["missing"] == {"weekday": 0.25, "price": 0.1, "tags": 0.25, "text": 0.5}
    assert about["numbers"]["price"] == {"low": -1e6, "median": 2.0, "high": 1e6, "outliers": 2}
    assert about["labels"] == {
        "click": {"kind": "binary", "mean": 1.0, "missing": 100},
        "like": {"kind": "number", "mean": 0.0, "missing": 0},
        "mood": {"kind": "category", "mean": None, "missing": 50},
    }
    assert "label 'click' is 1 in every row: its metrics are undefined" in found["notes"]
    assert "label 'like' is 0 in every row: its metrics are undefined" in found["notes"]


# --- the screen


def check(shop: Path, *more: str) -> list[str]:
    return [
        "data", "check", "dataset=files", f"dataset.path={shop}/lines.parquet", "dataset.name=shop",
        "protocol=cross_domain", "++candidates.min_users=1",
        *(f"++dataset.{role}={role}" for role in ("user", "item", "time", "basket")), *more,
    ]  # fmt: skip


LABELS = ["++dataset.labels={click: binary, like: binary}", "++dataset.features={weekday: id, price: number}"]


def test_the_screen_has_the_tables(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    card: dict[str, Any],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main([*check(shop, *LABELS), "++dataset.name=shop"]) == 0
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert said[0][:8] == ["shop", "·", "12", "users", "·", f"{card['items']}", "items", "·"]
    assert f"{card['rows']:,}" in said[0]
    about = card["domains"]["all"]
    repeats, density = f"{about['repeated_pairs']:,}", f"{about['density']:.2%}"
    assert [line[:4] for line in said if line[:2] == ["domain", "rows"]] == [["domain", "rows", "users", "items"]]
    assert [line[:6] for line in said if line[:2] == ["all", f"{card['rows']:,}"]] == [
        ["all", f"{card['rows']:,}", "12", f"{card['items']}", density, repeats]
    ]
    assert ["all", "click", "binary", f"{about['labels']['click']['mean']:.4g}", "0"] in said
    for name, splits in card["splits"].items():
        assert [f"{splits[part]:,}" for part in ("train", "val", "test")] in [
            line[1:4] for line in said if line[:1] == [name]
        ]
    assert ["split", "all:", *(word for pair in about["split_hashes"].items() for word in pair)] in said
    written = json.loads(Path("data_card/card.json").read_text())
    assert written["domains"]["all"]["split_hashes"] == about["split_hashes"]
    assert sorted(path.name for path in Path("data_card").iterdir()) == ["card.json", "card.png"]
    assert said[-1] == ["card", "data_card/card.json", "data_card/card.png"]


def test_a_table_without_labels_or_items_leaves_out_what_is_not_there(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*check(shop), "out=null"]) == 0
    said = capsys.readouterr().out
    assert "label " not in said
    assert "baskets" in said
    assert not list(tmp_path.iterdir())
    words = ["++dataset.user=''", "++dataset.item=''", "++dataset.basket=''", "++dataset.time=''", "split=random"]
    assert main([*check(shop, *LABELS), *words, "out=null"]) == 0
    said = capsys.readouterr().out
    assert "users" not in said.splitlines()[0]
    assert "rows" in said
    assert "baskets" not in said
    assert "stamp    not time-safe: rows are split at random" in said


def test_names_and_ids_are_no_markup_and_no_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    bold, clear = "[/bold]", "0\x1b[2J\x1b]0;x\x07"
    frame = pl.DataFrame(
        {
            "user": [
                clear if number == 3 else clear[1:] if number == 4 else f"[red]u{number % 9}" for number in range(90)
            ],
            "item": [number % 7 for number in range(90)],
            "time": [datetime(2020, 1, 1) + timedelta(days=number) for number in range(90)],
            bold: [number % 2 for number in range(90)],
            "[link=x]": [None if number % 2 else "[/foo]" for number in range(90)],
            "d": [bold if number % 3 else "$x_{" for number in range(90)],
        }
    )
    frame.write_parquet("t.parquet")
    Path("conf/dataset").mkdir(parents=True)
    meaning = {
        "_target_": "graftrec.data.datasets.files.Files", "path": "t.parquet", "name": "[red]mine", **KEYS,
        "domain": "d", "labels": {bold: "binary"}, "features": {"[link=x]": "id"},
    }  # fmt: skip
    Path("conf/dataset/odd.yaml").write_text(json.dumps(meaning))
    words = ["dataset=odd", "protocol=cross_domain", "++candidates.min_users=0"]
    assert main(["data", "check", "--config-dir", "conf", *words]) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\x07" not in said
    assert bold in said
    assert "[red]mine" in said
    assert "[link=x]" in said.replace("\n", "")
    assert "ids differ from others by leading zeros only" in said
    assert Path("data_card/card.png").read_bytes().startswith(PNG)


def test_the_card_is_written_whole_and_anew(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for settings, labels in (([], {}), (LABELS, {"click", "like"})):
        assert main([*check(shop, *settings), "out=deep/er"]) == 0
        assert set(json.loads(Path("deep/er/card.json").read_text())["domains"]["all"]["labels"]) == set(labels)
    assert sorted(path.name for path in Path("deep/er").iterdir()) == ["card.json", "card.png"]
    monkeypatch.setattr(plots, "data_card", lambda *_: [][0])
    assert main([*check(shop), "out=undrawn"]) == 0  # a plot costs no card
    assert [path.name for path in Path("undrawn").iterdir()] == ["card.json"]
    Path("file").write_text("mine")
    with pytest.raises(
        UserError, match=r"^file cannot be used: .* \(file\); name another folder with out, or out=null"
    ):
        data_check.main({"out": "file"})
    assert Path("file").read_text() == "mine"


# --- plots


def size_of(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(PNG)
    assert content.endswith(b"IEND\xaeB`\x82")
    assert len(content) > 10_000
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def about(rows: int = 10, items: bool = True, **labels: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": rows, "labels": {}}
    found["labels"] = {name: {"kind": "binary", "mean": mean, "missing": 0} for name, mean in labels.items()}
    if items:
        found["rows_of_top_items"] = {"1 %": 0.1, "10 %": 0.4, "50 %": 0.9}
    return found


def many(count: int) -> dict[str, Any]:
    domains = {f"domain_{number}_$x_{{": about(10 * number, y=number / count) for number in range(1, count + 1)}
    edges = [f"2020-01-{1 + at // 24:02d} {at % 24:02d}:00:00" for at in range(61)]
    return {
        "domains": domains,
        "timeline": {"edges": edges, "counts": {name: list(range(60)) for name in domains}},
    }


def all_years() -> dict[str, Any]:
    edges = ["0001-01-01 00:00:00", "5000-01-01 00:00:00", "9999-12-31 23:59:59"]
    return {"domains": {"all": about(y=0.3)}, "timeline": {"edges": edges, "counts": {"all": [1, 2]}}}


DRAWN: dict[str, Callable[[], dict[str, Any]]] = {
    "no dates": lambda: {"domains": {"all": about(y=0.3)}, "timeline": {}},
    "no timeline": lambda: {"domains": {"all": about(y=0.3)}},
    "no labels": lambda: {**many(1), "domains": {"domain_1_$x_{": about()}},
    "no items": lambda: {"domains": {"all": about(items=False, y=0.3)}},
    "nothing at all": lambda: {"domains": {"all": about(items=False)}},
    "no rows": lambda: {"domains": {"all": about(0)}},
    "no domain": lambda: {"domains": {}},
    "a label without a value": lambda: {"domains": {"all": about(y=None, z=1.0)}},
    "many labels": lambda: {"domains": {"all": about(**{f"label_{at}": at / 20 for at in range(20)})}},
    "two domains": lambda: many(2),
    "six domains": lambda: many(6),
    "many domains": lambda: many(40),
    "long names": lambda: {
        "domains": {
            f"{at}{'x' * 90}": about(at, **{f"{label}{'y' * 90}": 0.5 for label in "abc"}) for at in range(1, 9)
        }
    },
    "the years 1 to 9999": all_years,
    "an empty one among them": lambda: {"domains": {**many(2)["domains"], "empty": about(0, y=None)}},
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_card_is_drawn_whatever_is_there(name: str, tmp_path: Path) -> None:
    assert plots.data_card(DRAWN[name](), tmp_path / "deep" / "card.png") == tmp_path / "deep" / "card.png"
    width, height = size_of(tmp_path / "deep" / "card.png")
    assert 1000 < width < 3000
    assert 300 < height < 1500
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["card.png"]


def test_what_is_there_is_what_is_drawn(tmp_path: Path) -> None:
    drawn = {name: plots.data_card(make(), tmp_path / f"{name}.png").read_bytes() for name, make in DRAWN.items()}
    same = [{"no dates", "no timeline"}, {"nothing at all", "no rows", "no domain"}]
    for names in same:
        assert len({drawn[name] for name in names}) == 1
    assert len(set(drawn.values())) == len(drawn) - 3
    again = plots.data_card(many(2), tmp_path / "again.png").read_bytes()
    assert again == drawn["two domains"]


def test_the_shop_is_drawn(shop: Path, card: dict[str, Any], tmp_path: Path) -> None:
    size_of(plots.data_card(card, tmp_path / "shop.png"))
    split = prepared(shop / "lines.parquet", domain="department", items=str(shop / "products.parquet")).full_card
    size_of(plots.data_card(split, tmp_path / "split.png"))


@pytest.mark.parametrize(
    ("times", "unit"),
    [([1_600_000_000] * 30, "s"), ([1_600_000_000 + at for at in range(30)], "s"), (list(range(30)), "order"),
     ([0] * 29 + [4_000_000_000], "s"), ([-2_000_000_000 + 86_400 * at for at in range(30)], "s"),
     ([-40_000 * 365 + at for at in range(30)], "s")],
    ids=["one moment", "half a minute", "an order", "far apart", "long ago", "before 1970"],
)  # fmt: skip
def test_any_times_can_be_drawn(times: list[int], unit: str, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "user": [f"u{number % 5}" for number in range(30)],
            "item": [number % 4 for number in range(30)],
            "time": times,
            "y": [number % 2 for number in range(30)],
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")
    settings = {"basket": "", "features": {}, "labels": {"y": "binary"}, "time_unit": unit}
    found = prepared(tmp_path / "t.parquet", AtRandom(), **settings).full_card
    assert ("first" in found) == (unit != "order")
    if unit != "order":
        assert found["timeline"]["edges"][0] < found["timeline"]["edges"][-1]
        assert sum(found["timeline"]["counts"]["all"]) == 30
    size_of(plots.data_card(found, tmp_path / "card.png"))


def test_many_domains_are_told_in_few_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What each has in common with any other, by one look; each pair would be 4,950 lines, and take minutes."""
    count = 100
    frame = pl.DataFrame({"domain": [f"d{at % count}" for at in range(20 * count)]}).with_row_index("row")
    frame = frame.with_columns(
        user=pl.when(pl.col("domain") == "d7").then(pl.lit("alone")).otherwise(pl.lit("everybody")),
        item=pl.format("{}_{}", "domain", "row"),
        time=1_500_000_000 + pl.col("row") * 1000,
        click=pl.col("row") // 100 % 2,
    )
    frame.drop("row").write_csv(tmp_path / "many.csv")
    words = f"dataset=files dataset.path={tmp_path}/many.csv dataset.name=many dataset.user=user dataset.item=item"
    words += " dataset.time=time dataset.time_unit=s dataset.domain=domain dataset.labels={click: binary}"
    code = main(
        ["data", *re.split(r" (?=dataset)", words), "protocol=cross_domain", "split=time", "dataset.cache=off",
         "candidates.min_users=0", f"out={tmp_path / 'card'}", f"hydra.run.dir={tmp_path / 'hydra'}"]
    )  # fmt: skip
    printed = capsys.readouterr().out.splitlines()
    assert code == 0
    assert len(printed) < 6 * data_check.SHOWN
    assert any(f"and {100 - data_check.SHOWN} more rows of domain, in card.json" in line for line in printed)
    notes = json.loads((tmp_path / "card" / "card.json").read_text())["notes"]
    common = [note for note in notes if "have in common" in note]
    assert len(common) == count
    assert "d0 and the other 99 domains have in common: 1 users" in common
    assert "d7 and the other 99 domains have in common: nothing: only parameters are shared" in common


def test_a_column_of_100000_values_is_no_domain(tmp_path: Path) -> None:
    rows = 100_000
    table = {"user": [1] * rows, "item": [2] * rows, "time": range(rows), "site": [f"s{at}" for at in range(rows)]}
    pl.DataFrame(table).write_parquet(tmp_path / "sites.parquet")
    files = Files(str(tmp_path / "sites.parquet"), **KEYS, domain="site", time_unit="s", name="sites")
    begun = time.process_time()
    with pytest.raises(UserError, match=r"dataset.domain: the column has 100,000 values, such as 's0', .*; 500 domain"):
        domains_of(files.parts())
    assert time.process_time() - begun < 10


def test_splits_without_rows_are_a_line_each_and_not_one_for_each_stream() -> None:
    streams = {f"d{at}/rows": SimpleNamespace(splits={"train": 5, "val": 0, "test": 0}) for at in range(14)}
    streams["x/rows"] = SimpleNamespace(splits={"train": 0, "val": 3, "test": 3})
    named = ", ".join(f"'d{at}/rows'" for at in range(12))
    assert empty(SimpleNamespace(streams=streams)) == [  # type: ignore[arg-type]
        f"the val split of streams {named} and 2 more have no row",
        f"the test split of streams {named} and 2 more have no row",
        "the train split of stream 'x/rows' has no row",
    ]
