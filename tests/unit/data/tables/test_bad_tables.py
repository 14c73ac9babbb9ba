"""Bad inputs that the dataset or the protocol decides: each is named with its code and place, or read right and told.

The numbers are those of section 3 of the notes on reliability; those that the readers decide are in `test_bad_files`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from graftrec.cli.main import main
from graftrec.data.datasets.base import Dataset
from graftrec.data.datasets.files import Files
from graftrec.data.datasets.multi import Several
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.splits.base import Split
from graftrec.data.splits.predefined import Official
from graftrec.data.splits.temporal import ByTime
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.models.encoder import Encoder
from graftrec.utils.errors import DataError

ROWS, DAY = 100, 86_400
START = int(datetime(2020, 1, 1, tzinfo=timezone.utc).timestamp())
KEYS = {"user": "user", "item": "item", "time": "time"}
LABEL = {"labels": {"y": "binary"}}
PNG = b"\x89PNG\r\n\x1a\n"


def rows(**changed: Any) -> pl.DataFrame:
    """A day a row: 10 users, 12 items, a label, a price; a column may be replaced, or a row's value in it."""
    frame = pl.DataFrame(
        {
            "user": [f"u{number % 10}" for number in range(ROWS)],
            "item": [f"i{number * 7 % 12}" for number in range(ROWS)],
            "time": [START + DAY * number for number in range(ROWS)],
            "y": [number // 3 % 2 for number in range(ROWS)],
            "price": [number / 8 for number in range(ROWS)],
        }
    )
    for name, values in changed.items():
        if isinstance(values, dict):
            column = frame[name].to_list() if name in frame.columns else [None] * ROWS
            for row, value in values.items():
                column[row] = value
            values = column
        given = values if isinstance(values, (list, pl.Series)) else [values] * ROWS
        frame = frame.with_columns(pl.Series(name, given, strict=False))
    return frame


def without(first: int, last: int) -> pl.DataFrame:
    """Two domains, of which app has none of these rows."""
    shops = rows(shop=["app", "web"] * (ROWS // 2))
    return shops.filter((pl.col("shop") == "web") | ~pl.int_range(ROWS).is_between(first, last))


def write(frames: dict[str, pl.DataFrame], folder: Path) -> None:
    for name, frame in frames.items():
        frame.write_parquet(folder / name) if name.endswith(".parquet") else frame.write_csv(folder / name)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


Check = Callable[[CrossDomain, dict[str, Any]], None]


@dataclass(frozen=True)
class Case:
    """Files, the dataset of the first or of each, the streams that are asked for, and what comes of it.

    Args:
        code: of the error, and ``said`` what its message has; without one it is read, ``notes`` are parts of the
            card's notes, ``refused`` is all that the card counts, and ``check`` looks at the rest.
    """

    row: int
    what: str
    frames: dict[str, pl.DataFrame]
    settings: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    said: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    refused: dict[str, int] = field(default_factory=dict)
    check: Check | None = None
    split: Split = field(default_factory=lambda: ByTime(of="span"))
    streams: tuple[str, ...] = ("rows",)
    several: bool = False

    def dataset(self, folder: Path) -> Dataset:
        given = {**KEYS, **LABEL, "name": "mine", **self.settings}
        files = [Files(str(folder / name), **given) for name in (self.frames if self.several else [*self.frames][:1])]
        return Several(dict(zip(("source", "target"), files, strict=True))) if self.several else files[0]


def every(protocol: CrossDomain, name: str = "rows", stage: str = "train") -> dict[str, torch.Tensor]:
    """All rows of a stream's stage."""
    stream: Any = protocol.streams[name]
    if stage == "train":
        found: dict[str, torch.Tensor] = stream.batch(torch.arange(stream.rows), torch.Generator().manual_seed(0))
        return found
    (found,) = stream.evaluation(stage)
    return found


# --- what is looked at where there is no error


def two_users(protocol: CrossDomain, card: dict[str, Any]) -> None:
    numbers = protocol.users_of("rows").encode(pl.Series(["007", "7"])).tolist()
    assert 0 not in numbers
    assert numbers[0] != numbers[1]
    assert card["users"] == 12


def masked(protocol: CrossDomain, card: dict[str, Any]) -> None:
    labels = every(protocol)["y"]
    assert labels.isnan().nonzero().flatten().tolist() == [1, 4]
    assert protocol.streams["rows"].labels("y").isnan().sum() == 2
    assert every(protocol, stage="test")["y"].isnan().sum() == 1
    assert card["domains"]["all"]["labels"]["y"]["missing"] == 3
    assert card["rows"] == ROWS  # masked, not dropped


def masked_category(protocol: CrossDomain, card: dict[str, Any]) -> None:
    assert (every(protocol)["y"] == -1).nonzero().flatten().tolist() == [1, 4]
    assert card["domains"]["all"]["labels"]["y"] == {"kind": "category", "mean": None, "missing": 2}


def one_domain_without(protocol: CrossDomain, card: dict[str, Any]) -> None:
    assert every(protocol, "app/rows")["z"].isnan().all()
    assert not every(protocol, "web/rows")["z"].isnan().any()
    assert card["domains"]["app"]["labels"]["z"] == {"kind": "number", "mean": None, "missing": ROWS // 2}


def constant(protocol: CrossDomain, card: dict[str, Any]) -> None:
    assert card["domains"]["all"]["labels"]["y"] == {"kind": "binary", "mean": 1.0, "missing": 0}


def all_twice(protocol: CrossDomain, card: dict[str, Any]) -> None:
    assert card["rows"] == ROWS + 3


def once(protocol: CrossDomain, card: dict[str, Any]) -> None:
    assert card["rows"] == card["domains"]["all"]["rows"] == ROWS
    assert not [note for note in card["notes"] if "repeat" in note]
    assert sum(protocol.streams["rows"].splits.values()) == ROWS
    larger = (int(rows()["y"].sum()) + 1) / ROWS  # of two labels
    assert card["domains"]["all"]["labels"]["y"]["mean"] == pytest.approx(larger)


def first_kept(protocol: CrossDomain, card: dict[str, Any]) -> None:
    found = every(protocol)
    assert found["x"].shape == (80, 3)
    numbers = _numbers(protocol, "x", "abcde")
    assert found["x"][0].tolist() == [numbers[raw] for raw in "abc"]
    assert found["x"][1].tolist() == [0, 0, 0]
    assert found["x"][2].tolist() == [numbers["e"], 0, 0]
    assert card["domains"]["all"]["missing"] == {"x": 1 / ROWS}
    assert _encoded(protocol, "rows", found).isfinite().all()


def newest_kept(protocol: CrossDomain, card: dict[str, Any]) -> None:
    numbers = _numbers(protocol, "x", "abcde")
    found = every(protocol)
    assert found["x"][0].tolist() == [numbers[raw] for raw in "cde"]
    assert found["x"][1].tolist() == [0, 0, 0]
    assert found["x"][2].tolist() == [0, 0, numbers["e"]]
    assert card["domains"]["all"]["missing"] == {"x": 1 / ROWS}
    assert _encoded(protocol, "rows", found).isfinite().all()


def unknown(protocol: CrossDomain, card: dict[str, Any]) -> None:
    train, test = every(protocol), every(protocol, stage="test")
    assert train["x"][:4].tolist() == [2, 1, 0, 0]  # emoji and plain have a place, empty and endless have none
    assert test["x"][:4].tolist() == [0, 0, 0, 2]  # never seen, empty, endless; seen
    assert protocol.tables["x"].size == 3
    assert _encoded(protocol, "rows", test).isfinite().all()
    assert card["domains"]["all"]["missing"] == {"x": 4 / ROWS}


def unknown_in_lists(protocol: CrossDomain, card: dict[str, Any]) -> None:
    found = every(protocol)["x"]
    assert (found[0] > 0).sum() == 1
    assert every(protocol, stage="test")["x"][0].tolist() == [0] * 20


def no_such_user(protocol: CrossDomain, card: dict[str, Any]) -> None:
    assert card["rows"] == ROWS - 1
    assert protocol.users_of("rows").keys.to_list() == sorted(f"u{number}" for number in range(10))


def cold(protocol: CrossDomain, card: dict[str, Any]) -> None:
    test = every(protocol, stage="test")
    assert test["cold_item"].tolist() == [True] * 5 + [False] * 5
    assert test["cold_user"].tolist() == [False] * 5 + [True] * 5
    assert _encoded(protocol, "rows", test).isfinite().all()
    baskets: Any = protocol.streams["baskets"]
    for batch in [every(protocol, "baskets"), *baskets.evaluation("test")]:
        assert _encoded(protocol, "baskets", batch).isfinite().all()
    assert protocol.items_of("baskets").encode(pl.Series(["late"])).tolist() != [0]


def new_in_the_target(protocol: CrossDomain, card: dict[str, Any]) -> None:
    found = every(protocol, "target/rows")
    user = protocol.users_of("target/rows").encode(pl.Series(["new"]))
    assert (found["user"] == int(user[0])).sum() == 40
    for name, stream in protocol.streams.items():
        batches = [every(protocol, name)] if stream.rows else []
        for batch in [*batches, *stream.evaluation("val"), *stream.evaluation("test")]:
            assert _encoded(protocol, name, batch).isfinite().all()
    overlap = torch.cat([batch["overlap"] for batch in protocol.streams["target/baskets"].evaluation("test")])
    assert not overlap.all()


def nothing_in_common(protocol: CrossDomain, card: dict[str, Any]) -> None:
    assert sorted(protocol.streams) == ["source/rows", "target/rows"]
    assert card["users"] == 20


def shared_ids(protocol: CrossDomain, card: dict[str, Any]) -> None:
    assert not [note for note in card["notes"] if "only parameters" in note]


def _numbers(protocol: CrossDomain, column: str, raw: str) -> dict[str, int]:
    """Numbers of the ids of a feature: all of training, in sorted order."""
    assert protocol.tables[column].size == len(raw) + 1
    return {value: at for at, value in enumerate(raw, 1)}


def _encoded(protocol: CrossDomain, name: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """What a network makes of a batch."""
    schema = protocol.schema([name])
    encoder = Encoder(schema, width=4, dropout=0.0)
    encoded = encoder(batch, schema.streams[name], with_candidate="candidate" in batch)
    parts = [encoded.fields, encoded.history, encoded.candidate]
    if "catalogue" in batch:
        parts.append(encoder.rows(schema.streams[name].candidate, batch["catalogue"]))
    return torch.cat([part.flatten() for part in parts if part is not None])


# --- the cases

ENDLESS = "x" * 10_000
LISTS = {0: "a|b|c|d|e", 1: "", 2: "e"} | dict.fromkeys(range(3, ROWS), "a")
ODD = dict.fromkeys(range(ROWS), "plain") | {0: "🙂", 2: "", 3: ENDLESS, 90: "new", 91: "", 92: ENDLESS, 93: "🙂"}
DOMAINS = ["app", "web"] * (ROWS // 2)
TWICE = pl.concat([rows(), rows(y={0: 1})[:1], rows()[5:7]])
NOBODY = dict.fromkeys(range(ROWS))
STRANGERS = rows(
    user=[f"v{number % 10}" for number in range(ROWS)], item=[f"j{number % 12}" for number in range(ROWS)]
)  # fmt: skip
NUMBERED = rows(user=[number % 10 for number in range(ROWS)], item=[number % 12 for number in range(ROWS)])
TODAY = datetime.now(timezone.utc).replace(tzinfo=None)

CASES = [
    Case(16, "zeros in front", {"t.csv": rows(user={3: "007", 4: "7"})}, check=two_users,
         notes=("user: 1 ids differ from others by leading zeros only, such as '7'; they are different users",)),
    Case(16, "of items", {"t.csv": rows(item={3: "00", 4: "0", 5: "0"})},
         notes=("item: 1 ids differ from others by leading zeros only, such as '0'; they are different items",)),
    Case(22, "2, -1, 0.5", {"t.csv": rows(y={6: 2, 8: -1, 90: 0.5})}, code="TASK-003",
         said=("t.csv:8  y: '2.0' is neither 0 nor 1", "t.csv:10  y: '-1.0'", "t.csv:92  y: '0.5'")),
    Case(22, "in Parquet", {"t.parquet": rows(y={6: 2})}, code="TASK-003", said=("t.parquet, row 7  y: '2'",)),
    Case(22, "in a test file", {"t.csv": rows(), "test.csv": rows(y={1: 3})}, {"test": "test.csv"}, "TASK-003",
         ("test.csv:3  y: '3'",)),
    Case(23, "some are missing", {"t.csv": rows(y={1: None, 4: None, 95: None})}, check=masked),
    Case(23, "some are NaN", {"t.parquet": rows(y={1: float("nan"), 4: None, 95: float("nan")})},
         {"labels": {"y": "number"}}, check=masked),
    Case(23, "a category", {"t.csv": rows(y={1: None, 4: None})}, {"labels": {"y": "category"}},
         check=masked_category),
    Case(23, "all are missing", {"t.csv": rows(y=NOBODY)}, code="TASK-004",
         said=("mine: label 'y' is missing in every row",)),
    Case(23, "several", {"t.parquet": rows(y=NOBODY, z={0: float("nan")}, c=NOBODY, d=["good", "bad"] * 50)},
         {"labels": {"y": "binary", "z": "number", "c": "category", "price": "number", "d": "category"}}, "TASK-004",
         ("label 'y' is missing in every row", "TASK-004 mine: label 'z' is", "TASK-004 mine: label 'c' is")),
    Case(23, "in all kept rows", {"t.csv": pl.concat([rows(y=NOBODY), rows(user="once")[:1]], how="vertical_relaxed")},
         {"k_core": 2}, "TASK-004", ("label 'y' is missing in every row",)),
    Case(23, "of a platform", {"a.csv": rows(), "b.csv": rows(user=NUMBERED["user"].cast(str), y=NOBODY)},
         {"name": "both"}, "TASK-004", ("both: label 'y' is",), several=True, streams=()),
    Case(23, "where nothing is asked of rows", {"t.csv": rows(y=NOBODY)}, streams=("baskets",),
         notes=("label 'y' is missing in every row",)),
    Case(23, "in one domain", {"t.csv": rows(shop=DOMAINS, z=[None, 1.0] * 50)},
         {"domain": "shop", "labels": {"y": "binary", "z": "number"}}, check=one_domain_without,
         streams=("app/rows", "web/rows"), notes=("app: label 'z' is missing in every row",)),
    Case(25, "all alike", {"t.csv": rows(y=[1] * ROWS)}, check=constant,
         notes=("label 'y' is 1 in every row: its metrics are undefined",)),
    Case(25, "a number", {"t.csv": rows(y=[3.5] * (ROWS - 1) + [None])}, {"labels": {"y": "number"}},
         notes=("label 'y' is 3.5 in every row",)),
    Case(26, "rows twice", {"t.csv": TWICE}, check=all_twice,
         notes=("3 rows repeat a user, item and time, 1 of them with another label; see dataset.duplicates",)),
    Case(26, "once by rule", {"t.csv": TWICE}, {"duplicates": "drop"}, check=once,
         refused={"repeats a user, item and time": 3}),
    Case(27, "weights", {"t.csv": rows(w=[1.0] * 97 + [0.0, -2.0, None])}, {"weight": "w"}, "DATA-034",
         ("t.csv:99  w: '0.0' is no weight", "t.csv:100  w: '-2.0'", "t.csv:101  w: ''")),
    Case(27, "in Parquet", {"t.parquet": rows(w=[1.0] * 98 + [float("inf"), None])}, {"weight": "w"}, "DATA-034",
         ("t.parquet, row 99  w: 'inf'", "t.parquet, row 100  w: an empty value is no weight")),
    Case(35, "in the future", {"t.parquet": rows(time=[TODAY + timedelta(days=number - 93) for number in range(ROWS)])},
         notes=("5.0% of the times are in the future: is time_unit right?",)),
    Case(35, "before 1990", {"t.csv": rows(time=[DAY * (7305 - 98 + number) for number in range(ROWS)])},
         notes=("98.0% of the times are before 1990: is time_unit right?",)),
    Case(35, "of one domain", {"t.csv": rows(shop=DOMAINS, time={99: START + 10**9})}, {"domain": "shop"},
         notes=("web: 2.0% of the times are in the future",), streams=()),
    Case(37, "ids", {"t.csv": rows(x=LISTS)}, {"features": {"x": {"kind": "ids", "length": 3}}}, check=first_kept,
         notes=("x: 1 rows have more than 3 values; the first are kept",)),
    Case(37, "history", {"t.csv": rows(x=LISTS)}, {"features": {"x": {"kind": "history", "length": 3}}},
         check=newest_kept, notes=("x: 1 rows have more than 3 values; the newest are kept",)),
    Case(37, "lists", {"t.parquet": rows(x=[[1] * (number % 25) for number in range(ROWS)])},
         {"features": {"x": "ids"}}, notes=("x: 16 rows have more than 20 values; the first are kept",)),
    Case(38, "odd ids", {"t.csv": rows(x=ODD)}, {"features": {"x": "id"}}, check=unknown,
         notes=("x: 2 ids are longer than 1,000 characters and count as missing",)),
    Case(38, "in lists", {"t.csv": rows(x={0: f"a|{ENDLESS}|{ENDLESS}", 90: f"{ENDLESS}|new"})},
         {"features": {"x": "ids"}}, check=unknown_in_lists,
         notes=("x: 3 ids are longer than 1,000 characters and count as missing",)),
    Case(38, "in lists of Parquet", {"t.parquet": rows(x={0: ["a", ENDLESS], 1: ["é" * 999], 90: ["new"]})},
         {"features": {"x": "ids"}}, notes=("x: 1 ids are longer than 1,000 characters and count as missing",)),
    Case(38, "a user", {"t.csv": rows(user={7: ENDLESS})}, {"features": {}}, check=no_such_user,
         notes=("user: 1 ids are longer than 1,000 characters and count as missing",),
         refused={"no user, item, time": 1}),
    Case(38, "a user that is a feature too", {"t.csv": rows(user={7: ENDLESS})}, {"features": {"user": "id"}},
         notes=("user: 1 ids are longer than 1,000 characters and count as missing",),
         refused={"no user, item, time": 1}),
    Case(38, "a category", {"t.csv": rows(y=["good", ENDLESS] * 50)}, {"labels": {"y": "category"}},
         notes=("y: 50 ids are longer than 1,000 characters and count as missing",)),
    Case(39, "new in the test", {"t.csv": rows(item=dict.fromkeys(range(90, 95), "late"),
                                               user=dict.fromkeys(range(95, 100), "late"))},
         check=cold, streams=("rows", "baskets"), refused={}),
    Case(39, "a user of the target alone",
         {"a.csv": rows(), "b.csv": rows(user=[f"u{number % 3}" if number % 2 else "new" for number in range(ROWS)])},
         check=new_in_the_target, several=True, streams=()),
    Case(40, "parts", {"a.csv": rows(), "b.csv": STRANGERS}, several=True, check=nothing_in_common,
         streams=("source/rows", "target/rows"),
         notes=("source and target have in common: nothing: only parameters are shared",)),
    Case(40, "domains of a column", {"t.csv": pl.concat([rows(shop="a"), STRANGERS.with_columns(shop=pl.lit("b"))])},
         {"domain": "shop"}, streams=("a/rows", "b/rows"),
         notes=("a and b have in common: nothing: only parameters are shared",)),
    Case(40, "numbers as text", {"a.csv": NUMBERED, "b.parquet": NUMBERED.with_columns(y=1 - pl.col("y"))},
         several=True, check=shared_ids, streams=("source/rows", "target/rows"),
         notes=("source and target have in common: 10 users, 12 items",)),
    Case(41, "one file twice", {"a.csv": rows(), "b.csv": rows()}, code="DATA-050", several=True,
         said=("'source' and 'target' have identical rows: source and target are the same data",)),
    Case(41, "as another format", {"a.parquet": rows(), "b.parquet": rows().with_columns(pl.col("price") + 0.0)},
         {"features": {"price": "number"}}, "DATA-050", ("'source' and 'target'",), several=True),
    Case(41, "with NaN", {"a.csv": rows(y={3: None}), "b.csv": rows(y={3: None})}, code="DATA-050", several=True),
    Case(41, "all but a label", {"a.csv": rows(), "b.csv": rows(y={3: 1 - 3 // 3 % 2})}, several=True,
         streams=("source/rows", "target/rows")),
    Case(42, "no validation row", {"t.csv": without(80, 89)},
         {"domain": "shop"}, "DATA-051", ("mine: the val split of stream 'app/rows' has no row",),
         streams=("web/rows", "app/rows")),
    Case(42, "no test row", {"t.csv": without(90, 99)},
         {"domain": "shop"}, "DATA-051", ("the test split of stream 'app/rows' has no row",),
         streams=("web/rows", "app/rows")),
    Case(42, "no training row", {"t.csv": without(0, 79)},
         {"domain": "shop"}, "DATA-051", ("the train split of stream 'app/rows' has no row",),
         streams=("web/rows", "app/rows")),
    Case(42, "when all is asked for", {"t.csv": without(90, 99)},
         {"domain": "shop"}, streams=(), notes=("the test split of streams 'app/baskets', ", "'app/rows' have no row")),
    Case(42, "an official split", {"t.csv": rows(part=["train"] * 50 + ["test"] * 50)}, {"split": "part"}, "DATA-051",
         ("mine: the train split of stream 'rows' has no row",), split=Official(val=0.999999)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"row{case.row:02}-{case.what}" for case in CASES])
def test_a_bad_table_is_named_or_told(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(case.frames, tmp_path)
    before = contents(tmp_path)
    protocol = CrossDomain(case.dataset(tmp_path), case.split, History(), Candidates(min_users=0, negatives=3))
    if case.code:
        with pytest.raises(DataError) as told:
            protocol.prepare(case.streams)
        assert told.value.code == case.code
        for part in case.said:
            assert part in str(told.value)
    else:
        protocol.prepare(case.streams)
        card = protocol.full_card
        json.dumps(card)
        for part in case.notes:
            assert any(part in note for note in card["notes"]), card["notes"]
        assert card["refused"] == case.refused or not case.refused
        if case.check is not None:
            case.check(protocol, card)
    assert contents(tmp_path) == before


# --- the same on the command line

CHECK = ["data", "check", "dataset=files", "protocol=cross_domain", "++candidates.min_users=0", "out=out"]
COLUMNS = [*(f"++dataset.{role}={role}" for role in KEYS), "++dataset.labels={y: binary}"]


@pytest.mark.parametrize(
    ("frame", "more", "code", "said"),
    [
        (rows(y={6: 2}), [], "TASK-003", "t.csv:8  y: '2'"),
        (rows(y=NOBODY), [], "TASK-004", "label 'y' is missing in every row"),
        (rows(w=[0.0] + [1.0] * 99), ["++dataset.weight=w"], "DATA-034", "t.csv:2  w: '0.0'"),
        (rows(time={5: "soon"}), [], "DATA-042", "t.csv:7  time: 'soon' is no time"),
        (rows(part=["train"] * 99 + ["later"]), ["++dataset.split=part"], "DATA-045", "t.csv:101  part: 'later'"),
        (rows()[:0], [], "DATA-010", "t.csv: 0 rows"),
    ],
    ids=lambda value: value if isinstance(value, str) and value[:4].isupper() else "",
)
def test_bad_data_ends_with_65_its_code_and_nothing_written(
    frame: pl.DataFrame, more: list[str], code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    frame.write_csv("t.csv")
    before = contents(tmp_path)
    assert main([*CHECK, "dataset.path=t.csv", *COLUMNS, *more]) == 65
    printed = capsys.readouterr().err
    assert code in printed
    assert said in printed
    assert "Traceback" not in printed
    assert contents(tmp_path) == before
    assert not Path("out").exists()


def test_the_same_file_twice_ends_with_65(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows().write_csv("t.csv")
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    part = "_target_: graftrec.data.datasets.files.Files, path: t.csv, user: user, item: item, time: time"
    (tmp_path / "conf" / "dataset" / "both.yaml").write_text(
        "_target_: graftrec.data.datasets.multi.Several\nparts:\n"
        f"  one: {{{part}, labels: {{y: binary}}}}\n  other: {{{part}, labels: {{y: binary}}}}\n"
    )
    before = contents(tmp_path)
    assert main(["data", "check", "--config-dir", "conf", "dataset=both", "protocol=cross_domain", "out=out"]) == 65
    assert "DATA-050 'one' and 'other' have identical rows" in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["++dataset.user=usr"], "has no column 'usr'; did you mean 'user'?"),
        (["++dataset.features={prize: number}"], "has no column 'prize'; did you mean 'price'?"),
        (["++dataset.features={price: nmber}"], "kind should be one of"),
        (["++dataset.features={price: {kind: number, bukets: 3}}"], "there is no 'bukets'; did you mean 'buckets'?"),
        (["++dataset.features={y: number}"], "'y' is a label as well"),
        (["++dataset.featurs={price: number}"], "did you mean 'features'?"),
        (["split=official"], "comes without a split"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_setting_ends_with_2_and_nothing_written(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows().write_csv("t.csv")
    before = contents(tmp_path)
    assert main([*CHECK, "dataset.path=t.csv", *COLUMNS, *words]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert "Traceback" not in printed
    assert contents(tmp_path) == before


def test_good_data_ends_with_0_and_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows().write_csv("t.csv")
    before = contents(tmp_path)
    assert main([*CHECK, "dataset.path=t.csv", *COLUMNS]) == 0
    printed = capsys.readouterr().out
    assert "10 users · 12 items · 100 rows · 2020-01-01 .. 2020-04-09" in printed
    assert sorted(path.name for path in Path("out").iterdir()) == ["card.json", "card.png"]
    card = json.loads(Path("out/card.json").read_text())
    assert (card["rows"], card["splits"]["rows"]) == (100, {"train": 80, "val": 10, "test": 10})
    png = Path("out/card.png").read_bytes()
    assert png.startswith(PNG)
    assert len(png) > 5000
    new = set(contents(tmp_path)) - set(before)
    assert {Path(name).name for name in new} == {"card.json", "card.png"}
    for path in Path("out").iterdir():
        path.unlink()
    assert main([*CHECK[:-1], "out=null", "dataset.path=t.csv", *COLUMNS]) == 0
    assert not list(Path("out").iterdir())
    Path("taken").write_text("a file")
    assert main([*CHECK[:-1], "out=taken", "dataset.path=t.csv", *COLUMNS]) == 2
    assert "taken cannot be used: File exists" in capsys.readouterr().err
