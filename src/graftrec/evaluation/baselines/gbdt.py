"""Gradient-boosted trees: what a user would pick instead for labels of single rows. The only scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from graftrec.data.batch import Batch
from graftrec.data.schema import Feature, Label
from graftrec.data.streams.rows import EVALUATED_AT_ONCE, TableRows

MOST_ROWS = 2_000_000
MOST_KINDS = 255  # that scikit-learn takes for categories; ids of larger tables enter as numbers

Array = npt.NDArray[np.float64]
Weights = Callable[[Tensor, Batch], Tensor]
"""Of labels (B,) and their batch: the weights (B,) of the rows, see `Task.row_weights`."""


def gbdt(stream: TableRows, label: Label, labels: Callable[[Batch], Tensor], weights: Weights) -> Tensor | str:
    """What scikit-learn's histogram boosting, the algorithm of LightGBM (Ke et al., NIPS 2017), says of the test rows.

    That is a probability or a number for each row (n,), also for those without a label; or why there are none: no
    scikit-learn, a category, nothing to learn, or more than 2,000,000 rows.

    Fitted on training and validation rows, all that a network sees; it draws as many of them as validation has to stop
    early. Features are the stream's ids, numbers and vectors: several ids in a field, what is known of a user or an
    item beside the id, and histories are left out.

    Args:
        labels: the labels (B,) of a batch, NaN where missing (nothing is learnt from these rows). weights: what the
            squared error or the cross-entropy of each row is multiplied with.
    """
    rows = stream.splits["train"] + stream.splits["val"]
    if find_spec("sklearn") is None:
        return "scikit-learn is not installed: pip install 'graftrec[gbdt]'"
    if label.kind == "category":
        return "boosted trees are fitted to binary labels and numbers"
    if rows > MOST_ROWS:
        return f"{rows:,} rows; up to {MOST_ROWS:,} are fitted"
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    features = [feature for feature in stream.schema.features if feature.kind in ("id", "number", "vector")]
    draws = torch.Generator()  # a table's batch draws nothing
    training = (stream.batch(index, draws) for index in torch.split(torch.arange(stream.rows), EVALUATED_AT_ONCE))
    parts = [_table(features, labels, weights, batches) for batches in (training, stream.evaluation("val"))]
    x, y, weight = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    if not features or len(np.unique(y)) < 2:
        return "no feature, or one value of the label in all rows to learn from"
    kind: Any = HistGradientBoostingClassifier if label.kind == "binary" else HistGradientBoostingRegressor
    model = kind(
        categorical_features=_categories(x, features),
        max_iter=500,
        early_stopping=True,
        validation_fraction=max(2, len(parts[1][0])) / len(x),
        random_state=0,
    ).fit(x, y, sample_weight=weight)
    asked = torch.cat([_columns(features, batch) for batch in stream.evaluation("test")]).double().numpy()
    return torch.from_numpy(model.predict_proba(asked)[:, 1] if label.kind == "binary" else model.predict(asked))


def _table(
    features: Sequence[Feature], labels: Callable[[Batch], Tensor], weights: Weights, batches: Iterable[Batch]
) -> tuple[Array, Array, Array]:
    """Features (n, M), labels (n,) and weights (n,) of the labelled rows."""
    x, y, weight = [torch.zeros(0, sum(feature.size or 1 for feature in features))], [torch.zeros(0)], [torch.zeros(0)]
    for batch in batches:
        label = labels(batch)
        kept = ~label.isnan()
        x.append(_columns(features, batch)[kept])
        y.append(label[kept])
        weight.append(weights(label, batch)[kept])
    return torch.cat(x).double().numpy(), torch.cat(y).double().numpy(), torch.cat(weight).double().numpy()


def _columns(features: Sequence[Feature], batch: Batch) -> Tensor:
    """Features (B, M) of a batch."""
    columns = [batch[feature.name].float() for feature in features]
    return torch.cat([values.view(len(values), -1) for values in columns], 1)


def _categories(x: Array, features: Sequence[Feature]) -> list[int]:
    """Columns of ids that scikit-learn can take for categories."""
    found, at = [], 0
    for feature in features:
        if feature.kind == "id" and x[:, at].max() < MOST_KINDS:
            found.append(at)
        at += feature.size or 1
    return found
