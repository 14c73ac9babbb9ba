"""How often two items are chosen together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from graftrec.data.tables.interactions import in_order

Ints = npt.NDArray[np.int64]


class Pairs(NamedTuple):
    """Pairs a < b of items that share a basket: their support (baskets with both) and cosine in (0, 1]."""

    a: Ints
    b: Ints
    support: Ints
    cosine: npt.NDArray[np.float32]


def co_purchase(basket: Ints, item: Ints, min_support: int = 1, reach: int = 100) -> Pairs:
    """Cosine n_ab / sqrt(n_a n_b) of the items' basket vectors, for every pair with ``min_support`` common baskets.

    Args:
        basket, item: (n,) lines, each basket's in one order, such as that of time.
        reach: two lines of a basket count as together if they are at most so many distinct lines apart, which bounds
            the work for a basket of thousands of lines (a user's whole history).
    """
    if not len(basket):
        none = np.zeros(0, np.int64)
        return Pairs(none, none, none, np.zeros(0, np.float32))
    span = int(item.max()) + 1
    key = basket * span + item
    if bool((key[1:] > key[:-1]).all()):  # in order and distinct already
        first = np.arange(len(key))
    else:
        order = np.argsort(key, kind="stable")
        first = np.sort(order[np.concatenate([[True], key[order][1:] != key[order][:-1]])])
        first = first[np.argsort(basket[first], kind="stable")]  # distinct lines, each basket's as they came
    basket, item = basket[first], item[first]
    counts = np.bincount(item, minlength=span)
    raw = np.flatnonzero(counts)  # items by number: pairs of few enough of them fit 32 bits, which sort twice as fast
    number = np.zeros(span, dtype=np.int64)
    number[raw] = np.arange(len(raw))
    item, counts, many = number[item], counts[raw], len(raw)
    narrow = np.uint32 if many * many < 2**32 else np.int64
    blocks = []
    left = np.arange(len(basket))
    for distance in range(1, reach + 1):
        left = left[left < len(basket) - distance]
        left = left[basket[left] == basket[left + distance]]
        if not len(left):
            break
        one, other = item[left], item[left + distance]
        blocks.append((np.minimum(one, other) * many + np.maximum(one, other)).astype(narrow))
    keys = in_order(np.concatenate(blocks)) if blocks else np.zeros(0, narrow)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.int64)
    support = np.diff(starts, append=len(keys))
    kept = support >= min_support
    key, support = keys[starts[kept]].astype(np.int64), support[kept]
    a, b = key // many, key % many
    cosine = (support / np.sqrt(counts[a].astype(np.float64) * counts[b])).astype(np.float32)
    a, b = raw[a], raw[b]
    return Pairs(a, b, support, cosine)
