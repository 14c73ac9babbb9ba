"""Every key of a verb's tree has somebody who checks it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from graftrec.cli.main import VERBS
from graftrec.config.component_types import SLOTS
from graftrec.config.instantiate import ROLES, conf_dir, problems_of_tree
from graftrec.config.value_rules import AUDIT, DATA, PREDICT, RUN

ODD = [-1, 0.5, float("nan"), "", True, [], {"a": 1}, [None]]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if VERBS[verb].config])
def test_every_key_has_a_rule(verb: str) -> None:
    tree = yaml.safe_load((conf_dir() / f"{VERBS[verb].config}.yaml").read_text())
    known = {*SLOTS, *ROLES, *RUN, "hydra", "defaults"} | {"predict": {*PREDICT}, "data": {*DATA}}.get(verb, {"audit"})
    assert set(tree) <= known
    assert set(tree.get("audit", ())) == (set(AUDIT) if verb == "audit" else set())


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("k", "abc", "should be a whole number of at least 1, found 'abc'"),
        ("k", 1.5, "should be a whole number of at least 1, found 1.5"),
        ("k", 0, "should be a whole number of at least 1, found 0"),
        ("seen", "abc", "should be true, false or null, found 'abc'"),
        ("at", "now", "should be test, val or latest, found 'now'"),
        ("out", "x.json", "should be a .parquet or .csv file, found 'x.json'"),
        ("users", [], "should be a list of ids, a file, or null, found []"),
        ("users", [[1]], "should be a list of ids, a file, or null, found [[1]]"),
    ],
)
def test_what_is_wrong_with_a_prediction(key: str, value: Any, said: str) -> None:
    right = yaml.safe_load((conf_dir() / "predict.yaml").read_text()) | {"run": "."}
    del right["defaults"], right["hydra"]
    assert problems_of_tree(right) == []
    assert problems_of_tree(right | {key: value}) == [f"{key}: {said}"]


def test_no_odd_value_of_an_audit_passes_for_another_one() -> None:
    for key in ("seeds", "both_ways", "twins"):
        refused = [value for value in ODD if problems_of_tree({"audit": {key: value}})]
        assert len(refused) == len(ODD) - (key != "seeds"), (key, refused)
