"""Top-k ranking metrics whose value under ties is the exact mean over all orders of the tied items."""

from __future__ import annotations

import torch
from torch import Tensor


def ranking_metrics(
    scores: Tensor, relevant: Tensor, candidates: Tensor | None = None, k: int = 10
) -> dict[str, Tensor]:
    """Return ``ndcg@k``, ``recall@k``, ``hr@k`` and ``mrr@k`` of each row.

    Parameters
    ----------
    scores: (B, N), real, higher is better; infinities are allowed, a NaN raises ValueError
    relevant: (B, N) bool, binary gains; a relevant item that is no candidate does not count
    candidates: (B, N) bool, the items that are ranked (default: all)
    k: ranks that count, at least 1; may exceed N

    Returns
    -------
    dict of (B,) float64 in [0, 1]; NaN for a row without a relevant candidate.

    With binary gains, discount 1 / log2(rank + 1) and an ideal list of min(k, #relevant) items (Järvelin & Kekäläinen
    2002, https://doi.org/10.1145/582415.582418). Tied items are in a uniformly random order and every value is the
    expectation over it (McSherry & Najork 2008, https://doi.org/10.1007/978-3-540-78646-7_38), so that a constant
    scorer gets chance, never the order in which the catalogue happens to be stored.
    """
    _check(scores, relevant, candidates, k)
    rows, width = scores.shape
    if width == 0:
        nan = scores.new_full((rows,), torch.nan, dtype=torch.float64)
        return {f"{name}@{k}": nan.clone() for name in ("ndcg", "recall", "hr", "mrr")}

    hits, start, end = _tie_groups(scores, relevant, candidates)
    total = hits.sum(1)
    device = scores.device
    top = min(k, width)
    discount = torch.zeros(width, dtype=torch.float64, device=device)
    discount[:top] = 1.0 / torch.log2(torch.arange(2, top + 2, dtype=torch.float64, device=device))
    gain = torch.cat((discount.new_zeros(1), discount.cumsum(0)))  # (N + 1,): discounts of the first p ranks
    size = (end - start).double()
    dcg = ((gain[end] - gain[start]) / size * hits).sum(1)
    ideal = gain[total.clamp(max=top)]
    found = ((end.clamp(max=top) - start.clamp(max=top)) / size * hits).sum(1)
    hit, reciprocal = _first_hit(hits, start, end, top)
    values = {"ndcg": dcg / ideal, "recall": found / total, "hr": hit, "mrr": reciprocal}
    # the clamp takes the last bit of rounding away
    return {f"{name}@{k}": torch.where(total > 0, v.clamp(0, 1), torch.nan) for name, v in values.items()}


def _check(scores: Tensor, relevant: Tensor, candidates: Tensor | None, k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}, at least 1 is needed")
    if scores.ndim != 2:
        raise ValueError(f"scores have shape {tuple(scores.shape)}, (B, N) is needed")
    for name, mask in (("relevant", relevant), ("candidates", candidates)):
        if mask is None:
            continue
        if mask.shape != scores.shape:
            raise ValueError(f"{name} has shape {tuple(mask.shape)}, the scores have {tuple(scores.shape)}")
        if mask.dtype != torch.bool:
            raise ValueError(f"{name} is {mask.dtype}, bool is needed")
    if bool(scores.isnan().any()):
        raise ValueError(f"{int(scores.isnan().sum())} of {scores.numel()} scores are NaN")


def _tie_groups(scores: Tensor, relevant: Tensor, candidates: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Sort each row; return hits (B, N) bool and the first and one-past-last rank (B, N) int64 of a rank's tie group.

    What is no candidate comes after every candidate, in groups of its own, and is never a hit.
    """
    if candidates is None:
        ordered, index = scores.sort(dim=1, descending=True)
        hits = relevant.gather(1, index)
        changes = ordered[:, 1:] != ordered[:, :-1]
    else:
        index = scores.argsort(dim=1, descending=True)
        last = (~candidates).gather(1, index).byte().argsort(dim=1, stable=True)
        index = index.gather(1, last)
        ordered, ranked = scores.gather(1, index), candidates.gather(1, index)
        hits = relevant.gather(1, index) & ranked
        changes = (ordered[:, 1:] != ordered[:, :-1]) | (ranked[:, 1:] != ranked[:, :-1])
    rows, width = scores.shape
    rank = torch.arange(width, device=scores.device).expand(rows, width)
    edge = torch.ones(rows, 1, dtype=torch.bool, device=scores.device)
    start = torch.where(torch.cat((edge, changes), 1), rank, 0).cummax(1).values
    closed = torch.where(torch.cat((changes, edge), 1), rank + 1, width)
    end = closed.flip(1).cummin(1).values.flip(1)
    return hits, start, end


def _first_hit(hits: Tensor, start: Tensor, end: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Return the chance of a hit in the first ``top`` ranks and the mean reciprocal rank of the first hit, (B,) each.

    Only the first group with a relevant item matters: with n items, r of them relevant, behind s others, the first j of
    the group hold none with probability prod_{i<j} (n - r - i) / (n - i), and the next is then relevant with
    r / (n - j).
    """
    at = hits.byte().argmax(1, keepdim=True)  # (B, 1): a rank in that group; 0 in a row without, masked by the caller
    before = start.gather(1, at)
    after = end.gather(1, at)
    size = after - before
    inside = (hits & (start == before)).sum(1, keepdim=True)
    j = torch.arange(top, device=hits.device).unsqueeze(0)  # (1, top)
    left = (size - j).clamp(min=1).double()
    miss = ((size - inside - j).clamp(min=0) / left).cumprod(1)
    none = torch.cat((torch.ones_like(miss[:, :1]), miss[:, :-1]), 1)
    first = none * inside / left * ((j < size) & (before + j < top))
    return first.sum(1), (first / (before + j + 1)).sum(1)
