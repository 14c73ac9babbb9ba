"""Seeds that are derived, named and separate: no integer serves two purposes."""

from __future__ import annotations

import hashlib

import torch


def derived(seed: int, *names: object) -> int:
    """A seed in [0, 2^63) for one purpose: the same ``seed`` and names always give the same one."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *names: object) -> torch.Generator:
    """A generator for one purpose."""
    return torch.Generator().manual_seed(derived(seed, *names))
