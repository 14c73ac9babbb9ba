"""Find conf, check a composed tree all at once, build. The only instantiate.

The constructor is the schema: a mapping with ``_target_`` is checked against the signature of the class that it names.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import json
import math
import pkgutil
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from graftrec.config import moved_names
from graftrec.config.component_types import SLOTS, TASK, classes_of
from graftrec.config.size_limits import too_large
from graftrec.config.value_rules import AUDIT, DATA, PASSED, PREDICT, RUN, TRAINER
from graftrec.utils.errors import UserError
from graftrec.utils.filenames import wrong_name
from graftrec.utils.redaction import redact

ALLOWED = ("graftrec.", "torch.optim.", "pytorch_lightning.")
ROLES = ("source", "target", "shared")
# of a tree: what changes no training
BESIDE = ("hydra", "audit", "logger", "resume", "save_every", "skip_limit", "patience", "workers")
JUDGING = ("seeds", "verdicts", "baselines", "twin")  # of a run, how it is judged: no training is another one by it
HARDWARE = ("devices", "num_nodes", "accelerator", "strategy")  # of the trainer: the same experiment elsewhere
LOGGED = (*ROLES, "total", "trunk")  # parts of the loss in metrics.csv, beside the losses of the tasks
SIZED = ("layers", "repeats", "heads", "positions")  # of a trunk, by the group ``size``: each as far as it has them
# What the program completes: a constructor may ask for these without YAML naming them.
KNOWN = {"in_dim", "item_dim", "cross_dim", "classes", "fields", "width", "tasks", "history", "streams", "edges"}
KNOWN |= {"sparse", "params", "schema", "dataset", "split", "candidates", "label", "prior", "folder", "config"}
KNOWN |= {"group", "again", "behaviours", "spread"}


def conf_dir() -> Path:
    """The folder of YAML files: inside the package in a wheel, at the top level in a checkout."""
    here = Path(__file__).resolve().parents[1]
    inside = here / "conf"
    return inside if inside.is_dir() else here.parents[1] / "conf"


def plain(cfg: Any) -> dict[str, Any]:
    """A resolved plain dict of an OmegaConf tree; a value that is still missing (``???``) raises."""
    from omegaconf import OmegaConf

    return typing.cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))


def fingerprint(tree: Mapping[str, Any]) -> str:
    """12 hex digits that name an experiment; where it runs and what it is logged to (`HARDWARE`) are no part of it.

    Nor is how often an audit looks (``audit``): with more seeds it goes on in the same folder. Nor is a secret. A class
    that has moved counts by its first name.
    """
    kept = {key: value for key, value in tree.items() if key not in BESIDE}
    if isinstance(kept.get("trainer"), Mapping):
        kept["trainer"] = {key: value for key, value in kept["trainer"].items() if key not in HARDWARE}
    text = json.dumps(redact(_with_former_names(kept)), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _with_former_names(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {
            key: moved_names.former(value)
            if key == "_target_" and isinstance(value, str)
            else _with_former_names(value)
            for key, value in tree.items()
        }
    return [_with_former_names(value) for value in tree] if isinstance(tree, list | tuple) else tree


def register_resolvers(sweep: str = "sweep") -> None:
    """Make ``${fingerprint:}`` available, a job's name in a sweep, and ``${fingerprint:sweep}``, the sweep's own.

    ``${oc.env:NAME}`` reads only what a configuration may know: see `graftrec.config.environment`.
    """
    from omegaconf import OmegaConf

    from graftrec.config import environment

    def of_root(of: str = "job", *, _root_: Any) -> str:
        if of == "sweep":
            return sweep
        kept = OmegaConf.masked_copy(_root_, [key for key in _root_ if key != "hydra"])
        tree = OmegaConf.to_container(kept, resolve=True)
        drop_orphans(tree)
        return fingerprint(tree)

    OmegaConf.register_new_resolver("fingerprint", of_root, replace=True)
    OmegaConf.register_new_resolver("oc.env", environment.read, replace=True)


def near(word: str, names: Iterable[Any]) -> str:
    """The end of an error message: the nearest right name, else all of them."""
    known = sorted({str(name) for name in names})
    hit = difflib.get_close_matches(word, known, 1, 0.6)
    if hit:
        return f"; did you mean '{hit[0]}'?"
    return f"; known: {', '.join(known)}" if known else ""


def fit_size(tree: dict[str, Any]) -> None:
    """Remove what the group ``size`` sets and the trunk does not have: a GRU has layers and no heads."""
    trunk = tree.get("trunk")
    if tree.get("size") is None or not isinstance(trunk, dict) or "_target_" not in trunk:
        return
    try:
        has = arguments(resolve(str(trunk["_target_"])))
    except UserError:
        return  # said where the mapping is checked
    for name in SIZED:
        if name not in has:
            trunk.pop(name, None)


def drop_orphans(tree: dict[str, Any]) -> list[str]:
    """Remove role entries without ``_target_`` and return their names; the size is cut to the trunk (`fit_size`).

    They are what an experiment's override leaves behind when its task is deselected on the command line.
    """
    fit_size(tree)
    dropped = []
    for role in ROLES:
        tasks = tree.get(role) or {}
        for name in [name for name, task in tasks.items() if isinstance(task, dict) and "_target_" not in task]:
            del tasks[name]
            dropped.append(f"{role}.{name}")
    return dropped


def resolve(path: str) -> type[Any]:
    """The class called ``path``; UserError unless it is *defined* in an allowed package.

    The object is what counts, not its name: ``torch.optim.adam.torch.load`` starts well and is a foreign function.
    A name that a class had before it moved is looked up by its new one.
    """
    path = moved_names.current(path)
    if not path.startswith(ALLOWED) or ".." in path or "__" in path:
        raise UserError(f"'{path}' is not under {', '.join(ALLOWED)}")
    module, rest = _import(path)
    found: Any = module
    name = module.__name__
    for part in rest:
        if part not in dir(found):
            raise UserError(f"'{name}' has no '{part}'{near(part, _offers(found))}")
        found = getattr(found, part)
        name += f".{part}"
    if not inspect.isclass(found) or not f"{found.__module__}.".startswith(ALLOWED):
        real = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', type(found).__name__)}".lstrip(".")
        raise UserError(f"'{path}' is {real}, which is not a class defined under {', '.join(ALLOWED)}")
    if inspect.isabstract(found):
        raise UserError(f"'{path}' is abstract: name one of the classes that implement it")
    return found


def _import(path: str) -> tuple[types.ModuleType, list[str]]:
    """The deepest module on ``path`` and the attributes that remain."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:cut])
        try:
            return importlib.import_module(module), parts[cut:]
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise UserError(f"'{path}' needs the package '{error.name}', which is not installed") from error
    raise UserError(f"'{path}' cannot be imported")


def _offers(found: Any) -> list[str]:
    """Public classes and submodules: what one could have meant."""
    names = [name for name, value in vars(found).items() if inspect.isclass(value) and not name.startswith("_")]
    return names + [module.name for module in pkgutil.iter_modules(getattr(found, "__path__", []))]


def arguments(cls: type[Any]) -> dict[str, inspect.Parameter]:
    """The constructor's arguments by name; torch's own, of a module that has none, takes anything and is no help."""
    if getattr(cls.__init__, "__module__", None) == "torch.nn.modules.module":  # object's own is of no module
        return {}
    return dict(inspect.signature(cls).parameters)


def settable(cls: type[Any]) -> list[str]:
    """The constructor's arguments that are the user's; an encoder chooses its ``width``, a trunk is told it."""
    return [
        name
        for name, slot in arguments(cls).items()
        if name not in KNOWN or (name == "width" and slot.default is not inspect.Parameter.empty)
    ]


def build(tree: Mapping[str, Any], **known: Any) -> Any:
    """The object that ``tree`` describes, with everything nested in it.

    Every constructor also gets those ``known`` (sizes, names, ...) that it takes and the tree does not set. A
    constructor's ValueError is the user's value and becomes a UserError; so does every error of one that is not ours,
    which may take a value for granted that it was not given.
    """
    cls = resolve(tree["_target_"])
    takes = arguments(cls)
    given = {key: _built(value, known) for key, value in tree.items() if key != "_target_"}
    completed = {key: value for key, value in known.items() if key in takes and key not in given}
    try:
        return cls(**given, **completed)
    except Exception as error:
        if isinstance(error, ValueError) or not cls.__module__.startswith("graftrec."):
            where = "trainer" if cls.__name__ == "Trainer" else tree["_target_"]
            raise UserError(f"{where}: {str(error) or type(error).__name__}") from error
        raise


def _built(value: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        if "_target_" in value:
            return build(value, **known)
        return {key: _built(part, known) for key, part in value.items()}
    if isinstance(value, list):
        return [_built(part, known) for part in value]
    return value


def problems_of_tree(tree: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with a composed, resolved tree, each with its full key; nothing is built."""
    chosen = [(role, task) for role in ROLES for task in tree.get(role) or {}]
    problems = []
    if "target" in tree and not tree["target"]:
        problems.append("target: no target task is selected; write 'task@target=[...]'")
    for number, (role, task) in enumerate(chosen):
        first = next((other for other, name in chosen[:number] if name == task), None)
        if first:
            problems.append(f"{role}.{task}: also selected as {first}; a task has one role")
        if wrong := wrong_name(str(task)):
            problems.append(f"{role}.{task}: the name {wrong}")
        elif "." in str(task) or task in LOGGED:
            problems.append(f"{role}.{task}: the name should have no dot, and be none of {', '.join(LOGGED)}")
    for key, (hint, right, words) in (RUN | (PREDICT if "target_task" in tree else DATA)).items():
        if key in tree and not (fits(tree[key], hint) and right(tree[key])):
            problems.append(f"{key}: should be {words}, found {_short(tree[key])}")
    audit = tree["audit"] if isinstance(tree.get("audit"), Mapping) else {}
    for key, (hint, right, words) in AUDIT.items():
        if key in audit and not (fits(audit[key], hint) and right(audit[key])):
            problems.append(f"audit.{key}: should be {words}, found {_short(audit[key])}")
    trainer = tree.get("trainer")
    for key, (fine, words) in TRAINER.items():
        if isinstance(trainer, Mapping) and trainer.get(key) is not None and not fine(trainer[key]):
            problems.append(f"trainer.{key}: should be {words}, found {_short(trainer[key])}")
    for key in trainer if isinstance(trainer, Mapping) else ():
        if key in PASSED:
            problems.append(f"trainer.{key}: is the program's own, so leave it out: {PASSED[key]}")
    names = [task for _, task in chosen]
    weights = (tree.get("balancer") or {}).get("weights")
    for task in weights if isinstance(weights, Mapping) else ():
        if task not in names:  # a phase or a twin has some of the tasks only, so the balancer itself cannot tell
            problems.append(f"balancer.weights.{task}: is no task that is selected{near(str(task), names)}")
    for key, value in tree.items():
        if key in ROLES and isinstance(value, Mapping):
            for task, part in value.items():
                problems += _in_slot(part, f"{key}.{task}.", TASK)
        else:
            problems += _in_slot(value, f"{key}.", SLOTS.get(key, ()))
    return problems


def _in_slot(tree: Any, at: str, names: Sequence[str]) -> Iterator[str]:
    """Problems of a part of the tree that is to be an object of one of the classes ``names``."""
    slot = tuple(map(_called, names)) if isinstance(tree, Mapping) and "_target_" in tree else ()
    if slot:
        with suppress(UserError):  # said where the mapping is checked
            if not issubclass(resolve(str(tree["_target_"])), slot):
                wanted = " or ".join(kind.__name__ for kind in slot)
                yield f"{at}_target_: should be a {wanted}, found {tree['_target_']}"
    yield from _walk(tree, at, slot)


def _called(name: str) -> type[Any]:
    module, _, last = name.rpartition(".")
    found: type[Any] = getattr(importlib.import_module(module), last)
    return found


def _walk(tree: Any, at: str, slot: tuple[type[Any], ...]) -> Iterator[str]:
    """Problems of a part of the tree where an object of the classes ``slot`` may be; none may be where it is empty."""
    if isinstance(tree, Mapping):
        inside: Mapping[str, Any] | None = None
        if "_target_" in tree:
            inside = {}
            try:
                cls = resolve(str(tree["_target_"]))
            except UserError as error:
                yield from (f"{at}_target_: {problem}" for problem in error.problems)
            else:
                if not slot:
                    yield f"{at}_target_: nothing is built here, remove {tree['_target_']}"
                inside = _hints(cls)
                yield from _bind(tree, at, cls, inside)
        for key, value in tree.items():
            yield from _walk(value, f"{at}{key}.", slot if inside is None else classes_of(inside.get(key)))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _walk(value, f"{at}{number}.", slot)


def _bind(tree: Mapping[str, Any], at: str, cls: type[Any], hints: Mapping[str, Any]) -> Iterator[str]:
    """Bind one ``_target_`` mapping to its constructor."""
    target = str(tree["_target_"])
    takes = arguments(cls)
    named = {name for name, slot in takes.items() if slot.kind in (slot.KEYWORD_ONLY, slot.POSITIONAL_OR_KEYWORD)}
    anything = any(slot.kind == slot.VAR_KEYWORD for slot in takes.values())
    for key, value in tree.items():
        if key == "_target_":
            continue
        if key not in named and (not anything or str(key).startswith("_")):
            yield f"{at}{key}: {target} takes no '{key}'{near(str(key), named & set(settable(cls)) or named)}"
        elif key in hints and not fits(value, hints[key]):
            yield f"{at}{key}: should be {_words(hints[key])}, found {_short(value)}"
        else:
            yield from (f"{at}{key}{where}: should be a finite number, found {odd}" for where, odd in _odd(value))
        for where, number, most in too_large(str(key), value):
            yield f"{at}{key}{where}: should be at most {most:,}, found {number:,}"
    for name in sorted(named - set(tree) - KNOWN):
        if takes[name].default is inspect.Parameter.empty:
            yield f"{at}{name}: {target} needs '{name}', and it is not set"


def _odd(value: Any, at: str = "") -> Iterator[tuple[str, float]]:
    """Each number of a value that is none, or is without end, and where it is; objects are looked at by themselves."""
    if isinstance(value, float) and not math.isfinite(value):
        yield at, value
    parts = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts if not (isinstance(value, Mapping) and "_target_" in value) else ():
        yield from _odd(part, f"{at}.{name}")


def _hints(cls: type[Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls.__init__)
    except (NameError, TypeError, AttributeError):  # names that exist only for a type checker
        return {}


def fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value can be what ``hint`` asks for; hints beyond YAML's types are left to the constructor."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in inner)
    if origin is typing.Literal:
        return any(value == part and type(value) is type(part) for part in inner)
    kind = origin or hint
    if kind is types.NoneType or kind is bool or kind is int or kind is str:
        return type(value) is kind
    if kind is float:
        return type(value) in (int, float)
    if not inspect.isclass(kind):
        return True
    if isinstance(value, Mapping) and "_target_" in value:
        try:
            return kind is object or issubclass(resolve(str(value["_target_"])), kind)
        except UserError:
            return True  # said where the mapping itself is checked
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping) and (len(inner) < 2 or all(fits(part, inner[1]) for part in value.values()))
    if (kind is not bytes and issubclass(kind, Sequence)) or kind is Iterable:
        if not isinstance(value, list):
            return False
        if kind is tuple and inner and inner[-1] is not ...:  # one of each
            return len(value) == len(inner) and all(map(fits, value, inner))
        element = inner[0] if inner else Any
        return all(fits(part, element) for part in value)
    if issubclass(kind, Path):
        return isinstance(value, str)
    return kind in (object, typing.Any) or isinstance(value, kind)  # of a class that YAML cannot write, but by _target_


def _words(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
