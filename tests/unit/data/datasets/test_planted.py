from __future__ import annotations

import numpy as np
import pytest

from graftrec.data.datasets.planted import PARTS, Planted

SMALL = {"users": 30, "items": 20, "rows": 400, "source_rows": 900, "val": 300, "test": 500}


def test_every_part_has_the_rows_that_were_asked_for() -> None:
    parts = Planted(**SMALL).parts()
    assert tuple(parts) == PARTS
    for name, data in parts.items():
        assert np.bincount(data.split).tolist() == [400 if name == "target" else 900, 300, 500]
        assert set(np.unique(data.answers)) == {0.0, 1.0}


def test_noise_shares_no_id_and_the_others_share_all() -> None:
    parts = Planted(**SMALL).parts()
    ids = {name: {kind: set(data.keys[kind].keys) for kind in ("user", "item")} for name, data in parts.items()}
    for kind, count in (("user", 30), ("item", 20)):
        assert ids["target"][kind] == ids["help"][kind] == ids["hurt"][kind]
        assert len(ids["target"][kind]) == count
        assert not ids["noise"][kind] & ids["target"][kind]


def test_help_has_the_targets_chances_and_hurt_has_its_own() -> None:
    made = Planted(users=200, items=100, seed=3)
    target, hurt = made.chances("target"), made.chances("hurt")
    np.testing.assert_array_equal(target, made.chances("help"))
    assert abs(np.corrcoef(target.flatten(), hurt.flatten())[0, 1]) < 0.1
    assert (made.chances("noise") == 0.5).all()
    p, q = made.factors("target")
    assert np.var(p @ q.T) == pytest.approx(1.0, abs=0.2)
    logit = np.log(target / (1 - target))
    np.testing.assert_allclose(logit, made.scale * p @ q.T)


def test_labels_follow_the_chances() -> None:
    made = Planted(users=4, items=3, rows=60_000, source_rows=60_000, val=1, test=1)
    data = made.parts()["hurt"]
    user = data.keys["user"].keys.to_numpy()[data.keys["user"].codes]
    item = data.keys["item"].keys.to_numpy()[data.keys["item"].codes]
    share = np.zeros((4, 3))
    np.add.at(share, (user, item), data.answers[:, 0])
    np.testing.assert_allclose(share / 5000, made.chances("hurt"), atol=0.04)


def test_a_seed_draws_the_same_again_and_another_something_else() -> None:
    one, again, other = (Planted(**SMALL, seed=seed).parts()["help"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.answers, again.answers)
    assert (one.answers != other.answers).any()


@pytest.mark.parametrize(("key", "value"), [("users", 0), ("source_rows", 0), ("scale", 0.0)])
def test_wrong_values_are_said(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{key} should be at least 1|{key}, .* should be|{key} should be above"):
        Planted(**{key: value})
