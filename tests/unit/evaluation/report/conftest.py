"""A run folder as training leaves it."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from graftrec.training.loggers.logs import CsvLog


def difference(delta: float, low: float, high: float, p: float, verdict: str | None = None) -> dict[str, Any]:
    """What metrics.json says of a difference over three seeds; it is of the family where it has a verdict."""
    found = {"delta": delta, "low": low, "high": high, "p": p, "n": 812, "seeds": 3, "error": (high - low) / 4}
    judged = {"p_holm": min(1.0, 3 * p), "verdict": verdict, "minimum_detectable": 0.0123}
    return found | (judged if verdict else dict.fromkeys(judged))


def sample_metrics() -> dict[str, Any]:
    """Scores of a run with a source, a target and a shared task."""
    same = difference(0.003, -0.004, 0.010, 0.41, "no evidence")
    helps = difference(0.021, 0.008, 0.034, 0.002, "helps")
    first = difference(0.012, -0.004, 0.028, 0.41)
    hurts = difference(-0.012, -0.020, -0.004, 0.004, "hurts")
    return {
        "test": {
            "interest": {"accuracy": 0.412, "f1_macro": 0.287},
            "recommend": {"hr@10": 0.702, "ndcg@10": 0.601, "mrr@10": 0.544, "ndcg@10/first_time": 0.061, "auc": None},
            "relevance": {"rmse": 0.182},
        },
        "val": {"recommend": {"ndcg@10": 0.610}},
        "twin": {"recommend": {"hr@10": 0.681, "ndcg@10": 0.598, "mrr@10": 0.556, "ndcg@10/first_time": 0.049}},
        "baselines": {
            "interest": {"majority": {"accuracy": 0.301, "f1_macro": 0.046}},
            "recommend": {
                "popularity": {"hr@10": 0.412, "ndcg@10": 0.274, "mrr@10": 0.21, "ndcg@10/first_time": 0.036},
                "own_frequency": {"hr@10": 0.655, "ndcg@10": 0.577, "mrr@10": 0.53, "ndcg@10/first_time": None},
                "item_knn": {"hr@10": 0.610, "ndcg@10": 0.552, "mrr@10": 0.49, "ndcg@10/first_time": 0.050},
            },
        },
        "differences": {"recommend": {"hr@10": helps, "ndcg@10": same, "mrr@10": hurts, "ndcg@10/first_time": first}},
        "beside": {
            "recommend": {
                "metric": "ndcg@10",
                "best": "own_frequency",
                "value": 0.577,
                "weak": None,
                "twin": {"own_frequency": helps, "item_knn": helps},
                "grafted": {"own_frequency": helps, "item_knn": helps},
            }
        },
        "seeds": [0, 1, 2],
        "spread": {"test": {"recommend": {"ndcg@10": 0.007}}, "twin": {"recommend": {"ndcg@10": 0.009}}},
        "family": {"size": 3, "declared": ["hr@10", "mrr@10"]},
        "fitted_on": {"recommend": {"popularity": "train", "own_frequency": "train + val", "item_knn": "train + val"}},
        "reasons": {
            "test/recommend/auc": "0 positives of 812 rows",
            "baselines/recommend/own_frequency/ndcg@10/first_time": "own items are never first time",
        },
        "roles": {"interest": "source", "recommend": "target", "relevance": "shared"},
        "main": {"task": "recommend", "metric": "ndcg@10"},
        "mains": {"recommend": "ndcg@10"},
        "fit": {"seconds": 31.2, "rows_per_second": 42100.0, "parameters": 812_345},
        "chosen": {"epoch": 6, "lambda_shared": 0.1},
    }


def write_csv(folder: Path) -> Path:
    """Losses and validation scores of two phases."""
    log, noise = CsvLog(folder), random.Random(0)
    for phase, gain in (("joint", 0.02), ("twin", 0.0)):
        log.phase(phase)
        for step in range(0, 400, 5):
            decay = math.exp(-step / 120) + noise.gauss(0, 0.02)
            values = {"train/loss/target": 0.04 + 0.3 * decay, "epoch": step // 50}
            if phase == "joint":
                values |= {"train/loss/source": 2 + decay, "train/loss/shared": 0.01 + 0.1 * decay}
                values |= {"train/loss/interest": 2 + decay}
            values["train/loss/total"] = sum(value for key, value in values.items() if "loss" in key)
            log.log_metrics(values, step)
            if step % 50 == 45:
                rise = 1 - math.exp(-step / 150)
                score = {"val/recommend/ndcg@10": (0.58 + gain) * rise, "val/recommend/hr@10": (0.68 + gain) * rise}
                log.log_metrics({**score, "val/interest/accuracy": 0.4, "epoch": step // 50}, step)
        log.finalize("success")
    return log.path


def fill(folder: Path, dataset: str = "complete_journey", metrics: dict[str, Any] | None = None) -> Path:
    """Every file that the report reads."""
    card = {
        "dataset": dataset, "rows": 112_479, "users": 200, "items": 5_656,
        "first": "2017-01-01T11:54:00", "last": "2018-01-01T03:12:00",
        "refused": {"no time": 3}, "splits": {"train": 90_000, "val": 11_000, "test": 11_479},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics or sample_metrics()))
    (folder / "data_card.json").write_text(json.dumps(card))
    (folder / "config.yaml").write_text("seed: 1\nlambda_shared: 0.1\nnote: <b>&</b>\n")
    write_csv(folder)
    return folder


@pytest.fixture
def metrics() -> dict[str, Any]:
    """Scores of one run, free to change."""
    return sample_metrics()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A complete run folder."""
    return fill(tmp_path / "run")


@pytest.fixture(params=[1, 2])
def unjudged(request: pytest.FixtureRequest, metrics: dict[str, Any]) -> dict[str, Any]:
    """The same scores as a run of so few seeds has them: no verdict, whatever the numbers."""
    beside = metrics["beside"]["recommend"]
    for differences in (metrics["differences"]["recommend"], beside["twin"], beside["grafted"]):
        for each in differences.values():
            each |= {"seeds": request.param, "verdict": None}
    return metrics | {"seeds": [7, 8][: request.param]} | ({"spread": {}} if request.param == 1 else {})
