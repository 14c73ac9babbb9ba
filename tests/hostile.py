"""Trees that would run something, if anything were built of them: each leaves a marker behind where it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def hostile(marker: Path) -> list[dict[str, Any]]:
    """What a stranger would write, from the plain to the roundabout."""
    m, touch = str(marker), f"touch {marker}"
    code = f"open({m!r}, 'w').close()"
    with_args: dict[str, list[Any]] = {
        "os.system": [touch],
        "os.popen": [touch],
        "os.mkdir": [m],
        "os.makedirs": [m],
        "os.open": [m, 65],
        "os.execvp": ["touch", ["touch", m]],
        "os.posix_spawn": ["/usr/bin/touch", ["touch", m], {}],
        "posix.system": [touch],
        "posix.mkdir": [m],
        "posixpath.os.mkdir": [m],
        "subprocess.run": [["touch", m]],
        "subprocess.Popen": [["touch", m]],
        "subprocess.check_output": [["touch", m]],
        "subprocess.getoutput": [touch],
        "asyncio.create_subprocess_shell": [touch],
        "builtins.exec": [code],
        "builtins.eval": [code],
        "builtins.open": [m, "w"],
        "builtins.compile": [code, "x", "exec"],
        "builtins.__import__": ["os"],
        "builtins.getattr": [{"_target_": "importlib.import_module", "_args_": ["os"]}, "mkdir"],
        "io.open": [m, "w"],
        "io.FileIO": [m, "w"],
        "codecs.open": [m, "w"],
        "pathlib.Path.touch": [{"_target_": "pathlib.Path", "_args_": [m]}],
        "pathlib.Path.mkdir": [{"_target_": "pathlib.Path", "_args_": [m]}],
        "pathlib.Path.write_text": [{"_target_": "pathlib.Path", "_args_": [m]}, "x"],
        "pathlib.Path.unlink": [{"_target_": "pathlib.Path", "_args_": [m]}],
        "shutil.unpack_archive": ["a.tar", m],
        "shutil.copy": ["/etc/hostname", m],
        "shutil.rmtree": [m],
        "sqlite3.connect": [m],
        "zipfile.ZipFile": [m, "w"],
        "gzip.open": [m, "wb"],
        "shelve.open": [m],
        "dbm.dumb.open": [m],
        "logging.FileHandler": [m],
        "logging.os.system": [touch],
        "logging.os.mkdir": [m],
        "logging.config.dictConfig": [{}],
        "functools.partial": [{"_target_": "hydra.utils.get_object", "path": "os.mkdir"}, m],
        "functools.reduce": [{"_target_": "hydra.utils.get_method", "path": "os.mkdir"}, [m]],
        "operator.methodcaller": ["mkdir"],
        "hydra.utils.get_object": ["os.mkdir"],
        "hydra.utils.get_method": ["os.mkdir"],
        "hydra.utils.instantiate": [{"_target_": "os.mkdir", "_args_": [m]}],
        "importlib.import_module": ["antigravity"],
        "runpy.run_path": [m],
        "atexit.register": [{"_target_": "hydra.utils.get_object", "path": "os.mkdir"}, m],
        "threading.Thread": [],
        "multiprocessing.Process": [],
        "ctypes.CDLL": ["libc.so.6"],
        "webbrowser.open": ["http://127.0.0.1:9"],
        "urllib.request.urlretrieve": ["http://127.0.0.1:9", m],
        "pip.main": [["--version"]],
        "imp.load_source": ["x", m],
        "pickle.loads": ["x"],
        "marshal.loads": ["x"],
        "joblib.load": [m],
        "cloudpickle.loads": ["x"],
        "yaml.unsafe_load": [f"!!python/object/apply:os.mkdir [{m}]"],
        "numpy.load": [m],
        "numpy.save": [m, [1]],
        "torch.load": [m],
        "torch.save": [{"a": 1}, m],
        "torch.hub.load": ["owner/repo", "model"],
        "torch.jit.load": [m],
        "torch.package.PackageImporter": [m],
        "torch.utils.cpp_extension.load_inline": ["x", code],
        "torch.serialization.add_safe_globals": [[]],
        "torch.optim.adam.torch.load": [m],
        "torch.optim.adam.torch.save": [{"a": 1}, m],
        "torch.optim.optimizer.functools.partial": [],
        "torch.optim.lr_scheduler.LambdaLR": [],
        "pytorch_lightning.cli.LightningCLI": [],
        "pytorch_lightning.loggers.CSVLogger": [m],
        "pytorch_lightning.profilers.AdvancedProfiler": [m],
        "pytorch_lightning.LightningModule.load_from_checkpoint": [m],
        "pytorch_lightning.utilities.rank_zero.logging.FileHandler": [m],
        "graftrec.config.instantiate.importlib.import_module": ["antigravity"],
        "graftrec.config.instantiate.Path": [m],
        "graftrec.config.instantiate.build": [],
        "graftrec.utils.atomic_files.os.mkdir": [m],
        "graftrec.utils.atomic_files.shutil.rmtree": [m],
        "graftrec.runs.job.run_job": [{}, m],
        "graftrec.__main__.main": [],
        "graftrec.training.checkpoints.checkpoint.SafeIO": [],
        "graftrec.training.loggers.logs.CsvLog": [m],
        "polars.DataFrame.write_csv": [m],
        "wandb.init": [],
        "omegaconf.OmegaConf.save": [{}, m],
        "..os.mkdir": [m],
    }
    trees: list[dict[str, Any]] = [{"_target_": name, "_args_": args} for name, args in with_args.items()]
    trees += [
        {"_target_": "torch.optim.AdamW", "_partial_": True, "params": {"_target_": "os.mkdir", "path": m}},
        {
            "_target_": "graftrec.models.trunks.transformer.Transformer",
            "activation": {"_target_": "os.mkdir", "path": m},
        },
    ]
    return trees


def names(tree: Any) -> list[str]:
    """Every ``_target_`` in a tree."""
    if isinstance(tree, Mapping):
        own = [str(tree["_target_"])] if "_target_" in tree else []
        return own + [name for part in tree.values() for name in names(part)]
    return [name for part in tree for name in names(part)] if isinstance(tree, list) else []


def typed(value: Any) -> str:
    """A value as it is typed on Hydra's command line."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{typed(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(typed, value)) + "]"
    return "'" + value.replace("'", "\\'") + "'" if isinstance(value, str) else str(value).lower()
