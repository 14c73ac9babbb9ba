"""Two regression tasks whose relatedness is a setting: the synthetic data of the MMoE paper."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from graftrec.data.datasets.base import Dataset
from graftrec.data.tables.builder import Builder, Shape
from graftrec.data.tables.interactions import Column, Interactions
from graftrec.utils.seeds import derived

Array = npt.NDArray[np.float64]


class MMoESynthetic(Dataset):
    """Two numbers ``y1`` and ``y2`` of a vector ``x``, drawn in training, validation and test rows (`split=official`).

    u1, u2 orthogonal unit vectors of R^d,  w1 = c u1,  w2 = c (p u1 + sqrt(1 - p^2) u2),  x ~ N(0, I),
    y_k = w_k . x + sum_i sin(a_i w_k . x + b_i) + N(0, s^2)

    J. Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, KDD 2018,
    https://doi.org/10.1145/3219819.3220007, section 3.2. p is the cosine of the weights; the Pearson correlation of the
    labels grows with it. Where we differ: the paper prints neither c nor the sines; here c = 1, a_i = i + 1 and b_i =
    i for i = 1 to ``sines``. x and the noise are the same for every ``correlation``, so that runs can be paired.

    Args:
        correlation: p in [-1, 1]. dimension: d, at least 2. sines: how many, at least 0. noise: s, at least 0.
        train, val, test: rows. seed: of everything that is drawn.
    """

    origin = "drawn by code (J. Ma et al., KDD 2018, section 3.2)"

    def __init__(
        self,
        correlation: float = 0.5,
        dimension: int = 100,
        sines: int = 2,
        noise: float = 0.1,
        train: int = 50_000,
        val: int = 2_000,
        test: int = 5_000,
        seed: int = 0,
    ) -> None:
        if not -1 <= correlation <= 1:
            raise ValueError(f"correlation should be in [-1, 1]. Found {correlation}.")
        if dimension < 2 or sines < 0 or noise < 0:
            raise ValueError(
                f"dimension should be at least 2, sines and noise at least 0. Found {dimension}, {sines}, {noise}."
            )
        if min(train, val, test) < 1:
            raise ValueError(f"train, val and test should be at least 1. Found {train}, {val}, {test}.")
        self.correlation, self.dimension, self.sines, self.noise = correlation, dimension, sines, noise
        self.rows, self.seed = (train, val, test), seed

    def weights(self) -> Array:
        """w1 and w2 (2, d)."""
        random = np.random.default_rng(derived(self.seed, "mmoe_synthetic", "weights"))
        u1, u2 = np.linalg.qr(random.normal(size=(self.dimension, 2)))[0].T
        found: Array = np.stack([u1, self.correlation * u1 + np.sqrt(1 - self.correlation**2) * u2])
        return found

    def signal(self, projected: Array) -> Array:
        """The labels without noise, of w . x (...)."""
        return projected + sum(
            (np.sin((i + 1) * projected + i) for i in range(1, self.sines + 1)), np.zeros_like(projected)
        )

    def read(self) -> Interactions:
        random = np.random.default_rng(derived(self.seed, "mmoe_synthetic", "rows"))
        x = random.normal(size=(sum(self.rows), self.dimension))
        y1, y2 = (self.signal(x @ self.weights().T) + random.normal(0, self.noise, (len(x), 2))).T
        builder = Builder(Shape(split=True, columns={"x": Column("vector")}, labels={"y1": "number", "y2": "number"}))
        frame = pl.DataFrame({"split": np.repeat(np.arange(3), self.rows), "y1": y1, "y2": y2})
        builder.add(frame, {"x": x.astype(np.float32)})
        note = f"made by code: the weights of y1 and y2 have the cosine {self.correlation:g}"
        return builder.done("mmoe_synthetic", notes=(note,))
