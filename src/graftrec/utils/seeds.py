"""Seeds that are derived, named and separate: no integer serves two purposes."""

from __future__ import annotations

import hashlib
import zlib

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

Hashes = npt.NDArray[np.uint64]


def derived(seed: int, *names: object) -> int:
    """A seed in [0, 2^63) for one purpose: the same ``seed`` and names always give the same one."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """A generator for one purpose."""
    return torch.Generator().manual_seed(derived(seed, *names))


def hashes(keys: pl.Series) -> Hashes:
    """A number for each key (n,), the same on every machine and in every version, for 7 and for ``"7"``."""
    text = keys.cast(pl.String)
    return mixed(np.fromiter((zlib.crc32(key.encode()) for key in text), np.uint64, len(text)))


def mixed(values: Hashes) -> Hashes:
    """Numbers (n,) with all bits stirred (the finaliser of SplitMix64, Steele et al., OOPSLA 2014)."""
    x = values + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    found: Hashes = x ^ (x >> np.uint64(31))
    return found


def share(values: Hashes) -> npt.NDArray[np.float64]:
    """Hashes (n,) as numbers in [0, 1)."""
    found: npt.NDArray[np.float64] = (values >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return found
