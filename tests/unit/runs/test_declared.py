"""What a run declares before it looks has to be something that a target is measured by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graftrec.data.protocols.base import Protocol
from graftrec.runs.declared_metrics import check_verdicts, measured_untrained
from graftrec.training.builder import prepare
from graftrec.utils.errors import UserError

Compose = Callable[[list[str]], dict[str, Any]]
Made = tuple[dict[str, Any], Protocol]
TINY = [f"++dataset.{key}={value}" for key, value in {
    "users": 30, "items": 20, "rows": 200, "source_rows": 200, "val": 100, "test": 150
}.items()]  # fmt: skip


@pytest.fixture(scope="module")
def rows(compose: Compose) -> Made:
    tree = compose(["experiment=planted", *TINY])
    return tree, prepare(tree)[0]


@pytest.fixture(scope="module")
def ranked(compose: Compose, shop_settings: list[str]) -> Made:
    tree = compose([*shop_settings, "task@source=[]", "task@shared=[]", "trunk=shared_bottom"])
    return tree, prepare(tree)[0]


def test_what_a_target_is_measured_by_is_seen_without_training(rows: Made, ranked: Made) -> None:
    assert measured_untrained(*rows)["planted_target"][0] == "auc"
    assert {"auc", "log_loss", "accuracy"} <= measured_untrained(*rows)["planted_target"][1]
    main, there = measured_untrained(*ranked)["recommend"]
    assert main in there
    assert {"ndcg@10", "hr@10"} <= there


def test_metrics_and_cohorts_that_there_are_may_be_declared(rows: Made, ranked: Made) -> None:
    for (tree, protocol), names in ((rows, ["log_loss", "auc/cold_user", "auc/cold_both"]),
                                    (ranked, ["ndcg@10/first_time", "hr@10", "ndcg@10/overlap"]),
                                    (rows, [])):  # fmt: skip
        check_verdicts({**tree, "verdicts": names}, protocol)


def test_what_there_is_not_is_named_with_the_nearest_all_at_once(rows: Made, ranked: Made) -> None:
    tree, protocol = rows
    with pytest.raises(UserError) as found:
        check_verdicts({**tree, "verdicts": ["auk", "auc/cold_usr", "log_loss", "ndcg@10", "ece"]}, protocol)
    said = found.value.problems
    assert len(said) == 4
    assert "no target has values per user of 'auk'; did you mean 'auc'?" in said[0]
    assert "there is no cohort 'cold_usr'; did you mean 'cold_user'?" in said[1]
    assert "'ndcg@10'" in said[2]
    assert "'ece'" in said[3]  # a metric, of which rows have no values
    with pytest.raises(UserError, match=r"did you mean 'ndcg@10'"):
        check_verdicts({**ranked[0], "verdicts": ["ndcg10/first_time"]}, ranked[1])
    with pytest.raises(UserError, match="'user'"):
        check_verdicts({**tree, "verdicts": ["user"]}, protocol)
