"""Whether a trunk reads fields by their names is what its class says: `together` refuses interactions by it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_contracts import STREAMS, TASKS, TOLD, B, D, F, draw, encoded, make, name_of

from discovery import classes
from graftrec.models.interactions.base import Interaction
from graftrec.models.trunks.base import Trunk

NAMES = STREAMS["s"]


def trunk_with(cls: type[Trunk], names: list[str]) -> Trunk:
    torch.manual_seed(0)
    made: Trunk = make(cls, **{**TOLD, "history": True, "streams": {"s": names}})
    return made.eval()


@pytest.mark.parametrize("cls", classes("models.trunks"), ids=name_of)
class TestTrunks:
    def test_other_names_of_the_same_fields_matter_where_it_says_so(self, cls: type[Trunk]) -> None:
        e = encoded(cls)
        found = [trunk_with(cls, names)(e, TASKS)["a"] for names in (NAMES, [*NAMES[1:], NAMES[0]])]
        assert torch.equal(*found) == (not cls.by_name)

    def test_one_that_reads_a_sequence_reads_no_fields(self, cls: type[Trunk]) -> None:
        e, trunk = encoded(cls), trunk_with(cls, NAMES)
        other = replace(e, fields=e.fields + draw(*e.fields.shape, seed=5))
        same = torch.equal(trunk(e, TASKS)["a"], trunk(other, TASKS)["a"])
        assert same == cls.sequential


@pytest.mark.parametrize("cls", classes("models.interactions"), ids=name_of)
def test_an_interaction_keeps_the_fields_where_it_says_so(cls: type[Interaction]) -> None:
    interaction, fields = make(cls, fields=F, width=D).eval(), draw(B, F, D)
    assert torch.equal(interaction(fields)[:, :F], fields) == cls.keeps_fields
