"""Which values a metric can have."""

from __future__ import annotations

import math

from graftrec.tasks.metrics.direction import bounds, sign
from graftrec.tasks.metrics.pointwise import BINARY, NUMBERS


def test_directions_and_ranges() -> None:
    assert [sign(name) for name in ("ndcg@10", "auc/cold_user", "rmse", "mae/cold_both", "log_loss")] == [
        1, 1, -1, -1, -1,
    ]  # fmt: skip
    assert bounds("recall@5/warm") == bounds("recall_macro") == bounds("auc") == (0.0, 1.0)
    assert bounds("spearman") == (-1.0, 1.0)
    assert bounds("rmse/cold_item") == (0.0, math.inf)
    assert bounds("novelty@10") == (-math.inf, math.inf)
    for name in (*BINARY, *NUMBERS):
        least, most = bounds(name)
        assert least < most
