"""What the ``hydra`` part of a tree may say. Hydra builds objects of it, and some of it is code, before any job begins.

So it is checked whole, wherever it comes from: no callbacks, launchers and sweepers of ours and of Hydra's own plugins,
nothing built inside of those, and logging as the packages of Hydra have it. What runs commands or sets the environment
has to be typed; no file can say it. Every other text, also one that is referred to, consists of what its place allows
(`graftrec.utils.allowed_text`), and no folder, launcher or study has a secret in its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from graftrec.utils.allowed_text import wrong_line, wrong_lines, wrong_part, wrong_storage, wrong_word
from graftrec.utils.filenames import wrong_name
from graftrec.utils.redaction import shown

PLUGINS = {
    "launcher": (
        "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
        "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher",
    ),
    "sweeper": (
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
        "hydra_plugins.graftrec_optuna.sweeper.OptunaSweeper",
    ),
}
TYPED = (  # only where it was typed: commands of a launcher, whose cluster it is, what programs are told by variables
    "job.env_set",
    "launcher.setup",
    "launcher.additional_parameters",
    "launcher.ray.init.address",
    "launcher.ray.init.runtime_env",
    "launcher.ray.remote.runtime_env",
)
LOG_CLASSES = ("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter")
LOG_FACTORIES = ("colorlog.ColoredFormatter",)  # of hydra-colorlog
LOG_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")
LOG_FILES = ("${hydra.runtime.output_dir}/${hydra.job.name}.log", "hydra-${hydra.job.name}.log")
TEXTS: dict[str, Callable[[str], str]] = {  # below a key of hydra -> what is wrong with a text; the first that fits
    "job.name": lambda text: (why := wrong_name(text)) and f"{why}, found {text!r}",
    "sweep.subdir": wrong_part,
    "sweeper.storage": wrong_storage,
    "sweeper.study_name": wrong_word,
    "launcher": wrong_word,
    "help": wrong_lines,
    "hydra_help": wrong_lines,
    "": wrong_line,
}
NAMES = ("job.name", "run", "sweep", "launcher", "sweeper.study_name")  # what others see: without secrets
HYDRAS = ("hydra.overrides", "hydra.runtime", "hydra.job.override_dirname")  # what Hydra itself writes there
LATER = re.compile(r"\$\{(hydra\.job\.(id|num|name)|hydra\.runtime\.output_dir|fingerprint:(sweep)?)\}")  # a job knows


def problems_of_hydra(hydra: Any, typed: Collection[str]) -> list[str]:
    """Everything that is refused in a composed ``hydra`` (an OmegaConf node), each with its full key.

    Args:
        typed: keys of the command line.
    """
    from omegaconf import OmegaConf

    tree: dict[str, Any] = OmegaConf.to_container(hydra, resolve=False)
    found = []
    if tree.get("callbacks"):
        found.append("hydra.callbacks: there are none in graftrec; remove them")
    for kind, names in PLUGINS.items():
        found += _problems_of_plugin(kind, names, tree.get(kind), hydra)
    for name in ("job_logging", "hydra_logging"):
        found += _problems_of_logging(tree.get(name), f"hydra.{name}")
    for key in TYPED:
        value: Any = tree
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        found += [
            f"{at}: is taken from the command line only, as it can run commands; type it there"
            for at in _said(value, f"hydra.{key}")
            if not _is_below(at, typed)
        ]
    params = (tree.get("sweeper") or {}).get("params") if isinstance(tree.get("sweeper"), Mapping) else None
    if params is not None and not isinstance(params, Mapping):
        found.append(f"hydra.sweeper.params: should be a mapping, found {params!r}")
    for key in params if isinstance(params, Mapping) else ():
        if str(key).lstrip("+~").startswith("hydra"):
            found.append(f"hydra.sweeper.params.{key}: a sweep is over settings of a job, not of Hydra; type it")
    own = [f"hydra.{key}" for key in TYPED]  # whose commands are what was typed
    for at, text in _texts(hydra, "hydra"):
        if not _is_below(at, HYDRAS) and not _is_below(at, own):
            found += _problems_of_text(at, text)
    for key, value in tree.items():
        if key not in PLUGINS:
            found += [f"hydra.{key}{at}: nothing is built here; remove it" for at in _targets(value)]
    return found


def _problems_of_plugin(kind: str, names: Collection[str], tree: Any, hydra: Any) -> Iterator[str]:
    if tree is None:
        return
    if not isinstance(tree, Mapping):
        yield f"hydra.{kind}: should be a mapping, found {tree!r}"
        return
    if tree.get("_target_") not in names:
        yield f"hydra.{kind}._target_: '{tree.get('_target_')}' is no {kind} of graftrec or of Hydra's own plugins"
    for key, value in tree.items():
        if key != "_target_":
            yield from (f"hydra.{kind}.{key}{at}: nothing is built here; remove it" for at in _targets(value))
    yield from (f"{key}: should be written out, not referred to" for key in _referred(hydra[kind], f"hydra.{kind}"))


def _is_below(at: str, keys: Collection[str]) -> bool:
    return any(at == key or at.startswith(f"{key}.") for key in keys)


def _texts(node: Any, at: str) -> Iterator[tuple[str, str]]:
    """Every name of a key and every text with its full key, as the job will have it: what it refers to is looked up."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for key in range(len(node)) if OmegaConf.is_list(node) else list(node):
        here = f"{at}.{key}"
        if isinstance(key, str) and not key.isprintable():
            yield f"{at}.{key!r}", key
        if OmegaConf.is_missing(node, key):
            continue
        try:
            value = node[key]
        except OmegaConfBaseException:
            value = LATER.sub("", str(node._get_node(key)._value()))
        if not OmegaConf.is_config(value):
            yield from ((here, value),) if isinstance(value, str) else ()
        elif not OmegaConf.is_interpolation(node, key):
            yield from _texts(value, here)


def _problems_of_text(at: str, text: str) -> Iterator[str]:
    wrong = next(wrong for key, wrong in TEXTS.items() if not key or _is_below(at, [f"hydra.{key}"]))
    if "${" in text:
        yield f"{at}: refers to what is not there, found {text!r}"
    elif text and (why := wrong(text)):
        yield f"{at}: {why}"
    elif _is_below(at, [f"hydra.{key}" for key in NAMES]) and shown(text) != text:
        yield f"{at}: holds a secret, and everybody can see it there; leave the secret out"


def _targets(tree: Any, at: str = "") -> Iterator[str]:
    """Where something would be built in a part of the tree."""
    if isinstance(tree, Mapping):
        if "_target_" in tree:
            yield f"{at}._target_"
        for key, value in tree.items():
            yield from _targets(value, f"{at}.{key}")
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _targets(value, f"{at}.{number}")


def _referred(node: Any, at: str) -> Iterator[str]:
    """Interpolations that bring a mapping or a list, in which something could be built."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for key in range(len(node)) if OmegaConf.is_list(node) else list(node):
        if OmegaConf.is_interpolation(node, key):
            try:
                value = node[key]
            except OmegaConfBaseException:  # of what Hydra knows only later
                continue
            if OmegaConf.is_config(value):
                yield f"{at}.{key}"
        elif not OmegaConf.is_missing(node, key) and OmegaConf.is_config(node[key]):
            yield from _referred(node[key], f"{at}.{key}")


def _problems_of_logging(tree: Any, at: str) -> Iterator[str]:
    """Python's dictConfig calls what ``()``, ``class`` and ``ext://`` name, and a handler writes where it is told."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            here = f"{at}.{key}"
            if (key == "class" and value not in LOG_CLASSES) or (key == "()" and value not in LOG_FACTORIES):
                yield f"{here}: '{value}' is not one of {', '.join(LOG_CLASSES + LOG_FACTORIES)}"
            elif key == "filename" and value not in LOG_FILES:
                yield f"{here}: should be {LOG_FILES[0]}, found '{value}'"
            elif key == "." or (key == "listener" or key == "queue"):
                yield f"{here}: is not taken; remove it"
            elif key != "filename":
                yield from _problems_of_logging(value, here)
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _problems_of_logging(value, f"{at}.{number}")
    elif isinstance(tree, str) and (("://" in tree and tree not in LOG_STREAMS) or "${" in tree):
        yield f"{at}: should be {' or '.join(LOG_STREAMS)} where it is an object, and written out; found '{tree}'"


def _said(value: Any, at: str) -> Iterator[str]:
    """The full keys of what is not empty."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _said(part, f"{at}.{key}")
    elif value:
        yield at
