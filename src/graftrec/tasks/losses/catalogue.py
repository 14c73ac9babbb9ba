"""Losses over a whole catalogue, or lists drawn from it, without all logits ever being there at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graftrec.tasks.losses.base import Loss

AT_ONCE = 500_000  # logits of a block on a CPU: 2 MB, which stays near the processor
FEWEST = 16  # queries of a block, however large the catalogue: each block reads all of it


def _at_once(queries: Tensor) -> int:
    """Logits of a block: where it is no CPU, enough of them to keep it busy."""
    return AT_ONCE if queries.device.type == "cpu" else 64 * AT_ONCE


class _CatalogueSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, target: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        few, many = queries.to(dtype), items.to(dtype)
        learns = queries.requires_grad or items.requires_grad
        total = torch.zeros((), dtype=torch.float32, device=queries.device)
        d_queries = torch.empty_like(queries) if learns else None
        d_items = torch.zeros_like(items) if learns else None
        rows = max(FEWEST, _at_once(queries) // max(1, len(items)))
        for low in range(0, len(queries), rows):
            part = slice(low, low + rows)
            logits = (few[part] @ many.T).float()
            own = logits.gather(1, target[part, None]).squeeze(1)
            top = logits.amax(1)
            share = logits.softmax(1)
            # the largest share is 1 / sum exp(logits - top), and never rounded to 0
            total += (top - share.amax(1).log() - own) @ weight[part]
            if d_queries is None or d_items is None:
                continue
            share.mul_(weight[part, None])
            share.scatter_add_(1, target[part, None], -weight[part, None])
            slope = share.to(dtype)
            d_queries[part] = slope @ many
            if dtype == items.dtype:
                d_items.addmm_(slope.T, few[part])
            else:  # the sum over blocks keeps the digits that a product of half precision has not
                d_items += slope.T @ few[part]
        ctx.found = (d_queries, d_items)
        return total

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        d_queries, d_items = ctx.found
        return d_queries * slope, d_items * slope, None, None, None


def catalogue_softmax(queries: Tensor, items: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """sum_p w_p (log sum_n exp <q_p, e_n> - <q_p, e_target>) as a scalar.

    The gradient is worked out on the way, block by block: logits are written once and read once, where keeping them for
    a backward pass would take memory for all P x N and a second walk over them. Under autocast the matrix products have
    its precision; the softmax, the loss and the sum of the items' gradients are float32.

    Args:
        queries: (P, D). items: (N, D). target: (P,) int64 in [0, N). weight: (P,), such as 1 / P for the mean.
    """
    kind = queries.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else queries.dtype
    with torch.autocast(kind, enabled=False):
        found: Tensor = _CatalogueSoftmax.apply(queries, items, target, weight, dtype)  # type: ignore[no-untyped-call]
    return found


class _OnLists(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        items: Tensor,
        target: Tensor,
        drawn: Tensor,
        weight: Tensor,
        log_q: Tensor | None,
        bias: Tensor,
        loss: Loss,
    ) -> tuple[Tensor, Tensor]:
        total = torch.zeros((), dtype=torch.float32, device=queries.device)
        count = torch.zeros((), dtype=torch.int64, device=queries.device)
        d_queries, d_items, d_bias = torch.empty_like(queries), torch.zeros_like(items), torch.zeros_like(bias)
        common = drawn.ndim == 1
        chosen = items[drawn] if common else items[:0]
        d_chosen = torch.zeros_like(chosen)
        rows = max(1, _at_once(queries) // (drawn.shape[-1] + 1) // (1 if common else items.shape[1]))
        for low in range(0, len(queries), rows):
            part = slice(low, low + rows)
            query, right = queries[part], target[part]
            wrong = drawn.expand(len(right), -1) if common else drawn[part]
            own = items[right]
            others = query @ chosen.T if common else torch.bmm(items[wrong], query[:, :, None]).squeeze(2)
            logits = torch.cat([(query * own).sum(1, keepdim=True), others], 1).float() + bias
            if log_q is not None:
                logits -= log_q[torch.cat([right[:, None], wrong], 1)]
            answer = torch.zeros_like(logits)
            answer[:, 0] = 1
            there = torch.cat([torch.ones_like(right[:, None], dtype=torch.bool), wrong != right[:, None]], 1)
            with torch.enable_grad():
                logits.requires_grad_(True)
                values, counted = loss.measure(logits, answer, there)
                mean = (values * weight[part, None] * counted).sum()
                (slope,) = torch.autograd.grad(mean, logits)
            total += mean.detach()
            count += counted.sum()
            d_bias += slope.sum()
            slope = slope.to(query.dtype)
            d_items.index_add_(0, right, slope[:, :1] * query)
            if common:
                d_queries[part] = slope[:, :1] * own + slope[:, 1:] @ chosen
                d_chosen.addmm_(slope[:, 1:].T, query)
            else:
                d_queries[part] = slope[:, :1] * own + torch.bmm(slope[:, None, 1:], items[wrong]).squeeze(1)
                each = (slope[:, 1:, None] * query[:, None]).flatten(0, 1)
                d_items.index_add_(0, wrong.flatten(), each)
        if common:
            d_items.index_add_(0, drawn, d_chosen)
        ctx.found = (d_queries, d_items, d_bias)
        ctx.mark_non_differentiable(count)
        return total, count

    @staticmethod
    def backward(ctx: Any, slope: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        d_queries, d_items, d_bias = ctx.found
        return d_queries * slope, d_items * slope, None, None, None, None, d_bias * slope, None


def loss_on_lists(
    loss: Loss,
    queries: Tensor,
    items: Tensor,
    target: Tensor,
    drawn: Tensor,
    weight: Tensor,
    log_q: Tensor | None,
    bias: Tensor,
) -> tuple[Tensor, Tensor]:
    """sum_p w_p loss of [the target's logit; those of what was drawn], and how many of the P count.

    Logits are <q_p, e_n> + b - log q_n. An item that was drawn and is the target is no negative. The gradient is worked
    out on the way, block by block, as in `catalogue_softmax`; under autocast all of it is float32.

    Args:
        loss: on lists, without weights of its own. queries: (P, D). items: (N, D). target: (P,) int64 in [0, N).
        drawn: places of negatives, (K,) for all or (P, K). weight: (P,). log_q: (N,) of being drawn, if it matters.
        bias: b, a scalar; a loss that compares logits with each other does not feel it.
    """
    kind = queries.device.type
    if torch.is_autocast_enabled(kind):
        queries, items = queries.float(), items.float()
    with torch.autocast(kind, enabled=False):
        found: tuple[Tensor, Tensor] = _OnLists.apply(queries, items, target, drawn, weight, log_q, bias, loss)  # type: ignore[no-untyped-call]
    return found
