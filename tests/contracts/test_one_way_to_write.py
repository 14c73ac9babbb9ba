"""One function removes and one way writes: read off the syntax of the program and of its scripts.

What is written goes to a draft of `atomic_files.whole`, or into a temporary folder; each exception has its reason.
"""

from __future__ import annotations

import ast
import re
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
READS = {"r", "rb", "rt", "r|"}  # modes of a file that is opened; any other may write
READING = {"O_RDONLY", "O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY"}
VERBS = re.compile(
    r"write|save|dump|sink|to_|copy|move|rename|replace|touch|truncate|symlink|hardlink|link|mk(?!dir)|rm|remove|unlink|"
    r"delete|extract|unpack|make_archive|retrieve|export|(open_)?memmap"
)
HARMLESS = {  # begins with such a verb, and neither writes a file nor removes one
    "copy", "copy_", "copyfileobj", "copysign", "dumps", "extract", "extract_all", "extractfile", "extractor",
    "memmap", "moved", "movedim", "remove", "remove_parametrizations", "removeprefix", "removesuffix", "rename",
    "replace", "replace_all", "replace_strict", "save_hyperparameters", "to_array", "to_arrow", "to_container",
    "to_datetime", "to_dense", "to_dict", "to_list", "to_lowercase", "to_numpy", "to_pylist", "to_sparse",
    "to_torch", "to_yaml", "truncate", "write", "writeheader", "writer", "writerow", "writerows",
}  # fmt: skip
SAFE = {"whole", "TemporaryDirectory", "TemporaryFile", "BytesIO"}
REMOVES_HERE = {"utils/atomic_files.py": "the one"}
WRITES_HERE = {  # file: function -> reason
    "utils/atomic_files.py: whole": "the one way",
    "runs/sweep/job_log.py: append": "a line for each job, in one write, beside those of other processes",
    "runs/run_folder.py: begin": "files of one folder of ours that are whole become another one's",
    "training/checkpoints/checkpoint.py: save": "the last checkpoint, which is whole, becomes the one before it",
    "training/checkpoints/checkpoint.py: _written": "its caller's draft",
    "training/checkpoints/checkpoint.py: _size": "counted, and written nowhere",
    "training/distributed/launcher.py: attend": "a pipe",
    "runs/worker.py: main": "a pipe",
    "cli/data_copy.py: write": "its caller's draft, or into a temporary folder",
    "data/tables/cache.py: draft": "a folder that is whole takes its name",
    "data/tables/cache.py: store": "into the draft of a folder",
    "data/tables/builder.py: __init__": "into the draft of a folder",
    "data/tables/cache.py: put": "into the draft of a folder",
    "data/sources/download.py: _copy": "into a temporary folder",
    "data/sources/download.py: _receive": "an address is opened to be read",
    "data/sources/download.py: _untar": "an archive is opened to be read",
    "data/sources/download.py: _unzip": "a member of an archive is opened to be read",
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
        flags = {each.attr for each in ast.walk(call) if isinstance(each, ast.Attribute) and each.attr.startswith("O_")}
        return not (flags and flags <= READING) and "os.devnull" not in {ast.unparse(each) for each in call.args}
    of_path = isinstance(call.func, ast.Attribute) and name == "open"  # or of a module, whose first word is a file
    modes = [*call.args[0 if of_path and len(call.args) < 2 else 1 :][:1]]
    modes += [each.value for each in call.keywords if each.arg in ("mode", None)]
    return any(not isinstance(each, ast.Constant) or each.value not in READS for each in modes)


def moves(call: ast.Call) -> bool:
    """Whether it is a path's ``replace`` or ``rename``: of one word, which is no table of names."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("replace", "rename") or call.keywords:
        return False
    table = call.args and isinstance(call.args[0], (ast.Dict, ast.DictComp))
    constant = call.args and isinstance(call.args[0], ast.Name) and call.args[0].id.isupper()
    return len(call.args) == 1 and not table and not constant


def writes(call: ast.Call) -> bool:
    if is_one_of(call, {"write_text"}):
        return isinstance(call.func, ast.Attribute) and dotted(call.func) != "files.write_text"
    return opens(call) or moves(call) or is_one_of(call, WRITES)


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


def unjudged(texts: list[str]) -> set[str]:
    """What is called by a name that may write or remove, and is neither ours nor known."""
    trees = [ast.parse(text) for text in texts]
    ours = {each.name for tree in trees for each in ast.walk(tree) if isinstance(each, (ast.FunctionDef, ast.ClassDef))}
    known = HARMLESS | {each.rpartition(".")[2] for each in REMOVES | WRITES} | {"write_text"} | ours
    called = {
        dotted(each.func).rpartition(".")[2] for tree in trees for each in ast.walk(tree) if isinstance(each, ast.Call)
    }
    return {name for name in called - known if VERBS.match(name)}


def test_every_name_that_may_write_or_remove_is_judged() -> None:
    assert unjudged([path.read_text() for path in FILES]) == set()


@pytest.mark.parametrize("text", ["np.savetxt(x, y)", "frame.write_delta(x)", "path.touch()", "frame.to_pickle(x)",
                                  "os.mkfifo(x)", "shutil.unpack_archive(x)", "model.export(x)"])  # fmt: skip
def test_a_name_that_nobody_judged_would_be_seen(text: str) -> None:
    assert unjudged([text])


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
        "open(x, mode)", "path.open(mode)", "path.open(**options)", "os.open(x, flags)", "draft.replace(path)",
        "(a / b).rename(c)", "open(x, 'r+b')",
        "def f():\n    with whole(a) as draft:\n        b.write_text(t)",
    ],
)  # fmt: skip
def test_a_write_would_be_seen(text: str) -> None:
    assert odd(text)[1]


@pytest.mark.parametrize(
    "text",
    [
        "open(x)", "open(x, 'rb')", "path.open('rb')", "names.remove(x)", "text.replace(a, b)", "write_text(path, t)",
        "column.replace({a: b})", "replace(x, y=z)", "os.open(x, os.O_RDONLY | os.O_NONBLOCK)",
        "def f():\n    with whole(a) as draft, draft.open('w') as file:\n        json.dump(x, file)",
        "def f():\n    with TemporaryDirectory() as name:\n        path = Path(name) / 'a'\n        path.write_text(t)",
    ],
)  # fmt: skip
def test_what_neither_removes_nor_writes_passes(text: str) -> None:
    assert odd(text) == (set(), set())
