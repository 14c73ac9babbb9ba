"""Every file whose ids are joined with those of the data: matches are counted, and none of them is an error."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import graftrec
from graftrec.data.datasets.files import Files
from graftrec.data.datasets.multi import Several
from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.protocols.cross_platform import CrossPlatform
from graftrec.data.splits.predefined import Official
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.tables.id_matching import joined
from graftrec.utils.errors import DataError, UserError

USERS, ITEMS = [f"{n:03}" for n in range(12)], [f"{n:03}" for n in range(50, 60)]
Ids = tuple[list[Any], list[Any]]


def rows(folder: Path, name: str = "rows.csv", ids: Ids = (USERS, ITEMS)) -> Path:
    """Each user with every item but some, one after the other."""
    users, items = ids
    pairs = [(user, item) for n, item in enumerate(items) for m, user in enumerate(users) if (n + m) % 3]
    frame = pl.DataFrame(pairs, schema=["user", "item"], orient="row").with_row_index("time")
    frame.with_columns(pl.col("time") * 3600 + 1_600_000_000, like=pl.col("time") % 2).write_csv(folder / name)
    return folder / name


def files(folder: Path, **more: Any) -> Files:
    return Files(
        str(rows(folder)), user="user", item="item", time="time", labels={"like": "binary"}, cache="off", **more
    )


def two(folder: Path) -> Several:
    other = rows(folder, "other.csv", ([f"x{user}" for user in USERS], [f"x{item}" for item in ITEMS]))
    roles = {"user": "user", "item": "item", "time": "time", "cache": "off"}
    return Several({"one": files(folder), "two": Files(str(other), **roles)})  # type: ignore[arg-type]


def prepared(protocol: Protocol) -> Protocol:
    protocol.prepare([])
    return protocol


def candidates(folder: Path, ids: Ids, **more: Any) -> Protocol:
    users, items = ids
    frame = pl.DataFrame({"user": users}).join(pl.DataFrame({"item": items}), how="cross")
    frame.write_csv(folder / "second.csv")
    chosen = Candidates(min_users=0, **more)
    return prepared(CrossDomain(files(folder), candidates=chosen, history=History(short=3)))


def lists(folder: Path, ids: Ids) -> Protocol:
    return candidates(folder, ids, lists=str(folder / "second.csv"))


def hard(folder: Path, ids: Ids) -> Protocol:
    return candidates(folder, ids, hard=str(folder / "second.csv"), drawn="file")


def linked(kind: str, protocol: type[CrossDomain] | type[CrossPlatform]) -> Callable[[Path, Ids], Protocol]:
    def made(folder: Path, ids: Ids) -> Protocol:
        own = ids[kind == "item"]
        theirs = [f"x{each}" for each in (USERS, ITEMS)[kind == "item"]][: len(own)]
        pl.DataFrame({"own": own[: len(theirs)], "other": theirs}).write_csv(folder / "second.csv")
        return prepared(protocol(two(folder), links={"one": {kind: str(folder / "second.csv")}}))

    return made


def attributes(kind: str) -> Callable[[Path, Ids], Protocol]:
    def made(folder: Path, ids: Ids) -> Protocol:
        own = ids[kind == "item"]
        pl.DataFrame({kind: own, "group": ["a", "b"] * (len(own) // 2)}).write_csv(folder / "second.csv")
        return prepared(CrossDomain(files(folder, **{f"{kind}s": str(folder / "second.csv")})))

    return made


def domain(folder: Path, ids: Ids) -> Protocol:
    pl.DataFrame({"item": ids[1], "group": ["a", "b"] * (len(ids[1]) // 2)}).write_csv(folder / "second.csv")
    return prepared(CrossDomain(files(folder, items=str(folder / "second.csv"), domain="group")))


def official(folder: Path, ids: Ids) -> Protocol:
    test = rows(folder, "second.csv", ids)
    return prepared(CrossDomain(files(folder, test=str(test)), split=Official()))


SETTINGS: dict[str, Callable[[Path, Ids], Protocol]] = {
    "candidates.lists": lists,
    "candidates.hard": hard,
    "protocol.links.one.user": linked("user", CrossDomain),
    "protocol.links.one.item": linked("item", CrossPlatform),
    "dataset.users": attributes("user"),
    "dataset.items": attributes("item"),
    "dataset.domain": domain,
    "split=official": official,
}
WAYS: dict[str, Callable[[str], str]] = {
    "floats": lambda one: f"{int(one)}.0",
    "leading zeros": lambda one: str(int(one)),
    "blanks": lambda one: f" {one}",
    "a prefix": lambda one: f"id{one}",
    "for example": lambda one: "abcdefghijkl"[int(one) % 12] + "q",
}
READ_FIRST = {"data/datasets/files.py", "data/datasets/folder.py", "cli/data_init.py", "cli/data_copy.py"}


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_match_is_an_error_with_an_example_of_both_sides(setting: str, tmp_path: Path) -> None:
    for why, way in WAYS.items():
        if setting == "split=official" and why == "for example":  # new users and new items
            continue
        (tmp_path / why).mkdir()
        ids = [way(user) for user in USERS], [way(item) for item in ITEMS]
        kind = "item" if setting in ("dataset.items", "dataset.domain", "protocol.links.one.item") else "user"
        theirs, ours = (ids[0][0], "000") if kind == "user" else (ids[1][0], "050")
        with pytest.raises(DataError) as caught:
            SETTINGS[setting](tmp_path / why, ids)
        said = str(caught.value)
        assert said.startswith(f"DATA-047 {setting}: 0 of "), said
        assert why in said or why == "floats", said
        assert (f"'{theirs}'" in said and f"'{ours}'" in said) or why == "for example", said


def test_an_official_test_may_be_of_new_users_and_new_items(tmp_path: Path) -> None:
    """Attributes tell what they are; ids such as ``a1`` and ``b1`` that end alike by chance are no mistake."""
    for name, users, items in (
        ("names", [f"{user}q" for user in "abcdefghijkl"], [f"{item}r" for item in "abcdefghij"]),
        ("digits", [f"id{user}" for user in USERS], [f"{100 + n}" for n in range(len(ITEMS))]),
        ("few", [f"new{n}" for n in range(2, 14)], [f"new{n}" for n in range(59, 69)]),
    ):
        (tmp_path / name).mkdir()
        made = official(tmp_path / name, (users, items))
        for said in ("0 of 12 users", "0 of 10 items"):
            noted = f"split=official: {said} of the test are in training ("
            assert any(note.startswith(noted) for note in made.card["notes"]), made.card["notes"]


def test_the_example_of_strangers_is_the_same_in_any_order() -> None:
    strangers, known = pl.Series(["c", "B", "A", "d"]), pl.Series(["x", "b", "y", "a"])
    found = joined("setting", "ids", strangers, known)
    assert found.why.startswith(" ('A' and 'a': ")
    assert found.alike == 2
    assert joined("setting", "ids", strangers[::-1], known[::-1]) == found
    assert joined("setting", "ids", pl.Series([20, 3]), pl.Series([7, 100])).why == " ('20' and '100', for example)"


@pytest.mark.parametrize("setting", SETTINGS)
def test_matches_are_counted_on_the_card(setting: str, tmp_path: Path) -> None:
    for part, few in ((12, False), (4, True)):
        (tmp_path / str(part)).mkdir()
        strangers = [f"new{n}" for n in range(12 - part)]
        ids = USERS[:part] + strangers, ITEMS[:part] + strangers[: max(0, 10 - part)]
        made = SETTINGS[setting](tmp_path / str(part), ids)
        card = made.card
        if setting not in ("split=official", "dataset.domain"):
            assert any(line.startswith(f"{setting}: ") for line in card["joined"]), card["joined"]
        told = [
            note for note in card["notes"] if note.startswith(setting) and " of " in note and "given items" not in note
        ]
        if setting != "dataset.domain":  # rows without a domain are refused, and counted there
            assert bool(told) == few, card["notes"]
        else:
            assert any("domain" in why for why in card["refused"]) == few


@pytest.mark.parametrize("kind", ["user", "item"])
def test_keys_that_stand_there_twice_are_counted(kind: str, tmp_path: Path) -> None:
    twice = USERS + USERS[:4], ITEMS + ITEMS[:4]
    attributed = attributes(kind)(tmp_path, twice)
    assert any(
        note.startswith(f"dataset.{kind}s: 4 rows of") and "repeat an earlier key" in note
        for note in attributed.card["notes"]
    )
    listed = lists(tmp_path, (USERS, ITEMS + ITEMS[:1]))
    assert "candidates.lists: 12 rows repeat an earlier key and do not count" in listed.card["notes"]
    frame = pl.DataFrame({"own": twice[0], "other": [f"x{user}" for user in USERS] + ["x0"] * 4})
    frame.write_csv(tmp_path / "second.csv")
    links = prepared(CrossDomain(two(tmp_path), links={"one": {"user": str(tmp_path / "second.csv")}}))
    assert "protocol.links.one.user: 4 rows repeat an earlier key and do not count" in links.card["notes"]


def test_links_to_ids_that_no_other_domain_has(tmp_path: Path) -> None:
    pl.DataFrame({"own": USERS, "other": [f"y{user}" for user in USERS]}).write_csv(tmp_path / "second.csv")
    with pytest.raises(DataError, match=r"DATA-047 protocol\.links\.one\.user: 0 of 12 .*are in another domain"):
        prepared(CrossDomain(two(tmp_path), links={"one": {"user": str(tmp_path / "second.csv")}}))
    pl.DataFrame({"own": USERS}).write_csv(tmp_path / "second.csv")
    with pytest.raises(UserError, match=r"protocol\.links\.one\.user: .*has one column, two are needed"):
        prepared(CrossDomain(two(tmp_path), links={"one": {"user": str(tmp_path / "second.csv")}}))


def test_an_answer_without_other_candidates_counts_in_no_metric(tmp_path: Path) -> None:
    made = lists(tmp_path, (USERS[:6], ITEMS))
    stream = made.streams["baskets"]
    batches = [batch for batch in stream.evaluation("test") if "relevant" in batch]
    counted = sum(int(batch["relevant"].any(1).sum()) for batch in batches)
    users = sum(len(batch["relevant"]) for batch in batches)
    assert 0 < counted < users
    told = f"candidates.lists: {users - counted} of {users} users of the test split of stream 'baskets' have no other"
    assert any(note.startswith(told) for note in made.card["notes"]), made.card["notes"]
    given = len(stream.lines.listed["test"][0])  # type: ignore[attr-defined]
    told = f"candidates.lists: {given} given items, not the whole catalogue, are ranked for {users} users of the test"
    assert any(note.startswith(told) for note in made.card["notes"]), made.card["notes"]


def test_lists_of_nothing_but_answers_are_an_error(tmp_path: Path) -> None:
    frame = pl.read_csv(rows(tmp_path), infer_schema=False).with_row_index("at")
    split = pl.when(pl.col("at") < 50).then(pl.lit("train")).when(pl.col("at") < 65).then(pl.lit("val"))
    frame = frame.with_columns(split=split.otherwise(pl.lit("test")))
    frame.filter(pl.col("at") >= 50).select("user", "item", "split").write_csv(tmp_path / "second.csv")
    frame.write_csv(tmp_path / "split.csv")
    roles = {"user": "user", "item": "item", "time": "time", "split": "split", "cache": "off"}
    data = Files(str(tmp_path / "split.csv"), **roles)  # type: ignore[arg-type]
    chosen = Candidates(min_users=0, lists=str(tmp_path / "second.csv"))
    with pytest.raises(DataError, match=r"DATA-047 candidates\.lists: no user of val and test has a candidate"):
        prepared(CrossDomain(data, candidates=chosen, split=Official()))


def test_every_module_that_reads_a_second_file_counts_its_ids() -> None:
    """Whoever reads a file beside the first one of a dataset and joins its ids goes through `tables.id_matching`."""
    root = Path(graftrec.__file__).parent
    reads = set()
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text())
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        if calls & {"table_reader.read", "table_reader.batches"}:
            reads.add(str(path.relative_to(root)))
    counted = {"data/streams/candidate_lists.py", "data/datasets/files_attributes.py", "data/protocols/cross_domain.py"}
    assert reads - READ_FIRST == counted
