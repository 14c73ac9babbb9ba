"""What a run of Weights & Biases logged, read back from its file on disk."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any


def records(path: Path) -> list[Any]:
    """The records of a .wandb file: a LevelDB log of blocks of 32 KiB after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # full, or the last part
            found.append(Record.FromString(whole))
            whole = b""
    return found


def of_kind(found: list[Any], kind: str) -> list[Any]:
    """The records of one kind: ``run``, ``history``, ``artifact``, ``exit`` ..."""
    return [getattr(each, kind) for each in found if each.WhichOneof("record_type") == kind]


def rows(found: list[Any]) -> list[dict[str, Any]]:
    """The history: one row for each logged step."""
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in each.item}
        for each in of_kind(found, "history")
    ]
