"""``graftrec compare RUN...``: runs that differ only in their seed are one group; groups are compared user by user."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from graftrec import config, yaml_limits
from graftrec.analysis.draws import holm, verdict
from graftrec.analysis.paired import signed_ranks, t_test
from graftrec.analysis.statistics import paired_difference
from graftrec.errors import UserError, outcome
from graftrec.files import whole
from graftrec.metrics.scale import sign
from graftrec.plain import tell
from graftrec.report import words
from graftrec.report.screen import screen

Array = npt.NDArray[np.float64]
ASIDE = ("seed", "logger", "hydra", "audit", "baselines", "twin")  # keys that make no other experiment
USAGE = """graftrec compare RUN... [--out FILE.json] [--metric NAME] [--task NAME] [--arm NAME]

RUN is a run folder, or a folder of runs such as a sweep's. The first group is what the others are compared with.
Without --metric the run's main metric counts, and all cohorts of it; the arm is grafted."""
NOT = "not significant"


@dataclass
class Group:
    """Runs of one experiment: seed -> folder."""

    name: str
    tree: dict[str, Any]
    runs: dict[int, Path] = field(default_factory=dict)


def run(argv: Sequence[str]) -> int:
    """Compare what the command line names; the exit code."""
    try:
        folders, options = _options(argv)
        if not folders:
            print(USAGE)
            return 0 if {"--help", "-h"} & set(argv) else 2
        report = compare(folders, options.get("metric"), options.get("task"), options.get("arm") or "grafted")
        if options.get("out"):
            _write(Path(options["out"]), report)
    except UserError as error:
        for problem in error.problems:
            tell(f"graftrec: {problem} (exit code {error.exit_code})")
        return error.exit_code
    except Exception as error:
        code, reason = outcome(error)
        tell(f"graftrec: {reason} (exit code {code})")
        return code
    show(report, screen())
    return 0


def compare(
    folders: Sequence[Path], metric: str | None = None, task: str | None = None, arm: str = "grafted"
) -> dict[str, Any]:
    """Means and spread over seeds of each group, and the paired tests of each against the first one.

    With one seed a comparison is Student's paired t over users; with several seeds that both groups have, it is
    `paired_difference`, over users with the seeds as a second level. Wilcoxon's signed ranks of the users' seed means
    stand beside it. The verdict uses Holm's p over all comparisons of one metric, cohorts apart.

    Raises:
        UserError: a folder that is no run, a task, metric or arm that is not there.
    """
    groups = groups_of(list(runs_in(folders)))
    task = task or _main(groups[0], "task")
    metric = metric or _main(groups[0], "metric")
    values = {group.name: {seed: units(path, task, arm) for seed, path in group.runs.items()} for group in groups}
    first = values[groups[0].name]
    there = [name for name in next(iter(first.values())) if name.partition("/")[0] == metric or name == metric]
    if not there:
        known = sorted({name.partition("/")[0] for name in next(iter(first.values()))})
        raise UserError(f"metric '{metric}' of task '{task}' has no values per user{config.near(str(metric), known)}")
    rows, tests = [], []
    for group in groups:
        for name in there:
            means = {seed: _mean(found.get(name)) for seed, found in values[group.name].items()}
            own = np.array([value for value in means.values() if not math.isnan(value)])
            rows.append({
                "group": group.name, "metric": name, "seeds": len(own), "of_seed": means,
                "mean": float(own.mean()) if len(own) else None,
                "spread": float(own.std(ddof=1)) if len(own) > 1 else None,
            })  # fmt: skip
    for group in groups[1:]:
        tests += [found for name in there if (found := _test(values[group.name], first, name, group, groups[0]))]
    for cohort in (False, True):
        family = [test for test in tests if ("/" in test["metric"]) is cohort]
        for test, p in zip(family, holm([test["p"] for test in family]), strict=True):
            test["p_holm"] = p
            said = verdict(test["delta"] * sign(test["metric"]), p)
            test["verdict"] = {"helps": "better", "hurts": "worse"}.get(said, NOT)
    return {"task": task, "metric": metric, "arm": arm, "groups": _described(groups), "means": rows, "tests": tests}


def runs_in(folders: Sequence[Path]) -> Iterator[Path]:
    """Run folders among these and one level below.

    Raises:
        UserError: a folder without any.
    """
    for folder in folders:
        inside = [folder] if _is_run(folder) else sorted(path for path in folder.glob("*") if _is_run(path))
        if not inside:
            raise UserError(f"{folder}: neither a finished run nor a folder of runs (no users.parquet in it)")
        yield from inside


def _is_run(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("users.parquet", "config.yaml", "metrics.json"))


def groups_of(runs: Sequence[Path]) -> list[Group]:
    """Runs that differ only in their seed together, in the order in which they are named; the same run once.

    The same experiment and seed a second time is a group of its own: what is compared is then how it repeats itself.

    Raises:
        UserError: nothing to compare.
    """
    groups: list[Group] = []
    for path in dict.fromkeys(runs):
        tree = yaml_limits.load(path / "config.yaml")
        kept = {key: value for key, value in tree.items() if key not in ASIDE}
        seed = int(tree.get("seed", 0))
        same = next((group for group in groups if group.tree == kept and seed not in group.runs), None)
        if same is None:
            same = Group("", kept)
            groups.append(same)
        same.runs[seed] = path
    for at, group in enumerate(groups):
        group.name = f"{chr(65 + at % 26)}{at // 26 or ''}"
    return groups


def units(folder: Path, task: str, arm: str) -> dict[str, pl.DataFrame]:
    """Metric -> columns user, row (of that user) and value of one run's arm.

    Raises:
        UserError: a task or an arm that is not there.
    """
    frame = pl.read_parquet(folder / "users.parquet")
    for column, asked in (("arm", arm), ("task", task)):
        known = frame[column].unique().sort().to_list()
        if asked not in known:
            raise UserError(f"{folder}: there is no {column} '{asked}'{config.near(asked, known)}")
        frame = frame.filter(pl.col(column) == asked)
    parts = frame.partition_by("metric", as_dict=True, maintain_order=True)
    return {
        str(name): part.select("user", pl.int_range(pl.len()).over("user").alias("row"), "value")
        for (name,), part in parts.items()
    }


def _test(
    own: Mapping[int, dict[str, pl.DataFrame]],
    first: Mapping[int, dict[str, pl.DataFrame]],
    name: str,
    group: Group,
    other: Group,
) -> dict[str, Any] | None:
    """One metric of a group against the first group's, over the users and seeds that both have."""
    seeds = sorted(set(own) & set(first))
    if not seeds:  # other seeds: in order, as far as both go
        pairs = list(zip(sorted(own), sorted(first), strict=False))
    else:
        pairs = [(seed, seed) for seed in seeds]
    joined: pl.DataFrame | None = None
    for at, (a, b) in enumerate(pairs):
        if name not in own[a] or name not in first[b]:
            return None
        both = own[a][name].join(first[b][name], on=["user", "row"], how="inner", suffix="_b")
        both = both.select("user", "row", pl.col("value").alias(f"a{at}"), pl.col("value_b").alias(f"b{at}"))
        joined = both if joined is None else joined.join(both, on=["user", "row"], how="inner")
    if joined is None:
        return None
    joined = joined.sort("user", "row")
    mine = np.stack([joined[f"a{at}"].to_numpy() for at in range(len(pairs))]).astype(np.float64)
    theirs = np.stack([joined[f"b{at}"].to_numpy() for at in range(len(pairs))]).astype(np.float64)
    difference = mine - theirs
    difference = difference[:, ~np.isnan(difference).any(0)]
    users = difference.mean(0) if difference.size else np.zeros(0)
    t, ranks = t_test(users), signed_ranks(users)
    both_levels = paired_difference(mine, theirs)
    return {
        "group": group.name, "against": other.name, "metric": name, "seeds": len(pairs), **asdict(both_levels),
        "p": t.p if len(pairs) == 1 else both_levels.p,
        "t": {"statistic": t.statistic, "p": t.p}, "wilcoxon": {"statistic": ranks.statistic, "p": ranks.p},
        "identical": bool((difference == 0).all()),
    }  # fmt: skip


def _mean(frame: pl.DataFrame | None) -> float:
    if frame is None:
        return math.nan
    values = frame["value"].to_numpy()
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else math.nan


def _main(group: Group, key: str) -> str:
    path = next(iter(group.runs.values())) / "metrics.json"
    return str(json.loads(path.read_text(encoding="utf-8"))["main"][key])


def _described(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Each group with its runs, and with the settings in which groups differ."""
    flat = [dict(_flat(group.tree)) for group in groups]
    keys = dict.fromkeys(key for one in flat for key in one)
    differing = [key for key in keys if len({str(one.get(key)) for one in flat}) > 1]
    return [
        {
            "name": group.name,
            "settings": {key: one[key] for key in differing if key in one},
            "runs": {str(seed): str(path) for seed, path in sorted(group.runs.items())},
        }
        for group, one in zip(groups, flat, strict=True)
    ]


def _flat(tree: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the groups, their means and what the tests say."""
    for group in report["groups"]:
        settings = ", ".join(f"{key}={value}" for key, value in group["settings"].items()) or "the same settings"
        console.print(Text(f"{group['name']}  ", style="bold").append(settings[:400], style="not bold"))
        console.print(Text(f"   {', '.join(group['runs'].values())}", style="dim"), soft_wrap=True)
    title = f"{report['task']} · test · {report['arm']}"
    table = Table(box=SIMPLE, title=Text(title), title_justify="left", padding=(0, 1), pad_edge=False)
    for head in ("group", "metric", "mean", "sd over seeds", "seeds"):
        table.add_column(head)
    for row in report["means"]:
        spread = words.DASH if row["spread"] is None else f"{row['spread']:.4f}"
        name, mean = Text(words.label(row["metric"])), words.shown(row["mean"])
        table.add_row(row["group"], name, mean, spread, str(row["seeds"]))
    console.print(table)
    if not report["tests"]:
        console.print("one group: nothing to compare it with")
        return
    table = Table(box=SIMPLE, title=Text("paired by user"), title_justify="left", padding=(0, 1), pad_edge=False)
    for head in ("groups", "metric", "difference", "p", "Holm p", "t test p", "Wilcoxon p", "verdict"):
        table.add_column(head, no_wrap=head in ("difference", "verdict"))
    for test in report["tests"]:
        said = test["verdict"] + (" (identical)" if test["identical"] else "")
        style = {"better": "green", "worse": "red"}.get(test["verdict"], "dim")
        table.add_row(
            f"{test['group']} - {test['against']}", Text(words.label(test["metric"])), words.interval(test),
            *(f"{value:.3g}" for value in (test["p"], test["p_holm"], test["t"]["p"], test["wilcoxon"]["p"])),
            Text(said, style=style),
        )  # fmt: skip
    console.print(table)
    seeds = max(test["seeds"] for test in report["tests"])
    note = "p: over users" + (" and seeds" if seeds > 1 else "; one seed says nothing of another")
    console.print(Text(note, style="dim"))


def _options(argv: Sequence[str]) -> tuple[list[Path], dict[str, str]]:
    """Folders and ``--name value`` or ``--name=value``.

    Raises:
        UserError: an option that is not there, or one without a value.
    """
    folders, options, rest = [], {}, list(argv)
    names = ("out", "metric", "task", "arm")
    while rest:
        word = rest.pop(0)
        if word in ("--help", "-h"):
            return [], {}
        if not word.startswith("--"):
            folders.append(Path(word))
            continue
        name, equals, value = word[2:].partition("=")
        if name not in names:
            raise UserError(f"{word}: no such option{config.near(name, names)}")
        if not equals and not rest:
            raise UserError(f"{word}: has no value")
        options[name] = value if equals else rest.pop(0)
    return folders, options


def _write(path: Path, content: Mapping[str, Any]) -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, list):
            return [plain(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    with whole(path) as draft:
        draft.write_text(json.dumps(plain(content), indent=2) + "\n", encoding="utf-8")
