"""Public datasets from the files that their authors publish to the Parquet files that are read here.

Values stay as they are published: a missing one that is written as ``?`` stays ``?``, one that is left empty is null.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import polars as pl

from graftrec.utils.atomic_files import whole
from graftrec.utils.errors import DataError

GENRES = (  # of MovieLens 100K, in the order of its columns (u.genre)
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
Types = dict[str, type[pl.DataType]]
RATINGS: Types = {"user_id": pl.UInt16, "movie_id": pl.UInt16, "rating": pl.UInt8, "timestamp": pl.UInt32}
ADULT: Types = {
    "age": pl.Int32, "workclass": pl.String, "fnlwgt": pl.Int32, "education": pl.String, "education_num": pl.Int32,
    "marital_status": pl.String, "occupation": pl.String, "relationship": pl.String, "race": pl.String,
    "sex": pl.String, "capital_gain": pl.Int32, "capital_loss": pl.Int32, "hours_per_week": pl.Int32,
    "native_country": pl.String, "income": pl.String,
}  # fmt: skip


def movielens_100k(originals: Path, folder: Path) -> list[Path]:
    """``ml-100k/u.data``, ``u.item`` and ``u.user`` below ``originals``; ratings in the order of users and time.

    Raises:
        DataError: DATA-063 where a file is missing or a line is not as published.
    """
    below = originals / "ml-100k"
    items = _read(
        below / "u.item",
        "|",
        {"movie_id": pl.Int64}
        | dict.fromkeys(["movie_title", "release_date", "video_release_date", "IMDb_URL", *GENRES], pl.String),
    )
    genres = [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES]
    named = pl.concat_str(genres, separator="|", ignore_nulls=True).alias("genres")
    users = {"user_id": pl.Int64, "age": pl.Int64, "gender": pl.String, "occupation": pl.String, "zip_code": pl.String}
    return _write(
        folder,
        {
            "ratings.parquet": _read(below / "u.data", "\t", RATINGS).sort("user_id", "timestamp", "movie_id"),
            "items.parquet": items.select("movie_id", "movie_title", "release_date", "IMDb_URL", named),
            "users.parquet": _read(below / "u.user", "|", users),
        },
    )


def movielens_1m(originals: Path, folder: Path) -> list[Path]:
    """``ml-1m/ratings.dat``, ``movies.dat`` and ``users.dat`` below ``originals``, in their order.

    Raises:
        DataError: DATA-063 where a file is missing or a line is not as published.
    """
    below = originals / "ml-1m"
    movies = {"movie_id": pl.Int64, "title": pl.String, "genres": pl.String}
    users = {"user_id": pl.Int64, "gender": pl.String, "age": pl.Int32, "occupation": pl.String, "zipcode": pl.String}
    return _write(
        folder,
        {
            "ratings.parquet": _read(below / "ratings.dat", "::", RATINGS),
            "movies.parquet": _read(below / "movies.dat", "::", movies),
            "users.parquet": _read(below / "users.dat", "::", users),
        },
    )


def adult(originals: Path, folder: Path) -> list[Path]:
    """``adult.data`` and ``adult.test`` in ``originals``; the test's labels without their full stop.

    Raises:
        DataError: DATA-063 where a file is missing or a line is not as published.
    """
    label = pl.col("income").str.strip_suffix(".")
    train, test = (_read(originals / f"adult.{part}", ",", ADULT, strip=True) for part in ("data", "test"))
    return _write(folder, {"train.parquet": train, "test.parquet": test.with_columns(label)})


def _read(path: Path, separator: str, types: Types, strip: bool = False) -> pl.DataFrame:
    """Lines of fields, without quotes; empty lines and lines that begin with ``|`` (a remark) are left out."""
    try:
        text = path.read_bytes().decode("latin-1")  # what all of them are in
    except FileNotFoundError as error:
        raise DataError("DATA-063", f"{path} is not there; fetch the dataset again") from error
    lines = pl.DataFrame({"text": text.split("\n")}).with_row_index("line", offset=1)
    lines = lines.with_columns(pl.col("text").str.strip_suffix("\r"))
    lines = lines.filter(pl.col("text").str.strip_chars().ne("") & ~pl.col("text").str.starts_with("|"))
    lines = lines.with_columns(pl.col("text").str.split(separator))
    odd = lines.filter(pl.col("text").list.len() != len(types))
    if len(odd):
        line, fields = odd.row(0)
        raise DataError("DATA-063", f"{path}:{line} has {len(fields)} fields instead of {len(types)}")
    if lines.is_empty():
        raise DataError("DATA-063", f"{path} has no rows")
    values = {name: pl.col("text").list.get(number) for number, name in enumerate(types)}
    fields = lines.select(
        "line", **{name: value.str.strip_chars() if strip else value for name, value in values.items()}
    )
    return _typed(path, fields, types)


def _typed(path: Path, fields: pl.DataFrame, types: Types) -> pl.DataFrame:
    frame = fields.select(pl.col(name).replace({"": None}).cast(kind, strict=False) for name, kind in types.items())
    for name in (name for name, kind in types.items() if kind != pl.String):
        wrong = fields.filter(frame[name].is_null())
        if len(wrong):
            line, value = wrong.select("line", name).row(0)
            raise DataError("DATA-063", f"{path}:{line} has {value!r} as {name}, which is no whole number of its range")
    return frame


def _write(folder: Path, frames: Mapping[str, pl.DataFrame]) -> list[Path]:
    """All of the files or none: they get their names when the last one is written."""
    with ExitStack() as drafts:
        for name, frame in frames.items():
            draft = drafts.enter_context(whole(folder / name))
            packed = io.BytesIO()  # Polars says of a full disk that the file breaks a specification
            frame.write_parquet(packed)
            draft.write_bytes(packed.getbuffer())
    return [folder / name for name in frames]
