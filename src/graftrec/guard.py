"""What the ``hydra`` part of a tree may say. Hydra builds objects of it, and some of it is code, before any job begins.

So it is checked whole, wherever it comes from: no callbacks, launchers and sweepers of ours and of Hydra's own plugins,
nothing built inside of those, and logging as the packages of Hydra have it. What runs commands or sets the environment
has to be typed; no file can say it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

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
            if not any(at == name or at.startswith(f"{name}.") for name in typed)
        ]
    params = (tree.get("sweeper") or {}).get("params") if isinstance(tree.get("sweeper"), Mapping) else None
    if params is not None and not isinstance(params, Mapping):
        found.append(f"hydra.sweeper.params: should be a mapping, found {params!r}")
    for key in params if isinstance(params, Mapping) else ():
        if str(key).lstrip("+~").startswith("hydra"):
            found.append(f"hydra.sweeper.params.{key}: a sweep is over settings of a job, not of Hydra; type it")
    name = str(tree.get("job", {}).get("name", ""))
    if name != "???" and (set(name) & set("/\\\0") or name in (".", "..")):
        found.append(f"hydra.job.name: should be a name without separators, found {name!r}")
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
