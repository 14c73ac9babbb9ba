"""``graftrec compare RUN...``: runs that differ only in their seed are one group; groups are compared user by user."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from graftrec.config import instantiate
from graftrec.config.flags import COMMANDS
from graftrec.evaluation.comparable_runs import check_belonging, data_of
from graftrec.evaluation.report import formatting
from graftrec.evaluation.report.console import screen
from graftrec.evaluation.statistics import user_values
from graftrec.evaluation.statistics.intervals import FEWEST_SEEDS, by_user
from graftrec.evaluation.statistics.paired_tests import signed_ranks, t_test
from graftrec.evaluation.statistics.user_values import USER, Values, difference_of
from graftrec.evaluation.statistics.verdicts import Cell, decide
from graftrec.runs.audit.arms import BESIDE
from graftrec.runs.resume import status_of
from graftrec.runs.trainings import seeds_of
from graftrec.utils import record_files
from graftrec.utils.atomic_files import whole
from graftrec.utils.errors import UserError, outcome
from graftrec.utils.terminal_text import tell

ASIDE = ("seed", *BESIDE)  # keys that make no other experiment
NOT = "not significant"


@dataclass
class Group:
    """Runs of one experiment: seed -> folder; a run of several seeds is there under each."""

    name: str
    tree: dict[str, Any]
    runs: dict[int, Path] = field(default_factory=dict)
    declared: list[str] = field(default_factory=list)


def run(argv: Sequence[str]) -> int:
    """Compare what the command line names; the exit code."""
    try:
        folders, options = COMMANDS["compare"].read(argv)
        report = compare(
            list(map(Path, folders)), options.get("metric"), options.get("task"), options.get("arm") or "grafted"
        )
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

    A difference is `difference_of`, as `graftrec train` and `graftrec audit` have it: over users, with the seeds that
    both groups have as a second level. Wilcoxon's signed ranks and Student's t of the users' seed means stand beside
    it. Verdicts are of the task's main metric and of what every group declared (``verdicts``), by Holm's p over all
    groups; other metrics and cohorts are shown without, whoever asks for them.

    Raises:
        UserError: a folder that is no run; a task, metric or arm that is not there; runs that do not belong together:
            of other data, another split, other candidates or another task. DataError: a run whose files are damaged.
    """
    groups = groups_of(list(runs_in(folders)))
    _must_be_of_the_same_data(groups)
    task = task or _main(groups[0], "task")
    metric = metric or _mains(groups[0]).get(task) or _main(groups[0], "metric")
    check_belonging([path for group in groups for path in dict.fromkeys(group.runs.values())], task)
    numbers = _numbers(next(iter(groups[0].runs.values())), task)
    values = {
        group.name: {seed: values_of(path, task, arm, seed, numbers) for seed, path in group.runs.items()}
        for group in groups
    }
    first = values[groups[0].name]
    known = [name for name in next(iter(first.values())) if name != USER]
    there = [name for name in known if name.partition("/")[0] == metric or name == metric]
    if not there:
        stems = sorted({name.partition("/")[0] for name in known})
        raise UserError(
            f"metric '{metric}' of task '{task}' has no values per user{instantiate.near(str(metric), stems)}"
        )
    rows, cells, tests = [], [], []
    for group in groups:
        for name in there:
            means = {seed: _mean(found.get(name)) for seed, found in values[group.name].items()}
            own = np.array([value for value in means.values() if not math.isnan(value)])
            rows.append({
                "group": group.name, "metric": name, "seeds": len(own), "of_seed": means,
                "mean": float(own.mean()) if len(own) else None,
                "spread": float(own.std(ddof=1)) if len(own) > 1 else None,
            })  # fmt: skip
    declared = set.intersection(*(set(map(str, group.declared)) for group in groups))
    judged = declared | {_mains(groups[0]).get(task)}
    for group in groups[1:]:
        for name in there:
            cell = _test(values[group.name], first, name)
            if cell is not None:
                cell.found |= {"group": group.name, "against": groups[0].name, "metric": name}
                tests.append(cell.found)
                cells += [cell] if name in judged else []
    decide(cells)
    for test in tests:
        test["verdict"] = {"helps": "better", "hurts": "worse", "no evidence": NOT}.get(test["verdict"])
    return {"task": task, "metric": metric, "arm": arm, "groups": _described(groups), "means": rows, "tests": tests}


def runs_in(folders: Sequence[Path]) -> Iterator[Path]:
    """Run folders among these and one level below.

    Raises:
        UserError: a folder without any. DataError: results that are not as the run left them.
    """
    for folder in folders:
        inside = [folder] if _is_run(folder) else sorted(path for path in folder.glob("*") if _is_run(path))
        if not inside:
            raise UserError(f"{folder}: neither a finished run nor a folder of runs (no users.parquet in it)")
        for path in inside:
            record_files.check(path, status_of(path))
        yield from inside


def _is_run(folder: Path) -> bool:
    """Whether a run has finished there; what it says that it left and did not is missing, see `record_files.check`."""
    if "users.parquet" in (status_of(folder).get("files") or ()):
        return True
    return all((folder / name).is_file() for name in ("users.parquet", "config.yaml", "metrics.json"))


def groups_of(runs: Sequence[Path]) -> list[Group]:
    """Runs that differ only in their seed together, in the order in which they are named; the same run once.

    The same experiment and seed a second time is a group of its own: what is compared is then how it repeats itself.

    Raises:
        UserError: runs of the same settings that were trained on other data. DataError: a damaged config.yaml.
    """
    groups: list[Group] = []
    for path in dict.fromkeys(runs):
        tree = record_files.configuration(path / "config.yaml")
        with record_files.reading(path / "config.yaml"):
            kept = {key: value for key, value in tree.items() if key not in ASIDE}
            seeds, declared = seeds_of(tree), [str(name) for name in tree.get("verdicts") or ()]
        same = next((group for group in groups if group.tree == kept and not set(seeds) & set(group.runs)), None)
        if same is None:
            same = Group("", kept, declared=declared)
            groups.append(same)
        same.runs |= dict.fromkeys(seeds, path)
    for at, group in enumerate(groups):
        group.name = f"{chr(65 + at % 26)}{at // 26 or ''}"
    return groups


def _must_be_of_the_same_data(groups: Sequence[Group]) -> None:
    """UserError where runs of one group, which stand for seeds of one experiment, were not trained on the same data."""
    problems = []
    for group in groups:
        first, *others = dict.fromkeys(group.runs.values())
        problems += [
            f"{path} and {first} have the same settings and were trained on different data (rows or labels), so they "
            "are no seeds of one experiment; train one of them again"
            for path in others
            if data_of(path) != data_of(first)
        ]
    if problems:
        raise UserError(problems)


def _numbers(folder: Path, task: str) -> pl.DataFrame:
    """Columns id and number: the users of a run's task. Another run may have numbered them otherwise."""
    frame = _users(folder).filter(pl.col("task") == task)
    return frame.drop_nulls("id").select("id", pl.col(USER).alias("number")).unique("id")


def _users(folder: Path) -> pl.DataFrame:
    return record_files.table(folder / "users.parquet", ("arm", "seed", "task", "metric", USER, "id", "value"))


def values_of(folder: Path, task: str, arm: str, seed: int, numbers: pl.DataFrame) -> dict[str, Any]:
    """Metric -> values of one run's arm and seed, and under `USER` whose they are, sorted by user.

    Users have the ``numbers`` that their ids have in the first run; those that it does not know have others.

    Raises:
        UserError: a task or an arm that is not there.
    """
    frame = _users(folder)
    for column, asked in (("arm", arm), ("task", task)):
        known = frame[column].unique().sort().to_list()
        if asked not in known:
            raise UserError(f"{folder}: there is no {column} '{asked}'{instantiate.near(asked, known)}")
        frame = frame.filter(pl.col(column) == asked)
    own = frame.filter((pl.col("seed") == seed) | pl.col("seed").is_null())  # a baseline has none
    own = own.join(numbers, on="id", how="left", maintain_order="left")
    own = own.with_columns(pl.coalesce("number", -pl.col(USER)).alias(USER)).sort(USER, maintain_order=True)
    return dict(user_values.read(own)[task])


def _test(own: Mapping[int, Values], first: Mapping[int, Values], name: str) -> Cell | None:
    """One metric of a group against the first group's, over the users that both have, and seed by seed.

    Seeds are paired by their number where enough for a verdict are common or all are, else in their order.
    """
    seeds = sorted(set(own) & set(first))
    pairs = [(seed, seed) for seed in seeds]
    if len(seeds) < min(FEWEST_SEEDS, len(own), len(first)):
        pairs = list(zip(sorted(own), sorted(first), strict=False))
    common = _of_common_users([*(own[a] for a, _ in pairs), *(first[b] for _, b in pairs)])
    mine, theirs = common[: len(pairs)], common[len(pairs) :]
    if not all(name in values for values in (*mine, *theirs)):
        return None
    cell = Cell(name, difference_of(mine, theirs, name))
    difference = np.stack([a[name] - b[name] for a, b in zip(mine, theirs, strict=True)])
    there = ~np.isnan(difference).any(0)
    difference, owners = difference[:, there], mine[0].get(USER)
    by = difference if owners is None else by_user(difference, np.asarray(owners)[there])
    users = by.mean(0) if by.size else np.zeros(0)
    t, ranks = t_test(users), signed_ranks(users)
    cell.found |= {
        "t": {"statistic": t.statistic, "p": t.p}, "wilcoxon": {"statistic": ranks.statistic, "p": ranks.p},
        "identical": bool((difference == 0).all()), "seeds_left_out": max(len(own), len(first)) - len(pairs),
    }  # fmt: skip
    return cell


def _of_common_users(values: Sequence[Values]) -> list[Values]:
    """The values of the users that all have: who is ranked in the test can depend on the training rows."""
    owners = [each[USER] for each in values if USER in each]
    if len(owners) < len(values) or all(np.array_equal(each, owners[0]) for each in owners):
        return list(values)
    common = reduce(np.intersect1d, owners)
    kept = [np.isin(each, common) for each in owners]
    return [{name: of[own] for name, of in each.items()} for each, own in zip(values, kept, strict=True)]


def _mean(values: Any) -> float:
    if values is None:
        return math.nan
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else math.nan


def _metrics(group: Group) -> dict[str, Any]:
    return record_files.mapping(next(iter(group.runs.values())) / "metrics.json")


def _main(group: Group, key: str) -> str:
    with record_files.reading(next(iter(group.runs.values())) / "metrics.json"):
        return str(_metrics(group)["main"][key])


def _mains(group: Group) -> dict[str, str]:
    """Target -> its main metric."""
    with record_files.reading(next(iter(group.runs.values())) / "metrics.json"):
        found = _metrics(group)
        return dict(found.get("mains") or {found["main"]["task"]: found["main"]["metric"]})


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
        console.print(Text(f"   {', '.join(dict.fromkeys(group['runs'].values()))}", style="dim"), soft_wrap=True)
    title = f"{report['task']} · test · {report['arm']}"
    table = Table(box=SIMPLE, title=Text(title), title_justify="left", padding=(0, 1), pad_edge=False)
    for head in ("group", "metric", "mean", "sd over seeds", "seeds"):
        table.add_column(head)
    for row in report["means"]:
        spread = formatting.DASH if row["spread"] is None else f"{row['spread']:.4f}"
        name, mean = Text(formatting.label(row["metric"])), formatting.shown(row["mean"])
        table.add_row(row["group"], name, mean, spread, str(row["seeds"]))
    console.print(table)
    if not report["tests"]:
        console.print("one group: nothing to compare it with")
        return
    table = Table(box=SIMPLE, title=Text("paired by user"), title_justify="left", padding=(0, 1), pad_edge=False)
    for head in ("groups", "metric", "difference", "p", "Holm p", "t test p", "Wilcoxon p", "verdict"):
        table.add_column(head, no_wrap=head in ("difference", "verdict"))
    for test in report["tests"]:
        said = (test["verdict"] or "") + (" (identical, seed by seed)" if test["identical"] else "")
        style = {"better": "green", "worse": "red"}.get(test["verdict"] or "", "dim")
        table.add_row(
            f"{test['group']} - {test['against']}", Text(formatting.label(test["metric"])), formatting.interval(test),
            *(_p(value) for value in (test["p"], test["p_holm"], test["t"]["p"], test["wilcoxon"]["p"])),
            Text(said, style=style),
        )  # fmt: skip
    console.print(table)
    seeds = max(test["seeds"] for test in report["tests"])
    note = "p: over users" + (" and seeds" if seeds > 1 else "; one seed says nothing of another")
    note += "" if seeds >= FEWEST_SEEDS else f"; a verdict needs {FEWEST_SEEDS} seeds of each group"
    left_out = max(test["seeds_left_out"] for test in report["tests"])
    note += f"; {left_out} of the larger group's seeds had no partner and were left out" if left_out else ""
    console.print(Text(note, style="dim"))


def _p(value: float | None) -> str:
    return formatting.DASH if value is None else f"{value:.3g}"


def _write(path: Path, content: Mapping[str, Any]) -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(part) for key, part in value.items()}
        if isinstance(value, list):
            return [plain(part) for part in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    with whole(path) as draft:
        draft.write_text(json.dumps(plain(content), indent=2) + "\n", encoding="utf-8")
