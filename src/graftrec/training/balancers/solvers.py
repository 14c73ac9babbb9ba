"""Small convex problems that several balancers solve in every step, for T <= 20 or so."""

from __future__ import annotations

import torch
from torch import Tensor


def nonnegative(matrix: Tensor, target: Tensor, tolerance: float = 1e-10) -> Tensor:
    """argmin over x >= 0 of x^T A x / 2 - x^T b for a positive definite A (T, T).

    C. Lawson, R. Hanson, Solving Least Squares Problems, 1974, chapter 23: an active set, which ends exactly.
    """
    x, free = torch.zeros_like(target), torch.zeros_like(target, dtype=torch.bool)
    for _ in range(10 * len(x)):
        slope = (target - matrix @ x).masked_fill(free, -torch.inf)
        if slope.max() <= tolerance:
            break
        free[slope.argmax()] = True
        while free.any():
            solved = torch.zeros_like(x)
            solved[free] = torch.linalg.solve(matrix[free][:, free], target[free])
            blocked = free & (solved <= 0)
            if not blocked.any():
                x = solved
                break
            step = (x / (x - solved))[blocked].min()  # as far as none becomes negative
            x = x + step * (solved - x)
            free &= ~(blocked & (x <= tolerance))
            x = torch.where(free, x, 0)
    return x


def mixture(gramian: Tensor, slope: Tensor, radius: float, smallest: float) -> Tensor:
    """argmin over the simplex of slope @ w + radius |g_w|, |g_w|^2 = w^T G w: a primal-dual interior-point method.

    |g_w| has a kink at 0, which is rounded below ``smallest``.
    """
    count = len(gramian)
    w, z = torch.full_like(slope, 1 / count), torch.ones_like(slope)  # z: the price of w >= 0
    system = torch.zeros(count + 1, count + 1, dtype=w.dtype)
    system[:count, count] = system[count, :count] = 1  # the sum stays 1
    for _ in range(100):  # 15 are usual
        pull = gramian @ w
        length = (w @ pull + smallest**4).clamp_min(smallest**4).sqrt()
        gradient = slope + radius * pull / length
        gap = w @ z
        barrier = 0.1 * gap / count
        curved = radius * (gramian - torch.outer(pull, pull) / length**2) / length
        system[:count, :count] = curved + torch.diag(z / w)
        step = torch.linalg.solve(system, torch.cat([barrier / w - gradient, gap.new_zeros(1)]))[:count]
        if gap < 1e-10 and step.abs().max() < 1e-8:
            break
        rise = (barrier - z * step) / w - z
        size = 0.99 / torch.cat([-step / w, -rise / z]).max().clamp_min(0.99)  # both stay above 0
        w, z = w + size * step, z + size * rise
    return w / w.sum()
