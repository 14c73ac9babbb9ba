"""Entire space multi-task model."""

from __future__ import annotations

from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.tasks.entire_space import EntireSpace, product


class ESMM(EntireSpace):
    """L = mean over all rows of l(click & conversion, p_click p_cvr): p_cvr is the head's, p_click the given task's.

    X. Ma et al., Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click Conversion Rate, SIGIR
    2018, https://arxiv.org/abs/1804.07931, equations 2 and 4. The first term of equation 4, the loss of the click, is
    the given task's own, with that task's weight. l is the task's ``loss``, the paper's is the cross-entropy.
    Probabilities are multiplied, in log space. As in the paper gradients reach the click's logits through the product.
    """

    def loss(self, logits: Tensor, batch: Batch, given: Tensor | None = None) -> Tensor:
        return self.risk(product(self.must(given), logits), self.both(batch), batch)
