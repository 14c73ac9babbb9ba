"""Processes that torchrun or SLURM started watch each other through the store at which they met."""

from __future__ import annotations

import pytest

from graftrec.training.distributed import liveness, watchdog
from graftrec.training.distributed.rank import Rank


class Store:
    """Torch's, as far as it is used; with every look the ranks in ``alive`` have written once more."""

    def __init__(self, alive: tuple[int, ...] = ()) -> None:
        self.kept: dict[str, bytes] = {}
        self.alive, self.looks = alive, 0

    def set(self, key: str, value: str) -> None:
        self.kept[key] = value.encode()

    def get(self, key: str) -> bytes:
        return self.kept[key]

    def check(self, keys: list[str]) -> bool:
        return all(key in self.kept for key in keys)

    def multi_get(self, keys: list[str]) -> list[bytes]:
        self.looks += 1
        for rank in self.alive:
            self.set(f"graftrec/{rank}", f"{self.looks} 7 1")
        return [self.kept[key] for key in keys]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "EVERY", 0.0)
    monkeypatch.setattr(liveness, "_own", None)


def made(store: Store, patience: float = 0.0) -> watchdog.Watch:
    return watchdog.Watch(Rank(0, 2, 0, 2), store, patience, lost=lambda line: None)


def test_who_stands_still_is_named_and_nobody_is_while_one_goes_on() -> None:
    store = Store()
    store.set("graftrec/0", "3 7 1")
    store.set("graftrec/1", "3 6 1")
    assert made(store)._look().startswith("rank 1 of 2 stood still for 0 seconds (patience)")
    store.set("graftrec/1", "3 7 1")
    assert made(store)._look() == "no rank of 2 went on for 0 seconds (patience)"
    patient = made(store, 10.0)
    assert patient._look() == ""
    store.set("graftrec/1", "3 7 0")  # it writes a report, however long that takes
    assert patient._look() == ""


def test_who_has_gone_is_named_with_its_reason_if_it_has_told_one() -> None:
    store = Store(alive=(0,))
    store.set("graftrec/1", "5 7 1")
    assert made(store).blame() == "rank 1 of 2 is gone"
    watchdog.Watch(Rank(1, 2, 1, 2), store, 1.0).fail("ValueError: odd")
    assert made(store).blame() == "rank 1 of 2: ValueError: odd"
    alive = Store(alive=(0, 1))
    assert made(alive).blame() == ""
