"""The ready-made datasets: what a missing file is told, and on the real files their published counts and no leaks."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from graftrec.config import instantiate
from graftrec.data.datasets.adult import Adult
from graftrec.data.datasets.amazon_pair import AmazonPair
from graftrec.data.datasets.anime import Anime
from graftrec.data.datasets.base import Dataset
from graftrec.data.datasets.books import Books
from graftrec.data.datasets.census import Census
from graftrec.data.datasets.citeulike import CiteULike, write_cmn_lists
from graftrec.data.datasets.folder import Folder
from graftrec.data.datasets.food_kitchen import FoodKitchen
from graftrec.data.datasets.kuairand import KuaiRand
from graftrec.data.datasets.movielens import MovieLens
from graftrec.data.datasets.movietweetings import MovieTweetings
from graftrec.data.datasets.multi import Several
from graftrec.data.datasets.online_retail import OnlineRetail
from graftrec.data.datasets.restaurants import Restaurants
from graftrec.data.datasets.sequences import Sequences
from graftrec.data.datasets.steam import Steam
from graftrec.data.protocols.base import Protocol
from graftrec.data.protocols.cold_start import ColdStart
from graftrec.data.protocols.cross_domain import CrossDomain
from graftrec.data.protocols.cross_platform import CrossPlatform
from graftrec.data.protocols.long_short_term import LongShortTerm
from graftrec.data.splits.base import Split
from graftrec.data.splits.leave_last_out import LeaveLastOut
from graftrec.data.splits.predefined import Official
from graftrec.data.splits.random_split import AtRandom
from graftrec.data.splits.temporal import ByTime
from graftrec.data.streams.sampling_config import Candidates, History
from graftrec.data.tables.interactions import Interactions
from graftrec.runs.overrides import problems_of_command
from graftrec.utils.errors import DataError, UserError

DATA = Path(os.environ.get("GRAFTREC_DATA") or Path(__file__).resolve().parents[5] / "shared" / "data")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="GRAFTREC_DATA names no folder with the real files")
FILM = {"title", "genres", "year"}


@dataclass(frozen=True)
class Case:
    """What is known of a dataset; ``parts``: name -> rows, users, items (0 where there are none)."""

    cls: type[Folder]
    folder: str
    parts: dict[str, tuple[int, int, int]]
    settings: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)  # label -> mean
    features: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)  # attributes of users and items
    split: tuple[int, int, int] | None = None  # unused, train, test
    protocol: Callable[..., Protocol] = CrossDomain
    divided: Callable[[], Any] = AtRandom
    unique: bool = True

    @property
    def root(self) -> str:
        return str(DATA / self.folder)


CASES = {
    "movielens": Case(
        MovieLens, "ml-100k", {"": (100_000, 943, 1682)}, rates={"rating": 3.52986, "like": 0.55375},
        known=FILM | {"age", "gender", "occupation"}, protocol=LongShortTerm, divided=ByTime,
    ),
    "movielens_metahin": Case(
        MovieLens, "ml-1m", {"": (1_000_209, 6040, 3706)},
        {"size": "1m", "official": "metahin", "extras": ["director", "plot"]},
        rates={"rating": 3.58156, "like": 0.57516}, known=FILM | {"age", "gender", "occupation", "director", "plot"},
        split=(12, 585_359, 65_039 + 153_740 + 153_696 + 42_363), divided=Official,
    ),
    "movielens_fold5": Case(
        MovieLens, "ml-1m", {"": (1_000_209, 6040, 3706)}, {"size": "1m", "official": "fold5"},
        known=FILM | {"age", "gender", "occupation"}, split=(0, 800_167, 200_042), protocol=ColdStart,
    ),
    "kuairand": Case(
        KuaiRand, "kuairand-27k-explicit", {"": (41_828, 664, 9359)},
        rates={"is_click": 0.657, "is_follow": 0.007, "is_comment": 0.030, "is_forward": 0.008, "long_view": 0.462,
               "is_profile_enter": 0.053, "like": 0.807},
        features={"hour", "weekday", "log_duration"}, protocol=LongShortTerm, divided=ByTime, unique=False,
    ),
    "adult": Case(
        Adult, "uci-adult", {"": (48_842, 0, 0)}, rates={"income": 0.2393, "never_married": 0.33},
        features={"age", "workclass", "fnlwgt", "education", "education_num", "occupation", "relationship", "race",
                  "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country"},
        split=(0, 32_561, 16_281), divided=Official, unique=False,
    ),
    "census": Case(
        Census, "census-income-kdd", {"": (99_762, 0, 0)}, rates={"income": 0.062, "never_married": 0.432},
        features={"age", "class_worker", "det_ind_code", "det_occ_code", "education", "wage_per_hour", "hs_college",
                  "major_ind_code", "major_occ_code", "race", "hisp_origin", "sex", "union_member", "unemp_reason",
                  "full_or_part_emp", "capital_gains", "capital_losses", "stock_dividends", "tax_filer_stat",
                  "region_prev_res", "state_prev_res", "det_hh_fam_stat", "det_hh_summ", "mig_chg_msa", "mig_chg_reg",
                  "mig_move_reg", "mig_same", "mig_prev_sunbelt", "num_emp", "fam_under_18", "country_father",
                  "country_mother", "country_self", "citizenship", "own_or_self", "vet_question", "vet_benefits",
                  "weeks_worked", "year"},
        unique=False,
    ),
    "amazon_pair": Case(
        AmazonPair, "amazon-disencdr", {"cloth": (95_369, 9928, 39_008), "sport": (100_938, 9928, 30_796)},
        divided=Official,
    ),
    "food_kitchen": Case(
        FoodKitchen, "amazon-food-kitchen", {"": (173_548, 7144, 28_095)}, known={"title"},
        divided=lambda: LeaveLastOut(across=True),
    ),
    "sequences_lastfm": Case(
        Sequences, "s3rec-sequences", {"": (52_551, 1090, 3646)}, known={"attributes"},
        protocol=LongShortTerm, divided=LeaveLastOut,
    ),
    "sequences_beauty": Case(
        Sequences, "s3rec-sequences", {"": (198_502, 22_363, 12_101)}, {"name": "Beauty"}, known={"attributes"},
        protocol=LongShortTerm, divided=LeaveLastOut,
    ),
    "sequences_sports": Case(
        Sequences, "s3rec-sequences", {"": (296_337, 35_598, 18_357)}, {"name": "Sports_and_Outdoors"},
        known={"attributes"}, divided=LeaveLastOut,
    ),
    "sequences_toys": Case(
        Sequences, "s3rec-sequences", {"": (167_597, 19_412, 11_924)}, {"name": "Toys_and_Games"},
        known={"attributes"}, divided=LeaveLastOut,
    ),
    "sequences_yelp": Case(
        Sequences, "s3rec-sequences", {"": (316_354, 30_431, 20_033)}, {"name": "Yelp"}, known={"attributes"},
        divided=LeaveLastOut, unique=False,
    ),
    "citeulike": Case(
        CiteULike, "citeulike-a", {"": (204_986, 5551, 16_980)}, known={"tags"}, split=(0, 199_435, 5551),
        divided=Official,
    ),
    "citeulike_p1": Case(
        CiteULike, "citeulike-a", {"": (204_986, 5551, 16_980)}, {"split_of": "cvae_p1"}, known={"tags"},
        split=(0, 5551, 199_435), divided=Official,
    ),
    "citeulike_p10": Case(
        CiteULike, "citeulike-a", {"": (204_986, 5551, 16_980)}, {"split_of": "cvae_p10"}, known={"tags"},
        split=(0, 55_510, 149_476), divided=Official,
    ),
    "steam": Case(
        Steam, "steam-200k", {"": (129_511 - 707, 12_393, 5155)}, rates={"played": 0.547}, known={"title"},
    ),
    "anime": Case(
        Anime, "anime-5k", {"": (520_609, 5000, 7390)}, rates={"rated": 0.807, "score": 7.7955},
        known={"title", "genres", "type", "episodes"}, protocol=ColdStart,
    ),
    "books": Case(
        Books, "books-cross-platform", {"bookcrossing": (272_678, 2946, 17_384), "goodbooks": (298_176, 2672, 9990)},
        rates={"rating": 3.9046, "like": 0.6832}, known={"title", "authors", "year", "language"},
        protocol=lambda *given: CrossPlatform(*given, shared=["title", "authors", "year"]),
    ),
    "movietweetings": Case(
        MovieTweetings, "movietweetings-100k", {"": (100_000, 16_554, 10_506)}, rates={"like": 0.50542},
        known=FILM, protocol=LongShortTerm, divided=ByTime,
    ),
    "online_retail": Case(
        OnlineRetail, "online-retail", {"": (386_354, 4335, 3659)}, known={"country", "title"},
        protocol=LongShortTerm, divided=ByTime, unique=False,
    ),
    "restaurants": Case(
        Restaurants, "restaurant-consumer", {"": (1161, 138, 130)},
        rates={"rating": 1.1998, "food_rating": 1.2153, "service_rating": 1.0904},
        known={"title", "cuisines", "latitude", "longitude", "city", "alcohol", "smoking_area", "dress_code",
               "accessibility", "price", "ambience", "franchise", "area", "other_services"},
    ),
}  # fmt: skip
CLASSES = list(dict.fromkeys(case.cls for case in CASES.values()))
LEAKING = {
    "play_time_ms", "comment_stay_time", "is_click", "members", "ratings_count", "income", "income_50k", "marital_stat",
    "marital_status", "never_married", "instance_weight", "rating", "like", "hours", "played", "score", "rated",
    "like_vs_hate", "Quantity",
}  # fmt: skip
every_case = pytest.mark.parametrize("name", CASES)


@dataclass
class Given(Dataset):
    """Tables that were read before."""

    tables: dict[str, Interactions]

    def read(self) -> Interactions:
        return next(iter(self.tables.values()))

    def parts(self) -> dict[str, Interactions]:
        return self.tables


@cache
def parts_of(name: str) -> dict[str, Interactions]:
    case = CASES[name]
    return case.cls(case.root, **case.settings).parts()


def target(name: str) -> Interactions:
    """The last part: the one of a pair that is learnt."""
    return list(parts_of(name).values())[-1]


def prepared(tables: dict[str, Interactions], protocol: Callable[..., Protocol], split: Any, **more: Any) -> Protocol:
    made = protocol(Given(tables), split, History(), Candidates(min_users=0, **more))
    made.prepare([])
    return made


# --- a missing file, a wrong value


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_an_empty_folder_is_told_what_is_missing_and_where_it_comes_from(cls: type[Folder], tmp_path: Path) -> None:
    with pytest.raises(DataError) as told:
        cls(str(tmp_path / "none")).parts()
    assert told.value.code == "DATA-011"
    assert str(tmp_path / "none") in str(told.value)
    assert ".parquet: there is no such file" in str(told.value)
    assert cls.origin in str(told.value)
    assert cls.origin
    assert cls.__doc__


@pytest.mark.parametrize(
    ("dataset", "name"),
    [(MovieLens("x"), "movielens"), (MovieLens("x", "1m"), "movielens_1m"), (Adult("x"), "adult")],
)
def test_what_can_be_fetched_is_told_so(dataset: Folder, name: str) -> None:
    from graftrec.cli.data_get import OFFERS

    assert name in OFFERS
    with pytest.raises(DataError, match=f"graftrec data get {name} --root x"):
        dataset.read()


@pytest.mark.parametrize(
    ("cls", "settings", "told"),
    [
        (MovieLens, {"size": "10m"}, "size should be"),
        (MovieLens, {"size": "1m", "official": "own"}, "official one of"),
        (MovieLens, {"size": "1m", "extras": ["poster"]}, "extras of"),
        (MovieLens, {"official": "fold5"}, "are of size=1m"),
        (KuaiRand, {"event": "is_follow"}, "event should be"),
        (AmazonPair, {"source": "cloth", "target": "phone"}, "source and target should be"),
        (Sequences, {"name": "Books"}, "name should be"),
        (CiteULike, {"split_of": "own"}, "split_of should be"),
        (Anime, {"domain": "genre"}, "domain should be"),
        (OnlineRetail, {"years": "2012"}, "years should be"),
    ],
)
def test_a_wrong_value_is_refused(cls: type[Folder], settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        cls("x", **settings)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    pl.DataFrame({"user_id": [1], "imdb_id": [2], "rating": [3]}).write_parquet(tmp_path / "ratings.parquet")
    with pytest.raises(UserError, match="no column 'timestamp'"):
        MovieTweetings(str(tmp_path)).read()


# --- small files


def test_movielens_1m_from_the_original_has_times(tmp_path: Path) -> None:
    ratings = {"user_id": [1, 1, 2], "movie_id": [7, 8, 7], "rating": [5, 3, 4], "timestamp": [86_400, 0, 43_200]}
    pl.DataFrame(ratings).write_parquet(tmp_path / "ratings.parquet")
    pl.DataFrame(
        {"movie_id": [7, 8], "title": ["Heat (1995)", "Alien"], "genres": ["Crime|Drama", "Sci-Fi"]}
    ).write_parquet(tmp_path / "movies.parquet")
    pl.DataFrame({"user_id": [1, 2], "gender": ["F", "M"], "age": [1, 56], "occupation": ["10", "1"]}).write_parquet(
        tmp_path / "users.parquet"
    )
    data = MovieLens(str(tmp_path), "1m").read()
    assert data.time is not None
    assert data.time.tolist() == [1.0, 0.0, 0.5]
    assert data.event is not None
    assert data.event.tolist() == [1, 0, 1]
    assert data.items is not None
    assert data.items.frame.rows() == [(7, "Heat (1995)", "Crime|Drama", 1995.0), (8, "Alien", "Sci-Fi", None)]
    assert MovieLens(str(tmp_path), "1m", positive=3).read().answers[:, 1].tolist() == [1, 1, 1]


def test_online_retail_is_cleaned(tmp_path: Path) -> None:
    at = [datetime(2010, 12, 1, 9, minute) for minute in range(9)]
    lines = pl.DataFrame(
        {
            "InvoiceNo": ["1", "1", "1", "C2", "3", "4", "5", "1", "6"],
            "StockCode": ["10001", "10002A", "10001", "10001", "10001", "10001", "POST", "POST", "10001"],
            "Description": ["MUG ", "LAMP", "MUG ", "MUG ", "broken", "MUG ", "POSTAGE", "POSTAGE", None],
            "Quantity": [1, 2, 1, -1, -5, 1, 1, 1, 4],
            "InvoiceDate": at,
            "CustomerID": [11, 11, 11, 11, 11, None, 12, 11, 12],
            "Country": ["France"] * 6 + ["EIRE", "France", "EIRE"],
        }
    )
    for name in ("year2009_2010", "year2010_2011"):
        lines.write_parquet(tmp_path / f"{name}.parquet")
    data = OnlineRetail(str(tmp_path), domain="country").read()
    assert data.refused == {
        "cancelled or returned": 2, "no customer": 1, "no product": 2, "line repeats an item of its invoice": 1
    }  # fmt: skip
    assert [data.keys[role].keys.gather(data.keys[role].codes).to_list() for role in ("user", "item", "domain")] == [
        [11, 11, 12], ["10001", "10002A", "10001"], ["France", "France", "EIRE"]
    ]  # fmt: skip
    assert data.time is not None
    assert data.time[0] == data.time[1] < data.time[2]
    assert data.items is not None
    assert dict(data.items.frame.rows()) == {"10001": "MUG", "10002A": "LAMP"}
    both = OnlineRetail(str(tmp_path), "both").read()
    assert both.refused["in both files"] == len(lines)
    assert both.size == data.size
    lines.with_columns(Quantity=0).write_parquet(tmp_path / "year2010_2011.parquet")
    with pytest.raises(DataError, match="no purchase is left"):
        OnlineRetail(str(tmp_path)).read()


# --- the real files


@needs_data
@every_case
def test_counts_are_the_published_ones(name: str) -> None:
    parts = parts_of(name)
    assert list(parts) == list(CASES[name].parts)
    for part, (rows, users, items) in CASES[name].parts.items():
        data = parts[part]
        assert data.size == rows
        assert [len(data.keys[kind].keys) if data.has(kind) else 0 for kind in ("user", "item")] == [users, items]
        assert data.unique == CASES[name].unique
        assert all(count > 0 for count in data.refused.values())
        if data.time is not None and data.clock:
            assert 365 * 25 < data.time.min() <= data.time.max() < 365 * 60


@needs_data
@every_case
def test_a_pair_is_in_one_row_only_where_it_says_so(name: str) -> None:
    for data in parts_of(name).values():
        if data.has("user", "item"):
            pairs = data.keys["user"].codes.astype(np.int64) * len(data.keys["item"].keys) + data.keys["item"].codes
            assert (len(np.unique(pairs)) == data.size) == data.unique


@needs_data
@every_case
def test_label_rates_are_the_published_ones(name: str) -> None:
    data, case = target(name), CASES[name]
    assert set(case.rates) <= set(data.labels)
    for label, rate in case.rates.items():
        mean = np.nanmean(data.answers[:, data.asked.index(label)], dtype=np.float64)
        assert mean == pytest.approx(rate, abs=6e-4)


@needs_data
@every_case
def test_features_are_those_that_are_known_before(name: str) -> None:
    data, case = target(name), CASES[name]
    assert set(data.columns) == case.features
    known = {n for given in (data.users, data.items) if given is not None for n in given.columns}
    assert known == case.known
    assert not (set(data.columns) | known) & (set(data.labels) | LEAKING)
    for given in (data.users, data.items):
        assert given is None or set(given.frame.columns) == {"key", *given.columns}


@needs_data
@every_case
def test_the_official_split_is_the_published_one(name: str) -> None:
    split, case = target(name).split, CASES[name]
    if case.split is None:
        assert split is None or name == "amazon_pair"
    else:
        assert split is not None
        assert tuple(int((split == part).sum()) for part in (-1, 0, 2)) == case.split


@needs_data
@every_case
def test_a_protocol_prepares_it_and_its_batches_are_finite(name: str) -> None:
    case = CASES[name]
    protocol = prepared(parts_of(name), case.protocol, case.divided())
    assert protocol.streams
    kinds = {stream.partition("/")[2] or stream for stream in protocol.streams}
    ranked = {"baskets", "pairs"} | ({"sequences"} if target(name).has("time") else set())
    assert kinds == (ranked if case.parts and target(name).has("user", "item") else set()) | (
        {"rows"} if target(name).labels else set()
    )
    for stream in protocol.streams.values():
        if stream.schema.name.endswith("pairs"):  # a sparse one may have none
            continue
        assert all(rows > 0 for rows in stream.splits.values())
        batch = stream.batch(torch.arange(min(stream.rows, 256)), torch.Generator().manual_seed(0))
        labels = {label.name for label in stream.schema.labels}
        assert labels <= set(batch)
        for column, values in batch.items():
            assert column in labels or values.isfinite().all(), column
        assert {feature.name for feature in stream.schema.features} <= set(batch)


EACH = [next(name for name, case in CASES.items() if case.cls is cls) for cls in CLASSES]
SPLITS = (AtRandom, ByTime, LeaveLastOut, Official)
GRID = [(p, split) for p in (ColdStart, CrossDomain, CrossPlatform, LongShortTerm) for split in SPLITS]


def allowed(name: str, protocol: type[Protocol], split: type[Split]) -> bool:
    """Whether the columns of a dataset are those that both need."""
    data = target(name)
    users, parts = data.has("user", "item"), len(parts_of(name)) > 1 or data.has("domain")
    time = data.time is not None
    return (
        (protocol is not CrossPlatform or parts)
        and (protocol is not LongShortTerm or (users and time))
        and (protocol is not ColdStart or users)
        and (split is not ByTime or (time and data.clock))
        and (split is not LeaveLastOut or (users and time))
        and (split is not Official or data.split is not None)
    )


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "split"), GRID, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("name", EACH)
def test_every_protocol_and_split_prepares_it_or_names_what_it_lacks(
    name: str, protocol: type[Protocol], split: type[Split]
) -> None:
    if not allowed(name, protocol, split):
        with pytest.raises(UserError, match=r"(protocol|split)=\w+"):
            prepared(parts_of(name), protocol, split())
        return
    made = prepared(parts_of(name), protocol, split())
    assert made.streams
    for stream in made.streams.values():
        if not stream.rows:
            assert stream.schema.name.endswith("pairs")
            continue
        batch = stream.batch(torch.arange(min(stream.rows, 64)), torch.Generator().manual_seed(0))
        labels = {label.name for label in stream.schema.labels}
        assert all(values.isfinite().all() for column, values in batch.items() if column not in labels)
        for feature in stream.schema.features:
            if feature.table:
                ids = batch[feature.name]
                assert 0 <= int(ids.min()) <= int(ids.max()) < made.tables[feature.table].entities, feature.name


@needs_data
def test_the_test_part_of_a_pair_and_its_items_are_the_authors() -> None:
    tables = parts_of("amazon_pair")
    for part, tested, dropped in (("cloth", 7540, 2388), ("sport", 8326, 1602)):
        split = tables[part].split
        assert split is not None
        assert int((split == 2).sum()) == tested
        assert tables[part].refused == {"test item that is in no training row": dropped}
    cold = AmazonPair(str(DATA / "amazon-disencdr"), cold_test=True).parts()["cloth"]
    assert cold.split is not None
    assert int((cold.split == 2).sum()) == 9928
    assert not set(tables["cloth"].keys["item"].keys) & set(tables["sport"].keys["item"].keys)
    assert tables["cloth"].keys["user"].keys.equals(tables["sport"].keys["user"].keys)


@needs_data
def test_sequences_are_in_the_order_of_their_file() -> None:
    data = parts_of("sequences_lastfm")[""]
    first = pl.read_parquet(DATA / "s3rec-sequences" / "LastFM.parquet")["items"][0].to_list()
    assert not data.clock
    assert data.time is not None
    assert data.time[: len(first) + 1].tolist() == [*range(len(first)), 0]
    assert data.keys["item"].keys.gather(data.keys["item"].codes[: len(first)]).to_list() == first


@needs_data
def test_the_lists_of_cmn_are_what_is_ranked(tmp_path: Path) -> None:
    lists = write_cmn_lists(str(DATA / "citeulike-a"), str(tmp_path / "made" / "lists.parquet"))
    protocol = prepared(parts_of("citeulike"), CrossDomain, Official(), lists=lists)
    stream: Any = protocol.streams["baskets"]
    answers = stream.answers(stream.users("test")[:50], "test")
    assert answers["listed"].sum(1).tolist() == [101] * 50
    assert (answers["listed"] & answers["relevant"]).sum(1).tolist() == [1] * 50


@needs_data
def test_types_of_anime_are_domains_of_the_same_users() -> None:
    data = Anime(str(DATA / "anime-5k"), "type").read()
    ids = data.keys["domain"]
    assert dict(zip(ids.keys, np.bincount(ids.codes).tolist(), strict=True)) == {
        "TV": 352_397, "Movie": 69_996, "OVA": 53_197, "Special": 37_285, "ONA": 6055, "Music": 1679
    }  # fmt: skip


@needs_data
def test_what_was_not_rated_or_played_has_no_second_label() -> None:
    for name, first, second in (("anime", "rated", "score"), ("steam", "played", "log_hours")):
        data = parts_of(name)[""]
        answers = dict(zip(data.asked, data.answers.T, strict=True))
        assert (np.isnan(answers[second]) == (answers[first] == 0)).all()
    books = parts_of("books")["bookcrossing"]
    answers = dict(zip(books.asked, books.answers.T, strict=True))
    assert int(answers["rated"].sum()) == 62_656
    assert (np.isnan(answers["like"]) == (answers["rated"] == 0)).all()
    assert (parts_of("anime")[""].answers[:, 1] >= 8).sum() / answers_there("anime") == pytest.approx(0.606, abs=6e-4)


def answers_there(name: str) -> int:
    return int((~np.isnan(parts_of(name)[""].answers[:, 1])).sum())


@needs_data
def test_weights_of_the_census_are_used_on_demand() -> None:
    assert parts_of("census")[""].weight is None
    weight = Census(str(DATA / "census-income-kdd"), weight=True).read().weight
    assert weight is not None
    assert (weight > 0).all()


@needs_data
def test_a_row_that_nobody_liked_is_in_no_history() -> None:
    for name in ("movielens", "kuairand", "movietweetings"):
        data = parts_of(name)[""]
        assert data.event is not None
        assert (data.event == data.answers[:, data.asked.index("like")]).all()
    assert KuaiRand(str(DATA / "kuairand-27k-explicit"), event="").read().event is None


# --- the settings

YAMLS = sorted(
    path.stem
    for path in (instantiate.conf_dir() / "dataset").glob("*.yaml")
    if "root: ???" in path.read_text()
)  # fmt: skip


@pytest.mark.parametrize("name", YAMLS)
def test_every_yaml_needs_its_root_and_composes_with_it(name: str) -> None:
    assert problems_of_command("train", [f"dataset={name}", "dataset.root=somewhere"], []) == []
    with_none = problems_of_command("train", [f"dataset={name}"], [])
    assert len(with_none) == 1
    assert "dataset.root" in with_none[0]


def test_every_class_has_a_yaml() -> None:
    targets = {(instantiate.conf_dir() / "dataset" / f"{name}.yaml").read_text().split()[1] for name in YAMLS}
    assert {f"{cls.__module__}.{cls.__qualname__}" for cls in CLASSES} == targets


def test_two_platforms_compose_and_each_has_its_root(compose: Callable[[list[str]], dict[str, Any]]) -> None:
    roots = {"movielens": "here", "movietweetings": "there"}
    settings = [f"dataset.parts.{part}.root={root}" for part, root in roots.items()]
    tree = compose(["dataset=movielens_movietweetings", *settings, "++dataset.parts.movielens.positive=3"])
    made = instantiate.build(tree["dataset"])
    assert isinstance(made, Several)
    assert {part: dataset.root for part, dataset in made._parts.items() if isinstance(dataset, Folder)} == roots
    assert made._parts["movielens"].positive == 3  # type: ignore[attr-defined]


@needs_data
def test_two_platforms_share_genres_and_words() -> None:
    tables = {"movielens": parts_of("movielens")[""], "movietweetings": parts_of("movietweetings")[""]}
    protocol = prepared(
        tables, lambda *given: CrossPlatform(*given, shared=["title", "genres", "year"]), LeaveLastOut()
    )
    for name in ("item_title", "item_genres"):
        assert name in protocol.tables["movielens/item"].content
        assert name in protocol.tables["movietweetings/item"].content
