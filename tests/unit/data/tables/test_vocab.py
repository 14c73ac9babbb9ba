"""Raw ids to numbers and back."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graftrec.data.tables.vocabulary import Vocabulary
from graftrec.utils.seeds import hashes

KINDS = {
    "int": (pl.Int64, st.integers(-5, 30)),
    "big": (pl.Int64, st.integers(2**62, 2**62 + 20)),  # a float would merge them
    "text": (pl.String, st.text("aAbéß 1", max_size=3)),
}


@settings(max_examples=100, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(KINDS)))
def test_sorted_from_one_and_back(data: st.DataObject, kind: str) -> None:
    dtype, values = KINDS[kind]
    raw = data.draw(st.lists(st.none() | values, max_size=20))
    asked = data.draw(st.lists(st.none() | values, max_size=20)) + raw
    vocabulary = Vocabulary(pl.Series(raw, dtype=dtype))
    known = sorted({value for value in raw if value is not None}, key=lambda v: v.encode() if isinstance(v, str) else v)
    expected = [known.index(value) + 1 if value in known else 0 for value in asked]
    numbers = vocabulary.encode(pl.Series(asked, dtype=dtype))
    assert numbers.tolist() == expected
    assert numbers.dtype == np.int64
    assert len(vocabulary) == len(known) + 1
    assert vocabulary.decode(numbers).to_list() == [value if value in known else None for value in asked]


@settings(max_examples=50, deadline=None)
@given(raw=st.lists(st.text("abc", max_size=3), min_size=1), shuffle=st.randoms())
def test_the_order_of_rows_is_no_matter(raw: list[str], shuffle: object) -> None:
    mixed = raw + raw[:2]
    shuffle.shuffle(mixed)  # type: ignore[attr-defined]
    assert Vocabulary(pl.Series(mixed)).keys.to_list() == Vocabulary(pl.Series(raw)).keys.to_list()


@pytest.mark.parametrize(
    ("keys", "asked", "expected"),
    [
        (pl.Series([7, 3, 5]), pl.Series([5, 3, 9], dtype=pl.Int32), [2, 1, 0]),
        (pl.Series([7, 3, 5]), pl.Series([5, 255], dtype=pl.UInt8), [2, 0]),
        (pl.Series([7, 3, 5]), pl.Series(["5", "x", None]), [2, 0, 0]),
        (pl.Series(["7", "3"]), pl.Series([7, 3, 5]), [2, 1, 0]),
        (pl.Series(["b", "a"]), pl.Series(["a", "c", "b"], dtype=pl.Categorical), [1, 0, 2]),
        (pl.Series(["b", "a", None], dtype=pl.Categorical), pl.Series(["a", "c", "b"]), [1, 0, 2]),
        (pl.Series([True, False, None]), pl.Series([True, None, False]), [2, 0, 1]),
    ],
    ids=["narrow", "unsigned", "text of int", "int of text", "categorical of text", "text of categorical", "bool"],
)
def test_ids_of_another_type_are_the_same_ids(keys: pl.Series, asked: pl.Series, expected: list[int]) -> None:
    assert Vocabulary(keys).encode(asked).tolist() == expected


@pytest.mark.parametrize("dtype", [pl.Int64, pl.String, pl.Null], ids=str)
def test_a_column_of_nulls_knows_nothing(dtype: type[pl.DataType]) -> None:
    empty = Vocabulary(pl.Series([None, None], dtype=dtype))
    assert len(empty) == 1
    numbers = empty.encode(pl.Series([None, 4, 5]))
    assert numbers.tolist() == [0, 0, 0]
    assert empty.decode(numbers).to_list() == [None, None, None]


def test_a_fraction_is_not_the_whole_number_below_it() -> None:
    assert Vocabulary(pl.Series([3, 4])).encode(pl.Series([3.0, 3.7])).tolist() == [1, 0]


def test_a_draw_does_not_depend_on_how_a_file_stores_an_id() -> None:
    numbers = pl.Series([7, 42, 2**53 + 1])
    assert hashes(numbers).tolist() == hashes(numbers.cast(pl.String)).tolist()
    assert hashes(numbers).tolist() == hashes(numbers.cast(pl.UInt64)).tolist()
