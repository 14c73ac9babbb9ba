"""FLOPs by hand: a catalogue's softmax, attention, a whole step; the limit, and what a run logs of it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from graftrec.evaluation.report import formatting, run_tables
from graftrec.runs.train import train
from graftrec.tasks.losses.catalogue import catalogue_softmax
from graftrec.training.callbacks.cost import Counter, entries_in, limit

Compose = Callable[[list[str]], dict[str, Any]]


@pytest.mark.parametrize("half", [False, True])
def test_a_softmax_is_three_products(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graftrec.tasks.losses.catalogue.AT_ONCE", 4000)  # several blocks, the last one smaller
    p, n, d = 30, 1000, 16
    queries, items = torch.randn(p, d, requires_grad=True), torch.randn(n, d, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=half), Counter() as counter:
        catalogue_softmax(queries, items, torch.randint(n, (p,)), torch.full((p,), 1 / p)).backward()
    assert counter.flops == 3 * 2 * p * n * d


@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_two_products_and_five_more(masked: bool) -> None:
    b, h, length, d = 3, 2, 40, 16
    q, k, v = (torch.randn(b, h, length, d, requires_grad=True) for _ in range(3))
    mask = torch.ones(b, 1, 1, length, dtype=torch.bool) if masked else None
    with Counter() as counter:
        found = F.scaled_dot_product_attention(q, k, v, mask, is_causal=not masked)
        forward = counter.flops
        found.sum().backward()
    product = 2 * b * h * length * length * d
    assert forward == 2 * product
    assert counter.flops == 7 * product  # backward computes the scores once more


def test_a_network_is_six_flops_a_weight_and_row() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    with Counter() as counter:
        net(torch.randn(5, 8)).sum().backward()
    assert counter.flops == 2 * 5 * (3 * (8 * 16 + 16 * 4) - 8 * 16)  # of the input no gradient


def test_entries_leave_the_catalogue_and_padding_out() -> None:
    one = {"user": torch.tensor([3, 4]), "sequence": torch.tensor([[0, 1], [5, 6]]), "catalogue": torch.arange(9)}
    assert int(entries_in({"one": one, "two": {"x": torch.tensor([1.0, 0.0])}})) == 6
    assert entries_in(({}, 0, 0)) == 0


def test_the_limit_is_measured_once() -> None:
    found, source = limit(torch.device("cpu"), "32-true")
    assert source == "a matrix product"
    assert 1e8 < found < 1e14
    assert limit(torch.device("cpu"), "32-true")[0] == found


@pytest.mark.parametrize(
    ("name", "precision", "rate"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16-mixed", 989e12),
        ("NVIDIA H100 PCIe", "16-mixed", 756e12),
        ("NVIDIA A100-SXM4-80GB", "bf16-true", 312e12),
        ("NVIDIA A100-SXM4-80GB", "32-true", 19.5e12),
    ],
)
def test_the_limit_of_a_known_gpu(name: str, precision: str, rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: name)
    assert limit(torch.device("cuda"), precision) == (rate, f"data sheet of {name}")


SEQUENCES = ["task@source=[]", "task@shared=[]", "task@target=[next_item]", "twin=false", "baselines=false"]


def test_a_run_says_what_it_cost(
    compose: Compose, shop_settings: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = compose([*SEQUENCES, "trunk=sasrec", "size=s", "++transfer.epochs=2", *shop_settings])
    train(tree, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    fit = metrics["fit"]
    parts = fit["parameters_of"]
    assert sum(parts.values()) == fit["parameters"]
    assert parts["trunk"] == 2 * (12 * 64**2 + 13 * 64) + 50 * 64 + 2 * 64  # blocks, positions, norm
    assert set(parts) == {"tables", "heads", "trunk"} | ({"encoder"} & set(parts))
    assert fit["flops"] > fit["flops_per_step"] > 0
    assert 0 < fit["utilisation"] == pytest.approx(fit["flops_per_second"] / fit["limit"])
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/flops")]
    assert len(rows) == 2
    assert float(rows[1]["train/flops"]) == pytest.approx(fit["flops"], rel=1e-6)
    assert float(rows[0]["train/flops"]) == pytest.approx(fit["flops"] / 2, rel=0.2)
    assert float(rows[1]["train/flops_per_step"]) > 0 < float(rows[1]["train/model_flops_utilisation"])
    line = run_tables.cost_line(metrics).plain
    assert f"{fit['parameters']:,} parameters (tables" in line
    assert line[:40] in capsys.readouterr().out.replace("\n", " ")


def test_amounts() -> None:
    assert formatting.amount(1.234e9, "FLOP") == "1.23 GFLOP"
    assert formatting.amount(12.0, "FLOP") == "12 FLOP"
    assert formatting.amount(0.0, "FLOP") == "0 FLOP"
    assert formatting.amount(5e15, "FLOP/s") == "5 PFLOP/s"
    assert formatting.amount(float("nan"), "FLOP") == formatting.DASH
