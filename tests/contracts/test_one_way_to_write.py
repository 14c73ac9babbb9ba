"""One function removes and one way writes: read off the syntax of the program and of its scripts.

What is written goes to a draft of `graftrec.files.whole`, or into a temporary folder; each exception has its reason.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import graftrec

SOURCE = Path(graftrec.__file__).parent
ROOT = Path(__file__).parents[2]
PROGRAM = [*SOURCE.rglob("*.py"), *(SOURCE.parent / "hydra_plugins").rglob("*.py")]
SCRIPTS = [path for path in ROOT.glob("scripts/*.py") if not path.name.startswith("chaos")]  # which damage on purpose
FILES = sorted([*PROGRAM, *SCRIPTS])
REMOVES = {"rmtree", "unlink", "rmdir", "removedirs", "os.remove"}
WRITES = {
    "write_bytes", "write_parquet", "write_csv", "write_json", "write_ipc", "write_table", "sink_parquet", "sink_csv",
    "savefig", "to_csv", "to_parquet", "to_json", "tofile", "savez", "savez_compressed", "torch.save", "np.save",
    "numpy.save", "OmegaConf.save", "json.dump", "yaml.dump", "pickle.dump", "copy2", "copyfile", "copytree",
    "shutil.copy", "shutil.move", "os.replace", "os.rename", "symlink_to", "hardlink_to", "os.symlink", "os.link",
}  # fmt: skip
SAFE = {"whole", "TemporaryDirectory", "TemporaryFile", "BytesIO"}
REMOVES_HERE = {"files.py": "the one"}
WRITES_HERE = {  # file: function -> reason
    "files.py: whole": "the one way",
    "ledger.py: append": "a line for each job, in one write, beside those of other processes",
    "run_folder.py: begin": "files of one folder of ours that are whole become another one's",
    "checkpoint.py: save": "the last checkpoint, which is whole, becomes the one before it",
    "checkpoint.py: _written": "its caller's draft",
    "checkpoint.py: _size": "counted, and written nowhere",
    "launch.py: attend": "a pipe",
    "worker.py: main": "a pipe",
    "data_copy.py: write": "its caller's draft, or into a temporary folder",
    "data/cache.py: draft": "a folder that is whole takes its name",
    "data/cache.py: store": "into the draft of a folder",
    "data/encode.py: __init__": "into the draft of a folder",
    "data/cache.py: put": "into the draft of a folder",
    "data/download.py: _copy": "into a temporary folder",
    "scripts/bench_data.py: ml1m_sized": "into a temporary folder",
    "scripts/bench_data.py: write": "into a temporary folder",
    "scripts/bench_train.py: make_work": "into a temporary folder",
    "scripts/bench_train.py: measure": "into a temporary folder",
    "scripts/calibration.py: audit_says": "into a temporary folder",
    "scripts/calibration.py: compare_says": "into a temporary folder",
    "scripts/mutation.py: __enter__": "a copy of the program in a temporary folder",
    "scripts/mutation.py: __exit__": "a copy of the program in a temporary folder",
    "scripts/mutation.py: _begin": "a copy of the program in a temporary folder",
    "scripts/mutation.py: _pytest": "into a temporary folder",
}


def dotted(node: ast.expr) -> str:
    """``a.b.c``; what is called on an expression begins with a dot."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def is_one_of(call: ast.Call, names: set[str]) -> bool:
    name = dotted(call.func)
    return any(name == each or name.endswith(f".{each}") for each in names)


def opens(call: ast.Call) -> bool:
    """Whether a file is opened to be written."""
    name = dotted(call.func).rpartition(".")[2]
    if name not in ("open", "fdopen"):
        return False
    if dotted(call.func) == "os.open":
        flags = {each.attr for each in ast.walk(call) if isinstance(each, ast.Attribute)}
        return bool(flags & {"O_WRONLY", "O_RDWR"}) and "devnull" not in flags
    modes = [*call.args, *(each.value for each in call.keywords if each.arg == "mode")]
    texts = [each.value for each in modes if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return any(len(text) < 4 and set(text) & set("wax+") for text in texts)


def writes(call: ast.Call) -> bool:
    if is_one_of(call, {"write_text"}):
        return isinstance(call.func, ast.Attribute) and dotted(call.func) != "files.write_text"
    return opens(call) or is_one_of(call, WRITES)


def safe_names(function: ast.AST) -> set[str]:
    """Names of drafts and of temporary folders, and of what is made of them."""
    found: set[str] = set()
    while True:
        before = len(found)
        for node in ast.walk(function):
            pairs: list[tuple[ast.expr, ast.expr]] = []
            if isinstance(node, ast.withitem) and node.optional_vars is not None:
                pairs = [(node.context_expr, node.optional_vars)]
            elif isinstance(node, ast.Assign):
                pairs = [(node.value, target) for target in node.targets]
            for value, target in pairs:
                if isinstance(target, ast.Name) and is_safe(value, found):
                    found.add(target.id)
        if len(found) == before:
            return found


def is_safe(node: ast.AST, names: set[str]) -> bool:
    inside = list(ast.walk(node))
    made = any(isinstance(each, ast.Call) and is_one_of(each, SAFE) for each in inside)
    return made or any(isinstance(each, ast.Name) and each.id in names for each in inside)


def odd(text: str) -> tuple[set[str], set[str]]:
    """Functions of a source that remove, and that write what is no draft."""
    removing, writing = set(), set()
    tree = ast.parse(text)
    functions = [each for each in ast.walk(tree) if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inner = {id(each) for function in functions for each in ast.walk(function)}
    loose = [each for each in ast.walk(tree) if id(each) not in inner]
    for name, nodes, names in [("", loose, set()), *((f.name, list(ast.walk(f)), safe_names(f)) for f in functions)]:
        for node in nodes:
            if isinstance(node, ast.Call):
                if is_one_of(node, REMOVES):
                    removing.add(name)
                if writes(node) and not is_safe(node, names):
                    writing.add(name)
    return removing, writing


def named(path: Path) -> str:
    return path.relative_to(SOURCE if path.is_relative_to(SOURCE) else ROOT).as_posix()


def test_one_function_removes() -> None:
    assert len(FILES) > 250
    assert {named(path) for path in FILES if odd(path.read_text())[0]} == set(REMOVES_HERE)


def test_what_is_written_is_a_draft_first() -> None:
    found = {f"{named(path)}: {name}" for path in FILES for name in odd(path.read_text())[1]}
    assert found == set(WRITES_HERE)


@pytest.mark.parametrize(
    "text",
    [
        "shutil.rmtree(x)", "from shutil import rmtree\nrmtree(x)", "path.unlink()", "(a / b).unlink(missing_ok=True)",
        "os.remove(x)", "os.unlink(x)", "folder.rmdir()", "os.removedirs(x)",
        "def f():\n    for x in y:\n        x.unlink()",
    ],
)  # fmt: skip
def test_a_removal_would_be_seen(text: str) -> None:
    assert odd(text)[0]


@pytest.mark.parametrize(
    "text",
    [
        "open(x, 'w')", "open(x, mode='ab')", "path.open('xb')", "path.write_text(t)", "(a / b).write_bytes(t)",
        "frame.write_parquet(path)", "figure.savefig(path)", "frame.to_csv(path)", "torch.save(x, path)",
        "np.savez(path)", "json.dump(x, file)", "os.replace(a, b)", "os.open(x, os.O_WRONLY)", "shutil.copy(a, b)",
        "def f():\n    with whole(a) as draft:\n        b.write_text(t)",
    ],
)  # fmt: skip
def test_a_write_would_be_seen(text: str) -> None:
    assert odd(text)[1]


@pytest.mark.parametrize(
    "text",
    [
        "open(x)", "open(x, 'rb')", "names.remove(x)", "text.replace(a, b)", "write_text(path, t)",
        "def f():\n    with whole(a) as draft, draft.open('w') as file:\n        json.dump(x, file)",
        "def f():\n    with TemporaryDirectory() as name:\n        path = Path(name) / 'a'\n        path.write_text(t)",
    ],
)  # fmt: skip
def test_what_neither_removes_nor_writes_passes(text: str) -> None:
    assert odd(text) == (set(), set())
