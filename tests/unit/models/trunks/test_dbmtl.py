"""DBMTL against its equation on a network of tasks."""

import pytest
import torch
from torch import Tensor

from graftrec.data.batch import Encoded
from graftrec.models.trunks.dbmtl import DBMTL

FIELDS, WIDTH, ROWS = 2, 3, 5
TASKS = ["click", "like", "buy"]
NETWORK = {"click": [], "like": ["buy"], "buy": ["click"]}  # not in the order of the tasks


def encoded() -> Encoded:
    generator = torch.Generator().manual_seed(0)
    return Encoded(torch.randn(ROWS, FIELDS, WIDTH, generator=generator, dtype=torch.float64))


def trunk(parents: dict[str, list[str]] | None = None, tasks: list[str] = TASKS) -> DBMTL:
    torch.manual_seed(0)
    return DBMTL(FIELDS, WIDTH, False, tasks, [7], [6, 4], parents).double().eval()


def layer(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (x @ weight.T + bias).clamp_min(0)


@pytest.mark.parametrize(
    ("parents", "network", "sequence"),
    [
        (NETWORK, NETWORK, ["click", "buy", "like"]),
        (None, {"click": [], "like": ["click"], "buy": ["click", "like"]}, TASKS),
    ],
)
def test_it_is_its_equation(
    parents: dict[str, list[str]] | None, network: dict[str, list[str]], sequence: list[str]
) -> None:
    dbmtl, e = trunk(parents), encoded()
    shared = layer(e.fields.reshape(ROWS, -1), dbmtl.shared[0].weight, dbmtl.shared[0].bias)
    expected: dict[str, Tensor] = {}
    for task in sequence:
        at, h = TASKS.index(task), shared
        for specific in dbmtl.specific.layers:
            h = layer(h, specific.weight[at], specific.bias[at])
        told = torch.cat([h, *(expected[name] for name in network[task])], 1)
        expected[task] = layer(told, dbmtl.bayes[at].weight, dbmtl.bayes[at].bias)
    z = dbmtl(e, ["buy", "like", "click"])
    assert list(z) == ["buy", "like", "click"]
    for task in TASKS:
        torch.testing.assert_close(z[task], expected[task])
        assert torch.equal(dbmtl(e, [task])[task], z[task])


@pytest.mark.parametrize(
    ("task", "read"), [("click", ["click"]), ("buy", ["click", "buy"]), ("like", ["click", "buy", "like"])]
)
def test_a_task_reads_its_ancestors_and_nothing_else(task: str, read: list[str]) -> None:
    dbmtl = trunk(NETWORK)
    dbmtl(encoded(), [task])[task].pow(2).sum().backward()
    for specific in dbmtl.specific.layers:
        assert [name for at, name in enumerate(TASKS) if specific.weight.grad[at].any()] == [
            name for name in TASKS if name in read
        ]


def test_what_is_no_network_of_the_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no cycle. Found .*click"):
        trunk({"click": ["buy"], "like": [], "buy": ["click"]})
    with pytest.raises(ValueError, match=r"entry for every task and every parent. Found none for \['like'\]"):
        trunk({"click": [], "buy": ["click"]})
    with pytest.raises(ValueError, match=r"Found none for \['clik'\]"):
        trunk({"click": [], "like": [], "buy": ["clik"]})
    with pytest.raises(ValueError, match=r"once. Found one twice for \['buy'\]"):
        trunk({"click": [], "like": [], "buy": ["click", "click"]})


def test_parents_that_rest_are_passed_over() -> None:
    assert trunk(NETWORK, ["like", "click"]).parents == {"like": [], "click": []}
    assert list(trunk(NETWORK, ["buy"])(encoded(), ["buy"])) == ["buy"]
