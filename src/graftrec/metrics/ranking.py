"""Top-k ranking metrics whose value under ties is the exact mean over all orders of the tied items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

FEW = 12  # relevant items of a row


def ranking_metrics(
    scores: Tensor, relevant: Tensor, candidates: Tensor | None = None, k: int = 10
) -> dict[str, Tensor]:
    """Return ``ndcg@k``, ``recall@k``, ``hr@k``, ``mrr@k`` and ``gauc`` of each row.

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
    scorer gets chance, never the order in which the catalogue happens to be stored. ``gauc`` is the chance that a
    relevant candidate stands before another one, ties counting half (grouped AUC, H. Zhu et al. 2017,
    https://arxiv.org/abs/1703.02091, section 5.1, every user with equal weight); NaN also where all are relevant.
    """
    _check(scores, relevant, candidates, k)
    rows, width = scores.shape
    if width == 0:
        nan = scores.new_full((rows,), torch.nan, dtype=torch.float64)
        return {name: nan.clone() for name in (f"ndcg@{k}", f"recall@{k}", f"hr@{k}", f"mrr@{k}", "gauc")}

    ranks = _ranks(scores, relevant, candidates)
    return _values(ranks, ranks.hits, width, k)


def per_user(scores: Tensor, answers: Mapping[str, Tensor], k: int = 10) -> dict[str, Tensor]:
    """`ranking_metrics` of users (B,) over all candidates and per cohort, as ``metric/cohort``.

    Args:
        scores: (B, N). answers: ``relevant`` (B, N) and ``fresh`` (B, N): not seen before, which the cohort
            ``first_time`` is about: what was seen is neither candidate nor answer. ``listed`` (B, N): what is ranked.
            ``cold_user`` (B,) and ``cold_item`` (N,): the cohorts ``warm``, ``cold_user``, ``cold_item`` and
            ``cold_both`` count only those answers, among all candidates. ``overlap`` (B,): only these users.

    Returns:
        dict of (B,) float64, NaN where a user has no answer of the cohort.
    """
    relevant, listed, fresh = answers["relevant"], answers.get("listed"), answers["fresh"]
    _check(scores, relevant, listed, k)
    width = scores.shape[1]
    ranks = _ranks(scores, relevant, listed)
    found = _values(ranks, ranks.hits, width, k)
    new = _ranks(scores, relevant & fresh, fresh if listed is None else fresh & listed)
    found |= {f"{name}/first_time": values for name, values in _values(new, new.hits, width, k).items()}
    if "cold_user" in answers:
        cold = answers["cold_item"][ranks.item]  # (B, R)
        for is_cold, names in ((False, ("warm", "cold_user")), (True, ("cold_item", "cold_both"))):
            own = _values(ranks, ranks.hits & (cold == is_cold), width, k)
            for cold_user, cohort in zip((False, True), names, strict=True):
                outside = answers["cold_user"] != cold_user
                found |= {f"{name}/{cohort}": values.masked_fill(outside, torch.nan) for name, values in own.items()}
    if "overlap" in answers:
        outside = ~answers["overlap"]
        plain = [name for name in found if "/" not in name]
        found |= {f"{name}/overlap": found[name].masked_fill(outside, torch.nan) for name in plain}
    return found


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


class _Ranks(NamedTuple):
    """Where each row's relevant candidates stand, R the most of any row, in the order of the catalogue."""

    hits: Tensor  # (B, R) bool: False where there is none
    start: Tensor  # (B, R) int64: first rank of its tie group
    end: Tensor  # (B, R): one past the last
    item: Tensor  # (B, R): place in the catalogue
    among: Tensor  # (B,) or (): candidates


def _ranks(scores: Tensor, relevant: Tensor, candidates: Tensor | None) -> _Ranks:
    """Rank the relevant candidates; for few of them, counting what is above is quicker than sorting a catalogue."""
    kept = relevant if candidates is None else relevant & candidates
    count = kept.sum(1)
    most = max(1, int(count.max())) if len(count) else 1
    row, column = kept.nonzero(as_tuple=True)
    place = torch.arange(len(row), device=scores.device) - (count.cumsum(0) - count)[row]
    own = scores.new_full((len(scores), most), torch.nan)
    own[row, place] = scores[row, column]
    hits = torch.zeros(own.shape, dtype=torch.bool, device=scores.device)
    hits[row, place] = True
    item = torch.zeros(own.shape, dtype=torch.int64, device=scores.device)
    item[row, place] = column
    ranked, among = scores, torch.tensor(scores.shape[1], device=scores.device)
    if candidates is not None:
        ranked, among = scores.masked_fill(~candidates, -torch.inf), candidates.sum(1)
    if most <= FEW:
        start = torch.stack([(ranked > one[:, None]).sum(1) for one in own.unbind(1)], 1)
        end = torch.stack([(ranked >= one[:, None]).sum(1) for one in own.unbind(1)], 1)
    else:
        ordered = ranked.sort(1).values
        start = scores.shape[1] - torch.searchsorted(ordered, own, right=True)
        end = scores.shape[1] - torch.searchsorted(ordered, own)
    # what is no candidate comes after those of the lowest score
    return _Ranks(hits, start, torch.minimum(end, among.unsqueeze(-1)), item, among)


def _values(ranks: _Ranks, hits: Tensor, width: int, k: int) -> dict[str, Tensor]:
    """Metrics (B,) of the relevant items that ``hits`` (B, R) keeps, among all candidates."""
    start, end = ranks.start, ranks.end
    total = hits.sum(1)
    top = min(k, width)
    discount = torch.zeros(width, dtype=torch.float64, device=hits.device)
    discount[:top] = 1.0 / torch.log2(torch.arange(2, top + 2, dtype=torch.float64, device=hits.device))
    gain = torch.cat((discount.new_zeros(1), discount.cumsum(0)))  # (N + 1,): discounts of the first p ranks
    size = (end - start).clamp(min=1).double()
    dcg = ((gain[end] - gain[start]) / size * hits).sum(1)
    ideal = gain[total.clamp(max=top)]
    found = ((end.clamp(max=top) - start.clamp(max=top)) / size * hits).sum(1)
    hit, reciprocal = _first_hit(hits, start, end, top)
    values = {f"ndcg@{k}": dcg / ideal, f"recall@{k}": found / total, f"hr@{k}": hit, f"mrr@{k}": reciprocal}
    others = ranks.among - total
    before = ((start + end - 1) * hits).sum(1).double() / 2 - total * (total - 1) / 2  # others before a relevant one
    values["gauc"] = torch.where(others > 0, 1 - before / (total * others), torch.nan)
    # the clamp takes the last bit of rounding away
    return {name: torch.where(total > 0, value.clamp(0, 1), torch.nan) for name, value in values.items()}


def _first_hit(hits: Tensor, start: Tensor, end: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Return the chance of a hit in the first ``top`` ranks and the mean reciprocal rank of the first hit, (B,) each.

    Only the first group with a relevant item matters: with n items, r of them relevant, behind s others, the first j of
    the group hold none with probability prod_{i<j} (n - r - i) / (n - i), and the next is then relevant with
    r / (n - j).
    """
    at = start.masked_fill(~hits, torch.iinfo(start.dtype).max).argmin(1, keepdim=True)  # (B, 1): one of that group
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
