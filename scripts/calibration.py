"""Is a verdict true? False verdicts where nothing helps, and how often a real effect is found, for every path.

    python scripts/calibration.py [--data FOLDER]            all, about 40 minutes on 2 cores
    python scripts/calibration.py --quick [--data FOLDER]    a fifth of it, below 10 minutes

FOLDER holds ``ml-100k/ratings.parquet`` and ``movietweetings-100k/ratings.parquet`` (user, item, rating, time as
published); without it the two real data sets are left out, and that is said.

Each draw is new data of one of four cases, all of which have domains that share no user and no item with the target and
whose labels are random: sources that can give nothing. Target and source share the trunk.
    planted    12 test rows of each of 100 users, P(y) = sigmoid(4 <p_u, q_i>)                            auc
    ranking    users of 1 to 200 events, items by taste and popularity; one event of each tests          ndcg@10
    movielens  100 users of MovieLens-100K, rating at least 4; source: other users, labels shuffled      auc
    tweets     150 users of MovieTweetings, one event of each tests; source: other users, items shuffled  ndcg@10
Of each draw the paths say what they say of their own trainings, through the functions that the commands call:
    run      train seeds=5 and seeds=3: with a useless source against the twin
    compare  two groups of runs of 5 and of 3 other seeds
    audit    a family of two cells of 5 seeds: a useless source, and a twin of other seeds in its place
    auto     transfer=auto with 1, 3 and 5 useless sources, judged by 5 seeds
A second null lets users differ: each user's values move by a draw of mean 0, the same for all seeds and rows, as if the
transfer helped some users and hurt as many. Power is the share of verdicts if the same comparison had an effect of 1, 2
or 3 standard errors, the standard deviation of the path's differences over the draws; of auto, that the source is used
and then gets its verdict. ``used``: the share of useless sources that auto used. ``kept``: what auto keeps of the gain
of a useful source (the target's own users, items and factors), which joint training with it has.

Ctrl-C ends it with what is done until then. The last line is one JSON object:
{"false": {path: share}, "n": {path: comparisons}, "power": {path: {effect: share}}}.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hydra import compose, initialize_config_dir
from rich.box import SIMPLE
from rich.table import Table

from graftrec.config import instantiate
from graftrec.evaluation.report.console import Screen, screen
from graftrec.evaluation.statistics import user_values
from graftrec.evaluation.statistics.intervals import Difference, holm, paired_difference
from graftrec.evaluation.statistics.user_values import USER, Values
from graftrec.runs.audit.arms import (
    TWIN,
    ArmJob,
    ArmSpec,
    is_tested,
    job_of,
    jobs_of,
    status,
    test_arm,
    train_arm,
    without_beside,
)
from graftrec.runs.audit.selection_rule import CHANCE
from graftrec.runs.audit.source_search import PROMISING, search, seeds_of, try_arm, values_of
from graftrec.runs.audit.source_selection import settled
from graftrec.runs.audit.transfer_matrix import matrix
from graftrec.runs.compare import compare
from graftrec.runs.jobs_progress import JobsProgress
from graftrec.runs.run_summary import summary, write_units
from graftrec.runs.side_by_side import Processes
from graftrec.runs.worker_pool import Workers
from graftrec.tasks.metrics.pointwise import Value
from graftrec.training.builder import prepare
from graftrec.training.fit import Arm, twin_plan
from graftrec.training.phase_setup import check_plan
from graftrec.transfer.joint import Joint

TARGET, SOURCES, USEFUL = "target", tuple(f"noise{number}" for number in range(1, 6)), "help"
EFFECTS = (1, 2, 3)
RUNS = {5: range(5), 3: range(5, 8)}  # seeds of the run of so many seeds
OTHERS = range(8, 13)  # seeds of what is compared with it
PATHS = ("run", "compare", "audit", "auto")
Random = np.random.Generator


@dataclass(frozen=True)
class Case:
    """One kind of data: ``draw`` makes a frame with the columns domain, user, item, y and split."""

    name: str
    ranks: bool
    draws: int  # of the whole programme
    batch: int  # rows of a step
    sources: tuple[int, ...] = (1,)  # how many useless sources auto is given
    file: str = ""  # of --data
    differ: float = 0.1  # standard deviation of what users differ by
    epochs: int = 4
    lr: float = 0.3


CASES = (
    Case("planted", False, 50, 200, (1, 3, 5)),
    Case("ranking", True, 20, 1500),
    Case("movielens", False, 16, 200, file="ml-100k/ratings.parquet"),
    Case("tweets", True, 16, 450, file="movietweetings-100k/ratings.parquet"),
    Case("useful", False, 10, 100, epochs=16, lr=0.1),  # no useless source: see `kept`
)


@dataclass(frozen=True)
class Draw:
    """One draw of a case; a job of the processes that do them side by side."""

    case: Case
    number: int
    data: str  # folder of the real data

    @property
    def words(self) -> str:
        """``planted 3``."""
        return f"{self.case.name} {self.number}"


@dataclass(frozen=True)
class Comparison:
    """What one path said of one null comparison."""

    case: str
    path: str
    kind: str  # such as ``seeds=5``
    difference: Difference
    family: tuple[float, ...]  # p values of the family's other cells
    false: bool
    gains: tuple[Difference, ...] = ()  # of the search on validation, with half of its seeds and all, for auto's power


# --- data ---------------------------------------------------------------------------------------------------------


def rows_of(domain: str, user: Any, item: Any, y: Any, split: Any) -> pl.DataFrame:
    """Rows of one domain, whose ids no other domain has; only the useful source has the target's."""
    prefix = TARGET if domain == USEFUL else domain
    return pl.DataFrame({"user": user, "item": item, "y": y, "split": split}).select(
        pl.lit(domain).alias("domain"),
        (pl.lit(f"{prefix} u") + pl.col("user").cast(pl.String)).alias("user"),
        (pl.lit(f"{prefix} i") + pl.col("item").cast(pl.String)).alias("item"),
        pl.col("y").cast(pl.Float64),
        pl.col("split").replace_strict({0: "train", 1: "val", 2: "test"}),
    )


def planted(random: Random, file: Path) -> pl.DataFrame:
    """100 users with 8 training, 8 validation and 12 test rows each; the useful source has 40 training rows of each."""
    users, items, scale = 100, 30, 4.0
    p, q = (random.normal(0, 2**-0.25, (count, 2)) for count in (users, items))
    chance = 1 / (1 + np.exp(-scale * p @ q.T))

    def part(domain: str, sizes: Sequence[int]) -> pl.DataFrame:
        user = np.repeat(np.arange(users), sum(sizes))
        item = random.integers(items, size=len(user))
        of = chance[user, item] if domain in (TARGET, USEFUL) else 0.5
        return rows_of(domain, user, item, random.random(len(user)) < of, np.tile(np.repeat([0, 1, 2], sizes), users))

    return pl.concat([
        part(TARGET, (8, 8, 12)), part(USEFUL, (40, 1, 1)), *(part(source, (8, 1, 1)) for source in SOURCES)
    ])  # fmt: skip


def ranking(random: Random, file: Path) -> pl.DataFrame:
    """70 users whose events, 1 to 200 and log-uniform, are items of their taste; the last tests, the one before it
    validates. A user of one event is there in the test alone."""
    users, items = 70, 40

    def part(domain: str) -> pl.DataFrame:
        popular = random.dirichlet(np.full(items, 0.5))
        taste = random.dirichlet(0.2 + 6 * popular, users) if domain == TARGET else np.full((users, items), 1 / items)
        counts = np.exp(random.uniform(0, math.log(200), users)).astype(int).clip(1, 200)
        user = np.repeat(np.arange(users), counts)
        item = np.concatenate([random.choice(items, size=n, p=taste[u]) for u, n in enumerate(counts)])
        return rows_of(domain, user, item, np.ones(len(user)), _last_out(user))

    return pl.concat([part(domain) for domain in (TARGET, *SOURCES[:1])])


def movielens(random: Random, file: Path) -> pl.DataFrame:
    """100 users, up to 24 ratings of each, half of which test; the source is 100 others with shuffled labels."""
    ratings = pl.read_parquet(file).rename({"user_id": "user", "movie_id": "item"})
    target, source = _users(ratings, random, 100, 24)

    def part(domain: str, own: pl.DataFrame) -> pl.DataFrame:
        y = (own["rating"] >= 4).to_numpy()
        split = np.tile(np.repeat([0, 1, 2], (8, 4, 12)), len(own) // 24)
        return rows_of(domain, own["user"], own["item"], y if domain == TARGET else random.permutation(y), split)

    return pl.concat([part(TARGET, target), part(SOURCES[0], source)])


def tweets(random: Random, file: Path) -> pl.DataFrame:
    """150 users, up to 12 of their ratings of the 150 films that are rated most; the last tests. The source is 150
    others with shuffled items."""
    ratings = pl.read_parquet(file).rename({"user_id": "user", "imdb_id": "item"})
    top = ratings["item"].value_counts(sort=True)["item"].head(150)
    target, source = _users(ratings.filter(pl.col("item").is_in(top.implode())), random, 150, 12)

    def part(domain: str, own: pl.DataFrame) -> pl.DataFrame:
        own = own.sort("user", "timestamp")
        item = own["item"].to_numpy()
        item = item if domain == TARGET else random.permutation(item)
        return rows_of(domain, own["user"], item, np.ones(len(own)), _last_out(own["user"].to_numpy()))

    return pl.concat([part(TARGET, target), part(SOURCES[0], source)])


DRAWN: dict[str, Callable[[Random, Path], pl.DataFrame]] = {
    "planted": planted, "ranking": ranking, "movielens": movielens, "tweets": tweets, "useful": planted
}  # fmt: skip


def _users(ratings: pl.DataFrame, random: Random, count: int, most: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Two draws of users that have so many rows, and so many rows of each in random order."""
    known = ratings.group_by("user").len().filter(pl.col("len") >= most).sort("user")["user"].to_numpy()
    chosen = random.permutation(known)[: 2 * count]
    shuffled = ratings[random.permutation(len(ratings))]
    kept = shuffled.filter(pl.int_range(pl.len()).over("user") < most).sort("user", maintain_order=True)
    first, second = (kept.filter(pl.col("user").is_in(part)) for part in (chosen[:count], chosen[count:]))
    return first, second


def _last_out(user: np.ndarray) -> np.ndarray:
    """2 at each user's last row, 1 at the one before it, 0 elsewhere; users are in order."""
    left = np.searchsorted(user, user, side="right") - np.arange(len(user))  # 1 at the last one
    return np.select([left == 1, left == 2], [2, 1], 0)


# --- trainings ----------------------------------------------------------------------------------------------------


def tree_of(case: Case, path: Path) -> dict[str, Any]:
    """The settings of a case on the file at ``path``."""
    task = "phone_recommend" if case.ranks else "planted_target"
    words = [
        "experiment=planted", f"task@target=[{task}]", "task@source=[]", "dataset=files", f"dataset.path={path}",
        *(f"+dataset.{key}={key}" for key in ("user", "item", "domain", "split")), "trainer.log_every_n_steps=1000",
        f"protocol.batch_size={case.batch}", f"transfer.epochs={case.epochs}", f"optimizer.lr={case.lr}",
    ]  # fmt: skip
    words += ["+candidates.min_users=0", "+history.long=0", "+history.short=0"] if case.ranks else []
    words += [] if case.ranks else ["+dataset.labels={y: binary}"]
    instantiate.register_resolvers()
    with initialize_config_dir(str(instantiate.conf_dir()), version_base="1.3"):
        tree = instantiate.plain(compose("audit", words))
    instantiate.drop_orphans(tree)
    (own,) = tree["target"].values()
    kind = str(own["stream"]).rpartition("/")[2]
    domains = {"planted": SOURCES, "useful": (USEFUL,)}.get(case.name, SOURCES[:1])
    named = {domain: {**own, "stream": f"{domain}/{kind}"} for domain in (TARGET, *domains)}
    return {**tree, "target": {TARGET: named.pop(TARGET)}, "source": named, "balancer": {"_target_": SUM}}


SUM, AUTO = "graftrec.training.balancers.sum.Sum", "graftrec.transfer.auto.Auto"


class Trained:
    """The trainings of one draw: each is done once, however many paths look at it."""

    def __init__(self, tree: dict[str, Any], folder: Path) -> None:
        self.tree, self.folder = tree, folder
        self.protocol, _ = prepare(tree)
        self.pool = Processes(tree, self.protocol, 1)
        self.quiet = Screen(file=StringIO())
        task = check_plan({**tree, "source": {}}, self.protocol, twin_plan(Joint().phases()))[TARGET]
        self.task, self.metric = task, task.main

    def jobs(self, arm: str, sources: Sequence[str], seeds: Sequence[int]) -> list[ArmJob]:
        """Trained and tested jobs of an arm."""
        made = jobs_of(self.tree, [ArmSpec(arm, TARGET, tuple(sources))], seeds, data_of(self), self.folder)
        for job in made:
            if not is_tested(job.folder):
                train_arm(self.protocol, job)
                test_arm(self.protocol, job)
        return made

    def values(self, jobs: Sequence[ArmJob]) -> dict[int, Values]:
        """Seed -> the test's values per user."""
        return {job.seed: user_values.read(pl.read_parquet(job.folder / "units.parquet"))[TARGET] for job in jobs}


def one_draw(_: None, draw: Draw) -> list[Any]:
    """Everything that the paths say of one draw; the last entry are auto's counts."""
    case, found = draw.case, []
    random = np.random.default_rng([draw.number, *case.name.encode()])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        DRAWN[case.name](random, Path(draw.data) / case.file).write_parquet(folder / "rows.parquet")
        trained = Trained(tree_of(case, folder / "rows.parquet"), folder / "arms")
        counts = {"used": 0, "offered": 0, "kept": 0.0, "useful": 0.0, "useful_used": 0, "useful_offered": 0}
        if case.name == "useful":
            useful(trained, counts)
            return [counts]
        alone, useless = (TWIN, ()), (SOURCES[0], SOURCES[:1])
        twins = trained.jobs(*alone, [seed for seeds in RUNS.values() for seed in seeds])
        noise = trained.jobs(*useless, [seed for seeds in RUNS.values() for seed in seeds])
        others = trained.jobs(*alone, OTHERS)
        for differ in (0.0, case.differ):
            moved = Moved(trained, differ, random)
            for count, seeds in RUNS.items():
                kind = f"seeds={count}" + (", users differ" if differ else "")
                ours, theirs = moved(_of(noise, seeds)), trained.values(_of(twins, seeds))
                found.append(run_says(trained, case, kind, ours, theirs))
                again = moved(others[:count])
                found.append(compare_says(trained, case, kind, again, theirs, folder / f"{count} {differ}"))
            found += audit_says(
                trained, case, f"2 cells{', users differ' if differ else ''}", moved, noise, twins, others
            )
        for number in case.sources:
            found.append(auto_says(trained, case, number, counts, noise, twins))
    return [*found, counts]


def _of(jobs: Sequence[ArmJob], seeds: Sequence[int]) -> list[ArmJob]:
    return [job for job in jobs if job.seed in seeds]


class Moved:
    """Values in which each user differs by a draw of mean 0, the same in every seed and row."""

    def __init__(self, trained: Trained, differ: float, random: Random) -> None:
        self.trained, self.differ = trained, differ
        self.effect = random.normal(0, differ, 10_000) if differ else np.zeros(10_000)

    def __call__(self, jobs: Sequence[ArmJob]) -> dict[int, Values]:
        """Seed -> values of jobs, moved."""
        metric = self.trained.metric
        return {
            seed: {**values, metric: values[metric] + self.effect[values[USER]]}
            for seed, values in self.trained.values(jobs).items()
        }


# --- what the paths say ---------------------------------------------------------------------------------------------


def run_says(
    trained: Trained, case: Case, kind: str, ours: Mapping[int, Values], theirs: Mapping[int, Values]
) -> Comparison:
    """`graftrec train`: its verdict is in metrics.json's differences."""
    metrics = summary(single(trained), {TARGET: trained.task}, arms(trained, ours), arms(trained, theirs), {})
    said = metrics["differences"][TARGET][trained.metric]
    return Comparison(case.name, "run", kind, difference(trained, ours, theirs), (), said["verdict"] != "no evidence")


def single(trained: Trained) -> dict[str, Any]:
    """The settings of a run with one useless source."""
    return {**trained.tree, "source": {SOURCES[0]: trained.tree["source"][SOURCES[0]]}}


def arms(trained: Trained, values: Mapping[int, Values]) -> dict[int, Arm]:
    """Seed -> a training with these values of the target."""
    metric = trained.metric
    return {
        seed: Arm(units={TARGET: dict(own)}, test={TARGET: {metric: Value(float(np.nanmean(own[metric])))}})
        for seed, own in values.items()
    }


def difference(trained: Trained, ours: Mapping[int, Values], theirs: Mapping[int, Values]) -> Difference:
    """The difference that the paths have as well."""
    return user_values.difference_of(list(ours.values()), list(theirs.values()), trained.metric)


def compare_says(
    trained: Trained, case: Case, kind: str, ours: Mapping[int, Values], theirs: Mapping[int, Values], folder: Path
) -> Comparison:
    """`graftrec compare` of two run folders, whose settings differ in a weight of no effect."""
    runs = []
    for name, values in (("theirs", theirs), ("ours", ours)):
        run, seeds = folder / name, list(values)
        run.mkdir(parents=True)
        own = single(trained) | {"seed": seeds[0], "seeds": len(seeds), "lambda_shared": 1.0 if name == "ours" else 2.0}
        write_units(run / "users.parquet", trained.protocol, own, {"grafted": arms(trained, values)}, {})
        (run / "config.yaml").write_text(json.dumps(own))
        (run / "metrics.json").write_text(json.dumps({"main": {"task": TARGET, "metric": trained.metric}}))
        (run / "data_card.json").write_text(json.dumps(trained.protocol.card, default=str))
        runs.append(run)
    (test,) = (test for test in compare(runs)["tests"] if test["metric"] == trained.metric)
    found = difference(trained, ours, theirs)
    if not math.isclose(test["delta"], found.delta, rel_tol=1e-9, abs_tol=1e-12):
        raise SystemExit(f"compare says {test['delta']} where the values say {found.delta}")
    return Comparison(case.name, "compare", kind, found, (), test["verdict"] != "not significant")


def audit_says(
    trained: Trained, case: Case, kind: str, moved: Moved, noise: Sequence[ArmJob], twins: Sequence[ArmJob],
    others: Sequence[ArmJob],
) -> list[Comparison]:  # fmt: skip
    """`graftrec audit`: the cells of a useless source, and of a twin of other seeds as if it were another one."""
    seeds = RUNS[5]
    base = _of(twins, seeds)
    folder = trained.folder.parent / f"audit {kind}"
    jobs = [*base]
    for name, own in ((SOURCES[0], _of(noise, seeds)), (SOURCES[1], others)):
        for (seed, values), old in zip(moved(own).items(), own, strict=True):
            copy = folder / f"{name} {seed}"
            copy.mkdir(parents=True)
            user_values.write(user_values.frame_of({TARGET: values}), copy / "units.parquet")
            (copy / "status.json").write_text(json.dumps(status(old.folder)))
            jobs.append(replace(old, arm=ArmSpec(name, TARGET, (name,)), folder=copy))
    cells = matrix(jobs, {TARGET: trained.metric})["cells"]
    cells = [cell for cell in cells if cell["cohort"] is None and cell["metric"] == trained.metric]
    theirs = trained.values(base)
    found = []
    for cell, own in zip(cells, (_of(noise, seeds), others), strict=True):
        rest = tuple(other["p"] for other in cells if other is not cell)
        values = difference(trained, moved(own), theirs)
        found.append(Comparison(case.name, "audit", kind, values, rest, cell["verdict"] != "no evidence"))
    return found


def auto_says(
    trained: Trained, case: Case, number: int, counts: dict[str, Any], noise: Sequence[ArmJob], twins: Sequence[ArmJob]
) -> Comparison:
    """`transfer=auto` with so many useless sources: the search, and the verdict of 5 seeds that did not choose."""
    given = SOURCES[:number]
    chosen = choose(trained, given)
    counts["used"] += len(chosen["strengths"])
    counts["offered"] += number
    base = trained.values(_of(twins, RUNS[5]))
    gains, said = on_validation(trained, given) if number == 1 else (), False
    judged = difference(trained, trained.values(_of(noise, RUNS[5])), base)
    if chosen["strengths"]:
        name = "+".join(chosen["strengths"])
        own = trained.values(trained.jobs(f"auto {name}", tuple(chosen["strengths"]), RUNS[5]))
        metrics = summary(
            single(trained), {TARGET: trained.task}, arms(trained, own), arms(trained, base), {TARGET: {}}
        )
        said = metrics["differences"][TARGET][trained.metric]["verdict"] != "no evidence"
    return Comparison(case.name, "auto", f"{number} useless", judged, (), said, gains)


def auto_tree(trained: Trained, given: Sequence[str]) -> dict[str, Any]:
    """The settings of a run with transfer=auto and these sources."""
    sources = {name: trained.tree["source"][name] for name in given}
    return {
        **trained.tree,
        "source": sources,
        "transfer": {"_target_": AUTO, "epochs": trained.tree["transfer"]["epochs"]},
    }


def choose(trained: Trained, given: Sequence[str]) -> dict[str, Any]:
    """What auto chooses of these sources."""
    return search(auto_tree(trained, given), trained.protocol, trained.folder, trained.pool, trained.quiet)


def on_validation(trained: Trained, given: Sequence[str]) -> tuple[Difference, ...]:
    """What the search would see of all sources at full strength, with half of its seeds and with all of them."""
    tree = auto_tree(trained, given)
    seeds = seeds_of(tree, instantiate.build(tree["transfer"]))
    data, arm = data_of(trained), ArmSpec("", TARGET)

    def values(strengths: dict[str, float], seed: int) -> Any:
        own = settled(without_beside(tree), strengths)
        job = job_of(arm, {**own, "seed": seed}, seed, data, trained.folder)
        if not status(job.folder):
            try_arm(trained.protocol, job)
        return values_of(job.folder)[TARGET]

    ours = [values(dict.fromkeys(given, 1.0), seed) for seed in seeds]
    theirs = [values({}, seed) for seed in seeds]
    return tuple(
        paired_difference([each[1] for each in ours[:n]], [each[1] for each in theirs[:n]], ours[0][0])
        for n in (len(seeds) // 2, len(seeds))
    )


def data_of(trained: Trained) -> str:
    """What the names of folders know of the data."""
    return str(trained.protocol.card.get("fingerprint", ""))


def useful(trained: Trained, counts: dict[str, Any]) -> None:
    """Whether auto uses the source that helps, and what joint training with it gains on the test."""
    chosen = choose(trained, [USEFUL])
    own, twins = (trained.values(trained.jobs(*arm, RUNS[5])) for arm in ((USEFUL, [USEFUL]), (TWIN, [])))
    gain = difference(trained, own, twins).delta
    counts["useful"] += gain
    counts["useful_offered"] += 1
    counts["useful_used"] += bool(chosen["strengths"])
    counts["kept"] += gain * (chosen["strengths"].get(USEFUL) == 1.0)


# --- the table ------------------------------------------------------------------------------------------------------


def limit(n: int) -> float:
    """The share of false verdicts that 5 % may reach in n comparisons: two standard errors above."""
    return 0.05 + 2 * math.sqrt(0.05 * 0.95 / n)


def power(comparisons: Sequence[Comparison], effect: int) -> float:
    """The share of verdicts for an effect of so many standard errors, which are those of equal comparisons."""
    groups: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for each in comparisons:
        groups[each.case, each.kind].append(each)
    found = []
    for own in groups.values():
        if len(own) < 2:
            continue
        shift = effect * float(np.std([each.difference.delta for each in own], ddof=1))
        spread = float(np.std([each.gains[1].delta for each in own if each.gains], ddof=1)) if own[0].gains else 0.0
        for each in own:
            moved = each.difference.delta + shift
            p = holm([each.difference.p_of(moved), *each.family])[0]
            seen = moved > 0 and p < 0.05
            for gain, chance in zip(each.gains, (PROMISING, CHANCE / 2), strict=False):
                size = gain.delta + effect * spread
                seen = seen and size > 0 and gain.p_of(size) / 2 < chance
            found.append(seen)
    return float(np.mean(found)) if found else math.nan


def report(comparisons: Sequence[Comparison], counts: Mapping[str, float]) -> tuple[Table, dict[str, Any]]:
    """The table, and what the last line says."""
    table = Table(box=SIMPLE, title="verdicts where nothing helps, and where something does", title_justify="left")
    for head in ("path", "case", "kind", "n", "false", "at most", "power 1 SE", "2 SE", "3 SE"):
        table.add_column(head, justify="left" if head in ("path", "case", "kind") else "right")

    def row(path: str, case: str, kind: str, own: Sequence[Comparison]) -> None:
        share = sum(each.false for each in own) / len(own)
        judged = [each for each in own if path != "auto" or each.gains]
        powers = ["" if math.isnan(value) else f"{value:.2f}" for value in (power(judged, e) for e in EFFECTS)]
        bad = share > limit(len(own))
        table.add_row(path, case, kind, str(len(own)), f"{share:.3f}", f"{limit(len(own)):.3f}", *powers,
                      style="red" if bad else "bold" if not case else "")  # fmt: skip

    said: dict[str, Any] = {"false": {}, "n": {}, "power": {}}
    for path in PATHS:
        own = [each for each in comparisons if each.path == path]
        if not own:
            continue
        for case, kind in dict.fromkeys((each.case, each.kind) for each in own):
            row(path, case, kind, [each for each in own if (each.case, each.kind) == (case, kind)])
        row(path, "", "all", own)
        judged = [each for each in own if path != "auto" or each.gains]
        said["false"][path] = round(sum(each.false for each in own) / len(own), 4)
        said["n"][path] = len(own)
        said["power"][path] = {str(effect): round(power(judged, effect), 3) for effect in EFFECTS}
    said["used"] = round(counts["used"] / max(1, counts["offered"]), 4)
    said["kept"] = round(counts["kept"] / counts["useful"], 4) if counts["useful"] else None
    said["useful_used"] = f"{counts['useful_used']:.0f} of {counts['useful_offered']:.0f}"
    return table, said


def main(argv: Sequence[str]) -> None:
    """Do the draws side by side, print the table and the line."""
    words = ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--quick", action="store_true", help="a fifth of the draws")
    words.add_argument("--data", type=Path, help="folder of ml-100k and movietweetings-100k")
    words.add_argument("--draws", type=int, help="so many draws of each case, whatever it has")
    words.add_argument("--workers", type=int, default=2)
    words.add_argument("--cases", nargs="*", default=[case.name for case in CASES])
    asked = words.parse_args(argv)
    console, begun = screen(), time.monotonic()
    draws: list[tuple[float, Draw]] = []
    for case in CASES:
        if case.name not in asked.cases:
            continue
        if case.file and (asked.data is None or not (asked.data / case.file).is_file()):
            console.print(f"left out: {case.name} ({case.file} is in no folder that --data names)")
            continue
        count = asked.draws or (math.ceil(case.draws / 5) if asked.quick else case.draws)
        draws += [(number / count, Draw(case, number, str(asked.data or ""))) for number in range(count)]
    comparisons: list[Comparison] = []
    counts: dict[str, float] = defaultdict(float)
    jobs = [draw for _, draw in sorted(draws, key=lambda each: each[0])]  # all cases side by side
    with Workers(asked.workers, _nothing, None) as workers, JobsProgress("draws", len(jobs), console) as progress:
        try:
            for draw, (*found, own) in workers.run(one_draw, jobs):
                comparisons += found
                for name, value in own.items():
                    counts[name] += value
                progress.done(f"{draw.words}  {sum(each.false for each in found)} of {len(found)} verdicts false")
        except KeyboardInterrupt:
            console.print(f"stopped after {progress.count} of {len(jobs)} draws")
    table, said = report(comparisons, counts)
    console.print(table)
    console.print(
        f"auto used {said['used']:.1%} of the useless sources that it was given, and the useful one in "
        f"{said['useful_used']}; it keeps {said['kept'] or 0:.0%} of what that gives"
    )
    print(json.dumps(said | {"seconds": round(time.monotonic() - begun, 1)}))


def _nothing(_: None) -> None:
    """What a process begins with."""


if __name__ == "__main__":
    main(sys.argv[1:])
