"""Nothing in the source runs what it was given: read off the syntax, with a list of exceptions and their reasons."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import graftrec

SOURCE = Path(graftrec.__file__).parent
FILES = sorted([*SOURCE.rglob("*.py"), *(SOURCE.parent / "hydra_plugins").rglob("*.py")])
MODULES = {  # that run what they read, or start what they are told; none may be imported
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "runpy", "code", "codeop", "imp",
    "ctypes", "subprocess", "pty", "xmlrpc", "telnetlib", "jinja2", "dbm", "shutil.unpack_archive",
}  # fmt: skip
CALLS = re.compile(
    r"(^|\.)(eval|exec|compile|__import__|execfile|system|popen|spawn\w*|exec[lv]\w*|extract|extractall|unpack_archive"
    r"|load_from_checkpoint|load_inline|read_pickle|to_pickle|unsafe_load|full_load|instantiate|get_object|get_method"
    r"|import_module|mktemp|register_new_resolver|add_safe_globals)$|^(torch(\.\w+)*|np|numpy|yaml|joblib)\.load(s|_all)?$"
)
EXCEPTIONS = {  # file: call -> reason
    "training/checkpoints/checkpoint.py: torch.load": "the one loader of weights: of a checked file, weights only",
    "data/features/train_statistics.py: np.load": "numbers of a cache, without pickles",
    "config/instantiate.py: importlib.import_module": "modules of an allowed package, by `resolve`; bases of slots",
    "config/instantiate.py: OmegaConf.register_new_resolver": "names of folders; an environment read by a list",
    "cli/main.py: import_module": "verbs of a table of ours",
    "runs/job.py: import_module": "verbs of a table of ours",
    "runs/sweep/hydra_job.py: import_module": "verbs of a table of ours",
    "training/distributed/launcher.py: subprocess": "the ranks of a job: a module of ours, without a shell",
    "cli/data_get.py: extract": "our own, member by member",
    "hydra_plugins/graftrec_joblib/launcher.py: joblib.externals.loky.process_executor.BrokenProcessPool": (
        "a class of errors: that a process of a sweep was killed"
    ),
}
NO_CODE = ("re.compile", ".list.eval", ".str.extract", "torch.compile")  # of these names, others are meant


def dotted(node: ast.expr) -> str:
    """``a.b.c``; what is called on an expression begins with a dot."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    return [(dotted(node.func), node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


def suspicious(text: str) -> set[str]:
    """What of a source would need a reason."""
    tree, found = ast.parse(text), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] in MODULES}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{a.name}" for a in node.names if (node.module or "").split(".")[0] in MODULES}
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            ours = name.endswith(NO_CODE) or (name.endswith(".eval") and not node.args)  # a module's mode
            if CALLS.search(name) and not ours:
                found.add(name)
            for keyword in node.keywords:
                risky = keyword.arg in ("shell", "allow_pickle") and not _is(keyword.value, False)
                if risky or (keyword.arg == "weights_only" and name == "torch.load" and not _is(keyword.value, True)):
                    found.add(f"{name}({keyword.arg})")
    return found


def _is(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_every_exception_has_a_reason_and_is_used() -> None:
    assert len(FILES) > 150
    found = set()
    for path in FILES:
        name = path.relative_to(SOURCE.parent).as_posix().removeprefix("graftrec/")
        found |= {f"{name}: {call}" for call in suspicious(path.read_text())}
    assert found == set(EXCEPTIONS)


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "import subprocess",
        "eval('1')",
        "exec(x)",
        "compile(x, '', 'exec')",
        "__import__('os')",
        "os.system(x)",
        "os.popen(x)",
        "torch.load(x)",
        "torch.jit.load(x)",
        "torch.hub.load(x)",
        "np.load(x)",
        "np.lib.format.read_array(f, allow_pickle=True)",
        "yaml.load(x, Loader=L)",
        "yaml.unsafe_load(x)",
        "archive.extractall(x)",
        "shutil.unpack_archive(x)",
        "run(x, shell=True)",
        "run(x, shell=flag)",
        "hydra.utils.instantiate(x)",
        "instantiate(x)",
        "Model.load_from_checkpoint(x)",
        "importlib.import_module(x)",
        "tempfile.mktemp()",
    ],
)
def test_the_reader_sees_what_it_looks_for(text: str) -> None:
    assert suspicious(text)


def test_weights_are_loaded_in_one_place_and_as_weights_only() -> None:
    loads = [(path.name, node) for path in FILES for name, node in calls(path) if name == "torch.load"]
    ((name, node),) = loads
    assert name == "checkpoint.py"
    assert [keyword.arg for keyword in node.keywords if _is(keyword.value, True)] == ["weights_only"]
