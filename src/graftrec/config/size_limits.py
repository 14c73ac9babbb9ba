"""How large a number of a configuration may be, so that none asks for more memory than any machine has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

LARGEST, SEEDS = 2**31 - 1, 2**63 - 1  # any number; a seed
MOST = {
    **dict.fromkeys(("width", "hidden", "rank", "dimension", "sines"), 65_536),
    **dict.fromkeys(
        ("layers", "repeats", "heads", "levels", "experts", "shared", "specific", "expand", "kernel"), 1_024
    ),
    **dict.fromkeys(("kernel", "shared_experts", "task_experts", "newest", "support"), 1_024),
    **dict.fromkeys(("batch_size", "positions", "length", "negatives", "top", "k"), 2**24),
    **dict.fromkeys(("devices", "num_nodes"), 4_096),
    "buckets": 2**24,
    **dict.fromkeys(("lr", "table_lr", "weight_decay"), 1_000),
}


def too_large(key: str, value: Any, at: str = "") -> Iterator[tuple[str, float, int]]:
    """Each number below ``key`` that is more than it may be: where, what it is and the most."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            if "_target_" not in value:  # an object is looked at by itself
                yield from too_large(str(name) if str(name) in MOST else key, part, f"{at}.{name}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from too_large(key, part, f"{at}.{number}")
    elif isinstance(value, (int, float)) and math.isfinite(value):
        most = SEEDS if key == "seed" else MOST.get(key, LARGEST)
        if abs(value) > most:
            yield at, value, most
