"""Secrets stay out of what is written and printed; in their place stands what refers to the environment, or ``***``.

A secret is the text or number of a key named like ``*key``, ``*token``, ``*password`` or ``*secret``, and the login of
a URL. `hide` takes those that were typed out of the command before Hydra sees it, `from_files` those in its files: so
no copy that Hydra, a launcher or W&B makes holds one. Processes that a job starts inherit the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

SECRETS = ("key", "token", "password", "passwd", "secret")
NO_SECRETS = ("cls_token", "num_tokens")
HIDDEN = "***"
VARIABLE, FILES = "GRAFTREC_SECRET_", "GRAFTREC_SECRET_FILE_"  # of what was typed, and of what stands in a file
LEAST = 6  # letters of a secret that is looked for in free text: a shorter one would be found in every number
LOGIN = re.compile(r"(?<=://)[^\s/@'\"]+:[^\s/@'\"]*@")  # name:password@ of a URL
REFERENCE = re.compile(r"\$\{oc\.env:" + VARIABLE + r"(FILE_)?\d+\}")
OF_FILE = re.compile(r"\+\+[^\s=]+=\$\{oc\.env:" + FILES + r"\d+\}")  # what `from_files` adds
INSIDE = re.compile(rf"(?i)([{{,]\s*(\w*(?:{'|'.join(SECRETS)}))\s*:\s*)([^\s,{{}}\[\]$]+)")  # of a typed {{a: b}}


def is_secret(key: str, value: Any) -> bool:
    """Whether ``value`` under ``key`` is a secret; one that is referred to is none."""
    named = key.lower().endswith(SECRETS) and key.lower() not in NO_SECRETS
    if isinstance(value, str):
        return (named and value not in ("", HIDDEN) and "${" not in value) or bool(LOGIN.search(value))
    return named and isinstance(value, int) and not isinstance(value, bool)


def redact(tree: Any) -> Any:
    """A copy of a tree without secrets, also where another key refers to one."""
    return _redacted(tree, "", {str(value) for value in _secrets(tree, "") if len(str(value)) >= LEAST})


def _secrets(tree: Any, key: str) -> Iterator[Any]:
    if isinstance(tree, Mapping):
        for name, part in tree.items():
            yield from _secrets(part, str(name))
    elif isinstance(tree, (list, tuple)):
        for part in tree:
            yield from _secrets(part, key)
    elif is_secret(key, tree):
        yield tree


def _redacted(tree: Any, key: str, secrets: set[str]) -> Any:
    if isinstance(tree, Mapping):
        return {name: _redacted(part, str(name), secrets) for name, part in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_redacted(part, key, secrets) for part in tree]
    if not isinstance(tree, str):
        return HIDDEN if is_secret(key, tree) else tree
    if LOGIN.search(tree):
        return LOGIN.sub(f"{HIDDEN}@", tree)
    same = tree in secrets or REFERENCE.fullmatch(tree)
    return HIDDEN if same or is_secret(key, tree) else tree


def hide(argv: Iterable[str]) -> list[str]:
    """The words of a command line with each typed secret in the environment and referred to."""
    return [_hidden(word) for word in argv]


def _hidden(word: str) -> str:
    key, equals, value = word.partition("=")
    if equals and value.startswith("{"):
        return f"{key}={INSIDE.sub(lambda found: found[1] + _refer(found[3], VARIABLE, found[2]), value)}"
    return f"{key}={_refer(value, VARIABLE, key.rpartition('.')[2])}" if equals else word


def from_files(tree: Any, at: str = "") -> Iterator[str]:
    """Settings that put what refers to it in the place of each secret of a composed tree."""
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        if is_secret(str(key), value):
            yield f"++{at}{key}={_refer(str(value), FILES, str(key))}"
        else:
            yield from from_files(value, f"{at}{key}.")


def _refer(value: str, variable: str, key: str) -> str:
    """The value, or if it is a secret what refers to the variable that holds it from now on."""
    if not is_secret(key, value):
        return value
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    number = 0
    while os.environ.get(f"{variable}{number}", value) != value:
        number += 1
    os.environ[f"{variable}{number}"] = value
    return f"${{oc.env:{variable}{number}}}"


def shown(text: str) -> str:
    """Free text, a command or a traceback, without the secrets that this process knows of."""
    text = REFERENCE.sub(HIDDEN, text)
    for value in _known():
        text = text.replace(value, HIDDEN)
    return LOGIN.sub(f"{HIDDEN}@", text)


def words(settings: Iterable[str]) -> list[str]:
    """Settings to be typed again: `shown`, without those that stand in a file."""
    return [shown(setting) for setting in settings if not OF_FILE.fullmatch(setting)]


def _known() -> list[str]:
    """Secrets in the environment, the longest first."""
    found = {
        value
        for name, value in os.environ.items()
        if len(value) >= LEAST and (name.startswith(VARIABLE) or name.lower().endswith(SECRETS))
    }
    return sorted(found, key=len, reverse=True)
