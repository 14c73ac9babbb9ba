"""Check a command's overrides before Hydra runs them, all at once.

Each override is parsed by Hydra's own parser; group choices are checked against the folders of conf, keys against the
composed tree and the constructors in it, then the tree itself (and each value of a sweep) by `problems_of_tree`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from graftrec.config import hydra_guard, instantiate
from graftrec.config.other_names import ours
from graftrec.config.value_rules import PASSED
from graftrec.utils.errors import UserError

OPEN = tuple(f"hydra.sweeper.{kind}_options." for kind in ("sampler", "pruner"))  # mappings that take any key
LAUNCHERS = ("joblib", "submitit", "ray")  # extras that bring one
SWEEP_VALUES = 64  # at most this many values of one sweep are checked ahead; of a range its two ends
JOBS = 10_000  # of a sweep over a grid: Hydra writes them all down before the first one begins


@dataclass
class Setting:
    """One override: as typed, parsed, and written once per value that it takes."""

    text: str
    parsed: Any
    values: list[Any]
    choices: list[str]
    typed: bool = True  # False: from hydra.sweeper.params of a file, which we cannot rewrite
    count: int = 1  # of all its values

    @property
    def key(self) -> str:
        return str(self.parsed.key_or_group)

    @property
    def element(self) -> str:
        """Key with package, without prefix: ``task@source``."""
        return str(self.parsed.get_key_element()).lstrip("+~")

    @property
    def change(self) -> bool:
        return not (self.parsed.is_add() or self.parsed.is_force_add() or self.parsed.is_delete())


def problems_of_command(verb: str, argv: list[str], config_dirs: Sequence[str], *, deep: bool = True) -> list[str]:
    """Everything that is wrong with ``graftrec VERB *argv``.

    ``argv`` is completed in place: flags come first (Hydra stops at a flag between settings), ``--multirun`` is added
    where a file says it, and ``trunk.layers=3`` becomes ``++trunk.layers=3`` where the constructor has ``layers`` and
    YAML does not repeat its default. With ``deep=False`` constructors are looked at only for keys that YAML lacks, so
    that showing a tree stays fast.
    """
    from hydra._internal.utils import get_args_parser

    argv[:] = [f"++{text}" if text.startswith(OPEN) else text for text in argv]
    args, extra = get_args_parser().parse_known_args(argv)
    texts = [*args.overrides, *(text for text in extra if not text.startswith("-"))]
    argv[:] = [*(text for text in argv if text not in texts), *texts]
    problems = [
        f"{text}: no such flag; a setting is written key=value, without dashes"
        for text in extra
        if text.startswith("-")
    ]
    if args.config_path or args.experimental_rerun:
        problems.append("--config-path and --experimental-rerun are not supported; use --config-dir")
    problems += [f"--config-dir {path}: there is no such folder" for path in config_dirs if not os.path.isdir(path)]
    if problems:
        return problems
    check = _Check(args.config_name or verb, loader_of(config_dirs), bool(args.multirun))
    check.run(texts, deep)
    if not deep:  # Hydra shows one tree: of a sweep the first job's
        argv[:] = [text for text in argv if text not in ("-m", "--multirun")]
        check.rewritten |= {setting.text: setting.choices[0] for setting in check.swept}
    elif check.multirun and not args.multirun:
        argv.insert(0, "--multirun")  # a file says so
    for before, after in check.rewritten.items():
        argv[:] = [after if text == before else text for text in argv]
    return list(dict.fromkeys(check.problems))


def loader_of(config_dirs: Sequence[str]) -> Any:
    """Hydra's loader of conf and of the user's folders."""
    from hydra import version
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.utils import setup_globals

    from graftrec.config import yaml_source

    version.setbase("1.3")
    setup_globals()
    yaml_source.install()
    instantiate.register_resolvers()
    path = create_config_search_path(str(instantiate.conf_dir()))
    for folder in reversed(config_dirs):
        path.prepend("command-line", f"file://{os.path.abspath(folder)}", anchor=SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(config_search_path=path)


@dataclass
class _Check:
    name: str
    loader: Any
    multirun: bool
    problems: list[str] = field(default_factory=list)
    rewritten: dict[str, str] = field(default_factory=dict)
    composed: dict[tuple[str, ...], Any] = field(default_factory=dict)  # a composition takes about 0.1 s
    swept: list[Setting] = field(default_factory=list)  # typed, with several values

    def run(self, texts: Sequence[str], deep: bool) -> None:
        self.groups: list[str] = [group for group in self.loader.list_groups("") if group != "hydra"]
        settings = [setting for text in texts if (setting := self.parse(text))]
        groups = [setting for setting in settings if self.is_group(setting) and self.group_is_right(setting)]
        values = [setting for setting in settings if not self.is_group(setting)]
        try:
            accepted, cfg = self.accept(groups)
        except Exception as error:  # the files themselves are broken
            self.problems.append(_first(error))
            return
        modes = [setting.parsed.value() for setting in values if setting.parsed.key_or_group == "hydra.mode"]
        listed: list[Setting] = []
        if self.multirun or str([cfg.hydra.mode, *modes][-1]).endswith("MULTIRUN"):  # a file says so, or what was typed
            self.multirun = True
            params = (cfg.hydra.sweeper.get("params") or {}).items()
            listed = [setting for key, text in params if (setting := self.parse(f"{key}={text}", typed=False))]
            more = [setting for setting in listed if self.is_group(setting) and self.group_is_right(setting)]
            values += [setting for setting in listed if not self.is_group(setting)]
            accepted, cfg = self.accept([*accepted, *more])
        self.swept = [setting for setting in settings if setting.parsed.is_sweep_override()]
        if self.multirun and self.counts_too_many([*self.swept, *listed], cfg.hydra):
            return
        for setting in settings:
            if setting.parsed.is_sweep_override() and not self.multirun:
                self.problems.append(f"{setting.text}: several values need --multirun (-m); a list is written [a,b]")
        tree = _tree(cfg)
        if not any(_is_of_an_object(setting, tree) for setting in values):
            right = [setting for setting in values if self.value_is_right(setting, tree, cfg.hydra.runtime.choices)]
            if self.problems:  # what is wrong is known without any class: torch alone takes seconds
                for overrides in _variants(self.accept([*accepted, *right])[0]):
                    self.problems += instantiate.problems_of_tree(_plain(self.compose(overrides)))
                return
        instantiate.fit_size(tree)  # a setting of what the trunk does not have is as wrong as without a size
        right = [setting for setting in values if self.value_is_right(setting, tree, cfg.hydra.runtime.choices)]
        accepted, cfg = self.accept([*accepted, *right])
        if cfg.hydra.job.get("chdir"):
            self.problems.append(
                "hydra.job.chdir: should be false: paths are those of the folder where the command is given, and all "
                "that a run writes is in hydra.run.dir"
            )
        self.typed = {setting.key for setting in settings}
        for overrides in _variants(accepted):
            self.look(overrides, deep)

    def parse(self, text: str, typed: bool = True) -> Setting | None:
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from hydra.errors import HydraException

        try:
            parsed = OverridesParser.create(self.loader).parse_overrides([text])[0]
            if not parsed.is_sweep_override():
                return Setting(text, parsed, [parsed.value()], [text], typed)
            key = parsed.get_key_element()
            if parsed.is_interval_sweep():
                bounds = [parsed.value().start, parsed.value().end]
                return Setting(text, parsed, bounds, [f"{key}={bound}" for bound in bounds], typed)
            if parsed.is_range_sweep():
                count, bounds = _ends(parsed.value())
                return Setting(text, parsed, bounds, [f"{key}={bound}" for bound in bounds], typed, count)
            written = list(parsed.sweep_string_iterator())
            if not written:
                raise HydraException("there is no value to sweep over")
            values = [parsed._convert_value(value) for value in islice(parsed.sweep_iterator(), SWEEP_VALUES)]
            choices = [f"{key}={value}" for value in written[:SWEEP_VALUES]]
            return Setting(text, parsed, values, choices, typed, len(written))
        except HydraException as error:
            self.problems.append(f"{text}: {_first(error)}")
            return None

    def counts_too_many(self, settings: list[Setting], hydra: Any) -> bool:
        """Whether a grid has more jobs than anybody waits for, which is said before any of them is composed."""
        if not str(hydra.sweeper.get("_target_")).endswith(".BasicSweeper"):  # which decides how many it tries
            return False
        self.problems += [
            f"{setting.text}: a grid takes no interval; write range(...), a list, or hydra/sweeper=optuna"
            for setting in settings
            if setting.parsed.is_interval_sweep()
        ]
        jobs = math.prod(setting.count for setting in settings)
        if jobs > JOBS:
            parts = " x ".join(f"{setting.element} {setting.count:,}" for setting in settings if setting.count > 1)
            self.problems.append(
                f"this sweep has {jobs:,} jobs ({parts}), and at most {JOBS:,} are taken; sweep over fewer values, or "
                "set hydra/sweeper=optuna, which tries hydra.sweeper.n_trials of them"
            )
        return jobs > JOBS

    def compose(self, overrides: list[str]) -> Any:
        from hydra.types import RunMode

        known = tuple(overrides)
        if known not in self.composed:
            self.composed[known] = self.loader.load_configuration(self.name, overrides, RunMode.RUN, from_shell=False)
        return self.composed[known]

    def accept(self, settings: list[Setting]) -> tuple[list[Setting], Any]:
        """The settings that compose, and the tree they give; what does not compose is reported."""
        try:
            return settings, self.compose([setting.choices[0] for setting in settings])
        except Exception:  # which of them? one may need another, so try again until none is added
            accepted: list[Setting] = []
            cfg = self.compose([])
        waiting, errors, progress = list(settings), {}, True
        while progress:
            progress = False
            for setting in list(waiting):
                try:
                    cfg = self.compose([*(other.choices[0] for other in accepted), setting.choices[0]])
                except Exception as error:
                    errors[setting.text] = _first(error)
                else:
                    accepted.append(setting)
                    waiting.remove(setting)
                    progress = True
        chosen = [key for key in cfg.hydra.runtime.choices if "hydra" not in key]
        chosen += [f"task@{role}" for role in instantiate.ROLES if "task" in self.groups]
        for setting in waiting:
            text = errors[setting.text]
            if setting.change and self.is_group(setting) and setting.element not in chosen:
                text = f"nothing is chosen by '{setting.element}'{instantiate.near(setting.element, chosen)}"
            self.problems.append(f"{setting.text}: {text}")
        return accepted, cfg

    def is_group(self, setting: Setting) -> bool:
        return "." not in setting.key and (
            "@" in setting.element or "/" in setting.key or bool(self.loader.get_group_options(setting.key))
        )

    def group_is_right(self, setting: Setting) -> bool:
        """Whether the group is there and has each option that is asked for."""
        group = setting.key
        if group == "hydra/launcher" and not set(setting.values) <= set(self.loader.get_group_options(group)):
            here, extra = self.loader.get_group_options(group), str(setting.values[0]).partition("_")[0]
            cure = (
                f"; pip install 'graftrec[{extra}]'"
                if extra in LAUNCHERS
                else instantiate.near(extra, {*here, *LAUNCHERS})
            )
            self.problems.append(f"{setting.text}: there is no such launcher here{cure}")
            return False
        if setting.parsed.is_delete() or setting.parsed.is_hydra_override():
            return True
        if not self.loader.get_group_options(group):
            self.problems.append(f"{setting.text}: there is no group '{group}'{instantiate.near(group, self.groups)}")
            return False
        wrong = []
        for value in setting.values:
            if isinstance(value, dict):
                self.problems.append(f"{setting.text}: '{group}' is a group; set its values with {group}.<name>=...")
                return False
            for name in value if isinstance(value, list) else [value]:
                folder, _, last = f"{group}/{name}".rpartition("/")
                if name is not None and last.removesuffix(".yaml") not in self.loader.get_group_options(folder):
                    wrong.append(
                        f"no {group} named '{name}'{instantiate.near(str(name), self.loader.get_group_options(group))}"
                    )
        self.problems += [f"{setting.parsed.get_key_element()}: {text}" for text in wrong]
        return not wrong

    def value_is_right(self, setting: Setting, tree: dict[str, Any], choices: Any) -> bool:
        """Whether the key is there, or the constructor has it: then the setting is rewritten to add it."""
        key = setting.key.replace("[", ".").replace("]", "")
        if setting.parsed.is_hydra_override():
            return True
        if _is_passed(key) and not setting.parsed.is_delete():
            self.problems.append(f"{key}: is the program's own, so leave it out: {PASSED[key.rpartition('.')[2]]}")
            return False
        there, node = _select(tree, key)
        parent_there, parent = _select(tree, key.rpartition(".")[0])
        if not there and not setting.change and not setting.parsed.is_delete() and "." in key:
            return True  # added on purpose; if a constructor does not take it, the check of the tree says so
        if there and isinstance(node, dict) and not setting.parsed.is_delete():
            if all(isinstance(value, dict) or value is None for value in setting.values):
                return True
            self.problems.append(f"{setting.text}: '{key}' is a mapping{self.choice_hint(setting, choices)}")
            return False
        taken = parent_there and key.rpartition(".")[2] in _takes(parent) if not there or self.multirun else False
        if taken and setting.change:
            if setting.typed:
                self.rewritten[setting.text] = f"++{setting.text}"
            elif not there:
                self.problems.append(f"hydra.sweeper.params: write '++{setting.text.partition('=')[0]}'")
            setting.choices = [f"++{choice}" for choice in setting.choices]
        if there or (taken and setting.change):
            return True
        self.problems.append(f"{setting.text}: there is no '{key}'{self.key_hint(setting, key, tree)}")
        return False

    def choice_hint(self, setting: Setting, choices: Any) -> str:
        """A value was given to a mapping: the group choice that was meant."""
        value = str(setting.values[0])
        choice = next((name for name in choices if name.rpartition("@")[2] == setting.key), None)
        if choice is None:
            last = setting.key.rpartition(".")[2]
            choice = f"{last}@{setting.key}" if last in self.groups else None
        if choice is not None:
            return f"; did you mean {choice}={value}?"
        return f"; set its values with {setting.key}.<name>=..."

    def key_hint(self, setting: Setting, key: str, tree: dict[str, Any]) -> str:
        """The nearest right key, part by part: ``trnk.layrs`` is ``trunk.layers``."""
        if hint := ours(key, setting.text.partition("=")[2], tree):
            return hint
        group, _, option = key.partition(".")
        if option and option in self.loader.get_group_options(group):
            return f"; did you mean {group}={option}?"
        ends = [leaf for leaf in _leaves(tree) if leaf.rpartition(".")[2] == key]
        if ends:
            return f"; did you mean '{ends[0]}'?" if len(ends) == 1 else f"; known: {', '.join(ends)}"
        node: Any = tree
        right: list[str] = []
        for part in key.split("."):
            names = [*(node if isinstance(node, dict) else ()), *(self.groups if not right else ())]
            names += _takes(node) if part not in names else []
            if part not in names:
                hint = instantiate.near(part, [name for name in names if name != "hydra" and not name.startswith("_")])
                if "did you mean" not in hint:
                    shows = f"; graftrec {self.name} --cfg job shows all {len(set(names)):,} keys that are there"
                    return shows if not right else f"; '{'.'.join(right)}' has nothing like it{hint}"
                part = hint.split("'")[1]
            right.append(part)
            node = node.get(part) if isinstance(node, dict) else None
        return f"; did you mean '{'.'.join(right)}'?"

    def look(self, overrides: list[str], deep: bool) -> None:
        """Check one composed tree: missing values, interpolations and, if deep, every constructor."""
        from omegaconf import OmegaConf

        try:
            cfg = self.compose(overrides)
        except Exception as error:
            self.problems.append(f"{' '.join(overrides)}: {_first(error)}")
            return
        self.problems += hydra_guard.problems_of_hydra(cfg.hydra, self.typed)
        if not deep:
            return
        cfg = OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])  # half of hydra's own is not set yet
        tree = _tree(cfg)
        orphans = tuple(f"{name}." for name in instantiate.drop_orphans(tree))
        problems = list(_broken(cfg, orphans))
        if not problems:
            missing = [key for key in sorted(OmegaConf.missing_keys(cfg)) if not key.startswith(orphans)]
            problems = [f"{key}: has no value; set {key}=..." for key in missing]
        if not problems:
            resolved = _container(OmegaConf.create(tree), resolve=True)
            problems = instantiate.problems_of_tree(resolved) or _together(resolved)
        self.problems += problems


def _ends(swept: Any) -> tuple[int, list[Any]]:
    """How many values a range has, and its first and last one."""
    from hydra.errors import HydraException

    size = (swept.stop - swept.start) / swept.step if swept.step else math.nan
    if not size > 0 or not math.isfinite(size):
        raise HydraException("there is no value to sweep over; write range(first, end, step)")
    count = math.ceil(size)
    ends = [swept.start, swept.start + (count - 1) * swept.step]
    return count, ends[: min(count, 2)]


def _variants(settings: list[Setting]) -> Iterator[list[str]]:
    """The first value of everything, then every other value of each sweep, one at a time."""
    base = [setting.choices[0] for setting in settings]
    yield base
    for place, setting in enumerate(settings):
        for choice in setting.choices[1:]:
            yield [*base[:place], choice, *base[place + 1 :]]


def _is_of_an_object(setting: Setting, tree: dict[str, Any]) -> bool:
    """Whether a class has to be asked about a setting: it is there, or added, below a ``_target_``."""
    key = setting.key.replace("[", ".").replace("]", "")
    parts = key.split(".")
    above = [_select(tree, ".".join(parts[:at])) for at in range(1, len(parts))]
    added = not setting.change and not setting.parsed.is_delete() and len(parts) > 1
    objects = any(isinstance(node, dict) and "_target_" in node for _, node in above)
    return (objects or added) and not _is_passed(key)


def _is_passed(key: str) -> bool:
    return key.startswith("trainer.") and key.partition(".")[2] in PASSED


def _plain(cfg: Any) -> dict[str, Any]:
    """The values of a tree that are of no object and stand there as they are."""
    from omegaconf import OmegaConf

    return {
        key: _container(cfg[key])
        for key in cfg
        if not (OmegaConf.is_missing(cfg, key) or OmegaConf.is_interpolation(cfg, key) or OmegaConf.is_dict(cfg[key]))
    }


def _tree(cfg: Any) -> dict[str, Any]:
    tree: dict[str, Any] = _container(cfg)
    tree.pop("hydra", None)
    return tree


def _container(cfg: Any, resolve: bool = False) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(cfg, resolve=resolve) if OmegaConf.is_config(cfg) else cfg


def _together(tree: dict[str, Any]) -> list[str]:
    """What cannot be right together, if something is to be trained."""
    if "balancer" not in tree:
        return []
    from graftrec.training.builder import problems_of_parts
    from graftrec.training.compatibility import problems_together

    return problems_together(tree) or problems_of_parts(tree)


def _broken(cfg: Any, orphans: tuple[str, ...]) -> Iterator[str]:
    """Interpolations that lead nowhere, by the key that holds them (OmegaConf's message names only the other end)."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for key in _leaves(_tree(cfg)):
        if key.startswith(orphans):
            continue
        try:
            OmegaConf.select(cfg, key, throw_on_missing=False)
        except OmegaConfBaseException as error:
            yield f"{key}: {_first(error)}"


def _leaves(tree: Any, at: str = "") -> Iterator[str]:
    pairs = tree.items() if isinstance(tree, dict) else ()
    for key, value in pairs:
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}"


def _select(tree: Any, key: str) -> tuple[bool, Any]:
    """Whether ``key`` is in the tree, and what is there."""
    node = tree
    for part in key.split(".") if key else ():
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        else:
            return False, None
    return True, node


def _takes(node: Any) -> list[str]:
    """What the constructor of a ``_target_`` mapping takes from the user."""
    if not isinstance(node, dict) or "_target_" not in node:
        return []
    try:
        return instantiate.settable(instantiate.resolve(node["_target_"]))
    except UserError:
        return []


def _first(error: BaseException) -> str:
    """Hydra's message without its tail; it wraps OmegaConf's errors in an empty one."""
    text = str(error) or str(error.__cause__ or type(error).__name__)
    lines = [line.strip() for line in text.splitlines() if line.strip() and "full_key:" not in line]
    return " ".join(line for line in lines[:2] if not line.startswith("object_type="))
