"""KuaiRand: short videos with an explicit like or hate."""

from __future__ import annotations

from typing import Literal, get_args

import polars as pl

from graftrec.data.datasets.folder import Folder
from graftrec.data.tables.builder import interactions
from graftrec.data.tables.interactions import Column, Interactions

Event = Literal["", "like", "is_click", "long_view"]
LABELS = ("is_click", "long_view", "like", "is_follow", "is_comment", "is_forward", "is_profile_enter")
BEIJING = 8 * 3_600_000  # ms


class KuaiRand(Folder):
    """Seven feedbacks of 664 users to 9,359 videos in two weeks of April 2022 (KuaiRand-27K, CC BY-SA 4.0).

    41,828 rows, all of them with a like (1) or a hate (0), of users who gave both: label rates are those of this
    selection and not of the traffic. Labels: click, long view, like, follow, comment, forward and visit of the profile.
    Features: the video's length (log), hour and weekday in Beijing. Left out, as they are known only after the row:
    ``play_time_ms`` and ``comment_stay_time``.

    Args:
        root: folder of ``interactions.parquet``.
        event: label of the rows that belong to a history and are to be ranked; empty: all rows.
    """

    origin = "https://kuairand.com/ (CC BY-SA 4.0; the rows with a like or hate, 15-core)"

    def __init__(self, root: str, event: Event = "like") -> None:
        super().__init__(root)
        if event not in get_args(Event):
            raise ValueError(f"event should be like, is_click, long_view or empty. Found {event}.")
        self.event = event

    def read(self) -> Interactions:
        known = ["user_id", "video_id", "time_ms", "duration_ms"]
        rows = self.frame("interactions.parquet", [*known, *(n for n in LABELS if n != "like"), "like_vs_hate"])
        rows = rows.rename({"user_id": "user", "video_id": "item", "like_vs_hate": "like"})
        moment = pl.from_epoch(pl.col("time_ms") + BEIJING, time_unit="ms")
        rows = rows.select(
            "user",
            "item",
            (pl.col("time_ms") / 86_400_000.0).alias("time"),
            moment.dt.hour().alias("hour"),
            moment.dt.weekday().alias("weekday"),
            pl.col("duration_ms").cast(pl.Float64).log1p().alias("log_duration"),
            *LABELS,
            *([pl.col(self.event).alias("event")] if self.event else []),
        )
        return interactions(
            "kuairand",
            rows,
            columns={"hour": Column("id"), "weekday": Column("id"), "log_duration": Column("number")},
            labels=dict.fromkeys(LABELS, "binary"),
            stamps=("not time-safe: users and videos with few likes were dropped, over all of the time",),
            notes=("only rows with an explicit like or hate: label rates are not traffic rates",),
        )
