"""Titles, ids and names of strangers are shown as text: on every page, in every table and in every CSV."""

from __future__ import annotations

import functools
import http.server
import io
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.table import Table

from graftrec.cli import doctor, main
from graftrec.evaluation.report import auto_table, run_tables
from graftrec.evaluation.report.console import Screen
from graftrec.evaluation.report.run_page import write_report
from graftrec.runs.audit import audit_page, heat_map, matrix_table
from graftrec.runs.compare import show
from graftrec.runs.job import attempt
from graftrec.runs.sweep import job_log, sweep_summary
from graftrec.runs.sweep.job_log import Entry
from graftrec.utils import csv_safety
from graftrec.utils.errors import DataError, UserError

CHROMIUM = shutil.which("chromium") or ""
TITLES = [
    "<script>document.title='run'</script>",
    "</script><script>document.title='run'</script>",
    '"><img src=x onerror="document.title=\'run\'">',
    "'><svg onload=document.title='run'>",
    "javascript:document.title='run'",
    "<iframe srcdoc='<script>top.document.title=1</script>'>",
    "</title><base href=//127.0.0.1:9/>",
    "</pre></table><style>*{display:none}</style>",
    "a|b`c`[d](javascript:1)",
    "\u202etxet",
    "$\\frac{$",
    "&lt;b&gt; &amp; &#60;",
]
TERMINAL = [
    "[/foo]", "[bold]x[/]", "[link=http://127.0.0.1:9]x[/link]", ":smile:", "\x1b[31mred", "\x1b]0;title\x07",
    "\x9b31m", "\x1b]8;;http://127.0.0.1:9\x1b\\x", "a\rb", "a\x08b", "\u202etxet", "\u2066x",
]  # fmt: skip


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def is_harmless(text: str) -> Page:
    page = Page(text)
    names = [tag for tag, _ in page.tags]
    assert names.count("style") == names.count("title") == 1
    assert not set(names) & {"script", "iframe", "object", "embed", "svg", "base", "form", "link", "input"}
    policy = {"http-equiv": "Content-Security-Policy"}
    (content,) = [str(a["content"]) for tag, a in page.tags if tag == "meta" and policy.items() <= a.items()]
    assert "default-src 'none'" in content
    assert "script-src" not in content
    assert names.index("title") > names.index("meta")
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert str(attributes.get("src", "data:image/png;base64,")).startswith("data:image/png;base64,")
        assert re.match(r"\./[\w.%~/-]+$", str(attributes.get("href", "./x")))
    return page


def renamed(metrics: dict[str, Any], title: str) -> dict[str, Any]:
    """Scores in which a title stands wherever a name can."""
    metrics = json.loads(json.dumps(metrics).replace('"recommend"', json.dumps(title)))
    metrics["baselines"][title][title] = {"ndcg@10": 0.5, title: 0.5}
    metrics["test"][title][title] = None
    metrics["reasons"][f"test/{title}/{title}"] = title
    metrics["chosen"] = {title: title}
    beside = metrics["beside"][title]
    beside |= {"best": title, "weak": title, "twin": {title: beside["twin"]["item_knn"]}}
    beside["grafted"] = {title: beside["grafted"]["item_knn"]}
    metrics["fitted_on"][title][title] = title
    return metrics


def audit(title: str) -> dict[str, Any]:
    """What an audit found of two sources with this title in their names."""
    cell = {
        "target": title, "metric": "ndcg@10", "cohort": None, "delta": 0.1, "low": 0.05, "high": 0.2, "p": 0.01,
        "p_holm": 0.02, "n_users": 9, "minimum_detectable": 0.1, "verdict": "helps", "seconds": 1.0, "parameters": 5,
        "gradient_cosine": {title: 0.5},
    }  # fmt: skip
    cells = [cell | {"sources": [title]}, cell | {"sources": [title, "b"]}, cell | {"sources": ["b"], "cohort": title}]
    return {
        "main": {title: "ndcg@10"}, "cells": cells, "twins": {title: {"ndcg@10": [0.1, 0.0, 0.2]}},
        "baselines": {title: {title: {"ndcg@10": 0.5}}}, "command": title, "seeds": [0, 1, 2], "seconds": 1.0,
        "family": {"size": 3, "declared": [title]}, "auto": {title: auto(title) | {"strengths": {title: 1.0}}},
        "beside": {title: {
            "metric": "ndcg@10", "best": title, "value": 0.2, "weak": title, "twin": {title: cell},
            "grafted": {title: cell},
        }},
        "best": {title: {"metric": "ndcg@10", "arm": title, "sources": [title], "value": 0.1}},
    }  # fmt: skip


def auto(title: str) -> dict[str, Any]:
    step = {"sources": {title: 1.0}, "over": {}, "gain": 0.1, "error": 0.01, "harmed": [title], "verdict": "clear"}
    return {
        "tried": [step], "reason": title, "trials": 1, "budget": 2, "seconds": 1.0, "cannot": {title: title},
    }  # fmt: skip


def run_page(folder: Path, metrics: dict[str, Any], title: str) -> Path:
    (folder / "metrics.json").write_text(json.dumps(renamed(metrics, title) | {"auto": auto(title)}))
    (folder / "data_card.json").write_text(json.dumps({"dataset": title, "users": 1, title: [title, {title: title}]}))
    (folder / "config.yaml").write_text(f"note: {title}\n")
    return write_report(folder, f"graftrec train note={title}")


def sweep_page(folder: Path, metrics: dict[str, Any], title: str) -> Path:
    names = ("javascript:1", "b")
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "metrics.json").write_text(json.dumps(renamed(metrics, title)))
    jobs = [
        Entry((f"x={title}",), names[0], job_log.FINISHED, 0, 0.5, 1.0),
        Entry((title,), names[1], job_log.FINISHED),
    ]
    sweep_summary.write(
        folder, [*jobs, Entry(("y=1",), "", job_log.FAILED, 65, None, 1.0, title)], title, lambda job: title
    )
    return folder / "report.html"


def matrix_page(folder: Path, metrics: dict[str, Any], title: str) -> Path:
    folder.mkdir(exist_ok=True)
    heat_map.draw(audit(title), folder / "transfer_matrix.png")
    return audit_page.write(folder, audit(title))


@pytest.mark.parametrize("write", [run_page, sweep_page, matrix_page])
def test_a_page_holds_text_and_nothing_that_runs(
    write: Callable[[Path, dict[str, Any], str], Path], run_folder: Path, metrics: dict[str, Any]
) -> None:
    title = " ".join(TITLES)
    page = is_harmless(write(run_folder, metrics, title).read_text())
    everything = "".join(page.texts)
    for each in TITLES:
        assert each.replace("_", " ") in everything.replace("_", " "), each


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here")
def test_a_browser_runs_nothing_and_asks_nobody(run_folder: Path, metrics: dict[str, Any], tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *args: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=str(run_folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        titles = " ".join(
            [*TITLES, f'"><img src="{address}/evil.png">', f'<link rel=stylesheet href="{address}/x.css">']
        )
        run_page(run_folder, metrics, titles)
        (run_folder / "plain.html").write_text(f"<title>x</title>{titles}")  # without our care all of it happens
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        for name in ("report.html", "plain.html"):
            asked.clear()
            command = [
                CHROMIUM,
                *flags,
                f"--user-data-dir={tmp_path / name}.profile",
                "--dump-dom",
                f"{address}/{name}",
            ]
            seen = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
            ran = "<title>run</title>" in seen
            others = [path for path in asked if path not in (f"/{name}", "/favicon.ico")]
            assert (ran, bool(others)) == (name == "plain.html", name == "plain.html"), (name, others)
        server.shutdown()


# --- the terminal


def printed(*what: Any) -> str:
    console = Screen(file=io.StringIO(), width=400, force_terminal=False)
    for each in what:
        console.print(each)
    return console.file.getvalue()  # type: ignore[attr-defined]


def is_obeyed_by_none(said: str) -> None:
    odd = {letter for letter in said if letter != "\n" and not letter.isprintable()}
    assert odd == set(), odd


def without_codes(title: str) -> str:
    return "".join(letter for letter in title if letter.isprintable())


@pytest.mark.parametrize("title", TERMINAL)
def test_no_table_obeys_a_title(title: str, metrics: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"role": "target", "task": title, "learns": title, "reads": title, "loss": title, "rows": 12}]
    jobs = [(Entry((f"x={title}",), "f", job_log.FINISHED, 0, 0.5, 1.0), renamed(metrics, title))]
    jobs += [(Entry(("y",), "", job_log.FAILED, 65, None, 1.0, title), {})]
    report = {
        "groups": [{"name": "A", "settings": {title: title}, "runs": {"0": title}}], "task": title, "arm": title,
        "means": [{"group": "A", "metric": title, "mean": 0.1, "spread": None, "seeds": 1}], "tests": [],
    }  # fmt: skip
    compared = Screen(file=io.StringIO(), width=400)
    show(report, compared)
    found = renamed(metrics, title)
    table = Table(title=title)
    table.add_column(title)
    table.add_row(title)
    said = printed(
        *run_tables.result_tables(found), *run_tables.undefined_lines(found), run_tables.verdict_line(found),
        run_tables.roles_table(rows, 0.1), run_tables.data_line({"dataset": title}, 1.0),
        run_tables.closing_lines(Path("runs") / title.replace("/", "-"), title), sweep_summary.sweep_table(jobs),
        *sweep_summary.sentences({"best": None, "front": []}, [job for job, _ in jobs]), auto_table.table(auto(title)),
        auto_table.line(auto(title)), *matrix_table.tables(audit(title)), *matrix_table.lines(audit(title)), table,
        title,
    ) + compared.file.getvalue()  # fmt: skip  # type: ignore[attr-defined]
    is_obeyed_by_none(said)
    shown = said.replace(" ", "")
    assert shown.count(without_codes(title).replace(" ", "").replace("_", "")) > 20

    def fails() -> None:
        raise DataError("DATA-001", f"a.csv:3 has '{title}'")

    assert attempt(fails)[0] == 65
    assert attempt(lambda: exec("raise UserError([title, title])", {"UserError": UserError, "title": title}))[0] == 2
    assert attempt(lambda: {}[title])[0] == 1  # type: ignore[index]  # with its traceback
    assert main.main(["train", f"trunk={title}", f"+{title}=1"]) == 2
    assert main.main([title]) == 2
    is_obeyed_by_none(capsys.readouterr().err)


def test_a_data_card_and_doctor_obey_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Columns, domains and categories of a stranger's CSV."""
    monkeypatch.chdir(tmp_path)
    evil = "x\x1b[31m[/a]"
    rows = {"user": [1, 2, 3, 4] * 5, "item": [1, 2] * 10, evil: [1, 0] * 10, "part": [evil, "b"] * 10}
    pl.DataFrame(rows).write_parquet("rows.parquet")
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    tree = {"_target_": "graftrec.data.datasets.files.Files", "path": "rows.parquet", "labels": {evil: "binary"}}
    (tmp_path / "conf" / "dataset" / "evil.yaml").write_text(json.dumps(tree))
    settings = ["--config-dir", "conf", "dataset=evil", "++dataset.domain=part", "++dataset.name='[b]'"]
    keys = ["++dataset.user=user", "++dataset.item=item", "split=random", "++candidates.min_users=0"]
    code = main.main(["data", "check", *settings, "protocol=cross_domain", *keys])
    found = capsys.readouterr()
    is_obeyed_by_none(found.out + found.err)
    assert code == 0, found.err
    assert "[/a]" in found.out
    monkeypatch.setenv("WANDB_MODE", "\x1b[31moffline")
    monkeypatch.setattr(doctor, "_gpu", lambda: "none")
    doctor.main()
    is_obeyed_by_none(capsys.readouterr().out)


def test_a_spreadsheet_runs_no_text() -> None:
    texts = [
        "=1+1",
        "+1",
        "-1",
        "@x",
        "\t=1",
        "\r",
        "'=1",
        "''@",
        "plain",
        "'x",
        "",
        None,
        '=HYPERLINK("http://a","b")',
    ]
    numbers = [-1.5, *range(1, len(texts))]
    frame = pl.DataFrame({"item": texts, "score": numbers, "rank": [-n for n in range(len(texts))]}, strict=False)
    safe = csv_safety.guarded(frame)
    assert not [text for text in safe["item"] if text and text[0] in "=+-@\t\r\n"]
    assert safe["item"].to_list()[8:12] == ["plain", "'x", "", None]
    assert safe.select("score", "rank").equals(frame.select("score", "rank"))
    read = pl.read_csv(io.StringIO(safe.write_csv(quote_style="non_numeric")), schema=frame.schema)
    assert csv_safety.restored(read.with_columns(pl.col("item").replace("", None))).equals(
        frame.with_columns(pl.col("item").replace("", None))
    )
    assert csv_safety.restored(safe).equals(frame)
