"""Top-k ranking metrics whose value under ties is the exact mean over all orders of the tied items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

FEW = 100  # relevant items of a row, on average
STARTS = (1, 5, 20, 100)
HISTORIES = ("history_0", "history_1_4", "history_5_19", "history_20_99", "history_100")
"""Cohorts by the events of a user before the stage: none, 1 to 4, ..., 100 or more."""


def ranking_metrics(
    scores: Tensor, relevant: Tensor, candidates: Tensor | None = None, k: int = 10, at: Sequence[int] = ()
) -> dict[str, Tensor]:
    """Return ``ndcg@k``, ``recall@k``, ``hr@k``, ``mrr@k``, ``map@k`` and ``gauc`` of each row.

    Parameters
    ----------
    scores: (B, N), real, higher is better; infinities are allowed, a NaN raises ValueError
    relevant: (B, N) bool, binary gains; a relevant item that is no candidate does not count
    candidates: (B, N) bool, the items that are ranked (default: all)
    k: ranks that count, at least 1; may exceed N
    at: further numbers of ranks, for the same metrics but ``gauc``

    Returns
    -------
    dict of (B,) float64 in [0, 1]; NaN for a row without a relevant candidate.

    With binary gains, discount 1 / log2(rank + 1) and an ideal list of min(k, #relevant) items (Järvelin & Kekäläinen
    2002, https://doi.org/10.1145/582415.582418). Tied items are in a uniformly random order and every value is the
    expectation over it (McSherry & Najork 2008, https://doi.org/10.1007/978-3-540-78646-7_38), so that a constant
    scorer gets chance, never the order in which the catalogue happens to be stored. ``map@k`` is the mean of AP@k =
    sum over relevant ranks p <= k of (relevant items in the first p) / p, over min(k, #relevant), whose expectation has
    a closed form as well: see `_precisions`. ``gauc`` is the chance that a
    relevant candidate stands before another one, ties counting half (grouped AUC, H. Zhu et al. 2017,
    https://arxiv.org/abs/1703.02091, section 5.1, every user with equal weight); NaN also where all are relevant.
    """
    _check(scores, relevant, candidates, k, *at)
    ranks = _ranks(scores, relevant, candidates)
    return _values(ranks, ranks.hits, (k, *at))


def per_user(scores: Tensor, answers: Mapping[str, Tensor], k: int = 10, at: Sequence[int] = ()) -> dict[str, Tensor]:
    """`ranking_metrics` of users (B,) over all candidates and per cohort, as ``metric/cohort``.

    Args:
        scores: (B, N). answers: ``relevant`` (B, N). ``listed`` (B, N): what is ranked at all. ``fresh`` (B, N): not
            seen before, which the cohort ``first_time`` is about: what was seen is neither candidate nor answer.
            ``cold_user`` (B,) and ``cold_item`` (N,): the cohorts ``warm``, ``cold_user``, ``cold_item`` and
            ``cold_both`` count only those answers, among all candidates. ``overlap`` (B,): only these users.
            ``history`` (B,): how many events came before, for the cohorts `HISTORIES` of users.
        k, at: as there; cohorts are judged at ``k`` alone.

    Returns:
        dict of (B,) float64, NaN where a user has no answer of the cohort.
    """
    relevant, listed, fresh = answers["relevant"], answers.get("listed"), answers.get("fresh")
    _check(scores, relevant, listed, k, *at)
    ranks = _ranks(scores, relevant, listed)
    found = _values(ranks, ranks.hits, (k, *at))
    plain = {name: values for name, values in found.items() if name.partition("@")[2] in ("", str(k))}
    if fresh is not None:
        new = _ranks(scores, relevant & fresh, fresh if listed is None else fresh & listed)
        found |= {f"{name}/first_time": values for name, values in _values(new, new.hits, (k,)).items()}
    if "cold_user" in answers:
        cold = answers["cold_item"][ranks.item]  # (B, R)
        for is_cold, names in ((False, ("warm", "cold_user")), (True, ("cold_item", "cold_both"))):
            own = _values(ranks, ranks.hits & (cold == is_cold), (k,))
            for cold_user, cohort in zip((False, True), names, strict=True):
                found |= _of(own, cohort, answers["cold_user"] == cold_user)
    if "overlap" in answers:
        found |= _of(plain, "overlap", answers["overlap"])
    if "history" in answers:
        group = torch.bucketize(answers["history"], torch.tensor(STARTS, device=scores.device), right=True)
        for number, cohort in enumerate(HISTORIES):
            found |= _of(plain, cohort, group == number)
    return found


def _of(values: Mapping[str, Tensor], cohort: str, inside: Tensor) -> dict[str, Tensor]:
    """Values (B,) of the users ``inside`` (B,), as ``metric/cohort``."""
    return {f"{name}/{cohort}": each.masked_fill(~inside, torch.nan) for name, each in values.items()}


def _check(scores: Tensor, relevant: Tensor, candidates: Tensor | None, *lengths: int) -> None:
    if min(lengths) < 1:
        raise ValueError(f"k is {min(lengths)}, at least 1 is needed")
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
    rows, width = scores.shape
    row, column = (relevant if candidates is None else relevant & candidates).nonzero(as_tuple=True)
    count = torch.bincount(row, minlength=rows)
    most = max(1, int(count.max())) if rows else 1
    place = torch.arange(len(row), device=scores.device) - (count.cumsum(0) - count)[row]
    own = scores.new_full((rows, most), torch.nan)
    own[row, place] = scores[row, column]
    item = torch.zeros(own.shape, dtype=torch.int64, device=scores.device)
    item[row, place] = column
    hits = torch.arange(most, device=scores.device) < count[:, None]
    ranked, among = scores, torch.tensor(width, device=scores.device)
    if candidates is not None:
        ranked, among = scores.masked_fill(~candidates, -torch.inf), candidates.float().sum(1).long()
    if len(row) <= FEW * rows:
        start, end = _counted(ranked, own, count)
    else:
        ordered = ranked.sort(1).values
        start = width - torch.searchsorted(ordered, own, right=True)
        end = width - torch.searchsorted(ordered, own)
    # what is no candidate comes after those of the lowest score
    return _Ranks(hits, start, torch.minimum(end, among.unsqueeze(-1)), item, among)


def _counted(ranked: Tensor, own: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """How many of ``ranked`` (B, N) are above, and how many not below, the first ``count`` (B,) of ``own`` (B, R)."""
    order = torch.arange(len(count), device=count.device)
    if bool((count != count[:1]).any()):
        order = count.argsort(descending=True)  # the rows with a further one are then the first of all
        ranked, own = ranked[order], own[order]
    longer = (count[:, None] > torch.arange(own.shape[1], device=own.device)).sum(0).tolist()
    found = torch.zeros(2, *own.shape, dtype=torch.int64, device=own.device)
    room = torch.empty(ranked.shape, device=own.device)  # floats: a sum of bools takes 10 times as long on a CPU
    for place, rows in enumerate(longer):
        one, into = own[:rows, place : place + 1], room[:rows]
        found[0, :rows, place] = torch.gt(ranked[:rows], one, out=into).sum(1).long()
        found[1, :rows, place] = torch.ge(ranked[:rows], one, out=into).sum(1).long()
    above, upto = torch.empty_like(found).index_copy_(1, order, found).unbind(0)
    return above, upto


def _values(ranks: _Ranks, hits: Tensor, lengths: Sequence[int]) -> dict[str, Tensor]:
    """Metrics (B,) of the relevant items that ``hits`` (B, R) keeps, among all candidates, at each length."""
    start, end = ranks.start, ranks.end
    total, size = hits.sum(1), (end - start).clamp(min=1).double()
    reach = min(max(lengths), int(end.max()) if len(end) else 1)  # no relevant item stands behind
    position = torch.arange(1, reach + 1, dtype=torch.float64, device=hits.device)
    gain, harmonic = _added_up(1 / torch.log2(position + 1)), _added_up(1 / position)
    before, inside = _of_groups(start, hits)
    first, rank = _first_hit(hits, start, end, max(1, reach))
    values: dict[str, Tensor] = {}
    for k in lengths:
        low, high = start.clamp(max=min(k, reach)), end.clamp(max=min(k, reach))
        dcg = ((gain[high] - gain[low]) / size * hits).sum(1)
        found = ((high - low) / size * hits).sum(1)
        precisions = _precisions(before, inside, start, size, high - low, harmonic[high] - harmonic[low])
        shown = first * (rank <= k)
        most = total.clamp(max=k)
        values |= {
            f"ndcg@{k}": dcg / gain[most],
            f"recall@{k}": found / total,
            f"hr@{k}": shown.sum(1),
            f"mrr@{k}": (shown / rank).sum(1),
            f"map@{k}": (precisions / size * hits).sum(1) / most,
        }
    others = ranks.among - total
    ahead = ((start + end - 1) * hits).sum(1).double() / 2 - total * (total - 1) / 2  # others before a relevant one
    values["gauc"] = torch.where(others > 0, 1 - ahead / (total * others), torch.nan)
    # the clamp takes the last bit of rounding away
    return {name: torch.where(total > 0, value.clamp(0, 1), torch.nan) for name, value in values.items()}


def _added_up(values: Tensor) -> Tensor:
    """Sums (n + 1,) of the first 0 to n values (n,)."""
    return torch.cat((values.new_zeros(1), values.cumsum(0)))


def _of_groups(start: Tensor, hits: Tensor) -> tuple[Tensor, Tensor]:
    """How many hits stand before the tie group of each (B, R), and how many are in it."""
    ordered = start.masked_fill(~hits, torch.iinfo(start.dtype).max).sort(1).values
    before = torch.searchsorted(ordered, start)
    return before, torch.searchsorted(ordered, start, right=True) - before


def _precisions(
    before: Tensor, inside: Tensor, start: Tensor, size: Tensor, ranks: Tensor, reciprocal: Tensor
) -> Tensor:
    """Expected precision at the rank of a relevant item, summed over the ranks that its group may take up to k.

    Of a group of n items, r of them relevant, behind s others with h relevant: if one stands at rank p, the p - s - 1
    of its group before it are relevant with chance c = (r - 1) / (n - 1) each, so that the precision there is
    (h + 1 + c (p - s - 1)) / p = c + (h + 1 - c (s + 1)) / p on average, and its sum over p needs only how many
    ``ranks`` there are and the sum of their ``reciprocal`` (McSherry & Najork 2008, cut off at k).
    """
    chance = (inside - 1) / (size - 1).clamp(min=1)
    return chance * ranks + (before + 1 - chance * (start + 1)) * reciprocal


def _first_hit(hits: Tensor, start: Tensor, end: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return the chances (B, j) that the first hit is at the ranks (B, j), ``most`` of them or as the group is large.

    Only the first group with a relevant item matters: with n items, r of them relevant, behind s others, the first j of
    the group hold none with probability prod_{i<j} (n - r - i) / (n - i), and the next is then relevant with
    r / (n - j).
    """
    at = start.masked_fill(~hits, torch.iinfo(start.dtype).max).argmin(1, keepdim=True)  # (B, 1): one of that group
    before = start.gather(1, at)
    size = end.gather(1, at) - before
    inside = (hits & (start == before)).sum(1, keepdim=True)
    j = torch.arange(min(most, int(size.max()) if len(size) else 1), device=hits.device).unsqueeze(0)
    left = (size - j).clamp(min=1).double()
    miss = ((size - inside - j).clamp(min=0) / left).cumprod(1)
    none = torch.cat((torch.ones_like(miss[:, :1]), miss[:, :-1]), 1)
    return none * inside / left * (j < size), before + j + 1
