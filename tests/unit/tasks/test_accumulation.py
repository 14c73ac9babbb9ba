"""A batch in parts: what compares rows with each other refuses it before anything trains."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from discovery import classes, path_of
from graftrec.training.builder import assemble, protocol_of, streams_of
from graftrec.transfer.base import ROLES
from graftrec.utils.errors import UserError

Compose = Callable[[list[str]], dict[str, Any]]
CROSSING = ["protocol=cross_domain", "++dataset.domain=department", "trunk=shared_bottom",
            "task@source=[grocery_recommend]", "task@target=[produce_recommend]"]  # fmt: skip
COMPARES = {"AlignAdversarial": "align_adversarial", "AlignCoral": "align_coral", "AlignMmd": "align_mmd"}
COMPARES |= {"Contrastive": "contrastive", "Reconstruction": "reconstruction"}


@pytest.mark.parametrize("cls", [cls for cls in classes("tasks") if cls.compares], ids=lambda cls: cls.__name__)
def test_rows_that_are_compared_are_not_parted(cls: type[Any], compose: Compose, shop_settings: list[str]) -> None:
    name = COMPARES[cls.__name__]
    for parts in (1, 2):
        tree = compose(
            [*CROSSING, *shop_settings, f"task@shared=[{name}]", f"++trainer.accumulate_grad_batches={parts}"]
        )
        assert tree["shared"][name]["_target_"] == path_of(cls)
        protocol = protocol_of(tree)
        protocol.prepare(streams_of(tree))
        if parts == 1 or cls.additive:
            assert name in assemble(tree, protocol, ROLES, 0).tasks
            continue
        with pytest.raises(UserError, match=re.escape(f"accumulate_grad_batches=2: task {name} would compare")):
            assemble(tree, protocol, ROLES, 0)
